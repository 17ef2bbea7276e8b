"""The table of train.sh: bits per character, speed and size of its two models, with a sample of each.

    python examples/tiny_shakespeare/report.py tiny-shakespeare-run

Reads what fairseq printed; writes report.json beside it.
"""

import os

from examples import report
from fairseq_feedback.tools import generated
from fairseq_feedback.tools.files import write_json
from fairseq_feedback.tools.program import Parser, run

SYSTEMS = [("feedback", "feedback transformer"), ("transformer", "standard transformer")]
AGAIN = "run train.sh again, to the end"


def main():
    parser = Parser(__doc__)
    parser.add_argument("out", metavar="FOLDER", help="of the run")
    out = parser.parse_args().out
    rows = [row(out, name, title) for name, title in SYSTEMS]
    write_json(os.path.join(out, "report.json"), rows)
    print("\n" + report.table(rows))
    for name, title in SYSTEMS:
        (sample,) = generated.read(os.path.join(out, f"sample-{name}.txt"), "D", 1)
        print(f"\n{title}, after 'ROMEO:':\n")
        for line in sample.replace("\u23ce", "\n").splitlines():
            print(f"  {line}")


def row(out, name, title):
    log = os.path.join(out, f"train-{name}.log")
    seconds = report.found(r"done training in ([\d.]+) seconds", report.read(log), log, AGAIN)[1]
    return {
        "model": title,
        "valid bits/char": bits(out, "valid", name),
        "test bits/char": bits(out, "test", name),
        "parameters": report.parameters(log, AGAIN),
        "training characters/s": report.training_speed(log),
        "training time": f"{int(float(seconds)) // 60} min {int(float(seconds)) % 60} s",
    }


def bits(out, split, name):
    log = os.path.join(out, f"{split}-{name}.log")
    return round(float(report.found(report.LOSS, report.read(log), log, AGAIN)[1]), 3)


if __name__ == "__main__":
    run(main)
