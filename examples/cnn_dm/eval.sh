#!/usr/bin/env bash
# Usage: bash examples/cnn_dm/eval.sh [OPTION...]
#
# Summarizes the test set of CNN-DailyMail. As in the paper no 3-gram comes twice, here of subword units, and lengths are
# tuned on the validation set, here a length penalty and a shortest length. The paper does not say its beam; here it is 5.
# Prints ROUGE-1, ROUGE-2 and ROUGE-Lsum (F1), by sentences and with the stemmer.
set -euo pipefail

# shellcheck source=examples/evaluation.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../evaluation.sh"

LENPENS="0.8 1.0 1.2"
MIN_LENS="40 55"
METRIC=rougeLsum
PAPER=("transformer, paper=figure 7 only" "feedback, paper=figure 7 only")
eval_options "$@"
evaluate_pairs text.valid.target text.test.target --no-repeat-ngram-size 3 --max-len-b 140
