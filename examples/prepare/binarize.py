"""fairseq-preprocess, its output in a log, with words done and the time left.

python examples/prepare/binarize.py LOG fairseq-preprocess --trainpref train --validpref valid --destdir bin …
"""

import glob
import os
import subprocess
import sys
import time

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import run
from fairseq_feedback.tools.progress import Progress

BYTES = 2  # of a word, with fewer than 65,500 different ones


def main():
    log, *command = sys.argv[1:]
    flags = dict(zip(command, command[1:]))
    sides = [flags[name] for name in ("--source-lang", "--target-lang") if name in flags]
    prefixes = [flags[f"--{split}pref"] for split in ("train", "valid", "test")]
    texts = [f"{prefix}.{side}" for prefix in prefixes for side in sides] or prefixes
    progress = Progress(0, sum(map(count_words, texts)), "words")
    with open(log, "w", encoding="utf-8") as f:
        process = subprocess.Popen(command, stdout=f, stderr=subprocess.STDOUT)
    done = 0
    while process.poll() is None:
        time.sleep(0.1)
        written = sum(map(size, glob.glob(os.path.join(glob.escape(flags["--destdir"]), "*.bin")))) // BYTES
        if written > done:  # dictionaries come first
            progress.add(min(written, progress.total) - done)
            done = min(written, progress.total)
    progress.end()
    if process.returncode:
        with open(log, encoding="utf-8", errors="replace") as f:
            sys.stderr.writelines(f.readlines()[-20:])
        raise FeedbackError(f"fairseq-preprocess failed. Its whole output is in {log}")


def count_words(path):
    """With the end of each line."""
    with open(path, encoding="utf-8", newline="\n") as f:
        return sum(len(line.split()) + 1 for line in f)


def size(path):
    try:
        return os.path.getsize(path)
    except FileNotFoundError:  # a part that was joined
        return 0


if __name__ == "__main__":
    run(main)
