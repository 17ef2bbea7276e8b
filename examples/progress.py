"""What fairseq-train logs, in short: its losses and its speed, a line each.

    fairseq-train … --log-format simple 2>&1 | python examples/progress.py NAME UPDATES

UPDATES: how many there will be.
"""

import math
import signal
import sys

from fairseq_feedback.tools.training_log import parse


def main():
    name, updates = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training ends by it, and then this
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    for line in sys.stdin:
        kind, update, stats = parse(line) or (None, None, {})
        if kind == "train_inner":
            epoch, loss, speed = math.ceil(stats["epochs"]), stats["loss"], stats["wps"]
            text = f"update {update} of {updates}  epoch {epoch}  loss {loss:g}  {speed:,.0f} words/s"
        elif kind not in (None, "train"):
            text = f"validation loss {stats['loss']:g}"
        else:
            continue
        print(f"  {name}  {text}", flush=True)


if __name__ == "__main__":
    main()
