"""Sums and layer norms of one step, in C++ where that is there. Shapes: see ../__init__.py."""

from typing import Optional, Tuple

import torch
from torch import Tensor

from fairseq_feedback.native import steps as native

from ..reference import norm
from ..weights import Affine

layer_norm_backward = torch.ops.aten.native_layer_norm_backward.default


def add_norm(
    x: Tensor,  # (B, C)
    z: Tensor,  # what a sublayer adds
    keep: Optional[Tensor],  # (B, C) under dropout, without its scale
    w: Optional[Affine],
    out: Optional[Tensor],
) -> Tuple[Tensor, Tensor]:
    """-> the sum, which is `out`, and its norm; the sum twice without `w`."""
    z = z.to(x.dtype)
    if native.can_take(x):
        weight, bias = (None, None) if w is None else w
        return native.add_norm(x, z, keep, weight, bias, out)
    y = torch.add(x, z, out=out) if keep is None else torch.addcmul(x, z, keep.to(x.dtype), out=out)
    return y, y if w is None else norm(y, w)


def norm_back(d: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, w: Affine, added: Optional[Tensor]) -> Tensor:
    """d: gradient of a norm's output -> that of its input x, plus `added`. All (B, C); mean and rstd (B, 1)."""
    if native.can_take(x):
        return native.norm_back(d, x, mean, rstd, w.weight, added)
    dx = layer_norm_backward(d, x, w.weight.shape, mean, rstd, w.weight, w.bias, (True, False, False))[0]
    return dx if added is None else added + dx
