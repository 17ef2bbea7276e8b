#!/usr/bin/env bash
# A feedback transformer and a standard one of the same size on Tiny Shakespeare, characters.
set -euo pipefail

HERE=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/environment.sh
source "$HERE/../../scripts/environment.sh"
# shellcheck source=examples/common.sh
source "$HERE/../common.sh"

OUT=tiny-shakespeare-run
DATA=
UPDATES=1000
EXPECT=1115394

usage() {
    cat <<'HELP'
Usage: bash examples/tiny_shakespeare/train.sh [--data FILE] [--out FOLDER] [--updates N]

Makes the environment if needed. Then prepares the text, trains a feedback transformer and a standard one with as
many parameters, and ends with a table: bits per character of validation and test text, and a sample of each model.
At most 30 minutes on 2 cores. A run that was stopped goes on where it was.

  --data FILE    the text, input.txt of char-rnn    (downloaded)
  --out FOLDER   where everything is written        (tiny-shakespeare-run, in the repository)
  --updates N    training updates of each model     (1000)
  --expect N     characters that the text must have (1115394)

HELP
    feedback_environment_help
}

while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --data) DATA=$(readlink -f -- "${2:?--data needs a file}") && shift 2 ;;
        --out) OUT=${2:?--out needs a folder} && shift 2 ;;
        --updates) UPDATES=${2:?--updates needs a number} && shift 2 ;;
        --expect) EXPECT=${2:?--expect needs a number} && shift 2 ;;
        *) feedback_die "unknown option $1. See: bash examples/tiny_shakespeare/train.sh --help" ;;
    esac
done
[[ $UPDATES =~ ^[1-9][0-9]*$ ]] || feedback_die "--updates $UPDATES: give a positive number"
[[ -z $DATA || -f $DATA ]] || feedback_die "--data $DATA: there is no such file"

feedback_environment sacrebleu
cd -- "$FEEDBACK_ROOT"
EXAMPLE=examples/tiny_shakespeare
begin_run "$(code_state "$EXAMPLE/train.sh" "$EXAMPLE/corpus.py") $UPDATES $EXPECT $DATA"

prepare() {
    logged "$OUT/corpus.log" cat "$FEEDBACK_PYTHON" "$EXAMPLE/corpus.py" ${DATA:+--data "$DATA"} \
        --out "$OUT/text" --expect "$EXPECT"
    rm -rf -- "$OUT/data"
    logged "$OUT/preprocess.log" nothing fairseq-preprocess --only-source --destdir "$OUT/data" --workers 1 \
        --trainpref "$OUT/text/train.txt" --validpref "$OUT/text/valid.txt" --testpref "$OUT/text/test.txt"
}

# As many parameters: the standard transformer has keys and values in each layer, so a narrower FFN.
declare -A MODEL=(
    [feedback]="--arch feedback_transformer_lm_shakespeare"
    [transformer]="--arch transformer_lm --decoder-layers 3 --decoder-embed-dim 128 --decoder-input-dim 128
        --decoder-output-dim 128 --decoder-attention-heads 4 --decoder-ffn-embed-dim 432
        --dropout 0.1 --attention-dropout 0.1 --activation-dropout 0.1"
)
# Streams with memory for the one; blocks of as many characters as the other's memory has for the other.
declare -A TASK=(
    [feedback]="--task feedback_lm --symbols characters --tokens-per-sample 64 --batch-size 64 --batch-size-valid 16"
    [transformer]="--task language_modeling --tokens-per-sample 128 --batch-size 32 --required-batch-size-multiple 1"
)

train() { # NAME
    local model task
    read -rd '' -a model <<<"${MODEL[$1]}" || true
    read -ra task <<<"${TASK[$1]}"
    logged "$OUT/train-$1.log" "progress $1" fairseq-train "$OUT/data" --user-dir fairseq_feedback \
        "${task[@]}" "${model[@]}" --share-decoder-input-output-embed --criterion cross_entropy \
        --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.5 --seed 1 \
        --lr 4e-3 --lr-scheduler polynomial_decay --warmup-updates 100 --total-num-update "$UPDATES" \
        --max-update "$UPDATES" --save-dir "$OUT/$1" --no-epoch-checkpoints --keep-interval-updates 1 \
        --save-interval-updates 500 --validate-interval-updates 500 --validate-interval 1000 \
        --log-format simple --log-interval 100
}

models() { both train feedback transformer; }

evaluate() { # NAME
    local split flags=(--task feedback_lm --symbols characters --tokens-per-sample 512)
    # Every character of the transformer's sees at least 64 before it, on average 96.
    [[ $1 == feedback ]] || flags=(--task language_modeling --tokens-per-sample 128 --context-window 64 --batch-size 64)
    for split in valid test; do
        logged "$OUT/$split-$1.log" nothing fairseq-eval-lm "$OUT/data" --user-dir fairseq_feedback \
            --path "$OUT/$1/checkpoint_best.pt" --gen-subset "$split" "${flags[@]}"
    done
}

evaluations() { both evaluate feedback transformer; }

sample() { # NAME
    local name=feedback_lm length=400
    [[ $1 == feedback ]] || { name=language_modeling && length=120; } # its positions end
    printf 'ROMEO:⏎\n' | logged "$OUT/sample-$1.txt" nothing fairseq-interactive "$OUT/data" \
        --user-dir fairseq_feedback --path "$OUT/$1/checkpoint_best.pt" --task "$name" --bpe characters \
        --beam 1 --sampling --sampling-topk 10 --temperature 0.8 --min-len "$length" --max-len-b "$length" --seed 1
}

samples() { both sample feedback transformer; }

step prepare "1/4  Text"
step models "2/4  Training a feedback and a standard transformer, $UPDATES updates each"
step evaluations "3/4  Bits per character of validation and test text"
step samples "4/4  Samples"
"$FEEDBACK_PYTHON" "$EXAMPLE/report.py" "$OUT"
