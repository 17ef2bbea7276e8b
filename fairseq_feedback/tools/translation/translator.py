"""The command line, and the models that it names, as fairseq-interactive reads and runs them."""

import ast
import functools
import logging
import os
import re
import sys
from typing import List, NamedTuple

from fairseq_feedback import errors
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import Parser

PROGRAM = "fairseq-feedback translate"
MAX_TOKENS = 4000  # of a batch, unless the user says something
NUMBER = r"\(?(?:np\.int64\()?(\d+)"  # the first of a pair, as any numpy prints it
ERRORS = {"stop": "strict", "replace": "replace"}  # of Python's
TOO_LONG = re.compile(rf"Size of sample #(\d+) is invalid \(={NUMBER}.* since max_positions={NUMBER}")


class Chunk(NamedTuple):
    first: int  # how many lines stand before it
    lines: List[bytes]


class Shard(NamedTuple):
    """Part number k, from 1, of n."""

    k: int
    n: int

    def lines(self, total, chunk_lines):
        """(first, end): whole chunks, so that a chunk has the same lines, and the same seed, in any shard."""
        chunks = -(-total // chunk_lines)
        return tuple(min(total, chunks * k // self.n * chunk_lines) for k in (self.k - 1, self.k))


def shard(text):
    """Of the form 3/16. The options keep the text."""
    k, n = map(int, text.split("/"))
    if not 1 <= k <= n:
        raise ValueError(text)
    return text


class Translation(NamedTuple):
    text: bytes
    words: int
    too_long: int  # how many lines were left empty


def parse(arguments):
    """Options of fairseq-interactive and our own. Also imports --user-dir."""
    from fairseq import options

    import fairseq_feedback.plugin  # noqa: F401

    sys.argv[1:] = arguments  # where fairseq looks for --user-dir
    try:
        parser = options.get_interactive_generation_parser()
    except (ImportError, FileNotFoundError, ValueError) as error:  # missing, or registers a name of the plugin
        raise FeedbackError(f"--user-dir was not imported: {error}") from error
    parser.prog = PROGRAM
    parser.error = functools.partial(Parser.error, parser)
    add_own(parser)
    try:
        return options.parse_args_and_arch(parser)
    except ValueError as error:  # options that exclude each other
        raise FeedbackError(str(error)) from error


def add_own(parser):
    own = parser.add_argument_group("large files")
    own.add_argument("--output", metavar="FILE", help="where the translations go, N lines for each line of --input "
                     "with --nbest N, the best first")  # fmt: skip
    own.add_argument("-i", "--interactive", action="store_true", help="a prompt instead of files: a line in, its "
                     "translations and their scores out")  # fmt: skip
    own.add_argument("--workers", type=int, metavar="N", help="processes (one for each core; one on a GPU)")
    own.add_argument("--shard", type=shard, default="1/1", metavar="K/N", help="only part K of N of --input")
    own.add_argument("--errors", choices=list(ERRORS), default="stop", help="at what is not UTF-8: stop, or read "
                     "U+FFFD in its place (%(default)s)")  # fmt: skip
    own.add_argument("--chunk-lines", type=int, default=2000, metavar="N", help="lines that are sorted by length, "
                     "translated and written together (%(default)s)")  # fmt: skip


class Translator:
    def __init__(self, args, threads, rank=0):
        """rank: the number of this process. Those on GPUs take turns with the devices."""
        import torch
        from fairseq import checkpoint_utils, tasks, utils
        from fairseq.dataclass.utils import convert_namespace_to_omegaconf

        if "LOGLEVEL" not in os.environ:
            logging.getLogger("fairseq.tasks.fairseq_task").setLevel(logging.ERROR)  # of lines that we count
        self.args = args
        self.cfg = cfg = convert_namespace_to_omegaconf(args)
        if cfg.dataset.max_tokens is None and cfg.dataset.batch_size is None:
            cfg.dataset.max_tokens = MAX_TOKENS
        torch.set_num_threads(threads)
        self.cuda = torch.cuda.is_available() and not cfg.common.cpu
        if self.cuda:
            torch.cuda.set_device(rank % torch.cuda.device_count())
        self.task = task = tasks.setup_task(cfg.task)
        self.models, _ = checkpoint_utils.load_model_ensemble(
            utils.split_paths(cfg.common_eval.path),
            arg_overrides=ast.literal_eval(cfg.common_eval.model_overrides),
            task=task,
            suffix=cfg.checkpoint.checkpoint_suffix,
            strict=cfg.checkpoint.checkpoint_shard_count == 1,
            num_shards=cfg.checkpoint.checkpoint_shard_count,
        )
        for model in self.models:
            if cfg.common.fp16:
                model.half()
            if self.cuda and not cfg.distributed_training.pipeline_model_parallel:
                model.cuda()
            model.prepare_for_inference_(cfg)
        self.generator = task.build_generator(self.models, cfg.generation)
        self.tokenizer, self.bpe = task.build_tokenizer(cfg.tokenizer), task.build_bpe(cfg.bpe)
        self.align_dict = utils.load_align_dict(cfg.generation.replace_unk)
        self.max_positions = utils.resolve_max_positions(
            task.max_positions(), *[model.max_positions() for model in self.models], cfg.dataset.max_tokens
        )

    def answers(self, line):
        """Of one line, (score, text) of each hypothesis, the best first."""
        return [pair for batch in self._batches([line]) for pairs in self._found(batch, [self._source(line)])
                for pair in pairs]  # fmt: skip

    def translate(self, chunk, progress):
        """A Chunk -> its Translation. progress is called with the number of lines of each batch."""
        import numpy as np
        from fairseq import utils

        # Every chunk has its own seed: sampling depends neither on the process nor on what came before.
        seed = self.cfg.common.seed + chunk.first // self.args.chunk_lines
        np.random.seed(seed % 2**32)
        utils.set_torch_seed(seed)
        lines = [line.decode("utf-8", ERRORS[self.args.errors]).strip() for line in chunk.lines]
        numbers = [i for i, line in enumerate(lines) if line]  # of lines that are not empty
        progress(len(lines) - len(numbers))
        found = {}
        try:
            for batch in self._batches([lines[i] for i in numbers]):
                sources = [self._source(lines[numbers[i]]) for i in batch.ids.tolist()]
                for i, pairs in zip(batch.ids.tolist(), self._found(batch, sources)):
                    found[numbers[i]] = [text for _, text in pairs]
                progress(len(batch.ids))
        except Exception as error:
            match = TOO_LONG.match(str(error))
            if match is None:
                raise
            i, size, limit = map(int, match.groups())
            raise FeedbackError(
                f"line {chunk.first + numbers[i] + 1} of {self.args.input} has {size} tokens, and the model or "
                f"--max-tokens allows {limit}: shorten it, or add --skip-invalid-size-inputs-valid-test, "
                "which leaves its translation empty"
            ) from error
        too_long = len(numbers) - len(found)
        progress(too_long)
        empty = [""] * self.args.nbest
        texts = [text for i in range(len(lines)) for text in (found.get(i, empty) + empty)[: self.args.nbest]]
        words = sum(len(text.split()) for text in texts)
        return Translation("".join(text + "\n" for text in texts).encode("utf-8"), words, too_long)

    def _batches(self, lines):
        from fairseq_cli.interactive import make_batches

        if lines:
            yield from make_batches(lines, self.cfg, self.task, self.max_positions, self._encode)
        self.task.dataset_to_epoch_iter.clear()  # where fairseq would keep all texts

    def _source(self, line):
        """The tokens of a line for --replace-unk, also those that the dictionary lacks."""
        return None if self.align_dict is None else [*self._encode(line).split(), "<eos>"]

    def _found(self, batch, sources):
        """For each line of a batch (score, text) of its hypotheses, best first."""
        source, lengths, constraints = batch.src_tokens, batch.src_lengths, batch.constraints
        if self.cuda:
            source, lengths = source.cuda(), lengths.cuda()
            constraints = None if constraints is None else constraints.cuda()
        sample = {"net_input": {"src_tokens": source, "src_lengths": lengths}}
        hypotheses = self.task.inference_step(self.generator, self.models, sample, constraints=constraints)
        for source, length, ranked in zip(sources, lengths, hypotheses):
            wanted = self.args.nbest if length > 1 else 0  # what is nothing but its end, the tokenizer found empty
            yield [(float(found["score"]), self._text(source, found)) for found in ranked[:wanted]]

    def _text(self, source, hypothesis):
        """As utils.post_process_prediction, which also adds every new word to the dictionary: that would grow; and
        which replaces unknown words after it has joined pieces of words, when nothing tells any more where they were.
        """
        from fairseq.data.data_utils import post_process
        from fairseq_cli.generate import get_symbols_to_strip_from_output

        dictionary = self.task.target_dictionary
        strip = get_symbols_to_strip_from_output(self.generator)
        tokens = hypothesis["tokens"].int().cpu()
        text = dictionary.string(tokens, extra_symbols_to_ignore=strip)
        if self.align_dict is not None:
            origins = hypothesis["alignment"][tokens == dictionary.unk()].tolist()
            words = iter([self.align_dict.get(source[i], source[i]) for i in origins])
            text = " ".join(next(words) if word == dictionary.unk_string() else word for word in text.split(" "))
        text = post_process(text, self.cfg.common_eval.post_process)
        if self.bpe is not None:
            text = self.bpe.decode(text)
        if self.tokenizer is not None:
            text = self.tokenizer.decode(text)
        return text.replace("\n", " ")  # a model of bytes can write one

    def _encode(self, line):
        if self.tokenizer is not None:
            line = self.tokenizer.encode(line)
        return line if self.bpe is None else self.bpe.encode(line)


def sentence(error):
    """What to tell the user of an exception."""
    mistake = errors.find(error)
    if mistake:
        return str(mistake)
    if isinstance(error, OSError) and error.strerror:
        return errors.of_the_system(error)
    logging.getLogger(__name__).info("", exc_info=error)
    text = str(error).strip()
    return type(error).__name__ + (f": {text.splitlines()[0]}" if text else "") + " (LOGLEVEL=INFO shows where)"
