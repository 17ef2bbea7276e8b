"""Any kernel in segments of time that backward recomputes: --checkpoint-activations."""

import math
from typing import Callable, List, Optional, Tuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..weights import CrossMemory, LayerDropout, LayerWeights, MemoryWeights, Settings


def run(
    kernel: Callable,  # reference.run or one like it
    x: Tensor,
    memory: Tensor,
    layers: List[LayerWeights],
    memory_weights: MemoryWeights,
    cross: Optional[CrossMemory],
    left_pad: Optional[Tensor],
    layer_kept: List[bool],
    dropout: List[LayerDropout],
    settings: Settings,
    attn_layer: int = -1,
) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """As the kernel, in at most sqrt(T) segments; a segment starts from the memory of those before it."""
    total = x.size(0)
    # A segment projects the memory before it again: many short ones would cost more than they save.
    length = max(16, math.isqrt(total - 1) + 1)

    def segment(x: Tensor, dropout: List[LayerDropout], *memory: Tensor):
        return kernel(
            x, torch.cat(memory), layers, memory_weights, cross, left_pad, layer_kept, dropout, settings, attn_layer
        )

    outputs, memories, attns = [], [], []
    for first in range(0, total, length):
        last = min(first + length, total)
        # The parts of the memory, not the whole, which each segment would keep a copy of.
        y, m, attn = checkpoint(
            segment,
            x[first:last],
            [dropout_of(d, first, last) for d in dropout],
            memory,
            *memories,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        outputs.append(y)
        memories.append(m)
        attns.append(attn)
    return torch.cat(outputs), torch.cat(memories), None if attns[0] is None else torch.cat(attns)


def dropout_of(d: LayerDropout, first: int, last: int) -> LayerDropout:
    """The choices of the steps first..last-1."""
    return LayerDropout(*(None if keep is None else keep[first:last] for keep in d))
