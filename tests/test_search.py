"""The search that fairseq's commands run for feedback models, beside fairseq's own."""

import argparse
import math

import pytest
import torch
from fairseq import search
from fairseq.sequence_generator import SequenceGenerator, SequenceGeneratorWithAlignment
from fairseq.sequence_scorer import SequenceScorer
from helpers import Task, make_batch, make_dictionary, make_language_model, make_model, make_transformer

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.generation.generator import FeedbackGenerator
from fairseq_feedback.generation.top import top

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def dictionary():
    return make_dictionary(300)


def likely_to_end(model, dictionary, times=4):
    model.double()
    with torch.no_grad():
        model.decoder.output_projection.weight[dictionary.eos()] *= times
    return model


def make_sample(dictionary, rows=7, source=9):
    src, lengths, _ = make_batch(dictionary, rows, source)
    return {"id": torch.arange(rows), "net_input": {"src_tokens": src, "src_lengths": lengths}}


def assert_same(got, want, known=("score", "positional_scores", "attention"), **tolerance):
    """Hypotheses in the same order, and all that fairseq knows of them."""
    assert len(got) == len(want)
    for ours, theirs in zip(got, want):
        assert [h["tokens"].tolist() for h in ours] == [h["tokens"].tolist() for h in theirs]
        for a, b in zip(ours, theirs):
            assert a.keys() == b.keys()
            for name in known:
                torch.testing.assert_close(a[name], b[name], check_dtype=False, **tolerance)


def both(models, dictionary, sample, inputs=None, **options):
    options = {"beam_size": 5, "max_len_a": 1, "max_len_b": 8, **options}
    return [
        kind(models, dictionary, **options).generate(models, sample, **(inputs or {}))
        for kind in (FeedbackGenerator, SequenceGenerator)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(beam_size=1),
        dict(min_len=6),
        dict(max_len_a=0, max_len_b=5, min_len=5),
        dict(len_penalty=0.3),
        dict(len_penalty=2.0, normalize_scores=False),
        dict(no_repeat_ngram_size=2),
        dict(temperature=2.0),
        dict(unk_penalty=3.0),
        dict(tokens_to_suppress=("w3", "w7")),
        dict(eos=9),
    ],
    ids=str,
)
@pytest.mark.parametrize("prefix", [None, "same", "ragged"])
def test_finds_what_fairseq_finds(options, prefix, dictionary):
    model = likely_to_end(make_model(dictionary=dictionary, seed=5), dictionary, times=3)
    sample = make_sample(dictionary)
    inputs, known = {}, ["score", "positional_scores", "attention"]
    if prefix:
        forced = torch.randint(dictionary.nspecial, len(dictionary), (7, 3), generator=torch.Generator().manual_seed(1))
        if prefix == "ragged":
            forced[::2, 1:] = dictionary.pad()
            forced[1, 2] = dictionary.eos()
            known.remove("attention")  # of a forced end: fairseq copies the first beam's words, but not its attention
        inputs["prefix_tokens"] = forced
    got, want = both([model], dictionary, sample, inputs, **options)
    assert_same(got, want, known, rtol=1e-5, atol=1e-6)
    if not options and not prefix:
        assert len({len(h["tokens"]) for nbest in want for h in nbest}) > 3  # they do end at different times


@pytest.mark.parametrize("members", ["ff", "ft", "tf", "t"])
def test_ensembles(members, dictionary):
    make = {"f": make_model, "t": make_transformer}
    models = [likely_to_end(make[m](dictionary=dictionary, seed=i), dictionary) for i, m in enumerate(members)]
    got, want = both(models, dictionary, make_sample(dictionary))
    assert_same(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_language_model(beam_size, dictionary):
    model = likely_to_end(make_language_model(dictionary=dictionary, memory_span=6), dictionary)
    sample = make_sample(dictionary, source=1)
    prompt = torch.randint(dictionary.nspecial, len(dictionary), (7, 4), generator=torch.Generator().manual_seed(2))
    got, want = both([model], dictionary, sample, dict(prefix_tokens=prompt), beam_size=beam_size, max_len_b=30)
    assert_same(got, want, rtol=1e-5, atol=1e-6)


def test_what_is_not_plain_beam_search_is_fairseqs(dictionary):
    model = likely_to_end(make_model(dictionary=dictionary), dictionary)
    sample = make_sample(dictionary)
    strategies = [
        lambda: search.Sampling(dictionary, sampling_topk=5),
        lambda: search.DiverseBeamSearch(dictionary, num_groups=5, diversity_strength=0.5),
        lambda: search.PrefixConstrainedBeamSearch(dictionary, lambda row, tokens: [2, 5, 6, 7, 8, 9, 10, 11]),
    ]
    for strategy in strategies:
        found = []
        for kind in (FeedbackGenerator, SequenceGenerator):
            torch.manual_seed(1)
            made = kind([model], dictionary, beam_size=5, max_len_b=6, search_strategy=strategy())
            found.append(made.generate([model], sample))
        assert_same(*found, rtol=1e-5, atol=1e-6)


def test_few_words_are_left_to_fairseq():
    dictionary = make_dictionary(6)  # ten entries: fewer than the candidates of a beam of 5
    model = make_model(dictionary=dictionary).double()
    got, want = both([model], dictionary, make_sample(dictionary))
    assert_same(got, want, rtol=1e-5, atol=1e-6)


def test_a_longer_minimum_than_maximum_is_a_sentence(dictionary):
    model = make_model(dictionary=dictionary)
    made = FeedbackGenerator([model], dictionary, min_len=30, max_len_b=20)
    with pytest.raises(FeedbackError, match="--min-len 30 is more than the longest output allowed here, 20"):
        made.generate([model], make_sample(dictionary))


def test_a_model_without_finite_scores_is_a_sentence(dictionary):
    model = make_model(dictionary=dictionary)
    with torch.no_grad():
        model.decoder.output_projection.weight.fill_(math.nan)
    with pytest.raises(FeedbackError, match="no hypothesis has a finite score"):
        FeedbackGenerator([model], dictionary, max_len_b=4).generate([model], make_sample(dictionary))


@pytest.mark.parametrize(
    "options, kind",
    [
        ({}, FeedbackGenerator),
        (dict(sampling=True), FeedbackGenerator),
        (dict(print_alignment="hard"), SequenceGeneratorWithAlignment),
        (dict(score_reference=True), SequenceScorer),
    ],
    ids=str,
)
def test_tasks_build_it_for_feedback_models(options, kind, dictionary):
    task, args = Task(dictionary), argparse.Namespace(**options)
    feedback, transformer = make_model(dictionary=dictionary), make_transformer(dictionary=dictionary)
    assert type(task.build_generator([feedback], args)) is kind
    assert type(task.build_generator([transformer, feedback], args)) is kind
    assert type(task.build_generator([transformer], args)) is (SequenceGenerator if kind is FeedbackGenerator else kind)


def test_the_source_is_not_repeated_for_beams(dictionary, monkeypatch):
    model = make_model(dictionary=dictionary)
    repeated = []
    monkeypatch.setattr(model.encoder, "reorder_encoder_out", lambda *args: repeated.append(args))
    sample = make_sample(dictionary)
    FeedbackGenerator([model], dictionary, beam_size=3, max_len_b=5).generate([model], sample)
    assert not repeated


@pytest.mark.parametrize("width", [11, 100, 999, 1024, 7919])
@pytest.mark.parametrize("k", [1, 2, 7, 10])
def test_top(width, k):
    x = torch.randn(5, width, generator=torch.Generator().manual_seed(width + k))
    x[1, -1] = 9.0  # beyond the last group, if there is such a place
    x[2, :2] = torch.tensor([8.0, 9.0])
    x[3, 3:] = -math.inf
    for each, wanted in zip(top(x, k), x.topk(k, dim=1)):
        if each.dtype == torch.long:  # between equal values any place will do
            finite = x.topk(k, dim=1)[0].isfinite()
            each, wanted = each[finite], wanted[finite]
        assert torch.equal(each, wanted)
