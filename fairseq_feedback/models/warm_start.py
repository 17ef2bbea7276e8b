"""State dicts that are not quite ours: those of fairseq's transformer, and those with more layers than wanted."""

import logging
from typing import Optional

import torch

from fairseq_feedback.kernels import reference
from fairseq_feedback.models.options import kept_layers
from fairseq_feedback.modules import feedback_memory

logger = logging.getLogger(__name__)


def from_transformer(decoder, state_dict, name: str) -> None:
    """Turn the decoder of fairseq's transformer, or of a model that shares nothing, into a start for ours, in place.

    Shared keys and values begin as the mean of the layers' own, and so does the norm before them. A learned mix begins
    as an average of all layers. With --memory-composition own, such a decoder is one of ours as it is.
    """
    prefix = name + "." if name else ""
    mix = prefix + "memory.layer_weights"
    if mix in state_dict or prefix + "layers.0.self_attn.k_proj.weight" not in state_dict:
        return
    layers = _layers(state_dict, prefix)
    starts = []
    if "layer_weights" in dict(decoder.memory.named_parameters()):
        state_dict[mix] = torch.zeros((layers, layers + 1) if decoder.memory_of_layers else layers + 1)
        starts.append("mix starts as an average")
    if decoder.memory.k_proj is not None:
        _share_the_mean(state_dict, prefix, layers, decoder.pre_norm)
        starts.append("keys and values start as the mean over its layers")
    elif decoder.layers[0].self_attn.memory_layer_norm is not None:
        for i in range(layers):
            for part in ("weight", "bias"):
                norm = state_dict[f"{prefix}layers.{i}.self_attn_layer_norm.{part}"]
                state_dict.setdefault(f"{prefix}layers.{i}.self_attn.memory_layer_norm.{part}", norm.clone())
    if starts:
        logger.info(
            "decoder: no feedback memory in this checkpoint, so it is taken as a standard transformer's: memory "
            + ", ".join(starts)
        )


def _layers(state_dict, prefix: str) -> int:
    layers = 0
    while f"{prefix}layers.{layers}.self_attn.q_proj.weight" in state_dict:
        layers += 1
    return layers


def _share_the_mean(state_dict, prefix: str, layers: int, pre_norm: bool) -> None:
    for part in ("weight", "bias"):
        for projection in ("k_proj", "v_proj"):
            own = [state_dict.pop(f"{prefix}layers.{i}.self_attn.{projection}.{part}") for i in range(layers)]
            state_dict[f"{prefix}memory.{projection}.{part}"] = torch.stack(own).mean(dim=0)
        if pre_norm:
            of_queries = [state_dict[f"{prefix}layers.{i}.self_attn_layer_norm.{part}"] for i in range(layers)]
            own = [
                state_dict.pop(f"{prefix}layers.{i}.self_attn.memory_layer_norm.{part}", norm)
                for i, norm in enumerate(of_queries)
            ]
            state_dict[f"{prefix}memory.layer_norm.{part}"] = torch.stack(own).mean(dim=0)


def prune(layers_to_keep: Optional[str], state_dict, name: str) -> None:
    """Fold the mix weights of pruned layers (--decoder-layers-to-keep) and drop their learned spans, in place.

    fairseq itself renumbers the layers afterwards.
    """
    prefix = name + "." if name else ""
    if not layers_to_keep:
        return
    kept = kept_layers(layers_to_keep)
    layers = _layers(state_dict, prefix)
    if kept[-1] >= layers or layers == len(kept):
        return  # the host names the missing layer; or nothing is pruned
    mix, spans = prefix + "memory.layer_weights", prefix + "memory.adaptive_span.ratios"
    if mix in state_dict:
        old = state_dict[mix]
        if old.dim() == 2:
            old = reference.without_above(old)[list(kept)]
        folded = feedback_memory.prune_mix(old, kept)
        state_dict[mix] = folded.masked_fill(folded == float("-inf"), 0.0)
    if spans in state_dict:
        state_dict[spans] = state_dict[spans][list(kept)]
