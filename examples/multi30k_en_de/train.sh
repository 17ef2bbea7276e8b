#!/usr/bin/env bash
# Usage: bash examples/multi30k_en_de/train.sh [OPTION...]
#
# Trains on Multi30k, English to German: 4 + 4 layers, width 128, FFN 256, 4 heads, dropout 0.3. An epoch has about 240
# updates, two to four minutes on a core. The paper does not have this data set; the sizes are those that others found for it.
set -euo pipefail

# shellcheck source=examples/training.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../training.sh"

PER_UPDATE=2048 # tokens
PER_GPU=2048
UPDATES=10500
train_options "$@"

case $KIND in
    feedback) model=(--arch feedback_transformer) ;;
    transformer) model=(--arch transformer) ;;
esac
for part in encoder decoder; do
    model+=("--$part-layers" 4 "--$part-ffn-embed-dim" 256 "--$part-attention-heads" 4)
done
train "${model[@]}" --encoder-embed-dim 128 "${PAIRS[@]}" --share-all-embeddings --dropout 0.3 --lr 3.5e-3 --warmup-updates 2000
