"""The forward pass of the fast kernel: the steps of ../reference.py, keeping what the backward pass needs.

Shapes: see ../__init__.py. Equation numbers: see ../README.md.
"""

from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..dropout import of_layer
from ..products import product
from ..reference import activate, blank_padding, norm
from ..visible import first_visible, hidden_slots
from ..weights import Affine, LayerDropout, LayerWeights, Settings
from .norms import add_norm
from .slots import Dots, Sums, Window, attend

# Activations whose derivative is a function of their value: that is what is kept of them.
KNOWN_BY_VALUE = ("relu", "tanh", "linear")


class Leaves(NamedTuple):
    """What has a gradient, made of a kernel's inputs. Layers that LayerDrop has dropped are not among it."""

    x: Tensor  # (T, B, C) embedded input
    query: Tensor  # (T, B, A) of the first layer, which depends on x alone (7)
    keys: Tensor  # (G, B, H, N, D) of the slots before the first step, N without those that are not stored
    values: Tensor  # (G, B, H, N, D)
    mix: Tensor  # (L + 1) after the softmax
    layers: List[LayerWeights]  # L
    memory_keys: List[Affine]  # G
    memory_values: List[Affine]  # G
    memory_norms: List[Affine]  # G with pre-norm, none with post-norm
    positions: Optional[Tensor]  # (P, D)
    spans: Optional[Tensor]  # (L, H, P)
    cross_keys: Optional[Tensor]  # (L, B, H, S, D)
    cross_values: Optional[Tensor]  # (L, B, H, S, D)


class Constants(NamedTuple):
    """What has none."""

    settings: Settings
    dropout: List[LayerDropout]  # L, or empty for no dropout
    left_pad: Optional[Tensor]  # (B)
    cross_padding: Optional[Tensor]  # (B, S)
    dtype: torch.dtype  # of the products: that of x, or autocast's
    not_stored: int  # slots of zeros that the first slot stands for, too
    attn_layer: int  # layer whose cross-attention is returned, -1 = none


class Kept(NamedTuple):
    """What backward needs of one layer's steps."""

    attn_norm: Optional[Tensor]  # (T, B, C) what the sublayer's norm reads; None where it is x itself
    query: Optional[Tensor]  # (T, B, A) scaled; None in the first layer, where it is an input
    attn: Tensor  # (T, B, A) heads before W_o
    cross_norm: Optional[Tensor]
    cross_query: Optional[Tensor]
    cross_attn: Optional[Tensor]
    ffn_norm: Tensor
    hidden: Tensor  # (T, B, F) activation before dropout, or its argument: see KNOWN_BY_VALUE


class Scales(NamedTuple):
    """What the weights of a layer are multiplied by: 1 / √D, and 1 / (1 - p) of every dropout (8)."""

    query: float
    attn_out: float
    cross_out: float
    fc2: float
    bias: float  # of the three outputs


def scales(s: Settings, dropout: List[LayerDropout], head_width: int) -> Scales:
    p, attn_p, act_p = (s.dropout, s.attention_dropout, s.activation_dropout) if dropout else (0.0, 0.0, 0.0)
    out = 1.0 / (1.0 - p)
    return Scales(head_width**-0.5, out / (1 - attn_p), out / (1 - attn_p), out / (1 - act_p), out)


def forward(
    leaves: Leaves, c: Constants, save: bool
) -> Tuple[Tensor, Tensor, List[Dots], List[Sums], Optional[Tensor], List[Kept]]:
    """-> outputs (T, B, C), memory (T, B, C), keys and values of all slots (G), cross-attention (T, B, H, S), and what
    backward needs of each layer."""
    x, s = leaves.x, c.settings
    steps, rows, width = x.shape
    groups, _, heads, stored, head_width = leaves.keys.shape
    outputs, memory = torch.empty_like(x), torch.empty_like(x)
    shape = (rows * heads, stored + steps, head_width)
    keys = [Dots(*shape, leaves.query).write(0, k.flatten(0, 1)) for k in leaves.keys]
    values = [Sums(*shape, leaves.query).write(0, v.flatten(0, 1)) for v in leaves.values]
    kept = _allocate(leaves, c) if save else []
    layers = [_Layer(leaves, c, i, kept, outputs) for i in range(len(leaves.layers))]
    project = [_MemoryProjection(leaves, c, g) for g in range(groups)]
    attns: List[Tensor] = []
    for t in range(steps):
        last = c.not_stored + stored + t
        first = first_visible(last, s.span)
        window = Window.of(first, last, c.not_stored)
        time = last - s.init_slots  # counts the steps that a carried memory stands for
        hidden = mask_bias(hidden_slots(c.left_pad, time, first, last), heads, c.dtype)
        states = [x[t]]
        normed = x[t]
        for i, layer in enumerate(layers):
            g = i % groups
            y, normed, attn = layer.step(states[-1], normed, t, keys[g], values[g], hidden, window, first, last)
            states.append(y)
            if i == c.attn_layer and attn is not None:
                attns.append(attn.view(rows, heads, -1))
        m = torch.mv(torch.stack(states).view(len(states), -1).t(), leaves.mix).view_as(x[t])  # (4)
        memory[t] = m = blank_padding(m, c.left_pad, time)
        for g in range(groups):
            k, v = project[g].step(m)
            keys[g].write(stored + t, k)
            values[g].write(stored + t, v)
        if not (save and s.pre_norm):  # there the last layer has written it
            outputs[t] = states[-1]
    return outputs, memory, keys, values, torch.stack(attns) if attns else None, kept


def _allocate(leaves: Leaves, c: Constants) -> List[Kept]:
    x, cross = leaves.x, leaves.cross_keys is not None

    def states(wanted: bool = True) -> Optional[Tensor]:
        return torch.empty_like(x) if wanted else None

    def heads(wanted: bool = True) -> Optional[Tensor]:
        return torch.empty_like(leaves.query, dtype=c.dtype) if wanted else None

    return [
        Kept(
            attn_norm=states(w.attn_norm is not None),
            query=heads(w.query is not None),
            attn=heads(),
            cross_norm=states(cross),
            cross_query=heads(cross),
            cross_attn=heads(cross),
            ffn_norm=states(),
            hidden=x.new_empty((*x.shape[:2], w.fc1.weight.size(0)), dtype=c.dtype),
        )
        for w in leaves.layers
    ]


class _Layer:
    """One layer's step, with its weights packed."""

    def __init__(self, leaves: Leaves, c: Constants, index: int, kept: List[Kept], outputs: Tensor):
        w, rows = leaves.layers[index], leaves.x.size(1)
        scale = scales(c.settings, c.dropout, leaves.query.size(2) // c.settings.heads)
        self.w, self.s, self.rows = w, c.settings, rows
        self.positions = leaves.positions
        self.span = None if leaves.spans is None else leaves.spans[index]
        self.keep = of_layer(c.dropout, index)
        self.first_queries = leaves.query if index == 0 else None

        def scaled(affine: Affine, weight_scale: float = 1.0, bias_scale: float = 1.0) -> Callable:
            return product((affine.weight * weight_scale).to(c.dtype), (affine.bias * bias_scale).to(c.dtype), rows)

        self.query = scaled(w.query, scale.query, scale.query) if index > 0 else None
        self.attn_out = scaled(w.attn_out, scale.attn_out, scale.bias)
        self.has_cross = leaves.cross_keys is not None
        if self.has_cross:
            self.cross_query = scaled(w.cross_query, scale.query, scale.query)
            self.cross_out = scaled(w.cross_out, scale.cross_out, scale.bias)
            keys, values = leaves.cross_keys[index].flatten(0, 1), leaves.cross_values[index].flatten(0, 1)
            self.cross_keys = Dots.of(keys)
            self.cross_values = Sums.of(values)
            self.cross_hidden = mask_bias(c.cross_padding, c.settings.heads, c.dtype)
        self.fc1 = scaled(w.fc1)
        self.fc2 = scaled(w.fc2, scale.fc2, scale.bias)
        self.kept = Kept(*[None] * 8)
        if kept:
            self.kept = Kept(*(None if v is None else v.unbind() for v in kept[index]))
        self.ends = self._ends(leaves, kept, index, outputs)

    def _ends(
        self, leaves: Leaves, kept: List[Kept], index: int, outputs: Tensor
    ) -> List[Tuple[Optional[Affine], Optional[Tuple[Tensor, ...]]]]:
        """Of the three sublayers: the norm that reads its sum, and where the sums of all steps are kept."""
        w, k = self.w, self.kept
        ends = [(w.attn_norm, k.attn_norm), (w.cross_norm, k.cross_norm), (w.ffn_norm, k.ffn_norm)]
        if not self.s.pre_norm:
            return ends
        if index + 1 < len(leaves.layers):
            following = leaves.layers[index + 1].attn_norm, kept[index + 1].attn_norm.unbind() if kept else None
        else:
            following = None, outputs.unbind() if kept else None
        return [ends[1] if self.has_cross else ends[2], ends[2], following]

    def step(
        self,
        x: Tensor,  # (B, C)
        normed: Tensor,  # the same after the norm of pre-norm
        t: int,
        keys: Dots,
        values: Sums,
        hidden: Optional[Tensor],  # (B·H, last - first)
        window: Window,  # the slots first..last-1 as they are stored
        first: int,
        last: int,
    ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """-> the layer's output, it after the next layer's norm of pre-norm, its cross-attention (B·H, S)."""
        keep, kept = self.keep, self.kept

        query = self.query(normed, out=_at(kept.query, t)) if self.first_queries is None else self.first_queries[t]
        dropped = None if keep.memory_attn is None else keep.memory_attn[t, :, :, first:last]
        vectors = None if self.positions is None else self.positions[self.positions.size(0) - last + first :]
        added = self._added(hidden, first, last)
        z, _ = attend(query, keys, values, window, vectors, added, dropped, _at(kept.attn, t))
        x, normed = self._leave(0, x, self.attn_out(z), keep.attn_out, t)

        attn: Optional[Tensor] = None
        if self.has_cross:
            query = self.cross_query(normed, out=_at(kept.cross_query, t))
            keys, values, dropped = self.cross_keys, self.cross_values, _at(keep.cross_attn, t)
            out = _at(kept.cross_attn, t)
            z, attn = attend(query, keys, values, Window(0, keys.slots, 0), None, self.cross_hidden, dropped, out)
            x, normed = self._leave(1, x, self.cross_out(z), keep.cross_out, t)

        relu = self.s.activation == "relu"
        h = self.fc1(normed, "relu" if relu else "none", _at(kept.hidden, t))
        if not relu:
            h = activate(h, self.s.activation)
            if kept.hidden is not None and self.s.activation in KNOWN_BY_VALUE:
                kept.hidden[t].copy_(h)
        if keep.activation is not None:
            h = h * keep.activation[t]
        return *self._leave(2, x, self.fc2(h), keep.ffn_out, t), attn

    def _added(self, hidden: Optional[Tensor], first: int, last: int) -> Optional[Tensor]:
        """To the scores: what hides slots, and the weight of their distance (16)."""
        if self.span is None:
            return hidden
        span = self.span[:, self.span.size(1) - last + first :].repeat(self.rows, 1)
        return span if hidden is None else hidden + span

    def _leave(self, sublayer: int, x: Tensor, z: Tensor, keep: Optional[Tensor], t: int) -> Tuple[Tensor, Tensor]:
        """Dropout, the sum, and the norm that reads it -> what the next sublayer adds to, and what it reads."""
        w, sums = self.ends[sublayer]
        y, normed = add_norm(x, z, _at(keep, t), w, _at(sums, t))
        return (y if self.s.pre_norm else normed), normed


def _at(buffer: Optional[Sequence[Tensor]], t: int) -> Optional[Tensor]:
    return None if buffer is None else buffer[t]


class _MemoryProjection:
    """Keys and values of a memory vector in one product."""

    def __init__(self, leaves: Leaves, c: Constants, group: int):
        self.norm = leaves.memory_norms[group] if leaves.memory_norms else None
        weight, bias = joined(leaves, group)
        self.product = product(weight.to(c.dtype), bias.to(c.dtype), leaves.x.size(1))
        self.heads = c.settings.heads

    def step(self, m: Tensor) -> List[Tensor]:
        """(B, C) -> key and value (B·H, 1, D)."""
        normed = m if self.norm is None else norm(m, self.norm)
        return [p.reshape(m.size(0) * self.heads, 1, -1) for p in self.product(normed).chunk(2, dim=1)]


def joined(leaves: Leaves, group: int) -> Tuple[Tensor, Tensor]:
    """W_k above W_v (2C, C), and their biases (2C)."""
    k, v = leaves.memory_keys[group], leaves.memory_values[group]
    return torch.cat([k.weight, v.weight]), torch.cat([k.bias, v.bias])


def mask_bias(hidden: Optional[Tensor], heads: int, dtype: torch.dtype) -> Optional[Tensor]:
    """What to add to scores so that no weight goes where `hidden` (B, M) is True: (B·H, M)."""
    if hidden is None:
        return None
    bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))
    return bias.repeat_interleave(heads, dim=0)
