"""Weights as decoding wants them: packed for few rows, or rounded to 8 bits."""

from typing import Callable, Iterable, List, Optional

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
    return Weights(
        [_pack_layer(layer, int8) for layer in w.layers],
        w.memory._replace(keys=_pack_all(w.memory.keys, int8), values=_pack_all(w.memory.values, int8)),
        _pack_all(w.source_keys, int8),
        _pack_all(w.source_values, int8),
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


def _pack_all(weights: List[Affine], int8: bool) -> List[Affine]:
    return [pack(w, int8) for w in weights]


def _pack_if_any(w: Optional[Affine], int8: bool):
    return None if w is None else pack(w, int8)


def joined(weights: List[Affine]) -> Affine:
    """One product for several of the same input."""
    return Affine(torch.cat([w.weight for w in weights]), torch.cat([w.bias for w in weights]))
