"""Sequences drawn from a seed when they are read, and batches of them that grow longer."""

import random
from dataclasses import dataclass

import numpy as np
import torch
from fairseq.data.iterators import EpochBatchIterator

from fairseq_feedback.data.labelled_sequences import LabelledSequences


class Drawn(LabelledSequences):
    """Sequence i has lengths[i], and is drawn from name, a seed, and first + i; or in turn from one of `numbers`."""

    def __init__(self, task, name: str, lengths, numbers=None):
        self.task, self.name, self.pad = task, name, task.source_dictionary.pad()
        self.first = 0
        self.numbers = numbers
        self.sizes = np.asarray(lengths)

    def words(self, number: int, length: int):
        return self.task.problem.draw(random.Random(f"{self.name} {number}"), length)

    def __getitem__(self, index: int):
        number = self.first + index
        if self.numbers:
            number = self.numbers[number % len(self.numbers)]
        symbols, labels = self.words(number, int(self.sizes[index]))
        if self.task.args.supervision == "last":
            labels = [None] * (len(labels) - 1) + labels[-1:]
        known, answers = self.task.source_dictionary, self.task.target_dictionary
        source = [known.index(symbol) for symbol in symbols]
        target = [self.pad if label is None else answers.index(label) for label in labels]
        if self.task.args.start_symbol:
            source, target = [known.bos(), *source], [self.pad, *target]
        return {"id": index, "source": torch.tensor(source), "target": torch.tensor(target)}

    @property
    def can_reuse_epoch_itr_across_epochs(self):
        return False  # a training's lengths change

    def distinct(self, count: int, length: int, without=()):
        """{symbols: number} of so many sequences, or of all there are, no two alike and none in `without`."""
        found = {}
        for number in range(100 * count):
            symbols = tuple(self.words(number, length)[0])
            if symbols not in without:
                found.setdefault(symbols, number)
            if len(found) == count:
                break
        return found


@dataclass
class Growth:
    """Lengths are drawn from the shortest to `length`, which grows between epochs where enough labels are right."""

    shortest: int
    longest: int
    length: int
    threshold: float  # percent
    epoch: int = 0
    labels: int = 0  # of this epoch
    right: int = 0
    symbols: int = 0  # since the beginning

    STATE = ("length", "epoch", "labels", "right", "symbols")

    def count(self, symbols, labels, right) -> None:
        self.symbols += int(symbols)
        self.labels += int(labels)
        self.right += int(right)

    def begin(self, epoch: int) -> None:
        if epoch == self.epoch:
            return
        if self.labels and 100 * self.right >= self.threshold * self.labels:
            self.length = min(self.longest, -(-self.length * 5 // 4))
        self.epoch, self.labels, self.right = epoch, 0, 0

    def state_dict(self):
        return {name: getattr(self, name) for name in self.STATE}

    def load_state_dict(self, state):
        for name in self.STATE:
            setattr(self, name, state[name])


class GrowingBatches(EpochBatchIterator):
    """An epoch is a number of batches, in each of which all sequences have the same length.

    A batch has `rows` sequences, or fewer: as many as have `total` symbols together, where that is given.
    """

    def __init__(self, dataset: Drawn, growth: Growth, rows: int, total, batches: int, seed: int, **kwargs):
        self.growth, self.rows, self.total, self.batches = growth, rows, total, batches
        super().__init__(dataset, dataset.collater, self.draw, seed=seed, **kwargs)

    def draw(self, dataset, epoch):
        self.growth.begin(epoch)
        rng = np.random.default_rng([self.seed, epoch])
        lengths = rng.integers(self.growth.shortest, self.growth.length + 1, self.batches)
        rows = np.full(self.batches, self.rows)
        if self.total:
            rows = np.clip(self.total // lengths, 1, self.rows)
        dataset.sizes = np.repeat(lengths, rows)
        dataset.first = (epoch - 1) * self.batches * self.rows
        return [part.tolist() for part in np.split(np.arange(len(dataset.sizes)), rows.cumsum()[:-1])]

    def state_dict(self):
        return {**super().state_dict(), "growth": self.growth.state_dict()}

    def load_state_dict(self, state):
        self.growth.load_state_dict(state["growth"])
        self.epoch, self._frozen_batches = state["epoch"], None
        super().load_state_dict(state)
