"""Compare what a preparation has made with what is expected of it.

    python examples/prepare/expected.py expected.txt count valid 7283
    python examples/prepare/expected.py expected.txt lines valid clean/valid.de clean/valid.en
    python examples/prepare/expected.py expected.txt archive de-en.tgz downloads/de-en.tgz
    python examples/prepare/expected.py expected.txt preprocessed preprocess.log --summary summary.txt

examples/iwslt14_de_en/expected.txt tells the format of the first file. archive: its checksum; without one, it is read
to its end. preprocessed: the counts that fairseq-preprocess has printed, sentences (train), types (dict.de), and for
language models tokens with ends of lines (train.tokens); --summary keeps these lines. A count that is not the expected
one is an error.
"""

import hashlib
import os
import re
import sys

import archive

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import read_lines, whole
from fairseq_feedback.tools.program import Parser, run

LINE = r"fairseq_cli\.preprocess(?: \| |:)(\[(\S*)\] "
DICTIONARY = re.compile(LINE + r"Dictionary: (\d+) types)")
SENTENCES = re.compile(LINE + r").*/([^/ ]+)(: (\d+) sents, (\d+) tokens.*)")


def main():
    parser = Parser(__doc__)
    parser.add_argument("expected", metavar="EXPECTED", help="the file of counts")
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    action = actions.add_parser("count", description="A number.")
    action.add_argument("name")
    action.add_argument("number", type=int)
    action = actions.add_parser("lines", description="The lines of files, in each as many as expected.")
    action.add_argument("name")
    action.add_argument("files", nargs="+", metavar="FILE")
    action = actions.add_parser("archive", description="An archive.")
    action.add_argument("name")
    action.add_argument("file", metavar="FILE")
    action = actions.add_parser("preprocessed", description="What fairseq-preprocess has printed.")
    action.add_argument("log", metavar="LOG")
    action.add_argument("--summary", required=True, metavar="FILE", help="where to keep its counts")
    args = parser.parse_args()
    table = Expected(args.expected)
    if args.action == "count":
        table.compare(args.name, args.number)
    elif args.action == "lines":
        for path in args.files:
            table.compare(args.name, count_lines(path))
    elif args.action == "archive":
        check_archive(args.file, table.rows.get(args.name, []))
    else:
        preprocessed(table, read_lines(args.log), args)


class Expected:
    def __init__(self, path):
        self.path = path
        lines = (line.split() for line in read_lines(path))
        self.rows = {words[0]: words[1:] for words in reversed(list(lines)) if words}  # the first of a name counts

    def compare(self, name, found):
        wanted, *rest = self.rows.get(name, [""])
        if wanted == "unknown":
            return say(f"{name}: {found}")
        if not wanted.isdigit():
            raise FeedbackError(f"{self.path} has no count for {name}. This data has {found}.")
        difference, within = abs(int(wanted) - found), 0
        if rest[:1] == ["within"]:
            within = int(wanted) * float(rest[1].rstrip("%")) / 100
        if difference == 0:
            say(f"{name}: {found}, as expected")
        elif rest == ["remembered"] or difference <= within:
            known = "The difference is small, or the number is not certain: going on."
            say(f"{name}: expected {wanted}, found {found}. {known}")
        else:
            raise FeedbackError(
                f"{name}: expected {' '.join([wanted, *rest])}, found {found}. Either the data is not what this recipe "
                "is for, or part of it is missing. For other data of your own, give its counts by --expected."
            )


def say(text):
    print("==", text, file=sys.stderr, flush=True)


def count_lines(path):
    with open(path, "rb") as f:
        return sum(block.count(b"\n") for block in iter(lambda: f.read(archive.BLOCK), b""))


def check_archive(path, row):
    if row[:1] == ["md5"]:
        with open(path, "rb") as f:
            found = hashlib.file_digest(f, "md5").hexdigest()
        if found != row[1]:
            size = os.path.getsize(path)
            raise FeedbackError(
                f"{path} is not the right file, or is cut short: expected md5 {row[1]}, found {found}, {size} bytes"
            )
    elif path.removesuffix(".part").endswith((".tgz", ".zip")):
        archive.with_sentences(path, archive.test)
    elif os.path.getsize(path) == 0:
        raise FeedbackError(f"{path} is empty")


def preprocessed(table, log, args):
    summary, counts = [], []
    for line in log:
        if found := DICTIONARY.search(line):
            text, language, types = found.groups()
            counts.append((name_of("dict", language), int(types)))
        elif found := SENTENCES.search(line):
            start, language, file, end, sentences, tokens = found.groups()
            text = start + file + end
            split = file.partition(".")[0]
            counts.append((split, int(sentences)))
            if language == "None":
                counts.append((f"{split}.tokens", int(tokens)))
        else:
            continue
        if text not in summary:
            summary.append(text)
    if sum(" sents, " in text for text in summary) < 3:
        raise FeedbackError(f"fairseq-preprocess did not print its counts. See {args.log}")
    with whole(args.summary) as f:
        f.writelines(text + "\n" for text in summary)
    for name, count in dict.fromkeys(counts):
        table.compare(name, count)


def name_of(what, language):
    return what if language == "None" else f"{what}.{language}"


if __name__ == "__main__":
    run(main)
