"""The result of the decoding benchmark: what compares its rows, and a table of each case."""

from common import origin
from common.report import megabytes, number, ratio, table
from decoding.cases import TRANSFORMER


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
        cells = {(r["shape"], r["system"]): cell(r) for r in result["rows"] if r["case"] == case}
        lines += [table(case, cells), ""]
    lines += [
        "Words/s, then as a multiple of the transformer's of the same shape, and of that of the first line. Where "
        "memory was measured, then its peak above the weights, as a multiple of the transformer's (its own: MB). [n]: "
        "with so many texts at once.",
        "",
        origin.sentence(result["about"]),
    ]
    return "\n".join(lines) + "\n"


def cell(r):
    parts = [number(r["words_per_second"], ",.0f"), number(r["speed_ratio"], ".2f"), number(r["first_ratio"], ".2f")]
    if r["peak_bytes"] is not None:
        own = r["system"] == TRANSFORMER
        parts.append(megabytes(r["peak_bytes"]) if own else number(r["peak_ratio"], ".2f"))
    return " · ".join(parts) + (f" [{r['rows']}]" if r["rows"] else "")
