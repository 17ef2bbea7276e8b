"""The episodes of a block as rows of a batch.

A block is T steps of B environments. Episodes end and begin in the middle of it, and no kernel forgets in the middle of
a run: so the part of each episode in the block is a row of its own, which begins at the row's first step. Rows that
are shorter than the longest are filled up at their end with steps that nobody looks at.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Carried(NamedTuple):
    """What goes on from block to block. R: rows, or environments."""

    memory: Tensor  # (N, R, …) the newest last; zeros where nothing came before
    age: Tensor  # (R) steps that the episode has had


class Rows:
    def __init__(self, started: Tensor):  # (T, B), True = a step is the first of its episode
        self.steps = started.size(0)
        begins = started.clone()
        begins[0] = True
        # By time, so the first B rows are the environments' own, and later parts have higher numbers.
        self.first, self.environment = begins.nonzero(as_tuple=True)  # (R)
        number = torch.zeros_like(begins, dtype=torch.long)
        number[begins] = torch.arange(len(self.first), device=started.device)
        row = number.cummax(dim=0).values  # (T, B)
        time = torch.arange(self.steps, device=started.device)[:, None] - self.first[row]
        self.length = int(time.max()) + 1
        self.place = (time * len(self.first) + row).flatten()  # of every step, in (length · R)
        self.fresh = started[self.first, self.environment]  # (R)

    def lay_out(self, x: Tensor) -> Tensor:
        """(T, B, …) -> (length, R, …)."""
        time = self.first + torch.arange(self.length, device=x.device)[:, None]
        return x[time.clamp(max=self.steps - 1), self.environment]

    def take_back(self, x: Tensor) -> Tensor:
        """(length, R, C) -> (T, B, C)."""
        return x.flatten(0, 1).index_select(0, self.place).view(self.steps, -1, x.size(2))

    def carried(self, carried: Carried) -> Carried:
        """Of every row; what an earlier episode left is forgotten."""
        return forget(Carried(carried.memory[:, self.environment], carried.age[self.environment]), self.fresh)


def forget(carried: Carried, rows: Tensor) -> Carried:
    """rows: (R), True = forget everything."""
    shape = [1, -1] + [1] * (carried.memory.dim() - 2)
    return Carried(carried.memory.masked_fill(rows.view(shape), 0.0), carried.age.masked_fill(rows, 0))
