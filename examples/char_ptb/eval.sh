#!/usr/bin/env bash
# Usage: bash examples/char_ptb/eval.sh [OPTION...]
#
# Bits per character on the validation and test text of character PTB, ends of lines included. The model reads
# it as one stream, with a memory of at most 512 characters. fairseq-transformer sees at least 256 and at most 511
# characters before each.
set -euo pipefail

# shellcheck source=examples/evaluation.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../evaluation.sh"

METRIC=none
UNIT=character
PAPER=("feedback, paper=figure 5 only")
eval_options "$@"
evaluate_language_model 128
