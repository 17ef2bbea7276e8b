"""The readable step and loop: the oracle for every faster kernel, and the step that decoding runs.

Shapes: see __init__.py. Equation numbers: see README.md.
"""

import math
from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dropout as dropout_choices
from .weights import Affine, CrossMemory, LayerDropout, LayerWeights, MemoryWeights, Settings


def run(
    x: Tensor,  # (T, B, C) embedded input
    memory: Tensor,  # (N, B, C) what stands before the first step: zeros, or carried from an earlier block
    layers: List[LayerWeights],  # L
    memory_weights: MemoryWeights,
    cross: Optional[CrossMemory],
    left_pad: Optional[Tensor],  # (B) padded steps at the start of each row
    layer_kept: List[bool],  # L; False = dropped by LayerDrop
    dropout: List[LayerDropout],  # L, or empty for no dropout
    settings: Settings,
    attn_layer: int = -1,  # layer whose cross-attention is returned, -1 = none
) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """T steps -> outputs (T, B, C), memory (T, B, C), cross-attention (T, B, H, S)."""
    mix = mix_weights(memory_weights, x)
    keys, values = project_memory(memory, memory_weights, settings)
    outputs: List[Tensor] = []
    memories: List[Tensor] = []
    attns: List[Tensor] = []
    for t in range(x.size(0)):
        slots = keys.size(3)
        first = first_visible(slots, settings.span)
        y, m, k, v, attn = step(
            x[t],
            keys[:, :, :, first:],
            values[:, :, :, first:],
            first,
            layers,
            memory_weights,
            mix,
            cross,
            left_pad,
            layer_kept,
            [dropout_choices.at_step(d, t, first, slots) for d in dropout],
            settings,
            attn_layer,
        )
        keys = torch.cat([keys, k], dim=3)
        values = torch.cat([values, v], dim=3)
        outputs.append(y)
        memories.append(m)
        if attn is not None:
            attns.append(attn)
    return (
        torch.stack(outputs),
        torch.stack(memories),
        torch.stack(attns) if len(attns) > 0 else None,
    )


def step(
    x: Tensor,  # (B, C)
    keys: Tensor,  # (G, R, H, M * beams, D) of the visible memory; B / R rows stand together, see decoding/cache.py
    values: Tensor,  # (G, R, H, M * beams, D)
    first: int,  # number of the first visible slot
    layers: List[LayerWeights],
    memory_weights: MemoryWeights,
    mix: Tensor,  # (L + 1), after the softmax
    cross: Optional[CrossMemory],
    left_pad: Optional[Tensor],  # (B)
    layer_kept: List[bool],
    dropout: List[LayerDropout],  # of this step
    settings: Settings,
    attn_layer: int = -1,
    origin: Optional[Tensor] = None,  # (B, M) whose memory is a row's own among those that stand together
) -> Tuple[Tensor, Tensor, Tensor, Tensor, Optional[Tensor]]:
    """One step through all layers (1)-(4), (6).

    -> output (B, C), memory (B, C), its key and its value (G, B, H, 1, D), cross-attention (B, H, S)
    """
    shared = keys.size(0) == 1
    beams = x.size(0) // keys.size(1)
    seen = keys.size(3) // beams
    slots = first + seen
    t = slots - settings.init_slots
    hidden = hidden_slots(left_pad, t, first, slots)
    if origin is not None:
        hidden = hide_others(origin, hidden, beams)
    elif hidden is not None:
        hidden = hidden.unsqueeze(1)
    positions, spans = memory_weights.positions, memory_weights.spans
    if positions is not None:
        positions = positions[positions.size(0) - seen :]
        if beams > 1:
            positions = positions.repeat_interleave(beams, dim=0)
    if spans is not None:
        spans = spans[:, :, spans.size(2) - seen :]
        if beams > 1:
            spans = spans.repeat_interleave(beams, dim=2)
    wanted_attn: Optional[Tensor] = None
    states = [x]
    for i, layer in enumerate(layers):
        if layer_kept[i]:
            keep = dropout[i] if len(dropout) > 0 else None
            group = 0 if shared else i
            span = spans[i] if spans is not None else None
            x = attend_memory(
                x, keys[group], values[group], hidden, positions, span, layer, keep, settings
            )
            if cross is not None:
                x, attn = attend_source(x, cross, i, layer, keep, settings)
                if i == attn_layer:
                    wanted_attn = attn.transpose(1, 2).flatten(0, 1)
            x = feed_forward(x, layer, keep, settings)
        states.append(x)  # of a dropped layer, the identity: its weight in the mix then weighs that
    memory = torch.matmul(mix, torch.stack(states).flatten(1)).view_as(x)
    memory = blank_padding(memory, left_pad, t)
    key, value = project_memory(memory.unsqueeze(0), memory_weights, settings)
    return x, memory, key, value, wanted_attn


def attend_memory(
    x: Tensor,
    key: Tensor,  # (R, H, M, D)
    value: Tensor,
    hidden: Optional[Tensor],
    positions: Optional[Tensor],  # (M, D)
    span: Optional[Tensor],  # (H, M)
    w: LayerWeights,
    keep: Optional[LayerDropout],
    s: Settings,
) -> Tensor:
    """The sublayer that replaces self-attention (1)."""
    query = linear(norm(x, w.attn_norm) if s.pre_norm else x, w.query)
    dropout = keep.memory_attn if keep is not None else None
    z, _ = attend(query, key, value, hidden, dropout, s.attention_dropout, positions, span)
    z = linear(z, w.attn_out)
    x = x + dropout_choices.apply(z, keep.attn_out if keep is not None else None, s.dropout)
    return x if s.pre_norm else norm(x, w.attn_norm)


def attend_source(
    x: Tensor,
    cross: CrossMemory,
    index: int,
    w: LayerWeights,
    keep: Optional[LayerDropout],
    s: Settings,
) -> Tuple[Tensor, Tensor]:
    """Cross-attention (2) -> x (B, C), weights (B / beams, H, beams, S)."""
    cross_query, cross_out, cross_norm = w.cross_query, w.cross_out, w.cross_norm
    assert cross_query is not None and cross_out is not None and cross_norm is not None
    query = linear(norm(x, cross_norm) if s.pre_norm else x, cross_query)
    padding = cross.padding
    z, attn = attend(
        query,
        cross.keys[index],
        cross.values[index],
        padding.unsqueeze(1) if padding is not None else None,
        keep.cross_attn if keep is not None else None,
        s.attention_dropout,
    )
    z = linear(z, cross_out)
    x = x + dropout_choices.apply(z, keep.cross_out if keep is not None else None, s.dropout)
    return x if s.pre_norm else norm(x, cross_norm), attn


def feed_forward(x: Tensor, w: LayerWeights, keep: Optional[LayerDropout], s: Settings) -> Tensor:
    """The feed-forward sublayer (3)."""
    z = activate(linear(norm(x, w.ffn_norm) if s.pre_norm else x, w.fc1), s.activation)
    z = dropout_choices.apply(
        z, keep.activation if keep is not None else None, s.activation_dropout
    )
    z = linear(z, w.fc2)
    x = x + dropout_choices.apply(z, keep.ffn_out if keep is not None else None, s.dropout)
    return x if s.pre_norm else norm(x, w.ffn_norm)


def attend(
    query: Tensor,  # (B, A)
    key: Tensor,  # (R, H, M, D), B a multiple of R: every B / R rows share theirs
    value: Tensor,  # (R, H, M, D)
    hidden: Optional[Tensor],  # (R, B / R or 1, M), True = not to be seen
    keep: Optional[Tensor],  # (B, H, M) under dropout
    p: float,
    positions: Optional[Tensor] = None,  # (M, D) added to the keys
    span: Optional[Tensor] = None,  # (H, M) added to the scores
) -> Tuple[Tensor, Tensor]:
    """Attention of one step (5), (16) -> (B, A), weights before dropout (R, H, B / R, M)."""
    rows, heads, slots, width = key.shape
    beams = query.size(0) // rows
    q = (query * (1.0 / math.sqrt(width))).view(rows, beams, heads, width).transpose(1, 2)
    scores = torch.matmul(q, key.transpose(2, 3))  # (R, H, beams, M)
    if positions is not None:
        scores = scores + torch.matmul(q, positions.t())
    if span is not None:
        scores = scores + span[:, None, :].type_as(scores)
    if hidden is not None:
        scores = scores.masked_fill(hidden.unsqueeze(1), float("-inf"))
    weights = scores.softmax(dim=-1, dtype=at_least_float32(scores)).type_as(scores)
    used = weights
    if keep is not None:
        used = dropout_choices.apply(
            weights, keep.view(rows, beams, heads, slots).transpose(1, 2), p
        )
    z = torch.matmul(used, value)  # (R, H, beams, D)
    return z.transpose(1, 2).reshape(query.size(0), heads * width), weights


def project_memory(m: Tensor, w: MemoryWeights, s: Settings) -> Tuple[Tensor, Tensor]:
    """Keys and values of memory vectors (6). m: (M, B, C) -> two of (G, B, H, M, D)."""
    keys: List[Tensor] = []
    values: List[Tensor] = []
    for g in range(len(w.keys)):
        normed = norm(m, w.norms[g]) if len(w.norms) > 0 else m
        keys.append(split_heads(linear(normed, w.keys[g]), s.heads))
        values.append(split_heads(linear(normed, w.values[g]), s.heads))
    if len(keys) == 1:
        return keys[0].unsqueeze(0), values[0].unsqueeze(0)
    return torch.stack(keys), torch.stack(values)


def project_source(
    source: Tensor,  # (S, B, C of the encoder)
    padding: Optional[Tensor],  # (B, S)
    keys: List[Affine],  # L
    values: List[Affine],  # L
    heads: int,
) -> CrossMemory:
    """Keys and values of the encoder's output, once for all steps."""
    return CrossMemory(
        torch.stack([split_heads(linear(source, w), heads) for w in keys]),
        torch.stack([split_heads(linear(source, w), heads) for w in values]),
        padding,
    )


def mix_weights(w: MemoryWeights, like: Tensor) -> Tensor:
    """softmax(w) of (4), in at least float32."""
    return w.mix.softmax(dim=0, dtype=at_least_float32(w.mix)).to(like.dtype)


def first_visible(slots: int, span: int) -> int:
    """Of that many memory slots, the first that the next step sees."""
    return max(0, slots - span) if span > 0 else 0


def hidden_slots(left_pad: Optional[Tensor], t: int, first: int, last: int) -> Optional[Tensor]:
    """Which of the slots first..last-1 the padding at a row's start hides at step t: (B, last - first).

    A row with p padded steps must see what it would see alone: the zero slots, then its own memory. Padded
    steps leave zero vectors (`blank_padding`), so slots p .. p + init_slots - 1 are those zero slots, and what
    stands before them is hidden. While t < p, slot t stays visible, so that no softmax is empty.
    """
    if left_pad is None:
        return None
    slot = torch.arange(first, last, device=left_pad.device)
    return slot[None, :] < left_pad.clamp(max=t)[:, None]


def hide_others(
    origin: Tensor,  # (B, M)
    hidden: Optional[Tensor],  # (B, M)
    beams: int,
) -> Tensor:
    """Of the slots of rows that stand together, those that are not a row's own (18): (R, beams, M * beams)."""
    others = origin.unsqueeze(2) != torch.arange(beams, device=origin.device)  # (B, M, beams)
    if hidden is not None:
        others = others | hidden.unsqueeze(2)
    return others.view(-1, beams, others.size(1) * beams)


def blank_padding(m: Tensor, left_pad: Optional[Tensor], t: int) -> Tensor:
    """Memory of step t, (B, C), zero in rows where that step is padding."""
    if left_pad is None:
        return m
    return m.masked_fill((left_pad > t)[:, None], 0.0)


def linear(x: Tensor, w: Affine) -> Tensor:
    if not torch.jit.is_scripting():
        if not isinstance(w, Affine):  # packed for decoding
            return w(x)
    return F.linear(x, w.weight, w.bias)


def norm(x: Tensor, w: Affine) -> Tensor:
    return F.layer_norm(x, w.weight.shape, w.weight, w.bias, 1e-5)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(M, B, C) -> (B, H, M, D)."""
    return x.view(x.size(0), x.size(1), heads, -1).permute(1, 2, 0, 3)


def activate(x: Tensor, name: str) -> Tensor:
    """fairseq's --activation-fn, by name."""
    if name == "relu":
        return F.relu(x)
    if name == "gelu":
        return F.gelu(x.to(at_least_float32(x))).type_as(x)
    if name == "gelu_accurate" or name == "gelu_fast":
        return F.gelu(x, approximate="tanh")
    if name == "tanh":
        return torch.tanh(x)
    if name == "linear":
        return x
    raise ValueError("unknown activation function: " + name)


def at_least_float32(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
