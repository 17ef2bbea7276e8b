"""Files that are read by lines, and files that are written whole."""

import contextlib
import json
import os

from fairseq_feedback.errors import FeedbackError


def read_lines(path):
    """The lines of a file. Only the line feed ends a line, unlike in str.splitlines()."""
    if not os.path.isfile(path):
        raise FeedbackError(f"{path} is missing")
    with open(path, encoding="utf-8", newline="\n") as f:
        try:
            return [line.rstrip("\n") for line in f]
        except UnicodeDecodeError as error:
            raise FeedbackError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


@contextlib.contextmanager
def whole(path, mode="w"):
    """A file to write to under a temporary name. It gets its own name when everything is written."""
    path = os.fspath(path)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with open(path + ".part", mode, **text) as f:
        yield f
    os.replace(path + ".part", path)


def write_json(path, content):
    with whole(path) as f:
        json.dump(content, f, indent=2, ensure_ascii=False)
        f.write("\n")
