# shellcheck shell=bash
# The Python environment of the commands in this folder. Source this file, then call
#
#     feedback_environment [MODULE...]
#
# It makes or updates the environment, skips what a stamp says is done, puts the environment first
# on PATH, and sets FEEDBACK_PYTHON to its Python. MODULEs are what the command imports beyond
# torch and fairseq; they are checked in an environment that this file does not make.
# Variables that users may set: see feedback_environment_help.

if [[ -z ${BASH_VERSINFO[0]:-} ]] || ((BASH_VERSINFO[0] < 4)); then
    echo "error: bash 4 or newer is needed, this is ${BASH_VERSION:-another shell}." >&2
    exit 1
fi

FEEDBACK_ROOT=$(cd -P -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)

# A command with another environment changes these before it calls feedback_environment.
FEEDBACK_PYTHONS="3.11 3.12"               # versions to look for, the preferred one first
FEEDBACK_INSTALL=feedback_install_current  # function that installs the dependencies
FEEDBACK_INSTALL_FILES=(setup.py scripts/constraints.txt) # a change in these installs again
FEEDBACK_CONSTRAINTS=scripts/constraints.txt              # pins versions; relative to FEEDBACK_ROOT

feedback_environment_help() {
    cat <<'HELP'
Environment:
  The first run makes a virtual environment in .venv. Later runs reuse it. They update it when
  setup.py or scripts/constraints.txt has changed, and install the package again when its source
  has changed.

  PYTHON=...           make it from this Python (3.11 or 3.12) instead of one that is found
  VENV=...             keep it in this folder instead of .venv
  FEEDBACK_ENV=active  use the environment that is active now (or that of PYTHON), and install
                       nothing; torch and fairseq must be in it

  pip keeps its own settings, such as PIP_INDEX_URL.
HELP
}

feedback_say() { printf '== %s\n' "$*" >&2; }

feedback_die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Runs a command with its output in the log. If it fails, shows the end of that output.
feedback_logged() {
    local before status=0
    printf '\n$ %s\n' "$*" >>"$FEEDBACK_LOG"
    before=$(wc -l <"$FEEDBACK_LOG")
    "$@" >>"$FEEDBACK_LOG" 2>&1 </dev/null || status=$?
    if ((status != 0)); then
        tail -n "+$((before + 1))" -- "$FEEDBACK_LOG" | tail -n 20 >&2
        printf -- '-- that was the end of the log: %s\n' "$FEEDBACK_LOG" >&2
    fi
    return "$status"
}

# pip of the environment, with the pinned versions. The path is relative because pip splits this
# variable at spaces.
feedback_pip() (
    cd -- "$FEEDBACK_ROOT" || exit 1
    export PIP_CONSTRAINT=$FEEDBACK_CONSTRAINTS
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
    unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER
    feedback_logged "$VENV/bin/python" -m pip "$@"
)

# --- find a Python ---

# Prints for example 3.11. Fails if the command does not run, as pyenv's shims may do.
feedback_python_version() {
    "$1" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null
}

feedback_is_wanted() { [[ -n $1 && " $FEEDBACK_PYTHONS " == *" $1 "* ]]; }

feedback_has_ensurepip() { "$1" -I -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null; }

feedback_no_ensurepip() { # PYTHON VERSION
    feedback_die "$1 cannot make environments, because its module ensurepip is missing." \
        "Install it. On Debian and Ubuntu, it is in the package python$2-venv."
}

# Sets FEEDBACK_VERSION to the version of PYTHON, if that is set.
feedback_check_given_python() {
    FEEDBACK_VERSION=
    [[ -n ${PYTHON:-} ]] || return 0
    local wanted="Python ${FEEDBACK_PYTHONS// / or }"
    FEEDBACK_VERSION=$(feedback_python_version "$PYTHON") ||
        feedback_die "PYTHON is set to $PYTHON, which does not run. Set it to the path of $wanted."
    feedback_is_wanted "$FEEDBACK_VERSION" ||
        feedback_die "PYTHON is set to $PYTHON, which is Python $FEEDBACK_VERSION." \
            "$wanted is needed."
}

# Sets FEEDBACK_MAKE_VENV to the command that makes an environment.
feedback_find_python() {
    local candidate version without_ensurepip='' uv
    if [[ -n ${PYTHON:-} ]]; then
        feedback_has_ensurepip "$PYTHON" || feedback_no_ensurepip "$PYTHON" "$FEEDBACK_VERSION"
        FEEDBACK_MAKE_VENV=("$PYTHON" -m venv)
        return
    fi
    for candidate in $FEEDBACK_PYTHONS 3 ''; do
        candidate=python$candidate
        version=$(feedback_python_version "$candidate") || continue
        feedback_is_wanted "$version" || continue
        if feedback_has_ensurepip "$candidate"; then
            FEEDBACK_MAKE_VENV=("$candidate" -m venv)
            return
        fi
        without_ensurepip=${without_ensurepip:-$candidate}
    done
    if uv=$(feedback_find_uv); then
        candidate=${without_ensurepip:-${FEEDBACK_PYTHONS##* }}
        FEEDBACK_MAKE_VENV=("$uv" venv --quiet --seed --allow-existing --python "$candidate")
        return
    fi
    [[ -z $without_ensurepip ]] ||
        feedback_no_ensurepip "$without_ensurepip" "$(feedback_python_version "$without_ensurepip")"
    feedback_die "Python ${FEEDBACK_PYTHONS// / or } was not found. Install it, or install uv," \
        "or set PYTHON to its path."
}

# Prints the path of uv, which can download a Python. If uv is missing, tries to install it.
feedback_find_uv() {
    local tools=$FEEDBACK_ROOT/.venv-tools python
    if uv --version >/dev/null 2>&1; then
        command -v uv
        return
    fi
    if ! "$tools/bin/uv" --version >/dev/null 2>&1; then
        for python in python3 python; do
            "$python" -I -m pip --version >/dev/null 2>&1 </dev/null || continue
            feedback_say "No suitable Python was found. Installing uv in $tools to get one."
            "$python" -I -m pip install --quiet --upgrade --target "$tools" uv \
                >/dev/null 2>&1 </dev/null && break
        done
    fi
    "$tools/bin/uv" --version >/dev/null 2>&1 && printf '%s\n' "$tools/bin/uv"
}

# --- one set-up at a time ---

# The lock is held until the calling subshell ends.
feedback_lock() {
    local lock=$VENV.lock owner said=''
    local wait_message="Another run is setting up $VENV. Waiting for it."
    mkdir -p -- "$(dirname -- "$VENV")" || exit 1
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$lock" || exit 1
        flock -n 9 && return
        feedback_say "$wait_message"
        flock 9 || feedback_die "$lock could not be locked."
        return
    fi
    until mkdir -- "$lock.d" 2>/dev/null; do
        [[ -w $(dirname -- "$VENV") ]] || feedback_die "$lock.d could not be made."
        owner=$(cat -- "$lock.d/pid" 2>/dev/null) || true
        if [[ -n $owner ]] && ! kill -0 "$owner" 2>/dev/null; then
            rm -rf -- "$lock.d" # its run was killed
            continue
        fi
        [[ -n $said ]] || feedback_say "$wait_message If there is no other run, delete $lock.d."
        said=yes
        sleep 1
    done
    trap 'rm -rf -- "$VENV.lock.d"' EXIT
    printf '%s\n' "$BASHPID" >"$lock.d/pid"
}

# --- make the environment ---

# Files in the environment. The first says that it is ours: no other folder is ever deleted.
# Each stamp is written when its step is complete.
FEEDBACK_OURS=made-by-fairseq-feedback
FEEDBACK_STAMP_VENV=stamp-venv
FEEDBACK_STAMP_DEPENDENCIES=stamp-dependencies
FEEDBACK_STAMP_PROJECT=stamp-project

feedback_has_stamp() { [[ $(cat -- "$VENV/$1" 2>/dev/null) == "$2" ]]; }

# Prints the state of what the environment was made from: the dependencies, the package, and
# whether the package is installed.
feedback_state() {
    "$VENV/bin/python" -I - "$FEEDBACK_ROOT" "${FEEDBACK_INSTALL_FILES[@]}" 2>/dev/null <<'PYTHON'
import hashlib
import importlib.util
import pathlib
import sys

root = pathlib.Path(sys.argv[1])


def state(paths, text=""):
    result = hashlib.sha256(text.encode())
    for path in paths:
        if path.is_file():
            data = path.read_bytes()
            result.update(f"{path.relative_to(root)} {len(data)}\n".encode() + data)
    return result.hexdigest()


package = [p for p in sorted(root.glob("fairseq_feedback/**/*")) if p.suffix != ".pyc"]
build = [root / name for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE")]
print(state([root / name for name in sys.argv[2:]], sys.version), state(build + package), end=" ")
print("installed" if importlib.util.find_spec("fairseq_feedback") else "missing")
PYTHON
}

feedback_make_venv() {
    feedback_find_python
    rm -rf -- "$VENV"
    mkdir -p -- "$VENV" || exit 1
    : >"$VENV/$FEEDBACK_OURS" || exit 1
    feedback_say "Making a virtual environment in $VENV"
    feedback_logged "${FEEDBACK_MAKE_VENV[@]}" "$VENV" ||
        feedback_die "The virtual environment could not be made. Install Python" \
            "${FEEDBACK_PYTHONS// / or } with its module venv, or set PYTHON to its path."
    feedback_pip --version || feedback_die "The virtual environment has no working pip."
    : >"$VENV/$FEEDBACK_STAMP_VENV"
}

# A copy of what is installed. pip would leave build folders in the repository, and later install
# deleted modules from them.
feedback_stage() {
    local name
    for name in setup.py pyproject.toml README.md LICENSE fairseq_feedback; do
        [[ ! -e $FEEDBACK_ROOT/$name ]] || cp -R -- "$FEEDBACK_ROOT/$name" "$1/" || return
    done
}

feedback_install_current() {
    [[ $(uname -s) == Linux && $(uname -m) == x86_64 ]] ||
        feedback_die "The wheels of fairseq are for Linux on x86-64 only. Install fairseq" \
            "yourself, activate its environment, and set FEEDBACK_ENV=active."
    feedback_say "Installing PyTorch. This is the largest part."
    feedback_pip install torch setuptools || return
    feedback_say "Installing fairseq and the other dependencies"
    feedback_pip install --no-build-isolation "${FEEDBACK_STAGE}[test,recipes,onnx,rl]"
}

# An interrupted pip can leave packages with missing files, or without the list of their files.
feedback_is_complete() {
    feedback_logged "$VENV/bin/python" -I -c '
import csv, importlib.metadata, sys

for package in importlib.metadata.distributions():
    name = package.metadata["Name"]
    record = package.read_text("RECORD")
    if not record:
        sys.exit(f"incomplete package: {name}")
    for path, *_ in csv.reader(record.splitlines()):
        if not path.endswith(".pyc") and not package.locate_file(path).exists():
            sys.exit(f"incomplete package: {name}: {path} is missing")
'
}

feedback_install_dependencies() {
    "$FEEDBACK_INSTALL" && feedback_is_complete
}

# Runs in a subshell, which holds the lock. Does not rely on set -e: the caller tests its result.
feedback_set_up() {
    local dependencies project installed fresh=''
    FEEDBACK_LOG=$VENV/install.log
    feedback_check_given_python
    feedback_lock
    if [[ -e $VENV && ! -e $VENV/$FEEDBACK_OURS ]] && ! rmdir -- "$VENV" 2>/dev/null; then
        feedback_die "$VENV exists, and this script did not make it. Delete it, set VENV to" \
            "another folder, or activate it and set FEEDBACK_ENV=active."
    fi
    if [[ ! -e $VENV ]]; then
        fresh=yes
    elif [[ ! -e $VENV/$FEEDBACK_STAMP_VENV ]] ||
        ! feedback_python_version "$VENV/bin/python" >/dev/null; then
        feedback_say "$VENV is broken or half made. Making it again."
        fresh=yes
    elif [[ -n $FEEDBACK_VERSION &&
        $FEEDBACK_VERSION != $(feedback_python_version "$VENV/bin/python") ]]; then
        feedback_say "$VENV has another Python than PYTHON. Making it again."
        fresh=yes
    fi
    [[ -z $fresh ]] || feedback_make_venv
    read -r dependencies project installed < <(feedback_state) ||
        feedback_die "The files of the repository could not be read."
    if feedback_has_stamp "$FEEDBACK_STAMP_DEPENDENCIES" "$dependencies" &&
        feedback_has_stamp "$FEEDBACK_STAMP_PROJECT" "$project" &&
        [[ $installed == installed ]]; then
        return
    fi

    FEEDBACK_STAGE=$(mktemp -d) || exit 1
    trap 'rm -rf -- "$FEEDBACK_STAGE" "$VENV.lock.d"' EXIT
    feedback_stage "$FEEDBACK_STAGE" || feedback_die "The package could not be copied."
    if ! feedback_has_stamp "$FEEDBACK_STAMP_DEPENDENCIES" "$dependencies"; then
        rm -f -- "$VENV/$FEEDBACK_STAMP_DEPENDENCIES" "$VENV/$FEEDBACK_STAMP_PROJECT"
        if ! feedback_install_dependencies; then
            if [[ -n $fresh ]] || feedback_is_complete; then
                feedback_die "The dependencies could not be installed."
            fi
            feedback_say "An earlier installation left something broken. Starting again."
            feedback_make_venv
            feedback_install_dependencies || feedback_die "The dependencies could not be installed."
        fi
        printf '%s\n' "$dependencies" >"$VENV/$FEEDBACK_STAMP_DEPENDENCIES"
    fi
    feedback_say "Installing this package"
    feedback_pip install --no-deps --no-build-isolation --force-reinstall "$FEEDBACK_STAGE" ||
        feedback_die "The package could not be installed."
    printf '%s\n' "$project" >"$VENV/$FEEDBACK_STAMP_PROJECT"
    feedback_say "The environment is ready."
}

# --- the function to call ---

feedback_use_active() {
    local candidate error=''
    for candidate in ${PYTHON:+"$PYTHON"} python python3; do
        FEEDBACK_PYTHON=$(command -v -- "$candidate") && break
        [[ $candidate != "${PYTHON:-}" ]] ||
            feedback_die "PYTHON is set to $PYTHON, which does not run."
    done
    [[ -n $FEEDBACK_PYTHON ]] ||
        feedback_die "FEEDBACK_ENV=active is set, but no Python is on PATH."
    error=$("$FEEDBACK_PYTHON" - torch fairseq "$@" 2>&1 >/dev/null <<'CHECK'
import importlib
import sys

for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        sys.exit(f"cannot import {name} ({type(error).__name__}: {error})")
CHECK
    ) || feedback_die "FEEDBACK_ENV=active is set, but $FEEDBACK_PYTHON ${error##*$'\n'}." \
        "Activate an environment that has it, or unset FEEDBACK_ENV."
    PATH=$("$FEEDBACK_PYTHON" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH
    export PATH
    FEEDBACK_PYTHON=$("$FEEDBACK_PYTHON" -c 'import sys; print(sys.executable)') # not relative
}

feedback_environment() {
    FEEDBACK_PYTHON=
    case ${FEEDBACK_ENV:-} in
        active) feedback_use_active "$@" && return ;;
        '') ;;
        *) feedback_die "FEEDBACK_ENV is set to $FEEDBACK_ENV. It can be: active, or unset." ;;
    esac
    VENV=${VENV:-$FEEDBACK_ROOT/.venv}
    [[ $VENV == /* ]] || VENV=$PWD/$VENV
    VENV=${VENV%/}
    (feedback_set_up) || exit 1
    FEEDBACK_PYTHON=$VENV/bin/python
    export VIRTUAL_ENV=$VENV PATH="$VENV/bin:$PATH"
    unset PYTHONHOME
}
