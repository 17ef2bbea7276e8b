"""What training takes of the library: operations of one step, with few rows, whose overhead is most of their time.

R is B·H, M the slots that a step sees; the other shapes are those of ../kernels.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor

from fairseq_feedback import native

WIDEST = 128  # numbers of a head, of training.cpp


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
    rows, slots, width = keys.shape
    count = again + last - first
    weights, query, added, keep = query.new_empty((rows, count)), query.contiguous(), native.packed(added), _kept(keep)
    native.library().feedback_attend_step(
        keys.data_ptr(), values.data_ptr(), native.address(keep), query.data_ptr(), native.address(added),
        out.data_ptr(), weights.data_ptr(), rows, slots, width, first, count, again, _stride(keep),
    )  # fmt: skip
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
    rows, slots, width = keys.shape
    d_out, keep = d_out.contiguous(), _kept(keep)
    native.library().feedback_attend_step_back(
        keys.data_ptr(), values.data_ptr(), native.address(keep), d_out.data_ptr(), weights.data_ptr(),
        kept.data_ptr(), d_scores.data_ptr(), native.address(d_query),
        rows, slots, width, first, again + last - first, again, _stride(keep),
    )  # fmt: skip
    return d_query


def _kept(keep: Optional[Tensor]) -> Optional[Tensor]:
    """(B, H, M) as rows of M, which may be a part of longer ones."""
    if keep is None or (keep.stride(2) == 1 and keep.stride(0) == keep.size(1) * keep.stride(1)):
        return keep
    return keep.contiguous()


def _stride(keep: Optional[Tensor]) -> int:
    return 0 if keep is None else keep.stride(1)


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
    z, keep = z.contiguous(), native.packed(keep)
    native.library().feedback_add_norm(
        x.data_ptr(), z.data_ptr(), native.address(keep), native.address(weight), native.address(bias),
        out.data_ptr(), normed.data_ptr(), x.size(0), x.size(1),
    )  # fmt: skip
    return out, normed


def norm_back(d: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, added: Optional[Tensor]) -> Tensor:
    """Gradient of what a layer norm reads, plus `added`. All (B, C), mean and rstd (B, 1)."""
    out = torch.empty_like(x)
    d, added = d.contiguous(), native.packed(added)
    native.library().feedback_norm_back(
        d.data_ptr(), x.data_ptr(), mean.data_ptr(), rstd.data_ptr(), weight.data_ptr(), native.address(added),
        out.data_ptr(), x.size(0), x.size(1),
    )  # fmt: skip
    return out
