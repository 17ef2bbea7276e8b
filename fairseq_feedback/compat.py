"""What current torch and numpy need from fairseq, clear words for bad checkpoints, and options that did not work.

Imported before everything else of this package.
"""

import argparse
import errno
import importlib.util
import math
import pickle
from functools import wraps
from types import SimpleNamespace

import numpy as np
import torch
from fairseq import checkpoint_utils, file_utils, options
from fairseq.data.encoders import BPE_REGISTRY
from fairseq.data.fasta_dataset import FastaDataset
from fairseq.distributed import utils as distributed_utils
from fairseq.models.speech_to_text.hub_interface import S2THubInterface
from fairseq.modules import transformer_layer
from fairseq.ngram_repeat_block import NGramRepeatBlock
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from fairseq_feedback.checkpoints import settings
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


def send_plain_settings() -> None:
    """Let several workers resume: the checkpoint that rank 0 sends holds an omegaconf, unsafe to the safe loader."""
    send = distributed_utils.broadcast_object

    @wraps(send)
    def broadcast_object(obj, *args, **kwargs):
        if isinstance(obj, dict) and OmegaConf.is_config(obj.get("cfg")):
            obj = {**obj, "cfg": OmegaConf.to_container(obj["cfg"])}
        return send(obj, *args, **kwargs)

    distributed_utils.broadcast_object = broadcast_object


def avoid_old_encoder_fast_path() -> None:
    """fairseq 0.12.2 evaluates encoder layers by a torch function whose arguments have changed; 0.12.3 does not."""
    layer = transformer_layer.TransformerEncoderLayerBase
    if "_load_from_state_dict" not in vars(layer):
        return
    init = layer.__init__

    @wraps(init)
    def __init__(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.can_use_fastpath = False

    layer.__init__ = __init__


def train_in_bfloat16_without_a_tpu() -> None:
    """fairseq takes --bf16 for a wish to train on a TPU, and stops where there is none."""
    parse = options.parse_args_and_arch

    @wraps(parse)
    def parse_args_and_arch(*args, **kwargs):
        parsed = parse(*args, **kwargs)
        known = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(known, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
            known.tpu = False
        return parsed

    options.parse_args_and_arch = parse_args_and_arch


def block_repeated_ngrams() -> None:
    """--no-repeat-ngram-size: fairseq's fallback for its CUDA extension compares padding, and so blocks nothing."""
    NGramRepeatBlock._no_repeat_ngram = _no_repeat_ngram


def _no_repeat_ngram(self, tokens, lprobs, bsz: int, beam_size: int, step: int):
    n = self.no_repeat_ngram_size
    if step + 2 > n:
        earlier = tokens[:, : step + 1].unfold(1, n, 1)  # (B, n-grams so far, n)
        if n == 1:
            earlier = earlier[:, 1:]  # not the token that starts every sentence
        last_words = tokens[:, step + 2 - n : step + 1]
        repeated = (earlier[:, :, : n - 1] == last_words.unsqueeze(1)).all(dim=2)
        row, ngram = torch.where(repeated)
        lprobs[row, earlier[row, ngram, n - 1]] = -math.inf
    return lprobs


def restore_numpys_long() -> None:
    """fairseq asks for np.compat.long where it joins or sorts sentences by length; numpy 2 has dropped it."""
    if not hasattr(np, "compat"):
        np.compat = SimpleNamespace(long=np.int64)


def offer_bpes_without_options() -> None:
    """--bpe characters and --bpe bytes: fairseq has them, but told hydra only of those with options."""
    for name in ("characters", "bytes"):
        if name in BPE_REGISTRY:
            ConfigStore.instance().store(name=name, group="bpe", node={"_name": name}, provider="fairseq")


def name_bad_checkpoints() -> None:
    """Say which checkpoint cannot be read, and why, in one sentence."""
    load = checkpoint_utils.load_checkpoint_to_cpu

    @wraps(load)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        try:
            return load(path, *args, **kwargs)
        except settings.UnsafeSetting as error:
            raise FeedbackError(
                f"checkpoint {path} was not loaded, and nothing in it was run: {error}. "
                "Use a checkpoint from a source you trust."
            ) from error
        except pickle.UnpicklingError as error:
            raise FeedbackError(
                f"checkpoint {path} was not loaded, and nothing in it was run: it holds something that is not "
                f"weights or plain settings ({_reason(error)}). Use a checkpoint from a source you trust."
            ) from error
        except MemoryError:
            raise  # not the content's fault
        except Exception as error:  # torch and fairseq meet damage with nearly every kind there is
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise FeedbackError(
                f"checkpoint {path} is damaged, incomplete or not a checkpoint of fairseq ({_reason(error)}). "
                "Copy it again, or take an earlier one."
            ) from error

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def _reason(error) -> str:
    """The telling sentence of torch's message, without its advice to turn the safe loader off."""
    text = str(error).split("WeightsUnpickler error:")[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line.split(". ")[0].rstrip(".") for line in lines if "weights_only" not in line]
    name = type(error).__name__
    if isinstance(error, (pickle.UnpicklingError, RuntimeError)):
        return lines[0] if lines else name
    return f"{name}: {lines[0]}" if lines else name


def run_nothing_of_strangers() -> None:
    """Settings of a checkpoint, a data folder and an archive are data."""
    settings.use_literals()
    checkpoint_utils._upgrade_state_dict = settings.checked(checkpoint_utils._upgrade_state_dict)
    FastaDataset._build_index = settings.without_signs_of_a_shell(FastaDataset._build_index)
    S2THubInterface.get_prediction = settings.without_speech(S2THubInterface.get_prediction)
    file_utils.tarfile = SimpleNamespace(open=settings.Archive.open)


allow_checkpoint_types()
send_plain_settings()
avoid_old_encoder_fast_path()
train_in_bfloat16_without_a_tpu()
block_repeated_ngrams()
restore_numpys_long()
offer_bpes_without_options()
name_bad_checkpoints()
run_nothing_of_strangers()
