"""Generators with our model find what a slow search without state finds."""

import pytest
import torch
from fairseq import search
from fairseq.token_generation_constraints import pack_constraints
from generation import (
    ATOL,
    SEEDS,
    assert_found,
    assert_same_hypos,
    assert_scores_are_forced,
    forced_scores,
    generate,
    longest,
    make_ending_model,
    make_sample,
    search_slowly,
    sentences,
)
from helpers import needs_current_fairseq

pytestmark = pytest.mark.core


# Beam search


@pytest.mark.parametrize("beam", [1, 3, 5])
@pytest.mark.parametrize("variant", SEEDS)
def test_generator_finds_what_a_search_without_state_finds(variant, beam, dictionary, sample):
    model = make_ending_model(dictionary, variant)
    hypos = generate(model, dictionary, sample, beam_size=beam)
    if variant != "no_cross_attention":  # which gives every sentence the same
        assert len(set(longest(hypos))) > 1
    for src, nbest in zip(sentences(sample), hypos):
        assert_found(nbest, search_slowly(model, dictionary, src, beam, max_len=12))


@pytest.mark.parametrize("beam", [1, 5])
def test_generator_finds_the_same_in_float32(beam, dictionary, sample):
    model = make_ending_model(dictionary).float()
    hypos = generate(model, dictionary, sample, beam_size=beam)
    for src, nbest in zip(sentences(sample), hypos):
        assert_found(nbest, search_slowly(model, dictionary, src, beam, max_len=12))


@pytest.mark.parametrize("beam", [1, 3])
def test_rows_leave_the_batch_as_sentences_finish(beam, model, dictionary):
    sample = make_sample(dictionary, rows=8, source=10)
    hypos = generate(model, dictionary, sample, beam_size=beam, max_len_b=25)
    assert len(set(longest(hypos))) >= 3  # so the batch shrank at least twice
    assert_scores_are_forced(model, dictionary, sample, hypos)
    for row, src in enumerate(sentences(sample)):
        alone = {"net_input": {"src_tokens": src, "src_lengths": torch.tensor([src.size(1)])}}
        own = generate(model, dictionary, alone, beam_size=beam, max_len_b=25)
        assert_same_hypos(own, hypos[row : row + 1])


@pytest.mark.parametrize(
    "options",
    [
        dict(max_len_b=3),
        dict(max_len_b=6, min_len=6),
        dict(min_len=5),
        dict(len_penalty=0.3),
        dict(len_penalty=2.0),
        dict(normalize_scores=False),
        dict(unk_penalty=2.0),
        dict(unk_penalty=-3.0),
        dict(temperature=0.5),
        dict(temperature=1.7),
    ],
    ids=lambda options: "-".join(f"{k}={v}" for k, v in options.items()),
)
def test_options_of_the_search(options, model, dictionary, sample):
    hypos = generate(model, dictionary, sample, **options)
    wanted = dict(options)
    max_len = wanted.pop("max_len_b", 12)
    for src, nbest in zip(sentences(sample), hypos):
        assert_found(nbest, search_slowly(model, dictionary, src, 3, max_len, **wanted))
        for hypo in nbest:
            assert options.get("min_len", 1) < len(hypo["tokens"]) <= max_len + 1
    if "unk_penalty" in options:
        unknown = sum((h["tokens"] == dictionary.unk()).sum() for nbest in hypos for h in nbest)
        assert bool(unknown) == (options["unk_penalty"] < 0)


def test_max_len_grows_with_the_source(model, dictionary, sample):
    hypos = generate(model, dictionary, sample, max_len_a=0.5, max_len_b=1)
    for src, nbest in zip(sentences(sample), hypos):  # of the longest source: 8 / 2 + 1
        assert_found(nbest, search_slowly(model, dictionary, src, 3, max_len=5))


@needs_current_fairseq
def test_match_source_len(model, dictionary, sample):
    hypos = generate(model, dictionary, sample, match_source_len=True, min_len=4)
    assert_scores_are_forced(model, dictionary, sample, hypos)
    too_long = 0
    for src, nbest in zip(sentences(sample), hypos):
        wanted = search_slowly(model, dictionary, src, 3, max_len=8, min_len=4)
        found = {tuple(h["tokens"].tolist()): h["score"].item() for h in nbest}
        assert set(found) == {tuple(tokens) for _, tokens, _ in wanted}
        for score, tokens, _ in wanted:
            if len(tokens) - 1 > src.size(1):
                too_long += 1
                assert found[tuple(tokens)] == -float("inf")
            else:
                assert abs(found[tuple(tokens)] - score) < ATOL
    assert too_long > 0


def test_another_first_token(model, dictionary, sample):
    word = dictionary.index("w5")
    hypos = generate(model, dictionary, sample, inputs={"bos_token": word})
    for src, nbest in zip(sentences(sample), hypos):
        assert_found(nbest, search_slowly(model, dictionary, src, 3, max_len=12, start=word))


# Other ways to choose the next words: the scores say whether the rows kept their own past


@pytest.mark.parametrize(
    "options",
    [
        dict(sampling_topk=5),
        dict(sampling_topp=0.7),
        dict(),
    ],
    ids=["topk", "topp", "all_words"],
)
@pytest.mark.parametrize("variant", ["plain", "span_3", "unshared"])
def test_sampling(variant, options, dictionary, sample):
    model = make_ending_model(dictionary, variant)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        strategy = search.Sampling(dictionary, **options)
        hypos = generate(model, dictionary, sample, beam_size=4, search_strategy=strategy)
        assert_scores_are_forced(model, dictionary, sample, hypos)
        drawn.append([h["tokens"].tolist() for nbest in hypos for h in nbest])
    assert drawn[0] == drawn[1] != drawn[2]


def assert_scores_are_penalised(model, dictionary, sample, hypos, strength):
    """The diverse searches take whole multiples of their strength off the true scores."""
    penalised = 0
    for src, nbest in zip(sentences(sample), hypos):
        for hypo in nbest:
            true = forced_scores(model, src, hypo["tokens"], dictionary.eos())
            times = (true - hypo["positional_scores"]) / strength
            torch.testing.assert_close(times, times.round(), rtol=0, atol=1e-3)
            assert times.min() > -0.5
            penalised += int(times.max() > 0.5)
    assert penalised > 0


@pytest.mark.parametrize("variant", ["plain", "span_3"])
def test_diverse_beam_search(variant, dictionary, sample):
    model = make_ending_model(dictionary, variant)
    strategy = search.DiverseBeamSearch(dictionary, num_groups=2, diversity_strength=0.37)
    hypos = generate(model, dictionary, sample, beam_size=4, search_strategy=strategy)
    assert_scores_are_penalised(model, dictionary, sample, hypos, 0.37)


@pytest.mark.parametrize("variant", ["plain", "span_3"])
def test_diverse_siblings_search(variant, dictionary, sample):
    model = make_ending_model(dictionary, variant)
    strategy = search.DiverseSiblingsSearch(dictionary, diversity_rate=0.37)
    hypos = generate(model, dictionary, sample, search_strategy=strategy)
    assert_scores_are_penalised(model, dictionary, sample, hypos, 0.37)


def test_prefix_constrained_search(model, dictionary, sample):
    def allowed(sentence, tokens):
        """Words of one parity for each sentence, or the end."""
        words = range(dictionary.nspecial + int(sentence) % 2, len(dictionary), 2)
        return [dictionary.eos()] + list(words)

    strategy = search.PrefixConstrainedBeamSearch(dictionary, allowed)
    hypos = generate(model, dictionary, sample, search_strategy=strategy)
    assert_scores_are_forced(model, dictionary, sample, hypos)
    for sentence, nbest in enumerate(hypos):
        for hypo in nbest:
            assert set(hypo["tokens"].tolist()) <= set(allowed(sentence, None))


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("length", [1, 3])
def test_prefix_tokens(length, beam, model, dictionary, sample):
    generator = torch.Generator().manual_seed(4)
    prefix = torch.randint(dictionary.nspecial, len(dictionary), (len(sentences(sample)), length), generator=generator)
    if length == 3:  # ragged, and one sentence without any
        prefix[1, 2:] = dictionary.pad()
        prefix[2, 1:] = dictionary.pad()
        prefix[3] = dictionary.pad()
    options = dict(beam_size=beam, inputs={"prefix_tokens": prefix})
    hypos = generate(model, dictionary, sample, **options)
    for src, given, nbest in zip(sentences(sample), prefix.tolist(), hypos):
        assert_found(nbest, search_slowly(model, dictionary, src, beam, 12, prefix=given))
        given = [word for word in given if word != dictionary.pad()]
        for hypo in nbest:
            assert hypo["tokens"][: len(given)].tolist() == given


def test_prefix_that_ends_a_sentence(model, dictionary, sample):
    words = [dictionary.index(f"w{i}") for i in range(8)]
    prefix = torch.tensor(words).view(4, 2)
    prefix[1, 1] = dictionary.eos()
    hypos = generate(model, dictionary, sample, inputs={"prefix_tokens": prefix})
    assert [h["tokens"].tolist() for h in hypos[1]] == [[words[2], dictionary.eos()]] * 3
    assert_scores_are_forced(model, dictionary, sample, hypos)


@pytest.mark.parametrize("order", ["ordered", "unordered"])
def test_lexical_constraints(order, model, dictionary, sample):
    ids = [dictionary.index(f"w{i}") for i in range(8)]
    phrases = [[[ids[3]], [ids[1], ids[2]]], [[ids[0]]], [], [[ids[7]], [ids[4]]]]
    packed = pack_constraints([[torch.tensor(p) for p in row] for row in phrases])
    strategy = search.LexicallyConstrainedBeamSearch(dictionary, order)
    hypos = generate(
        model,
        dictionary,
        sample,
        beam_size=6,
        max_len_b=15,
        search_strategy=strategy,
        inputs={"constraints": packed},
    )
    assert_scores_are_forced(model, dictionary, sample, hypos)
    for wanted, nbest in zip(phrases, hypos):
        best = nbest[0]["tokens"].tolist()
        starts = []
        for phrase in wanted:
            places = [i for i in range(len(best)) if best[i : i + len(phrase)] == phrase]
            assert places
            starts.append(places)
        if order == "ordered" and len(wanted) == 2:
            assert min(starts[0]) < max(starts[1])


def repeats(tokens, n):
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(grams) - len(set(grams))


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_repeated_ngrams(n, beam, model, dictionary, sample):
    options = dict(beam_size=beam, min_len=8)
    free = generate(model, dictionary, sample, **options)
    assert any(repeats(h["tokens"].tolist(), n) for nbest in free for h in nbest)
    hypos = generate(model, dictionary, sample, no_repeat_ngram_size=n, **options)
    assert_scores_are_forced(model, dictionary, sample, hypos)
    assert not any(repeats(h["tokens"].tolist(), n) for nbest in hypos for h in nbest)


def test_encoder_whose_output_is_shorter_than_the_source(dictionary, sample, monkeypatch):
    model = make_ending_model(dictionary)
    forward = model.encoder.forward

    def every_second(*args, **kwargs):
        out = forward(*args, **kwargs)
        out["encoder_out"] = [out["encoder_out"][0][::2]]
        out["encoder_padding_mask"] = [out["encoder_padding_mask"][0][:, ::2]]
        return out

    monkeypatch.setattr(model.encoder, "forward", every_second)
    hypos = generate(model, dictionary, sample)
    assert_scores_are_forced(model, dictionary, sample, hypos)
    assert all(h["attention"].size(0) == 4 for nbest in hypos for h in nbest)
