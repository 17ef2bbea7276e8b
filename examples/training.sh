# shellcheck shell=bash
# What the recipes' train.sh share. Each sources this file, says what the paper does, and calls train:
#
#     KINDS=(feedback transformer)    what --arch can be
#     UNIT=tokens PER_UPDATE=4096     what one update sees, over all GPUs: tokens, or streams of text
#     PER_GPU=4096 UPDATES=50000      what one GPU takes at once; updates
#     EVERY=2000                      updates between validations; 0: validates after each epoch
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
EVERY=0
GPUS=
NODES=1
NODE_RANK=0
MASTER=
DRY_RUN=
LAYERS=
FP16=
BF16=
TENSORBOARD=
LAYERDROP= # set by recipes that leave layers out
FINETUNE_UPDATES=0
FINETUNE_FLAGS=()

train_options() {
    FURTHER_HELP="further flags of fairseq-train; they win over the recipe's"
    MORE_HELP="One update sees $PER_UPDATE $UNIT, for any number of GPUs. A run that was stopped goes on where it was."
    option --arch KIND KIND text "$(joined ' or ' "${KINDS[@]}") ($KIND)"
    option --decoder-layers N LAYERS number "depth of the decoder, instead of the paper's"
    option --data DIR DATA path "folder of binary data (data/$RECIPE/bin)"
    option --out DIR OUT path "where checkpoints and logs are written (runs/$RECIPE-KIND)"
    option --max-update N UPDATES number "updates ($UPDATES)"
    ((FINETUNE_UPDATES == 0)) || option --finetune-update N FINETUNE_UPDATES count \
        "further ones with a tenth of the learning rate ($FINETUNE_UPDATES); 0 for none"
    option --gpus N GPUS count "GPUs of this machine (all; without one, the CPU)"
    option --per-gpu N PER_GPU number "$UNIT that a GPU takes at once ($PER_GPU); less needs less memory"
    option --nodes N NODES number "machines; start the same command on each"
    option --node-rank R NODE_RANK count "which of them this one is, from 0"
    option --master HOST:PORT MASTER text "an address of the machine with rank 0"
    option --fp16 "" FP16 flag "mixed precision"
    option --bf16 "" BF16 flag "mixed precision with the range of float32"
    option --tensorboard "" TENSORBOARD flag "write what tensorboard shows"
    option --dry-run "" DRY_RUN flag "print the commands, run nothing"
    read_options "$@"
    [[ " ${KINDS[*]} " == *" $KIND "* ]] || feedback_die "--arch $KIND: give $(joined ' or ' "${KINDS[@]}")"
    ((NODE_RANK < NODES)) || feedback_die "--node-rank $NODE_RANK: with --nodes $NODES, give a number below $NODES"
    [[ -z $MASTER || $MASTER == *:* ]] || feedback_die "--master $MASTER: give HOST:PORT"
    ((NODES == 1)) || [[ -n $MASTER ]] || feedback_die "--nodes $NODES needs --master HOST:PORT, an address of the machine with rank 0"
    OUT=${OUT:-$FEEDBACK_ROOT/runs/$RECIPE-$KIND}
    GPUS=${GPUS:-$(count_gpus)}
    ((NODES == 1 || GPUS > 0)) || feedback_die "--nodes $NODES: several machines train on GPUs, and this one uses none"
    WORKERS=$(((GPUS > 0 ? GPUS : 1) * NODES))
}

joined() { # SEPARATOR WORD...
    local separator=$1 first=$2
    shift 2
    printf '%s' "$first" "${@/#/$separator}"
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
    ((PER_UPDATE >= WORKERS)) || feedback_die "one update has $PER_UPDATE $UNIT, too few for $WORKERS GPUs"
    UPDATE_FREQ=$(((PER_UPDATE + WORKERS * PER_GPU - 1) / (WORKERS * PER_GPU)))
    if [[ $UNIT == streams ]]; then
        while ((UPDATE_FREQ * WORKERS < PER_UPDATE && PER_UPDATE % (UPDATE_FREQ * WORKERS) != 0)); do
            UPDATE_FREQ=$((UPDATE_FREQ + 1))
        done
        ((PER_UPDATE % (UPDATE_FREQ * WORKERS) == 0)) ||
            feedback_die "$PER_UPDATE streams cannot be divided evenly over $WORKERS GPUs: give another --gpus"
    fi
    BATCH=$((PER_UPDATE / (WORKERS * UPDATE_FREQ)))
    feedback_say "one update: $((WORKERS * BATCH * UPDATE_FREQ)) $UNIT =" \
        "$WORKERS $( ((GPUS > 0)) && echo GPUs || echo CPU) × $BATCH × --update-freq $UPDATE_FREQ"
}

# Sets LAUNCH: what fairseq-train is started by.
plan_launch() {
    local program=fairseq-train
    LAUNCH=(fairseq-train)
    if ((NODES > 1)); then
        [[ -n $DRY_RUN ]] || program=$(command -v fairseq-train)
        LAUNCH=(torchrun --nnodes "$NODES" --node-rank "$NODE_RANK" --nproc-per-node "$GPUS"
            --master-addr "${MASTER%:*}" --master-port "${MASTER##*:}" "$program")
    fi
}

# Sets FLAGS: what every recipe's training has, then the recipe's own, then the user's.
plan_flags() { # FLAG...
    local never=1000000
    FLAGS=("$DATA" --user-dir "$FEEDBACK_ROOT/fairseq_feedback" --seed 1 --update-freq "$UPDATE_FREQ"
        --distributed-world-size "$WORKERS" --log-format simple --log-interval 100)
    [[ $UNIT == tokens ]] && FLAGS+=(--max-tokens "$BATCH") || FLAGS+=(--batch-size "$BATCH")
    ((GPUS > 0)) || FLAGS+=(--cpu)
    [[ -z $TENSORBOARD ]] || FLAGS+=(--tensorboard-logdir "$OUT/tensorboard")
    # An epoch may be a few updates only.
    ((EVERY == 0)) || FLAGS+=(--save-interval-updates "$EVERY" --validate-interval-updates "$EVERY"
        --save-interval "$never" --validate-interval "$never" --no-epoch-checkpoints --keep-interval-updates 1)
    # Some layers have no gradients in an update, and torch would wait for them.
    if ((WORKERS > 1)) && [[ -n $LAYERDROP || " ${FURTHER[*]} " == *"-layerdrop"* ]]; then
        FLAGS+=(--find-unused-parameters)
    fi
    FLAGS+=("$@" --max-update "$UPDATES" ${LAYERS:+--decoder-layers "$LAYERS"} ${FP16:+--fp16} ${BF16:+--bf16} "${FURTHER[@]}")
}

# A tenth of the last learning rate among these flags; of each, where there are several, one for an epoch.
tenth_of_rate() { # FLAG...
    local rate=
    while (($#)); do
        case $1 in
            --lr) rate=${2:-} ;;
            --lr=*) rate=${1#--lr=} ;;
        esac
        shift
    done
    awk -v rates="${rate//[][() ]/}" 'BEGIN {
        for (i = 1; i <= split(rates, rate, ","); i++) printf "%s%.10g", (i > 1 ? "," : ""), rate[i] / 10
    }'
}

train() { # FLAG...
    local folder=$OUT/checkpoints options="$DATA $* $LAYERS ${FURTHER[*]}"
    if [[ -z $DRY_RUN ]]; then
        [[ -d $DATA ]] || feedback_die "--data $DATA is missing: run bash examples/$RECIPE/prepare.sh first"
        mkdir -p -- "$OUT" || feedback_die "--out $OUT cannot be made"
        [[ $(cat -- "$OUT/kind" 2>/dev/null || echo "$KIND") == "$KIND" ]] ||
            feedback_die "--out $OUT has a run of $(<"$OUT/kind"): give another folder"
        ((NODE_RANK > 0)) || hold_out || feedback_die "--out $OUT: another run writes there. Wait for it, or give another folder"
        printf '%s\n' "$KIND" >"$OUT/kind"
        # One that was stopped may go on with another rate; one that is done has nothing left to train.
        [[ ! -e $OUT/train.done || $(cat -- "$OUT/options" 2>/dev/null || echo "$options") == "$options" ]] ||
            feedback_die "--out $OUT has a training with other options: give another folder"
        printf '%s\n' "$options" >"$OUT/options"
        feedback_environment torch
    fi
    plan_batches
    plan_launch
    plan_flags "$@"
    fairseq_train train --save-dir "$folder" "${FLAGS[@]}"
    if ((FINETUNE_UPDATES > 0)); then
        local best=$folder/checkpoint_best.pt
        folder=$OUT/finetuned
        [[ -n $DRY_RUN || ! -e $folder/checkpoint_last.pt || ! $best -nt $folder/checkpoint_last.pt ]] ||
            feedback_die "$folder began with an earlier state of $best: delete or move it, and run this again"
        fairseq_train finetune --save-dir "$folder" "${FLAGS[@]}" --finetune-from-model "$best" \
            --lr "$(tenth_of_rate "${FLAGS[@]}")" --warmup-updates 0 "${FINETUNE_FLAGS[@]}" --max-update "$FINETUNE_UPDATES"
    fi
    [[ -n $DRY_RUN ]] || echo "Trained: $folder. Next: bash examples/$RECIPE/eval.sh --run ${OUT#"$FEEDBACK_ROOT"/}"
}

# A run that came to its end is not begun again; one that was stopped goes on, and so does its log.
fairseq_train() { # NAME --save-dir FOLDER FLAG...
    local name=$1 KEEP_LOG
    keep_log "$3"
    shift
    if [[ -n $DRY_RUN ]]; then
        printf '%q ' "${LAUNCH[@]}" "$@"
        echo
    elif [[ $(cat -- "$OUT/$name.done" 2>/dev/null) == "$*" ]]; then
        feedback_say "$name: done before"
    else
        logged "$OUT/$name.log" "progress $name" "${LAUNCH[@]}" "$@"
        printf '%s\n' "$*" >"$OUT/$name.done"
    fi
}

# Flags that the encoder-decoder recipes share: those of Vaswani et al. (2017), which the paper does not repeat.
# shellcheck disable=SC2034  # these are for the recipes
PAIRS=(--task translation --criterion label_smoothed_cross_entropy --label-smoothing 0.1
    --optimizer adam --adam-betas '(0.9, 0.98)' --lr-scheduler inverse_sqrt --warmup-updates 4000
    --keep-last-epochs 10)

# Flags of the language models. The paper does not say how the learning rate goes after the warm-up: it stays.
# shellcheck disable=SC2034
LANGUAGE_MODEL=(--criterion feedback_lm_loss --optimizer adam --lr-scheduler fixed)
# The paper's own transformer: the same model, but each layer reads its own past, also that of the blocks before.
# shellcheck disable=SC2034
TRANSFORMER=(--memory-composition own --unshared-memory-kv)
# fairseq's, whose blocks begin anew. Pre-norm as the others: the paper's rates are for that.
# shellcheck disable=SC2034
FAIRSEQ_TRANSFORMER=(--task language_modeling --sample-break-mode none --required-batch-size-multiple 1
    --arch transformer_lm --decoder-normalize-before)
