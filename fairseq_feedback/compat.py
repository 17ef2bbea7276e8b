"""What a current torch needs from fairseq, nothing else. Imported before everything else of this package."""

import argparse
import pickle
from functools import wraps

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.modules import transformer_layer

from fairseq_feedback.errors import FeedbackError


def allow_checkpoint_types() -> None:
    """Let torch's safe loader (weights_only, the default since torch 2.6) read fairseq's checkpoints.

    They hold tensors, plain containers, argparse.Namespace, and with --eval-bleu the counts of the last validation as
    numpy arrays. When several workers resume, rank 0 sends them the checkpoint through the same loader with a
    placeholder for each tensor.
    """
    if not hasattr(torch.serialization, "add_safe_globals"):
        return
    multiarray = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    numbers = {type(np.dtype(name)) for name in ("int64", "float64")}
    torch.serialization.add_safe_globals(
        [argparse.Namespace, distributed_utils._TensorPlaceholder]
        + [np.ndarray, np.dtype, multiarray._reconstruct, *numbers]
    )


def avoid_old_encoder_fast_path() -> None:
    """fairseq 0.12.2 evaluates encoder layers by a torch function whose arguments have changed since; 0.12.3 does not."""
    layer = transformer_layer.TransformerEncoderLayerBase
    if "_load_from_state_dict" in vars(layer):
        layer.can_use_fastpath = property(lambda self: False, lambda self, value: None)


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
avoid_old_encoder_fast_path()
name_bad_checkpoints()
