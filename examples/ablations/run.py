"""Small language models that differ in one thing, beside one another: what the paper's figures 5, 8 and 9 and the
fifth table of its first version compare, and choices of its authors.

    bash examples/ablations/run.sh --groups memory depth training
    bash examples/ablations/run.sh --wikitext wikitext-2 --groups choices
    bash examples/ablations/run.sh --table examples/ablations/results --plots examples/ablations/pictures

Tiny Shakespeare is downloaded, or read from --shakespeare. The folder of WikiText-2 needs wiki.valid.tokens, which is
trained on, and wiki.test.tokens, of which the first lines are validated on. A JSON file is written for each run. Runs
that have theirs are not made again, so the same command goes on after a stop.
"""

import os
import re
import shlex
import shutil
import sys
import time

from examples.ablations import cells, report
from examples.evaluate import logged
from examples.report import add_table, is_made, parameters, wants_table
from examples.tiny_shakespeare import corpus
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import training_log
from fairseq_feedback.tools.files import read_lines, whole, write_json
from fairseq_feedback.tools.program import Parser, at_least_one, run
from fairseq_feedback.tools.progress import Progress


def main():
    parser = Parser(__doc__)
    parser.add_argument("--groups", nargs="+", choices=list(cells.GROUPS), default=list(cells.GROUPS), metavar="GROUP",
                        help=f"of {', '.join(cells.GROUPS)} (all)")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 1 to N (%(default)s)")
    parser.add_argument("--out", default="runs/ablations", help="folder for data, logs and results (%(default)s)")
    parser.add_argument("--shakespeare", help="the text of Tiny Shakespeare (default: download it)")
    parser.add_argument("--wikitext", help="the folder of WikiText-2")
    add_table(parser)
    args = parser.parse_args()
    if wants_table(args):
        return report.show(args.table, args.plots)
    at_least_one(args, "seeds")
    wanted = {cell.data for name in args.groups for cell in cells.GROUPS[name].cells}
    if cells.WIKITEXT in wanted and not args.wikitext:
        raise FeedbackError("--wikitext: give the folder of WikiText-2, or --groups without choices")
    found = {}
    for seed in range(1, args.seeds + 1):
        for name in args.groups:
            for cell in cells.GROUPS[name].cells:  # one may be in two groups
                found.setdefault(name_of(cell, seed), (name, cell, seed))
    trainings = list(found.values())
    done = [is_made(result_of(args, *which[1:]), command(*which)) for which in trainings]
    progress = Progress(sum(done), len(done), "trainings")
    for is_done, (name, cell, seed) in zip(done, trainings):
        if not is_done:
            progress.add(0)
            progress.say(f"{name_of(cell, seed)} …")
            train(args, name, cell, seed)
            progress.add(1)
    progress.end()
    report.show(os.path.join(args.out, "results"))


def name_of(cell, seed):
    name = cell.name or f"{cell.data} {cell.layers} {cell.setting}"
    return re.sub(r"[^\w]+", "-", f"{name} {cell.updates} {seed}").strip("-").lower()


def result_of(args, cell, seed):
    return os.path.join(args.out, "results", name_of(cell, seed) + ".json")


def flags_of(group, cell, seed):
    flags = [*cells.GROUPS[group].model, "--decoder-layers", cell.layers, *cell.flags, "--seed", seed]
    flags += ["--max-update", cell.updates, "--total-num-update", cell.updates]
    flags += ["--validate-interval", 1_000_000, "--validate-interval-updates", cell.updates // 5]
    return ["--user-dir", "fairseq_feedback", *map(str, flags)]


def command(group, cell, seed):
    return shlex.join(["fairseq-train", "DATA", *flags_of(group, cell, seed)])


def train(args, group, cell, seed):
    data = prepare(args, cell.data)
    log = os.path.join(args.out, name_of(cell, seed) + ".log")
    # fairseq makes the folder of checkpoints, with --no-save, too.
    rest = ["--cpu", "--num-workers", 0, "--log-format", "json", "--no-save", "--save-dir", args.out]
    start = time.time()
    call("train", [data, *flags_of(group, cell, seed), *rest], log)
    seconds = round(time.time() - start)
    curve = list(zip(*training_log.read(log).curve("valid", "loss")))
    found = {"group": group, "data": cell.data, "layers": cell.layers, "setting": cell.setting, "seed": seed}
    found.update(updates=cell.updates, seconds=seconds, parameters=parameters(log, "run the same command again"))
    found.update(command=command(group, cell, seed), bits=min(loss for _, loss in curve), curve=curve)
    os.makedirs(os.path.join(args.out, "results"), exist_ok=True)
    write_json(result_of(args, cell, seed), found)


def prepare(args, data):
    """Binary data -> its folder."""
    out = os.path.join(args.out, re.sub(r"\W+", "-", data))
    if os.path.isdir(out + "/bin"):
        return out + "/bin"
    os.makedirs(out, exist_ok=True)
    if data == cells.WIKITEXT:
        texts = [read_lines(f"{args.wikitext}/wiki.{part}.tokens") for part in ("valid", "test")]
        parts = [[line + "\n" for line in text] for text in (texts[0], texts[1][:250])]
        more = ["--nwordssrc", 8000]
    else:
        option = "--shakespeare"
        texts = corpus.split(corpus.read(args.shakespeare, option) if args.shakespeare else corpus.download(option))
        texts = [texts[0][: cells.DATA[data]], texts[1][:20_000]]
        parts = [[corpus.symbols(paragraph) + "\n" for paragraph in corpus.paragraphs(text)] for text in texts]
        more = []
    for split, lines in zip(("train", "valid"), parts):
        with whole(f"{out}/{split}.txt") as f:
            f.writelines(lines)
    shutil.rmtree(out + "/part", ignore_errors=True)  # of a run that was stopped
    flags = ["--only-source", "--destdir", out + "/part", "--trainpref", out + "/train.txt", *more]
    call("preprocess", [*flags, "--validpref", out + "/valid.txt"], out + "/preprocess.log")
    os.rename(out + "/part", out + "/bin")
    return out + "/bin"


def call(name, flags, log):
    """One of fairseq's commands, of this Python."""
    logged(log, sys.executable, "-m", f"fairseq_cli.{name}", *flags)


if __name__ == "__main__":
    run(main)
