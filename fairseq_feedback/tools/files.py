"""Files that are read by lines, and files that are written whole."""

import json
import os
from contextlib import contextmanager

from fairseq_feedback import files
from fairseq_feedback.errors import FeedbackError


def must_be_file(path, name="", mend=""):
    """name: of what names it, as --path; mend: what to do."""
    if not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "not a plain file"
        what = f"is {kind}" if os.path.exists(path) else "is missing"
        raise FeedbackError(f"{name and name + ' '}{path} {what}{mend and ': ' + mend}")


def read_lines(path):
    """The lines of a file. Only the line feed ends a line, unlike in str.splitlines()."""
    must_be_file(path)
    with open(path, encoding="utf-8", newline="\n") as f:
        try:
            return [line.rstrip("\n") for line in f]
        except UnicodeDecodeError as error:
            raise FeedbackError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


@contextmanager
def whole(path, mode="w", damage=None):
    """As files.whole, in a folder that is made if it is missing."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with files.whole(path, mode, damage) as f:
        yield f


def write_json(path, content):
    with whole(path) as f:
        json.dump(content, f, indent=2, ensure_ascii=False)
        f.write("\n")


def age(paths):
    """{path: size and time} of those that are files, to know them again."""
    found = {}
    for path in paths:
        if isinstance(path, str) and os.path.isfile(path):
            state = os.stat(path)
            found[os.path.abspath(path)] = [state.st_size, state.st_mtime_ns]
    return found
