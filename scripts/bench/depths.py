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

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
from common import origin
from common.report import table
from decoding.cases import BF16, FEEDBACK, INT8, TRANSFORMER
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import generated, pictures
from fairseq_feedback.tools.files import read_lines, whole, write_json
from fairseq_feedback.tools.program import Parser, run

NAME = re.compile(r"test-(.+)-(\d+)\.1\.txt")
SYSTEMS = {  # of the files' names, in the table's order
    "transformer": TRANSFORMER,
    "feedback_transformer": FEEDBACK,
    "feedback_transformer--bf16": BF16,
    "feedback_transformer--decode-int8": INT8,
}
STYLES = {TRANSFORMER: "s--", FEEDBACK: "o-", BF16: "^:", INT8: "v:"}


def main():
    parser = Parser(__doc__)
    parser.add_argument("out", metavar="FOLDER", help="of the run of depths.sh")
    out = parser.parse_args().out
    rows = measured(out)
    about = origin.about("bash scripts/bench/depths.sh --out", origin.cores(), len(rows[0]["seconds"]))
    write_json(os.path.join(out, "depths.json"), dict(about=about, rows=rows))
    cells = {(r["layers"], r["system"]): f"{r['bleu']:.1f} · {r['words_per_second']:,.0f}" for r in rows}
    text = "\n".join([table("decoder layers", cells), "", "BLEU · words/s.", "", origin.sentence(about)]) + "\n"
    with whole(os.path.join(out, "depths.md")) as f:
        f.write(text)
    picture = os.path.join(out, "depths.png")
    pictures.draw(picture, 7, 4.5, lambda figure: plot(rows, figure.subplots()))
    print(text + f"\nplot: {picture}")


def measured(out):
    """A row for each system and depth, by depth and then in the order of SYSTEMS."""
    references = read_lines(os.path.join(out, "text", "test.de"))
    rows = []
    for path in glob.glob(os.path.join(out, "test-*.1.txt")):
        name, layers = NAME.fullmatch(os.path.basename(path)).groups()
        repeats = sorted(glob.glob(path.replace(".1.txt", ".*.txt")))
        hypotheses = generated.read(path, "D", len(references))
        seconds = [generated.seconds(p) for p in repeats]
        if None in seconds:
            raise FeedbackError(
                f"{repeats[seconds.index(None)]} does not say how long it took: run depths.sh to the end"
            )
        words = sum(len(h.split()) for h in hypotheses)
        rows.append(
            dict(
                system=SYSTEMS[name],
                layers=int(layers),
                bleu=sacrebleu.corpus_bleu(hypotheses, [references], force=True).score,
                words=words,
                seconds=seconds,
                words_per_second=words / statistics.median(seconds),
            )
        )
    if not rows:
        raise FeedbackError(f"{out} has no translations: run bash scripts/bench/depths.sh --out {out}")
    order = list(SYSTEMS.values())
    return sorted(rows, key=lambda r: (r["layers"], order.index(r["system"])))


def plot(rows, axes):
    for system, style in STYLES.items():
        points = [r for r in rows if r["system"] == system]
        if not points:
            continue
        speeds, scores = [p["words_per_second"] for p in points], [p["bleu"] for p in points]
        axes.plot(speeds, scores, style, label=system, markersize=5)
        for point, x, y in zip(points, speeds, scores):
            axes.annotate(str(point["layers"]), (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
    axes.set(xlabel="words/s", ylabel="BLEU", title="Decoder layers (numbers), beam 5, quickstart's test set")
    axes.grid(True)
    axes.legend()


if __name__ == "__main__":
    run(main)
