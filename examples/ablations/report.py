"""Tables and pictures of the ablations' results."""

import os
from statistics import mean

from examples.ablations import cells
from examples.report import results_in
from fairseq_feedback.tools import pictures
from fairseq_feedback.tools.table import markdown

OF_DEPTH = "depth"  # a curve over the layers; the others are bars


def show(folder, plots=None):
    results = results_in(folder)
    found = grouped(results)
    for group, settings in found.items():
        print(f"\n{group}\n\n{table(settings)}")
    shown = {id(result) for settings in found.values() for same in settings.values() for result in same}
    if len(shown) < len(results):
        print(f"\n{len(results) - len(shown)} results of other settings than those of cells.py are not shown")
    if plots:
        for group in set(found) - {"choices"}:
            draw(found[group], group == OF_DEPTH, os.path.join(plots, group + ".png"))


def grouped(results):
    """group -> (data, layers, updates, setting) -> the result of each seed, in the order of cells.py."""
    found = {}
    for group, (_, of_group) in cells.GROUPS.items():
        for cell in of_group:
            key = cell[:4]
            same = [r for r in results if (r["data"], r["layers"], r["updates"], r["setting"]) == key]
            if same:
                found.setdefault(group, {})[key] = same
    return found


def table(settings):
    seeds = sorted({result["seed"] for results in settings.values() for result in results})
    rows = []
    for (data, layers, updates, setting), results in settings.items():
        bits = {result["seed"]: f"{result['bits']:.3f}" for result in results}
        size = results[0].get("parameters")
        seconds = round(mean(result["seconds"] for result in results))
        shown = [f"`{setting}`" if setting.startswith("--") else setting, f"{size / 1e6:.2f}M" if size else ""]
        rows.append([data, layers, updates, *shown, *(bits.get(seed, "") for seed in seeds), seconds])
    columns = [f"bits, seed {seed}" for seed in seeds]
    return markdown(["data", "layers", "updates", "setting", "parameters", *columns, "seconds"], rows)


def draw(settings, over_layers, path):
    bits = {key: [result["bits"] for result in results] for key, results in settings.items()}

    def curves(axes):
        for number, setting in enumerate(dict.fromkeys(key[3] for key in bits)):
            of_layers = {key[1]: values for key, values in bits.items() if key[3] == setting}
            style = pictures.line_style(number)
            axes.plot(list(of_layers), [mean(values) for values in of_layers.values()], label=setting, **style)
            points = [(layers, value) for layers, values in of_layers.items() for value in values]
            axes.plot(*zip(*points), "o", markersize=4, color=style["color"])
        axes.set(xlabel="layers", ylabel="bits per character", title="Depth at a constant number of parameters")
        axes.legend()

    def bars(axes):
        names = [key[3] for key in bits]
        axes.barh(names, [mean(values) for values in bits.values()], color=pictures.COLORS[0], height=0.6, alpha=0.5)
        for place, values in enumerate(bits.values()):
            axes.plot(values, [place] * len(values), "o", color="#000000", markersize=3)
        every = [value for values in bits.values() for value in values]
        axes.set_xlim(min(every) - 0.05, max(every) + 0.02)
        axes.invert_yaxis()
        axes.set(xlabel="bits per character, each point a seed; the axis does not begin at 0")

    pictures.draw(path, 6, 2.6, lambda figure: (curves if over_layers else bars)(figure.subplots()))
