"""Attention of one query a row over memory slots, in both passes: reading the slots is what a step of it costs.

C++ does it where it is there. Without it, on a CPU torch.bmm with a single query is slow on what is not in the cache. A
weighted sum of table rows is not (it is what embedding bags are made of, and prefetches), so in float32 both products
of attention are made of those: scores sum the D rows of a tile of 16 slots, weighted by the query; values sum the rows
of the slots, weighted by attention. R is B·H. Other shapes: see ../__init__.py.
"""

from typing import Callable, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from fairseq_feedback.native import steps as native

from .. import products

TILE = 16  # slots: one register of 16 floats


class Window(NamedTuple):
    """M slots that are seen: those stored as first..last-1, of which the first stands for `again` more."""

    first: int
    last: int
    again: int

    @classmethod
    def of(cls, first: int, last: int, not_stored: int) -> "Window":
        """The slots first..last-1 of a memory whose first slot is stored once for itself and `not_stored` others."""
        return cls(max(0, first - not_stored), last - not_stored, max(0, not_stored - first))

    def repeat(self, x: Tensor) -> Tensor:
        """Of what is stored -> of what is seen, in the last dimension."""
        return x if self.again == 0 else torch.cat([x[..., :1].expand(*x.shape[:-1], self.again), x], dim=-1)

    def add_up(self, x: Tensor) -> Tensor:
        """Weights of what is seen -> of what is stored."""
        if self.again == 0:
            return x
        return torch.cat([x[..., : self.again + 1].sum(-1, keepdim=True), x[..., self.again + 1 :]], dim=-1)


def attend(
    query: Tensor,  # (B, A) scaled
    keys: "Dots",
    values: "Sums",
    window: Window,
    vectors: Optional[Tensor],  # (M, D) added to the keys
    added: Optional[Tensor],  # (R, M) to the scores
    keep: Optional[Tensor],  # (B, H, M) under dropout
    out: Optional[Tensor] = None,
) -> Tuple[Tensor, Tensor]:
    """Attention of one step (5) without dropout's scale -> (B, A), which is `out`; weights before dropout (R, M)."""
    query_of_heads = query.view(keys.data.size(0), -1)
    if native.can_attend(query, query_of_heads.size(1)):
        out = torch.empty_like(query) if out is None else out
        if vectors is not None:
            of_vectors = torch.mm(query_of_heads, vectors.t())
            added = of_vectors if added is None else of_vectors.add_(added)
        attn = native.attend(query_of_heads, keys.data, values.data, *window, added, keep, out)
        return out, attn
    scores = window.repeat(keys.dot(query_of_heads, window.first, window.last))
    if vectors is not None:
        scores = torch.addmm(scores, query_of_heads, vectors.t())
    if added is not None:
        scores = scores + added
    attn = torch.softmax(scores, dim=-1)
    used = attn if keep is None else attn * keep.reshape(attn.shape)
    z = values.sum(window.add_up(used), window.first, window.last).view_as(query)
    return (z if out is None else out.copy_(z)), attn


def attend_back(
    d_heads: Tensor,  # (B, A)
    keys: "Sums",
    values: "Dots",
    window: Window,
    attn: Tensor,  # (R, M) before dropout
    keep: Optional[Tensor],  # (B, H, M)
    kept: Tensor,  # (B, A): a copy of d_heads goes there
    d_scores: Tensor,  # (R, M): the gradient of the scores goes there
    want_query: bool,
) -> Optional[Tensor]:
    """The way back (9) -> gradient of the query (B, A)."""
    rows = attn.size(0)
    if native.can_attend(d_heads, d_heads.numel() // rows):
        return native.attend_back(d_heads, keys.data, values.data, *window, attn, keep, kept, d_scores, want_query)
    kept.copy_(d_heads)
    d_attn = window.repeat(values.dot(d_heads.view(rows, -1), window.first, window.last))
    if keep is not None:
        d_attn = d_attn * keep.reshape(d_attn.shape)
    _softmax_backward(d_attn.to(attn.dtype), attn, d_scores)
    if not want_query:
        return None
    return keys.sum(window.add_up(d_scores).to(d_heads.dtype), window.first, window.last).view_as(d_heads)


def _softmax_backward(d: Tensor, attn: Tensor, out: Tensor) -> None:
    fused = products.private("aten", "_softmax_backward_data", "out")
    if fused is not None:
        fused(d, attn, -1, attn.dtype, grad_input=out)
    else:
        torch.mul(attn, d - (attn * d).sum(dim=-1, keepdim=True), out=out)


class Dots:
    """Slots that are multiplied by a query: keys, or in backward values."""

    def __init__(self, rows: int, slots: int, width: int, like: Tensor):
        self.slots, self.bags = slots, fast_bags(like, width)
        self.tiled = self.bags is not None
        shape = (rows, -(-slots // TILE), width, TILE) if self.tiled else (rows, slots, width)
        self.data = like.new_empty(shape)
        self.bagged: Tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, x: Tensor) -> "Dots":
        """Of slots (R, M, D) that are all there."""
        return cls(*x.shape, x).write(0, x)

    def write(self, first: int, x: Tensor) -> "Dots":
        """x (R, n, D) into the slots from `first` on."""
        last = first + x.size(1)
        if not self.tiled:
            self.data[:, first:last] = x
        elif first + 1 == last:
            self.data[:, first // TILE, :, first % TILE] = x[:, 0]
        else:
            for start in range(first - first % TILE, last, TILE):
                a, b = max(first, start), min(last, start + TILE)
                self.data[:, start // TILE, :, a - start : b - start] = x[:, a - first : b - first].transpose(1, 2)
        return self

    def dot(self, x: Tensor, first: int, last: int) -> Tensor:
        """x (R, D) times the slots first..last-1 -> (R, last - first)."""
        rows, width = x.shape
        if not self.tiled:
            return torch.bmm(x[:, None], self.data[:, first:last].transpose(1, 2)).squeeze(1)
        a, b = first // TILE, -(-last // TILE)
        if self.bagged != (a, b):
            self.bagged = (a, b)
            self.index, self.offsets = _bags(rows, self.data.size(1) * width, a * width, b * width, width, x)
        weights = x[:, None].expand(-1, b - a, -1).reshape(-1)
        products = _weighted_sums(self.bags, self.data.view(-1, TILE), self.index, self.offsets, weights).view(rows, -1)
        return products[:, first - a * TILE : last - a * TILE]

    def all(self) -> Tensor:
        """(R, M, D)."""
        return self.data.transpose(2, 3).flatten(1, 2)[:, : self.slots] if self.tiled else self.data


class Sums:
    """Slots that are summed with weights: values, or in backward keys."""

    def __init__(self, rows: int, slots: int, width: int, like: Tensor):
        self.data = like.new_empty((rows, slots, width))
        self.bags = fast_bags(like, width)
        self.bagged: Tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, x: Tensor) -> "Sums":
        """Of slots (R, M, D) that are all there: no copy."""
        slots = cls(x.size(0), 0, x.size(2), x)
        slots.data = x.contiguous()
        return slots

    def write(self, first: int, x: Tensor) -> "Sums":
        """x (R, n, D) into the slots from `first` on."""
        self.data[:, first : first + x.size(1)] = x
        return self

    def sum(self, weights: Tensor, first: int, last: int) -> Tensor:
        """weights (R, last - first) -> (R, D)."""
        if self.bags is None:
            return torch.bmm(weights[:, None], self.data[:, first:last]).squeeze(1)
        rows, slots, width = self.data.shape
        if self.bagged != (first, last):
            self.bagged = (first, last)
            self.index, self.offsets = _bags(rows, slots, first, last, last - first, weights)
        return _weighted_sums(self.bags, self.data.view(-1, width), self.index, self.offsets, weights.reshape(-1))


def _bags(rows: int, stride: int, first: int, last: int, size: int, like: Tensor) -> Tuple[Tensor, Tensor]:
    """Numbers of the table rows first..last-1 of every row, and where each bag of `size` of them starts."""
    start = torch.arange(rows, dtype=torch.int32, device=like.device)[:, None] * stride
    index = (start + torch.arange(first, last, dtype=torch.int32, device=like.device)).view(-1)
    return index, torch.arange(0, index.size(0), size, dtype=torch.int32, device=like.device)


def _weighted_sums(bags: Callable, table: Tensor, index: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    return bags(table, index, offsets, False, 0, False, weights)[0]


def fast_bags(like: Tensor, width: int) -> Optional[Callable]:
    """The operation, where it is faster than torch.bmm, and there is no C++."""
    if native.can_attend(like, width):
        return None
    if like.device.type != "cpu" or like.dtype != torch.float32 or not products.on_x86():
        return None
    return products.private("aten", "_embedding_bag_forward_only")
