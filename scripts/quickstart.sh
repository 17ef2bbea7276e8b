#!/usr/bin/env bash
# From nothing to a BLEU: a feedback transformer beside a standard one, on a corpus made here.
set -euo pipefail

# shellcheck source=scripts/environment.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/environment.sh"
# shellcheck source=examples/common.sh
source "$FEEDBACK_ROOT/examples/common.sh"
# shellcheck source=examples/quickstart/steps.sh
source "$FEEDBACK_ROOT/examples/quickstart/steps.sh"

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
# What other code, commands or corpus made is of no use: begin again. The report is made anew every time.
begin_run "$(code_state scripts/quickstart.sh examples/common.sh "$QUICKSTART"/{steps.sh,[!r]*.py}) $UPDATES"

train_one() { # NAME
    local arch=transformer
    [[ $1 == transformer ]] || arch=feedback_transformer
    train "$1" "$arch" 1
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
"$FEEDBACK_PYTHON" "$QUICKSTART/report.py" "$OUT"
