#!/usr/bin/env bash
# Usage: bash examples/char_ptb/prepare.sh [OPTION...]
#
# The Penn Treebank as characters, in Mikolov's version: "_" is a space. The archive is simple-examples.tgz.
set -euo pipefail

# shellcheck source=examples/preparing.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../preparing.sh"

URLS=(
    http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz
    https://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz
)

text() {
    local split
    archive simple-examples.tgz "${URLS[@]}"
    tool archive.py take "$ARCHIVE" --to "$PART/archive" data/ptb.char.{train,valid,test}.txt
    for split in train valid test; do
        tool lines.py <"$PART/archive/ptb.char.$split.txt" >"$PART/$split"
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
