"""What a kernel needs to know, as plain tuples of tensors and numbers (TorchScript reads them too)."""

from typing import List, NamedTuple, Optional

from torch import Tensor


class Affine(NamedTuple):
    """A linear layer (weight (out, in), bias (out)) or a layer norm (both (C))."""

    weight: Tensor
    bias: Tensor


# Where decoding packs weights, an Affine of a product is instead a callable: decoding/packing.py, reference.linear.


class LayerWeights(NamedTuple):
    query: Affine
    attn_out: Affine
    attn_norm: Affine
    cross_query: Optional[Affine]  # None: a decoder without cross-attention
    cross_out: Optional[Affine]
    cross_norm: Optional[Affine]
    fc1: Affine
    fc2: Affine
    ffn_norm: Affine


class MemoryWeights(NamedTuple):
    mix: Tensor  # (L + 1), before the softmax
    keys: List[Affine]  # G of them
    values: List[Affine]  # G
    norms: List[Affine]  # G with pre-norm, none with post-norm
    positions: Optional[Tensor]  # (P, D) added to the keys of the last P slots, the newest last; None = nothing
    spans: Optional[Tensor]  # (L, H, P) added to the scores of the last P slots, the newest last; None = nothing


class CrossMemory(NamedTuple):
    """The encoder's output, projected for every layer. Rows may share it: B is a multiple of its rows."""

    keys: Tensor  # (L, B / beams, H, S, D)
    values: Tensor  # (L, B / beams, H, S, D)
    padding: Optional[Tensor]  # (B / beams, S), True = not a word


class Settings(NamedTuple):
    heads: int
    pre_norm: bool
    activation: str
    span: int  # how many memory slots a step sees; 0 = all of them
    init_slots: int  # slots of zeros that stand before the first step
    dropout: float
    attention_dropout: float
    activation_dropout: float


class LayerDropout(NamedTuple):
    """What one layer keeps (True) under dropout, drawn outside the loop so that all kernels can be given the same.

    None = keep everything. The leading T is missing in what a single step gets.
    """

    memory_attn: Optional[Tensor]  # (T, B, H, M), M counted from the first slot
    attn_out: Optional[Tensor]  # (T, B, C)
    cross_attn: Optional[Tensor]  # (T, B, H, S)
    cross_out: Optional[Tensor]  # (T, B, C)
    activation: Optional[Tensor]  # (T, B, F)
    ffn_out: Optional[Tensor]  # (T, B, C)
