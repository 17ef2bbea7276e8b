"""The text that is translated: read once to know it, then again from any line on."""

import codecs
import hashlib
import itertools

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.translation.translator import ERRORS, Chunk

BLOCK = 1 << 20


def scan(path, errors="stop"):
    """{"bytes", "lines", "sha256"} of a text in UTF-8. Only the line feed ends a line."""
    found = {"bytes": 0, "lines": 0}
    checksum = hashlib.sha256()
    decoder = codecs.getincrementaldecoder("utf-8")(ERRORS[errors])
    block = b""
    with open(path, "rb") as f:
        while True:
            last, block = block, f.read(BLOCK)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line = found["lines"] + error.object[: error.start].count(b"\n") + 1
                raise FeedbackError(
                    f"line {line} of {path} is not UTF-8 text: {error.reason}. Mend it, or give --errors replace"
                ) from error
            if not block:
                break
            found["bytes"] += len(block)
            found["lines"] += block.count(b"\n")
            checksum.update(block)
    if last and not last.endswith(b"\n"):
        found["lines"] += 1
    found["sha256"] = checksum.hexdigest()
    return found


def read_chunks(path, first, end, size):
    """Chunks of the lines from `first` to `end`."""
    with open(path, "rb") as f:
        for _ in itertools.islice(f, first):
            pass
        while first < end:
            lines = list(itertools.islice(f, min(size, end - first)))
            if not lines:
                return
            yield Chunk(first, lines)
            first += len(lines)
