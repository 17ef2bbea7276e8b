"""A layer of fairseq's transformer encoder, for inference on packed weights. Shapes: see ../__init__.py."""

from typing import NamedTuple, Optional

import torch.nn.functional as F
from torch import Tensor

from ..reference import activated, linear, norm
from ..weights import Affine


class EncoderLayerWeights(NamedTuple):
    qkv: Affine  # (3 C, C)
    attn_out: Affine
    attn_norm: Affine
    fc1: Affine
    fc2: Affine
    ffn_norm: Affine


def layer(
    x: Tensor,  # (B, S, C)
    seen: Optional[Tensor],  # (B, 1, 1, S), False = padding
    w: EncoderLayerWeights,
    heads: int,
    pre_norm: bool,
    activation: str,
) -> Tensor:
    z = linear(norm(x, w.attn_norm) if pre_norm else x, w.qkv)
    q, k, v = z.view(x.size(0), x.size(1), 3, heads, -1).permute(2, 0, 3, 1, 4)  # B x H x S x D each
    z = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    x = x + linear(z.transpose(1, 2).reshape(x.shape), w.attn_out)
    if not pre_norm:
        x = norm(x, w.attn_norm)
    z = activated(norm(x, w.ffn_norm) if pre_norm else x, w.fc1, activation)
    x = x + linear(z, w.fc2)
    return x if pre_norm else norm(x, w.ffn_norm)
