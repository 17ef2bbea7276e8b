#!/usr/bin/env bash
# Usage: bash examples/wikitext103/train.sh [OPTION...]
#
# Trains on WikiText-103 by the paper's table of hyper-parameters: 512 streams, blocks of 256 words, learning rate 7e-4
# after 8,000 updates of warm-up, gradients clipped at 0.1, 200,000 updates, then 10,000 with a tenth of the rate.
# feedback is the small model (4 layers, width 512, span 512), feedback-large the large one (8 layers, width 1024);
# feedback-large-2048 has learned spans of up to 2048. transformer and transformer-large-2048 are the paper's transformers of
# these sizes, fairseq-transformer is fairseq's of the small one.
set -euo pipefail

# shellcheck source=examples/training.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../training.sh"

KINDS=(feedback feedback-large feedback-large-2048 transformer transformer-large-2048 fairseq-transformer)
UNIT=streams
PER_UPDATE=512
PER_GPU=64
UPDATES=200000
EVERY=2000
FINETUNE_UPDATES=10000
train_options "$@"

model=(--task feedback_lm --tokens-per-sample 256 --batch-size-valid 8)
case $KIND in
    feedback | transformer) model+=(--arch feedback_transformer_lm_wiki103_small) ;;
    feedback-large) model+=(--arch feedback_transformer_lm_wiki103_large) ;;
    *-large-2048)
        model+=(--arch feedback_transformer_lm_wiki103_large
            --memory-span 2048 --adaptive-span --adaptive-span-loss 1e-5)
        ;;
    fairseq-transformer) # blocks of 512 words, as far as the other's memory goes, and half as many of them
        PER_UPDATE=256
        model=("${FAIRSEQ_TRANSFORMER[@]}" --tokens-per-sample 512
            --decoder-layers 4 --decoder-embed-dim 512 --decoder-input-dim 512 --decoder-output-dim 512
            --decoder-ffn-embed-dim 4096 --decoder-attention-heads 8 --adaptive-input --tie-adaptive-weights
            --tie-adaptive-proj
            --adaptive-input-cutoff "20000,40000,200000" --adaptive-softmax-cutoff "20000,40000,200000"
            --dropout 0.1 --attention-dropout 0.1 --activation-dropout 0.1)
        ;;
esac
[[ $KIND != transformer* ]] || model+=("${TRANSFORMER[@]}")
# Adaptive softmax does not go with the other kind of data-parallel training.
train "${model[@]}" "${LANGUAGE_MODEL[@]}" --ddp-backend legacy_ddp --lr 7e-4 --warmup-updates 8000 --clip-norm 0.1
