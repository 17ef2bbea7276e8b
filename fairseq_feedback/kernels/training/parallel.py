"""All steps of a block at once: for layers that read their own input, where no step waits for the one before it.

Signature and mathematics are those of ../reference.py; gradients are autograd's. Shapes: see ../__init__.py; n is the
number of steps of a piece, W the slots that any of them sees. Equation numbers: see ../README.md.
"""

from typing import List, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention import at_least_float32
from ..dropout import of_layer
from ..reference import activate, linear, norm, project_group, split_heads
from ..visible import first_visible
from ..weights import Affine, CrossMemory, Inputs, LayerDropout, LayerWeights, Settings
from .forward import Scales, scales

PIECE = 128  # steps that look at one window of slots: more look at more in vain, fewer make smaller products


def unsupported(inputs: Inputs) -> Optional[str]:
    """Why this kernel cannot do a run that the reference can; None if it can."""
    if inputs.cross is not None and inputs.cross.keys.size(1) != inputs.x.size(1):
        return "several rows share a source sentence"
    return None


def run(inputs: Inputs) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """As reference.run."""
    assert inputs.zeros == 0, "nothing stands before the first step where each sees itself"
    x, s, dropout = inputs.x, inputs.settings, inputs.choices.dropout
    first = first_visible(inputs.memory.size(0) + 1, s.span)
    pieces = _pieces(inputs, first)
    states: List[Tensor] = []
    attn: Optional[Tensor] = None
    for i, w in enumerate(inputs.weights.layers):
        states.append(x)
        if not inputs.choices.kept[i]:
            continue
        keep = of_layer(dropout, i)
        w = _scaled(w, scales(s, dropout, inputs.weights.memory.keys[i].weight.size(0) // s.heads))
        x = _leave(x, _memory_heads(x, inputs, i, first, w, keep, pieces), w.attn_out, keep.attn_out, w.attn_norm, s)
        if inputs.cross is not None:
            z, layer_attn = _source_heads(x, inputs.cross, i, w, keep, s)
            x = _leave(x, z, w.cross_out, keep.cross_out, w.cross_norm, s)
            if i == inputs.attn_layer:
                attn = layer_attn
        h = activate(linear(norm(x, w.ffn_norm) if s.pre_norm else x, w.fc1), s.activation)
        if keep.activation is not None:
            h = h * keep.activation
        x = _leave(x, h, w.fc2, keep.ffn_out, w.ffn_norm, s)
    return x, _blanked(torch.stack(states, dim=2), inputs), attn


class Piece(NamedTuple):
    """Steps start..stop-1, which see the slots oldest..newest-1."""

    start: int
    stop: int
    oldest: int
    newest: int
    mask: Tensor  # (1 or B, 1, n, W) added to the scores


def _pieces(inputs: Inputs, first: int) -> List[Piece]:
    """first: the oldest slot that any step sees; those of the pieces are counted from it."""
    x, s, found = inputs.x, inputs.settings, []
    carried = inputs.memory.size(0)
    for start in range(0, x.size(0), PIECE):
        stop = min(start + PIECE, x.size(0))
        oldest, newest = first_visible(carried + start + 1, s.span), carried + stop
        slot = torch.arange(oldest, newest, device=x.device)
        own = torch.arange(carried + start, newest, device=x.device)[:, None]
        hidden = slot > own  # n x W
        if s.span > 0:
            hidden = hidden | (slot <= own - s.span)
        hidden = hidden[None, None]
        if inputs.left_pad is not None:
            hidden = hidden | (slot < torch.minimum(inputs.left_pad[:, None, None, None], own - s.init_slots))
        mask = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill_(hidden, float("-inf"))
        found.append(Piece(start, stop, oldest - first, newest - first, mask))
    return found


def _scaled(w: LayerWeights, scale: Scales) -> LayerWeights:
    """With the constants multiplied in (8)."""

    def scaled(affine: Optional[Affine], weight: float, bias: float) -> Optional[Affine]:
        return affine if affine is None or weight == 1.0 else Affine(affine.weight * weight, affine.bias * bias)

    return w._replace(
        query=scaled(w.query, scale.query, scale.query),
        attn_out=scaled(w.attn_out, scale.attn_out, scale.bias),
        cross_query=scaled(w.cross_query, scale.query, scale.query),
        cross_out=scaled(w.cross_out, scale.cross_out, scale.bias),
        fc2=scaled(w.fc2, scale.fc2, scale.bias),
    )


def _leave(x: Tensor, z: Tensor, w: Affine, keep: Optional[Tensor], after: Affine, s: Settings) -> Tensor:
    """End of a sublayer: its last product, dropout, the sum, and the norm of post-norm."""
    z = linear(z, w)
    y = x + z if keep is None else torch.addcmul(x, z.to(x.dtype), keep.to(x.dtype))
    return y if s.pre_norm else norm(y, after)


def _memory_heads(
    x: Tensor, inputs: Inputs, i: int, first: int, w: LayerWeights, keep: LayerDropout, pieces: List[Piece]
) -> Tensor:
    """Attention of all steps to their own slots and those before (5), (16) -> (T, B, A)."""
    s, memory = inputs.settings, inputs.weights.memory
    normed = norm(x, w.attn_norm) if s.pre_norm else x
    query = split_heads(linear(normed, w.query), s.heads)  # (B, H, T, D)
    key, value = (split_heads(linear(normed, p), s.heads) for p in (memory.keys[i], memory.values[i]))
    if inputs.memory.size(0) > first:
        old_key, old_value = project_group(inputs.memory[first:, :, i], memory, i, s)
        key, value = torch.cat([old_key, key], dim=2), torch.cat([old_value, value], dim=2)
    found = []
    for p in pieces:
        queries = query[:, :, p.start : p.stop]
        bias = p.mask
        slots = p.newest - p.oldest
        if memory.positions is not None:
            seen = memory.positions[-slots:]
            bias = bias + _by_slot(torch.matmul(queries, seen.t()), slots)
        if memory.spans is not None:
            seen = memory.spans[i, :, None, -slots:].expand(-1, queries.size(2), -1)
            bias = bias + _by_slot(seen, slots)
        choices = keep.memory_attn
        if choices is not None:
            choices = choices[p.start : p.stop, :, :, first + p.oldest : first + p.newest]
        window = slice(p.oldest, p.newest)
        found.append(_attend(queries, key[:, :, window], value[:, :, window], bias, choices)[0])
    return torch.cat(found)


def _source_heads(
    x: Tensor, cross: CrossMemory, i: int, w: LayerWeights, keep: LayerDropout, s: Settings
) -> Tuple[Tensor, Tensor]:
    """Cross-attention of all steps (2) -> (T, B, A), weights before dropout (T, B, H, S)."""
    query = split_heads(linear(norm(x, w.cross_norm) if s.pre_norm else x, w.cross_query), s.heads)
    bias = x.new_zeros((1, 1, 1, 1))
    if cross.padding is not None:
        bias = x.new_zeros(cross.padding.shape).masked_fill_(cross.padding, float("-inf"))[:, None, None]
    return _attend(query, cross.keys[i], cross.values[i], bias, keep.cross_attn)


def _attend(
    query: Tensor,  # (B, H, n, D) scaled
    key: Tensor,  # (B, H, W, D)
    value: Tensor,
    bias: Tensor,  # (1 or B, 1 or H, 1 or n, W) added to the scores
    keep: Optional[Tensor],  # (n, B, H, W) under dropout
) -> Tuple[Tensor, Tensor]:
    """-> (n, B, A) without dropout's scale, weights before dropout (n, B, H, W)."""
    rows, heads, steps, _ = query.shape
    shape = (rows, heads, steps, key.size(2))
    bias = bias.to(query.dtype).expand(shape).flatten(0, 1)
    scores = torch.baddbmm(bias, query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    attn = torch.softmax(scores, dim=-1, dtype=at_least_float32(scores)).type_as(scores).view(shape)
    used = attn if keep is None else attn * keep.permute(1, 2, 0, 3)
    z = torch.bmm(used.flatten(0, 1), value.flatten(0, 1)).view(rows, heads, steps, -1)
    return z.permute(2, 0, 1, 3).flatten(2), attn.permute(2, 0, 1, 3)


def _by_slot(x: Tensor, slots: int) -> Tensor:
    """(…, n, P) of distances, the nearest last -> (…, n, W) of the slots, of which the last is the last step's own.

    A row longer than a row of the result by one shifts each step's by one more. What that wraps around is masked.
    """
    steps = x.size(-2)
    x = F.pad(x, (slots - x.size(-1), 1)).flatten(-2)
    return x[..., steps - 1 : steps - 1 + steps * slots].unflatten(-1, (steps, slots))


def _blanked(memory: Tensor, inputs: Inputs) -> Tensor:
    """(T, B, L, C), zero where a step is padding."""
    if inputs.left_pad is None:
        return memory
    start = inputs.memory.size(0) - inputs.settings.init_slots
    time = torch.arange(start, start + memory.size(0), device=memory.device)[:, None]
    return memory.masked_fill((inputs.left_pad > time)[:, :, None, None], 0.0)
