"""The table at the end of a recipe: the paper's scores, then those of a run.

    python examples/report.py --name my-run --paper "transformer, paper=34.4" --scores scores.json \\
        --generated generate-test.txt --json results.json
    python examples/report.py --name my-run --valid valid.log --test test.log --unit byte --json results.json

Scores are those that score_bleu.py or score_rouge.py wrote, or what fairseq-eval-lm printed for valid and test. A score
that is missing is an error. Speed is in words of the output per second of fairseq-generate's own clock, or in tokens
per second of fairseq-eval-lm's.
"""

import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scripts"))
import generated  # noqa: E402
from tool import Parser, Problem, read_lines, run, write_json  # noqa: E402

LOSS = re.compile(r"Loss \(base 2\): ([\d.]+), Perplexity: ([\d.]+)")
EVALUATED = re.compile(r"Evaluated ([\d,]+) tokens in ([\d.]+)s")


def main():
    parser = Parser(__doc__)
    parser.add_argument("--name", required=True, help="what to call the run")
    parser.add_argument("--paper", action="append", default=[], metavar="NAME=VALUE", help="a row of the paper's")
    parser.add_argument("--scores", metavar="FILE", help="JSON of score_bleu.py or score_rouge.py")
    parser.add_argument("--generated", metavar="FILE", help="output of fairseq-generate for the test set")
    parser.add_argument("--valid", metavar="FILE", help="output of fairseq-eval-lm for valid")
    parser.add_argument("--test", metavar="FILE", help="output of fairseq-eval-lm for test")
    parser.add_argument("--unit", default="word", help="what a token of the language model is (%(default)s)")
    parser.add_argument("--setting", action="append", default=[], metavar="TEXT", help="a line under the table")
    parser.add_argument("--checkpoint", metavar="FILE", help="the checkpoint, for the JSON")
    parser.add_argument("--json", required=True, metavar="FILE", help="write everything there, too")
    args = parser.parse_args()
    if args.scores:
        columns, settings = scores(args)
    elif args.valid and args.test:
        columns, settings = losses(args)
    else:
        raise Problem("give --scores, or --valid and --test")
    settings = args.setting + settings
    rows = [paper_row(row, next(iter(columns))) for row in args.paper]
    rows.append({"system": args.name, **columns})
    write_json(args.json, {"rows": rows, "settings": settings, "checkpoint": args.checkpoint})
    print_table(["system", *columns], rows)
    print("\n".join(["", *settings]))


def paper_row(text, column):
    name, _, value = text.partition("=")
    if not value:
        raise Problem(f"--paper {text}: give NAME=VALUE")
    return {"system": name, column: value}


def scores(args):
    """({column: value}, settings) of translations or summaries."""
    if not os.path.isfile(args.scores):
        raise Problem(f"{args.scores} is missing: nothing was scored")
    with open(args.scores, encoding="utf-8") as f:
        found = json.load(f)
    if "rouge1" in found:
        columns = {name: f"{found[kind]:.2f}" for name, kind in
                   (("ROUGE-Lsum", "rougeLsum"), ("ROUGE-1", "rouge1"), ("ROUGE-2", "rouge2"))}  # fmt: skip
        settings = [found["settings"]]
    else:
        split = ", compounds split" if found["compound_split"] else ""
        columns = {f"tokenized BLEU{split}": f"{found['tokenized']['score']:.2f}"}
        settings = []
        if "detokenized" in found:
            columns["sacrebleu"] = f"{found['detokenized']['score']:.2f}"
            settings.append("sacrebleu: " + found["detokenized"]["signature"])
    if args.generated:
        seconds = generated.seconds(args.generated)
        if not seconds:
            raise Problem(f"{args.generated}: fairseq-generate did not come to its end")
        words = sum(len(text.split()) for text in generated.read(args.generated, "H"))
        columns["words/s"] = f"{words / seconds:,.0f}"
    return columns, settings


def losses(args):
    """({column: value}, settings) of a language model."""
    columns = {}
    for split, path in (("test", args.test), ("valid", args.valid)):
        text = "\n".join(read_lines(path))
        loss, evaluated = LOSS.search(text), EVALUATED.search(text)
        if not loss or not evaluated:
            raise Problem(f"{path} has no loss: fairseq-eval-lm did not come to its end")
        bits, perplexity = loss.groups()
        if args.unit == "word":
            columns[f"{split} perplexity"] = perplexity
        else:
            columns[f"{split} bits per {args.unit}"] = f"{float(bits):.3f}"
        tokens, seconds = (float(group.replace(",", "")) for group in evaluated.groups())
    columns[f"{args.unit}s/s"] = f"{tokens / max(seconds, 0.1):,.0f}"
    return columns, []


def print_table(columns, rows):
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row.get(column, "") for column in columns) + " |")


if __name__ == "__main__":
    run(main)
