"""Attention of one step, as anybody would write it; where it fits, C++ computes the same."""

import math
from typing import Optional, Tuple

import torch
from torch import Tensor

from fairseq_feedback import native

from . import dropout
from .weights import Zeros


def attend(
    query: Tensor,  # (B, A)
    key: Tensor,  # (R, H, M, D), B a multiple of R: every B / R rows share theirs
    value: Tensor,  # (R, H, M, D)
    hidden: Optional[Tensor],  # (R, B / R or 1, M), True = not to be seen
    keep: Optional[Tensor],  # (B, H, M) under dropout
    p: float,
    positions: Optional[Tensor] = None,  # (M, D) added to the keys
    span: Optional[Tensor] = None,  # (H, M) added to the scores
    zeros: Optional[Zeros] = None,  # slots before those of key and value, with one key and value (H, D) for all
    own: Optional[Tuple[Tensor, Tensor]] = None,  # two of (B, H, 1, D): one more slot, that each row has for itself
) -> Tuple[Tensor, Tensor]:
    """(5), (16) -> (B, A), weights before dropout (R, H, B / R, M).

    With zeros, or a slot of its own, M is more everywhere but in key and value.
    """
    rows, heads, slots, width = key.shape
    beams = query.size(0) // rows
    q = (query * (1.0 / math.sqrt(width))).view(rows, beams, heads, width).transpose(1, 2)
    of_positions: Optional[Tensor] = None  # (R, H, beams, M)
    if positions is not None:
        of_positions = torch.matmul(q, positions.t())
    of_span: Optional[Tensor] = None
    if span is not None:
        of_span = span[:, None, :].type_as(q)
    if not torch.jit.is_scripting():
        if keep is None and native.can_attend(query, key, value, of_positions, of_span):
            return native.attend(query, key, value, hidden, of_positions, of_span, zeros, own)
    scores = torch.matmul(q, key.transpose(2, 3))
    before = 0
    if zeros is not None:
        before = zeros.count
        of_zeros = (q * zeros.key[:, None]).sum(dim=3, keepdim=True).expand(-1, -1, -1, before)
        scores = torch.cat([of_zeros, scores], dim=3)
    if own is not None:
        own_key = own[0].view(rows, beams, heads, width).transpose(1, 2)
        scores = torch.cat([scores, (q * own_key).sum(dim=3, keepdim=True)], dim=3)
    if of_positions is not None:
        scores = scores + of_positions
    if of_span is not None:
        scores = scores + of_span
    if hidden is not None:
        scores = scores.masked_fill(hidden.unsqueeze(1), float("-inf"))
    weights = scores.softmax(dim=-1, dtype=at_least_float32(scores)).type_as(scores)
    used = weights
    if keep is not None:
        used = dropout.apply(weights, keep.reshape(rows, beams, heads, -1).transpose(1, 2), p)
    z = torch.matmul(used[:, :, :, before : before + slots], value)  # (R, H, beams, D)
    if zeros is not None:
        z = z + used[:, :, :, :before].sum(dim=3, keepdim=True) * zeros.value[:, None]
    if own is not None:
        z = z + used[:, :, :, before + slots :] * own[1].view(rows, beams, heads, width).transpose(1, 2)
    return z.transpose(1, 2).reshape(query.size(0), heads * width), weights


def at_least_float32(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
