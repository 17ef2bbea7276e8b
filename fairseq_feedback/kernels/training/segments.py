"""Any kernel in segments of time that backward recomputes: --checkpoint-activations."""

import math
from typing import Callable, Optional, Tuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..weights import Choices, Inputs, LayerDropout


def run(kernel: Callable, inputs: Inputs) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """As the kernel (reference.run or one like it), in at most sqrt(T) segments; a segment starts from the memory of
    those before it."""
    total = inputs.x.size(0)
    # A segment projects the memory before it again: many short ones would cost more than they save.
    length = max(16, math.isqrt(total - 1) + 1)

    def segment(x: Tensor, choices: Choices, *memory: Tensor):
        return kernel(inputs._replace(x=x, choices=choices, memory=torch.cat(memory)))

    outputs, memories, attns = [], [], []
    for first in range(0, total, length):
        last = min(first + length, total)
        # The parts of the memory, not the whole, which each segment would keep a copy of.
        y, m, attn = checkpoint(
            segment,
            inputs.x[first:last],
            choices_of(inputs.choices, first, last),
            inputs.memory,
            *memories,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        outputs.append(y)
        memories.append(m)
        attns.append(attn)
    return torch.cat(outputs), torch.cat(memories), None if attns[0] is None else torch.cat(attns)


def choices_of(choices: Choices, first: int, last: int) -> Choices:
    """Those of the steps first..last-1."""
    return choices._replace(
        dropout=[LayerDropout(*(None if keep is None else keep[first:last] for keep in d)) for d in choices.dropout]
    )
