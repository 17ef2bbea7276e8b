#!/usr/bin/env bash
# Usage: bash examples/enwik8/train.sh [OPTION...]
#
# Trains on enwik8 by the paper's table of hyper-parameters: 12 layers, width 512, learned spans of up to 8192 bytes,
# 1024 streams, blocks of 128 bytes, learning rate 1.5e-3 after 8,000 updates of warm-up, gradients clipped at 0.1,
# 100,000 updates, then 10,000 with a tenth of the rate. In the first half, that is 36 passes over the text, blocks are
# of 64 bytes.
set -euo pipefail

# shellcheck source=examples/training.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../training.sh"

KINDS=(feedback transformer fairseq-transformer)
UNIT=streams
PER_UPDATE=1024
PER_GPU=128 # README.md says how much memory that takes
UPDATES=100000
EVERY=2000
FINETUNE_UPDATES=10000
train_options "$@"

case $KIND in
    feedback | transformer)
        model=(--task feedback_lm --tokens-per-sample 128 --batch-size-valid 128
            --bptt-warmup-epochs 36 --bptt-warmup-tokens 64
            --arch feedback_transformer_lm_enwik8 --adaptive-span-loss 5e-7)
        [[ $KIND == feedback ]] || model+=("${TRANSFORMER[@]}")
        FINETUNE_FLAGS=(--bptt-warmup-epochs 0)
        ;;
    fairseq-transformer) # blocks of 512 bytes, a quarter as many
        PER_UPDATE=256
        model=("${FAIRSEQ_TRANSFORMER[@]}" --tokens-per-sample 512
            --decoder-layers 12 --decoder-embed-dim 512 --decoder-input-dim 512 --decoder-output-dim 512
            --decoder-ffn-embed-dim 4096 --decoder-attention-heads 8
            --dropout 0 --attention-dropout 0.5 --activation-dropout 0.5)
        ;;
esac
train "${model[@]}" "${LANGUAGE_MODEL[@]}" --lr 1.5e-3 --warmup-updates 8000 --clip-norm 0.1
