"""The forward pass of the fast kernel: the steps of ../reference.py, keeping what the backward pass needs.

Shapes: see ../__init__.py. Equation numbers: see ../README.md.
"""

from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from ..dropout import of_layer
from ..products import Product
from ..reference import activate, blank_padding, norm
from ..visible import first_visible, hidden_slots
from ..weights import Affine, LayerDropout, LayerWeights, Settings
from .slots import Dots, Sums

# Activations whose derivative is a function of their value: that is what is kept of them.
KNOWN_BY_VALUE = ("relu", "tanh", "linear")


class Leaves(NamedTuple):
    """What has a gradient, made of a kernel's inputs. Layers that LayerDrop has dropped are not among it."""

    x: Tensor  # (T, B, C) embedded input
    query: Tensor  # (T, B, A) of the first layer, which depends on x alone (7)
    keys: Tensor  # (G, B, H, N, D) of the slots before the first step
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
    groups, _, heads, carried, head_width = leaves.keys.shape
    outputs, memory = torch.empty_like(x), torch.empty_like(x)
    shape = (rows * heads, carried + steps, head_width)
    keys = [Dots(*shape, leaves.query).write(0, k.flatten(0, 1)) for k in leaves.keys]
    values = [Sums(*shape, leaves.query).write(0, v.flatten(0, 1)) for v in leaves.values]
    kept = _allocate(leaves, c) if save else []
    layers = [_Layer(leaves, c, i, kept, outputs) for i in range(len(leaves.layers))]
    project = [_MemoryProjection(leaves, c, g) for g in range(groups)]
    attns: List[Tensor] = []
    for t in range(steps):
        last = carried + t
        first = first_visible(last, s.span)
        time = last - s.init_slots  # counts the steps that a carried memory stands for
        hidden = mask_bias(hidden_slots(c.left_pad, time, first, last), heads, c.dtype)
        states = [x[t]]
        for i, layer in enumerate(layers):
            g = i % groups
            y, attn = layer.step(states[-1], t, keys[g], values[g], hidden, first, last)
            states.append(y)
            if i == c.attn_layer and attn is not None:
                attns.append(attn.view(rows, heads, -1))
        m = torch.mv(torch.stack(states).view(len(states), -1).t(), leaves.mix).view_as(x[t])  # (4)
        memory[t] = m = blank_padding(m, c.left_pad, time)
        for g in range(groups):
            k, v = project[g].step(m)
            keys[g].write(last, k)
            values[g].write(last, v)
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
        self.w, self.s = w, c.settings
        self.positions = leaves.positions
        self.span = None if leaves.spans is None else leaves.spans[index]
        self.keep = of_layer(c.dropout, index)
        self.first_queries = leaves.query if index == 0 else None

        def product(affine: Affine, weight_scale: float = 1.0, bias_scale: float = 1.0) -> Product:
            return Product((affine.weight * weight_scale).to(c.dtype), (affine.bias * bias_scale).to(c.dtype), rows)

        self.query = product(w.query, scale.query, scale.query) if index > 0 else None
        self.attn_out = product(w.attn_out, scale.attn_out, scale.bias)
        self.has_cross = leaves.cross_keys is not None
        if self.has_cross:
            self.cross_query = product(w.cross_query, scale.query, scale.query)
            self.cross_out = product(w.cross_out, scale.cross_out, scale.bias)
            keys, values = leaves.cross_keys[index].flatten(0, 1), leaves.cross_values[index].flatten(0, 1)
            self.cross_keys = Dots.of(keys)
            self.cross_values = Sums.of(values)
            self.cross_hidden = mask_bias(c.cross_padding, c.settings.heads, c.dtype)
        self.fc1 = product(w.fc1)
        self.fc2 = product(w.fc2, scale.fc2, scale.bias)
        self.kept = Kept(*[None] * 8)
        self.sums = None, None, None
        if kept:
            self.kept = k = Kept(*(None if v is None else v.unbind() for v in kept[index]))
            self.sums = k.attn_norm, k.cross_norm, k.ffn_norm
            if c.settings.pre_norm:  # the next norm reads what this sublayer writes
                following = kept[index + 1].attn_norm if index + 1 < len(kept) else outputs
                after_attn = k.cross_norm if self.has_cross else k.ffn_norm
                self.sums = after_attn, k.ffn_norm, following.unbind()

    def step(
        self,
        x: Tensor,  # (B, C)
        t: int,
        keys: Dots,
        values: Sums,
        hidden: Optional[Tensor],  # (B·H, last - first)
        first: int,
        last: int,
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """-> the layer's output, its cross-attention (B·H, S)."""
        w, keep, kept, pre_norm = self.w, self.keep, self.kept, self.s.pre_norm

        if self.first_queries is not None:
            query = self.first_queries[t]
        else:
            query = self.query(norm(x, w.attn_norm) if pre_norm else x)
        dropped = None if keep.memory_attn is None else keep.memory_attn[t, :, :, first:last]
        z, _ = attend(query, keys, values, first, last, hidden, dropped, self.positions, self.span)
        _write(kept.query, t, query)
        _write(kept.attn, t, z)
        x = self._leave(x, self.attn_out(z), keep.attn_out, t, w.attn_norm, self.sums[0])

        attn: Optional[Tensor] = None
        if self.has_cross:
            query = self.cross_query(norm(x, w.cross_norm) if pre_norm else x)
            dropped = None if keep.cross_attn is None else keep.cross_attn[t]
            z, attn = attend(
                query, self.cross_keys, self.cross_values, 0, self.cross_keys.slots, self.cross_hidden, dropped
            )
            _write(kept.cross_query, t, query)
            _write(kept.cross_attn, t, z)
            x = self._leave(x, self.cross_out(z), keep.cross_out, t, w.cross_norm, self.sums[1])

        normed = norm(x, w.ffn_norm) if pre_norm else x
        if self.s.activation == "relu":
            known = h = self.fc1(normed, "relu")
        else:
            known = self.fc1(normed)
            h = activate(known, self.s.activation)
            if self.s.activation in KNOWN_BY_VALUE:
                known = h
        _write(kept.hidden, t, known)
        if keep.activation is not None:
            h = h * keep.activation[t]
        return self._leave(x, self.fc2(h), keep.ffn_out, t, w.ffn_norm, self.sums[2]), attn

    def _leave(
        self, x: Tensor, z: Tensor, keep: Optional[Tensor], t: int, w: Affine, sums: Optional[Tuple[Tensor, ...]]
    ) -> Tensor:
        """End of a sublayer: dropout, the sum, and the norm of post-norm."""
        out = None if sums is None else sums[t]
        if keep is None:
            y = torch.add(x, z, out=out)
        else:
            y = torch.addcmul(x, z.to(x.dtype), keep[t].to(x.dtype), out=out)
        return y if self.s.pre_norm else norm(y, w)


def _write(buffer: Optional[Tuple[Tensor, ...]], t: int, x: Tensor) -> None:
    if buffer is not None:
        buffer[t].copy_(x)


class _MemoryProjection:
    """Keys and values of a memory vector in one product."""

    def __init__(self, leaves: Leaves, c: Constants, group: int):
        self.norm = leaves.memory_norms[group] if leaves.memory_norms else None
        weight, bias = joined(leaves, group)
        self.product = Product(weight.to(c.dtype), bias.to(c.dtype), leaves.x.size(1))
        self.heads = c.settings.heads

    def step(self, m: Tensor) -> List[Tensor]:
        """(B, C) -> key and value (B·H, 1, D)."""
        normed = m if self.norm is None else norm(m, self.norm)
        return [p.reshape(m.size(0) * self.heads, 1, -1) for p in self.product(normed).chunk(2, dim=1)]


def joined(leaves: Leaves, group: int) -> Tuple[Tensor, Tensor]:
    """W_k above W_v (2C, C), and their biases (2C)."""
    k, v = leaves.memory_keys[group], leaves.memory_values[group]
    return torch.cat([k.weight, v.weight]), torch.cat([k.bias, v.bias])


def attend(
    query: Tensor,  # (B, A) scaled
    keys: Dots,
    values: Sums,
    first: int,  # the slots that are seen
    last: int,
    hidden: Optional[Tensor],  # (B·H, last - first) added to the scores
    keep: Optional[Tensor],  # (B, H, last - first) under dropout
    positions: Optional[Tensor] = None,  # (P, D)
    span: Optional[Tensor] = None,  # (H, P)
) -> Tuple[Tensor, Tensor]:
    """Attention of one step (5) without dropout's scale -> (B, A), weights before dropout (B·H, last - first)."""
    query_of_heads = query.view(keys.data.size(0), -1)
    scores = keys.dot(query_of_heads, first, last)
    if positions is not None:
        scores = torch.addmm(scores, query_of_heads, positions[positions.size(0) - last + first :].t())
    if span is not None:
        scores = scores + span[:, span.size(1) - last + first :].repeat(query.size(0), 1)
    if hidden is not None:
        scores = scores + hidden
    attn = torch.softmax(scores, dim=-1)
    used = attn if keep is None else attn * keep.reshape(attn.shape)
    return values.sum(used, first, last).view_as(query), attn


def mask_bias(hidden: Optional[Tensor], heads: int, dtype: torch.dtype) -> Optional[Tensor]:
    """What to add to scores so that no weight goes where `hidden` (B, M) is True: (B·H, M)."""
    if hidden is None:
        return None
    bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))
    return bias.repeat_interleave(heads, dim=0)
