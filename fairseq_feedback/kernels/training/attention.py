"""Attention in the backward pass. Its weights are not kept: they are computed again, for a block of steps at once.

Shapes: see ../__init__.py; n is the number of steps of a block, W the slots that any of them sees. Equation numbers:
see ../README.md.
"""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from ..attention import at_least_float32
from ..visible import first_visible
from .forward import Constants, Kept, Leaves
from .slots import Dots, Sums, Window, attend_back


class Attention:
    """Attention of layers that read the same keys and values. Its weights are computed again, for a block at once.

    Every step of the block reads all W slots; those that it must not see have no weight, so they get no gradient.
    """

    def __init__(self, keys: Tensor, values: Tensor, rows: int):  # (B·H, M, D)
        self.all_keys, self.rows = keys, rows
        self.keys, self.values = Sums.of(keys), Dots.of(values)

    def leave_block(self) -> None:
        """Free what is as large as a block's attention before the next one is made."""
        self.attn = self.used = self.keep = self.d_scores = self.d_heads = self.queries = self.steps = None

    def enter(
        self,
        queries: List[Tensor],  # (n, B, A), one for each layer
        window: Window,  # what the block sees
        hidden: Optional[Tensor],  # (B or 1, n or 1, W), True = not to be seen
        keep: Optional[List[Tensor]],  # (n, B, H, W), one for each layer
    ) -> None:
        n, layers = queries[0].size(0), len(queries)
        self.layers, self.window = layers, window
        self.seen_keys = self.all_keys[:, window.first : window.last]
        self.queries = self._by_head(torch.stack(queries, dim=1))
        scores = self.scores()
        if hidden is not None:
            scores.view(self.rows, -1, n, layers, scores.size(2)).masked_fill_(hidden[:, None, :, None], float("-inf"))
        self.attn = torch.softmax(scores.transpose(0, 1), dim=-1, dtype=at_least_float32(scores))
        self.used, self.keep = self.attn.to(scores.dtype), None
        if keep is not None:
            self.keep = torch.stack(keep, dim=1).view(self.attn.shape)
            self.used = self.used * self.keep
        self.d_scores = torch.empty_like(self.attn)  # (n·layers, B·H, W)
        self.d_heads = scores.new_empty((n, layers, self.rows, queries[0].size(2)))
        self.steps = list(zip(self.attn.unbind(), self.d_scores.unbind(), self.d_heads.flatten(0, 1).unbind()))

    def scores(self) -> Tensor:
        """(B·H, n·layers, W)."""
        return self.window.repeat(torch.bmm(self.queries, self.seen_keys.transpose(1, 2)))

    def step(self, i: int, layer: int, d_heads: Tensor, want_query: bool = True) -> Optional[Tensor]:
        """d_heads (B, A) at the block's step i -> gradient of its query (B, A)."""
        attn, d_scores, kept = self.steps[i * self.layers + layer]
        keep = None if self.keep is None else self.keep[i * self.layers + layer].view(self.rows, -1, attn.size(1))
        return attend_back(d_heads, self.keys, self.values, self.window, attn, keep, kept, d_scores, want_query)

    def d_queries(self, layer: int) -> Tensor:
        """Of all steps of the block, (n, B, A)."""
        d_scores = self.window.add_up(self.d_scores[layer :: self.layers].transpose(0, 1))
        d = torch.bmm(d_scores.to(self.seen_keys.dtype), self.seen_keys)
        return d.transpose(0, 1).reshape(d.size(1), self.rows, -1)

    def of_slot(self, slot: int, i: int) -> Tensor:
        """Gradient of a slot's key and value (2, B·H, D), from the block's steps i and later."""
        start, column = i * self.layers, slot - self.window.first + self.window.again

        def part(weights: Tensor, vectors: Tensor) -> Tensor:
            weights = weights[start:, :, column].to(vectors.dtype).t().unsqueeze(2).transpose(1, 2)
            return torch.bmm(weights, vectors[:, start:]).squeeze(1)

        return torch.stack([part(self.d_scores, self.queries), part(self.used, self._by_head(self.d_heads))])

    def add_slots(self, d_keys: Tensor, d_values: Tensor, end: int) -> None:
        """Add the block's gradients of the slots before `end` to those of all slots (B·H, M, D)."""

        def add(total: Tensor, weights: Tensor, vectors: Tensor) -> None:
            weights = self.window.add_up(weights)[..., : end - self.window.first].to(vectors.dtype).permute(1, 2, 0)
            total[:, self.window.first : end] += torch.bmm(weights, vectors)

        add(d_keys, self.d_scores, self.queries)
        add(d_values, self.used, self._by_head(self.d_heads))

    def _by_head(self, x: Tensor) -> Tensor:
        """(n, layers, B, C) -> (B·H, n·layers, D), a view."""
        return x.view(x.size(0) * x.size(1), self.all_keys.size(0), -1).transpose(0, 1)


class MemoryAttention(Attention):
    """The same over the memory, in which a step sees only what stands before it."""

    def __init__(
        self, keys: Tensor, values: Tensor, leaves: Leaves, c: Constants, kept: List[Kept], group: int, groups: int
    ):
        super().__init__(keys, values, leaves.x.size(1))
        self.c, self.groups = c, groups
        # Slots before the first step, those that are not stored among them.
        self.before = c.not_stored + keys.size(1) - leaves.x.size(0)
        self.layers_queries = [leaves.query if k.query is None else k.query for k in kept][group::groups]
        self.dropped = [d.memory_attn for d in c.dropout][group::groups]
        self.group, self.positions = group, leaves.positions
        self.spans = None if leaves.spans is None else leaves.spans[group::groups].transpose(0, 1)  # (H, layers, P)

    def position(self, layer: int) -> int:
        return layer // self.groups

    def scores(self) -> Tensor:
        scores = super().scores()
        for i in range(self.stop - self.start):
            columns, seen = self._window(i)
            part = scores[:, i * self.layers : (i + 1) * self.layers, columns]  # (B·H, layers, M)
            if self.positions is not None:
                product = torch.mm(self._queries_of(i), self.positions[-seen:].t())
                part += product.view(self.layers, -1, seen).transpose(0, 1)
            if self.spans is not None:
                part.unflatten(0, (self.rows, -1)).add_(self.spans[:, :, -seen:])
        return scores

    def step(self, i: int, layer: int, d_heads: Tensor, want_query: bool = True) -> Optional[Tensor]:
        d_query = super().step(i, layer, d_heads, want_query)
        if d_query is not None and self.positions is not None:
            self._add_positions(i, layer, d_query)
        return d_query

    def d_queries(self, layer: int) -> Tensor:
        d_queries = super().d_queries(layer)
        if self.positions is not None:
            for i, d_query in enumerate(d_queries):
                self._add_positions(i, layer, d_query)
        return d_queries

    def add_distances(self, total: Leaves) -> None:
        """Add the block's gradients of what is added to keys and scores by distance (17)."""
        if self.positions is None and self.spans is None:
            return
        for i in range(self.stop - self.start):
            columns, seen = self._window(i)
            d = self.d_scores[i * self.layers : (i + 1) * self.layers, :, columns]  # (layers, B·H, M)
            if self.positions is not None:
                queries = self._queries_of(i)
                total.positions[-seen:] += torch.mm(d.flatten(0, 1).to(queries.dtype).t(), queries)
            if self.spans is not None:
                d_spans = d.unflatten(1, (self.rows, -1)).sum(1)  # (layers, H, M)
                total.spans[self.group :: self.groups, :, -seen:] += d_spans

    def _add_positions(self, i: int, layer: int, d_query: Tensor) -> None:
        columns, seen = self._window(i)
        d_scores = self.d_scores[i * self.layers + layer][:, columns].to(d_query.dtype)
        d_query.view(d_scores.size(0), -1).addmm_(d_scores, self.positions[-seen:])

    def _queries_of(self, i: int) -> Tensor:
        """Of the block's step i: (layers·B·H, D)."""
        queries = self.queries[:, i * self.layers : (i + 1) * self.layers]
        return queries.transpose(0, 1).reshape(-1, queries.size(2))

    def _window(self, i: int) -> Tuple[slice, int]:
        """What the block's step i sees: columns of the block's slots, and how many."""
        last = self.before + self.start + i
        first = first_visible(last, self.c.settings.span)
        return slice(first - self.oldest, last - self.oldest), last - first

    def enter_block(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        span, left_pad = self.c.settings.span, self.c.left_pad
        oldest, newest = first_visible(self.before + start, span), self.before + stop - 1
        self.oldest = oldest
        slot = torch.arange(oldest, newest, device=self.all_keys.device)
        last = torch.arange(self.before + start, self.before + stop, device=self.all_keys.device)[:, None]
        hidden = slot >= last  # n x W
        if span > 0:
            hidden = hidden | (slot < last - span)
        hidden = hidden[None]
        if left_pad is not None:
            hidden = hidden | (slot < torch.minimum(left_pad[:, None, None], last - self.c.settings.init_slots))
        keep = None
        if self.dropped and self.dropped[0] is not None:
            keep = [d[start:stop, :, :, oldest:newest] for d in self.dropped]
        window = Window.of(oldest, newest, self.c.not_stored)
        self.enter([q[start:stop] for q in self.layers_queries], window, hidden, keep)
