#!/usr/bin/env bash
# Usage: bash examples/iwslt14_de_en/eval.sh [OPTION...]
#
# Translates the test set of IWSLT14 German to English with beam 5, from the best checkpoint, without averaging, as the
# paper does. Prints tokenized BLEU, and sacrebleu of the detokenized text without regard to case: the data is lowercased.
set -euo pipefail

# shellcheck source=examples/evaluation.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../evaluation.sh"

SCORE_FLAGS=(--detokenize en --lowercase)
RAW=raw.test.en
PAPER=("transformer, paper=figure 7 only" "feedback, paper=figure 7 only")
eval_options "$@"
evaluate_pairs clean.valid.en clean.test.en
