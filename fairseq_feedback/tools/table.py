"""Markdown tables."""


def markdown(header, rows):
    """The text of a table. Of the cells, whole numbers get their commas, and None stays empty."""
    lines = ["| " + " | ".join(map(cell, line)) + " |" for line in [header, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def cell(value):
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
