"""What the small command-line tools share: one sentence for a mistake, files read by lines, files written whole."""

import argparse
import contextlib
import json
import os
import sys


class Problem(Exception):
    """Something that the user can mend, told in one sentence."""


class Parser(argparse.ArgumentParser):
    """Shows the docstring as it is written, and a wrong option as one sentence."""

    def __init__(self, description=None, **more):
        more["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, **more)

    def error(self, message):
        self.exit(2, f"error: {message.replace('argument ', '', 1)}. See: python {sys.argv[0]} --help\n")


def run(main):
    """Call main(); end with its Problem as a sentence."""
    try:
        main()
        sys.stdout.flush()  # here, where a full disk still becomes a sentence
    except Problem as problem:
        sys.exit(f"error: {problem}")
    except OSError as error:  # a full disk, no permission
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror}")


def read_lines(path):
    """The lines of a file. Only the line feed ends a line, unlike in str.splitlines()."""
    if not os.path.isfile(path):
        raise Problem(f"{path} is missing")
    with open(path, encoding="utf-8", newline="\n") as f:
        try:
            return [line.rstrip("\n") for line in f]
        except UnicodeDecodeError as error:
            raise Problem(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


@contextlib.contextmanager
def whole(path, mode="w"):
    """A file to write to under a temporary name. It gets its own name when everything is written."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with open(path + ".part", mode, **text) as f:
        yield f
    os.replace(path + ".part", path)


def write_json(path, content):
    with whole(path) as f:
        json.dump(content, f, indent=2, ensure_ascii=False)
        f.write("\n")
