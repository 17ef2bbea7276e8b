"""What goes into a kernel and comes out, as plain tuples of tensors and numbers (TorchScript reads them too)."""

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
    mix: Optional[Tensor]  # (L + 1), after the softmax; (L, L + 1) = of each layer; None = a layer reads its own input
    keys: List[Affine]  # G of them
    values: List[Affine]  # G
    norms: List[Affine]  # G with pre-norm, none with post-norm; those of the layers where one reads its own input
    positions: Optional[Tensor]  # (P, D) added to the keys of the last P slots, the newest last; None = nothing
    spans: Optional[Tensor]  # (L, H, P) added to the scores of the last P slots, the newest last; None = nothing


class Weights(NamedTuple):
    """All that is learned, from the embedded input to the last layer's output."""

    layers: List[LayerWeights]  # L
    memory: MemoryWeights
    source_keys: List[Affine]  # L, or none in a decoder without cross-attention
    source_values: List[Affine]


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
    sees_itself: bool  # the newest of these is the step's own, as in a transformer
    init_slots: int  # slots before step 0, of zeros or carried: padding and time are counted from there
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


class Choices(NamedTuple):
    """What chance decides."""

    kept: List[bool]  # L; False = dropped by LayerDrop
    dropout: List[LayerDropout]  # L, or empty for no dropout


class Inputs(NamedTuple):
    """What a kernel computes T steps from."""

    x: Tensor  # (T, B, C) embedded input
    zeros: int  # so many zero vectors come first
    memory: Tensor  # (N, B, C) or (N, B, L, C), then what an earlier block has left
    weights: Weights
    cross: Optional[CrossMemory]
    left_pad: Optional[Tensor]  # (B) padded steps at the start of each row
    choices: Choices
    settings: Settings
    attn_layer: int  # layer whose cross-attention is returned, -1 = none


class Zeros(NamedTuple):
    """Zero slots before the first step, all with the same key and value, which are not stored once for each."""

    key: Tensor  # (G, H, D)
    value: Tensor
    count: int  # of those that a step sees


class Seen(NamedTuple):
    """What one step sees, but for its own slot."""

    keys: Tensor  # (G, R, H, M * beams, D) of the memory; beams = B / R rows stand together, see decoding/cache.py
    values: Tensor
    first: int  # number of the first slot
    zeros: Optional[Zeros]  # in front of the others
    origin: Optional[Tensor]  # (B, M) whose memory is a row's own among those that stand together
    left_pad: Optional[Tensor]  # (B)
    cross: Optional[CrossMemory]


class Step(NamedTuple):
    """What one step gives. Weights of attention are those before dropout, with beams = B / R as in what it saw."""

    output: Tensor  # (B, C)
    memory: Tensor  # (B, C), or (B, L, C) where each layer has its own
    key: Tensor  # (G, B, H, 1, D) of that memory
    value: Tensor
    memory_attn: List[Optional[Tensor]]  # L of (R, H, beams, M * beams), and its own slot; None = a dropped layer
    source_attn: List[Optional[Tensor]]  # L of (B / beams, H, beams, S); None also without cross-attention


class AttentionMaps(NamedTuple):
    """Weights of attention of T steps of one sentence; what a step does not see has 0.

    Slot j < N is a zero slot before the start, slot N + j the memory of step j.
    """

    memory: Tensor  # (L, H, T, N + T)
    source: Optional[Tensor]  # (L, H, T, S)
