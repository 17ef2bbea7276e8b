"""What tasks share whose data are streams: blocks of them, and the memory that goes from block to block."""

import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import List, Optional

import numpy as np
import torch
from fairseq.data import data_utils
from fairseq.dataclass import FairseqDataclass
from omegaconf import II

from fairseq_feedback.data.carried_memory import CarriedMemory, StreamMemories
from fairseq_feedback.data.stream_iterator import StreamIterator
from fairseq_feedback.data.streams import Corpus, StreamBlocks
from fairseq_feedback.errors import FeedbackError

logger = logging.getLogger(__name__)


@dataclass
class StreamOptions(FairseqDataclass):
    tokens_per_sample: int = field(
        default=1024,
        metadata={"help": "tokens of a block (M): backpropagation through time ends at its start, the memory does not"},
    )
    bptt_warmup_epochs: int = field(default=0, metadata={"help": "train that many epochs with short blocks first"})
    bptt_warmup_tokens: Optional[int] = field(
        default=None, metadata={"help": "tokens of a short block (default: half of --tokens-per-sample)"}
    )
    random_offset: bool = field(
        default=False,
        metadata={
            "help": "let the first blocks of an epoch of training have a random length, so that blocks do not end at "
            "the same tokens in every epoch"
        },
    )
    save_memory_mb: float = field(
        default=256,
        metadata={
            "help": "carry the memory over a stop in mid-epoch in the checkpoint, if it is not larger than this; "
            "otherwise resuming replays the end of the text before"
        },
    )
    update_freq: List[int] = II("optimization.update_freq")


class StreamTask:
    """To be mixed into a task of fairseq's, whose other datasets stay as they are."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.train_memories = StreamMemories()
        self.valid_memories = StreamMemories()
        self.model_has_memory = True

    def get_batch_iterator(self, dataset, max_tokens=None, max_sentences=None, **kwargs):
        if not isinstance(dataset, Corpus):
            return super().get_batch_iterator(dataset, max_tokens=max_tokens, max_sentences=max_sentences, **kwargs)
        epoch, workers = kwargs.get("epoch", 1), kwargs.get("num_shards", 1)
        length, first, rows, batches = self.args.tokens_per_sample, None, max_sentences or 1, 1
        trains = "grouped_shuffling" in kwargs  # only the trainer's own iterator is asked for with it
        if trains:
            length = self._block_length(epoch)
            if self.args.random_offset:
                with data_utils.numpy_seed(kwargs.get("seed", 1), epoch):
                    first = int(np.random.randint(1, length + 1))
            if max_tokens is not None:
                rows = min(max_sentences or max_tokens, max(1, max_tokens // length))
            frequencies = self.args.update_freq
            batches = frequencies[min(epoch, len(frequencies)) - 1]
        groups = workers * batches
        if len(dataset) < rows * groups:
            raise FeedbackError(
                f"{dataset.split}: {len(dataset)} tokens are fewer than its {rows * groups} streams "
                f"({rows} in a batch, {workers} workers, --update-freq {batches}). "
                "Give a smaller --batch-size or --batch-size-valid"
            )
        pad, eos = self.source_dictionary.pad(), self.source_dictionary.eos()
        blocks = StreamBlocks(dataset, rows, groups, length, pad, eos, first)
        logger.info(
            f"{dataset.split}: {len(dataset):,} tokens in {blocks.streams} streams of {blocks.shortest:,}, "
            f"{blocks.blocks:,} blocks of {length} each" + (f", the first of {first}" if first else "")
        )
        return StreamIterator(
            blocks,
            self.train_memories if trains else self.valid_memories,
            batches=batches,
            limit_mb=self.args.save_memory_mb,
            num_shards=workers,
            shard_id=kwargs.get("shard_id", 0),
            num_workers=kwargs.get("num_workers", 0),
            epoch=epoch,
            buffer_size=kwargs.get("data_buffer_size", 0),
        )

    def _block_length(self, epoch: int) -> int:
        if epoch > self.args.bptt_warmup_epochs:
            return self.args.tokens_per_sample
        return self.args.bptt_warmup_tokens or max(1, self.args.tokens_per_sample // 2)

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        if ignore_grad:
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        with self.carry_memory(sample, self.train_memories, model):
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def valid_step(self, sample, model, criterion):
        with self.carry_memory(sample, self.valid_memories, model):
            return super().valid_step(sample, model, criterion)

    def build_model(self, args, from_checkpoint=False):
        model = super().build_model(args, from_checkpoint)
        self.model_has_memory = hasattr(model, "slots_to_carry")
        return model

    @contextmanager
    def carry_memory(self, sample, memories: StreamMemories, model=None):
        """Let the batch go on from the memory of the block before. One that fails leaves no memory to go on from."""
        if "block" not in sample or not self.model_has_memory:
            yield
            return
        block, group = sample["block"], sample["group"]
        carried = memories.of_group.pop(group, None)
        if block == 0:
            carried = CarriedMemory()
        elif carried is None or carried.block != block:
            carried = _replay(memories.blocks, group, block, model)
        sample["net_input"]["carried"] = carried
        yield
        memories.done(group, block, carried)


def check_streams(args) -> None:
    """Refuse values that cannot work, naming the flag."""
    for name in ("tokens_per_sample", "bptt_warmup_tokens"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise FeedbackError(f"--{name.replace('_', '-')} {value}: give at least one token")
    if (args.bptt_warmup_tokens or 0) > args.tokens_per_sample:
        raise FeedbackError(
            f"--bptt-warmup-tokens {args.bptt_warmup_tokens}: give at most --tokens-per-sample {args.tokens_per_sample}"
        )
    for name in ("bptt_warmup_epochs", "save_memory_mb"):
        if getattr(args, name) < 0:
            raise FeedbackError(f"--{name.replace('_', '-')} {getattr(args, name)}: give 0 or more")
    if args.random_offset and str(args.sample_break_mode) != "none":
        raise FeedbackError("--random-offset is of streams: leave it out, or give --sample-break-mode none")


@torch.no_grad()
def _replay(blocks: StreamBlocks, group: int, end: int, model) -> CarriedMemory:
    """The memory before a block, from the text before it: when training goes on in the middle of an epoch."""
    while hasattr(model, "module"):  # out of what data-parallel training has wrapped around it
        model = model.module
    device = next(model.parameters()).device
    first = max(0, end - math.ceil(model.slots_to_carry() / blocks.length))
    tokens = blocks.range_of(0, end)[0] - blocks.range_of(0, first)[0]
    if tokens:
        logger.info(
            f"group {group}: the memory of these streams was not kept, so it is rebuilt by replaying the {tokens} "
            "tokens before"
        )
    carried = CarriedMemory()
    trains = model.training
    model.eval()
    for block in range(first, end):
        source = blocks.batch(block, group)["net_input"]["src_tokens"]
        model(source.to(device), carried=carried, features_only=True)
    model.train(trains)
    return carried
