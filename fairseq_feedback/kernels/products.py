"""Products with a weight that many steps reuse: packed once, where that is faster."""

import functools
import warnings
from typing import Callable, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_feedback import native


def product(weight: Tensor, bias: Optional[Tensor], rows: int) -> Callable:
    """x (..., in) -> x Wᵀ + b (..., out), in the weight's dtype, for calls with about that many rows.

    Its second argument is "relu" for a ReLU after it, in the same pass.
    """
    if not can_pack(weight):
        return Plain(weight, bias)
    return native.Product(weight, bias) if native.can_multiply(weight) else Packed(weight, bias, rows)


class Plain:
    def __init__(self, weight: Tensor, bias: Optional[Tensor]):
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor, then: str = "none", out: Optional[Tensor] = None) -> Tensor:
        y = F.linear(x.to(self.weight.dtype), self.weight, self.bias)
        y = y.relu_() if then == "relu" else y
        return y if out is None else out.copy_(y)


class Packed:
    """By oneDNN."""

    relu_keeps_nan = False

    def __init__(self, weight: Tensor, bias: Optional[Tensor], rows: int):
        self.dtype, self.bias = weight.dtype, bias
        self.linear = private("mkldnn", "_linear_pointwise")
        self.weight = private("mkldnn", "_reorder_linear_weight")(weight.contiguous(), rows)

    def __call__(self, x: Tensor, then: str = "none", out: Optional[Tensor] = None) -> Tensor:
        y = self.linear(x.to(self.dtype), self.weight, self.bias, then, [], "")
        return y if out is None else out.copy_(y)


class Int8Product:
    """x (..., in) -> x Wᵀ + b (..., out), both rounded to 8 bits: the weight for each output, x for each row.

    So what is made of a row does not depend on the rows beside it.
    """

    relu_keeps_nan = True

    def __init__(self, weight: Tensor, bias: Optional[Tensor]):
        scales = weight.float().abs().amax(dim=1).clamp(min=TINY) / 127
        self.engine = engines(wide=len(weight) >= WIDE)[0](weight.float(), scales)
        self.bias = None if bias is None else bias.float()

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """`then`: "relu" for a ReLU after it."""
        scales = x.float().abs().amax(dim=-1, keepdim=True).clamp_(min=TINY)
        y = self.engine(x.float() / scales)
        y = y.mul_(scales) if self.bias is None else torch.addcmul(self.bias, y, scales)
        return (y.relu_() if then == "relu" else y).type_as(x)


TINY = 1e-12
WIDE = 4096  # outputs from which oneDNN is the faster engine, by a tenth; with less it takes longer to begin


class Fbgemm:
    """x, of numbers from -1 to 1, which are rounded -> x Wᵀ, by the library that torch's quantized tensors use."""

    NAMES = (("quantized", "linear_prepack"), ("quantized", "linear_with_input_q_dq_qweight_dq_output_fp32"))

    def __init__(self, weight: Tensor, scales: Tensor):
        prepack, self.product = [private(*name) for name in self.NAMES]
        with warnings.catch_warnings():  # torch will drop its quantized tensors one day
            warnings.simplefilter("ignore", UserWarning)
            zeros = torch.zeros(len(weight), dtype=torch.long)
            self.weight = prepack(torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8), None)
        self.levels = levels()

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x, 1 / self.levels, 128, self.weight)


class Onednn:
    """The same, by the operation that torch's own compiler uses."""

    NAMES = (("onednn", "qlinear_prepack"), ("onednn", "qlinear_pointwise"))

    def __init__(self, weight: Tensor, scales: Tensor):
        prepack, self.product = [private(*name) for name in self.NAMES]
        rounded = (weight / scales.unsqueeze(1)).round().to(torch.int8)
        self.weight, self.scales = prepack(rounded, None), scales
        self.zeros = torch.zeros(len(weight), dtype=torch.long)
        self.levels = levels()

    def __call__(self, x: Tensor) -> Tensor:
        x = (x * self.levels).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(128)  # plus 128, the fastest way
        scale, no_more = 1 / self.levels, (None, 1.0, 0, torch.float32, "none", [], "")
        return self.product(x, scale, 128, self.weight, self.scales, self.zeros, *no_more)


def levels() -> int:
    """Of a number from 0 to 1. Older instructions overflow with 8 bits."""
    return 127 if getattr(torch.cpu, "_is_vnni_supported", lambda: False)() else 63


def engines(wide: bool) -> list:
    """Those that this torch has, the best one first."""
    order = (Onednn, Fbgemm) if wide else (Fbgemm, Onednn)
    return [engine for engine in order if all(private(*name) is not None for name in engine.NAMES)]


def can_pack(weight: Tensor) -> bool:
    """On x86 packed weights are two to six times as fast for few rows as the BLAS that torch.mm calls."""
    if native.can_multiply(weight):
        return True
    if weight.device.type != "cpu" or not on_x86() or not getattr(torch.backends.mkldnn, "enabled", False):
        return False
    if private("mkldnn", "_linear_pointwise") is None or private("mkldnn", "_reorder_linear_weight") is None:
        return False
    if weight.dtype == torch.bfloat16:
        supported = private("mkldnn", "_is_mkldnn_bf16_supported")
        return supported is not None and supported()
    return weight.dtype == torch.float32


def can_int8() -> bool:
    return not native.why_not() or (on_x86() and bool(engines(wide=False)))


def on_x86() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


@functools.lru_cache(maxsize=None)
def private(library: str, name: str, overload: str = "default") -> Optional[Callable]:
    """An operation that torch does not promise to keep; None where this torch does not have it."""
    return getattr(getattr(getattr(torch.ops, library), name, None), overload, None)
