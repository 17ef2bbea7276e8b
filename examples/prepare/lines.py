"""Lines of text: what ends one, and work on many of them by several processes.

    python examples/prepare/lines.py <raw.txt >clean.txt

Only a line feed ends a line. Carriage returns, NULs and the other characters that some program would take for the end
of a line (vertical tab, form feed, U+0085, U+2028, U+2029 and others) become spaces, so that both sides of a parallel
corpus keep equally many lines in every program. Spaces at the ends of a line go, and runs of them become one.
"""

import argparse
import collections
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import Parser, run
from fairseq_feedback.tools.progress import Progress

CHUNK = 2000  # lines that a process takes at once
BREAKS = dict.fromkeys(map(ord, "\0\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), " ")
BOM = "\ufeff"


def clean(line):
    """A line without line breaks in it; neither is there one at its end. Its words have one space between them."""
    return " ".join(line.translate(BREAKS).strip(BOM).split())


def without_breaks(line):
    """A line without line breaks, and otherwise as it is."""
    return line.rstrip("\n").translate(BREAKS)


def read(path):
    """The lines of a file with their line feeds, one after the other, and progress; "-" is standard input."""
    name = "standard input" if path == "-" else path
    try:
        file = 0 if path == "-" else path
        with open(file, encoding="utf-8", newline="\n", closefd=file != 0) as f:
            yield from with_progress(f)
    except FileNotFoundError:
        raise FeedbackError(f"{name} is missing") from None
    except UnicodeDecodeError as error:
        raise FeedbackError(f"{name} is not UTF-8 text: {error.reason}") from None


def with_progress(f):
    megabytes = os.fstat(f.fileno()).st_size >> 20  # of a pipe 0
    progress, done = Progress(0, megabytes, "MB"), 0
    for number, line in enumerate(f):
        if megabytes and number % CHUNK == 0:
            now = os.lseek(f.fileno(), 0, os.SEEK_CUR) >> 20
            progress.add(now - done)
            done = now
        yield line
    progress.end()


def chunks(items, size=CHUNK):
    items = iter(items)
    while True:
        chunk = list(islice(items, size))
        if not chunk:
            return
        yield chunk


def in_processes(function, parts, workers, start=None, arguments=()):
    """function(part) for each of the parts, in their order. Few parts are in memory at a time.

    start(*arguments) is called once in each process.
    """
    if workers == 1:
        if start:
            start(*arguments)
        yield from map(function, parts)
        return
    pending = collections.deque()
    with ProcessPoolExecutor(workers, initializer=start, initargs=arguments) as pool:
        try:
            for part in parts:
                pending.append(pool.submit(function, part))
                if len(pending) >= 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise FeedbackError("a worker process was killed, perhaps for memory: give fewer --workers") from None


def write(lines, out=None):
    (out or stdout()).writelines(line + "\n" for line in lines)


def stdout():
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    return sys.stdout


def positive(text):
    if not (text.isdigit() and text.isascii() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


def add_workers(parser):
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (%(default)s)")


def main():
    parser = Parser(__doc__)
    parser.add_argument("--keep-spaces", action="store_true", help="replace line breaks, and leave spaces as they are")
    args = parser.parse_args()
    write(map(without_breaks if args.keep_spaces else clean, read("-")))


if __name__ == "__main__":
    run(main)
