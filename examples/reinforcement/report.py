"""Tables and pictures of results."""

import os
import statistics

from examples.report import results_in
from fairseq_feedback.tools import pictures
from fairseq_feedback.tools.table import markdown

NAMES = {"feedback": "feedback", "own": "transformer (own)", "lstm": "LSTM", "gru": "GRU"}


def show(folder, plots=None):
    results = results_in(folder)
    for task, of_model in grouped(results).items():
        print(f"**{task}**, {described(of_model)}:\n\n{table(of_model)}\n")
    if plots:
        for task, of_model in grouped(results).items():
            draw_curves(task, of_model, os.path.join(plots, f"{task}.png"))
            if len({span for _, span in of_model if span is not None}) > 1:
                draw_spans(task, of_model, os.path.join(plots, f"{task}-spans.png"))


def grouped(results):
    """task -> (agent, span) -> its results, by seed."""
    found = {}
    for result in sorted(results, key=lambda result: (result["span"] or 0, result["seed"])):
        found.setdefault(result["task"], {}).setdefault((result["agent"], result["span"]), []).append(result)
    order = list(NAMES)
    return {
        task: dict(sorted(of_model.items(), key=lambda item: (order.index(item[0][0]), item[0][1] or 0)))
        for task, of_model in sorted(found.items())
    }


def described(of_model):
    first = next(iter(of_model.values()))[0]
    options = ", ".join(f"{name} {value}" for name, value in first["options"].items())
    return f"{options}; {first['environments']} environments, blocks of {first['block']} steps"


def table(of_model):
    """Of several seeds, the numbers of each, and the mean of times and speeds."""
    header = ["agent", "layers × width", "span", "parameters", "frames", "reward", "% of the best", "CPU minutes",
              "training frames/s", "acting frames/s", "learning frames/s"]  # fmt: skip
    rows = []
    for (agent, span), results in of_model.items():
        first = results[0]
        start = [NAMES[agent], f"{first['layers']} × {first['width']}", span, f"{first['parameters'] / 1e6:.2f}M"]
        rewards = ", ".join(f"{result['reward']:.2f}" for result in results)
        share = ", ".join(
            f"{100 * result['reward'] / result['best']:.1f}" if result["best"] else "–" for result in results
        )
        speeds = [round(mean(results, f"{kind}_speed")) for kind in ("training", "acting", "learning")]
        minutes = round(mean(results, "cpu_minutes"))
        rows.append([*start, f"{mean(results, 'frames') / 1e6:.2f}M", rewards, share, minutes, *speeds])
    return markdown(header, rows)


def mean(results, name):
    return statistics.fmean(result[name] for result in results)


def draw_curves(task, of_model, path):
    """Reward over frames: the mean of the seeds, in a band from the worst to the best. One picture for each span."""
    spans = sorted({span for _, span in of_model if span is not None}) or [None]

    def content(figure):
        (row,) = figure.subplots(1, len(spans), sharey=True, squeeze=False)
        for axes, span in zip(row, spans):
            for number, agent in enumerate(NAMES):
                results = of_model.get((agent, span)) or of_model.get((agent, None))
                if results:
                    frames, low, middle, high = band([result["curve"] for result in results])
                    color = pictures.COLORS[number]
                    axes.plot(frames, middle, color=color, label=f"{NAMES[agent]} ({len(results)})")
                    axes.fill_between(frames, low, high, color=color, alpha=0.2, linewidth=0)
            axes.set(title=task if span is None else f"{task}, span {span}", xlabel="frames")
            pictures.short_numbers(axes.xaxis, 3)
        row[0].set_ylabel("reward, mean of 500 episodes")
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(4, 2 * len(spans)))

    pictures.draw(path, max(4.5, 2.6 * len(spans)), 3.5, content)


def band(curves):
    """Curves of [frames, reward] -> frames that all have come to, and of these the lowest, mean and highest reward."""
    import numpy as np

    first, last = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    frames = np.array([frame for frame, _ in curves[0] if first <= frame <= last])
    values = np.stack([np.interp(frames, *zip(*curve)) for curve in curves])
    return frames, values.min(axis=0), values.mean(axis=0), values.max(axis=0)


def draw_spans(task, of_model, path):
    """Success over memory spans, as in the paper's figure 3; the seeds are points."""

    def content(figure):
        axes = figure.subplots()
        for number, agent in enumerate(NAMES):
            of_span = {span: results for (name, span), results in of_model.items() if name == agent}
            style = {"color": pictures.COLORS[number], "label": NAMES[agent]}
            if None in of_span:
                axes.axhline(100 * mean(of_span[None], "success"), linestyle=":", linewidth=1, **style)
            elif of_span:
                spans = sorted(of_span)
                axes.plot(spans, [100 * mean(of_span[span], "success") for span in spans], **style)
                points = [(span, 100 * result["success"]) for span in spans for result in of_span[span]]
                axes.plot(*zip(*points), "o", markersize=4, color=style["color"])
        axes.set(title=f"{task}: episodes with a reward, %", xlabel="memory span", ylim=(-3, 103))
        axes.legend()

    pictures.draw(path, 4.5, 3, content)
