# shellcheck shell=bash
# From nothing to models on the quickstart's corpus, in steps. A script that sources this sets what differs between runs:
# OUT, UPDATES, an update's TOKENS, and WARMUP, in updates. Then it calls set_up.

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../common.sh"
QUICKSTART=examples/quickstart

# Reads --out, --updates and what options the script has declared before, and gets the environment.
set_up() { # ARGUMENT...
    option --out FOLDER OUT text "where everything is written ($OUT, in the repository)"
    option --updates N UPDATES number "training updates of each model ($UPDATES)"
    read_options "$@"
    feedback_environment sacrebleu subword_nmt matplotlib
    cd -- "$FEEDBACK_ROOT" || exit
}

data() {
    step corpus "1/5  Corpus"
    step bpe "2/5  Subword units"
    step binarize "3/5  fairseq-preprocess"
}

corpus() {
    printf '$ python %s/corpus.py --out %s/text\n' "$QUICKSTART" "$OUT"
    example quickstart/corpus.py --out "$OUT/text"
}

bpe() {
    local split side
    mkdir -p -- "$OUT/bpe"
    logged "$OUT/bpe.log" nothing subword-nmt learn-joint-bpe-and-vocab \
        --input "$OUT/text/train.en" "$OUT/text/train.de" --symbols 3000 \
        --output "$OUT/codes" --write-vocabulary "$OUT/bpe/vocab.en" "$OUT/bpe/vocab.de"
    for split in train valid test; do
        for side in en de; do
            subword-nmt apply-bpe --codes "$OUT/codes" \
                --input "$OUT/text/$split.$side" --output "$OUT/bpe/$split.$side" 2>>"$OUT/bpe.log"
        done
    done
}

binarize() {
    rm -rf -- "$OUT/data"
    logged "$OUT/preprocess.log" nothing fairseq-preprocess --source-lang en --target-lang de \
        --trainpref "$OUT/bpe/train" --validpref "$OUT/bpe/valid" --testpref "$OUT/bpe/test" \
        --destdir "$OUT/data" --joined-dictionary --workers 2
}

train() { # NAME ARCH DECODER-LAYERS
    local KEEP_LOG
    keep_log "$OUT/$1"
    logged "$OUT/train-$1.log" "progress $1" fairseq-train "$OUT/data" \
        --user-dir fairseq_feedback --arch "$2" \
        --encoder-layers 2 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4 \
        --decoder-layers "$3" --decoder-embed-dim 128 --decoder-ffn-embed-dim 256 --decoder-attention-heads 4 \
        --encoder-normalize-before --decoder-normalize-before --share-all-embeddings --dropout 0 \
        --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
        --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1.0 --seed 1 \
        --lr 4e-3 --lr-scheduler polynomial_decay --warmup-updates "$WARMUP" --total-num-update "$UPDATES" \
        --max-tokens "$TOKENS" --max-update "$UPDATES" \
        --save-dir "$OUT/$1" --no-epoch-checkpoints --keep-interval-updates 1 \
        --save-interval-updates 250 --validate-interval-updates 250 --save-interval 1000 --validate-interval 1000 \
        --log-format simple --log-interval 100
}

translate() { # NAME [OPTION...]
    local -x OMP_NUM_THREADS
    OMP_NUM_THREADS=$(getconf _NPROCESSORS_ONLN)
    logged "$OUT/test-$1.txt" nothing fairseq-generate "$OUT/data" --user-dir fairseq_feedback \
        --path "$OUT/$1/checkpoint_best.pt" --gen-subset test --beam 5 --batch-size 50 \
        --max-len-a 1.5 --max-len-b 10 --required-batch-size-multiple 1 --remove-bpe \
        --no-feedback-engine "${@:2}"  # the transformer's words/s are those of fairseq's own code
}
