"""How many distinct sequences a model needs until 95 percent of the labels of new ones are right, by their length.

Of powers of two, up to half of all the sequences there are, the smallest that was enough; each is tried with the same
number of updates and one rate, and stopped when it is enough. No new one is among those trained on. As in "On the
Induction Bias in Sequence Models" (2602.18333), with a label at every symbol.
"""

import json
import os
import statistics

from examples.report import results_in
from examples.state_tracking import cells
from examples.state_tracking.commands import as_typed, command, lines
from examples.state_tracking.problems import PROBLEMS
from fairseq_feedback.tools import pictures, training_log
from fairseq_feedback.tools.files import write_json
from fairseq_feedback.tools.progress import Progress
from fairseq_feedback.tools.table import markdown

NAMES = ("s3", "sum5")
LENGTHS = (4, 8, 16, 32)
COUNTS = [2**k for k in range(4, 17)]
UPDATES = 1500
ENOUGH = 95.0
MODELS = cells.models(1, 64, 8, 1e-3)


def run(models, seeds, out, results):
    results = results or os.path.join(out, "needed")
    searches = [
        Search(problem, length, model, seed, out, results)
        for seed in range(1, seeds + 1)
        for problem in NAMES
        for length in LENGTHS
        for model in models
    ]
    progress = Progress(sum(search.is_done() for search in searches), len(searches), "counts")
    for search in searches:
        if not search.is_done():
            progress.add(0)
            found = search.needed(progress)
            progress.say(f"{search.key}: {shown(found['needed'], found['most'])}")
            progress.add(1)
    progress.end()
    show(results)


class Search:
    def __init__(self, problem, length, model, seed, out, results):
        self.problem, self.length, self.model, self.seed = problem, length, model, seed
        self.key = f"{problem}-{length}-{model}-{seed}"
        self.log = os.path.join(out, f"needed-{self.key}.log")
        self.path = os.path.join(results, f"{self.key}.json")
        for folder in (out, results):
            os.makedirs(folder, exist_ok=True)

    def read(self):
        if not os.path.exists(self.path):
            return {"problem": self.problem, "length": self.length, "model": self.model, "seed": self.seed, "tries": {}}
        with open(self.path, encoding="utf-8") as f:
            return json.load(f)

    def is_done(self):
        return "needed" in self.read()

    def needed(self, progress):
        """By halves, between what was not enough and what was. Saved after each try."""
        found = self.read()
        counts = [count for count in COUNTS if 2 * count <= len(PROBLEMS[self.problem].symbols) ** self.length]
        low, high = -1, len(counts)  # not enough, enough
        while high - low > 1:
            middle = (low + high) // 2
            count = counts[middle]
            if str(count) not in found["tries"]:
                found["tries"][str(count)] = self.tried(count, progress)
                found["command"] = as_typed(self.training("N"))
                write_json(self.path, found)
            if found["tries"][str(count)]["accuracy"] >= ENOUGH:
                high = middle
            else:
                low = middle
        found.update(needed=counts[high] if high < len(counts) else None, most=counts[-1])
        write_json(self.path, found)
        return found

    def training(self, count):
        task = cells.Task(self.problem, self.length, self.length, UPDATES, (), MODELS, rows=64)
        flags = cells.train_flags(task, self.model, cells.ALL, MODELS[self.model].rates[0], self.seed)
        saves = ("--no-save", "--save-dir", os.path.dirname(self.log))  # fairseq makes that folder all the same
        return command("train", *flags, "--distinct", count, "--validate-interval-updates", 100, *saves, "--cpu")

    def tried(self, count, progress):
        """The best accuracy of a training with so many sequences, and after how many updates."""
        best = {"accuracy": 0.0, "updates": 0}
        for line in lines(self.training(count), self.log, "w"):
            found = training_log.parse(line)
            if found and found[0] == "valid" and found[2]["accuracy"] > best["accuracy"]:
                best = {"accuracy": found[2]["accuracy"], "updates": found[1]}
                if best["accuracy"] >= ENOUGH:
                    break
        progress.say(f"{self.key} with {count}: {best['accuracy']} % after {best['updates']} updates")
        return best


def read(folder):
    """(problem, model) -> length -> (what was needed or None, the most that was tried) of each seed."""
    found = {}
    for result in results_in(folder):
        if "needed" in result:
            of_length = found.setdefault((result["problem"], result["model"]), {})
            of_length.setdefault(result["length"], []).append((result["needed"], result["most"]))
    return found


def show(folder, plots=None):
    found = read(folder)
    rows = [
        [problem, model, *(", ".join(shown(*of_seed) for of_seed in of_length.get(n, [])) or "–" for n in LENGTHS)]
        for (problem, model), of_length in found.items()
    ]
    print(markdown(["problem", "model", *(f"length {length}" for length in LENGTHS)], rows))
    if plots:
        draw(found, os.path.join(plots, "needed.png"))


def shown(needed, most):
    return f"> {most:,}" if needed is None else f"{needed:,}"


def draw(found, path):
    """A line through the medians of the seeds; a triangle stands above what was not enough."""

    def content(figure):
        (row,) = figure.subplots(1, len(NAMES), sharey=True, squeeze=False)
        for axes, problem in zip(row, NAMES):
            models = [model for of_problem, model in found if of_problem == problem]
            for number, model in enumerate(models):
                style = pictures.line_style(number)
                points = [(n, [needed or 2 * most for needed, most in of]) for n, of in found[problem, model].items()]
                lines = sorted((length, statistics.median_low(counts)) for length, counts in points)
                axes.plot(*zip(*lines), marker="o", label=model, **style)
                never = [(n, 2 * most) for n, of in found[problem, model].items() for needed, most in of if not needed]
                if never:
                    axes.plot(*zip(*never), marker="^", markersize=9, color=style["color"], linestyle="none")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.set(title=f"{problem}: distinct sequences for 95 %", xlabel="length")
            axes.legend()

    pictures.draw(path, 8, 3, content)
