#!/usr/bin/env bash
# Usage: bash examples/enwik8/eval.sh [OPTION...]
#
# Bits per byte on the validation and test bytes of enwik8, ends of lines included. The model reads them in 128
# streams, as the authors do, with a memory of at most 8192 bytes; --streams 1 is exact, and takes hours.
# fairseq-transformer sees at least 256 and at most 511 bytes before each. The authors' README says 0.962, and 0.984 for
# validation.
set -euo pipefail

# shellcheck source=examples/evaluation.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../evaluation.sh"

METRIC=none
UNIT=byte
STREAMS=128
PAPER=("Transformer-XL, paper=0.99" "feedback of 77M, paper=0.96")
eval_options "$@"
evaluate_language_model 128
