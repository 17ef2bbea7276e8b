"""Find the length penalty (and the lengths) that score best on the development set.

    fairseq-feedback tune data-bin --out tuning --path averaged.pt --lenpen 0 0.3 0.6 0.9 1.2 \\
        --references valid.de -- --user-dir fairseq_feedback --beam 5 --remove-bpe

Runs fairseq-generate on the subset valid with every value, or every combination where more than one list is given.
What follows -- goes to fairseq-generate. Each output is kept in --out and not made again: a run that was stopped goes
on, and another value costs only its own generation. Other options, or another checkpoint, begin again. The table and
the best values are printed, and written to --out/best.json. Of equal scores the first one listed wins.
"""

import glob
import itertools
import json
import os
import sys

from fairseq_feedback.tools import generated, score_bleu, score_rouge
from fairseq_feedback.tools.extras import need
from fairseq_feedback.tools.files import age, must_be_file, read_lines, whole, write_json
from fairseq_feedback.tools.program import quiet

METRICS = ("bleu", "bleu-compound-split", "rouge1", "rouge2", "rougeLsum")
LENGTHS = ("lenpen", "min_len", "max_len_b")


def add_arguments(parser):
    parser.add_argument("data", help="folder of fairseq's binary data")
    parser.add_argument("--path", required=True, metavar="FILE", help="the checkpoint")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the generations are kept")
    parser.add_argument("--lenpen", nargs="+", type=float, required=True, metavar="X", help="length penalties to try")
    parser.add_argument("--min-len", nargs="+", type=int, metavar="N", help="shortest lengths to try")
    parser.add_argument("--max-len-b", nargs="+", type=int, metavar="N", help="longest lengths to try")
    parser.add_argument("--metric", choices=METRICS, default="bleu", help="what to maximize (%(default)s)")
    parser.add_argument("--references", metavar="FILE", help="tokenized references, instead of the T- lines")
    parser.add_argument("--gen-subset", default="valid", metavar="NAME", help="the subset to try on (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that score ROUGE (%(default)s)")


def parse(parser, arguments):
    """What follows -- is for fairseq-generate."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:at])
    args.further = arguments[at + 1 :]
    return args


def main(args):
    quiet()
    references = args.references and read_lines(args.references)
    must_be_file(args.path, "--path")
    if args.metric.startswith("rouge"):
        need("recipes", "rouge_score")
    keep_settings(args)
    lists = {name: getattr(args, name) for name in LENGTHS if getattr(args, name)}
    rows = []
    for values in itertools.product(*lists.values()):
        row = dict(zip(lists, values))
        output = os.path.join(args.out, args.gen_subset + "".join(f"-{k}{v:g}" for k, v in row.items()) + ".txt")
        generate(args, row, output)
        row["score"] = score(args, output, references)
        row["output"] = output
        rows.append(row)
        print("  ".join(f"{k} {row[k]:g}" for k in lists), f" {args.metric} {row['score']:.2f}")
        sys.stdout.flush()
    best = max(rows, key=lambda row: row["score"])
    write_json(os.path.join(args.out, "best.json"), {"metric": args.metric, **best, "tried": rows})
    print("best: " + " ".join(f"--{k.replace('_', '-')} {v:g}" for k, v in best.items() if k in lists))


def keep_settings(args):
    """Throw away generations that other settings made."""
    read = [args.path, *glob.glob(os.path.join(glob.escape(args.data), "dict.*"))]
    read += glob.glob(os.path.join(glob.escape(args.data), args.gen_subset + ".*"))
    settings = {
        "data": os.path.abspath(args.data),
        "files": age([*read, *args.further]),
        "options": args.further,
    }
    path = os.path.join(args.out, "settings.json")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as f:
            if json.load(f) == settings:
                return
        print(f"{args.out} has generations with other settings: beginning again")
    for name in os.listdir(args.out) if os.path.isdir(args.out) else ():
        if "-lenpen" in name and name.endswith(".txt"):
            os.remove(os.path.join(args.out, name))
    write_json(path, settings)


def generate(args, row, output):
    """fairseq-generate with the values of a row, unless it was done before. In this process: one import for all."""
    if os.path.isfile(output):
        return
    import logging

    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq_cli.generate import _main

    import fairseq_feedback.plugin  # noqa: F401

    flags = [args.data, "--path", args.path, "--gen-subset", args.gen_subset, *args.further]
    for name, value in row.items():
        flags += ["--" + name.replace("_", "-"), str(value)]
    print("$ fairseq-generate " + " ".join(flags), file=sys.stderr)
    sys.argv = ["fairseq-generate", *flags]  # where fairseq looks for --user-dir
    parsed = options.parse_args_and_arch(options.get_generation_parser())
    logging.root.handlers.clear()  # so that the log goes to this output, not to that of the row before
    with whole(output) as f:
        _main(convert_namespace_to_omegaconf(parsed), f)


def score(args, output, references):
    hypotheses = generated.read(output, "H", None if references is None else len(references))
    references = references or generated.read(output, "T", len(hypotheses))
    if args.metric.startswith("bleu"):
        return score_bleu.tokenized(hypotheses, references, args.metric == "bleu-compound-split")["score"]
    return score_rouge.score(hypotheses, references, workers=args.workers)[args.metric]
