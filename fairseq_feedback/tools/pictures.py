"""How the tools' pictures look, and how they are written."""

import os

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.extras import need
from fairseq_feedback.tools.files import whole

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # of Okabe and Ito
LINES = ["-", "--", ":", "-."]
KINDS = ("png", "svg", "pdf")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "fairseq-feedback",  # the same picture is the same file
}


def line_style(number):
    """Seven colours, then the same ones with dashes."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": LINES[number // len(COLORS) % len(LINES)]}


def short_numbers(axis, ticks):
    """10k instead of 10000, and no more ticks than have room."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(ticks))
    axis.set_major_formatter(EngFormatter(sep=""))


def check(flag, path):
    """Before the work: can a picture be drawn, and of what kind is it by its name?"""
    kind = os.path.splitext(path)[1][1:].lower()
    if kind not in KINDS:
        raise FeedbackError(f"{flag} {path}: give a name that ends in .png, .svg or .pdf")
    need("plot", "matplotlib")


def draw(path, width, height, content):
    """Write a picture, in inches, that content(figure) fills."""
    import matplotlib
    from matplotlib.figure import Figure

    kind = os.path.splitext(path)[1][1:].lower()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        content(figure)
        with whole(path, "wb") as f:
            figure.savefig(f, format=kind, dpi=150)
