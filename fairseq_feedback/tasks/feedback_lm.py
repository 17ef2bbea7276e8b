"""Language modeling over text of any length: the memory goes from block to block."""

import logging
import math
import os
from dataclasses import dataclass, field

from fairseq import utils
from fairseq.data import data_utils
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from fairseq.tasks import register_task
from fairseq.tasks.language_modeling import LanguageModelingConfig, LanguageModelingTask

from fairseq_feedback.data.streams import Corpus
from fairseq_feedback.data.text_units import SYMBOLS, TextUnits
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tasks.streams import StreamOptions, StreamTask, check_streams

logger = logging.getLogger(__name__)


@dataclass
class FeedbackLMConfig(StreamOptions, LanguageModelingConfig):
    symbols: ChoiceEnum(SYMBOLS) = field(
        default="words",
        metadata={"help": "what tokens are, for losses per word, character and byte of the text"},
    )


# Options of the host that make no sense for streams.
ONE_BLOCK_AT_A_TIME = ("self_target", "past_target", "add_bos_token", "pad_to_fixed_length", "pad_to_fixed_bsz")


@register_task("feedback_lm", dataclass=FeedbackLMConfig)
class FeedbackLMTask(StreamTask, LanguageModelingTask):
    """
    With --sample-break-mode none (the default) the corpus is --batch-size streams, cut into blocks of
    --tokens-per-sample, and a model with memory carries it from block to block. Every token is predicted once. With
    another --sample-break-mode this is fairseq's language_modeling: sentences on their own, or prompts.
    """

    def __init__(self, args, dictionary, output_dictionary=None, targets=None):
        super().__init__(args, dictionary, output_dictionary, targets)
        self.streams = str(args.sample_break_mode) == "none"
        self.units = TextUnits(dictionary, str(args.symbols))

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
            self.datasets[split] = Corpus(sentences, split)
        else:
            super().load_dataset(split, epoch=epoch, combine=combine, **kwargs)

    def eval_lm_dataloader(self, dataset, batch_size=None, context_window=0, **kwargs):
        if not isinstance(dataset, Corpus):
            return super().eval_lm_dataloader(dataset, batch_size=batch_size, context_window=context_window, **kwargs)
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

    def valid_step(self, sample, model, criterion):
        loss, sample_size, logging_output = super().valid_step(sample, model, criterion)
        source = sample["net_input"]["src_tokens"]
        logging_output.update(self.units.count(source, sample["target"], self.dictionary.pad()))
        return loss, sample_size, logging_output

    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        total = {
            name: sum(log.get(name, 0) for log in logging_outputs) for name in ("ntokens", "nwords", "nchars", "nbytes")
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
    check_streams(args)
    if str(args.sample_break_mode) != "none":
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
