#!/usr/bin/env bash
# Usage: bash examples/wmt14_en_de/eval.sh [OPTION...]
#
# Translates newstest2014 as the paper does: the last 10 checkpoints averaged, beam 5, the length penalty tuned on
# newstest2013, compounds split, tokenized BLEU. Prints sacrebleu of the detokenized text, too.
set -euo pipefail

# shellcheck source=examples/evaluation.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../evaluation.sh"

AVERAGE=10
LENPENS="0.2 0.4 0.6 0.8 1.0 1.2"
METRIC=bleu-compound-split
SCORE_FLAGS=(--compound-split --detokenize de)
RAW=raw.test.de
PAPER=("transformer of Ott et al. (2018), paper=29.3" "feedback, paper=29.5" "transformer, 1 decoder layer, paper=27.3"
    "feedback, 1 decoder layer, paper=28.3" "feedback, 12 + 2 layers, paper=29.0")
eval_options "$@"
evaluate_pairs clean.valid.de clean.test.de
