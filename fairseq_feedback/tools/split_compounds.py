"""Split compounds at hyphens, as the tokenized BLEU of English-German papers wants it.

    fairseq-feedback split-compounds <tokenized.de >split.de

"Zwei-Wege-Verkehr" becomes "Zwei ##AT##-##AT## Wege ##AT##-##AT## Verkehr": a hyphen between two characters that are
not spaces becomes a word of its own. Both hypotheses and references are split. This is the substitution
s{(\\S)-(\\S)}{$1 ##AT##-##AT## $2}g of the protocol, its one oddity included: of two hyphens around a single
character ("a-b-c") only the first is split.

The text must be tokenized, and not by Moses's -a (aggressive) option, which has split the hyphens already, as @-@.
"""

import re
import sys

from fairseq_feedback.errors import FeedbackError

HYPHEN = re.compile(r"(\S)-(\S)")
AGGRESSIVE = "@-@"


def split(line):
    return HYPHEN.sub(r"\1 ##AT##-##AT## \2", line)


def split_all(lines, name):
    """The lines, split. `name` is what to call them in a complaint."""
    for number, line in enumerate(lines, 1):
        if AGGRESSIVE in line.split(" "):
            raise FeedbackError(
                f"{name}, line {number}, has {AGGRESSIVE}: this text was tokenized with the aggressive option, "
                "which has split the hyphens already"
            )
    return [split(line) for line in lines]


def add_arguments(parser):
    pass


def main(args):
    sys.stdin.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    lines = [line.rstrip("\n") for line in sys.stdin]
    sys.stdout.writelines(line + "\n" for line in split_all(lines, "standard input"))
