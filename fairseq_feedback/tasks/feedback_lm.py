"""Language modeling over text of any length: the memory goes from block to block."""

import logging
import math
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import List, Optional

import numpy as np
import torch
from fairseq import utils
from fairseq.data import data_utils
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from fairseq.tasks import register_task
from fairseq.tasks.language_modeling import LanguageModelingConfig, LanguageModelingTask
from omegaconf import II

from fairseq_feedback.data.carried_memory import CarriedMemory, StreamMemories
from fairseq_feedback.data.stream_iterator import StreamIterator
from fairseq_feedback.data.streams import Corpus, StreamBlocks
from fairseq_feedback.data.text_units import SYMBOLS, TextUnits
from fairseq_feedback.errors import FeedbackError

logger = logging.getLogger(__name__)


@dataclass
class FeedbackLMConfig(LanguageModelingConfig):
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
    symbols: ChoiceEnum(SYMBOLS) = field(
        default="words",
        metadata={"help": "what tokens are, for losses per word, character and byte of the text"},
    )
    update_freq: List[int] = II("optimization.update_freq")


# Options of the host that make no sense for streams.
ONE_BLOCK_AT_A_TIME = ("self_target", "past_target", "add_bos_token", "pad_to_fixed_length", "pad_to_fixed_bsz")


@register_task("feedback_lm", dataclass=FeedbackLMConfig)
class FeedbackLMTask(LanguageModelingTask):
    """
    With --sample-break-mode none (the default) the corpus is --batch-size streams, cut into blocks of
    --tokens-per-sample, and a model with memory carries it from block to block. Every token is predicted once. With
    another --sample-break-mode this is fairseq's language_modeling: sentences on their own, or prompts.
    """

    def __init__(self, args, dictionary, output_dictionary=None, targets=None):
        super().__init__(args, dictionary, output_dictionary, targets)
        self.streams = str(args.sample_break_mode) == "none"
        self.units = TextUnits(dictionary, str(args.symbols))
        self.train_memories = StreamMemories()
        self.valid_memories = StreamMemories()
        self.model_has_memory = True

    @classmethod
    def setup_task(cls, args, **kwargs):
        check(args)
        return super().setup_task(args, **kwargs)

    @classmethod
    def setup_dictionary(cls, args, **kwargs):
        paths = utils.split_paths(args.data or "")
        if not paths or not os.path.exists(os.path.join(paths[0], "dict.txt")):
            raise FeedbackError(
                f"{args.data or 'no data'}: no dict.txt in that folder. "
                "Make it with fairseq-preprocess --only-source --trainpref …"
            )
        return super().setup_dictionary(args, **kwargs)

    def load_dataset(self, split, epoch=1, combine=False, **kwargs):
        paths = utils.split_paths(self.args.data)
        path = os.path.join(paths[(epoch - 1) % len(paths)], split)
        if os.path.exists(path + ".bin") and os.path.getsize(path + ".bin") == 0:
            raise FeedbackError(f"{path}.bin: the split is empty")
        sentences = data_utils.load_indexed_dataset(path, self.dictionary, self.args.dataset_impl, combine=combine)
        if sentences is None:
            raise FeedbackError(f"{path}: no such split. Make it with fairseq-preprocess --only-source --{split}pref …")
        if self.streams:
            # The trainer loads what it trains on with a data_selector, nobody else does.
            self.datasets[split] = Corpus(sentences, split, trains="data_selector" in kwargs)
        else:
            super().load_dataset(split, epoch=epoch, combine=combine, **kwargs)

    def get_batch_iterator(self, dataset, max_tokens=None, max_sentences=None, **kwargs):
        if not isinstance(dataset, Corpus):
            return super().get_batch_iterator(
                dataset, max_tokens=max_tokens, max_sentences=max_sentences, **kwargs
            )
        epoch, workers = kwargs.get("epoch", 1), kwargs.get("num_shards", 1)
        length, first, rows, batches = self.args.tokens_per_sample, None, max_sentences or 1, 1
        if dataset.trains:
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
        blocks = StreamBlocks(dataset, rows, groups, length, self.dictionary.pad(), self.dictionary.eos(), first)
        logger.info(
            f"{dataset.split}: {len(dataset):,} tokens in {blocks.streams} streams of {blocks.shortest:,}, "
            f"{blocks.blocks:,} blocks of {length} each" + (f", the first of {first}" if first else "")
        )
        return StreamIterator(
            blocks,
            self.train_memories if dataset.trains else self.valid_memories,
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

    def eval_lm_dataloader(self, dataset, batch_size=None, context_window=0, **kwargs):
        if not isinstance(dataset, Corpus):
            return super().eval_lm_dataloader(
                dataset, batch_size=batch_size, context_window=context_window, **kwargs
            )
        if context_window > 0:
            raise FeedbackError(
                f"--context-window {context_window}: leave it out, the memory is the context of every block"
            )
        iterator = self.get_batch_iterator(
            dataset,
            max_sentences=batch_size or 1,
            **{k: v for k, v in kwargs.items() if k.startswith("num_") or k in ("shard_id", "data_buffer_size")},
        )
        return _Evaluation(self, iterator.next_epoch_itr(shuffle=False))

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        if ignore_grad:
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        with self.carry_memory(sample, self.train_memories, model):
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def valid_step(self, sample, model, criterion):
        with self.carry_memory(sample, self.valid_memories, model):
            loss, sample_size, logging_output = super().valid_step(sample, model, criterion)
        source = sample["net_input"]["src_tokens"]
        logging_output.update(self.units.count(source, sample["target"], self.dictionary.pad()))
        return loss, sample_size, logging_output

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
        carried = memories.of_group.get(group)
        if block == 0:
            carried = CarriedMemory()
        elif carried is None or carried.block != block:
            carried = _replay(memories.blocks, group, block, model)
        memories.of_group[group] = sample["net_input"]["carried"] = carried
        yield
        memories.done(group, block)

    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        total = {
            name: sum(log.get(name, 0) for log in logging_outputs)
            for name in ("ntokens", "nwords", "nchars", "nbytes")
        }
        if not total["nchars"]:
            return
        bits = sum(log.get("nll_loss", log["loss"]) for log in logging_outputs) / math.log(2)
        if total["nwords"] not in (0, total["ntokens"]):
            metrics.log_scalar("bits_per_word", bits / total["nwords"], total["nwords"], round=3)
            metrics.log_derived("word_ppl", lambda meters: utils.get_perplexity(meters["bits_per_word"].avg))
        metrics.log_scalar("bits_per_char", bits / total["nchars"], total["nchars"], round=4)
        metrics.log_scalar("bits_per_byte", bits / total["nbytes"], total["nbytes"], round=4)

    def build_dataset_for_inference(self, src_tokens, src_lengths, **kwargs):
        unknown = self.dictionary.unk()
        for tokens in src_tokens:
            words = tokens[tokens != self.dictionary.eos()]
            if len(words) > 0 and bool((words == unknown).all()):
                raise FeedbackError(
                    "no symbol of the prompt is in the dictionary. Write it as the training data is written; "
                    "a model of characters wants --bpe characters"
                )
            if bool((words == unknown).any()):
                places = (words == unknown).nonzero().view(-1).add(1).tolist()
                logger.warning(f"not in the dictionary: number {', '.join(map(str, places))} of the prompt's symbols")
        return super().build_dataset_for_inference(src_tokens, src_lengths, **kwargs)

    def inference_step(self, generator, models, sample, prefix_tokens=None, constraints=None):
        if "block" in sample:
            raise FeedbackError("give --sample-break-mode eos: each line of the data is then a prompt")
        source = sample["net_input"]["src_tokens"].size(1)
        prompt = source - 1 if prefix_tokens is None else prefix_tokens.size(1)  # the first is </s>
        if hasattr(generator, "max_len_a"):
            longest = int(generator.max_len_a * source + generator.max_len_b)
            if prompt > longest:
                raise FeedbackError(
                    f"a prompt has {prompt} symbols, and the text with it ends at {longest} (--max-len-a times the "
                    "prompt plus --max-len-b): give --max-len-a 1"
                )
        return super().inference_step(generator, models, sample, prefix_tokens, constraints)


def check(args) -> None:
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
    if str(args.sample_break_mode) != "none":
        if args.random_offset:
            raise FeedbackError("--random-offset is of streams: leave it out, or give --sample-break-mode none")
        return
    for name in ONE_BLOCK_AT_A_TIME:
        if getattr(args, name):
            raise FeedbackError(
                f"--{name.replace('_', '-')} does not go with streams: leave it out, or give --sample-break-mode"
            )
    if str(args.shorten_method) != "none":
        raise FeedbackError("--shorten-method does not go with streams, which predict every token: leave it out")
    if args.output_dictionary_size >= 0:
        raise FeedbackError("--output-dictionary-size does not go with streams: leave it out")


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
            f"group {group}: the checkpoint does not hold the memory of these streams, so it is rebuilt by replaying "
            f"the {tokens} tokens before"
        )
    carried = CarriedMemory()
    trains = model.training
    model.eval()
    for block in range(first, end):
        source = blocks.batch(block, group)["net_input"]["src_tokens"]
        model(source.to(device), carried=carried, features_only=True)
    model.train(trains)
    return carried


class _Evaluation:
    """Batches for fairseq-eval-lm, which go on from each other's memory. At the end it logs what they were."""

    def __init__(self, task, batches):
        self.task, self.batches = task, batches

    @property
    def n(self):
        return self.batches.n

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        total = {"ntokens": 0, "nwords": 0, "nchars": 0, "nbytes": 0}
        for sample in self.batches:
            counts = self.task.units.count(
                sample["net_input"]["src_tokens"], sample["target"], self.task.dictionary.pad()
            )
            for name, count in {"ntokens": sample["ntokens"], **counts}.items():
                total[name] += count
            with self.task.carry_memory(sample, self.task.valid_memories):
                yield sample
        tokens, words, characters, size = total.values()
        logger.info(
            f"{tokens:,} tokens are {words:,} words, {characters:,} characters, {size:,} bytes: bits per character are "
            f"{tokens / max(characters, 1):.6f} × the loss of a token, bits per byte {tokens / max(size, 1):.6f} × it, "
            f"perplexity per word is 2 to the power of {tokens / max(words, 1):.6f} × it"
        )
