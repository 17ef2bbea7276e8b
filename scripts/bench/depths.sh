#!/usr/bin/env bash
# Usage: bash scripts/bench/depths.sh [OPTION...]
#
# BLEU and decoding speed by decoder depth, of feedback and standard transformers on the quickstart's corpus.
#
# Trains the quickstart's two models with 1 to 6 decoder layers, translates the test set with each by fairseq-generate (the
# feedback models also in bfloat16 and with 8 bits), and ends with a table and a plot of BLEU against words/s: depths.json,
# depths.md and depths.png in the folder of the run. About 75 minutes on 2 cores, nearly all of it training. A run that was
# stopped goes on where it was; a finished one only translates again, with the code as it then is.
set -euo pipefail

# shellcheck source=examples/quickstart/steps.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../../examples/quickstart/steps.sh"

OUT=depths-run
UPDATES=1500
TOKENS=2500
WARMUP=150
REPEATS=3
option --repeats N REPEATS number "times to translate ($REPEATS)"
set_up "$@"
begin_run "$(cksum "$QUICKSTART"/{steps.sh,[!r]*.py} | cksum) $UPDATES $TOKENS $WARMUP"

train_one() { train "$1" "${1%-*}" "${1##*-}"; } # ARCH-LAYERS
translations() { # MODEL NAME [OPTION]
    local name=$2
    translate "$1" "${@:3}"
    mv -- "$OUT/test-$1.txt" "$OUT/test-$name.$repeat.txt"
}
models() { both train_one "feedback_transformer-$1" "transformer-$1"; }

data
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
