"""The result of a benchmark: rows for JSON, and a Markdown table made of cells."""

import statistics

from fairseq_feedback.tools.table import markdown


def row(case, system, words=None, parameters=None, seconds=(), **more):
    """One system of a case. `more`: what only some benchmarks know."""
    median = statistics.median(seconds) if seconds else None
    return dict(
        case=case,
        system=system,
        words=words,
        parameters=parameters,
        seconds=list(seconds),
        median_seconds=median,
        words_per_second=words / median if median else None,
        peak_bytes=None,
        **more,
    )


def ratio(r, baseline, name):
    return r[name] / baseline[name] if baseline and r[name] is not None and baseline[name] else None


def table(corner, cells):
    """`cells`: texts by their line and column, both in the order of the table. Where one is missing, nothing stands."""
    lines = dict.fromkeys(line for line, _ in cells)
    columns = dict.fromkeys(column for _, column in cells)
    return markdown([corner, *columns], [[line, *(cells.get((line, c)) for c in columns)] for line in lines])


def number(value, form):
    return "–" if value is None else format(value, form)


def megabytes(size):
    return number(size and size / 1e6, ",.0f") + " MB"
