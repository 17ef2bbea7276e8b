"""fairseq-preprocess, its output in a log, with words done and the time left.

python examples/prepare/binarize.py LOG fairseq-preprocess --trainpref train --validpref valid --testpref test …
"""

import argparse
import glob
import os
import subprocess
import sys
from contextlib import suppress

from lines import read

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import Parser, run
from fairseq_feedback.tools.progress import Progress

MANY = 65_500  # words from which fairseq writes four bytes for each, and not two


def main():
    parser = Parser(__doc__)
    parser.add_argument("log", metavar="LOG", help="a file for the output")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND …", help="with --destdir and the prefixes"
    )
    args = parser.parse_args()
    flags = dict(zip(args.command, args.command[1:]))
    for name in ("--destdir", "--trainpref", "--validpref", "--testpref"):
        if name not in flags:
            raise FeedbackError(f"{name}: give it to fairseq-preprocess")
    sides = [flags[name] for name in ("--source-lang", "--target-lang") if name in flags]
    prefixes = [flags[f"--{split}pref"] for split in ("train", "valid", "test")]
    texts = [f"{prefix}.{side}" for prefix in prefixes for side in sides] or prefixes
    progress, done = Progress(0, sum(map(count_words, texts)), "words"), 0
    with open(args.log, "w", encoding="utf-8") as f:
        process = subprocess.Popen(args.command, stdout=f, stderr=subprocess.STDOUT)
    while is_running(process):
        written = min(count_written(glob.escape(flags["--destdir"])), progress.total)
        if written > done:  # dictionaries come first
            progress.add(written - done)
            done = written
    progress.end()
    if process.returncode:
        with open(args.log, encoding="utf-8", errors="replace") as f:
            sys.stderr.writelines(f.readlines()[-20:])
        raise FeedbackError(f"fairseq-preprocess failed. Its whole output is in {args.log}")


def is_running(process):
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
    return process.returncode is None


def count_words(path):
    """With the end of each line."""
    return sum(len(line.split()) + 1 for line in read(path))


def count_written(folder):
    words = max(map(count_lines, glob.glob(os.path.join(folder, "dict*.txt"))), default=0)
    return sum(map(size, glob.glob(os.path.join(folder, "*.bin")))) // (2 if words < MANY else 4)


def count_lines(path):
    with open(path, "rb") as f:
        return sum(1 for _ in f)


def size(path):
    try:
        return os.path.getsize(path)
    except FileNotFoundError:  # a part that was joined
        return 0


if __name__ == "__main__":
    run(main)
