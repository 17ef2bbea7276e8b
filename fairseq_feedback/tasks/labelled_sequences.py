"""Labels for the symbols of sequences, or for some of them: states, results, answers."""

import logging
import os
from dataclasses import dataclass, field
from typing import Optional

from fairseq import utils
from fairseq.data import Dictionary, data_utils
from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING

from fairseq_feedback.data.labelled_sequences import LabelledSequences, WithoutEnd
from fairseq_feedback.data.streams import LabelledCorpus
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tasks.streams import StreamOptions, StreamTask, check_streams

logger = logging.getLogger(__name__)


@dataclass
class LabelOptions(StreamOptions):
    """And what fairseq's transformer_lm reads of its task."""

    max_target_positions: Optional[int] = field(
        default=None, metadata={"help": "longest sequence of a model with positions (default: --tokens-per-sample)"}
    )
    add_bos_token: bool = field(default=False, metadata={"help": "of language models only: refused here"})


@dataclass
class LabelledSequencesConfig(LabelOptions):
    data: str = field(default=MISSING, metadata={"help": "folder of fairseq's binary data, or several, one an epoch"})
    source_lang: Optional[str] = field(default=None, metadata={"help": "name of the symbols' files (found by itself)"})
    target_lang: Optional[str] = field(default=None, metadata={"help": "name of the labels' files"})
    sample_break_mode: ChoiceEnum(["none", "eos"]) = field(
        default="none", metadata={"help": "none: streams, as of feedback_lm; eos: each sequence begins anew"}
    )
    length_bounds: str = field(
        default="16,32,64,128,256,512,1024",
        metadata={"help": "validation tells the accuracy of sequences up to each of these lengths, too; '' = no"},
    )
    dataset_impl: Optional[str] = II("dataset.dataset_impl")


@register_task("labelled_sequences", dataclass=LabelledSequencesConfig)
class LabelledSequencesTask(StreamTask, FairseqTask):
    """
    Symbols and labels are the two languages of fairseq-preprocess. A line has as many labels as symbols, and <pad>
    where a symbol has none. The criterion is labelled_sequence_loss.
    """

    def __init__(self, cfg, source_dictionary, target_dictionary):
        super().__init__(cfg)
        self.args = cfg
        self.symbols, self.labels = source_dictionary, target_dictionary
        self.streams = str(cfg.sample_break_mode) == "none"
        self.length_bounds = _rising(cfg.length_bounds)

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        check_streams(cfg)
        check_labels(cfg)
        paths = utils.split_paths(cfg.data)
        if cfg.source_lang is None or cfg.target_lang is None:
            found = data_utils.infer_language_pair(paths[0]) if os.path.isdir(paths[0]) else (None, None)
            cfg.source_lang, cfg.target_lang = cfg.source_lang or found[0], cfg.target_lang or found[1]
        files = [os.path.join(paths[0], f"dict.{language}.txt") for language in (cfg.source_lang, cfg.target_lang)]
        for name in files:
            if not os.path.exists(name):
                raise FeedbackError(
                    f"{name} is missing. Make it with fairseq-preprocess --source-lang … --target-lang … --trainpref …"
                )
        return cls(cfg, *map(Dictionary.load, files))

    def load_dataset(self, split, epoch=1, combine=False, **kwargs):
        paths = utils.split_paths(self.args.data)
        pair = f"{self.args.source_lang}-{self.args.target_lang}"
        prefix = os.path.join(paths[(epoch - 1) % len(paths)], f"{split}.{pair}.")
        parts = []
        for language, known in ((self.args.source_lang, self.symbols), (self.args.target_lang, self.labels)):
            path = prefix + language
            part = data_utils.load_indexed_dataset(path, known, self.args.dataset_impl, combine=combine)
            if part is None:
                raise FeedbackError(f"{path}: no such split. Make it with fairseq-preprocess --{split}pref …")
            parts.append(WithoutEnd(part))
        sources, labels = parts
        if len(sources.sizes) != len(labels.sizes) or (sources.sizes != labels.sizes).any():
            raise FeedbackError(
                f"{prefix}{self.args.target_lang}: there must be a label for each symbol, or <pad>. In line "
                f"{_first_difference(sources.sizes, labels.sizes)} there is not"
            )
        if self.streams:
            self.datasets[split] = LabelledCorpus(sources, labels, split)
        else:
            if (sources.sizes == 0).any():
                raise FeedbackError(f"{prefix}{self.args.source_lang}: line {sources.sizes.argmin() + 1} is empty")
            self.datasets[split] = LabelledSequences(sources, labels, self.symbols.pad())

    def max_positions(self):
        """Those of the model."""
        return None

    @property
    def source_dictionary(self):
        return self.symbols

    @property
    def target_dictionary(self):
        return self.labels


def check_labels(cfg: LabelOptions):
    if cfg.add_bos_token:
        raise FeedbackError("--add-bos-token is of language models: leave it out")


def _rising(text):
    try:
        bounds = [int(bound) for bound in text.split(",") if bound.strip()]
    except ValueError:
        bounds = [0]
    if bounds != sorted(set(bounds)) or (bounds and bounds[0] < 1):
        raise FeedbackError(f"--length-bounds {text}: give rising numbers, as in 16,32,64")
    return bounds


def _first_difference(ours, theirs):
    return next((i for i, (a, b) in enumerate(zip(ours, theirs), 1) if a != b), min(len(ours), len(theirs)) + 1)
