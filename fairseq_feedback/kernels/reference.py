"""The readable step and loop: the oracle for every faster kernel, and the step that decoding runs.

Shapes: see __init__.py. Equation numbers: see README.md.
"""

from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dropout as dropout_choices
from .attention import at_least_float32, attend
from .visible import first_visible, hidden_slots, hide_others, of_slots
from .weights import (
    Affine,
    AttentionMaps,
    Choices,
    CrossMemory,
    Inputs,
    LayerDropout,
    LayerWeights,
    MemoryWeights,
    Seen,
    Settings,
    Step,
    Weights,
    Zeros,
)


def run(inputs: Inputs) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """T steps -> outputs (T, B, C), memory (T, B, C) or (T, B, L, C), cross-attention (T, B, H, S)."""
    keys, values = project_memory(with_zeros(inputs.memory, inputs.zeros), inputs.weights.memory, inputs.settings)
    outputs: List[Tensor] = []
    memories: List[Tensor] = []
    attns: List[Tensor] = []
    for t in range(inputs.x.size(0)):
        done = step_of_run(inputs, t, keys, values)
        keys = torch.cat([keys, done.key], dim=3)
        values = torch.cat([values, done.value], dim=3)
        outputs.append(done.output)
        memories.append(done.memory)
        attn = source_attention(done, inputs.attn_layer)
        if attn is not None:
            attns.append(attn)
    return stacked(outputs, memories, attns)


def with_zeros(memory: Tensor, zeros: int) -> Tensor:
    """A memory (N, B, C) or (N, B, L, C) with so many zero vectors in front."""
    if zeros == 0:
        return memory
    shape = list(memory.size())
    shape[0] = zeros
    return torch.cat([memory.new_zeros(shape), memory])


def stacked(
    outputs: List[Tensor], memories: List[Tensor], attns: List[Tensor]
) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """What a run gives, of what its steps gave; `attns` may be empty."""
    if len(outputs) == 1:  # as in decoding: no copies
        return outputs[0].unsqueeze(0), memories[0].unsqueeze(0), attns[0].unsqueeze(0) if len(attns) > 0 else None
    return torch.stack(outputs), torch.stack(memories), torch.stack(attns) if len(attns) > 0 else None


def attention_maps(inputs: Inputs) -> AttentionMaps:
    """Of a run with one row, none of whose layers is dropped."""
    keys, values = project_memory(with_zeros(inputs.memory, inputs.zeros), inputs.weights.memory, inputs.settings)
    total = keys.size(3) + inputs.x.size(0)
    memory, source = [], []
    for t in range(inputs.x.size(0)):
        done = step_of_run(inputs, t, keys, values)
        attn = torch.stack(done.memory_attn)[:, 0, :, 0]  # (L, H, M)
        newest = keys.size(3) + int(inputs.settings.sees_itself)
        memory.append(F.pad(attn, (newest - attn.size(2), total - newest)))
        if inputs.cross is not None:
            source.append(torch.stack(done.source_attn)[:, 0, :, 0])
        keys = torch.cat([keys, done.key], dim=3)
        values = torch.cat([values, done.value], dim=3)
    return AttentionMaps(torch.stack(memory, dim=2), torch.stack(source, dim=2) if source else None)


def step_of_run(inputs: Inputs, t: int, keys: Tensor, values: Tensor) -> Step:
    """Step t, with the keys and values of all slots before it."""
    slots, own = keys.size(3), int(inputs.settings.sees_itself)
    first = first_visible(slots + own, inputs.settings.span)
    return step(
        inputs.x[t],
        Seen(keys[:, :, :, first:], values[:, :, :, first:], first, None, None, inputs.left_pad, inputs.cross),
        inputs.weights,
        dropout_choices.at_step(inputs.choices, t, first, slots + own),
        inputs.settings,
    )


def step(x: Tensor, seen: Seen, weights: Weights, choices: Choices, settings: Settings) -> Step:
    """One step through all layers (1)-(4), (6). x: (B, C); the choices are those of this step."""
    shared = seen.keys.size(0) == 1
    beams = x.size(0) // seen.keys.size(1)
    count = seen.keys.size(3) // beams
    zeros = seen.zeros
    before = zeros.count if zeros is not None else 0
    slots = seen.first + before + count
    t = slots - settings.init_slots
    hidden = hidden_slots(seen.left_pad, t, seen.first, slots)
    origin = seen.origin
    if origin is not None:
        hidden = hide_others(origin, hidden, beams, before)
    elif hidden is not None:
        hidden = hidden.unsqueeze(1)
    if hidden is not None and settings.sees_itself:
        hidden = torch.cat([hidden, hidden.new_zeros([hidden.size(0), hidden.size(1), 1])], dim=2)
    positions, spans = weights.memory.positions, weights.memory.spans
    if positions is not None:
        positions = of_slots(positions, 0, before, count, beams, settings.sees_itself)
    if spans is not None:
        spans = of_slots(spans, 2, before, count, beams, settings.sees_itself)
    memory_attns: List[Optional[Tensor]] = []
    source_attns: List[Optional[Tensor]] = []
    states = [x]
    own_keys: List[Tensor] = []
    own_values: List[Tensor] = []
    for i, layer in enumerate(weights.layers):
        memory_attn: Optional[Tensor] = None
        source_attn: Optional[Tensor] = None
        own: Optional[Tuple[Tensor, Tensor]] = None
        if settings.sees_itself:
            own = project_group(x.unsqueeze(0), weights.memory, i, settings)
            own_keys.append(own[0])
            own_values.append(own[1])
        if choices.kept[i]:
            keep = choices.dropout[i] if len(choices.dropout) > 0 else None
            group = 0 if shared else i
            span = spans[i] if spans is not None else None
            of_group: Optional[Zeros] = None
            if zeros is not None:
                of_group = Zeros(zeros.key[group], zeros.value[group], before)
            x, memory_attn = attend_memory(
                x, seen.keys[group], seen.values[group], of_group, own, hidden, positions, span, layer, keep, settings
            )
            cross = seen.cross
            if cross is not None:
                x, source_attn = attend_source(x, cross, i, layer, keep, settings)
            x = feed_forward(x, layer, keep, settings)
        states.append(x)  # of a dropped layer, the identity: its weight in the mix then weighs that
        memory_attns.append(memory_attn)
        source_attns.append(source_attn)
    memory = blank_padding(compose(states, weights.memory.mix), seen.left_pad, t)
    if settings.sees_itself:
        key, value = torch.stack(own_keys), torch.stack(own_values)
    else:
        key, value = project_memory(memory.unsqueeze(0), weights.memory, settings)
    return Step(x, memory, key, value, memory_attns, source_attns)


def compose(states: List[Tensor], mix: Optional[Tensor]) -> Tensor:
    """Memory (B, C) or (B, L, C) of a step whose L + 1 states these are (4)."""
    if mix is None:
        return torch.stack(states[:-1], dim=1)
    mixed = torch.matmul(mix, torch.stack(states).flatten(1))
    if mix.dim() == 1:
        return mixed.view_as(states[0])
    return mixed.view(-1, states[0].size(0), states[0].size(1)).transpose(0, 1)


def source_attention(done: Step, layer: int) -> Optional[Tensor]:
    """That layer's weights of a step, row by row: (B, H, S); -1 = none."""
    if layer < 0:
        return None
    attn = done.source_attn[layer]
    return None if attn is None else attn.transpose(1, 2).flatten(0, 1)


def attend_memory(
    x: Tensor,
    key: Tensor,  # (R, H, M, D)
    value: Tensor,
    zeros: Optional[Zeros],
    own: Optional[Tuple[Tensor, Tensor]],  # key and value of the step itself
    hidden: Optional[Tensor],
    positions: Optional[Tensor],  # (M, D)
    span: Optional[Tensor],  # (H, M)
    w: LayerWeights,
    keep: Optional[LayerDropout],
    s: Settings,
) -> Tuple[Tensor, Tensor]:
    """The sublayer that replaces self-attention (1) -> x (B, C), weights (R, H, B / R, M)."""
    query = linear(norm(x, w.attn_norm) if s.pre_norm else x, w.query)
    dropout = keep.memory_attn if keep is not None else None
    z, attn = attend(query, key, value, hidden, dropout, s.attention_dropout, positions, span, zeros, own)
    z = linear(z, w.attn_out)
    x = x + dropout_choices.apply(z, keep.attn_out if keep is not None else None, s.dropout)
    return x if s.pre_norm else norm(x, w.attn_norm), attn


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
    z = activated(norm(x, w.ffn_norm) if s.pre_norm else x, w.fc1, s.activation)
    z = dropout_choices.apply(z, keep.activation if keep is not None else None, s.activation_dropout)
    z = linear(z, w.fc2)
    x = x + dropout_choices.apply(z, keep.ffn_out if keep is not None else None, s.dropout)
    return x if s.pre_norm else norm(x, w.ffn_norm)


def project_memory(m: Tensor, w: MemoryWeights, s: Settings) -> Tuple[Tensor, Tensor]:
    """Keys and values of memory vectors (6). m: (M, B, C) or (M, B, G, C) -> two of (G, B, H, M, D)."""
    keys: List[Tensor] = []
    values: List[Tensor] = []
    for g in range(len(w.keys)):
        key, value = project_group(m if m.dim() == 3 else m[:, :, g], w, g, s)
        keys.append(key)
        values.append(value)
    if len(keys) == 1:
        return keys[0].unsqueeze(0), values[0].unsqueeze(0)
    return torch.stack(keys), torch.stack(values)


def project_group(m: Tensor, w: MemoryWeights, g: int, s: Settings) -> Tuple[Tensor, Tensor]:
    """The same of one group: (M, B, C) -> two of (B, H, M, D)."""
    normed = norm(m, w.norms[g]) if len(w.norms) > 0 else m
    return split_heads(linear(normed, w.keys[g]), s.heads), split_heads(linear(normed, w.values[g]), s.heads)


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


def mix_weights(w: Tensor) -> Tensor:
    """softmax(w) of (4), in at least float32. A layer with a memory of its own mixes what is not above it."""
    if w.dim() == 2:
        w = without_above(w)
    return w.softmax(dim=-1, dtype=at_least_float32(w)).to(w.dtype)


def without_above(w: Tensor) -> Tensor:
    """(L, L + 1), where layer l = 1 ... L may mix x^0 ... x^l."""
    return w.masked_fill(torch.ones_like(w).triu(2) > 0, float("-inf"))


def blank_padding(m: Tensor, left_pad: Optional[Tensor], t: int) -> Tensor:
    """Memory of step t, zero in rows where that step is padding."""
    if left_pad is None:
        return m
    padded = (left_pad > t)[:, None]
    return m.masked_fill(padded if m.dim() == 2 else padded[:, :, None], 0.0)


def linear(x: Tensor, w: Affine) -> Tensor:
    if not torch.jit.is_scripting():
        if not isinstance(w, Affine):  # packed for decoding
            return w(x)
    return F.linear(x, w.weight, w.bias)


def activated(x: Tensor, w: Affine, name: str) -> Tensor:
    """linear() and the activation function after it."""
    if not torch.jit.is_scripting():
        if not isinstance(w, Affine) and name == "relu" and w.relu_keeps_nan:
            return w(x, "relu")
    return activate(linear(x, w), name)


def norm(x: Tensor, w: Affine) -> Tensor:
    return F.layer_norm(x, w.weight.shape, w.weight, w.bias, 1e-5)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(M, B, C) -> (B, H, M, D)."""
    return x.view(x.size(0), x.size(1), heads, x.size(2) // heads).permute(1, 2, 0, 3)


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
