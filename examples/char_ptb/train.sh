#!/usr/bin/env bash
# Usage: bash examples/char_ptb/train.sh [OPTION...]
#
# Trains on the characters of the Penn Treebank by the paper's table of hyper-parameters: 6 layers, width 384, 4 heads,
# span 512, 2048 streams, blocks of 128 characters, learning rate 1.5e-3 after 1,000 updates of warm-up, gradients
# clipped at 1, 15,000 updates, then 1,000 with a tenth of the rate.
set -euo pipefail

# shellcheck source=examples/training.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../training.sh"

KINDS=(feedback transformer fairseq-transformer)
UNIT=streams
PER_UPDATE=2048
PER_GPU=256
UPDATES=15000
EVERY=250 # an epoch has about 20
FINETUNE_UPDATES=1000
train_options "$@"

case $KIND in
    feedback | transformer)
        model=(--task feedback_lm --tokens-per-sample 128 --batch-size-valid 32 --arch feedback_transformer_lm_char_ptb)
        [[ $KIND == feedback ]] || model+=("${TRANSFORMER[@]}")
        ;;
    fairseq-transformer) # blocks of 512 characters, a quarter as many
        PER_UPDATE=512
        model=("${FAIRSEQ_TRANSFORMER[@]}" --tokens-per-sample 512
            --decoder-layers 6 --decoder-embed-dim 384 --decoder-input-dim 384 --decoder-output-dim 384
            --decoder-ffn-embed-dim 1536 --decoder-attention-heads 4
            --dropout 0 --attention-dropout 0.5 --activation-dropout 0.5)
        ;;
esac
train "${model[@]}" "${LANGUAGE_MODEL[@]}" --lr 1.5e-3 --warmup-updates 1000 --clip-norm 1.0
