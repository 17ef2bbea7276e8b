#!/usr/bin/env bash
# Usage: bash examples/cnn_dm/eval.sh [OPTION...]
#
# Summarizes the test set of CNN-DailyMail as the paper does: beam 5, no 3-gram twice, length penalty and shortest length
# tuned on the validation set. Prints ROUGE-1, ROUGE-2 and ROUGE-Lsum (F1), by sentences and with the stemmer.
set -euo pipefail

# shellcheck source=examples/evaluation.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../evaluation.sh"

LENPENS=(0.8 1.0 1.2)
MIN_LENS=(40 55)
METRIC=rougeLsum
PAPER=("transformer, paper=figure 7 only" "feedback, paper=figure 7 only")
eval_options "$@"
evaluate_pairs text.valid.target text.test.target --no-repeat-ngram-size 3 --max-len-b 140
