#!/usr/bin/env bash
# Usage: bash examples/cnn_dm/train.sh [OPTION...]
#
# Trains on CNN-DailyMail: 6 + 6 layers, width 512, FFN 2048, 8 heads, dropout 0.3, learning rate 5e-4 (the paper's
# table of hyper-parameters).
set -euo pipefail

# shellcheck source=examples/training.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../training.sh"

PER_UPDATE=32768 # tokens; not in the paper
PER_GPU=4096
UPDATES=60000 # not in the paper
train_options "$@"

case $KIND in
    feedback) model=(--arch feedback_transformer_cnn_dm) ;;
    transformer) model=(--arch transformer) ;; # its defaults are the sizes of the paper
esac
train "${model[@]}" "${PAIRS[@]}" --share-all-embeddings --dropout 0.3 --lr 5e-4
