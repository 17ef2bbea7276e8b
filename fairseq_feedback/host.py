"""All that is assigned to names of fairseq and its libraries: what current torch and numpy need, clear words for bad
checkpoints, options that did not work, and our own search and options in its commands.

Imported before everything that registers itself.
"""

import argparse
import errno
import importlib.util
import json
import math
import os
import pickle
from functools import wraps
from types import SimpleNamespace

import numpy as np
import torch
from fairseq import checkpoint_utils, file_utils, models, options
from fairseq.criterions.label_smoothed_cross_entropy_with_alignment import (
    LabelSmoothedCrossEntropyCriterionWithAlignment,
)
from fairseq.data import Dictionary, data_utils
from fairseq.data.encoders import BPE_REGISTRY
from fairseq.data.encoders.subword_nmt_bpe import SubwordNMTBPE
from fairseq.data.fasta_dataset import FastaDataset
from fairseq.dataclass import utils as dataclass_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.models.speech_to_text.hub_interface import S2THubInterface
from fairseq.modules import transformer_layer
from fairseq.ngram_repeat_block import NGramRepeatBlock
from fairseq.optim import FairseqOptimizer
from fairseq.optim.fp16_optimizer import _FP16OptimizerMixin
from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from fairseq_feedback import finite, full_help
from fairseq_feedback.checkpoints import begin, saving, settings, verify
from fairseq_feedback.criterions import alignments
from fairseq_feedback.data import binary
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.generation import commands, limits
from fairseq_feedback.models import workers
from fairseq_feedback.modules import adaptive_span


def allow_checkpoint_types() -> None:
    """Let torch's safe loader (weights_only, the default since torch 2.6) read fairseq's checkpoints.

    They hold tensors, plain containers, argparse.Namespace, and with --eval-bleu the counts of the last validation as
    numpy arrays. When several workers resume, rank 0 sends them the checkpoint through the same loader with a
    placeholder for each tensor.
    """
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


def read_options() -> None:
    """fairseq takes --bf16 for a wish to train on a TPU, and stops where there is none; and what no one may ask for."""
    parse = options.parse_args_and_arch

    @wraps(parse)
    def parse_args_and_arch(*args, **kwargs):
        parsed = parse(*args, **kwargs)
        known = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(known, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
            known.tpu = False
        begin.refuse_background_writes(known)
        if getattr(known, "replace_unk", None) == "@@ ":  # what fairseq makes of the option without a file
            known.replace_unk = ""
        if hasattr(known, "beam"):
            limits.check_command(known)
        if hasattr(known, "max_update"):
            workers.refuse_to_train_alone(known)
            if known.fp16 and (known.cpu or not torch.cuda.is_available()):
                raise FeedbackError("--fp16 trains on GPUs only: on a CPU give --bf16, or neither")
        return parsed

    options.parse_args_and_arch = full_help.with_options_of_what_is_chosen(parse_args_and_arch)


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


def wrap_models_for_workers() -> None:
    """Name the option that LayerDrop needs with several workers, and give gloo --heartbeat-timeout as its own limit."""
    wrap = models.DistributedFairseqModel

    @wraps(wrap)
    def DistributedFairseqModel(args, model, process_group, *more, **named):
        workers.check(args, model)
        return wrap(workers.with_a_limit(args, process_group), model, process_group, *more, **named)

    models.DistributedFairseqModel = DistributedFairseqModel


def let_torchrun_start_workers_on_cpus() -> None:
    launch_init = distributed_utils._infer_torch_distributed_launch_init
    distributed_utils._infer_torch_distributed_launch_init = workers.without_a_gpu(launch_init)


def name_bad_checkpoints() -> None:
    """Believe no damaged checkpoint, and say which one cannot be read, and why, in one sentence."""
    load = checkpoint_utils.load_checkpoint_to_cpu

    @wraps(load)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        if not PathManager.path_requires_pathmanager(str(path)):
            if os.path.isdir(path):
                raise FeedbackError(f"checkpoint {path} is a folder: give a file in it")
            verify.verify(path)
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
            raise verify.DamagedCheckpoint(
                path, f"incomplete or not a checkpoint of fairseq ({_reason(error)})"
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


def search_with_our_generator() -> None:
    """Tasks build a FeedbackGenerator where they would build the host's SequenceGenerator."""
    build = FairseqTask.build_generator

    @wraps(build)
    def build_generator(self, models, args, seq_gen_cls=None, *more, **kwargs):
        limits.check(args, math.inf if self.target_dictionary is None else len(self.target_dictionary))
        models = commands.to_decode(models, args, seq_gen_cls)
        if seq_gen_cls is None:
            seq_gen_cls = commands.generator_for(models, args)
        generator = build(self, models, args, seq_gen_cls, *more, **kwargs)
        if getattr(args, "replace_unk", None) is not None:
            commands.align(generator)
        if getattr(args, "shortlist", None) is not None:
            commands.shorten(generator, args, self)
        return generator

    FairseqTask.build_generator = build_generator
    SequenceGenerator.generate = commands.names_what_is_not_finite(SequenceGenerator.generate)


def offer_decoding_options() -> None:
    """Of fairseq-generate and fairseq-interactive. They travel in the configuration's `generation`."""
    add, override = options.add_generation_args, dataclass_utils.override_module_args

    @wraps(add)
    def add_generation_args(parser, *args, **kwargs):
        group = add(parser, *args, **kwargs)
        group.add_argument("--decode-int8", action="store_true", help="round weights and states to 8 bits (on a CPU)")
        group.add_argument(
            "--no-feedback-engine", action="store_true", help="decode fairseq's own transformers by fairseq's own code"
        )
        group.add_argument(
            "--shortlist", metavar="FILE", help="choose words of a part of the vocabulary: fairseq-feedback shortlist"
        )
        return group

    @wraps(override)
    def override_module_args(args):
        overrides, deletes = override(args)
        for name in ("decode_int8", "no_feedback_engine"):
            if getattr(args, name, False):
                overrides.append(f"+generation.{name}=True")
        if getattr(args, "shortlist", None) is not None:
            overrides.append("+generation.shortlist=" + json.dumps(args.shortlist))
        return overrides, deletes

    options.add_generation_args = add_generation_args
    dataclass_utils.override_module_args = override_module_args


def write_checkpoints_whole() -> None:
    """fairseq tries again into the half of the first try, and copies in place."""
    persist, copy = checkpoint_utils.torch_persistent_save, PathManager.copy

    @wraps(persist)
    def torch_persistent_save(obj, filename, *args, **kwargs):
        if isinstance(filename, str) and PathManager.supports_rename(filename):
            saving.save(obj, filename)
        else:
            persist(obj, filename, *args, **kwargs)

    @wraps(copy)
    def copy_whole(src_path, dst_path, overwrite=False):
        if not overwrite or any(map(PathManager.path_requires_pathmanager, (src_path, dst_path))):
            return copy(src_path, dst_path, overwrite=overwrite)
        saving.copy(src_path, dst_path)
        return True

    checkpoint_utils.torch_persistent_save = torch_persistent_save
    checkpoint_utils._torch_persistent_save = torch.save  # to somewhere remote, once
    PathManager.copy = staticmethod(copy_whole)


def begin_trainings_afresh() -> None:
    """A training has its folder for itself, starts without the best score of another, and its workers end together."""
    load, save = checkpoint_utils.load_checkpoint, checkpoint_utils.save_checkpoint

    @wraps(load)
    def load_checkpoint(cfg, trainer, **kwargs):
        with begin.together(trainer):
            begin.begin(cfg, trainer)
        try:
            found = load(cfg, trainer, **kwargs)
            begin.end_if_done(trainer)
            return found
        except verify.DamagedCheckpoint as error:
            if error.path == cfg.finetune_from_model:
                raise
            raise FeedbackError(f"{error} {verify.beside(error.path, trainer.checkpoint_suffix)}") from error
        except Exception as error:
            begin.say_what_does_not_fit(error)
            raise

    @wraps(save)
    def save_checkpoint(cfg, trainer, *args, **kwargs):
        with begin.together(trainer):
            return save(cfg, trainer, *args, **kwargs)

    checkpoint_utils.load_checkpoint = load_checkpoint
    checkpoint_utils.save_checkpoint = save_checkpoint


def train_on_finite_numbers() -> None:
    FairseqOptimizer.backward = finite.into_gradients(FairseqOptimizer.backward)
    Trainer.clip_grad_norm = finite.checked_norm(Trainer.clip_grad_norm)
    Trainer.train_step = finite.checked_step(Trainer.train_step)


def keep_learned_spans_in_bounds() -> None:
    _FP16OptimizerMixin._sync_fp32_params_to_fp16 = adaptive_span.keeps_ratios(
        _FP16OptimizerMixin._sync_fp32_params_to_fp16
    )


def train_on_alignments() -> None:
    criterion = LabelSmoothedCrossEntropyCriterionWithAlignment
    criterion.forward = alignments.asks_for_attention(criterion.forward)


def believe_no_damaged_data() -> None:
    SubwordNMTBPE.__init__ = binary.names_its_codes(SubwordNMTBPE.__init__)
    data_utils.load_indexed_dataset = binary.checked(data_utils.load_indexed_dataset)
    Dictionary.add_from_file = binary.names_its_file(Dictionary.add_from_file)


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
read_options()
block_repeated_ngrams()
restore_numpys_long()
offer_bpes_without_options()
wrap_models_for_workers()
let_torchrun_start_workers_on_cpus()
name_bad_checkpoints()
search_with_our_generator()
offer_decoding_options()
write_checkpoints_whole()
begin_trainings_afresh()
train_on_finite_numbers()
keep_learned_spans_in_bounds()
train_on_alignments()
believe_no_damaged_data()
run_nothing_of_strangers()
