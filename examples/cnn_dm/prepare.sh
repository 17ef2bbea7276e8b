#!/usr/bin/env bash
# Usage: bash examples/cnn_dm/prepare.sh [OPTION...]
#
# CNN-DailyMail, news articles to summaries of several sentences: the first 400 words of an article, joint BPE of 30,000
# merges. The archives are cnn_stories.tgz and dailymail_stories.tgz; the lists all_train.txt, all_val.txt and
# all_test.txt say which story is of which split.
set -euo pipefail

# shellcheck source=examples/preparing.sh
source "$(dirname -- "$(readlink -f -- "$0")")/../preparing.sh"

SUBWORDS_SIZE=30000
SEPARATOR='<S_SEP>' # between the sentences of a summary, never split
DMQA=cs.nyu.edu/~kcho/DMQA
LISTS=raw.githubusercontent.com/abisee/cnn-dailymail/master/url_lists

# All stories in one file, and the lists.
stories() {
    local site split archives=() name count
    for site in cnn dailymail; do
        archive "${site}_stories.tgz" {https,http}://$DMQA/"${site}_stories.tgz"
        archives+=("$ARCHIVE")
    done
    tool stories.py collect "${archives[@]}" --to "$PART" >"$PART/counts"
    while read -r name count; do
        expect "${name%.tgz}" "$count"
    done <"$PART/counts"
    for split in train val test; do
        archive "all_$split.txt" {https,http}://$LISTS/"all_$split.txt"
        tool lines.py <"$ARCHIVE" >"$PART/all_$split.txt"
        expect "all_$split" "$(grep -c . "$PART/all_$split.txt")"
    done
}

# Empty articles are left out of train, and of nothing else.
text() {
    local split list more
    for split in train valid test; do
        list=${split/valid/val}
        more=()
        [[ $split != train ]] || more=(--drop-empty)
        tool stories.py split --stories "$OUT/stories" --urls "$OUT/stories/all_$list.txt" --words 400 "${more[@]}" \
            --workers "$WORKERS" --article "$PART/$split.source" --summary "$PART/$split.target"
        expect_lines "$split" "$PART/$split.source" "$PART/$split.target"
    done
}

bpe() {
    subword_units text source target --keep "$SEPARATOR"
}

bin() {
    binarize bpe --source-lang source --target-lang target --joined-dictionary
    references text/valid.target text/test.target
}

prepare_options "$@"
stage stories
stage text
stage bpe
stage bin
prepare_end
