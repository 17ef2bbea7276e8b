"""Which slots of the memory a step sees. Shapes: see __init__.py. Equation numbers: see README.md."""

from typing import Optional

import torch
from torch import Tensor


def first_visible(slots: int, span: int) -> int:
    """Of that many memory slots, the first that the next step sees."""
    return max(0, slots - span) if span > 0 else 0


def of_slots(x: Tensor, dim: int, zeros: int, slots: int, beams: int, own: bool) -> Tensor:
    """Of what belongs to slots, the newest last: that of the last ones, for each column of the scores."""
    seen = zeros + slots + int(own)
    x = x.narrow(dim, x.size(dim) - seen, seen)
    if beams == 1:
        return x
    together = x.narrow(dim, zeros, slots).repeat_interleave(beams, dim=dim)
    return torch.cat([x.narrow(dim, 0, zeros), together, x.narrow(dim, zeros + slots, int(own))], dim=dim)


def hidden_slots(left_pad: Optional[Tensor], t: int, first: int, last: int) -> Optional[Tensor]:
    """Which of the slots first..last-1 the padding at a row's start hides at step t: (B, last - first).

    A row with p padded steps must see what it would see alone: the zero slots, then its own memory. Padded
    steps leave zero vectors (`blank_padding`), so slots p .. p + init_slots - 1 are those zero slots, and what
    stands before them is hidden. While t < p, slot t stays visible, so that no softmax is empty.
    """
    if left_pad is None:
        return None
    slot = torch.arange(first, last, device=left_pad.device)
    return slot[None, :] < left_pad.clamp(max=t)[:, None]


def hide_others(
    origin: Tensor,  # (B, M)
    hidden: Optional[Tensor],  # (B, zeros + M)
    beams: int,
    zeros: int = 0,
) -> Tensor:
    """Of the slots of rows that stand together, those that are not a row's own (18): (R, beams, zeros + M * beams)."""
    others = origin.unsqueeze(2) != torch.arange(beams, device=origin.device)  # (B, M, beams)
    if hidden is not None:
        others = others | hidden[:, zeros:].unsqueeze(2)
    others = others.flatten(1)
    if zeros > 0:
        before = others.new_zeros([others.size(0), zeros]) if hidden is None else hidden[:, :zeros]
        others = torch.cat([before, others], dim=1)
    return others.view(others.size(0) // beams, beams, others.size(1))
