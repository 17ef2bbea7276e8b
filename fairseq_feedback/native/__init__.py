"""C++ for CPUs. It is optional: without it, or where it does not fit, torch's operations do the work.

The library knows nothing of torch or Python: addresses and sizes go in, by ctypes. So one build serves every torch. It
runs on the threads of torch's OpenMP, whose functions it finds in the process. FEEDBACK_NATIVE=0 leaves it out.
Here is what decoding takes of it; steps.py has what training takes.
"""

import ctypes
import functools
import glob
import importlib.metadata
import os
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

INTERFACE = 4  # as in top.cpp: another one's arguments mean something else
FUNCTIONS = {  # how many addresses each takes, and how many numbers after these
    "feedback_attend": (11, 9),
    "feedback_float_product": (4, 4),
    "feedback_int8_product": (6, 4),
    "feedback_log_softmax": (1, 2),
    "feedback_top": (3, 3),
    "feedback_attend_step": (7, 7),
    "feedback_attend_step_back": (8, 7),
    "feedback_add_norm": (7, 2),
    "feedback_norm_back": (7, 2),
}
OUTPUTS, LEVELS, TINY = 32, 127, 1e-12  # of float32.cpp and int8.cpp


@functools.lru_cache(maxsize=None)
def why_not() -> str:
    """The reason why the library is not used; nothing if it is."""
    if os.environ.get("FEEDBACK_NATIVE") == "0":
        return "FEEDBACK_NATIVE=0"
    if not _path():
        return "it was not built, which takes a C++ compiler when the package is installed"
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not getattr(torch.cpu, "_is_vnni_supported", bool)():
        return "it needs a CPU with AVX-512 and VNNI"
    try:
        found = ctypes.CDLL(_path()).feedback_interface()
    except (OSError, AttributeError) as error:
        return f"it does not load: {error}"
    return "" if found == INTERFACE else f"{_path()} is of another version"


@functools.lru_cache(maxsize=None)
def library():
    """Its functions take addresses: who calls one holds on to the tensors until it is done."""
    found = ctypes.CDLL(_path())
    for name, (addresses, numbers) in FUNCTIONS.items():
        function = getattr(found, name)
        function.argtypes, function.restype = addresses * [ctypes.c_void_p] + numbers * [ctypes.c_int64], None
    return found


def address(x: Optional[Tensor]) -> Optional[int]:
    return None if x is None else x.data_ptr()


def _path() -> str:
    """Beside this file; or, where the sources are used as they are, in the package that was installed from them."""
    folders = [os.path.dirname(os.path.abspath(__file__))]
    try:
        folders.append(str(importlib.metadata.distribution("fairseq-feedback").locate_file("fairseq_feedback/native")))
    except importlib.metadata.PackageNotFoundError:
        pass
    found = [path for folder in folders for path in glob.glob(os.path.join(glob.escape(folder), "_native*.so"))]
    return found[0] if found else ""


def _may_take(*tensors: Optional[Tensor]) -> bool:
    """Plain numbers on the CPU, and nobody who records what is done with them."""
    if torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling() or why_not():
        return False
    return all(x is None or (type(x) is Tensor and x.dtype == torch.float32 and x.is_cpu) for x in tensors)


def can_attend(query: Tensor, key: Tensor, value: Tensor, *added: Optional[Tensor]) -> bool:
    in_rows = key.stride(3) == 1 and key.stride(2) == key.size(3) and key.stride() == value.stride()
    return in_rows and _may_take(query, key, value, *added)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    hidden: Optional[Tensor],
    of_positions: Optional[Tensor],  # (R, H, beams, M) added to the scores
    of_span: Optional[Tensor],  # (H, 1, M), likewise
    zeros: Optional[Tuple[Tensor, Tensor, int]],
    own: Optional[Tuple[Tensor, Tensor]],
) -> Tuple[Tensor, Tensor]:
    """attend() of ../kernels/attention.py, without dropout."""
    rows, heads, slots, width = key.shape
    beams = query.size(0) // rows
    query = query.contiguous()
    zero_key, zero_value, before = (None, None, 0) if zeros is None else zeros
    own_key, own_value = (None, None) if own is None else own
    out = torch.empty_like(query)
    weights = query.new_empty(rows, heads, beams, before + slots + int(own is not None))
    added = of_positions
    if of_span is not None:
        added = of_span.expand_as(weights) if added is None else added + of_span
    hidden, added, own_key, own_value = packed(hidden), packed(added), packed(own_key), packed(own_value)
    zero_key, zero_value = packed(zero_key), packed(zero_value)
    library().feedback_attend(
        query.data_ptr(), key.data_ptr(), value.data_ptr(), address(hidden), address(added), address(zero_key),
        address(zero_value), address(own_key), address(own_value), out.data_ptr(), weights.data_ptr(),
        rows, heads, beams, before, slots, width, key.stride(0), key.stride(1), 1 if hidden is None else hidden.size(1),
    )  # fmt: skip
    return out, weights


def packed(x: Optional[Tensor]) -> Optional[Tensor]:
    return None if x is None else x.contiguous()


def can_multiply(weight: Tensor) -> bool:
    return not why_not() and weight.is_cpu and weight.dtype == torch.float32


class Product:
    """x (..., in) -> x Wᵀ + b (..., out). A row becomes the same whatever stands beside it."""

    relu_keeps_nan = True

    def __init__(self, weight: Tensor, bias: Optional[Tensor]):
        self.outputs, self.inputs = weight.shape
        self.weight = _by_outputs(weight.detach()).transpose(1, 2).contiguous()
        self.bias = None if bias is None else bias.detach().contiguous()

    def __call__(self, x: Tensor, then: str = "none", out: Optional[Tensor] = None) -> Tensor:
        """`then`: "relu" for a ReLU after it, in the same pass."""
        x = x.float().contiguous()
        y = x.new_empty((*x.shape[:-1], self.outputs)) if out is None else out
        library().feedback_float_product(
            x.data_ptr(), self.weight.data_ptr(), address(self.bias), y.data_ptr(),
            x.numel() // self.inputs, self.inputs, self.outputs, then == "relu",
        )  # fmt: skip
        return y


def _by_outputs(weight: Tensor) -> Tensor:
    """(outputs / 32, 32, inputs), filled up with zeros."""
    missing = -weight.size(0) % OUTPUTS
    return (F.pad(weight, (0, 0, 0, missing)) if missing else weight).view(-1, OUTPUTS, weight.size(1))


def can_multiply_int8(weight: Tensor) -> bool:
    return not why_not() and weight.is_cpu and weight.size(1) % 4 == 0


class Int8Product:
    """As that of ../kernels/products.py."""

    relu_keeps_nan = True

    def __init__(self, weight: Tensor, bias: Optional[Tensor]):
        self.outputs, self.inputs = weight.shape
        weight = weight.float()
        self.scales = weight.abs().amax(dim=1).clamp(min=TINY) / LEVELS
        rounded = (weight / self.scales.unsqueeze(1)).round().to(torch.int8)
        self.too_much = (128 * rounded.sum(dim=1, dtype=torch.int32)).contiguous()
        self.weight = _by_outputs(rounded).unflatten(2, (-1, 4)).transpose(1, 2).contiguous()
        self.bias = None if bias is None else bias.float().contiguous()

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        rows = x.float().contiguous()
        y = rows.new_empty((*x.shape[:-1], self.outputs))
        library().feedback_int8_product(
            rows.data_ptr(), self.weight.data_ptr(), self.scales.data_ptr(), self.too_much.data_ptr(),
            address(self.bias), y.data_ptr(), rows.numel() // self.inputs, self.inputs, self.outputs, then == "relu",
        )  # fmt: skip
        return y.to(x.dtype)


def can_normalize(x: Tensor) -> bool:
    return _may_take(x) and x.is_contiguous()


def log_softmax_(x: Tensor) -> Tensor:
    """The log-softmax of each row, in its place."""
    library().feedback_log_softmax(x.data_ptr(), len(x), x.size(1))
    return x


def can_find_top(x: Tensor, k: int) -> bool:
    return _may_take(x) and k <= x.size(1)


def top(x: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """torch.topk of each row; what is not a number counts as minus infinity."""
    x = x.contiguous()
    values, places = x.new_empty(len(x), k), x.new_empty(len(x), k, dtype=torch.long)
    library().feedback_top(x.data_ptr(), values.data_ptr(), places.data_ptr(), len(x), x.size(1), k)
    return values, places
