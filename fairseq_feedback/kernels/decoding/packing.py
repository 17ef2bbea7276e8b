"""Weights as decoding wants them: packed for few rows, or rounded to 8 bits."""

from typing import Callable, Iterable, List, Optional, Sequence

import torch
from torch import Tensor

from fairseq_feedback import native

from ..products import Int8Product, can_pack, product
from ..weights import Affine, LayerWeights, Weights

ROWS = 64  # oneDNN lays a weight out for that many; above some 16 it makes no difference


SAMPLES = 16  # of each weight


class Packed:
    """What was made of weights, kept until one of them changes.

    torch does not count what is written through `.data`, as optimizers and averages of weights do. Modules clear() this
    when they train, and some values of each weight are looked at again: enough to see that a weight is another one,
    not that single values of it are.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        self.state, self.value, self.samples, self.sampled = None, None, [], None

    def refresh(self, weights: Iterable[Tensor], make: Callable, *options):
        weights = list(weights)
        state = [(w.data_ptr(), w.dtype, 0 if w.is_inference() else w._version) for w in weights]
        state.append(options)
        if state != self.state or not torch.equal(torch.cat(self.samples), self.sampled):
            self.value = make(*options)
            self.state = state
            self.samples = [_sample(w) for w in weights]
            self.sampled = torch.cat(self.samples)
        return self.value

    def __reduce__(self):  # a copy of the module packs its own weights
        return Packed, ()


def _sample(w: Tensor) -> Tensor:
    """A view."""
    values = w.detach().reshape(-1)
    return values[:: max(1, values.numel() // SAMPLES)][:SAMPLES]


def may_pack(training: bool) -> bool:
    """Packed weights have no gradients, and no place in a traced graph."""
    return not (training or torch.is_grad_enabled() or torch.jit.is_tracing())


def pack(w: Affine, int8: bool = False):
    """Something that reference.linear takes for an Affine."""
    if int8:
        return (native.Int8Product if native.can_multiply_int8(w.weight) else Int8Product)(w.weight, w.bias)
    if can_pack(w.weight):
        return product(w.weight, w.bias, ROWS)
    return w


def pack_weights(w: Weights, int8: bool) -> Weights:
    memory = [_pack_together(pair, int8) for pair in zip(w.memory.keys, w.memory.values)]
    source = _pack_together([*w.source_keys, *w.source_values], int8)
    layers = len(w.source_keys)
    return Weights(
        [_pack_layer(layer, int8) for layer in w.layers],
        w.memory._replace(keys=[key for key, _ in memory], values=[value for _, value in memory]),
        source[:layers],
        source[layers:],
    )


def _pack_layer(w: LayerWeights, int8: bool) -> LayerWeights:
    return w._replace(
        query=pack(w.query, int8),
        attn_out=pack(w.attn_out, int8),
        cross_query=_pack_if_any(w.cross_query, int8),
        cross_out=_pack_if_any(w.cross_out, int8),
        fc1=pack(w.fc1, int8),
        fc2=pack(w.fc2, int8),
    )


class _Part:
    """One of several products of the same input, all of which are made when the first of them is wanted."""

    def __init__(self, product: Callable, parts: List["_Part"], outputs: int):
        self.product, self.parts, self.outputs, self.made = product, parts, outputs, None

    def __call__(self, x: Tensor) -> Tensor:
        if self.made is None or self.made[0] is not x:
            made = self.product(x).split([part.outputs for part in self.parts], dim=-1)
            for part, y in zip(self.parts, made):
                part.made = x, y
        y, self.made = self.made[1], None
        return y


def _pack_together(weights: Sequence[Affine], int8: bool) -> list:
    """Each as of pack(), for weights whose input is the same tensor, one after the other."""
    product = pack(joined(weights), int8) if weights else None
    if product is None or isinstance(product, Affine):
        return list(weights)
    parts: List[_Part] = []
    parts += [_Part(product, parts, w.weight.size(0)) for w in weights]
    return parts


def _pack_if_any(w: Optional[Affine], int8: bool):
    return None if w is None else pack(w, int8)


def joined(weights: Sequence[Affine]) -> Affine:
    """One product for several of the same input."""
    return Affine(torch.cat([w.weight for w in weights]), torch.cat([w.bias for w in weights]))
