#!/usr/bin/env bash
# From nothing to a BLEU: a feedback transformer beside a standard one, on a corpus made here.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/environment.sh"
# shellcheck source=examples/common.sh
source "$FEEDBACK_ROOT/examples/common.sh"

OUT=quickstart-run
UPDATES=1500

usage() {
    cat <<'HELP'
Usage: bash scripts/quickstart.sh [--out FOLDER] [--updates N]

Makes the environment if needed. Then makes a small English-German corpus, trains a feedback
transformer and a standard one of the same size (one decoder layer each), translates the test set
with both, and prints a table. About 10 minutes on 2 cores. A run that was stopped goes on where it
was; a finished one prints its table again.

  --out FOLDER   where everything is written   (quickstart-run, in the repository)
  --updates N    training updates per model    (1500)

HELP
    feedback_environment_help
}

while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --out) OUT=${2:?--out needs a folder} && shift 2 ;;
        --updates) UPDATES=${2:?--updates needs a number} && shift 2 ;;
        *) feedback_die "unknown option $1. See: bash scripts/quickstart.sh --help" ;;
    esac
done
[[ $UPDATES =~ ^[1-9][0-9]*$ ]] || feedback_die "--updates $UPDATES: give a positive number"

feedback_environment sacrebleu subword_nmt
cd -- "$FEEDBACK_ROOT"
QUICKSTART=examples/quickstart
# What other code, commands or corpus made is of no use: begin again. The report is made anew every time.
begin_run "$(code_state scripts/quickstart.sh examples/common.sh "$QUICKSTART"/[!r]*.py) $UPDATES"

corpus() {
    printf '$ python %s/corpus.py --out %s/text\n' "$QUICKSTART" "$OUT"
    "$FEEDBACK_PYTHON" "$QUICKSTART/corpus.py" --out "$OUT/text"
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

train() { # NAME
    local name=$1 arch=transformer
    [[ $name == transformer ]] || arch=feedback_transformer
    logged "$OUT/train-$name.log" "progress $name" fairseq-train "$OUT/data" \
        --user-dir fairseq_feedback --arch "$arch" \
        --encoder-layers 2 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4 \
        --decoder-layers 1 --decoder-embed-dim 128 --decoder-ffn-embed-dim 256 --decoder-attention-heads 4 \
        --encoder-normalize-before --decoder-normalize-before --share-all-embeddings --dropout 0 \
        --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
        --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1.0 --seed 1 \
        --lr 4e-3 --lr-scheduler polynomial_decay --warmup-updates 150 --total-num-update "$UPDATES" \
        --max-tokens 2500 --max-update "$UPDATES" \
        --save-dir "$OUT/$name" --no-epoch-checkpoints --keep-interval-updates 1 \
        --save-interval-updates 500 --validate-interval-updates 500 --validate-interval 1000 \
        --log-format simple --log-interval 100
}

models() { both train feedback transformer; }

translate() { # NAME
    logged "$OUT/test-$1.txt" nothing fairseq-generate "$OUT/data" --user-dir fairseq_feedback \
        --path "$OUT/$1/checkpoint_best.pt" --gen-subset test --beam 5 --batch-size 50 \
        --max-len-a 1.5 --max-len-b 10 --required-batch-size-multiple 1 --remove-bpe
}
translations() {
    local -x OMP_NUM_THREADS
    OMP_NUM_THREADS=$(getconf _NPROCESSORS_ONLN)
    translate feedback
    translate transformer
}

step corpus "1/5  Corpus"
step bpe "2/5  Subword units"
step binarize "3/5  fairseq-preprocess"
step models "4/5  Training a feedback and a standard transformer, $UPDATES updates each"
step translations "5/5  Translating the test set with both"
"$FEEDBACK_PYTHON" "$QUICKSTART/report.py" "$OUT"
