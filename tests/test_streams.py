"""Streams: the data of a language model, and the processes that read them."""

import multiprocessing
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import make_dictionary, needs_current_fairseq
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_feedback.data.carried_memory import StreamMemories
from fairseq_feedback.data.stream_iterator import StreamIterator
from fairseq_feedback.data.streams import Corpus, StreamBlocks
from fairseq_feedback.data.text_units import TextUnits
from fairseq_feedback.tasks.streams import StreamTask

pytestmark = pytest.mark.core


class Sentences(list):
    @property
    def sizes(self):
        return np.array([len(sentence) for sentence in self])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    rows=st.integers(1, 4),
    groups=st.integers(1, 3),
    length=st.integers(1, 12),
    first=st.none() | st.integers(1, 12),
)
def test_every_token_is_predicted_once_in_order(lengths, rows, groups, length, first):
    total = sum(lengths)
    tokens = torch.arange(100, 100 + total)
    corpus = Corpus(Sentences(tokens.split(lengths)), "train")
    if total < rows * groups:
        return
    first = min(first or length, length)
    blocks = StreamBlocks(corpus, rows, groups, length, 1, 2, first)
    streams = {}
    for number, indices in enumerate(blocks.batches()):
        batch = blocks.collater([blocks[i] for i in indices])
        block, group = divmod(number, groups)
        assert (batch["block"], batch["group"]) == (block, group)
        source, target = batch["net_input"]["src_tokens"], batch["target"]
        assert batch["ntokens"] == int((target != 1).sum()) > 0
        assert target.size(1) <= (length if block > 0 else first) + 1
        assert (target[:, 0] != 1).all(), "no row is empty, or padded on the left"
        for row in range(rows):
            words = target[row][target[row] != 1].tolist()
            before = source[row][source[row] != 1].tolist()
            assert before == [w - 1 if w > 100 else 2 for w in words]
            streams.setdefault(group * rows + row, []).extend(words)
    assert sum((streams[s] for s in range(blocks.streams)), []) == tokens.tolist()
    sizes = {len(words) for words in streams.values()}
    assert max(sizes) - min(sizes) <= 1


def test_a_corpus_reads_across_sentences_and_empty_ones():
    corpus = Corpus(Sentences([torch.arange(3), torch.arange(0), torch.arange(3, 4), torch.arange(4, 9)]), "train")
    assert len(corpus) == 9
    for first in range(9):
        for last in range(first + 1, 10):
            assert corpus.tokens(first, last).tolist() == list(range(first, last))


@pytest.mark.parametrize(
    "symbols, line, words, characters, size",
    [
        ("words", "the naïve cat", 4, 14, 15),  # three words and the end of the line; 13 characters and that end
        ("subword_nmt", "the na@@ ïve cat", 4, 14, 15),
        ("sentencepiece", "▁the ▁na ïve ▁cat", 4, 14, 15),
        ("characters", "t h e ▁ n a ï v e ⏎ c a t", 4, 14, 15),
        ("words", "", 1, 1, 1),
        ("characters", "", 1, 1, 1),
    ],
)
def test_units_of_text(symbols, line, words, characters, size):
    """Of the lines "" and then `line`, each with its end."""
    dictionary = make_dictionary(0)
    for word in line.split():
        dictionary.add_symbol(word)
    ids = [dictionary.eos(), *(dictionary.index(word) for word in line.split()), dictionary.eos()]
    target = torch.tensor([ids + [dictionary.pad()] * 2])
    source = torch.tensor([[dictionary.eos()] + ids[:-1] + [dictionary.pad()] * 2])
    counts = TextUnits(dictionary, symbols).count(source, target, dictionary.pad())
    assert counts == {"nwords": 1 + words, "nchars": 1 + characters, "nbytes": 1 + size}


class Numbers(torch.utils.data.Dataset):
    """Stands for the blocks of a text."""

    batches = staticmethod(lambda: [[0], [1], [2]])
    collater = staticmethod(sum)
    __getitem__ = staticmethod(lambda index: index)
    __len__ = staticmethod(lambda: 3)


@needs_current_fairseq
def test_the_workers_of_an_epoch_end_with_it():
    """Those that are left to Python's collection of garbage are waited for, 5 seconds each."""
    before = set(multiprocessing.active_children())
    iterator = StreamIterator(Numbers(), StreamMemories(), 1, 1, num_workers=1, buffer_size=4)
    for _ in range(2):
        assert list(iterator.next_epoch_itr()) == [0, 1, 2]
        limit = time.time() + 10
        while set(multiprocessing.active_children()) > before:
            assert time.time() < limit
            time.sleep(0.05)


def test_a_block_that_fails_leaves_no_memory():
    """fairseq tries a batch of a validation again that had no room: not from the memory that it left itself."""
    task, memories = SimpleNamespace(model_has_memory=True), StreamMemories(SimpleNamespace(blocks=3))
    for block in (0, 1):
        sample = {"block": block, "group": 5, "net_input": {}}
        with StreamTask.carry_memory(task, sample, memories):
            carried = sample["net_input"]["carried"]
    assert memories.of_group == {5: carried} and carried.block == 2
    with pytest.raises(MemoryError), StreamTask.carry_memory(task, {**sample, "block": 2}, memories):
        raise MemoryError
    assert not memories.of_group
