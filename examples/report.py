"""Numbers of a report, out of what fairseq and the tools have written. A number that is missing is an error.

Speed is in words of the output per second of fairseq-generate's own clock, in tokens per second of fairseq-eval-lm's,
or what fairseq-train logged.
"""

import json
import os
import re
import statistics

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import generated
from fairseq_feedback.tools.files import read_lines
from fairseq_feedback.tools.table import markdown
from fairseq_feedback.tools.training_log import curves

LOSS = re.compile(r"Loss \(base 2\): ([\d.]+), Perplexity: ([\d.]+)")
EVALUATED = re.compile(r"Evaluated ([\d,]+) tokens in ([\d.]+)s")
STREAMS = re.compile(r" tokens in ([\d,]+) streams ")
PARAMETERS = re.compile(r"num\. shared model params: ([\d,]+)")


def read(path):
    return "\n".join(read_lines(path))


def is_made(path, command):
    """Whether the result of this command is there; that of another is an error."""
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as f:
        if json.load(f).get("command") == command:
            return True
    raise FeedbackError(f"{path} is of other settings: move it away, or give another --out")


def add_table(parser):
    parser.add_argument("--table", metavar="FOLDER", help="print the tables of these results, and train nothing")
    parser.add_argument("--plots", metavar="FOLDER", help="with --table: draw pictures there")


def wants_table(args):
    if args.plots and not args.table:
        raise FeedbackError("--plots: give --table FOLDER, too")
    return bool(args.table)


def results_in(folder):
    """Of experiments, as their run.sh has written them: what is in each JSON file."""
    if not os.path.isdir(folder):
        raise FeedbackError(f"{folder} is not a folder: give one with results of run.sh")
    results = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                results.append(json.load(f))
    if not results:
        raise FeedbackError(f"{folder} has no results: give one with those of run.sh")
    return results


def found(pattern, text, path, again):
    """What the pattern finds first."""
    match = re.search(pattern, text)
    if not match:
        raise FeedbackError(f"{os.path.basename(path)} is incomplete: {again}")
    return match


def whole_number(text):
    return int(text.replace(",", ""))


def table(rows):
    """Markdown of dictionaries; the last one has all columns."""
    return markdown(rows[-1], [[row.get(column) for column in rows[-1]] for row in rows])


def paper_row(text, column):
    name, _, value = text.partition("=")
    if not value:
        raise FeedbackError(f"--paper {text}: give NAME=VALUE")
    return {"system": name, column: value}


def words_per_second(path, kind="H"):
    """Words of the translations, not subword units, by the clock of fairseq-generate."""
    seconds = generated.seconds(path)
    if not seconds:
        raise FeedbackError(f"{path}: fairseq-generate did not come to its end")
    return round(sum(len(text.split()) for text in generated.read(path, kind)) / seconds)


def parameters(path, again):
    """How many the model has, as fairseq-train logged."""
    return whole_number(found(PARAMETERS, read(path), path, again)[1])


def training_speed(path):
    """The median of the words/s that fairseq-train logged, or None."""
    (run,) = curves([path])
    _, speeds = run.curve("train", "wps")
    return round(statistics.median_high(speeds)) if speeds else None


def scores(path, output):
    """({column: value}, settings) of translations or summaries: JSON of the tool that scores, and what was scored."""
    with open(path, encoding="utf-8") as f:
        scored = json.load(f)
    if "rouge1" in scored:
        kinds = (("ROUGE-Lsum", "rougeLsum"), ("ROUGE-1", "rouge1"), ("ROUGE-2", "rouge2"))
        columns = {name: f"{scored[kind]:.2f}" for name, kind in kinds}
        settings = [scored["settings"]]
    else:
        split = ", compounds split" if scored["compound_split"] else ""
        columns, settings = {f"tokenized BLEU{split}": f"{scored['tokenized']['score']:.2f}"}, []
        if "detokenized" in scored:
            columns["sacrebleu"] = f"{scored['detokenized']['score']:.2f}"
            columns["chrF"] = f"{scored['detokenized']['chrf_score']:.2f}"
            settings.append("sacrebleu: " + scored["detokenized"]["signature"])
            settings.append("chrF: " + scored["detokenized"]["chrf_signature"])
    columns["words/s"] = words_per_second(output)
    return columns, settings


def losses(logs, unit):
    """{column: value} of a language model; `logs`: {split: what fairseq-eval-lm has printed}."""
    columns = {}
    for split, path in logs.items():
        text, again = read(path), "fairseq-eval-lm did not come to its end"
        bits, perplexity = found(LOSS, text, path, again).groups()
        if unit == "word":
            columns[f"{split} perplexity"] = perplexity
        else:
            columns[f"{split} bits per {unit}"] = f"{float(bits):.3f}"
        tokens, seconds = found(EVALUATED, text, path, again).groups()
    columns[f"{unit}s/s"] = round(whole_number(tokens) / max(float(seconds), 0.1))
    return columns


def streams(path):
    """Of a text that fairseq-eval-lm has read with --task feedback_lm."""
    count = found(STREAMS, read(path), path, "it does not tell the number of streams")[1]
    return f"{count} stream{'' if count == '1' else 's'}"
