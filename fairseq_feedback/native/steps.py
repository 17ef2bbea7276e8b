"""What training takes of the library: operations of one step, with few rows, whose overhead is most of their time.

R is B·H, M the slots that a step sees; the other shapes are those of ../kernels.
"""

import ctypes
from typing import Optional, Tuple

import torch
from torch import Tensor

from fairseq_feedback import native

WIDEST = 128  # numbers of a head, of training.cpp
_SLOTS = native.fields("keys values keep", "rows slots width first count again keep_stride")


class _Attend(native.Arguments):
    _fields_ = _SLOTS + native.fields("query added out weights", "")


class _AttendBack(native.Arguments):
    _fields_ = _SLOTS + native.fields("d_out weights kept d_scores d_query", "")


class _AddNorm(native.Arguments):
    _fields_ = native.fields("x z keep weight bias sum normed", "rows width")


class _NormBack(native.Arguments):
    _fields_ = native.fields("d x mean rstd weight added out", "rows width")


def can_take(like: Tensor) -> bool:
    return like.dtype == torch.float32 and like.is_cpu and not native.why_not()


def can_attend(like: Tensor, width: int) -> bool:
    """`width` of a head."""
    return width <= WIDEST and can_take(like)


def attend(
    query: Tensor,  # (R, D) scaled
    keys: Tensor,  # (R, slots, D)
    values: Tensor,
    first: int,  # the slots that are seen, of which the first stands for `again` more
    last: int,
    again: int,
    added: Optional[Tensor],  # (R, M)
    keep: Optional[Tensor],  # (B, H, M) under dropout
    out: Tensor,  # (R, D), which is written
) -> Tensor:
    """-> weights before dropout (R, M)."""
    weights = query.new_empty(query.size(0), again + last - first)
    arguments = _Attend(
        **_slots(keys, values, first, last, again, keep), query=query.contiguous(), added=native.packed(added), out=out,
        weights=weights,
    )  # fmt: skip
    native.library().feedback_attend_step(ctypes.byref(arguments))
    return weights


def attend_back(
    d_out: Tensor,  # (R, D)
    keys: Tensor,
    values: Tensor,
    first: int,
    last: int,
    again: int,
    weights: Tensor,  # (R, M) before dropout
    keep: Optional[Tensor],  # (B, H, M)
    kept: Tensor,  # (R, D): a copy of d_out goes there
    d_scores: Tensor,  # (R, M), which is written
    want_query: bool,
) -> Optional[Tensor]:
    """-> gradient of the query (R, D)."""
    d_query = torch.empty_like(kept) if want_query else None
    arguments = _AttendBack(
        **_slots(keys, values, first, last, again, keep), d_out=d_out.contiguous(), weights=weights, kept=kept,
        d_scores=d_scores, d_query=d_query,
    )  # fmt: skip
    native.library().feedback_attend_step_back(ctypes.byref(arguments))
    return d_query


def _slots(keys: Tensor, values: Tensor, first: int, last: int, again: int, keep: Optional[Tensor]) -> dict:
    rows, slots, width = keys.shape
    stride = 0
    if keep is not None:
        if keep.stride(2) != 1 or keep.stride(0) != keep.size(1) * keep.stride(1):
            keep = keep.contiguous()
        stride = keep.stride(1)
    return dict(
        keys=keys, values=values, keep=keep, rows=rows, slots=slots, width=width, first=first,
        count=again + last - first, again=again, keep_stride=stride,
    )  # fmt: skip


def add_norm(
    x: Tensor,  # (B, C)
    z: Tensor,
    keep: Optional[Tensor],  # (B, C), which numbers of z are left
    weight: Optional[Tensor],
    bias: Optional[Tensor],
    out: Optional[Tensor],
) -> Tuple[Tensor, Tensor]:
    """-> x + z, which is `out`, and its layer norm; without a weight the sum alone counts."""
    x = x.contiguous()
    out = torch.empty_like(x) if out is None else out
    normed = out if weight is None else torch.empty_like(x)
    arguments = _AddNorm(
        x=x, z=z.contiguous(), keep=native.packed(keep), weight=weight, bias=bias, sum=out, normed=normed,
        rows=x.size(0), width=x.size(1),
    )  # fmt: skip
    native.library().feedback_add_norm(ctypes.byref(arguments))
    return out, normed


def norm_back(d: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, added: Optional[Tensor]) -> Tensor:
    """Gradient of what a layer norm reads, plus `added`. All (B, C), mean and rstd (B, 1)."""
    out = torch.empty_like(x)
    arguments = _NormBack(
        d=d.contiguous(), x=x, mean=mean, rstd=rstd, weight=weight, added=native.packed(added), out=out,
        rows=x.size(0), width=x.size(1),
    )  # fmt: skip
    native.library().feedback_norm_back(ctypes.byref(arguments))
    return out
