#!/usr/bin/env bash
# BLEU and decoding speed by decoder depth, of feedback and standard transformers on the quickstart's corpus.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../environment.sh"
# shellcheck source=examples/common.sh
source "$FEEDBACK_ROOT/examples/common.sh"
# shellcheck source=examples/quickstart/steps.sh
source "$FEEDBACK_ROOT/examples/quickstart/steps.sh"

OUT=depths-run
UPDATES=1500
REPEATS=3

usage() {
    cat <<'HELP'
Usage: bash scripts/bench/depths.sh [--out FOLDER] [--updates N] [--repeats N]

Trains the quickstart's two models with 1 to 6 decoder layers, translates the test set with each by
fairseq-generate (the feedback models also in bfloat16 and with 8 bits), and ends with a table and a plot
of BLEU against words/s: FOLDER/depths.json, depths.md and depths.png.
About 75 minutes on 2 cores, nearly all of it training. A run that was stopped goes on where it was;
a finished one only translates again, with the code as it then is.

  --out FOLDER   where everything is written   (depths-run, in the repository)
  --updates N    training updates per model    (1500)
  --repeats N    times to translate            (3)

HELP
    feedback_environment_help
}

while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --out) OUT=${2:?--out needs a folder} && shift 2 ;;
        --updates) UPDATES=${2:?--updates needs a number} && shift 2 ;;
        --repeats) REPEATS=${2:?--repeats needs a number} && shift 2 ;;
        *) feedback_die "unknown option $1. See: bash scripts/bench/depths.sh --help" ;;
    esac
done
[[ $UPDATES =~ ^[1-9][0-9]*$ ]] || feedback_die "--updates $UPDATES: give a positive number"
[[ $REPEATS =~ ^[1-9][0-9]*$ ]] || feedback_die "--repeats $REPEATS: give a positive number"

feedback_environment sacrebleu subword_nmt matplotlib
cd -- "$FEEDBACK_ROOT"
begin_run "$(cksum "$QUICKSTART"/{steps.sh,[!r]*.py} | cksum) $UPDATES"

train_one() { train "$1" "${1%-*}" "${1##*-}"; } # ARCH-LAYERS
translations() { # MODEL NAME [OPTION]
    local name=$2
    translate "$1" "${@:3}"
    mv -- "$OUT/test-$1.txt" "$OUT/test-$name.$repeat.txt"
}
models() { both train_one "feedback_transformer-$1" "transformer-$1"; }

step corpus "1/5  Corpus"
step bpe "2/5  Subword units"
step binarize "3/5  fairseq-preprocess"
for layers in 1 2 3 4 5 6; do
    if [[ ! -e $OUT/done-models-$layers ]]; then
        feedback_say "4/5  Training both with $layers decoder layers, $UPDATES updates each"
        models "$layers"
        touch -- "$OUT/done-models-$layers"
    fi
done
rm -f -- "$OUT"/test-*.txt
feedback_say "5/5  Translating the test set, $REPEATS times with each model"
for ((repeat = 1; repeat <= REPEATS; repeat++)); do
    for layers in 1 2 3 4 5 6; do
        for arch in feedback_transformer transformer; do
            translations "$arch-$layers" "$arch-$layers"
        done
        for flag in --bf16 --decode-int8; do
            translations "feedback_transformer-$layers" "feedback_transformer$flag-$layers" "$flag"
        done
    done
done
"$FEEDBACK_PYTHON" scripts/bench/depths.py "$OUT"
