#!/usr/bin/env bash
# From nothing to a BLEU: a feedback transformer beside a standard one, on a corpus made here.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/environment.sh"

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
if [[ -e $OUT && ! -e $OUT/made-with && -n $(ls -A -- "$OUT" 2>&1) ]]; then
    feedback_die "--out $OUT is not empty and not of an earlier run: give another folder"
fi
mkdir -p -- "$OUT"
CORES=$(getconf _NPROCESSORS_ONLN)

# What other code, commands or corpus made is of no use: begin again. The report is made anew every time.
MADE_WITH=$(find scripts/quickstart.sh "$QUICKSTART" fairseq_feedback -name '*.[ps][yh]' ! -name report.py -exec cksum {} + |
    cat - <(echo "$UPDATES") | sort | cksum)
if [[ $(cat -- "$OUT/made-with" 2>/dev/null) != "$MADE_WITH" ]]; then
    rm -rf -- "$OUT"/{text,bpe,codes,data,feedback,transformer} "$OUT"/done-*
    printf '%s\n' "$MADE_WITH" >"$OUT/made-with"
fi

# step NAME TITLE: runs the function NAME, unless it was finished before.
step() {
    if [[ -e $OUT/done-$1 ]]; then
        feedback_say "$2: done before"
    else
        feedback_say "$2"
        "$1"
        touch -- "$OUT/done-$1"
    fi
}

# Prints a command, then runs it with its output in a log; shows of that only what `show` lets through.
logged() { # LOG SHOW COMMAND...
    local log=$1 show
    read -ra show <<<"$2"
    shift 2
    printf '$ %s\n' "$*"
    if ! "$@" 2>&1 | tee -- "$log" | "${show[@]}"; then
        tail -n 20 -- "$log" >&2
        feedback_die "this failed: $1. The whole output is in $log"
    fi
}
nothing() { cat >/dev/null; }
progress() { # NAME
    sed -unE \
        -e "s/.*\| INFO \| train_inner \| epoch 0*([0-9]+):.* loss=([0-9.]+),.* wps=([0-9.]+),.* num_updates=([0-9]+),.*/  $1  update \4 of $UPDATES  epoch \1  loss \2  \3 words\/s/p" \
        -e "s/.*\| INFO \| valid \| .* \| loss ([0-9.]+) .*/  $1  validation loss \1/p"
}

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

train() { # NAME ARCHITECTURE...
    local name=$1
    shift
    logged "$OUT/train-$name.log" "progress $name" fairseq-train "$OUT/data" "$@" \
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

# Small models use one core well and several badly: both are trained at once, each with its share of the cores.
models() {
    local feedback transformer failed=0
    local -x OMP_NUM_THREADS=$((CORES > 1 ? CORES / 2 : 1))
    train feedback --user-dir fairseq_feedback --arch feedback_transformer &
    feedback=$!
    train transformer --user-dir fairseq_feedback --arch transformer &
    transformer=$!
    wait "$feedback" || failed=1
    wait "$transformer" || failed=1
    return $failed
}

translate() { # NAME
    logged "$OUT/test-$1.txt" nothing fairseq-generate "$OUT/data" --user-dir fairseq_feedback \
        --path "$OUT/$1/checkpoint_best.pt" --gen-subset test --beam 5 --batch-size 50 \
        --max-len-a 1.5 --max-len-b 10 --required-batch-size-multiple 1 --remove-bpe
}
translations() {
    local -x OMP_NUM_THREADS=$CORES
    translate feedback
    translate transformer
}

step corpus "1/5  Corpus"
step bpe "2/5  Subword units"
step binarize "3/5  fairseq-preprocess"
step models "4/5  Training a feedback and a standard transformer, $UPDATES updates each"
step translations "5/5  Translating the test set with both"
"$FEEDBACK_PYTHON" "$QUICKSTART/report.py" "$OUT"
