#!/usr/bin/env bash
# Usage: bash scripts/quickstart.sh [OPTION...]
#
# From nothing to a BLEU: a feedback transformer beside a standard one, on a corpus made here.
#
# Makes the environment if needed. Then makes a small English-German corpus, trains a feedback transformer and a standard
# one of the same size (3 decoder layers each), translates the test set with both, and prints a table. 3 to 9 minutes on
# 2 cores. A run that was stopped goes on where it was; a finished one prints its table again.
set -euo pipefail

# shellcheck source=examples/quickstart/steps.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../examples/quickstart/steps.sh"

OUT=quickstart-run
UPDATES=700
TOKENS=1250
WARMUP=200
set_up "$@"
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

data
step models "4/5  Training a feedback and a standard transformer, $UPDATES updates each"
step translations "5/5  Translating the test set with both"
example quickstart/report.py "$OUT"
curves
