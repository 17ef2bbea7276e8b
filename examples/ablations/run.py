"""Small models with and without a choice of the paper's authors: how well they do, in a table.

    PYTHONPATH=. python examples/ablations/run.py --out runs/ablations --shakespeare input.txt --wikitext wikitext-2

`input.txt` is that of examples/tiny_shakespeare. The folder of WikiText-2 needs wiki.valid.tokens, which is trained on,
and wiki.test.tokens, of which the first lines are validated on. A JSON file is written for each run. Runs that have
theirs are not made again, so the same command goes on after a stop. --table FOLDER only prints what is there.
"""

import json
import os
import re
import shutil
import sys
import time
from statistics import mean

from examples.evaluate import logged
from examples.tiny_shakespeare import corpus
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import training_log
from fairseq_feedback.tools.files import read_lines, whole, write_json
from fairseq_feedback.tools.program import Parser, run
from fairseq_feedback.tools.table import markdown

SEEDS = (1, 2)
MODEL = [
    *("--task", "feedback_lm", "--arch", "feedback_transformer_lm_tiny", "--criterion", "feedback_lm_loss"),
    *("--decoder-embed-dim", 64, "--decoder-ffn-embed-dim", 256, "--decoder-attention-heads", 4, "--memory-span", 64),
    *("--share-decoder-input-output-embed", "--attention-dropout", 0.1, "--activation-dropout", 0.1),
    *("--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--clip-norm", 0.5, "--lr", 4e-3),
    *("--lr-scheduler", "polynomial_decay", "--warmup-updates", 30, "--batch-size", 32),
    *("--tokens-per-sample", 32, "--batch-size-valid", 32),
    *("--cpu", "--num-workers", 0, "--no-save", "--validate-interval", 1_000_000, "--log-format", "json"),
]
# Characters of Tiny Shakespeare to train on; WikiText-2's are words.
DATA = {
    "Tiny Shakespeare": None,
    "its first 51,200 characters": 51_200,  # 50 updates an epoch
    "its first 20,480 characters": 20_480,  # 20 updates an epoch, as char-PTB has with the paper's numbers
    "WikiText-2": None,
}
INIT = [["--decoder-init", "fairseq"], ["--decoder-init", "authors"]]
OFFSET = [[], ["--random-offset"]]
EXPERIMENTS = [  # data, layers, updates, what is tried
    ("Tiny Shakespeare", 3, 300, INIT),
    ("Tiny Shakespeare", 12, 100, INIT),
    ("its first 20,480 characters", 2, 400, OFFSET),
    ("its first 51,200 characters", 2, 400, OFFSET),
    ("WikiText-2", 3, 300, INIT),
    ("WikiText-2", 12, 100, INIT),
]


def main():
    parser = Parser(__doc__)
    parser.add_argument("--out", default="runs/ablations", help="folder for data, logs and results (%(default)s)")
    parser.add_argument("--shakespeare", help="the text of Tiny Shakespeare")
    parser.add_argument("--wikitext", help="the folder of WikiText-2")
    parser.add_argument("--table", metavar="FOLDER", help="print the table of these results, train nothing")
    args = parser.parse_args()
    if args.table:
        return print(table(args.table))
    for data, layers, updates, choices in EXPERIMENTS:
        for seed in SEEDS:
            for flags in choices:
                train(args, data, layers, updates, flags, seed)
    print(table(os.path.join(args.out, "results")))


def train(args, data, layers, updates, flags, seed):
    setting = " ".join(flags) or "no flag"
    name = re.sub(r"[^\w]+", "-", f"{data} {layers} {setting} {seed}").strip("-").lower()
    result = os.path.join(args.out, "results", name + ".json")
    if os.path.exists(result):
        return
    command = [prepare(args, data), "--user-dir", "fairseq_feedback", *MODEL, *flags, "--seed", seed]
    command += ["--decoder-layers", layers, "--save-dir", args.out]  # fairseq makes that folder, with --no-save, too
    command += ["--max-update", updates, "--total-num-update", updates, "--validate-interval-updates", updates // 5]
    print(f"{name} …", flush=True)
    start = time.time()
    log = os.path.join(args.out, name + ".log")
    call("train", command, log)
    seconds = round(time.time() - start)
    curve = list(zip(*training_log.read(log).curve("valid", "loss")))
    found = {"data": data, "layers": layers, "setting": setting, "seed": seed, "updates": updates, "seconds": seconds}
    os.makedirs(os.path.dirname(result), exist_ok=True)
    write_json(result, {**found, "bits": min(loss for _, loss in curve), "curve": curve})


def prepare(args, data):
    """Binary data -> its folder."""
    out = os.path.join(args.out, re.sub(r"\W+", "-", data))
    if os.path.isdir(out + "/bin"):
        return out + "/bin"
    os.makedirs(out, exist_ok=True)
    if data == "WikiText-2":
        if not args.wikitext:
            raise FeedbackError("--wikitext: give the folder of WikiText-2")
        texts = [read_lines(f"{args.wikitext}/wiki.{part}.tokens") for part in ("valid", "test")]
        parts = [[line + "\n" for line in text] for text in (texts[0], texts[1][:250])]
        more = ["--nwordssrc", 8000]
    else:
        if not args.shakespeare:
            raise FeedbackError("--shakespeare: give the text of Tiny Shakespeare")
        texts = corpus.split(corpus.read(args.shakespeare))
        texts = [texts[0][: DATA[data]], texts[1][:20_000]]
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


def call(command, flags, log):
    """One of fairseq's commands, of this Python."""
    logged(log, sys.executable, "-m", f"fairseq_cli.{command}", *flags)


def table(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            result = json.load(f)
        key = (result["data"], result["layers"], result["updates"], result["setting"])
        found.setdefault(key, {})[result["seed"]] = result
    rows = []
    for (data, layers, updates, setting), of_seed in found.items():
        bits = [of_seed[seed]["bits"] if seed in of_seed else None for seed in SEEDS]
        seconds = round(mean(result["seconds"] for result in of_seed.values()))
        rows.append([data, layers, updates, f"`{setting}`", *(f"{b:.3f}" if b else "" for b in bits), seconds])
    return markdown(["data", "layers", "updates", "setting", *(f"bits, seed {s}" for s in SEEDS), "seconds"], rows)


if __name__ == "__main__":
    run(main)
