#!/usr/bin/env bash
# Usage: bash scripts/quickstart.sh [OPTION...]
#
# From nothing to a BLEU: a feedback transformer beside a standard one, on a corpus made here.
#
# Makes the environment if needed. Then makes a small English-German corpus, trains a feedback transformer and a standard
# one of the same size (3 decoder layers each), translates the test set with both, and prints a table. About 10 minutes on
# 2 cores. A run that was stopped goes on where it was; a finished one prints its table again.
set -euo pipefail

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../examples/common.sh"
# shellcheck source=examples/quickstart/steps.sh
source "$FEEDBACK_ROOT/examples/quickstart/steps.sh"

OUT=quickstart-run
UPDATES=1000
option --out FOLDER OUT text "where everything is written ($OUT, in the repository)"
option --updates N UPDATES number "training updates of each model ($UPDATES)"
read_options "$@"

feedback_environment sacrebleu subword_nmt matplotlib
cd -- "$FEEDBACK_ROOT"
# What other code, commands or corpus made is of no use: begin again. The report is made anew every time.
begin_run "$(code_state scripts/quickstart.sh examples/common.sh "$QUICKSTART"/{steps.sh,[!r]*.py}) $UPDATES"

train_one() { # NAME
    local arch=transformer
    [[ $1 == transformer ]] || arch=feedback_transformer
    train "$1" "$arch" 3
}
models() { both train_one feedback transformer; }

translations() {
    translate feedback
    translate transformer
}

step corpus "1/5  Corpus"
step bpe "2/5  Subword units"
step binarize "3/5  fairseq-preprocess"
step models "4/5  Training a feedback and a standard transformer, $UPDATES updates each"
step translations "5/5  Translating the test set with both"
example quickstart/report.py "$OUT"
curves
