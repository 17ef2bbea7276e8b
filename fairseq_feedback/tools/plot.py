"""Learning curves of one or several trainings, from what fairseq-train printed.

    fairseq-feedback plot runs/feedback/train.log runs/transformer/train.log --output curves.png

A log may be of --log-format simple or json, of a training that still runs, was cut off, or was restarted. Of a folder,
the trainings among its *.log files are taken. Panels that the logs have no numbers for are left out.
"""

import math
import statistics

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import pictures
from fairseq_feedback.tools.program import at_least_one
from fairseq_feedback.tools.table import markdown
from fairseq_feedback.tools.training_log import curves

LOWER_IS_BETTER = ("loss", "ppl", "bits", "wer", "cer", "ter")
TITLES = {"ppl": "perplexity", "wps": "words/s", "bleu": "BLEU", "bits_per_char": "bits per character"}
KINDS = {"train": "training", "valid": "validation"}
POINTS = 100  # of a curve that smoothing leaves, unless --smooth says otherwise


def add_arguments(parser):
    parser.add_argument("logs", nargs="+", metavar="LOG", help="log of a training, or a folder with such logs")
    parser.add_argument(
        "--output", default="curves.png", metavar="FILE", help="the picture: .png, .svg or .pdf (%(default)s)"
    )
    parser.add_argument(
        "--metrics", nargs="+", metavar="NAME", help="what to show, a panel each, by fairseq's names: loss, ppl, bleu, "
        "wps, gnorm, …; train_loss or valid_loss for one of both"
    )  # fmt: skip
    parser.add_argument(
        "--against", choices=("updates", "epochs", "hours"), default="updates", help="the horizontal axis (%(default)s)"
    )
    parser.add_argument("--labels", nargs="+", metavar="TEXT", help="a name for each run, instead of its file's")
    parser.add_argument(
        "--smooth", type=int, metavar="N", help=f"average N values of training; 1 for none (a {POINTS}th of a curve)"
    )


def main(args):
    pictures.check("--output", args.output)
    at_least_one(args, "smooth")
    runs = curves(args.logs)
    if args.labels:
        if len(args.labels) != len(runs):
            raise FeedbackError(f"--labels: give as many names as there are runs, {len(runs)}")
        for run, label in zip(runs, args.labels):
            run.label = label
    panels = asked(runs, args.metrics) if args.metrics else usual(runs)
    print(summary(runs, panels))
    columns = len(panels) if len(panels) < 4 else math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    pictures.draw(
        args.output,
        9 if columns > 1 else 6,
        0.5 + (2.6 if columns > 1 else 3.5) * rows,
        lambda figure: _draw(figure, rows, columns, runs, panels, args),
    )
    print(f"\n{args.output}")


def usual(runs):
    """(kind, name) of training loss, how good the model is in validation, and speed, as far as the logs have them."""
    panels = [("train", "loss"), *(("valid", name) for name in validation(runs)), ("train", "wps")]
    return [panel for panel in panels if _is_logged(runs, *panel)]


def validation(runs):
    """Bits per character where tokens are characters, else perplexity or loss; then what chose the best checkpoint."""
    names = list(dict.fromkeys(name for run in runs for name in run.names("valid")))
    first = next((name for name in ("ppl", "loss") if name in names), None)
    if "bits_per_char" in names and all(map(_of_characters, runs)):
        first = "bits_per_char"
    best = [name[len("best_") :] for name in names if name.startswith("best_")]
    best = [name for name in ["bleu", *best] if name in names and not _lower_is_better(name)]
    return list(dict.fromkeys([first] * (first is not None) + best))


def _of_characters(run):
    _, bits = run.curve("valid", "bits_per_char")
    _, perplexities = run.curve("valid", "ppl")
    return bool(bits) and all(abs(math.log2(ppl) - b) < 0.02 * b for ppl, b in zip(perplexities, bits))


def asked(runs, names):
    panels = []
    for name in names:
        kind, _, rest = name.partition("_")
        exactly = [("train", name), *((kind, name) for run in runs for kind in run.stats)]
        found = [panel for panel in exactly if _is_logged(runs, *panel)]
        if not found and _is_logged(runs, kind, rest):
            found = [(kind, rest)]
        if not found:
            known = sorted({n for run in runs for kind in run.stats for n in run.names(kind)})
            raise FeedbackError(f"--metrics {name}: the logs have {', '.join(known)}")
        panels += found
    return list(dict.fromkeys(panels))


def _is_logged(runs, kind, name):
    return any(name in run.names(kind) for run in runs)


def summary(runs, panels):
    """The last training loss, the best of each validation with its update, and the median speed."""
    validated = [(kind, name) for kind, name in panels if kind != "train"]
    rows = []
    for run in runs:
        losses, speeds = (run.curve("train", name)[1] for name in ("loss", "wps"))
        speeds = [speed for speed in speeds if speed > 0]
        rows.append(
            [run.label, run.updates(), f"{losses[-1]:g}" if losses else None]
            + [best(run, kind, name) for kind, name in validated]
            + [round(statistics.median(speeds)) if speeds else None]
        )
    header = [f"best {title(kind, name)}" for kind, name in validated]
    return markdown(["run", "updates", "training loss", *header, "words/s"], rows)


def best(run, kind, name):
    points = [(value, update) for update, value in zip(*run.curve(kind, name)) if math.isfinite(value)]
    if not points:
        return None
    value, update = (min if _lower_is_better(name) else max)(points, key=lambda point: point[0])
    return f"{value:g} at {update:,}"


def title(kind, name):
    text = TITLES.get(name, name.replace("_", " "))
    return text if name == "wps" else f"{KINDS.get(kind, kind)} {text}"


def _lower_is_better(name):
    return any(word in name for word in LOWER_IS_BETTER)


def _draw(figure, rows, columns, runs, panels, args):
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    unit, seconds = _clock(runs)
    end = max(max(positions(run, [run.updates()], args.against, seconds)) for run in runs)
    for axes, (kind, name) in zip(grid, panels):
        axes.set_title(title(kind, name))
        axes.grid(True)
        axes.set_xlabel(unit if args.against == "hours" else args.against)
        shown = []
        for number, run in enumerate(runs):
            updates, values = run.curve(kind, name)
            x = positions(run, updates, args.against, seconds)
            points = [(a, b) for a, b in zip(x, values) if math.isfinite(b) and (b > 0 or name != "wps")]
            if not points:
                continue
            x, values = zip(*points)
            style = pictures.line_style(number)
            if kind == "train":
                width = args.smooth or max(1, round(len(values) / POINTS))
                if width > 1:
                    axes.plot(x, values, color=style["color"], linewidth=0.5, alpha=0.25)
                axes.plot(x, smoothed(values, width), linewidth=1.5, **style)
            else:
                marker = "o" if len(x) <= 40 else ""
                axes.plot(x, values, linewidth=1.5, marker=marker, markersize=3.5, **style)
            shown += values
        axes.set_xlim(0, 1.02 * (end or 1))
        _scale(axes, name, shown)
    if len(runs) > 1:
        lines = [_line(number) for number in range(len(runs))]
        longest = max(len(run.label) for run in runs)
        figure.legend(lines, [run.label for run in runs], loc="outside upper left", ncols=max(1, 100 // (longest + 8)))
    else:
        figure.suptitle(runs[0].label, x=0.01, ha="left", fontsize=10)


def _line(number):
    from matplotlib.lines import Line2D

    return Line2D([], [], linewidth=2, **pictures.line_style(number))


def _scale(axes, name, values):
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if "ppl" in name and values and 0 < min(values) < max(values) / 5:  # it begins at the size of the dictionary
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif name == "wps":
        axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _clock(runs):
    """The unit for times, and its seconds."""
    longest = max((seconds for run in runs for seconds in run.curve("train", "wall")[1]), default=0)
    return next(((unit, n) for unit, n in (("hours", 3600), ("minutes", 60)) if longest > 2 * n), ("seconds", 1))


def positions(run, updates, against, seconds):
    """Where updates stand on the axis. Those between the lines of training are interpolated."""
    import numpy as np

    if against == "updates":
        return updates
    known, values = run.curve("train", "epochs" if against == "epochs" else "wall")
    if not known:
        raise FeedbackError(f"{run.path} does not say the time of its updates: leave --against {against} out")
    last = max([known[-1], *updates])
    known, values = [0, *known, last + 1], [0, *values, values[-1] * (last + 1) / known[-1]]
    return (np.interp(updates, known, values) / (seconds if against == "hours" else 1)).tolist()


def smoothed(values, width):
    """The mean of up to `width` around each; of fewer at the start, where they fall fast, and at the end."""
    half = (width - 1) // 2
    return [statistics.fmean(values[i - min(i, half) : i + min(i, half) + 1]) for i in range(len(values))]
