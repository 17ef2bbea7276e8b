#!/usr/bin/env bash
# Usage: bash examples/wikitext103/eval.sh [OPTION...]
#
# Perplexity on the validation and test text of WikiText-103, per word, ends of lines included. The model reads the text
# as one stream: every word is predicted from all that its memory holds. fairseq-transformer sees at least 256 and at
# most 511 words before each.
set -euo pipefail

# shellcheck source=examples/evaluation.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../evaluation.sh"

METRIC=none
PAPER=("Transformer-XL, paper=18.3" "transformer of 140M, paper=19.9" "feedback of 126M, paper=18.3")
eval_options "$@"
evaluate_language_model 256
