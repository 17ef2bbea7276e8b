#!/usr/bin/env bash
# Usage: bash examples/multi30k_en_de/eval.sh [OPTION...]
#
# Translates the test set of Multi30k of 2016 with beam 5, from the average of the last 10 epochs. Prints tokenized BLEU, and
# sacrebleu and chrF of the detokenized text, all without regard to case: the data is lowercased.
set -euo pipefail

# shellcheck source=examples/evaluation.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../evaluation.sh"

AVERAGE=10
SCORE_FLAGS=(--detokenize de --lowercase)
RAW=raw.test.de
PAPER=("transformer, published (from memory)=41.0")
eval_options "$@"
evaluate_pairs tokens.valid.de tokens.test.de
