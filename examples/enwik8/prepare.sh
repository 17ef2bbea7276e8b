#!/usr/bin/env bash
# Usage: bash examples/enwik8/prepare.sh [OPTION...]
#
# enwik8, a language model of bytes: the first 100,000,000 bytes of a dump of Wikipedia, 90 % for training, 5 % for
# validation, 5 % as test set. The archive is enwik8.zip.
set -euo pipefail

# shellcheck source=examples/preparing.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../preparing.sh"

URLS=(
    http://mattmahoney.net/dc/enwik8.zip
    https://mattmahoney.net/dc/enwik8.zip
)

# Every byte as a symbol; a line feed is the end of a line.
symbols() {
    local bytes
    archive enwik8.zip "${URLS[@]}"
    tool archive.py take "$ARCHIVE" --to "$PART" enwik8
    bytes=$(stat -c %s -- "$PART/enwik8")
    expect bytes "$bytes"
    tool symbols.py "$PART/enwik8" --from 0 --to $((bytes * 90 / 100)) >"$PART/train"
    tool symbols.py "$PART/enwik8" --from $((bytes * 90 / 100)) --to $((bytes * 95 / 100)) >"$PART/valid"
    tool symbols.py "$PART/enwik8" --from $((bytes * 95 / 100)) --to "$bytes" >"$PART/test"
    rm -- "$PART/enwik8"
}

bin() {
    binarize symbols --only-source
}

prepare_options "$@"
stage symbols
stage bin
prepare_end
