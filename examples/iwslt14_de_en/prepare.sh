#!/usr/bin/env bash
# Usage: bash examples/iwslt14_de_en/prepare.sh [OPTION...]
#
# IWSLT14 German to English, as fairseq's own recipe prepares it: lower case, joint BPE of 10,000 merges, every 23rd
# training pair for validation. The archive is de-en.tgz.
set -euo pipefail

# shellcheck source=examples/preparing.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../preparing.sh"

SUBWORDS_SIZE=10000
URLS=(
    https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz
    http://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz
)
TESTS=(IWSLT14.TED.dev2010 IWSLT14.TEDX.dev2012 IWSLT14.TED.tst2010 IWSLT14.TED.tst2011 IWSLT14.TED.tst2012)

# The sentences, still as people wrote them.
raw() {
    local side files
    archive de-en.tgz "${URLS[@]}"
    files=("${TESTS[@]/%/.de-en.de.xml}" "${TESTS[@]/%/.de-en.en.xml}" train.tags.de-en.de train.tags.de-en.en)
    tool archive.py take "$ARCHIVE" --to "$PART/archive" "${files[@]/#/de-en/}"
    for side in de en; do
        tool markup.py tags "$PART/archive/train.tags.de-en.$side" >"$PART/train.$side"
        files=("${TESTS[@]/%/.de-en.$side.xml}")
        tool markup.py segments --straight-apostrophes "${files[@]/#/$PART/archive/}" >"$PART/test.$side"
    done
    rm -r -- "$PART/archive"
    same_lines "$PART/train.de" "$PART/train.en"
    expect_lines test "$PART/test.de" "$PART/test.en"
}

tokens() {
    local side split
    for side in de en; do
        for split in train test; do
            tool moses.py --language "$side" --lowercase --workers "$WORKERS" \
                <"$OUT/raw/$split.$side" >"$PART/$split.$side"
        done
    done
}

clean() {
    local side
    tool pairs.py --min 1 --max 175 --ratio 1.5 "$OUT/tokens/train.de" "$OUT/tokens/train.en" "$PART/all.de" "$PART/all.en"
    for side in de en; do
        awk 'NR % 23 != 0' "$PART/all.$side" >"$PART/train.$side"
        awk 'NR % 23 == 0' "$PART/all.$side" >"$PART/valid.$side"
        cp -- "$OUT/tokens/test.$side" "$PART/"
        rm -- "$PART/all.$side"
        expect_lines train "$PART/train.$side"
        expect_lines valid "$PART/valid.$side"
    done
}

bpe() {
    subword_units clean de en
}

bin() {
    binarize bpe --source-lang de --target-lang en
    references clean/valid.en clean/test.en raw/test.en
}

prepare_options "$@"
stage raw
stage tokens
stage clean
stage bpe
stage bin
prepare_end
