#!/usr/bin/env bash
# Usage: bash examples/wmt14_en_de/train.sh [OPTION...]
#
# Trains on WMT14 English to German: 6 + 6 layers, width 1024, FFN 4096, 16 heads, dropout 0.3, learning rate 1e-3 (the
# paper's table of hyper-parameters). feedback-12-2 is the deep encoder with a shallow decoder and LayerDrop. Batches
# are those of Ott et al. (2018): 3584 tokens on 8 GPUs, 16 times; the paper does not say its own.
set -euo pipefail

# shellcheck source=examples/training.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../training.sh"

KINDS=(feedback transformer feedback-12-2)
PER_UPDATE=458752 # tokens
PER_GPU=3584
UPDATES=30000 # not in the paper
train_options "$@"

case $KIND in
    feedback) model=(--arch feedback_transformer_wmt_en_de_big) ;;
    feedback-12-2) model=(--arch feedback_transformer_wmt_en_de_12_2) && LAYERDROP=yes ;;
    transformer) model=(--arch transformer_vaswani_wmt_en_de_big) ;;
esac
train "${model[@]}" "${PAIRS[@]}" --share-all-embeddings --dropout 0.3 --lr 1e-3
