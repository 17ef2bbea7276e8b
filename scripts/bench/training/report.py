"""The result of the training benchmark: what compares its rows, and its table."""

from common import origin
from common.report import megabytes, number, ratio, table
from training.cases import TRANSFORMER


def compare(rows):
    baselines = {r["case"]: r for r in rows if r["system"] == TRANSFORMER}
    for r in rows:
        baseline = baselines.get(r["case"])
        r["time_ratio"] = ratio(r, baseline, "median_seconds")
        r["peak_ratio"] = ratio(r, baseline, "peak_bytes")


def markdown(result):
    """A line for each case, a column for each system."""
    notes = {}
    lines = [
        table("case", {(r["case"], r["system"]): cell(r, notes) for r in result["rows"]}),
        "",
        "Words/s, then time and peak memory as a multiple of the transformer's (its own: MB).",
        "",
    ]
    lines += [f"[{n}] {system}: {note}.  " for (system, note), n in notes.items()]
    if notes:
        lines.append("")
    lines.append(origin.sentence(result["about"]))
    return "\n".join(lines) + "\n"


def cell(r, notes):
    if r["system"] == TRANSFORMER:
        second, third = "1", megabytes(r["peak_bytes"])
    else:
        second, third = number(r["time_ratio"], ".2f"), number(r["peak_ratio"], ".2f")
    mark = " [{}]".format(notes.setdefault((r["system"], r["note"]), len(notes) + 1)) if r["note"] else ""
    return f"{number(r['words_per_second'], ',.0f')} · {second} · {third}{mark}"
