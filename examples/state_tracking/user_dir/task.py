"""The task state_tracking: labelled sequences of a problem, drawn while training."""

import time
from dataclasses import dataclass, field
from typing import Optional

from fairseq.data import Dictionary
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics
from fairseq.tasks import register_task
from omegaconf import II

from examples.state_tracking.problems import PROBLEMS
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tasks.labelled_sequences import LabelledSequencesTask, LabelOptions, check_labels

from .drawn import Drawn, GrowingBatches, Growth


@dataclass
class StateTrackingConfig(LabelOptions):
    problem: ChoiceEnum(list(PROBLEMS)) = field(default="parity", metadata={"help": "what is drawn"})
    supervision: ChoiceEnum(["all", "last"]) = field(
        default="all", metadata={"help": "all labels that the problem has, or only the last one of each sequence"}
    )
    shortest: int = field(default=3, metadata={"help": "shortest length trained on"})
    longest: int = field(default=32, metadata={"help": "longest length trained on"})
    grow_from: Optional[int] = field(
        default=None, metadata={"help": "begin with lengths up to this one (default: --longest, no growth)"}
    )
    grow_at: float = field(
        default=97.0, metadata={"help": "percent of an epoch's labels that must be right for a quarter longer"}
    )
    epoch_updates: int = field(default=20, metadata={"help": "updates of an epoch: the length is the same in one"})
    batch_total: Optional[int] = field(
        default=None, metadata={"help": "the lengths of a training batch add up to so much, or --batch-size is reached"}
    )
    distinct: Optional[int] = field(
        default=None,
        metadata={"help": "train on so many sequences of one length, again and again, and validate on none of them"},
    )
    start_symbol: bool = field(
        default=False,
        metadata={
            "help": "begin each sequence with a symbol without a label: a transformer with relative positions takes "
            "a and aa for the same without it"
        },
    )
    valid_sequences: int = field(default=512, metadata={"help": "sequences of each validation or test set"})
    valid_symbols: int = field(default=2**19, metadata={"help": "fewer of them, where they would have more symbols"})
    sample_break_mode: str = "eos"
    length_bounds: str = ""
    seed: int = II("common.seed")


@register_task("state_tracking", dataclass=StateTrackingConfig)
class StateTrackingTask(LabelledSequencesTask):
    """Sets are named by their lengths: valid has those trained on, valid_64 has 64, test_40-256 has 40 to 256."""

    def __init__(self, cfg, source_dictionary, target_dictionary):
        super().__init__(cfg, source_dictionary, target_dictionary)
        self.problem = PROBLEMS[str(cfg.problem)]
        self.distinct = {}
        self.growth = Growth(cfg.shortest, cfg.longest, cfg.grow_from or cfg.longest, cfg.grow_at)

    @classmethod
    def setup_task(cls, cfg, **kwargs):
        check_labels(cfg)
        _refuse_streams(cfg)
        first = cfg.grow_from or cfg.longest
        if not 1 <= cfg.shortest <= first <= cfg.longest:
            raise FeedbackError(
                f"--shortest {cfg.shortest} --grow-from {first} --longest {cfg.longest}: give rising numbers from 1"
            )
        if cfg.distinct is not None and (cfg.distinct < 1 or cfg.shortest != cfg.longest):
            raise FeedbackError(f"--distinct {cfg.distinct}: give at least 1, and --shortest as long as --longest")
        problem = PROBLEMS[str(cfg.problem)]
        return cls(cfg, _dictionary(problem.symbols), _dictionary(problem.labels))

    def load_dataset(self, split, epoch=1, combine=False, **kwargs):
        cfg = self.args
        if split == "train":
            self.datasets[split] = Drawn(self, f"train {cfg.seed}", [], list(self.trained_on().values()))
            return
        _, _, named = split.partition("_")
        numbers = named.split("-") if named else [str(cfg.shortest), str(cfg.longest)]
        if not all(number.isdigit() for number in numbers) or len(numbers) > 2:
            raise FeedbackError(f"{split}: a set is named by its length or lengths, as in valid_64 or test_40-256")
        first, last = int(numbers[0]), int(numbers[-1])
        if not 1 <= first <= last:
            raise FeedbackError(f"{split}: give lengths from 1, the shorter one first")
        number = min(cfg.valid_sequences, cfg.valid_symbols // last)
        dataset = Drawn(self, split, [first + i % (last - first + 1) for i in range(number)])
        if cfg.distinct and first == last == cfg.longest:
            dataset.numbers = list(dataset.distinct(number, last, self.trained_on()).values())
            dataset.sizes = dataset.sizes[: len(dataset.numbers)]
            if not dataset.numbers:
                raise FeedbackError(f"--distinct {cfg.distinct}: no sequence of length {last} is left to validate on")
        self.datasets[split] = dataset

    def trained_on(self):
        """{symbols: number} with --distinct, else nothing."""
        cfg = self.args
        if cfg.distinct and not self.distinct:
            self.distinct = Drawn(self, f"train {cfg.seed}", []).distinct(cfg.distinct, cfg.longest)
            if len(self.distinct) < cfg.distinct:
                found = f"{cfg.problem} has {len(self.distinct):,} sequences of length {cfg.longest}"
                raise FeedbackError(f"--distinct {cfg.distinct}: {found}")
        return self.distinct

    def get_batch_iterator(self, dataset, max_sentences=None, **kwargs):
        if "grouped_shuffling" not in kwargs:  # only the trainer's own iterator is asked for with it
            return super().get_batch_iterator(dataset, max_sentences=max_sentences, **kwargs)
        if max_sentences is None:
            raise FeedbackError("--batch-size: give the number of sequences in a batch")
        epoch, workers = kwargs.get("epoch", 1), kwargs.get("num_shards", 1)
        frequencies = self.args.update_freq
        return GrowingBatches(
            dataset,
            self.growth,
            max_sentences,
            self.args.batch_total,
            self.args.epoch_updates * workers * frequencies[min(epoch, len(frequencies)) - 1],
            seed=kwargs.get("seed", 1),
            num_shards=workers,
            shard_id=kwargs.get("shard_id", 0),
            num_workers=kwargs.get("num_workers", 0),
            epoch=epoch,
        )

    def reduce_metrics(self, logging_outputs, criterion):
        super().reduce_metrics(logging_outputs, criterion)
        if criterion.training:
            counts = ("symbols", "labels", "right_labels")
            self.growth.count(*(sum(log.get(name, 0) for log in logging_outputs) for name in counts))
            for name, now in (("length", self.growth.length), ("symbols", self.growth.symbols)):
                metrics.log_scalar(name, now, 0)  # without a weight, the last one is shown
            metrics.log_scalar("cpu", time.process_time(), 0, round=1)


def _refuse_streams(cfg):
    """What LabelOptions has for them."""
    for name in ("bptt_warmup_epochs", "bptt_warmup_tokens", "random_offset"):
        if getattr(cfg, name):
            raise FeedbackError(f"--{name.replace('_', '-')} is of streams: leave it out")
    if str(cfg.sample_break_mode) != "eos":
        raise FeedbackError(f"--sample-break-mode {cfg.sample_break_mode}: leave it out, each sequence begins anew")


def _dictionary(words):
    dictionary = Dictionary()
    for word in words:
        dictionary.add_symbol(word)
    return dictionary
