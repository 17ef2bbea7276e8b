#!/usr/bin/env bash
# Usage: bash examples/multi30k_en_de/prepare.sh [OPTION...]
#
# Multi30k, task 1, English to German: captions of pictures, in lower case, with joint BPE of 10,000 merges. The test set
# is that of 2016. The archives are train, val and test_2016_flickr, each with .en.gz and .de.gz.
set -euo pipefail

# shellcheck source=examples/preparing.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../preparing.sh"

SUBWORDS_SIZE=10000
FROM=(
    https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw
    https://cdn.jsdelivr.net/gh/multi30k/dataset@master/data/task1/raw
)
SPLITS=(train=train valid=val test=test_2016_flickr)

# The sentences, still as people wrote them.
raw() {
    local side split name
    for split in "${SPLITS[@]}"; do
        for side in en de; do
            name=${split#*=}.$side.gz
            archive "$name" "${FROM[@]/%//$name}"
            gzip -dc -- "$ARCHIVE" >"$PART/${split%=*}.$side"
            expect_lines "${split%=*}" "$PART/${split%=*}.$side"
        done
    done
}

tokens() {
    local side split
    for side in en de; do
        for split in "${SPLITS[@]%=*}"; do
            tool moses.py --language "$side" --lowercase --workers "$WORKERS" \
                <"$OUT/raw/$split.$side" >"$PART/$split.$side"
            expect_lines "$split" "$PART/$split.$side"
        done
    done
}

bpe() {
    subword_units tokens en de
}

bin() {
    binarize bpe --source-lang en --target-lang de --joined-dictionary
    references tokens/valid.de tokens/test.de raw/test.de
}

prepare_options "$@"
stage raw
stage tokens
stage bpe
stage bin
prepare_end
