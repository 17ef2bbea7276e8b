"""Vectors of memory slots, laid out for one query a row: reading them is what attention costs in a step.

On a CPU torch.bmm with a single query is slow on what is not in the cache. A weighted sum of table rows is not (it is
what embedding bags are made of, and prefetches), so in float32 both products of attention are made of those: scores
sum the D rows of a tile of 16 slots, weighted by the query; values sum the rows of the slots, weighted by attention.
R is B·H. Other shapes: see ../__init__.py.
"""

from typing import Callable, Optional, Tuple

import torch
from torch import Tensor

from .. import products

TILE = 16  # slots: one register of 16 floats


class Dots:
    """Slots that are multiplied by a query: keys, or in backward values."""

    def __init__(self, rows: int, slots: int, width: int, like: Tensor):
        self.slots, self.bags = slots, fast_bags(like)
        self.tiled = self.bags is not None
        shape = (rows, -(-slots // TILE), width, TILE) if self.tiled else (rows, slots, width)
        self.data = like.new_empty(shape)
        self.window: Tuple[int, int] = (0, 0)

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
        if self.window != (a, b):
            self.window = (a, b)
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
        self.bags = fast_bags(like)
        self.window: Tuple[int, int] = (0, 0)

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
        if self.window != (first, last):
            self.window = (first, last)
            self.index, self.offsets = _bags(rows, slots, first, last, last - first, weights)
        return _weighted_sums(self.bags, self.data.view(-1, width), self.index, self.offsets, weights.reshape(-1))


def _bags(rows: int, stride: int, first: int, last: int, size: int, like: Tensor) -> Tuple[Tensor, Tensor]:
    """Numbers of the table rows first..last-1 of every row, and where each bag of `size` of them starts."""
    start = torch.arange(rows, dtype=torch.int32, device=like.device)[:, None] * stride
    index = (start + torch.arange(first, last, dtype=torch.int32, device=like.device)).view(-1)
    return index, torch.arange(0, index.size(0), size, dtype=torch.int32, device=like.device)


def _weighted_sums(bags: Callable, table: Tensor, index: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    return bags(table, index, offsets, False, 0, False, weights)[0]


def fast_bags(like: Tensor) -> Optional[Callable]:
    """The operation, where it is faster than torch.bmm."""
    if like.device.type != "cpu" or like.dtype != torch.float32 or not products.on_x86():
        return None
    return products.private("aten", "_embedding_bag_forward_only")
