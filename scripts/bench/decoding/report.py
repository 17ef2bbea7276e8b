"""The result of the decoding benchmark: rows for JSON, and a Markdown table of each case."""

import statistics

from decode_cases import SYSTEMS, TRANSFORMER
from report import number, origin, ratio


def row(case, shape, system, made, seconds):
    """One line of the result; compare() adds what compares it with the transformer."""
    median = statistics.median(seconds)
    return dict(
        case=case.name,
        shape=shape.name,
        system=system,
        words=made.words,
        parameters=made.parameters,
        seconds=seconds,
        median_seconds=median,
        words_per_second=made.words / median,
        peak_bytes=None,
        rows=None,
    )


def compare(rows):
    """`speed_ratio`: to the transformer of the same shape, `first_ratio`: to that of the case's first shape."""
    for r in rows:
        transformers = [t for t in rows if t["case"] == r["case"] and t["system"] == TRANSFORMER]
        same = next((t for t in transformers if t["shape"] == r["shape"]), None)
        r["speed_ratio"] = ratio(r, same, "words_per_second")
        r["first_ratio"] = ratio(r, transformers[0] if transformers else None, "words_per_second")
        r["peak_ratio"] = ratio(r, same, "peak_bytes")


def markdown(result):
    lines = []
    for case in dict.fromkeys(r["case"] for r in result["rows"]):
        rows = [r for r in result["rows"] if r["case"] == case]
        lines += table(case, rows) + [""]
    lines += [
        "Words/s, then as a multiple of the transformer's of the same shape, and of that of the first line. Where "
        "memory was measured, then its peak above the weights, as a multiple of the transformer's (its own: MB). [n]: "
        "with so many texts at once.",
        "",
        origin(result["about"]),
    ]
    return "\n".join(lines) + "\n"


def table(case, rows):
    systems = [system for system in SYSTEMS if any(r["system"] == system for r in rows)]
    lines = [f"| {case} | " + " | ".join(systems) + " |", "|---|" + "---|" * len(systems)]
    found = {(r["shape"], r["system"]): r for r in rows}
    for shape in dict.fromkeys(r["shape"] for r in rows):
        cells = [cell(found.get((shape, system))) for system in systems]
        lines.append("| " + " | ".join([shape, *cells]) + " |")
    return lines


def cell(r):
    if r is None:
        return ""
    parts = [number(r["words_per_second"], ",.0f"), number(r["speed_ratio"], ".2f"), number(r["first_ratio"], ".2f")]
    if r["peak_bytes"] is not None:
        own = r["system"] == TRANSFORMER
        parts.append(f"{r['peak_bytes'] / 1e6:,.0f} MB" if own else number(r["peak_ratio"], ".2f"))
    return " · ".join(parts) + (f" [{r['rows']}]" if r["rows"] else "")
