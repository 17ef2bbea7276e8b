"""BLEU on Multi30k by the depth of the decoder, of feedback and standard transformers.

    bash examples/multi30k_en_de/depths.sh
    bash examples/multi30k_en_de/depths.sh --archs feedback --layers 1 4 --seeds 3
    bash examples/multi30k_en_de/depths.sh --table examples/multi30k_en_de/results --plots pictures

A cell is an architecture, a number of decoder layers and a seed: train.sh, then eval.sh, and then a JSON file in
OUT/results. Cells that have theirs are not made again, and a training that was stopped goes on.
"""

import json
import os
import statistics
import subprocess

from examples import report
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import pictures, training_log
from fairseq_feedback.tools.files import write_json
from fairseq_feedback.tools.program import Parser, at_least_one, run
from fairseq_feedback.tools.table import markdown

HERE = "examples/multi30k_en_de"
ARCHS = ("feedback", "transformer")
LAYERS = (1, 2, 4)
PUBLISHED = 41.0  # from memory
SCORES = ("tokenized BLEU", "sacrebleu", "chrF")
AGAIN = "run the same command again"


def main():
    parser = Parser(__doc__)
    parser.add_argument("--archs", nargs="+", choices=ARCHS, default=ARCHS, metavar="ARCH",
                        help=f"of {', '.join(ARCHS)} (both)")  # fmt: skip
    parser.add_argument("--layers", nargs="+", type=int, default=LAYERS, metavar="N", help="of the decoder (1 2 4)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 1 to N (%(default)s)")
    parser.add_argument("--max-update", type=int, metavar="N", help="of every training, instead of train.sh's number")
    parser.add_argument("--data", default="data/multi30k_en_de/bin", help="folder of binary data (%(default)s)")
    parser.add_argument("--out", default="runs/multi30k_en_de-depths", help="folder of the runs (%(default)s)")
    parser.add_argument("--results", metavar="FOLDER", help="folder for the JSON files (OUT/results)")
    report.add_table(parser)
    args = parser.parse_args()
    if report.wants_table(args):
        return show(args.table, args.plots)
    at_least_one(args, "seeds", "layers", "max_update")
    if args.max_update is not None:
        args.out = os.path.join(args.out, f"{args.max_update}-updates")
    args.results = args.results or os.path.join(args.out, "results")
    os.makedirs(args.results, exist_ok=True)
    for seed in range(1, args.seeds + 1):
        for layers in args.layers:
            for arch in args.archs:
                make(args, arch, layers, seed)
    show(args.results, None)


def make(args, arch, layers, seed):
    key = f"{arch}-{layers}-{seed}"
    result, folder = os.path.join(args.results, key + ".json"), os.path.join(args.out, key)
    training = ["train.sh", "--arch", arch, "--decoder-layers", layers, "--gpus", 0]
    training += ["--max-update", args.max_update] if args.max_update else []
    of_fairseq = ["--", "--seed", seed, "--num-workers", 0]
    command = f"bash {HERE}/{' '.join(map(str, training + of_fairseq))}"
    if report.is_made(result, command):
        return
    call(*training, "--data", args.data, "--out", folder, *of_fairseq)
    call("eval.sh", "--data", args.data, "--run", folder)
    log = os.path.join(folder, "train.log")
    logged = training_log.read(log)
    with open(os.path.join(folder, "eval", "results.json"), encoding="utf-8") as f:
        evaluated = json.load(f)
    scores = evaluated["rows"][-1]
    write_json(result, {
        "arch": arch,
        "layers": layers,
        "seed": seed,
        "parameters": report.parameters(log, AGAIN),
        "updates": logged.updates(),
        "minutes": round(seconds_of(os.path.join(folder, "checkpoints", "checkpoint_last.pt")) / 60, 1),
        **{name: float(scores[name]) for name in SCORES},
        "training words/s": report.training_speed(log),
        "decoding words/s": scores["words/s"],
        "settings": evaluated["settings"],
        "command": command,
        "curve": list(zip(*logged.curve("valid", "ppl"))),
    })  # fmt: skip


def seconds_of(checkpoint):
    """Of training, also of what was stopped and went on."""
    from fairseq import checkpoint_utils

    import fairseq_feedback.plugin  # noqa: F401

    return checkpoint_utils.load_checkpoint_to_cpu(checkpoint)["extra_state"]["previous_training_time"]


def call(script, *flags):
    if subprocess.run(["bash", f"{HERE}/{script}", *map(str, flags)]).returncode:
        raise FeedbackError(f"{script} did not come to its end, see above: {AGAIN}")


def grouped(results):
    """(layers, arch) -> its results, by seed."""
    found = {}
    for result in sorted(results, key=lambda result: (result["layers"], result["arch"], result["seed"])):
        found.setdefault((result["layers"], result["arch"]), []).append(result)
    return found


def show(folder, plots):
    found = grouped(report.results_in(folder))
    rows = [["published, from memory", 4, "", "", "", f"{PUBLISHED:.1f}"]]
    for (layers, arch), results in found.items():
        scores = [", ".join(f"{result[name]:.1f}" for result in results) for name in SCORES]
        numbers = [mean(results, name) for name in ("training words/s", "decoding words/s")]
        size = f"{mean(results, 'parameters') / 1e6:.2f}M"
        rows.append([arch, layers, size, round(mean(results, "updates")), round(mean(results, "minutes")), *scores,
                     *map(round, numbers)])  # fmt: skip
    header = [
        "model",
        "decoder layers",
        "parameters",
        "updates",
        "minutes",
        *SCORES,
        "training words/s",
        "decoding words/s",
    ]
    print(markdown(header, rows))
    if plots:
        draw(found, os.path.join(plots, "depths.png"))


def mean(results, name):
    return statistics.fmean(result[name] for result in results)


def draw(found, path):
    def content(figure):
        axes = figure.subplots()
        for number, arch in enumerate(ARCHS):
            of_layers = {layers: results for (layers, name), results in found.items() if name == arch}
            if of_layers:
                color = pictures.COLORS[number]
                means = [mean(results, SCORES[0]) for results in of_layers.values()]
                axes.plot(list(of_layers), means, color=color, label=arch)
                points = [(layers, result[SCORES[0]]) for layers, results in of_layers.items() for result in results]
                axes.plot(*zip(*points), "o", markersize=4, color=color)
        axes.axhline(PUBLISHED, linestyle=":", linewidth=1, color="#888888", label="published transformer, from memory")
        axes.set_xticks(sorted({layers for layers, _ in found}))
        axes.set(title="Multi30k, test 2016: tokenized BLEU", xlabel="decoder layers")
        axes.legend()

    pictures.draw(path, 4.5, 3.2, content)


if __name__ == "__main__":
    run(main)
