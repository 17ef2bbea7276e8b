"""Files that are whole, or not there: whatever stops the writing, the file of before stays."""

import errno
import os
from contextlib import contextmanager, suppress

PART = ".part"


@contextmanager
def whole(path, mode="w", damage=None):
    """A file to write into, which gets its name when all of it is on the disk. damage(path): what is wrong with it."""
    part = os.fspath(path) + PART
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(part, mode, **text) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        found = damage and damage(part)
        if found:
            raise OSError(errno.EIO, f"it reads back damaged, {found}")
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.remove(part)
        raise
