#!/usr/bin/env bash
# Usage: bash examples/wmt14_en_de/prepare.sh [OPTION...]
#
# WMT14 English to German, trained on the parallel data of WMT16: Europarl v7, Common Crawl and News Commentary v11, with
# newstest2013 for validation and newstest2014 as test set. Joint BPE of 32,000 merges. The archives are
# de-en.tgz (Europarl), training-parallel-commoncrawl.tgz, training-parallel-nc-v11.tgz and dev.tgz.
set -euo pipefail

# shellcheck source=examples/preparing.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../preparing.sh"

SUBWORDS_SIZE=32000
WMT16=data.statmt.org/wmt16/translation-task

# The sentences, still as people wrote them. Training data is Europarl, Common Crawl, News Commentary, in this order.
raw() {
    local side
    archive de-en.tgz {https,http}://www.statmt.org/europarl/v7/de-en.tgz
    tool archive.py take "$ARCHIVE" --to "$PART/1" europarl-v7.de-en.en europarl-v7.de-en.de
    archive training-parallel-commoncrawl.tgz {https,http}://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz
    tool archive.py take "$ARCHIVE" --to "$PART/2" commoncrawl.de-en.en commoncrawl.de-en.de
    archive training-parallel-nc-v11.tgz {https,http}://$WMT16/training-parallel-nc-v11.tgz
    tool archive.py take "$ARCHIVE" --to "$PART/3" news-commentary-v11.de-en.en news-commentary-v11.de-en.de
    archive dev.tgz {https,http}://$WMT16/dev.tgz
    tool archive.py take "$ARCHIVE" --to "$PART/newstest" newstest2013.en newstest2013.de \
        newstest2014-deen-src.de.sgm newstest2014-deen-ref.en.sgm
    same_lines "$PART/1/europarl-v7.de-en.en" "$PART/1/europarl-v7.de-en.de"
    same_lines "$PART/2/commoncrawl.de-en.en" "$PART/2/commoncrawl.de-en.de"
    same_lines "$PART/3/news-commentary-v11.de-en.en" "$PART/3/news-commentary-v11.de-en.de"
    for side in en de; do
        cat -- "$PART"/[123]/*."$side" | tool lines.py >"$PART/train.$side"
        tool lines.py <"$PART/newstest/newstest2013.$side" >"$PART/valid.$side"
        tool markup.py segments "$PART/newstest/"newstest2014-deen-*".$side.sgm" >"$PART/test.$side"
        expect_lines valid "$PART/valid.$side"
        expect_lines test "$PART/test.$side"
    done
    rm -r -- "$PART"/[123] "$PART/newstest"
    same_lines "$PART/train.en" "$PART/train.de"
}

# Without Moses's aggressive splitting of hyphens, so that splitting compounds when scoring means something.
tokens() {
    local side split
    for side in en de; do
        for split in train valid test; do
            tool moses.py --language "$side" --workers "$WORKERS" <"$OUT/raw/$split.$side" >"$PART/$split.$side"
        done
    done
    expect test.de.words "$(wc -w <"$PART/test.de")"
    expect test.de.words.compounds-split "$(feedback split-compounds <"$PART/test.de" | wc -w)"
}

clean() {
    tool pairs.py --min 1 --max 80 "$OUT/tokens/train.en" "$OUT/tokens/train.de" "$PART/train.en" "$PART/train.de"
    expect_lines train "$PART/train.en"
    cp -- "$OUT"/tokens/{valid,test}.{en,de} "$PART/"
}

bpe() {
    subword_units clean en de
}

bin() {
    binarize bpe --source-lang en --target-lang de --joined-dictionary --nwordssrc 32768 --nwordstgt 32768
    references clean/valid.de clean/test.de raw/test.de
}

prepare_options "$@"
stage raw
stage tokens
stage clean
stage bpe
stage bin
prepare_end
