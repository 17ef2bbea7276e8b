"""Batches of streams, in order, and their place and memory in checkpoints."""

import logging

import torch
from fairseq.data.iterators import EpochBatchIterator

from fairseq_feedback.data.carried_memory import CarriedMemory, StreamMemories
from fairseq_feedback.data.streams import StreamBlocks
from fairseq_feedback.errors import FeedbackError

logger = logging.getLogger(__name__)


class StreamIterator(EpochBatchIterator):
    """An epoch is all blocks of all streams; the order is never shuffled."""

    def __init__(self, blocks: StreamBlocks, memories: StreamMemories, batches: int, limit_mb: float, **kwargs):
        super().__init__(blocks, blocks.collater, blocks.batches(), **kwargs)
        self.persistent_workers = False  # each epoch has its own: the host would wait 5 seconds for the old ones to end
        self.memories = memories
        self.batches = batches  # of an update
        self.limit_mb = limit_mb
        memories.blocks = blocks

    def _get_iterator_for_epoch(self, epoch, shuffle, fix_batches_to_gpus=False, offset=0):
        return super()._get_iterator_for_epoch(epoch, False, fix_batches_to_gpus, offset)

    def state_dict(self):
        state = super().state_dict()
        state["streams"] = self.dataset.streams
        state["length"] = self.dataset.length
        state["first"] = self.dataset.first
        state["block"] = state["iterations_in_epoch"] // self.batches
        state["memory"] = self._memory_to_save(state["block"]) if state["block"] > 0 else {}
        return state

    def _memory_to_save(self, block: int):
        """The memory vectors (N, C) before a block, of every stream that this worker has."""
        found = {}
        for group, carried in self.memories.of_group.items():
            memory = carried.of_only_model() if carried.block == block else None
            if memory is not None:
                for row, vectors in enumerate(memory.unbind(1)):
                    found[group * self.dataset.rows + row] = vectors
        size = sum(m.numel() * m.element_size() for m in found.values()) / 2**20
        if size > self.limit_mb:
            logger.info(
                f"the carried memory, {size:.0f} MB, is not saved: more than --save-memory-mb {self.limit_mb:g}"
            )
            return {}
        return {stream: vectors.cpu().clone() for stream, vectors in found.items()}

    def load_state_dict(self, state):
        if state.get("iterations_in_epoch", 0) > 0:
            if "streams" not in state:
                raise FeedbackError(
                    "the checkpoint stopped in the middle of an epoch of another task: give --reset-dataloader"
                )
            then, now = (state["streams"], state["length"]), (self.dataset.streams, self.dataset.length)
            if then != now:
                raise FeedbackError(
                    f"the checkpoint stopped in the middle of {then[0]} streams with blocks of {then[1]} tokens, "
                    f"now there are {now[0]} with blocks of {now[1]}: give the same --tokens-per-sample, and the same "
                    "product of workers, --update-freq and --batch-size; or --reset-dataloader"
                )
            then, now = state.get("first", state["length"]), self.dataset.first
            if then != now:
                raise FeedbackError(
                    f"the checkpoint stopped in the middle of an epoch whose first blocks have {then} tokens, now they "
                    f"have {now}: give the same --seed, and --random-offset as before; or --reset-dataloader"
                )
            # The host keeps the state as long as it runs: it should not keep the memory.
            self._take_memory(state.pop("memory", {}), state["block"])  # an average of checkpoints has none
            state = {**state, "iterations_in_epoch": state["block"] * self.batches}
        super().load_state_dict(state)

    def _take_memory(self, of_stream, block: int) -> None:
        rows = self.dataset.rows
        for group in range(self.shard_id, self.dataset.groups, self.num_shards):
            streams = range(group * rows, (group + 1) * rows)
            if all(stream in of_stream for stream in streams):
                memory = torch.stack([of_stream[stream] for stream in streams], dim=1)
                self.memories.of_group[group] = CarriedMemory(memory, block)
        if of_stream:
            others = self.dataset.streams - len(of_stream)
            logger.info(
                f"the carried memory of {len(of_stream)} streams is that of the checkpoint"
                + (f"; of the other workers' {others} it is rebuilt by replaying the text before" if others else "")
            )
