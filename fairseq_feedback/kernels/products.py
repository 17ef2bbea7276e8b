"""Products with a weight that many steps reuse: packed once, where that is faster."""

import functools
import warnings
from typing import Callable, Optional

import torch
from torch import Tensor


class Product:
    """x (rows, in) -> x Wᵀ + b (rows, out), in the weight's dtype. A packed one takes (..., in)."""

    def __init__(self, weight: Tensor, bias: Optional[Tensor], rows: int):
        self.dtype = weight.dtype
        self.bias = bias
        self.packed = can_pack(weight)
        if self.packed:
            self.linear = private("mkldnn", "_linear_pointwise")
            self.weight = private("mkldnn", "_reorder_linear_weight")(weight.contiguous(), rows)
        else:
            self.weight = weight.t()

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """`then`: "relu" for a ReLU after it, in the same pass."""
        if x.dtype != self.dtype:
            x = x.to(self.dtype)
        if self.packed:
            return self.linear(x, self.weight, self.bias, then, [], "")
        y = torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)
        return y.relu_() if then == "relu" else y


class Int8Product:
    """x (..., in) -> x Wᵀ + b (..., out), both rounded to 8 bits: the weight for each output, x for each call."""

    def __init__(self, weight: Tensor, bias: Optional[Tensor]):
        largest = weight.float().abs().amax(dim=1).clamp(min=1e-12)
        with warnings.catch_warnings():  # torch will drop its quantized tensors one day
            warnings.simplefilter("ignore", UserWarning)
            rounded = torch.quantize_per_channel(
                weight.float(), largest / 127, torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8
            )
            self.weight = torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.float())
        # Older instructions overflow with 8 bits.
        self.reduce_range = not getattr(torch.cpu, "_is_vnni_supported", lambda: False)()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x.float(), self.weight, self.reduce_range).type_as(x)


def can_pack(weight: Tensor) -> bool:
    """oneDNN's packed weights: on x86 two to four times as fast for few rows as the BLAS that torch.mm calls."""
    if weight.device.type != "cpu" or not on_x86() or not getattr(torch.backends.mkldnn, "enabled", False):
        return False
    if private("mkldnn", "_linear_pointwise") is None or private("mkldnn", "_reorder_linear_weight") is None:
        return False
    if weight.dtype == torch.bfloat16:
        supported = private("mkldnn", "_is_mkldnn_bf16_supported")
        return supported is not None and supported()
    return weight.dtype == torch.float32


def can_int8() -> bool:
    return private("quantized", "linear_prepack") is not None and private("quantized", "linear_dynamic") is not None


def on_x86() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


@functools.lru_cache(maxsize=None)
def private(library: str, name: str, overload: str = "default") -> Optional[Callable]:
    """An operation that torch does not promise to keep; None where this torch does not have it."""
    return getattr(getattr(getattr(torch.ops, library), name, None), overload, None)
