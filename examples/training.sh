# shellcheck shell=bash
# What the recipes' train.sh share. Each sources this file, says what the paper does, and calls train:
#
#     KINDS=(feedback transformer)    what --arch can be
#     UNIT=tokens PER_UPDATE=4096     what one update sees, over all GPUs: tokens, or streams of text
#     PER_GPU=4096 UPDATES=50000      what one GPU takes at once; updates
#     train_options "$@"              sets KIND
#     train FLAG...                   fairseq-train with these flags
#
# The number of units in an update stays the same for any number of GPUs: --update-freq makes up for it.

# shellcheck source=examples/recipe.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/recipe.sh"

KINDS=(feedback transformer)
KIND=feedback
DATA=$FEEDBACK_ROOT/data/$RECIPE/bin
OUT=
UNIT=tokens
GPUS=
NODES=1
NODE_RANK=0
MASTER=
DRY_RUN=
FINETUNE_UPDATES=0
FINETUNE_FLAGS=()
OPTIONS=() # flags of fairseq-train that the user gave

train_help() {
    print_head_comment
    cat <<HELP

  --arch KIND           $(joined ' or ' "${KINDS[@]}") (feedback)
  --decoder-layers N    depth of the decoder, instead of the paper's
  --data DIR            folder of binary data (data/$RECIPE/bin)
  --out DIR             where checkpoints and logs are written (runs/$RECIPE-KIND)
  --max-update N        updates ($UPDATES)
HELP
    ((FINETUNE_UPDATES == 0)) || cat <<HELP
  --finetune-update N   further ones with a tenth of the learning rate, after the others ($FINETUNE_UPDATES); 0 for none
HELP
    cat <<HELP
  --gpus N              GPUs of this machine (all; without one, the CPU)
  --per-gpu N           $UNIT that a GPU takes at once ($PER_GPU); less needs less memory
  --nodes N --node-rank R --master HOST:PORT
                        one of several machines; start the same command on each, with its own rank from 0
  --fp16, --bf16        mixed precision
  --tensorboard         write what tensorboard shows
  --dry-run             print the commands, run nothing
  -- FLAG...            further flags of fairseq-train; they come last, so they win

One update sees $PER_UPDATE $UNIT, for any number of GPUs. A run that was stopped goes on where it was.

HELP
    feedback_environment_help
}

joined() { # SEPARATOR WORD...
    local separator=$1 first=$2
    shift 2
    printf '%s' "$first" "${@/#/$separator}"
}

train_options() {
    local value=
    while (($#)); do
        case $1 in
            -h | --help) train_help && exit ;;
            --fp16 | --bf16) OPTIONS+=("$1") && shift && continue ;;
            --tensorboard) TENSORBOARD=yes && shift && continue ;;
            --dry-run) DRY_RUN=yes && shift && continue ;;
            --) shift && break ;;
            --finetune-update) ((FINETUNE_UPDATES > 0)) || bad_option "$1" ;;&
            --arch | --decoder-layers | --data | --out | --max-update | --finetune-update | --gpus | --per-gpu | --nodes | --node-rank | --master)
                value=$(value_of "$@") || exit
                ;;&
            --arch) KIND=$value ;;
            --decoder-layers) positive_number "$1" "$value" && OPTIONS+=("$1" "$value") ;;
            --data) DATA=$(readlink -m -- "$value") ;;
            --out) OUT=$(readlink -m -- "$value") ;;
            --max-update) positive_number "$1" "$value" && UPDATES=$value ;;
            --finetune-update) [[ $value == 0 ]] || positive_number "$1" "$value" && FINETUNE_UPDATES=$value ;;
            --gpus) [[ $value == 0 ]] || positive_number "$1" "$value" && GPUS=$value ;;
            --per-gpu) positive_number "$1" "$value" && PER_GPU=$value ;;
            --nodes) positive_number "$1" "$value" && NODES=$value ;;
            --node-rank) [[ $value =~ ^[0-9]+$ ]] || feedback_die "$1 $value: give a number from 0" && NODE_RANK=$value ;;
            --master) [[ $value == *:* ]] || feedback_die "$1 $value: give HOST:PORT" && MASTER=$value ;;
            *) bad_option "$1" ;;
        esac
        shift 2
    done
    FURTHER=("$@")
    [[ " ${KINDS[*]} " == *" $KIND "* ]] || feedback_die "--arch $KIND: give $(joined ' or ' "${KINDS[@]}")"
    ((NODE_RANK < NODES)) || feedback_die "--node-rank $NODE_RANK: with --nodes $NODES, give a number below $NODES"
    ((NODES == 1)) || [[ -n $MASTER ]] || feedback_die "--nodes $NODES needs --master HOST:PORT, an address of the machine with rank 0"
    OUT=${OUT:-$FEEDBACK_ROOT/runs/$RECIPE-$KIND}
    GPUS=${GPUS:-$(count_gpus)}
}

count_gpus() {
    if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
        tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c '[0-9]' || true
    else
        { nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU' || true
    fi
}

# Sets BATCH and UPDATE_FREQ: workers × BATCH × UPDATE_FREQ is PER_UPDATE, with BATCH at most PER_GPU. Streams must come
# out even. Of tokens, a few may be lost, but no more than one for each part.
plan_batches() {
    local workers=$(((GPUS > 0 ? GPUS : 1) * NODES))
    ((PER_UPDATE >= workers)) || feedback_die "one update has $PER_UPDATE $UNIT, too few for $workers GPUs"
    UPDATE_FREQ=$(((PER_UPDATE + workers * PER_GPU - 1) / (workers * PER_GPU)))
    if [[ $UNIT == streams ]]; then
        while ((UPDATE_FREQ * workers < PER_UPDATE && PER_UPDATE % (UPDATE_FREQ * workers) != 0)); do
            UPDATE_FREQ=$((UPDATE_FREQ + 1))
        done
        ((PER_UPDATE % (UPDATE_FREQ * workers) == 0)) ||
            feedback_die "$PER_UPDATE streams cannot be divided evenly over $workers GPUs: give another --gpus"
    fi
    BATCH=$((PER_UPDATE / (workers * UPDATE_FREQ)))
    feedback_say "one update: $((workers * BATCH * UPDATE_FREQ)) $UNIT =" \
        "$workers $( ((GPUS > 0)) && echo GPUs || echo CPU) × $BATCH × --update-freq $UPDATE_FREQ"
}

# Sets LAUNCH: what fairseq-train is started by.
plan_launch() {
    local program=fairseq-train
    LAUNCH=(fairseq-train)
    if ((NODES > 1)); then
        [[ -n $DRY_RUN ]] || program=$(command -v fairseq-train)
        LAUNCH=(torchrun --nnodes "$NODES" --node-rank "$NODE_RANK" --nproc-per-node "$((GPUS > 0 ? GPUS : 1))"
            --master-addr "${MASTER%:*}" --master-port "${MASTER##*:}" "$program")
    fi
}

train() { # FLAG...
    local checkpoints=$OUT/checkpoints
    if [[ -z $DRY_RUN ]]; then
        [[ -d $DATA ]] || feedback_die "--data $DATA is missing: run bash examples/$RECIPE/prepare.sh first"
        mkdir -p -- "$OUT" || feedback_die "--out $OUT cannot be made"
        [[ $(cat -- "$OUT/kind" 2>/dev/null || echo "$KIND") == "$KIND" ]] ||
            feedback_die "--out $OUT has a run of $(<"$OUT/kind"): give another folder"
        printf '%s\n' "$KIND" >"$OUT/kind"
        feedback_environment torch
    fi
    plan_batches
    plan_launch
    local flags=("$DATA" --user-dir "$FEEDBACK_ROOT/fairseq_feedback" --seed 1 --update-freq "$UPDATE_FREQ"
        --distributed-world-size "$(((GPUS > 0 ? GPUS : 1) * NODES))" --log-format simple --log-interval 100)
    [[ $UNIT == tokens ]] && flags+=(--max-tokens "$BATCH") || flags+=(--batch-size "$BATCH")
    ((GPUS > 0)) || flags+=(--cpu)
    [[ -z ${TENSORBOARD:-} ]] || flags+=(--tensorboard-logdir "$OUT/tensorboard")
    fairseq_train train "${flags[@]}" "$@" --save-dir "$checkpoints" --max-update "$UPDATES" "${OPTIONS[@]}" "${FURTHER[@]}"
    if ((FINETUNE_UPDATES > 0)); then
        checkpoints=$OUT/finetuned
        fairseq_train finetune "${flags[@]}" "$@" --save-dir "$checkpoints" --finetune-from-model "$OUT/checkpoints/checkpoint_best.pt" \
            "${FINETUNE_FLAGS[@]}" --max-update "$FINETUNE_UPDATES" "${OPTIONS[@]}" "${FURTHER[@]}"
    fi
    [[ -n $DRY_RUN ]] || echo "Trained: $checkpoints. Next: bash examples/$RECIPE/eval.sh --run ${OUT#"$FEEDBACK_ROOT"/}"
}

# A run that came to its end is not begun again: fairseq would make one more update.
fairseq_train() { # NAME FLAG...
    local name=$1
    shift
    if [[ -z $DRY_RUN && $(cat -- "$OUT/$name.done" 2>/dev/null) == "$*" ]]; then
        feedback_say "$name: done before"
        return
    fi
    if [[ -n $DRY_RUN ]]; then
        printf '%q ' "${LAUNCH[@]}" "$@"
        echo
        return
    fi
    logged "$OUT/$name.log" "progress $name" "${LAUNCH[@]}" "$@"
    printf '%s\n' "$*" >"$OUT/$name.done"
}

# Flags that the encoder-decoder recipes share: those of Vaswani et al. (2017), which the paper does not repeat.
# shellcheck disable=SC2034  # these four are for the recipes
PAIRS=(--task translation --criterion label_smoothed_cross_entropy --label-smoothing 0.1
    --optimizer adam --adam-betas '(0.9, 0.98)' --lr-scheduler inverse_sqrt --warmup-updates 4000
    --keep-last-epochs 10)

# Flags of the language models. The paper does not say how the learning rate goes after the warm-up: it stays.
# shellcheck disable=SC2034
LANGUAGE_MODEL=(--optimizer adam --lr-scheduler fixed --no-epoch-checkpoints
    --save-interval-updates 2000 --keep-interval-updates 1 --validate-interval-updates 2000)
# shellcheck disable=SC2034
STREAMS=(--task feedback_lm --criterion feedback_lm_loss --batch-size-valid 8)
# shellcheck disable=SC2034
BLOCKS=(--task language_modeling --sample-break-mode none --required-batch-size-multiple 1)
