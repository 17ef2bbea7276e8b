# shellcheck shell=bash
# What the recipes' eval.sh share. Each sources this file, says what the paper does, and calls one of
#
#     evaluate_pairs VALID TEST FLAG...   averaging, tuning on valid, decoding and scoring of test, a table
#     evaluate_language_model BLOCK       the loss on valid and test, a table
#
# What is made is kept in the folder eval of the run, and made again when the checkpoint is another one. evaluate.py
# does the work.

# shellcheck source=examples/recipe.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/recipe.sh"

RUN=$FEEDBACK_ROOT/runs/$RECIPE-feedback
DATA=$FEEDBACK_ROOT/data/$RECIPE/bin
CHECKPOINT=
WORKERS=$(getconf _NPROCESSORS_ONLN)
AVERAGE=0      # how many of the last checkpoints of epochs to average; 0: the best checkpoint
LENPENS=1      # length penalties to try on valid
MIN_LENS=      # shortest lengths to try, if any
METRIC=bleu    # what tuning maximizes, see fairseq-feedback tune --help; none for a language model
SCORE_FLAGS=() # further flags of fairseq-feedback score bleu
RAW=           # name of the references that were never tokenized
UNIT=word      # what a token of a language model is
STREAMS=1      # how many streams a language model reads a text in
PAPER=()       # rows of the table: NAME=VALUE

eval_options() {
    FURTHER_HELP="further flags of fairseq-generate"
    MORE_HELP="Writes the table, results.json and all outputs to DIR/eval."
    option --run DIR RUN path "folder of the training run (runs/$RECIPE-feedback)"
    option --data DIR DATA path "folder of binary data (data/$RECIPE/bin)"
    option --checkpoint FILE CHECKPOINT file "this checkpoint, instead of what the recipe would take from the run"
    if [[ $METRIC == none ]]; then
        FURTHER_HELP="further flags of fairseq-eval-lm"
        option --streams N STREAMS number "streams that a feedback model reads the text in; each begins without a past ($STREAMS)"
    else
        option --average N AVERAGE count "average the last N checkpoints of epochs; 0 takes the best one ($AVERAGE)"
        option --lenpen '"X X ..."' LENPENS text "length penalties to try on the validation set ($LENPENS)"
        [[ -z $MIN_LENS ]] || option --min-len '"N N ..."' MIN_LENS text "shortest lengths to try on the validation set ($MIN_LENS)"
        option --workers N WORKERS number "processes that score (one for each core)"
    fi
    read_options "$@"
    [[ -d $DATA ]] || feedback_die "--data $DATA is missing: run bash examples/$RECIPE/prepare.sh first"
    [[ -d $RUN ]] || feedback_die "--run $RUN is missing: run bash examples/$RECIPE/train.sh first"
    mkdir -p -- "$RUN/eval" || feedback_die "--run $RUN: cannot write there"
    feedback_environment sacrebleu sacremoses rouge_score
}

evaluate() { # pairs or text, FLAG...
    local row rows=()
    for row in "${PAPER[@]}"; do
        rows+=(--paper "$row")
    done
    example evaluate.py "$@" --recipe "$RECIPE" --run "$RUN" ${CHECKPOINT:+--checkpoint "$CHECKPOINT"} "${rows[@]}" \
        -- "${FURTHER[@]}"
}

# VALID and TEST are names of references, FLAGs are for fairseq-generate.
evaluate_pairs() { # VALID TEST FLAG...
    local valid=$1 test=$2
    shift 2
    FURTHER=("$@" "${FURTHER[@]}")
    # shellcheck disable=SC2086  # lists of numbers
    evaluate pairs "$DATA" --valid-references "$valid" --test-references "$test" --average "$AVERAGE" --metric "$METRIC" \
        --lenpen $LENPENS ${MIN_LENS:+--min-len $MIN_LENS} --workers "$WORKERS" ${RAW:+--raw-references "$RAW"} "${SCORE_FLAGS[@]}"
}

# BLOCK: tokens of a block, which change the speed but not the result of a model with memory.
evaluate_language_model() { # BLOCK
    evaluate text "$DATA" --unit "$UNIT" --block "$1" --streams "$STREAMS"
}
