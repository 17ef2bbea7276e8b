"""What a current torch needs from fairseq, nothing else. Imported before everything else of this package."""

import argparse
import pickle
from functools import wraps

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils

from fairseq_feedback.errors import FeedbackError


def allow_checkpoint_types() -> None:
    """Let torch's safe loader (weights_only, the default since torch 2.6) read fairseq's checkpoints.

    They hold tensors, plain containers and one foreign type, argparse.Namespace. When several workers resume, rank 0
    sends them the checkpoint through the same loader with a placeholder for each tensor.
    """
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals(
            [argparse.Namespace, distributed_utils._TensorPlaceholder]
        )


def name_bad_checkpoints() -> None:
    """Say which checkpoint cannot be read, and why, in one sentence."""
    load = checkpoint_utils.load_checkpoint_to_cpu
    if getattr(load, "names_bad_checkpoints", False):
        return

    @wraps(load)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        try:
            return load(path, *args, **kwargs)
        except pickle.UnpicklingError as error:
            raise FeedbackError(
                f"checkpoint {path} was not loaded, and nothing in it was run: it holds something that is not "
                f"weights or plain settings ({_reason(error)}). Use a checkpoint from a source you trust."
            ) from error
        except (RuntimeError, EOFError) as error:
            if not _is_damage(error):
                raise
            raise FeedbackError(
                f"checkpoint {path} is damaged or incomplete ({_reason(error)}). "
                "Copy it again, or take an earlier one."
            ) from error

    load_checkpoint_to_cpu.names_bad_checkpoints = True
    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def _is_damage(error) -> bool:
    return isinstance(error, EOFError) or "PytorchStreamReader" in str(error)


def _reason(error) -> str:
    """The telling line of torch's message, without its advice to turn the safe loader off."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if "WeightsUnpickler error:" in line:
            return line.split("WeightsUnpickler error:", 1)[1].split(". Please use")[0].strip()
    return lines[0] if lines else type(error).__name__


allow_checkpoint_types()
name_bad_checkpoints()
