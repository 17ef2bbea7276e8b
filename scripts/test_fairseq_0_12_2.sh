#!/usr/bin/env bash
# Runs the core tests with fairseq 0.12.2, the last upstream release.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/environment.sh"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    cat <<'HELP'
Usage: bash scripts/test_fairseq_0_12_2.sh [PYTEST ARGUMENT...]

Makes an environment with fairseq 0.12.2, the last upstream release, in .venv-0.12.2, and runs the
tests that are marked "core" with it. It needs Python 3.11 and a C++ compiler.

  PYTHON=...       make the environment from this Python 3.11 instead of one that is found
  VENV_0_12_2=...  keep it in this folder instead of .venv-0.12.2
HELP
    exit
fi

unset FEEDBACK_ENV
VENV=${VENV_0_12_2:-$FEEDBACK_ROOT/.venv-0.12.2}
FEEDBACK_PYTHONS=3.11
FEEDBACK_INSTALL=install_0_12_2
FEEDBACK_INSTALL_FILES=(scripts/constraints.txt scripts/test_fairseq_0_12_2.sh)

install_0_12_2() {
    feedback_say "Installing PyTorch. This is the largest part."
    feedback_pip install torch setuptools || return
    feedback_say "Installing the other dependencies"
    # What the release imports, in the versions of constraints.txt. Its own metadata asks for
    # omegaconf<2.1 and hydra-core<1.1, which current versions of pip refuse, and for torchaudio,
    # which only speech needs.
    feedback_pip install --no-build-isolation bitarray cffi cython hydra-core numpy omegaconf \
        regex sacrebleu subword-nmt tqdm pytest hypothesis || return
    feedback_say "Building fairseq 0.12.2"
    # Keep pip's build isolation. Where the build sees torch, it also wants C++ sources that the
    # release does not contain (libbase, libnat); text models do not need these.
    # Newer versions of pip have a variable of its own for the versions of build tools.
    PIP_BUILD_CONSTRAINT=scripts/constraints.txt \
        feedback_pip install --no-deps --no-binary fairseq fairseq==0.12.2
}

feedback_environment pytest hypothesis
cd -- "$FEEDBACK_ROOT"
# Holds sitecustomize.py. A variable, so that the commands that tests start get it too.
export PYTHONPATH="$FEEDBACK_ROOT/tests/fairseq_0_12_2${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
exec "$FEEDBACK_PYTHON" -m pytest -m core "$@"
