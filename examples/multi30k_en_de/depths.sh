#!/usr/bin/env bash
# Usage: bash examples/multi30k_en_de/depths.sh [OPTION...]
#
# Multi30k by the depth of the decoder: trains feedback and standard transformers with 1, 2 and 4 decoder layers, evaluates
# each, and prints a table. --help lists the options. A run that was stopped goes on with the same command.
set -euo pipefail

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../common.sh"

feedback_environment sacrebleu sacremoses matplotlib
cd -- "$FEEDBACK_ROOT"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # more are hardly faster with models of this size
example multi30k_en_de/depths.py "$@"
