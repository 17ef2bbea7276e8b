"""Sequences whose symbols have labels, or some of them: one a row."""

import numpy as np
from fairseq.data import FairseqDataset

from fairseq_feedback.data.streams import collate


class LabelledSequences(FairseqDataset):
    """sources, labels: two datasets of the same lengths; a label is the padding symbol where there is none."""

    def __init__(self, sources, labels, pad: int):
        self.sources, self.labels, self.pad = sources, labels, pad
        self.sizes = np.asarray(sources.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int):
        return {"id": index, "source": self.sources[index].long(), "target": self.labels[index].long()}

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def ordered_indices(self):
        """By length, in random order among equals."""
        order = np.random.permutation(len(self))
        return order[np.argsort(self.sizes[order], kind="mergesort")]

    def collater(self, items):
        return collate(items, self.pad) if items else {}


class WithoutEnd:
    """Sentences of an indexed dataset without the symbol that ends each."""

    def __init__(self, sentences):
        self.sentences = sentences
        self.sizes = np.asarray(sentences.sizes) - 1

    def __getitem__(self, index: int):
        return self.sentences[index][:-1]
