"""Beams of a sentence share slots of the memory and the encoder's keys, whoever searches."""

import pytest
import torch
from fairseq import search
from fairseq.sequence_generator import SequenceGenerator
from generation import (
    assert_found,
    assert_same_hypos,
    assert_scores_are_forced,
    generate,
    longest,
    make_ending_model,
    make_sample,
    search_slowly,
    sentences,
)
from helpers import make_language_model

from fairseq_feedback.kernels.decoding import cache

pytestmark = pytest.mark.core


def record_cross_rows(model, monkeypatch):
    """(rows decoded, rows of encoder keys) of the cache whenever a search reorders it."""
    rows = []
    reorder = model.decoder.reorder_incremental_state

    def recorded(incremental_state, order):
        reorder(incremental_state, order)
        for state in incremental_state.values():
            rows.append((len(order), state["cross_keys"].size(1)))
            assert cache.beams_together(state) == len(order) // state["cross_keys"].size(1)

    monkeypatch.setattr(model.decoder, "reorder_incremental_state", recorded)
    return rows


@pytest.mark.parametrize("strategy", [None, "sampling"])
def test_encoder_keys_are_kept_once_per_sentence(strategy, dictionary, monkeypatch):
    """By fairseq's own search, too, which repeats the encoder's output."""
    sample = make_sample(dictionary, rows=6)
    found, results = [], []
    for shared in (True, False):
        model = make_ending_model(dictionary)
        found.append(record_cross_rows(model, monkeypatch))
        if not shared:
            monkeypatch.setattr(cache, "copies", lambda order: 1)
        torch.manual_seed(1)
        chosen = search.Sampling(dictionary, sampling_topk=5) if strategy else None
        options = dict(beam_size=5, search_strategy=chosen, generator=SequenceGenerator)
        results.append(generate(model, dictionary, sample, **options))
    assert_same_hypos(*results)
    shared_rows, own_rows = found
    assert len(shared_rows) > 3
    assert len({rows for rows, _ in shared_rows}) > 1  # sentences left the batch
    assert all(rows == 5 * cross for rows, cross in shared_rows)
    assert own_rows == [(rows, rows) for rows, _ in shared_rows]


@pytest.mark.parametrize("kind", ["plain", "sampling"])
def test_beams_of_a_language_model_share_slots(kind, dictionary, monkeypatch):
    """No encoder's output says which rows are a sentence's."""
    model = make_language_model(dictionary=dictionary)
    together = []
    reorder = cache.reorder

    def recorded(state, *args):
        reorder(state, *args)
        together.append(cache.beams_together(state))

    monkeypatch.setattr(cache, "reorder", recorded)
    chosen = search.Sampling(dictionary, sampling_topk=5) if kind == "sampling" else None
    options = dict(beam_size=4, min_len=5, search_strategy=chosen, generator=SequenceGenerator)
    generate(model, dictionary, make_sample(dictionary, source=1), **options)
    assert len(together) > 4 and set(together) == {4}


@pytest.mark.parametrize("ragged", [False, True])
def test_beam_size_of_an_earlier_search_does_no_harm(ragged, dictionary):
    sample = make_sample(dictionary, rows=5, ragged=ragged)
    want = generate(make_ending_model(dictionary), dictionary, sample, beam_size=1)
    model = make_ending_model(dictionary)
    generate(model, dictionary, sample, beam_size=5)
    assert_same_hypos(generate(model, dictionary, sample, beam_size=1), want)
    want = generate(make_ending_model(dictionary), dictionary, sample, beam_size=3)
    assert_same_hypos(generate(model, dictionary, sample, beam_size=3), want)


@pytest.mark.parametrize("beam", [1, 5])
def test_one_source_given_five_times_is_still_five_sentences(beam, dictionary):
    src = make_sample(dictionary)["net_input"]["src_tokens"][:1].repeat(5, 1)
    sample = {"net_input": {"src_tokens": src, "src_lengths": torch.full((5,), src.size(1))}}
    prefix = torch.arange(5)[:, None] + dictionary.nspecial
    options = dict(beam_size=beam, max_len_b=40)
    model = make_ending_model(dictionary)
    got = generate(model, dictionary, sample, inputs={"prefix_tokens": prefix}, **options)
    assert len(set(longest(got))) > 1
    for row in range(5):
        one = {"net_input": {name: x[:1] for name, x in sample["net_input"].items()}}
        alone = generate(model, dictionary, one, inputs={"prefix_tokens": prefix[row : row + 1]}, **options)
        assert_same_hypos(got[row : row + 1], alone)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_prefix_that_is_the_end(beam, dictionary):
    """As that of an empty reference: the sentence has no other hypothesis, but may have that one more than once."""
    sample = make_sample(dictionary, rows=4, ragged=True)
    model, eos, pad = make_ending_model(dictionary), dictionary.eos(), dictionary.pad()
    prefix = torch.tensor([[pad, pad], [eos, pad], [5, eos], [6, 7]])
    got = generate(model, dictionary, sample, beam_size=beam, inputs={"prefix_tokens": prefix})
    for nbest, only in zip(got[1:3], ([eos], [5, eos])):
        assert nbest and all(h["tokens"].tolist() == only for h in nbest)
    assert_scores_are_forced([model], dictionary, sample, got)
    for row in (0, 3):
        want = search_slowly(model, dictionary, sentences(sample)[row], beam, max_len=12, prefix=prefix[row].tolist())
        assert_found(got[row], want)


def test_beams_that_see_nothing_but_themselves(dictionary, sample):
    """Where a step sees itself, a span of 1 leaves no slot that beams could share."""
    options = dict(memory_composition="own", unshared_memory_kv=True, memory_span=1)
    model = make_ending_model(dictionary, **options)
    for src, nbest in zip(sentences(sample), generate(model, dictionary, sample, beam_size=3)):
        assert_found(nbest, search_slowly(model, dictionary, src, 3, max_len=12))
