#!/usr/bin/env bash
# Usage: bash examples/tiny_shakespeare/train.sh [OPTION...]
#
# Tiny Shakespeare, characters: trains a feedback transformer and a standard one with as many parameters, and ends with a
# table: bits per character of validation and test text, and a sample of each model. Half an hour to an hour on 2 cores.
# A run that was stopped goes on where it was.
set -euo pipefail

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../common.sh"

OUT=tiny-shakespeare-run
DATA=
UPDATES=1000
EXPECT=1115394
option --data FILE DATA file "the text, input.txt of char-rnn (downloaded)"
option --out FOLDER OUT text "where everything is written ($OUT, in the repository)"
option --updates N UPDATES number "training updates of each model ($UPDATES)"
option --expect N EXPECT number "characters that the text must have ($EXPECT)"
read_options "$@"

feedback_environment sacrebleu matplotlib
cd -- "$FEEDBACK_ROOT"
EXAMPLE=examples/tiny_shakespeare
begin_run "$(code_state "$EXAMPLE/train.sh" "$EXAMPLE/corpus.py") $UPDATES $EXPECT $DATA"

prepare() {
    logged "$OUT/corpus.log" cat example tiny_shakespeare/corpus.py ${DATA:+--data "$DATA"} \
        --out "$OUT/text" --expect "$EXPECT"
    rm -rf -- "$OUT/data"
    logged "$OUT/preprocess.log" nothing fairseq-preprocess --only-source --destdir "$OUT/data" --workers 1 \
        --trainpref "$OUT/text/train.txt" --validpref "$OUT/text/valid.txt" --testpref "$OUT/text/test.txt"
}

train() { # NAME
    local KEEP_LOG
    keep_log "$OUT/$1"
    local model=(--arch feedback_transformer_lm_shakespeare)
    # As many parameters: a transformer has keys and values in each layer, so a narrower FFN.
    [[ $1 == feedback ]] || model+=(--memory-composition own --unshared-memory-kv --decoder-ffn-embed-dim 427)
    logged "$OUT/train-$1.log" "progress $1" fairseq-train "$OUT/data" --user-dir fairseq_feedback \
        --task feedback_lm --symbols characters --tokens-per-sample 64 --batch-size 64 --batch-size-valid 16 \
        "${model[@]}" --share-decoder-input-output-embed --criterion cross_entropy \
        --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.5 --seed 1 \
        --lr 4e-3 --lr-scheduler polynomial_decay --warmup-updates 100 --total-num-update "$UPDATES" \
        --max-update "$UPDATES" --save-dir "$OUT/$1" --no-epoch-checkpoints --keep-interval-updates 1 \
        --save-interval-updates 250 --validate-interval-updates 250 --save-interval 1000 --validate-interval 1000 \
        --log-format simple --log-interval 100
}

models() { both train feedback transformer; }

evaluate() { # NAME
    local split
    for split in valid test; do
        logged "$OUT/$split-$1.log" nothing fairseq-eval-lm "$OUT/data" --user-dir fairseq_feedback \
            --path "$OUT/$1/checkpoint_best.pt" --gen-subset "$split" \
            --task feedback_lm --symbols characters --tokens-per-sample 512
    done
}

evaluations() { both evaluate feedback transformer; }

sample() { # NAME
    printf 'ROMEO:⏎\n' | logged "$OUT/sample-$1.txt" nothing fairseq-interactive "$OUT/data" \
        --user-dir fairseq_feedback --path "$OUT/$1/checkpoint_best.pt" --task feedback_lm --bpe characters \
        --beam 1 --sampling --sampling-topk 10 --temperature 0.8 --min-len 400 --max-len-b 400 --seed 1
}

samples() { both sample feedback transformer; }

step prepare "1/4  Text"
step models "2/4  Training a feedback and a standard transformer, $UPDATES updates each"
step evaluations "3/4  Bits per character of validation and test text"
step samples "4/4  Samples"
example tiny_shakespeare/report.py "$OUT"
curves
