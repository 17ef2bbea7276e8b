#!/usr/bin/env bash
# Usage: bash examples/wikitext103/prepare.sh [OPTION...]
#
# WikiText-103, a language model of words. The archive is wikitext-103-v1.zip, which is tokenized and has its rare words
# replaced; not the one with -raw in its name.
set -euo pipefail

# shellcheck source=examples/preparing.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../preparing.sh"

URLS=(
    https://wikitext.smerity.com/wikitext-103-v1.zip
    http://wikitext.smerity.com/wikitext-103-v1.zip
)

# Words stay as they are. Empty lines count: each is an end of line to predict.
text() {
    local split
    archive wikitext-103-v1.zip "${URLS[@]}"
    tool archive.py take "$ARCHIVE" --to "$PART/archive" wikitext-103/wiki.{train,valid,test}.tokens
    for split in train valid test; do
        tool lines.py --keep-spaces <"$PART/archive/wiki.$split.tokens" >"$PART/$split"
        expect_lines "$split" "$PART/$split"
    done
    rm -r -- "$PART/archive"
}

bin() {
    binarize text --only-source
}

prepare_options "$@"
stage text
stage bin
prepare_end
