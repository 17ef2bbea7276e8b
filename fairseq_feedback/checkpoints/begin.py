"""What a training needs when it begins: its folder, nothing of the training before, and the memory that it frees."""

import ctypes
import errno
import fcntl
import glob
import logging
import math
import os
import re
import socket
import sys
import weakref
from contextlib import contextmanager, suppress

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils

from fairseq_feedback.errors import FeedbackError, find
from fairseq_feedback.files import PART

logger = logging.getLogger(__name__)

LOCK = ".training.lock"
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
_held = None  # the lock of this process


def begin(cfg, trainer) -> None:
    """`cfg`: the part of the settings that is about checkpoints."""
    refuse_background_writes(cfg)
    forget_the_last_training()
    if distributed_utils.is_master(trainer.cfg.distributed_training) and not cfg.no_save:
        lock(cfg.save_dir, trainer)
    if trainer.device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> None:
    """For what is allocated next. glibc gives large blocks back to the system, which clears them again each time.

    On a CPU that is a quarter of a training's time. Whoever sets glibc's own variables has decided already.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not any(name.startswith("MALLOC_") for name in os.environ):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def refuse_background_writes(cfg) -> None:
    if getattr(cfg, "write_checkpoints_asynchronously", False):
        raise FeedbackError(
            "--write-checkpoints-asynchronously: what is written in the background cannot be verified. Leave it out"
        )


def say_what_does_not_fit(error) -> None:
    """`error`: what loading a checkpoint ended with. fairseq leaves out why the model did not take it."""
    said = re.match("Cannot load model parameters from checkpoint (.*?); ", str(error))
    if said and not find(error):
        reason = " ".join(str(error.__context__).split())[:300]
        raise FeedbackError(
            f"checkpoint {said[1]} does not fit the model of these options ({reason}). Go on with its own options, "
            "or give this training a --save-dir of its own"
        ) from error


def end_if_done(trainer) -> None:
    """fairseq looks at --max-update after an update: a finished training that is begun again would make one more.

    Before it, it looks at --stop-min-lr, of which it then speaks, too.
    """
    settings = trainer.cfg.optimization
    if 0 < settings.max_update <= trainer.get_num_updates():
        logger.info(f"--max-update {settings.max_update} was reached before: there is nothing to train")
        settings.stop_min_lr = math.inf


def forget_the_last_training() -> None:
    """fairseq keeps the best score as attributes of functions, which outlive a training in the same process."""
    functions = [checkpoint_utils.save_checkpoint]
    for name in ("fairseq_cli.train", "__main__"):  # fairseq-train is one of them
        functions.append(getattr(sys.modules.get(name), "should_stop_early", None))
    for function in filter(None, functions):
        for name in ("best", "num_runs"):
            vars(function).pop(name, None)


def lock(save_dir, owner) -> None:
    """Hold a folder until `owner` or the process is gone; without a lock where the file system has none.

    A lock of the process (lockf): workers that load data do not inherit it, and NFS has it.
    """
    global _held
    if _held is not None:
        _held.close()
    try:
        _held = open(os.path.join(save_dir, LOCK), "ab+", buffering=0)
    except OSError:
        return  # fairseq has said whether it can write there
    try:
        fcntl.lockf(_held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            _held.seek(0)
            raise FeedbackError(
                f"--save-dir {save_dir}: another training writes there ({_held.read(200).decode(errors='replace')}). "
                "Stop it, or give this one a folder of its own"
            ) from None
        logger.info(f"--save-dir {save_dir} cannot be locked ({error.strerror}): see that one training writes there")
        return
    weakref.finalize(owner, _held.close)
    with suppress(OSError):  # a full disk
        _held.truncate(0)
        _held.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    for left in glob.glob(os.path.join(glob.escape(save_dir), "checkpoint*.pt" + PART)):
        os.remove(left)  # of a training that was killed while it wrote


@contextmanager
def together(trainer):
    """What one worker alone does: if it fails, all stop, and none waits for it."""
    failure = None
    try:
        yield
    except FeedbackError as error:
        failure = error
    if trainer.data_parallel_world_size > 1:
        failures = torch.tensor([float(failure is not None)], device=trainer.device)
        failures = distributed_utils.all_reduce(failures, group=trainer.data_parallel_process_group)
        if failures.item() and failure is None:
            raise FeedbackError("another worker could not go on, and says why: all have stopped")
    if failure is not None:
        raise failure
