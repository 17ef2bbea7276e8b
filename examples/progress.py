"""What fairseq-train logs, in short: its losses and its speed, a line each.

    fairseq-train … --log-format simple 2>&1 | python examples/progress.py NAME UPDATES

UPDATES: how many there will be.
"""

import re
import signal
import sys

UPDATE = re.compile(
    r"\| INFO \| train_inner \| epoch 0*(\d+):.* loss=([\d.]+),.* wps=([\d.]+),.* num_updates=(\d+),"
)
VALIDATION = re.compile(r"\| INFO \| valid \| .* \| loss ([\d.]+) ")


def main():
    name, updates = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training ends by it, and then this
    sys.stdin.reconfigure(errors="replace")
    for line in sys.stdin:
        if found := UPDATE.search(line):
            epoch, loss, speed, number = found.groups()
            print(f"  {name}  update {number} of {updates}  epoch {epoch}  loss {loss}  {speed} words/s", flush=True)
        elif found := VALIDATION.search(line):
            print(f"  {name}  validation loss {found[1]}", flush=True)


if __name__ == "__main__":
    main()
