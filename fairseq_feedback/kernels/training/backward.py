"""The backward pass of the fast kernel, derived by hand.

Time runs backwards, in blocks. A step computes only what earlier steps wait for; the rest, above all the gradients of
weights, is left to large products at the end of its block. Shapes: see ../__init__.py; n is the number of steps of a
block, W the slots that any of them sees. Equation numbers: see ../README.md.
"""

from typing import List, Optional, Tuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ..attention import at_least_float32
from ..dropout import of_layer
from ..products import product
from ..reference import activate
from ..weights import Affine
from .attention import Attention, MemoryAttention
from .forward import KNOWN_BY_VALUE, Constants, Kept, Leaves, joined, scales
from .norms import layer_norm_backward, norm_back
from .slots import Window

aten = torch.ops.aten


def backward(
    leaves: Leaves,  # without keys and values, which are the first N below
    c: Constants,
    outputs: Tensor,  # (T, B, C)
    memory: Tensor,  # (T, B, C)
    keys: List[Tensor],  # G of (B·H, N + T, D)
    values: List[Tensor],
    kept: List[Kept],  # L
    d_outputs: Optional[Tensor],  # (T, B, C)
    d_memory: Optional[Tensor],  # (T, B, C)
) -> Leaves:
    """-> the gradient of every input."""
    x, s = leaves.x, c.settings
    steps, rows, _ = x.shape
    stored, groups, block = keys[0].size(1) - steps, len(keys), block_length(rows)
    total = _totals(leaves)
    d_kv = keys[0].new_zeros((2, groups, *keys[0].shape), dtype=at_least_float32(keys[0]))
    attentions = [MemoryAttention(keys[g], values[g], leaves, c, kept, g, groups) for g in range(groups)]
    layers = [_Layer(leaves, c, kept, i, attentions[i % groups], block) for i in range(len(kept))]
    projections = [_MemoryProjection(leaves, c, g, block) for g in range(groups)]
    d_m = torch.empty_like(x[:block])
    for start in range((steps - 1) // block * block, -1, -block):
        stop = min(start + block, steps)
        for attention in attentions:
            attention.enter_block(start, stop)
        for layer in layers:
            layer.enter_block(start, stop)
        for projection in projections:
            projection.enter_block(memory[start:stop])

        for t in range(stop - 1, start - 1, -1):
            i, slot = t - start, stored + t
            dm = torch.zeros_like(x[t]) if d_memory is None else d_memory[t]
            if t + 1 < steps:
                for g in range(groups):
                    d_slot = d_kv[:, g, :, slot]
                    if t + 1 < stop:
                        d_slot = d_slot + attentions[g].of_slot(slot, i + 1)  # (14)
                    dm = dm + projections[g].step(i, d_slot)  # (13)
            if c.left_pad is not None:
                dm = dm.masked_fill((c.left_pad > c.not_stored + slot - s.init_slots)[:, None], 0.0)
            d_m[i] = dm
            shares = (leaves.mix[:, None, None] * dm).unbind()  # (10)
            dy = shares[-1] if d_outputs is None else shares[-1] + d_outputs[t]
            for j in range(len(layers) - 1, -1, -1):
                dy = layers[j].step(i, t, dy) + shares[j]
            total.x[t] = dy

        for g in range(groups):
            attentions[g].add_slots(d_kv[0, g], d_kv[1, g], stored + start)  # (15)
            projections[g].leave_block(min(stop, steps - 1) - start, total)
        total.query[start:stop] = attentions[0].d_queries(0)
        for attention in attentions:
            attention.add_distances(total)
            attention.leave_block()
        state = x[start:stop]
        for j, layer in enumerate(layers):
            total.mix[j] += torch.sum(state * d_m[: stop - start], dtype=total.mix.dtype)  # (11)
            layer.leave_block(state, total)
            state = layer.output(outputs[start:stop])
        total.mix[-1] += torch.sum(state * d_m[: stop - start], dtype=total.mix.dtype)

    total = tree_map(lambda i, d: None if i is None else d.to(i.dtype), leaves, total)
    d_initial = d_kv[:, :, :, :stored].to(c.dtype).view(2, groups, rows, s.heads, stored, keys[0].size(2))
    return total._replace(keys=d_initial[0], values=d_initial[1])


def block_length(rows: int) -> int:
    """Steps of a block. More make its products and its buffers larger, and more goes step by step inside it."""
    if rows > 64:
        return 8
    return 16 if rows > 8 else 32


class _Layer:
    """One layer, from the gradient of its output to that of its input."""

    def __init__(
        self, leaves: Leaves, c: Constants, kept: List[Kept], index: int, attention: MemoryAttention, block: int
    ):
        w, rows = leaves.layers[index], leaves.x.size(1)
        scale = scales(c.settings, c.dropout, leaves.query.size(2) // c.settings.heads)
        self.c, self.s, self.index, self.kept = c, c.settings, index, kept[index]
        self.attention, self.position = attention, attention.position(index)
        self.following = kept[index + 1] if index + 1 < len(kept) else None
        self.keep = of_layer(c.dropout, index)

        def linear(affine: Affine, weight_scale: float = 1.0, bias_scale: float = 1.0) -> "_Linear":
            return _Linear(affine, weight_scale, bias_scale, c.dtype, rows, block)

        def norm(affine: Affine) -> "_Norm":
            return _Norm(affine, block)

        self.query = None if w.query is None else linear(w.query, scale.query, scale.query)
        self.attn_out = linear(w.attn_out, scale.attn_out, scale.bias)
        self.attn_norm = None if w.attn_norm is None else norm(w.attn_norm)
        self.cross: Optional[Attention] = None
        if leaves.cross_keys is not None:
            keys, values = leaves.cross_keys[index].flatten(0, 1), leaves.cross_values[index].flatten(0, 1)
            self.cross = Attention(keys, values, rows)
            self.cross_query = linear(w.cross_query, scale.query, scale.query)
            self.cross_out = linear(w.cross_out, scale.cross_out, scale.bias)
            self.cross_norm = norm(w.cross_norm)
        self.fc1 = linear(w.fc1)
        self.fc2 = linear(w.fc2, scale.fc2, scale.bias)
        self.ffn_norm = norm(w.ffn_norm)

    def enter_block(self, start: int, stop: int) -> None:
        """Prepare what does not depend on later steps."""
        self.start, self.stop = start, stop
        kept = self.block = Kept(*(None if v is None else v[start:stop] for v in self.kept))
        if self.attn_norm is not None:
            self.attn_norm.enter_block(kept.attn_norm)
        if self.cross is not None:
            padding, keep = self.c.cross_padding, self.keep.cross_attn
            self.cross.enter(
                [kept.cross_query],
                Window(0, self.cross.all_keys.size(1), 0),
                None if padding is None else padding[:, None],
                None if keep is None else [keep[start:stop]],
            )
            self.cross_norm.enter_block(kept.cross_norm)
        self.ffn_norm.enter_block(kept.ffn_norm)
        self.hidden = kept.hidden.unbind()

    def step(self, i: int, t: int, dy: Tensor) -> Tensor:
        """Gradient at the output of step t, the block's step i -> at its input (9). Both (B, C)."""
        dy, dz = self._enter_sublayer(i, t, dy, self.ffn_norm, self.keep.ffn_out)
        dh = self.fc2.step(i, dz)
        if self.keep.activation is not None:
            dh = dh * self.keep.activation[t]
        dh = _activation_backward(dh, self.hidden[i], self.s.activation)
        dy = self._leave_sublayer(i, dy, self.fc1.step(i, dh), self.ffn_norm)

        if self.cross is not None:
            dy, dz = self._enter_sublayer(i, t, dy, self.cross_norm, self.keep.cross_out)
            dq = self.cross.step(i, 0, self.cross_out.step(i, dz))
            dy = self._leave_sublayer(i, dy, self.cross_query.step(i, dq), self.cross_norm)

        dy, dz = self._enter_sublayer(i, t, dy, self.attn_norm, self.keep.attn_out)
        first_layer = self.query is None
        dq = self.attention.step(i, self.position, self.attn_out.step(i, dz), not first_layer)
        return dy if first_layer else self._leave_sublayer(i, dy, self.query.step(i, dq), self.attn_norm)

    def _enter_sublayer(
        self, i: int, t: int, dy: Tensor, norm: "_Norm", keep: Optional[Tensor]
    ) -> Tuple[Tensor, Tensor]:
        """-> gradient of the sum's first term, and of its second before dropout."""
        if not self.s.pre_norm:
            dy = norm.step(i, dy)
        return dy, dy if keep is None else dy * keep[t].to(dy.dtype)

    def _leave_sublayer(self, i: int, dy: Tensor, dx: Tensor, norm: "_Norm") -> Tensor:
        return norm.step(i, dx, dy) if self.s.pre_norm else dy + dx

    def output(self, outputs: Tensor) -> Tensor:
        """(n, B, C); `outputs` are those of the last layer."""
        if not self.s.pre_norm:
            return self.ffn_norm.normed
        return outputs if self.following is None else self.following.attn_norm[self.start : self.stop]

    def leave_block(self, x: Tensor, total: Leaves) -> None:
        """Gradients of the weights (12). x (n, B, C): the layer's input."""
        d, kept, pre_norm = total.layers[self.index], self.block, self.s.pre_norm
        # A sublayer's products read its norm with pre-norm, and the norm of the sublayer below with post-norm.
        normed = x
        if self.attn_norm is not None:
            normed = self.attn_norm.normed
            self.attn_norm.leave_block(d.attn_norm)
        if self.query is not None:
            self.query.leave_block(normed if pre_norm else x, d.query)
        self.attn_out.leave_block(kept.attn, d.attn_out)
        if self.cross is not None:
            self.cross_query.leave_block(self.cross_norm.normed if pre_norm else normed, d.cross_query)
            self.cross_out.leave_block(kept.cross_attn, d.cross_out)
            self.cross_norm.leave_block(d.cross_norm)
            normed = self.cross_norm.normed
            d_keys, d_values = total.cross_keys[self.index], total.cross_values[self.index]
            self.cross.add_slots(d_keys.flatten(0, 1), d_values.flatten(0, 1), d_keys.size(2))
            self.cross.leave_block()
        self.fc1.leave_block(self.ffn_norm.normed if pre_norm else normed, d.fc1)
        h = kept.hidden
        if self.s.activation not in KNOWN_BY_VALUE:
            h = activate(h, self.s.activation)
        if self.keep.activation is not None:
            h = h * self.keep.activation[self.start : self.stop]
        self.fc2.leave_block(h, d.fc2)
        self.ffn_norm.leave_block(d.ffn_norm)


class _MemoryProjection:
    """From the gradient of a slot's key and value to that of its memory vector."""

    def __init__(self, leaves: Leaves, c: Constants, group: int, block: int):
        self.group, self.affine = group, Affine(*joined(leaves, group))
        self.linear = _Linear(self.affine, 1.0, 1.0, c.dtype, leaves.x.size(1), block)
        self.norm = _Norm(leaves.memory_norms[group], block) if leaves.memory_norms else None

    def enter_block(self, memory: Tensor) -> None:
        self.memory = memory
        if self.norm is not None:
            self.norm.enter_block(memory)

    def step(self, i: int, d_slot: Tensor) -> Tensor:
        """d_slot (2, B·H, D) -> (B, C)."""
        rows = self.memory.size(1)
        dm = self.linear.step(i, d_slot.reshape(2, rows, -1).transpose(0, 1).reshape(rows, -1))
        return dm if self.norm is None else self.norm.step(i, dm)

    def leave_block(self, n: int, total: Leaves) -> None:
        """The block's first n steps had a gradient: nothing sees the memory of a sequence's last step."""
        if n == 0:
            return
        d = tree_map(_zeros, self.affine)
        self.linear.leave_block((self.memory if self.norm is None else self.norm.normed)[:n], d)
        for part, d_part in enumerate((total.memory_keys[self.group], total.memory_values[self.group])):
            d_part.weight.add_(d.weight.chunk(2)[part])
            d_part.bias.add_(d.bias.chunk(2)[part])
        if self.norm is not None:
            self.norm.leave_block(total.memory_norms[self.group], n)


class _Linear:
    """The way back through a product: the gradient of its input step by step, those of its weights once a block."""

    def __init__(
        self, affine: Affine, weight_scale: float, bias_scale: float, dtype: torch.dtype, rows: int, block: int
    ):
        self.weight_scale, self.bias_scale = weight_scale, bias_scale
        self.product = product((affine.weight * weight_scale).to(dtype).t(), None, rows)
        self.dtype, self.d_outputs = dtype, [affine.weight] * block

    def step(self, i: int, dy: Tensor) -> Tensor:
        self.d_outputs[i] = dy
        return self.product(dy)

    def leave_block(self, x: Tensor, total: Affine) -> None:
        """x (n, B, in)."""
        dy = torch.cat(self.d_outputs[: x.size(0)]).to(self.dtype)
        x = x.flatten(0, 1).to(dy.dtype)
        if total.weight.dtype == dy.dtype:
            total.weight.addmm_(dy.t(), x, alpha=self.weight_scale)
        else:
            total.weight.add_(torch.mm(dy.t(), x), alpha=self.weight_scale)
        total.bias.add_(dy.sum(0, dtype=total.bias.dtype), alpha=self.bias_scale)


class _Norm:
    """The way back through a layer norm: the gradient of its input step by step, those of its weights once a block."""

    def __init__(self, w: Affine, block: int):
        self.w, self.shape, self.d_outputs = w, w.weight.shape, [w.weight] * block

    def enter_block(self, x: Tensor) -> None:
        """x (n, B, C), what the norm has read."""
        self.x = x
        self.normed, self.mean, self.rstd = torch.native_layer_norm(x, self.shape, self.w.weight, self.w.bias, 1e-5)
        self.steps = list(zip(x.unbind(), self.mean.unbind(), self.rstd.unbind()))

    def step(self, i: int, dy: Tensor, added: Optional[Tensor] = None) -> Tensor:
        x, mean, rstd = self.steps[i]
        self.d_outputs[i] = dy = dy.to(x.dtype)
        return norm_back(dy, x, mean, rstd, self.w, added)

    def leave_block(self, total: Affine, n: Optional[int] = None) -> None:
        n = self.x.size(0) if n is None else n
        _, weight, bias = layer_norm_backward(
            torch.stack(self.d_outputs[:n]), self.x[:n], self.shape, self.mean[:n], self.rstd[:n], self.w.weight,
            self.w.bias, (False, True, True),
        )  # fmt: skip
        total.weight.add_(weight)
        total.bias.add_(bias)


def _activation_backward(d: Tensor, known: Tensor, name: str) -> Tensor:
    """`known` is the activation's value or its argument, see KNOWN_BY_VALUE."""
    if name == "relu":
        return aten.threshold_backward(d, known, 0)
    if name == "tanh":
        return aten.tanh_backward(d, known)
    if name == "linear":
        return d
    return aten.gelu_backward(d, known, approximate="none" if name == "gelu" else "tanh")


def _totals(leaves: Leaves) -> Leaves:
    """Where gradients are summed up, weights' in at least float32. Those of x and the first query are written once."""
    zeros = tree_map(_zeros, leaves._replace(x=None, query=None))
    return zeros._replace(x=torch.empty_like(leaves.x), query=torch.empty_like(leaves.query))


def _zeros(x: Optional[Tensor]) -> Optional[Tensor]:
    return None if x is None else torch.zeros_like(x, dtype=at_least_float32(x))
