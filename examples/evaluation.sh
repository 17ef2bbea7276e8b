# shellcheck shell=bash
# What the recipes' eval.sh share. Each sources this file, says what the paper does, and calls one of
#
#     evaluate_pairs VALID TEST FLAG...   averaging, tuning on valid, decoding and scoring of test, a table
#     evaluate_language_model BLOCK       the loss on valid and test, a table
#
# What is made is kept in the folder eval of the run, and made again when
# the checkpoint is another one.

# shellcheck source=examples/recipe.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/recipe.sh"

DATA=$FEEDBACK_ROOT/data/$RECIPE/bin
RUN=
AVERAGE=0       # how many of the last checkpoints of epochs to average; 0: the best checkpoint
LENPENS=(1)     # length penalties to try on valid
MIN_LENS=()     # shortest lengths to try, if any
MAX_LENS=()     # longest lengths to try, if any
METRIC=bleu     # what tuning maximizes, see scripts/tune_lenpen.py
SCORE_FLAGS=()  # further flags of score_bleu.py
RAW=            # name of the references that were never tokenized
UNIT=word       # what a token of a language model is
PAPER=()        # rows of the table: NAME=VALUE

eval_help() {
    print_head_comment
    cat <<HELP

  --run DIR           folder of the training run (runs/$RECIPE-feedback)
  --data DIR          folder of binary data (data/$RECIPE/bin)
  --checkpoint FILE   this checkpoint, instead of what the recipe would take from the run
HELP
    [[ $METRIC == none ]] || cat <<HELP
  --average N         average the last N checkpoints of epochs; 0 takes the best one ($AVERAGE)
  --lenpen "X X ..."  length penalties to try on the validation set (${LENPENS[*]})
HELP
    [[ -z ${MIN_LENS:-} ]] || cat <<HELP
  --min-len "N N ..." shortest lengths to try on the validation set (${MIN_LENS[*]})
HELP
    cat <<HELP
  --workers N         processes that score (one for each core)
  -- FLAG...          further flags of $([[ $METRIC == none ]] && echo fairseq-eval-lm || echo fairseq-generate)

Writes the table, results.json and all outputs to DIR/eval.

HELP
    feedback_environment_help
}

eval_options() {
    local value=
    CHECKPOINT=
    RUN=$FEEDBACK_ROOT/runs/$RECIPE-feedback
    WORKERS=$(getconf _NPROCESSORS_ONLN)
    while (($#)); do
        case $1 in
            -h | --help) eval_help && exit ;;
            --) shift && break ;;
            --average | --lenpen) [[ $METRIC != none ]] || bad_option "$1" ;;&
            --min-len) [[ -n ${MIN_LENS:-} ]] || bad_option "$1" ;;&
            --run | --data | --checkpoint | --average | --lenpen | --min-len | --workers) value=$(value_of "$@") || exit ;;&
            --run) RUN=$(readlink -m -- "$value") ;;
            --data) DATA=$(readlink -m -- "$value") ;;
            --checkpoint) CHECKPOINT=$(readlink -m -- "$value") ;;
            --average) [[ $value == 0 ]] || positive_number "$1" "$value" && AVERAGE=$value ;;
            --lenpen) read -ra LENPENS <<<"$value" ;;
            --min-len) read -ra MIN_LENS <<<"$value" ;;
            --workers) positive_number "$1" "$value" && WORKERS=$value ;;
            *) bad_option "$1" ;;
        esac
        shift 2
    done
    FURTHER=("$@")
    [[ -d $DATA ]] || feedback_die "--data $DATA is missing: run bash examples/$RECIPE/prepare.sh first"
    [[ -d $RUN ]] || feedback_die "--run $RUN is missing: run bash examples/$RECIPE/train.sh first"
    [[ -z $CHECKPOINT || -f $CHECKPOINT ]] || feedback_die "--checkpoint $CHECKPOINT is missing"
    EVAL=$RUN/eval
    mkdir -p -- "$EVAL" || feedback_die "--run $RUN: cannot write there"
    feedback_environment sacrebleu sacremoses rouge_score
}

# Sets CHECKPOINT: the one that was given, the average of the last ones, the best one of the fine-tuning or the training.
find_checkpoint() {
    local folder=$RUN/checkpoints
    [[ ! -e $RUN/finetuned/checkpoint_best.pt ]] || folder=$RUN/finetuned
    [[ -z $CHECKPOINT ]] || return 0
    if ((AVERAGE == 0)); then
        CHECKPOINT=$folder/checkpoint_best.pt
        [[ -f $CHECKPOINT ]] || feedback_die "$CHECKPOINT is missing: run bash examples/$RECIPE/train.sh first"
        return
    fi
    CHECKPOINT=$EVAL/averaged-$AVERAGE.pt
    if [[ ! -e $CHECKPOINT || -n $(find "$folder" -name 'checkpoint*.pt' -newer "$CHECKPOINT") ]]; then
        script average_checkpoints.py --inputs "$folder" --num-epoch-checkpoints "$AVERAGE" --output "$CHECKPOINT"
    fi
}

# A Python tool of scripts.
script() { # FILE ARGUMENT...
    run "$FEEDBACK_PYTHON" "$FEEDBACK_ROOT/scripts/$1" "${@:2}"
}

# --- encoder-decoder models ---

# Sets BEST to the flags that score best on a subset, and BEST_OUTPUT to what fairseq-generate printed with them.
tune() { # SUBSET REFERENCES FLAG... -- GENERATE-FLAG...
    local subset=$1 references=$2
    shift 2
    script tune_lenpen.py "$DATA" --path "$CHECKPOINT" --out "$EVAL/$subset" --gen-subset "$subset" \
        --references "$DATA/references/$references" --metric "$METRIC" --workers "$WORKERS" "$@" | tee -- "$EVAL/$subset.log"
    read -ra BEST <<<"$(sed -n 's/^best: //p' "$EVAL/$subset.log")"
    BEST_OUTPUT=$("$FEEDBACK_PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1]))["output"])' "$EVAL/$subset/best.json")
}

# VALID and TEST are names of references, FLAGs are for fairseq-generate.
evaluate_pairs() { # VALID TEST FLAG...
    local valid=$1 test=$2 flags remove=subword_nmt
    shift 2
    find_checkpoint
    [[ ! -e $DATA/sentencepiece ]] || remove=sentencepiece
    flags=(--user-dir "$FEEDBACK_ROOT/fairseq_feedback" --beam 5 --remove-bpe "$remove" --required-batch-size-multiple 1
        --max-tokens 4096 "$@" "${FURTHER[@]}")
    BEST=(--lenpen "${LENPENS[0]}")
    if ((${#LENPENS[@]} * (${#MIN_LENS[@]} + 1) * (${#MAX_LENS[@]} + 1) > 1)); then
        feedback_say "Tuning on the validation set"
        tune valid "$valid" --lenpen "${LENPENS[@]}" ${MIN_LENS:+--min-len "${MIN_LENS[@]}"} \
            ${MAX_LENS:+--max-len-b "${MAX_LENS[@]}"} -- "${flags[@]}"
    fi
    feedback_say "Decoding the test set with ${BEST[*]}"
    tune test "$test" "${BEST[@]}" -- "${flags[@]}"
    feedback_say "Scores"
    if [[ $METRIC == rouge* ]]; then
        script score_rouge.py --generated "$BEST_OUTPUT" --references "$DATA/references/$test" \
            --workers "$WORKERS" --json "$EVAL/scores.json"
    else
        script score_bleu.py --generated "$BEST_OUTPUT" --references "$DATA/references/$test" \
            --raw-references "$DATA/references/$RAW" "${SCORE_FLAGS[@]}" --json "$EVAL/scores.json"
    fi
    report --scores "$EVAL/scores.json" --generated "$BEST_OUTPUT" \
        --setting "checkpoint: $([[ $AVERAGE == 0 ]] && echo best || echo "average of the last $AVERAGE epochs")" \
        --setting "beam 5, ${BEST[*]}"
}

# --- language models ---

# BLOCK: tokens of a block, which change the speed but not the result of a model with memory.
evaluate_language_model() { # BLOCK
    local split flags context streams
    find_checkpoint
    if [[ $(cat -- "$RUN/kind" 2>/dev/null) == transformer ]]; then
        flags=(--task language_modeling --tokens-per-sample 512 --context-window 256 --batch-size 16)
        context="context: 256 to 511 ${UNIT}s before each"
    else
        flags=(--task feedback_lm --tokens-per-sample "$1" --batch-size 1)
        context=
    fi
    for split in valid test; do
        logged "$EVAL/$split.log" nothing fairseq-eval-lm "$DATA" --user-dir "$FEEDBACK_ROOT/fairseq_feedback" \
            --path "$CHECKPOINT" --gen-subset "$split" "${flags[@]}" "${FURTHER[@]}"
    done
    if [[ -z $context ]]; then
        streams=$(sed -nE 's/.* tokens in ([0-9,]+) streams .*/\1/p' "$EVAL/test.log" | head -n 1)
        [[ -n $streams ]] || feedback_die "$EVAL/test.log does not tell the number of streams"
        context="context: all before it that the memory holds, the test text read as $streams stream$( ((${streams//,/} == 1)) || echo s)"
    fi
    report --valid "$EVAL/valid.log" --test "$EVAL/test.log" --unit "$UNIT" --setting "$context"
}

# The table: the paper's rows, then ours. Fails if there is no score.
report() { # FLAG...
    local row rows=()
    for row in "${PAPER[@]}"; do
        rows+=(--paper "$row")
    done
    "$FEEDBACK_PYTHON" "$FEEDBACK_EXAMPLES/report.py" --name "${RUN##*/}" --checkpoint "$CHECKPOINT" --json "$EVAL/results.json" \
        "${rows[@]}" "$@" | tee -- "$EVAL/table.txt"
}
