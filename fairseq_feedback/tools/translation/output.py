"""An output that can be stopped at any moment and continued."""

import errno
import fcntl
import hashlib
import json
import os

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import write_json

BLOCK = 1 << 20
COUNTS = ("lines", "output_bytes", "words", "too_long")


class ResumableOutput:
    """OUTPUT.part, which grows by whole chunks, and OUTPUT.part.json: what the work is, and how much is written.

    The second is always written after the text that it tells of. So what OUTPUT.part has beyond that is from a chunk
    that was not finished, and is cut off.
    """

    def __init__(self, path, work):
        self.path, self.part, self.state = path, path + ".part", path + ".part.json"
        self.work = work
        self.done = dict.fromkeys(COUNTS, 0)
        self.checksum = hashlib.sha256()
        self.mend = f"delete {self.part}, or give another --output"
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise FeedbackError(f"the folder of --output, {folder}, is missing")
        if os.path.lexists(path):
            raise FeedbackError(f"{path} exists already: delete it, or give another --output")
        self.file = self._open()
        size = os.fstat(self.file.fileno()).st_size
        if size:
            self._go_on(size)
        else:
            self._save()

    def _open(self):
        try:
            file = os.fdopen(os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise FeedbackError(f"{self.part} is a link, and what it points to is not written: {self.mend}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FeedbackError(f"another run is writing {self.part}: wait for it, or give another --output") from error
        try:
            is_still_there = os.path.samestat(os.fstat(file.fileno()), os.lstat(self.part))
        except FileNotFoundError:
            is_still_there = False
        if not is_still_there:
            raise FeedbackError(f"another run has just finished {self.part}: look at {self.path}")
        return file

    def _go_on(self, size):
        try:
            with open(self.state, encoding="utf-8") as f:
                state = json.load(f)
            work, done, checksum = state["work"], {name: state["done"][name] for name in COUNTS}, state["sha256"]
            if not all(type(number) is int and number >= 0 for number in done.values()):
                raise ValueError("counts")
            changes = differences(work, self.work)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FeedbackError(
                f"{self.part} cannot be continued, for {self.state} is missing or damaged: {self.mend}"
            ) from error
        if changes:
            more = f", and {len(changes) - 3} more" * (len(changes) > 3)
            raise FeedbackError(
                f"{self.part} has {done['lines']:,} lines of other work ({'; '.join(changes[:3])}{more}): "
                f"start it as before to continue, or {self.mend}"
            )
        if size < done["output_bytes"]:
            raise FeedbackError(f"{self.part} is shorter than {self.state} says: {self.mend}")
        left = done["output_bytes"]
        while left:
            block = self.file.read(min(BLOCK, left))
            self.checksum.update(block)
            left -= len(block)
        if self.checksum.hexdigest() != checksum:
            raise FeedbackError(f"{self.part} is not what was written, or {self.state} is not: {self.mend}")
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
        self.checksum.update(text)
        self._save()

    def _save(self):
        write_json(self.state, {"work": self.work, "done": self.done, "sha256": self.checksum.hexdigest()})

    def finish(self):
        """A link, unlike a new name, takes nobody's place. Where there are no links, one looks before."""
        try:
            os.link(self.part, self.path)
        except FileExistsError as error:
            raise self.taken() from error
        except OSError:
            if os.path.lexists(self.path):
                raise self.taken() from None
            os.rename(self.part, self.path)
        else:
            os.remove(self.part)
        os.remove(self.state)
        self.close()

    def taken(self):
        return FeedbackError(f"{self.path} was made by someone else meanwhile: the translation is whole in {self.part}")

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
