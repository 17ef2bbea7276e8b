"""How far a long work has come, how fast it is, and the time left."""

import sys
import time


class Progress:
    """One line on a terminal, which changes; otherwise a line every ten seconds."""

    def __init__(self, done, total, unit="lines"):
        self.begun = self.done = done
        self.total = total
        self.unit = unit
        self.terminal = sys.stderr.isatty()
        self.start = self.shown = None
        if done:
            self.say(f"{done:,} {unit} are there already: continuing")

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def add(self, number):
        now = time.time()
        if self.start is None:  # the first part counts, the time to load models does not
            self.start = self.shown = now
        self.done += number
        if now - self.shown >= (0.5 if self.terminal else 10):
            self.shown = now
            rate = (self.done - self.begun) / (now - self.start)
            left = int((self.total - self.done) / max(rate, 1e-9))
            line = (
                f"{self.done:,} / {self.total:,} {self.unit} ({100 * self.done / self.total:.1f}%), "
                f"{rate:,.1f} {self.unit}/s, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
            )
            print(f"\r{line}\x1b[K" if self.terminal else line, end="" if self.terminal else "\n", file=sys.stderr)
            sys.stderr.flush()

    def end(self):
        if self.terminal and self.shown != self.start:
            print(file=sys.stderr)
