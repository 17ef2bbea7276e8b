"""Adaptive attention span (Sukhbaatar et al., 2019): every head of every layer learns how far back it looks."""

from functools import wraps
from typing import Tuple

import torch
import torch.nn as nn
from torch import Tensor

from fairseq_feedback.kernels.attention import at_least_float32


class AdaptiveSpan(nn.Module):
    """A head sees the slot at distance d = 0, 1, … (0: the step before) with weight clamp((z - d) / ramp + 1, 0, 1).

    Weights of attention are multiplied by that and sum up to one again: the same as its logarithm added to the scores.
    """

    def __init__(self, layers: int, heads: int, longest: int, ramp: int, start: int):
        super().__init__()
        self.longest = longest
        self.ramp = ramp
        self.trim = 64  # the reach is a multiple of this, so that shapes change rarely
        # z as a part of the longest span: so the rate of learning does not depend on that.
        self.ratios = nn.Parameter(torch.full((layers, heads), start / longest))
        self.ratios.is_ratio = True

    def lengths(self) -> Tensor:
        """z, (L, H), in slots."""
        return self.longest * self.ratios.to(at_least_float32(self.ratios)).clamp(0.0, 1.0)

    def reach(self) -> int:
        """Slots that some head sees, rounded up. Reading it waits for the device."""
        furthest = int(self.lengths().max().item()) + self.ramp + 1
        return min(self.longest, (furthest + self.trim - 1) // self.trim * self.trim)

    def scores(self, reach: int) -> Tensor:
        """What is added to the scores of the last `reach` slots, the newest last: (L, H, reach)."""
        if self.training:
            with torch.no_grad():
                self.ratios.clamp_(0.0, 1.0)
        distance = torch.arange(reach - 1, -1, -1, device=self.ratios.device)
        weight = ((self.lengths().unsqueeze(2) - distance) / self.ramp + 1.0).clamp(0.0, 1.0)
        return torch.where(weight > 0, weight.clamp(min=1e-6).log(), float("-inf"))

    def total(self) -> Tensor:
        """Mean length of a layer's heads, summed over the layers: what the span loss holds down."""
        return (self.longest * self.ratios.to(at_least_float32(self.ratios)).relu()).mean(dim=1).sum()

    def mean_and_longest(self) -> Tuple[Tensor, Tensor]:
        lengths = self.lengths().detach()
        return lengths.mean(), lengths.max()


def keeps_ratios(sync):
    """Of fairseq's optimizer for half precision: what scores() clamps there is a copy, and this its own in float32."""

    @wraps(sync)
    def wrapped(self, *args, **kwargs):
        own = self.fp32_params
        if self.has_flat_params:
            own = next(iter(own.values())).data.split([p.numel() for p in self.fp16_params])
        for parameter, values in zip(self.fp16_params, own):
            if getattr(parameter, "is_ratio", False):
                values.data.clamp_(0.0, 1.0)
        return sync(self, *args, **kwargs)

    return wrapped
