"""The memory that goes from one block of a text to the next."""

from dataclasses import dataclass, field
from typing import Dict, Optional

import torch
from torch import Tensor

from fairseq_feedback.data.streams import StreamBlocks


class CarriedMemory:
    """Of the streams of one batch. Each model of an ensemble has its own."""

    def __init__(self, memory: Optional[Tensor] = None, block: int = 0):
        self.saved = memory  # (N, B, C) of a checkpoint, for the model that asks first; None = nothing came before
        self.of_model: Dict[int, Tensor] = {}
        self.block = block  # number of the block that goes on from it

    def get(self, model) -> Optional[Tensor]:
        if self.saved is not None:
            like = next(model.parameters())
            self.of_model[id(model)] = self.saved.to(device=like.device, dtype=like.dtype)
            self.saved = None
        return self.of_model.get(id(model))

    def put(self, model, memory: Tensor, slots: int, zeros: bool = True) -> None:
        """Add the memory (T, B, C) of a block; the newest `slots` are kept. Zeros, or nothing, stand before a text."""
        before = self.get(model)
        if before is None:
            before = memory.new_zeros((slots if zeros else 0, *memory.shape[1:]))
        missing = max(0, slots - memory.size(0))
        before = before[before.size(0) - min(missing, before.size(0)) :].to(memory.dtype)
        self.of_model[id(model)] = torch.cat([before, memory[-slots:]])

    def of_only_model(self) -> Optional[Tensor]:
        return next(iter(self.of_model.values()), self.saved)


@dataclass
class StreamMemories:
    """The carried memory of every group of streams of a corpus."""

    blocks: Optional[StreamBlocks] = None
    of_group: Dict[int, CarriedMemory] = field(default_factory=dict)

    def done(self, group: int, block: int, carried: CarriedMemory) -> None:
        """A block of that group is done: the next one goes on from it. After the last one, nothing is carried."""
        if block + 1 < self.blocks.blocks:
            carried.block = block + 1
            self.of_group[group] = carried
