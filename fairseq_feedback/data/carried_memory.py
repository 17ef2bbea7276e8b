"""The memory that goes from one block of a text to the next."""

from dataclasses import dataclass, field
from typing import Dict, Optional

import torch
from torch import Tensor

from fairseq_feedback.data.streams import StreamBlocks


class CarriedMemory:
    """Of the streams of one batch. Each model of an ensemble has its own."""

    def __init__(self, memory: Optional[Tensor] = None, block: int = 0):
        self.start = memory  # (N, B, C) for whichever model asks first; None = nothing came before
        self.of_model: Dict[int, Tensor] = {}
        self.block = block  # number of the block that continues it

    def get(self, model) -> Optional[Tensor]:
        if id(model) in self.of_model:
            return self.of_model[id(model)]
        if self.start is None:
            return None
        like = next(model.parameters())
        return self.start.to(device=like.device, dtype=like.dtype)

    def put(self, model, memory: Tensor, slots: int) -> None:
        """Add the memory (T, B, C) of a block; the newest `slots` are kept. Zeros stand before a text."""
        before = self.get(model)
        if before is None:
            before = memory.new_zeros((slots, *memory.shape[1:]))
        self.of_model[id(model)] = torch.cat([before.to(memory.dtype), memory])[-slots:].contiguous()

    def only(self) -> Optional[Tensor]:
        """The memory of the only model."""
        return next(iter(self.of_model.values()), self.start)


@dataclass
class StreamMemories:
    """The carried memory of every group of streams of a corpus."""

    blocks: Optional[StreamBlocks] = None
    of_group: Dict[int, CarriedMemory] = field(default_factory=dict)
