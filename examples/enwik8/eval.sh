#!/usr/bin/env bash
# Usage: bash examples/enwik8/eval.sh [OPTION...]
#
# Bits per byte on the validation and test bytes of enwik8, ends of lines included. The feedback model
# reads it as one stream, with a memory of at most 8192 bytes. The standard transformer sees at least 256 and at most
# 511 bytes before each. The authors' README says 0.962, and 0.984 for
# validation.
set -euo pipefail

# shellcheck source=examples/evaluation.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../evaluation.sh"

METRIC=none
UNIT=byte
PAPER=("Transformer-XL, paper=0.99" "feedback of 77M, paper=0.96")
eval_options "$@"
evaluate_language_model 128
