"""Write a parallel English-German corpus made up by grammar.py: {train,valid,test}.{en,de}.

    python examples/quickstart/corpus.py --out data/quickstart

The same seed gives the same bytes. No sentence, in either language, occurs twice.
Half of the test sentences hold an (adjective, noun) or (verb, object noun) pair that neither
train nor valid holds (see held_out); the other half hold none. Every word of test is in train.
"""

import argparse
import os
import random
import zlib
from pathlib import Path

import grammar

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import Parser, run

LONGEST = 45  # words with punctuation
TRIES = 30000  # so many useless sentences in a row mean that the grammar cannot fill a split
LARGEST = 1000000


def held_out(pair):
    """The rule: one pair in ten, by its checksum, is kept for test.

    A pair is (kind, word, noun) in English base forms: ("adjective", "old", "dog") for "old dogs"
    and "the dog is old", ("verb", "see", "dog") for "she saw the dog" and "the dog that she sees".
    """
    return zlib.crc32(" ".join(pair).encode("utf-8")) % 10 == 0


def generate(seed, counts):
    """{split: [(English, German, pairs, depth)]} for counts, {split: number}."""
    speaker = grammar.Speaker(random.Random(seed).random)
    seen, known = set(), set()

    def fill(split, count, wanted):
        """count new sentences for which wanted(sentence) holds."""
        found, tries = [], 0
        while len(found) < count:
            english, german = speaker.sentence()
            row = (english, german, frozenset(speaker.pairs), speaker.deepest)
            words = english.split(), german.split()
            keys = {english, german}
            tries += 1
            if tries > TRIES:
                raise FeedbackError(
                    "--%s %d: the grammar finds only %d sentences that fit%s."
                    % (split, count, len(found), "" if split == "train" else "; try a larger --train")
                )
            if max(map(len, words)) > LONGEST or keys & seen or not wanted(row):
                continue
            seen.update(keys)
            found.append(row)
            tries = 0
        return found

    def is_clean(row):
        return not any(held_out(pair) for pair in row[2])

    def is_known(row):
        return vocabulary(row, 0) <= known and vocabulary(row, 1) <= known

    def vocabulary(row, side):
        return {(side, word) for word in row[side].split()}

    splits = {"train": fill("train", counts["train"], is_clean)}
    splits["valid"] = fill("valid", counts["valid"], is_clean)
    for row in splits["train"]:
        known |= vocabulary(row, 0) | vocabulary(row, 1)
    half = counts["test"] // 2
    new = fill("test", half, lambda row: not is_clean(row) and is_known(row))
    old = fill("test", counts["test"] - half, lambda row: is_clean(row) and is_known(row))
    # They take turns, so that every part of the file holds both kinds.
    splits["test"] = [row for both in zip(old, new) for row in both] + old[half:]
    return splits


def write(out, splits):
    """Write all files under temporary names; rename them when all are whole."""
    files = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for split, rows in splits.items():
            for side, language in enumerate(("en", "de")):
                name = "%s.%s" % (split, language)
                temporary = out / (".%s.%d.tmp" % (name, os.getpid()))
                files[temporary] = out / name
                with open(str(temporary), "w", encoding="utf-8", newline="\n") as file:
                    file.writelines(row[side] + "\n" for row in rows)
        for temporary, path in files.items():
            os.replace(str(temporary), str(path))
    except OSError as error:
        raise FeedbackError("--out %s: cannot write there: %s." % (out, error.strerror)) from error
    finally:
        for temporary in files:
            if temporary.exists():
                temporary.unlink()


def summary(splits):
    for split, rows in splits.items():
        print("%s: %d sentences" % (split, len(rows)))
        for side, name in enumerate(("English", "German")):
            words = [row[side].split() for row in rows]
            total = sum(map(len, words))
            print(
                "  %s: %d words (%.1f a sentence, at most %d), %d distinct"
                % (
                    name,
                    total,
                    total / len(rows),
                    max(map(len, words)),
                    len({word for sentence in words for word in sentence}),
                )
            )
    rows = splits["train"]
    deep = [row for row in rows if row[3] == 3][:1]
    for row in [row for row in rows if row not in deep][: 5 - len(deep)] + deep:
        print("\n%s\n%s" % row[:2])


def count(text):
    number = int(text) if text.isdigit() and text.isascii() else 0
    if not 0 < number <= LARGEST:
        raise argparse.ArgumentTypeError("%r is not a number from 1 to %d." % (text, LARGEST))
    return number


def main(arguments=None):
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory for the six files")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    for split, default in (("train", 20000), ("valid", 500), ("test", 500)):
        parser.add_argument(
            "--" + split, type=count, default=default, metavar="COUNT", help="sentences, default: %d" % default
        )
    run(lambda: make(parser.parse_args(arguments)))


def make(options):
    if options.out.exists() and not options.out.is_dir():
        raise FeedbackError("--out %s: this is a file, not a directory." % options.out)
    splits = generate(options.seed, {name: getattr(options, name) for name in ("train", "valid", "test")})
    write(options.out, splits)
    summary(splits)


if __name__ == "__main__":
    main()
