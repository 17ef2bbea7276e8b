"""Trains small models on problems whose state changes with every symbol, and tests them on longer sequences.

    bash examples/state_tracking/run.sh
    bash examples/state_tracking/run.sh --tasks random_walk --models feedback own-4 lstm --seeds 3
    bash examples/state_tracking/run.sh --table examples/state_tracking/results
    bash examples/state_tracking/run.sh --needed

A cell is a task, a model, a supervision (only the last label of a sequence, or all), a learning rate and a seed. Each
has a JSON file in OUT/results in the end. A run that was stopped goes on with the same command: cells that have their
file are not made again, and one in the middle goes on from its checkpoint. With --needed it is counted how many
distinct sequences each model needs until it gets new ones right.
"""

import json
import os
import re

from examples.report import add_table, is_made, parameters, read, wants_table
from examples.state_tracking import cells, needed, report
from examples.state_tracking.commands import as_typed, command, lines
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import training_log
from fairseq_feedback.tools.files import whole, write_json
from fairseq_feedback.tools.program import Parser, at_least_one, run
from fairseq_feedback.tools.progress import Progress

TESTED = re.compile(r'\{"test_.*\}')  # what fairseq-validate says of a set
MODELS = list(cells.TASKS["parity"].models)


def main():
    parser = Parser(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=list(cells.TASKS), default=list(cells.TASKS), metavar="TASK",
                        help=f"of {', '.join(cells.TASKS)} (all)")  # fmt: skip
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["feedback", "own-4", "lstm"], metavar="MODEL",
                        help=f"of {', '.join(MODELS)} (%(default)s)")  # fmt: skip
    parser.add_argument("--supervision", nargs="+", choices=("last", "all"), default=["last", "all"])
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 1 to N (%(default)s)")
    parser.add_argument("--rates", type=int, default=1, metavar="N",
                        help="of a model with several, the first N; the best one is shown (%(default)s)")  # fmt: skip
    parser.add_argument("--out", default="runs/state_tracking", help="folder for checkpoints and logs (%(default)s)")
    parser.add_argument("--results", metavar="FOLDER", help="folder for the JSON files (OUT/results)")
    parser.add_argument("--updates", type=int, metavar="N", help="of every cell, instead of the task's own number")
    parser.add_argument("--paper", action="store_true", help="the papers' sizes, for GPUs")
    parser.add_argument("--needed", action="store_true",
                        help=f"how many sequences {' and '.join(needed.NAMES)} need; in OUT/needed")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    add_table(parser)
    args = parser.parse_args()
    if wants_table(args):
        return (needed if args.needed else report).show(args.table, args.plots)
    at_least_one(args, "seeds", "rates")
    if args.updates is not None and args.updates < 4:
        raise FeedbackError(f"--updates {args.updates}: give at least 4, so that the rate can fall in the last third")
    if args.needed:
        unread = ("tasks", "supervision", "rates", "updates", "paper", "dry_run")
        given = [name for name in unread if getattr(args, name) != parser.get_default(name)]
        if given:
            raise FeedbackError(f"--{given[0].replace('_', '-')}: leave it out with --needed, which has its own")
        return needed.run(args.models, args.seeds, args.out, args.results)
    tasks = {name: (cells.PAPER if args.paper else cells.TASKS)[name] for name in args.tasks}
    if args.paper:
        args.out = os.path.join(args.out, "paper")
    if args.updates is not None:
        args.out = os.path.join(args.out, f"{args.updates}-updates")
        tasks = {name: task._replace(updates=args.updates) for name, task in tasks.items()}
    args.results = args.results or os.path.join(args.out, "results")
    which = cells.cells(tasks, args.models, args.supervision, args.seeds, args.rates)
    chosen = [Cell(args, tasks[cell[0]], *cell) for cell in which]
    if args.dry_run:
        for cell in chosen:
            words = cell.training("--save-dir", cell.folder)
            print(" ".join(f"'{word}'" if " " in word else word for word in words))
        return
    progress = Progress(sum(cell.done() for cell in chosen), sum(cell.task.updates for cell in chosen), "updates")
    for cell in chosen:
        cell.make(progress)
    progress.end()
    report.show(args.results)


class Cell:
    def __init__(self, args, task, name, model, supervision, rate, seed):
        self.task, self.model, self.supervision, self.rate, self.seed = task, model, supervision, rate, seed
        self.name, self.cpu = name, [] if args.paper else ["--cpu"]
        self.key = f"{name}-{supervision}-{model}-{rate:.2g}-{seed}"
        self.folder = os.path.join(args.out, self.key)
        self.log = self.folder + ".log"
        self.result = os.path.join(args.results, self.key + ".json")

    def is_made(self):
        return is_made(self.result, self.command())

    def begin(self):
        """In its folder, which may hold half a training with the same settings."""
        path = os.path.join(self.folder, "command")
        if os.path.isdir(self.folder) and not (os.path.exists(path) and read(path) == self.command()):
            raise FeedbackError(f"{self.folder} is of other settings: move it away, or give another --out")
        os.makedirs(self.folder, exist_ok=True)
        with whole(path) as f:
            f.write(self.command())

    def done(self):
        """Updates."""
        if self.is_made():
            return self.task.updates
        saved = os.path.join(self.folder, "checkpoint_last.pt")
        return training_log.read(self.log).updates() if os.path.exists(saved) else 0

    def training(self, *more):
        flags = cells.train_flags(self.task, self.model, self.supervision, self.rate, self.seed)
        return command("train", *flags, *self.cpu, *more)

    def command(self):
        return as_typed(self.training())

    def testing(self):
        tests = ",".join(f"test_{length}" for length in self.task.tests)
        return command(
            "validate", *cells.task_flags(self.task, self.model, self.supervision), "--valid-subset", tests,
            "--path", os.path.join(self.folder, "checkpoint_last.pt"), "--batch-size", 64, "--valid-sequences", 1024,
            "--log-format", "json", "--required-batch-size-multiple", 1, *self.cpu,
        )  # fmt: skip

    def make(self, progress):
        if self.is_made():
            return
        self.begin()
        progress.say(f"{self.key} …")
        at = self.done()
        for line in lines(self.training("--save-dir", self.folder), self.log, "a"):
            found = training_log.parse(line)
            if found and found[0] == "train_inner" and found[1] > at:
                progress.add(found[1] - at)
                at = found[1]
        stats = {}
        for line in lines(self.testing(), self.folder + ".test.log", "w"):
            found = training_log.JSON.search(line) or TESTED.search(line)
            stats.update(json.loads(found.group()) if found else {})
        accuracy = {length: tested(stats, length) for length in self.task.tests}
        write_json(self.result, {**self.facts(), "accuracy": accuracy})
        progress.say(f"{self.key}: " + ", ".join(f"{n}: {a['symbols']:g}" for n, a in accuracy.items()))

    def facts(self):
        log = training_log.read(self.log)
        symbols = log.curve("train", "symbols")[1]
        return {
            "task": self.name,
            "model": self.model,
            "supervision": self.supervision,
            "seed": self.seed,
            "parameters": parameters(self.log, "run the same command again"),
            "updates": log.updates(),
            "symbols": int(symbols[-1]),
            "minutes": round(log.curve("train", "wall")[1][-1] / 60, 1),
            "cpu_minutes": round(over_restarts(log.curve("train", "cpu")[1]) / 60, 1),
            "rate": self.rate,
            "command": self.command(),
            "lengths": changes(*log.curve("train", "length")),
            "curve": list(zip(*log.curve("valid", "accuracy"))),
        }


def tested(stats, length):
    """Percent of the labels, and of the sequences with all labels, that are right."""
    return {
        "symbols": float(stats[f"test_{length}_accuracy"]),
        "sequences": float(stats[f"test_{length}_sequence_accuracy"]),
    }


def over_restarts(seconds):
    """Of a clock that begins at 0 again with every process."""
    total = before = 0
    for now in seconds:
        total += now - before if now >= before else now
        before = now
    return total


def changes(updates, lengths):
    """(update, length) where it is another than before."""
    return [(u, n) for u, n, before in zip(updates, map(int, lengths), [None, *map(int, lengths)]) if n != before]


if __name__ == "__main__":
    run(main)
