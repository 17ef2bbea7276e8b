"""Checkpoints are written whole, and tried again when a disk fails."""

import logging
import os
import shutil
import time
from contextlib import contextmanager

import torch

from fairseq_feedback.checkpoints.verify import damage, newest_whole
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.files import whole

logger = logging.getLogger(__name__)

WAITS = (2.5, 2.5)  # seconds before another try, as fairseq has them


def save(state, path) -> None:
    _write(path, lambda f: torch.save(state, f))


def copy(source, path) -> None:
    """Not a link: who writes into one of the names later does not mean the others, and a bad block hits one only."""

    def fill(f):
        with open(source, "rb") as g:
            shutil.copyfileobj(g, f, 1 << 22)

    _write(path, fill)


@contextmanager
def said_by_the_disk(path):
    """torch.save says "unexpected pos" of a full disk, and what the disk said is the context: that is raised."""
    try:
        yield
    except RuntimeError as error:
        said = error.__context__
        if not isinstance(said, OSError):
            raise
        said.filename = os.fspath(path)
        raise said from None


def _write(path, fill) -> None:
    for wait in (*WAITS, None):
        try:
            with whole(path, "wb", damage) as f, said_by_the_disk(path):
                fill(f)
            return
        except OSError as error:
            if wait is None:
                raise FeedbackError(_sentence(path, error)) from error
            logger.warning(f"{path} was not written ({error.strerror or error}): trying again in {wait} seconds")
            time.sleep(wait)


def _sentence(path, cause) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    last = newest_whole(folder)
    if last is None:
        known = "No checkpoint in it is whole"
    else:
        known = f"The last whole one is {last}"
    resumes = last is None or os.path.basename(last).startswith("checkpoint_last")
    restore = "" if resumes else f" with --restore-file {last}"
    return (
        f"checkpoint {path} was not written, and training has stopped: {cause.strerror or cause} (folder {folder}). "
        f"{known}. Make room or mend the folder, then give the same command again{restore}."
    )
