"""A corpus as streams of blocks.

The corpus is one row of tokens. It is cut into S streams of equal length (some have one token more), and each stream
into blocks of M tokens, of which the first may be shorter. Batch k of a group holds block k of the group's streams, so
the text of a row goes on in the next batch, and with it the memory. Every token is predicted exactly once, from the
token before it and the memory; before the first token of the corpus stands the end-of-sentence symbol.

Streams are dealt out to groups of equal size: a group for each worker and each batch of --update-freq. So four workers
train as one worker with --update-freq 4 does.
"""

from typing import List, Optional

import numpy as np
import torch
from fairseq.data import FairseqDataset
from torch import Tensor


def collate(items, pad: int):
    """A batch of {id, source, target}, the latter two of the same length."""

    def padded(name):
        rows = [item[name] for item in items]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)

    target = padded("target")
    return {
        "id": torch.tensor([item["id"] for item in items]),
        "nsentences": len(items),
        "ntokens": int((target != pad).sum()),
        "net_input": {
            "src_tokens": padded("source"),
            "src_lengths": torch.tensor([len(item["source"]) for item in items]),
        },
        "target": target,
    }


class Corpus(FairseqDataset):
    """Sentences of an indexed dataset as one row of tokens, read where they are needed."""

    def __init__(self, sentences, split: str):
        self.sentences = sentences
        self.split = split
        self.ends = np.cumsum(np.asarray(sentences.sizes, dtype=np.int64))

    def __len__(self) -> int:
        """Tokens, the ends of sentences among them."""
        return int(self.ends[-1]) if len(self.ends) > 0 else 0

    def tokens(self, first: int, last: int) -> Tensor:
        number = int(np.searchsorted(self.ends, first, side="right"))
        start = int(self.ends[number - 1]) if number > 0 else 0
        parts, end = [], start
        while end < last:
            parts.append(self.sentences[number])
            end += len(parts[-1])
            number += 1
        return torch.cat(parts)[first - start : last - start].long() if parts else torch.empty(0, dtype=torch.long)

    def block(self, first: int, last: int, eos: int):
        """Tokens to predict, after what each is predicted from: the one before it."""
        if first > 0:
            tokens = self.tokens(first - 1, last)
        else:
            tokens = torch.cat([torch.tensor([eos]), self.tokens(0, last)])
        return tokens[:-1], tokens[1:]


class LabelledCorpus(Corpus):
    """Its tokens have labels beside them: `labels`, the padding symbol where there is none."""

    def __init__(self, sentences, labels, split: str):
        super().__init__(sentences, split)
        self.labels = Corpus(labels, split)

    def block(self, first: int, last: int, eos: int):
        return self.tokens(first, last), self.labels.tokens(first, last)


class StreamBlocks(FairseqDataset):
    """Its item (k·G + j)·B + b is block k of stream b of group j; there are G groups of B streams."""

    def __init__(
        self, corpus: Corpus, rows: int, groups: int, length: int, pad: int, eos: int, first: Optional[int] = None
    ):
        self.corpus, self.rows, self.groups, self.length = corpus, rows, groups, length
        self.first = first or length  # tokens of the first block
        self.pad, self.eos = pad, eos
        self.streams = rows * groups
        self.shortest, self.longer = divmod(len(corpus), self.streams)
        # Streams with one token more have it in their last block.
        self.blocks = 1 + max(0, -((self.first - self.shortest) // length))

    def __len__(self) -> int:
        return self.blocks * self.streams

    def batches(self) -> List[List[int]]:
        return [list(range(i, i + self.rows)) for i in range(0, len(self), self.rows)]

    def range_of(self, stream: int, block: int):
        """The first token of a block, and the one after its last."""
        first = stream * self.shortest + min(stream, self.longer)
        end = first + self.shortest + (stream < self.longer)
        start, stop = (first + max(0, self.first + (number - 1) * self.length) for number in (block, block + 1))
        return start, end if block == self.blocks - 1 else stop

    def __getitem__(self, index: int):
        batch, row = divmod(index, self.rows)
        block, group = divmod(batch, self.groups)
        first, last = self.range_of(group * self.rows + row, block)
        source, target = self.corpus.block(first, last, self.eos)
        return {"id": index, "block": block, "group": group, "source": source, "target": target}

    def collater(self, items):
        if not items:
            return {}
        return {**collate(items, self.pad), "block": items[0]["block"], "group": items[0]["group"]}

    def batch(self, block: int, group: int):
        first = (block * self.groups + group) * self.rows
        return self.collater([self[i] for i in range(first, first + self.rows)])
