"""The output of fairseq-generate: the hypotheses and references in the order of the data."""

import re

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import read_lines

FINISHED = re.compile(r"Translated [\d,]+ sentences \(([\d,]+) tokens\) in ([\d.]+)s(?: .* ([\d.]+) tokens/s)?")


def read(path, kind, expected=None):
    """The texts of one kind of line, in the order of the data.

    kind: "H" for the best hypothesis as tokens, "D" for it as detokenized, "T" for the reference.
    expected: how many sentences there must be. Without it the numbers must at least have no gap.
    """
    found, lines = {}, read_lines(path)
    if sum(map(bool, map(FINISHED.search, lines))) > 1:
        raise FeedbackError(f"{path} has the output of several runs of fairseq-generate: give one of a single run")
    for line in lines:
        name, _, rest = line.partition("\t")
        number = name[2:]
        if name[:2] == kind + "-" and number.isdigit() and int(number) not in found:  # the first is the best
            found[int(number)] = rest if kind == "T" else rest.partition("\t")[2]
    if not found:
        raise FeedbackError(f"{path} has no {kind}- lines: it is not the output of fairseq-generate, or that failed")
    expected = max(found) + 1 if expected is None else expected
    if sorted(found) != list(range(expected)):
        raise FeedbackError(
            f"{path} has {len(found)} sentences, expected {expected}: fairseq-generate was stopped, "
            "it needs --required-batch-size-multiple 1, or the references are of other data"
        )
    return [found[i] for i in range(expected)]


def seconds(path):
    """The time that decoding took, by the clock of fairseq-generate; None if it did not come to its end."""
    for line in read_lines(path):
        match = FINISHED.search(line)
        if match:
            tokens, printed, rate = (float((x or "0").replace(",", "")) for x in match.groups())
            return tokens / rate if rate else printed  # the rate has more digits
    return None
