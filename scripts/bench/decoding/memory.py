"""Peak memory of one decoding, each in a process of its own."""

from common import measure
from decoding import systems


def peak(case, shape, system, threads, rows=None):
    """Bytes that decoding takes above what the process held before: the model, and what a first small run loads."""
    return measure.peak(_make, case, shape, system, threads, rows, threads=threads)


def _make(case, shape, system, threads, rows):
    systems.make(case.small(), shape.small(), system, threads, rows and 2).run()
    return systems.make(case, shape, system, threads, rows)


def most_rows(case, shape, system, threads, say):
    """Texts that a language model can write at once within the case's limit, by the peaks of two runs with few."""
    few, more = 2, 6
    low, high = (peak(case, shape, system, threads, rows) for rows in (few, more))
    each = max(1, (high - low) / (more - few))
    rows = max(1, int((case.limit_mb * 1e6 - low) / each) + few)
    say(
        f"{case.name}: {system} {shape.name} takes {low / 1e6:.1f} MB with {few} texts, and {each / 1e6:.2f} MB for "
        f"each more: {rows} texts within {case.limit_mb} MB"
    )
    return rows
