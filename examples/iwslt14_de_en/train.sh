#!/usr/bin/env bash
# Usage: bash examples/iwslt14_de_en/train.sh [OPTION...]
#
# Trains on IWSLT14 German to English: 6 + 6 layers, width 512, FFN 1024, 4 heads, dropout 0.3, learning rate 5e-4 (the
# paper's table of hyper-parameters). Weight decay, warm-up and the size of batches are those of fairseq's recipe.
set -euo pipefail

# shellcheck source=examples/training.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../training.sh"

PER_UPDATE=4096 # tokens
PER_GPU=4096
UPDATES=50000 # not in the paper
train_options "$@"

case $KIND in
    feedback) model=(--arch feedback_transformer_iwslt_de_en) ;;
    transformer) model=(--arch transformer_iwslt_de_en) ;;
esac
train "${model[@]}" "${PAIRS[@]}" --share-decoder-input-output-embed --dropout 0.3 --weight-decay 0.0001 --lr 5e-4
