"""What every feedback model does with its options: architectures complete them, checks name the flag."""

import argparse
import re
from dataclasses import field, fields
from typing import Optional, Tuple

from fairseq.models import register_model_architecture
from omegaconf import OmegaConf

from fairseq_feedback.errors import FeedbackError


def option(default, help):
    return field(default=default, metadata={"help": help})


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


# Architectures


def register_architectures(model: str, tables, complete_architecture) -> None:
    """All but the first, which is registered with the model itself. complete_architecture(options, name)."""

    def register(architecture):
        register_model_architecture(model, architecture)(lambda args: complete_architecture(args, architecture))

    for architecture in tables:
        if architecture != model:
            register(architecture)


def complete(config, tables, architecture) -> None:
    """Give every option that nobody set the architecture's value, in place. `config` is a dataclass or a namespace.

    tables: options of every architecture; the first is that of the model itself.
    """
    first = next(iter(tables.values()))
    for name, value in {**first, **tables.get(architecture, {})}.items():
        follow(config, name, value)


def follow(config, name, value) -> None:
    if getattr(config, name, None) is None:
        setattr(config, name, value)


def completed(cfg, kind, complete_architecture):
    """A model's options (`kind`: its dataclass) out of hydra's config, an argparse namespace, or that dataclass."""
    architecture = getattr(cfg, "_name", None) or getattr(cfg, "arch", None)
    if OmegaConf.is_config(cfg):
        cfg = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    elif not isinstance(cfg, dict):
        cfg = vars(cfg)
    known = {f.name for f in fields(kind)}
    config = kind(**{k: v for k, v in cfg.items() if k in known})
    for name, value in vars(config).items():
        if str(value).startswith("${"):  # another one's option, which an old checkpoint lacks
            setattr(config, name, None)
    complete_architecture(config, architecture)
    return config


# Checks


def require(config, name: str, ok: bool, wanted: str) -> None:
    if not ok:
        raise FeedbackError(f"{flag(name)} {getattr(config, name)}: give {wanted}")


def require_probabilities(config, *names: str) -> None:
    for name in names:
        require(config, name, 0 <= getattr(config, name) < 1, "a probability, at least 0 and below 1")


def require_layers_to_keep(config, side: str) -> None:
    name, layers = f"{side}_layers_to_keep", getattr(config, f"{side}_layers")
    keep = getattr(config, name)
    numbers = [n.strip() for n in keep.split(",")] if keep else []
    ok = all(n.isdigit() and int(n) < layers for n in numbers)
    require(config, name, ok, f"a comma-separated list of layers from 0 to {layers - 1}")


def kept_layers(layers_to_keep: Optional[str]) -> Optional[Tuple[int, ...]]:
    return tuple(sorted(int(i) for i in layers_to_keep.split(","))) if layers_to_keep else None


def require_composition(config) -> None:
    """Of the memory. Pruned layers count, as they did in training."""
    layers = config.decoder_layers
    found = re.fullmatch(r"weighted|mean|top|recurrent|own|layer:(\d+)", config.memory_composition)
    ok = found is not None and int(found.group(1) or 0) <= layers
    wanted = f"weighted, mean, top, recurrent, own, or layer:K with K from 0 to {layers}"
    require(config, "memory_composition", ok, wanted)
    if config.memory_composition in ("recurrent", "own") and not config.unshared_memory_kv:
        raise FeedbackError(
            f"--memory-composition {config.memory_composition}: every layer has a memory of its own, so they cannot "
            "share keys and values: give --unshared-memory-kv"
        )


def vocabulary(state_dict, side: str) -> int:
    """Entries of the dictionary that the encoder's or the decoder's embeddings are for; 0 = unknown."""
    embedding = re.compile(rf"{side}\.embed_tokens\.(embeddings\.\d+\.0\.)?weight")
    return sum(len(weight) for name, weight in state_dict.items() if embedding.fullmatch(name))


def require_same_dictionary(ours: int, theirs: int, side: str, files: str) -> None:
    """Of a model and its checkpoint: how many entries."""
    if ours != theirs:
        raise FeedbackError(
            f"the checkpoint's {side}dictionary has {theirs} entries, the data's has {ours}: "
            f"use the data folder ({files}) that the checkpoint was trained with"
        )


def refuse(parser, model: str, options) -> None:
    """Let options that a user of the host may try end in a sentence that says why they are not there."""
    for option, why in options.items():
        parser.add_argument(option, action=_Refuse, model=model, why=why, help=argparse.SUPPRESS)


class _Refuse(argparse.Action):
    def __init__(self, option_strings, dest, model, why, **kwargs):
        super().__init__(option_strings, argparse.SUPPRESS, nargs="?", **kwargs)
        self.model, self.why = model, why

    def __call__(self, parser, namespace, values, option_string=None):
        raise FeedbackError(f"{option_string} is not supported by {self.model}: {self.why}")
