#!/usr/bin/env bash
# Runs the tests with one Python and one torch, others than scripts/constraints.txt names.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/environment.sh"

if (($# < 2)) || [[ $1 == -* ]]; then
    cat <<'HELP'
Usage: bash scripts/test_versions.sh PYTHON TORCH [PYTEST ARGUMENT...]

Makes an environment with that Python and that torch in .venv-PYTHON-TORCH, and runs the tests of scripts/test.sh with it:

  bash scripts/test_versions.sh 3.12 2.14.1
  bash scripts/test_versions.sh 3.11 2.15.0 tests/test_cli.py

The other packages are those of scripts/constraints.txt. On a machine without a GPU, too, an index may offer the torch with CUDA
alone: some 5 GB on the disk.
HELP
    [[ ${1:-} == -h || ${1:-} == --help ]] && exit
    exit 2
fi

unset FEEDBACK_ENV
FEEDBACK_PYTHONS=$1
VENV=${VENV:-$FEEDBACK_ROOT/.venv-$1-$2}
FEEDBACK_CONSTRAINTS=.venv-$1-$2.constraints
cd -- "$FEEDBACK_ROOT"
sed "s/^torch==.*/torch==$2/; /^torchaudio==/d" scripts/constraints.txt >"$FEEDBACK_CONSTRAINTS"
shift 2
feedback_environment
"$FEEDBACK_PYTHON" -c 'import platform, torch; print("Python", platform.python_version(), "torch", torch.__version__)'
FEEDBACK_ENV=active PYTHON=$FEEDBACK_PYTHON exec bash scripts/test.sh "$@"
