"""One process for each core, all at the same work at once, as servers run. Timed like a system of systems.py."""

import multiprocessing
import os

from common import measure
from decoding import systems

_context = multiprocessing.get_context("spawn")  # a forked OpenMP has no threads


class Processes:
    def __init__(self, case, shape, system, count):
        cores = sorted(os.sched_getaffinity(0))
        self.ends = []
        for i in range(count):
            end, other = _context.Pipe()
            args = other, case, shape, system, cores[i % len(cores)]
            _context.Process(target=_serve, args=args, daemon=True).start()
            self.ends.append(end)
        self.parameters = [end.recv() for end in self.ends][0]

    def run(self):
        for end in self.ends:
            end.send(True)
        self.words = sum(end.recv() for end in self.ends)

    def clear(self):
        pass

    def close(self):
        for end in self.ends:
            end.send(False)


def _serve(end, case, shape, system, core):
    os.sched_setaffinity(0, {core})
    measure.begin(1)
    made = systems.make(case, shape, system, 1)
    end.send(made.parameters)
    while end.recv():
        made.run()
        end.send(made.words)
        made.clear()
