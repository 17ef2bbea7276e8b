#!/usr/bin/env bash
# Makes the environment if needed, then runs the tests.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/environment.sh"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    cat <<'HELP'
Usage: bash scripts/test.sh [PYTEST ARGUMENT...]

Makes the environment if needed, then runs the tests, a process for each core. Without -m, slow tests and fuzzing are left out.
Paths of tests start at the root of the repository.

  bash scripts/test.sh                          all tests but the slow ones
  bash scripts/test.sh -m slow                  the slow ones
  bash scripts/test.sh -m fuzz -n 0 -s          damaged and strange inputs, for two minutes
  bash scripts/test.sh -m ""                    all tests
  bash scripts/test.sh tests/test_x.py -k name  some tests

HELP
    feedback_environment_help
    exit
fi

feedback_environment pytest hypothesis xdist sacremoses rouge_score onnx onnxruntime gymnasium
cd -- "$FEEDBACK_ROOT"
# The tests' tensors are small: more threads only get in each other's way.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$FEEDBACK_PYTHON" -m pytest -n auto --maxprocesses 4 --no-loadscope-reorder -m "not slow and not fuzz" "$@"
