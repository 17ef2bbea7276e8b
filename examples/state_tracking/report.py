"""Tables and pictures of results, beside what the papers say."""

import os

from examples.report import results_in
from examples.state_tracking import cells
from fairseq_feedback.tools import pictures
from fairseq_feedback.tools.table import markdown

TITLES = {"last": "only the last label of a sequence is trained on", "all": "all labels are trained on"}
# Percent by length, read in the papers: 20M to 29M parameters and 32M symbols for RLT, September 2026.
RLT = "8 layers × 512, RLT's paper"
PUBLISHED = {
    ("parity", "last"): {f"transformer, {RLT}": {256: "50.1"}, f"best RLT, {RLT}": {256: "100"}},
    ("swaps_s5", "last"): {
        f"transformer, {RLT}": {64: "0.8", 256: "0.85", 512: "0.85"},
        f"best RLT, {RLT}": {64: "100", 256: "97.3 ± 2.8", 512: "55.7 ± 25.8"},
    },
    ("s5", "last"): {f"transformer and best RLT, {RLT}": {64: "chance"}},
    ("modular", "last"): {f"transformer, {RLT}": {63: "33.2 ± 2.3"}, f"best RLT, {RLT}": {63: "93.4 ± 5.7"}},
    ("modular_brackets", "last"): {f"transformer, {RLT}": {64: "46.7 ± 1.2"}, f"best RLT, {RLT}": {64: "68.0 ± 2.9"}},
    ("random_walk", "all"): {
        "transformer, Fan et al. (one stream)": {100: "68"},
        "feedback, Fan et al. (one stream)": {100: "100"},
    },
    ("algorithmic_3", "all"): {
        "transformer, 4 layers, Fan et al.": {100: "33.7"},
        "transformer, 8 layers, Fan et al.": {100: "47.4"},
        "LSTM, Fan et al.": {100: "82.8"},
        "feedback, Fan et al.": {100: "99.1"},
    },
    ("algorithmic_5", "all"): {
        "transformer, 4 layers, Fan et al.": {100: "37.5"},
        "transformer, 8 layers, Fan et al.": {100: "29.1"},
        "LSTM, Fan et al.": {100: "32.1"},
        "feedback, Fan et al.": {100: "92.6"},
    },
    ("copy", "all"): {
        "transformer, Fan et al.: symbols / sequences": {400: "59.1 / 6.2"},
        "feedback, Fan et al.": {400: "76.2 / 23.6"},
    },
    ("reverse", "all"): {
        "transformer, Fan et al.: symbols / sequences": {400: "50.2 / 5.9"},
        "feedback, Fan et al.": {400: "74.8 / 29.2"},
    },
    ("counting", "all"): {
        "transformer, Fan et al.": {50: "99.6", 1000: "82.4"},
        "feedback, Fan et al.": {50: "99.7", 1000: "95.3"},
    },
}
# 2411.12537, table 3: lengths of 40 to 256, (accuracy - chance) / (1 - chance), the best of 3 seeds.
RANGE = "40-256"
ROWS = ("transformer", "mLSTM", "sLSTM", "Mamba [-1, 1]", "DeltaNet [0, 1]", "DeltaNet [-1, 1]")
SCALED = {
    "parity": (0.022, 0.087, 1.000, 1.000, 0.017, 1.000),
    "modular": (0.031, 0.040, 0.787, 0.241, 0.314, 0.971),
    "modular_brackets": (0.067, 0.114, 0.178, 0.116, 0.194, 0.260),
}
NAMES = {"own-4": "transformer (own), 4 layers", "own-8": "transformer (own), 8 layers", "lstm": "LSTM",
         "lstm-narrow": "LSTM, narrow", "gru": "GRU", "transformer": "transformer (fairseq's)"}  # fmt: skip
BOTH = ("copy", "reverse", "counting")  # of which sequences are counted, too


def show(folder, plots=None):
    results = results_in(folder)
    for (task, supervision), of_model in grouped(results).items():
        print(f"**{task}**, {TITLES[supervision]}:\n\n{table(task, supervision, of_model)}\n")
    if plots:
        draw(results, plots)


def grouped(results):
    """(task, supervision) -> model -> its results with the best rate, by seed."""
    found = {}
    for result in sorted(results, key=lambda result: result["seed"]):
        of_model = found.setdefault((result["task"], result["supervision"]), {})
        of_model.setdefault(result["model"], {}).setdefault(result["rate"], []).append(result)
    return {
        key: {model: max(of_rate.values(), key=trained) for model, of_rate in of_model.items()}
        for key, of_model in sorted(found.items())
    }


def trained(results):
    """How well they are right at the trained lengths in the end, and how far they came with them."""
    return [sum(values) / len(results) for values in zip(*((r["curve"][-1][1], r["symbols"]) for r in results))]


def tested(of_model):
    """The lengths."""
    names = {n for results in of_model.values() for result in results for n in result["accuracy"]}
    return sorted(int(n) for n in names if n.isdigit())


def table(task, supervision, of_model):
    lengths = tested(of_model)
    published = {
        name: [row.get(n, "") for n in lengths] for name, row in PUBLISHED.get((task, supervision), {}).items()
    }
    header = ["model", "parameters", "rate", "symbols", "CPU minutes", *map(str, lengths)]
    rows = []
    for model, results in of_model.items():
        accuracy = [[cell(task, result["accuracy"].get(str(n))) for result in results] for n in lengths]
        symbols = sum(result["symbols"] for result in results) / len(results)
        minutes = sum(result["cpu_minutes"] for result in results) / len(results)
        start = [NAMES.get(model, model), f"{results[0]['parameters'] / 1e6:.2f}M", f"{results[0]['rate']:.2g}"]
        rows.append([*start, f"{symbols / 1e6:.1f}M", f"{minutes:.0f}", *map(", ".join, accuracy)])
    if any(RANGE in result["accuracy"] for results in of_model.values() for result in results):
        header.append(f"{RANGE}, scaled")
        for row, results in zip(rows, of_model.values()):
            row.append(", ".join(scaled(task, result["accuracy"].get(RANGE)) for result in results))
        published = {name: [*row, ""] for name, row in published.items()}
        for name, value in zip(ROWS, SCALED[task]):
            published[f"{name}, 2411.12537"] = [""] * len(lengths) + [f"{value:.3f}"]
    rows += [[name, "", "", "", "", *row] for name, row in published.items()]
    return markdown(header, rows)


def scaled(task, accuracy):
    """0 is guessing, 1 is all."""
    chance = cells.TASKS[task].chance
    return f"{(accuracy['symbols'] - chance) / (100 - chance):.3f}" if accuracy else "–"


def cell(task, accuracy):
    if accuracy is None:
        return "–"
    shown = f"{accuracy['symbols']:.1f}"
    return f"{shown} / {accuracy['sequences']:.1f}" if task in BOTH else shown


def draw(results, folder):
    """For each task and supervision, accuracy by length and over updates."""
    for (task, supervision), of_model in grouped(results).items():

        def content(figure, task=task, of_model=of_model):
            by_length, by_update = figure.subplots(1, 2)
            for number, (model, found) in enumerate(of_model.items()):
                # Of lines that lie on each other, the narrower ones are on top, their marks inside those below.
                last = len(of_model) - number
                style = {**pictures.line_style(number), "linewidth": 0.7 + last, "markersize": 2 + 2 * last}
                for result in found:
                    points = sorted((int(n), a["symbols"]) for n, a in result["accuracy"].items() if n.isdigit())
                    label = NAMES.get(model, model) if result is found[0] else None
                    by_length.plot(*zip(*points), marker="o", label=label, **style)
                    if result["curve"]:
                        by_update.plot(*zip(*result["curve"]), **style)
            lengths, trained = tested(of_model), cells.TASKS[task]
            by_length.set_xscale("log", base=2)
            by_length.set_xticks(lengths, [f"{n:,}" for n in lengths])
            if trained.chance:
                by_length.axhline(trained.chance, color="#888888", linestyle=":", linewidth=1, label="chance")
            title = f"{task}, trained to {trained.longest}: accuracy by length, %"
            by_length.set(title=title, xlabel="length", ylim=(-3, 103))
            by_length.legend()
            by_update.set(title="at the trained lengths, %", xlabel="updates", ylim=(-3, 103))
            pictures.short_numbers(by_update.xaxis, 6)

        pictures.draw(os.path.join(folder, f"{task}-{supervision}.png"), 8, 3, content)
