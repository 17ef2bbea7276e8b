#!/usr/bin/env bash
# Usage: bash examples/multi30k_en_de/depths.sh [OPTION...]
#
# Multi30k by the depth of the decoder: trains feedback and standard transformers with 1, 2 and 4 decoder layers, evaluates
# each, and prints a table. --help lists the options. A run that was stopped goes on with the same command.
set -euo pipefail

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../common.sh"

small_models multi30k_en_de/depths.py "sacrebleu sacremoses matplotlib" "$@"
