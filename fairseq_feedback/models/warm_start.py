"""State dicts that are not quite ours: those of fairseq's transformer, and those with more layers than wanted."""

import logging
from typing import Optional

import torch

logger = logging.getLogger(__name__)


def from_transformer(decoder, state_dict, name: str) -> None:
    """Turn the decoder of fairseq's transformer into a start for ours, in place.

    Shared keys and values begin as the mean of the layers' own, and so does the norm before them. The mix begins
    as an average of all layers.
    """
    prefix = name + "." if name else ""
    mix = prefix + "memory.layer_weights"
    if mix in state_dict or prefix + "layers.0.self_attn.k_proj.weight" not in state_dict:
        return
    layers = 0
    while f"{prefix}layers.{layers}.self_attn.k_proj.weight" in state_dict:
        layers += 1
    shared, pre_norm = decoder.memory.k_proj is not None, decoder.pre_norm
    logger.info(
        "decoder: no feedback memory in this checkpoint, so it is taken as a standard transformer's: memory "
        + ("keys and values start as the mean over its layers" if shared else "mix starts as an average")
    )
    state_dict[mix] = torch.zeros(layers + 1)
    moved = [("self_attn.k_proj", "k_proj"), ("self_attn.v_proj", "v_proj")] if shared else []
    for part in ("weight", "bias"):
        for old, new in moved:
            own = [state_dict.pop(f"{prefix}layers.{i}.{old}.{part}") for i in range(layers)]
            state_dict[f"{prefix}memory.{new}.{part}"] = torch.stack(own).mean(dim=0)
        if pre_norm:
            norms = [
                state_dict[f"{prefix}layers.{i}.self_attn_layer_norm.{part}"] for i in range(layers)
            ]
            if shared:
                state_dict[f"{prefix}memory.layer_norm.{part}"] = torch.stack(norms).mean(dim=0)
            else:
                for i, norm in enumerate(norms):
                    key = f"{prefix}layers.{i}.self_attn.memory_layer_norm.{part}"
                    state_dict[key] = norm.clone()


def prune_mix(layers_to_keep: Optional[str], state_dict, name: str) -> None:
    """Fold the mix weights of pruned layers (--decoder-layers-to-keep) and drop their learned spans, in place.

    A pruned layer acts as one that LayerDrop dropped: the identity. Its share of the mix goes to the layer below.
    fairseq itself renumbers the layers afterwards.
    """
    key = name + ".memory.layer_weights" if name else "memory.layer_weights"
    if not layers_to_keep or key not in state_dict:
        return
    kept = sorted(int(i) for i in layers_to_keep.split(","))
    old = state_dict[key]
    if kept[-1] >= old.numel() - 1 or old.numel() == len(kept) + 1:
        return  # the host names the missing layer; or nothing is pruned
    starts = [0] + [i + 1 for i in kept]
    ends = starts[1:] + [old.numel()]
    state_dict[key] = torch.stack([old[a:b].logsumexp(dim=0) for a, b in zip(starts, ends)])
    spans = key.replace("layer_weights", "adaptive_span.ratios")
    if spans in state_dict:
        state_dict[spans] = state_dict[spans][kept]
