"""The table and the plot of depths.sh: BLEU and decoding speed by decoder depth.

    python scripts/bench/depths.py depths-run

Reads what fairseq-generate printed in each repeat; writes depths.json, depths.md and depths.png there.
"""

import glob
import os
import re
import statistics
import sys

import sacrebleu

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import generated  # noqa: E402
import report  # noqa: E402
from tool import Problem, read_lines, run, whole, write_json  # noqa: E402

NAME = re.compile(r"test-(.+)-(\d+)\.1\.txt")
TITLES = {  # of the files' names, in the table's order
    "transformer": "transformer",
    "feedback_transformer": "feedback",
    "feedback_transformer--bf16": "feedback, --bf16",
    "feedback_transformer--decode-int8": "feedback, --decode-int8",
}
STYLES = {"transformer": "s--", "feedback": "o-", "feedback, --bf16": "^:", "feedback, --decode-int8": "v:"}


def main():
    if len(sys.argv) != 2:
        raise Problem("usage: python scripts/bench/depths.py FOLDER-OF-THE-RUN")
    out = sys.argv[1]
    rows = measured(out)
    command = "bash scripts/bench/depths.sh" + (f" --out {out}" if out != "depths-run" else "")
    repeats = len(rows[0]["seconds"])
    about = dict(report.about("", "cpu", report.cores(), repeats), command=command)
    write_json(os.path.join(out, "depths.json"), dict(about=about, rows=rows))
    text = "\n".join([*table(rows), "", "BLEU · words/s.", "", report.origin(about)]) + "\n"
    with whole(os.path.join(out, "depths.md")) as f:
        f.write(text)
    plot(rows, os.path.join(out, "depths.png"))
    print(text + f"\nplot: {out}/depths.png")


def measured(out):
    references = read_lines(os.path.join(out, "text", "test.de"))
    rows = []
    for path in sorted(glob.glob(os.path.join(out, "test-*.1.txt"))):
        name, layers = NAME.fullmatch(os.path.basename(path)).groups()
        repeats = sorted(glob.glob(path.replace(".1.txt", ".*.txt")))
        hypotheses = generated.read(path, "D", len(references))
        seconds = [generated.seconds(p) for p in repeats]
        if None in seconds:
            raise Problem(f"{repeats[seconds.index(None)]} does not say how long it took: run depths.sh to the end")
        words = sum(len(h.split()) for h in hypotheses)
        rows.append(
            dict(
                system=TITLES[name],
                layers=int(layers),
                bleu=sacrebleu.corpus_bleu(hypotheses, [references], force=True).score,
                words=words,
                seconds=seconds,
                words_per_second=words / statistics.median(seconds),
            )
        )
    if not rows:
        raise Problem(f"{out} has no translations: run bash scripts/bench/depths.sh --out {out}")
    return rows


def table(rows):
    systems = [title for title in TITLES.values() if any(r["system"] == title for r in rows)]
    found = {(r["system"], r["layers"]): f"{r['bleu']:.1f} · {r['words_per_second']:,.0f}" for r in rows}
    lines = ["| decoder layers | " + " | ".join(systems) + " |", "|---|" + "---|" * len(systems)]
    for layers in sorted({r["layers"] for r in rows}):
        cells = [found.get((system, layers), "") for system in systems]
        lines.append(f"| {layers} | " + " | ".join(cells) + " |")
    return lines


def plot(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for system, style in STYLES.items():
        points = sorted((r for r in rows if r["system"] == system), key=lambda r: r["layers"])
        if not points:
            continue
        speeds, scores = [p["words_per_second"] for p in points], [p["bleu"] for p in points]
        axes.plot(speeds, scores, style, label=system, markersize=5)
        for point, x, y in zip(points, speeds, scores):
            axes.annotate(str(point["layers"]), (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
    axes.set(xlabel="words/s", ylabel="BLEU", title="Decoder layers (numbers), beam 5, quickstart's test set")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run(main)
