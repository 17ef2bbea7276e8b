"""What the recipes' eval.sh do: decode or read the validation and the test set, score, and print a table.

    python examples/evaluate.py pairs data-bin --recipe NAME --run RUN --valid-references NAME --test-references NAME \\
        --lenpen 0.6 1.0 --metric bleu -- FLAG...
    python examples/evaluate.py text data-bin --recipe NAME --run RUN --unit byte --block 128 -- FLAG...

Everything is written to RUN/eval. What follows -- goes to fairseq-generate, or to fairseq-eval-lm.
"""

import json
import os
import subprocess
import sys

from examples import report
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import whole, write_json
from fairseq_feedback.tools.program import Parser, run

EXAMPLES = os.path.dirname(os.path.abspath(__file__))
USER_DIR = os.path.join(os.path.dirname(EXAMPLES), "fairseq_feedback")


def main():
    own, more = sys.argv[1:], []
    if "--" in own:
        own, more = own[: own.index("--")], own[own.index("--") + 1 :]
    args = options().parse_args(own)
    args.eval = os.path.join(args.run, "eval")
    columns, settings = args.evaluate(args, more)
    rows = [report.paper_row(text, next(iter(columns))) for text in args.paper]
    rows.append({"system": os.path.basename(args.run), **columns})
    results = {"rows": rows, "settings": settings, "checkpoint": args.checkpoint}
    write_json(os.path.join(args.eval, "results.json"), results)
    text = "\n".join([report.table(rows), "", *settings])
    with whole(os.path.join(args.eval, "table.txt")) as f:
        f.write(text + "\n")
    print(text)


def options():
    parser = Parser(__doc__)
    kinds = parser.add_subparsers(required=True, parser_class=Parser)
    pairs = kinds.add_parser("pairs", description="Translations or summaries.")
    pairs.set_defaults(evaluate=evaluate_pairs)
    pairs.add_argument("--valid-references", required=True, metavar="NAME", help="tokenized, in data-bin/references")
    pairs.add_argument("--test-references", required=True, metavar="NAME")
    pairs.add_argument("--raw-references", metavar="NAME", help="those of test that were never tokenized")
    pairs.add_argument("--average", type=int, default=0, metavar="N", help="last checkpoints to average; 0: the best")
    pairs.add_argument("--metric", required=True, help="what to tune for, see fairseq-feedback tune --help")
    pairs.add_argument("--lenpen", nargs="+", required=True, metavar="X", help="length penalties to try")
    pairs.add_argument("--min-len", nargs="+", metavar="N", help="shortest lengths to try")
    pairs.add_argument("--workers", default="1", metavar="N", help="processes that score")
    pairs.add_argument("--detokenize", metavar="LANG", help="for sacrebleu")
    pairs.add_argument("--compound-split", action="store_true")
    pairs.add_argument("--lowercase", action="store_true")
    text = kinds.add_parser("text", description="A language model.")
    text.set_defaults(evaluate=evaluate_text)
    text.add_argument("--unit", required=True, help="what a token is")
    text.add_argument("--block", required=True, metavar="N", help="tokens of a block")
    text.add_argument("--streams", default="1", metavar="N", help="streams that a model with memory reads a text in")
    for kind in (pairs, text):
        kind.add_argument("data", help="folder of fairseq's binary data")
        kind.add_argument("--recipe", required=True, metavar="NAME")
        kind.add_argument("--run", required=True, metavar="FOLDER", help="what train.sh has made")
        kind.add_argument("--checkpoint", metavar="FILE", help="instead of the run's best, or average")
        kind.add_argument("--paper", action="append", default=[], metavar="NAME=VALUE", help="a row of the paper's")
    return parser


def find_checkpoint(args, average=0):
    """The one that was given, the average of the last ones, or the best one of the fine-tuning or the training."""
    if args.checkpoint:
        return args.checkpoint
    tuned, folder = (os.path.join(args.run, name) for name in ("finetuned", "checkpoints"))
    if written(tuned, "checkpoint_best.pt") > written(folder, "checkpoint_best.pt"):
        folder = tuned
    if average == 0:
        best = os.path.join(folder, "checkpoint_best.pt")
        if not os.path.isfile(best):
            raise FeedbackError(f"{best} is missing: run bash examples/{args.recipe}/train.sh first")
        return best
    averaged = os.path.join(args.eval, f"averaged-{average}.pt")
    newest = max((entry.stat().st_mtime for entry in os.scandir(folder)), default=0) if os.path.isdir(folder) else 0
    if not os.path.exists(averaged) or os.path.getmtime(averaged) < newest:
        tool("average", "--inputs", folder, "--num-epoch-checkpoints", average, "--output", averaged)
    return averaged


def written(folder, name):
    """When; 0: never."""
    path = os.path.join(folder, name)
    return os.path.getmtime(path) if os.path.exists(path) else 0


def evaluate_pairs(args, more):
    """({column: value}, settings)."""
    which = args.checkpoint or (f"average of the last {args.average} epochs" if args.average else "best")
    args.checkpoint = find_checkpoint(args, args.average)
    sentencepiece = os.path.exists(os.path.join(args.data, "sentencepiece"))
    flags = ["--user-dir", USER_DIR, "--beam", 5, "--remove-bpe", "sentencepiece" if sentencepiece else "subword_nmt"]
    flags += ["--required-batch-size-multiple", 1, "--max-tokens", 4096, *more]
    lengths = {"lenpen": args.lenpen, **({"min_len": args.min_len} if args.min_len else {})}
    if any(len(values) > 1 for values in lengths.values()):
        say("Tuning on the validation set")
        best = tune(args, "valid", args.valid_references, lengths, flags)
        lengths = {name: [f"{best[name]:g}"] for name in lengths}
    chosen = " ".join(f"--{name.replace('_', '-')} {value}" for name, (value,) in lengths.items())
    say(f"Decoding the test set with {chosen}")
    output = tune(args, "test", args.test_references, lengths, flags)["output"]
    say("Scores")
    scores = os.path.join(args.eval, "scores.json")
    rouge = args.metric.startswith("rouge")
    common = ["--generated", output, "--references", references(args, args.test_references), "--json", scores]
    tool("score", "rouge" if rouge else "bleu", *common, *(["--workers", args.workers] if rouge else bleu_flags(args)))
    columns, settings = report.scores(scores, output)
    return columns, [f"checkpoint: {which}", f"beam 5, {' '.join([chosen, *more])}", *settings]


def bleu_flags(args):
    flags = [flag for flag in ("--compound-split", "--lowercase") if getattr(args, flag[2:].replace("-", "_"))]
    if args.detokenize:
        flags += ["--detokenize", args.detokenize]
    if args.raw_references:
        flags += ["--raw-references", references(args, args.raw_references)]
    return flags


def tune(args, subset, names, lengths, flags):
    """The lengths that score best on a subset, its score, and the file of what fairseq-generate printed with them."""
    out = os.path.join(args.eval, subset)
    tried = [word for name, values in lengths.items() for word in ("--" + name.replace("_", "-"), *values)]
    tool(
        *("tune", args.data, "--path", args.checkpoint, "--out", out, "--gen-subset", subset, "--metric", args.metric),
        *("--references", references(args, names), "--workers", args.workers, *tried, "--", *flags),
    )
    with open(os.path.join(out, "best.json"), encoding="utf-8") as f:
        return json.load(f)


def references(args, name):
    return os.path.join(args.data, "references", name)


def evaluate_text(args, more):
    """({column: value}, settings)."""
    args.checkpoint = find_checkpoint(args)
    kind = ""
    if os.path.exists(os.path.join(args.run, "kind")):
        with open(os.path.join(args.run, "kind")) as f:
            kind = f.read().strip()
    flags = ["--task", "feedback_lm", "--tokens-per-sample", args.block, "--batch-size", args.streams]
    if kind == "fairseq-transformer":
        flags = ["--task", "language_modeling", "--tokens-per-sample", 512, "--context-window", 256, "--batch-size", 16]
    logs = {split: os.path.join(args.eval, split + ".log") for split in ("test", "valid")}
    for split, log in logs.items():
        command = ["fairseq-eval-lm", args.data, "--user-dir", USER_DIR, "--path", args.checkpoint]
        logged(log, *command, "--gen-subset", split, *flags, *more)
    if kind == "fairseq-transformer":
        context = f"256 to 511 {args.unit}s before each"
    else:
        context = f"all before it that the memory holds, the test text read as {report.streams(logs['test'])}"
    return report.losses(logs, args.unit), [f"context: {context}"]


def say(text):
    print("==", text, file=sys.stderr, flush=True)


def show(command):
    print("$", " ".join(command).replace(os.path.dirname(EXAMPLES) + os.sep, ""), file=sys.stderr, flush=True)


def tool(*words):
    """A sub-command of fairseq-feedback."""
    words = list(map(str, words))
    show(["fairseq-feedback", *words])
    if subprocess.run([sys.executable, "-m", "fairseq_feedback", *words]).returncode:
        sys.exit(1)  # it has said why


def logged(log, *command):
    command = list(map(str, command))
    show(command)
    with open(log, "w", encoding="utf-8") as f:
        failed = subprocess.run(command, stdout=f, stderr=subprocess.STDOUT).returncode
    if failed:
        with open(log, encoding="utf-8", errors="replace") as f:
            sys.stderr.writelines(f.readlines()[-20:])
        raise FeedbackError(f"this failed: {command[0]}. The whole output is in {log}")


if __name__ == "__main__":
    run(main)
