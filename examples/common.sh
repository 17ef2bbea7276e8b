# shellcheck shell=bash
# What the scripts of the examples share. For step and what follows it, OUT is the folder of the run, and UPDATES the
# number of training updates.

FEEDBACK_EXAMPLES=$(cd -P -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=scripts/environment.sh
source "$FEEDBACK_EXAMPLES/../scripts/environment.sh"
# shellcheck source=examples/options.sh
source "$FEEDBACK_EXAMPLES/options.sh"

# A Python file of this folder. It finds the package of this repository, installed or not.
example() { # FILE ARGUMENT...
    PYTHONPATH=$FEEDBACK_ROOT${PYTHONPATH:+:$PYTHONPATH} "$FEEDBACK_PYTHON" "$FEEDBACK_EXAMPLES/$1" "${@:2}"
}

# Experiments with small models, for which more than one core each is no faster, or slower.
small_models() { # FILE "MODULE ..." ARGUMENT...
    local modules
    read -ra modules <<<"$2"
    feedback_environment "${modules[@]}"
    cd -- "$FEEDBACK_ROOT" || exit
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    example "$1" "${@:3}"
}

# The command fairseq-feedback, of this repository.
feedback() {
    PYTHONPATH=$FEEDBACK_ROOT${PYTHONPATH:+:$PYTHONPATH} "$FEEDBACK_PYTHON" -m fairseq_feedback "$@"
}

# Prints a command on standard error, then runs it.
run() {
    printf '$ %s\n' "${*//$FEEDBACK_ROOT\//}" >&2
    "$@"
}

# step NAME TITLE: runs the function NAME, unless it was finished before.
step() {
    if [[ -e $OUT/done-$1 ]]; then
        feedback_say "$2: done before"
    else
        feedback_say "$2"
        "$1"
        touch -- "$OUT/done-$1"
    fi
}

# Prints a command, then runs it with its output in a log, behind what is there with KEEP_LOG; shows of that only what
# `show` lets through.
logged() { # LOG SHOW COMMAND...
    local log=$1 show
    read -ra show <<<"$2"
    shift 2
    printf '$ %s\n' "$*"
    if ! "$@" 2>&1 | tee ${KEEP_LOG:+-a} -- "$log" | "${show[@]}"; then
        tail -n 20 -- "$log" >&2
        feedback_die "this failed: $1. The whole output is in $log"
    fi
}

# A training that goes on keeps its log: call it after `local KEEP_LOG`.
keep_log() { # FOLDER
    KEEP_LOG=
    [[ ! -e $1/checkpoint_last.pt ]] || KEEP_LOG=yes
}

nothing() { cat >/dev/null; }
progress() { example progress.py "$1" "$UPDATES"; } # NAME

# Learning curves of both models of a run, beside its table.
curves() {
    feedback plot "$OUT"/train-{feedback,transformer}.log --labels feedback transformer --output "$OUT/curves.png"
}

# both FUNCTION NAME NAME: runs the function with each name, at once, with half of the cores each. Small models use one
# core well and several badly.
both() {
    local first second failed=0 cores
    cores=$(getconf _NPROCESSORS_ONLN)
    local -x OMP_NUM_THREADS=$((cores > 1 ? cores / 2 : 1))
    "$1" "$2" &
    first=$!
    "$1" "$3" &
    second=$!
    wait "$first" || failed=1
    wait "$second" || failed=1
    return $failed
}

# Whether no other run holds OUT. This process then does, and those that it starts, also when this one is killed and they
# go on for a moment.
hold_out() {
    exec 8>"$OUT/.lock" || feedback_die "--out $OUT: cannot write there"
    ! command -v flock >/dev/null 2>&1 || flock -n 8
}

# begin_run STATE: makes OUT, and keeps it for this run. What was made from another state of code and options is moved away.
begin_run() {
    local before=$OUT.before number=1
    if [[ -e $OUT && ! -e $OUT/made-with && -n $(ls -A -I .lock -- "$OUT" 2>&1) ]]; then
        feedback_die "--out $OUT is not empty and not of an earlier run: give another folder"
    fi
    mkdir -p -- "$OUT"
    hold_out || feedback_die "--out $OUT: another run writes there. Wait for it, or give another folder"
    if [[ $(cat -- "$OUT/made-with" 2>/dev/null || echo "$1") != "$1" ]]; then
        while [[ -e $before-$number ]]; do number=$((number + 1)); done
        mkdir -- "$before-$number" || feedback_die "--out $OUT has a run of other options or other code: give another folder"
        find "$OUT" -mindepth 1 -maxdepth 1 ! -name .lock -exec mv -t "$before-$number" -- {} +
        feedback_say "What $OUT held, of other options or other code, is in $before-$number now. Delete it if you like."
    fi
    printf '%s\n' "$1" >"$OUT/made-with"
}

# code_state FILE...: a number for the content of these files, and of the package but its tools.
code_state() {
    find "$@" fairseq_feedback -name tools -prune -o \( -name '*.[ps][yh]' -o -name '*.cpp' -o -name '*.h' \) -exec cksum {} + | sort | cksum
}
