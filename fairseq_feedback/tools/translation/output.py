"""A text that is read once to know it, and an output that can be stopped at any moment and continued."""

import codecs
import fcntl
import hashlib
import json
import os

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import write_json

BLOCK = 1 << 20


def scan(path):
    """{"bytes", "lines", "sha256"} of a text in UTF-8. Only the line feed ends a line."""
    found = {"bytes": 0, "lines": 0}
    checksum = hashlib.sha256()
    decoder = codecs.getincrementaldecoder("utf-8")()
    block = b""
    with open(path, "rb") as f:
        while True:
            last, block = block, f.read(BLOCK)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line = found["lines"] + error.object[: error.start].count(b"\n") + 1
                raise FeedbackError(f"line {line} of {path} is not UTF-8 text: {error.reason}") from error
            if not block:
                break
            found["bytes"] += len(block)
            found["lines"] += block.count(b"\n")
            checksum.update(block)
    if last and not last.endswith(b"\n"):
        found["lines"] += 1
    found["sha256"] = checksum.hexdigest()
    return found


class ResumableOutput:
    """OUTPUT.part, which grows by whole chunks, and OUTPUT.part.json: what the work is, and how much is written.

    The second is always written after the text that it tells of. So what OUTPUT.part has beyond that is from a chunk
    that was not finished, and is cut off.
    """

    def __init__(self, path, work):
        self.path, self.part, self.state = path, path + ".part", path + ".part.json"
        self.work = work
        self.done = {"lines": 0, "input_bytes": 0, "output_bytes": 0, "words": 0, "too_long": 0}
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise FeedbackError(f"the folder of --output, {folder}, is missing")
        if os.path.exists(path):
            raise FeedbackError(f"{path} exists already: delete it, or give another --output")
        self.file = os.fdopen(os.open(self.part, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FeedbackError(f"another run is writing {self.part}: wait for it, or give another --output") from error
        size = os.fstat(self.file.fileno()).st_size
        if size:
            self._go_on(size)
        else:
            self._save()

    def _go_on(self, size):
        mend = f"delete {self.part}, or give another --output"
        try:
            with open(self.state, encoding="utf-8") as f:
                state = json.load(f)
            work, done = state["work"], {name: state["done"][name] for name in self.done}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FeedbackError(
                f"{self.part} cannot be continued, for {self.state} is missing or damaged: {mend}"
            ) from error
        changes = differences(work, self.work)
        if changes:
            more = f", and {len(changes) - 3} more" * (len(changes) > 3)
            raise FeedbackError(
                f"{self.part} has {done['lines']:,} lines of other work ({'; '.join(changes[:3])}{more}): "
                f"start it as before to continue, or {mend}"
            )
        if size < done["output_bytes"]:
            raise FeedbackError(f"{self.part} is shorter than {self.state} says: {mend}")
        self.done = done
        self.file.truncate(done["output_bytes"])
        self.file.seek(done["output_bytes"])

    def append(self, text, **done):
        """Write bytes, and add to the counts of what is done."""
        self.file.write(text)
        self.file.flush()
        os.fsync(self.file.fileno())
        for name, number in done.items():
            self.done[name] += number
        self.done["output_bytes"] += len(text)
        self._save()

    def _save(self):
        write_json(self.state, {"work": self.work, "done": self.done})

    def finish(self):
        os.replace(self.part, self.path)
        os.remove(self.state)
        self.close()

    def close(self):
        """What was begun stays for the next run, unless it has nothing."""
        if not self.file.closed and not self.done["lines"] and os.path.exists(self.part):
            os.remove(self.part)
            os.remove(self.state)
        self.file.close()


def differences(old, new):
    """What is not the same, in words. Both are {kind: {name: value}}."""
    found = []
    for kind in sorted({*old, *new}):
        before, now = old.get(kind, {}), new.get(kind, {})
        names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        if kind == "input" and names:
            found.append("--input had another text")
        elif kind == "options":
            found += [f"--{n.replace('_', '-')} was {before.get(n)}, is {now.get(n)}" for n in names]
        elif kind == "files":
            found += [f"{n} has changed" if n in before and n in now else f"{n} was {'not ' * (n in now)}used"
                      for n in names]  # fmt: skip
    return found
