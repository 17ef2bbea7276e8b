"""Generators with our model, against a slow search that keeps no state between steps."""

import argparse
import copy

import pytest
import torch
from fairseq import search
from fairseq.dataclass.configs import GenerationConfig
from fairseq.sequence_generator import SequenceGenerator, SequenceGeneratorWithAlignment
from fairseq.sequence_scorer import SequenceScorer
from fairseq.token_generation_constraints import pack_constraints
from helpers import (
    VARIANTS,
    make_batch,
    make_dictionary,
    make_model,
    make_transformer,
    needs_current_fairseq,
)

from fairseq_feedback.generation.generator import FeedbackGenerator

pytestmark = pytest.mark.core

# fairseq takes the softmax in float32, and sums of its scores lose some more.
ATOL = 1e-4

# Weights with which sentences end at different times; random ones seldom do that.
SEEDS = dict(
    plain=2,
    pre_norm=3,
    span_3=2,
    unshared=2,
    unshared_pre_norm=2,
    no_cross_attention=5,
    learned_positions=5,
    one_layer=5,
    adaptive_softmax=5,
)


@pytest.fixture(scope="module")
def dictionary():
    return make_dictionary()


@pytest.fixture(scope="module")
def model(dictionary):
    return make_ending_model(dictionary)


@pytest.fixture
def sample(dictionary):
    return make_sample(dictionary)


def make_ending_model(dictionary, variant="plain", make=make_model, seed=None, **options):
    """A float64 model that does end sentences: with random weights <eos> is too unlikely."""
    seed = SEEDS[variant] if seed is None else seed
    model = make(dictionary=dictionary, seed=seed, **VARIANTS[variant], **options).double()
    if model.decoder.adaptive_softmax is None:
        with torch.no_grad():
            model.decoder.output_projection.weight[dictionary.eos()] *= 5
    return model


def make_sample(dictionary, rows=4, source=8, ragged=True, seed=1):
    src, lengths, _ = make_batch(dictionary, rows, source, ragged=ragged, seed=seed)
    net_input = {"src_tokens": src, "src_lengths": lengths}
    return {"id": torch.arange(rows), "net_input": net_input}


def sentences(sample):
    """The source sentences without padding, (1, S) each."""
    net_input = sample["net_input"]
    rows = zip(net_input["src_tokens"], net_input["src_lengths"])
    return [src[None, :length] for src, length in rows]


def generate(models, dictionary, sample, generator=FeedbackGenerator, inputs=None, **options):
    models = models if isinstance(models, list) else [models]
    made = generator(models, dictionary, **{"beam_size": 3, "max_len_b": 12, **options})
    return made.generate(models, sample, **(inputs or {}))


def log_probs(models, src, prev, temperature=1.0):
    """log p (B, T, V) under the mean of the models' probabilities: teacher forcing, no state."""
    models = models if isinstance(models, list) else [models]
    src = src.expand(len(prev), -1)
    lengths = torch.full((len(prev),), src.size(1))
    probs = []
    with torch.no_grad():
        for model in models:
            logits, extra = model(src, lengths, prev)
            probs.append(model.get_normalized_probs((logits / temperature, extra), log_probs=False))
    return torch.stack(probs).mean(dim=0).log()


def forced_scores(models, src, tokens, start, temperature=1.0):
    """log p of every one of these tokens."""
    prev = torch.cat([tokens.new_tensor([start]), tokens[:-1]])
    lprobs = log_probs(models, src, prev[None], temperature)[0]
    return lprobs.gather(1, tokens[:, None])[:, 0]


def assert_scores_are_forced(models, dictionary, sample, hypos, temperature=1.0, atol=ATOL):
    """A hypothesis that was given another one's past, or source, would not have these scores."""
    assert len(hypos) == len(sentences(sample))
    for src, nbest in zip(sentences(sample), hypos):
        assert len(nbest) > 0
        for hypo in nbest:
            want = forced_scores(models, src, hypo["tokens"], dictionary.eos(), temperature)
            torch.testing.assert_close(hypo["positional_scores"], want, rtol=0, atol=atol)


def search_slowly(
    models,
    dictionary,
    src,
    beam,
    max_len,
    min_len=1,
    len_penalty=1.0,
    unk_penalty=0.0,
    temperature=1.0,
    normalize_scores=True,
    start=None,
    prefix=(),
):
    """Beam search of one sentence -> (score, tokens, positional scores) of each, best first."""
    eos = dictionary.eos()
    alive = [([eos if start is None else start], [])]  # tokens, and the score of each but the first
    ended = []
    for step in range(max_len + 1):
        prev = torch.tensor([tokens for tokens, _ in alive])
        lprobs = log_probs(models, src, prev, temperature)[:, -1]
        lprobs[:, dictionary.unk()] -= unk_penalty
        candidates = []
        for (tokens, scores), row in zip(alive, lprobs.tolist()):
            for word, lprob in enumerate(row):
                if step < len(prefix):  # where it is padding, every word may follow, even the end
                    allowed = prefix[step] in (word, dictionary.pad())
                else:
                    allowed = word == eos if step == max_len else word != eos or step >= min_len
                if allowed and word != dictionary.pad():
                    candidates.append((tokens + [word], scores + [lprob]))
        candidates.sort(key=lambda c: sum(c[1]), reverse=True)
        # An end counts among the best `beam`; of what does not end, the best `beam` go on.
        ended += [c for c in candidates[:beam] if c[0][-1] == eos]
        if len(ended) >= beam or step == max_len:
            break
        alive = [c for c in candidates[: 2 * beam] if c[0][-1] != eos][:beam]
    hypos = []
    for tokens, scores in ended[:beam]:
        length = len(scores) ** len_penalty if normalize_scores else 1
        hypos.append((sum(scores) / length, tokens[1:], scores))
    return sorted(hypos, reverse=True)


def assert_found(hypos, wanted, atol=ATOL):
    assert [h["tokens"].tolist() for h in hypos] == [tokens for _, tokens, _ in wanted]
    for hypo, (score, _, scores) in zip(hypos, wanted):
        assert abs(hypo["score"].item() - score) < atol
        want = torch.tensor(scores, dtype=hypo["positional_scores"].dtype)
        torch.testing.assert_close(hypo["positional_scores"], want, rtol=0, atol=atol)


def assert_same_hypos(got, want, atol=ATOL):
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert [h["tokens"].tolist() for h in a] == [h["tokens"].tolist() for h in b]
        for x, y in zip(a, b):
            for name in ("score", "positional_scores"):
                torch.testing.assert_close(x[name], y[name], rtol=0, atol=atol)


def longest(hypos):
    """The step after which each sentence left the batch."""
    return [max(len(h["tokens"]) for h in nbest) for nbest in hypos]


# The search itself


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
    prefix = torch.randint(
        dictionary.nspecial, len(dictionary), (len(sentences(sample)), length), generator=generator
    )
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


# Several models


@pytest.mark.parametrize("kinds", ["ff", "ft", "tf"])
@pytest.mark.parametrize("beam", [1, 3])
def test_ensembles(kinds, beam, dictionary, sample):
    makers = {"f": make_model, "t": make_transformer}
    models = [
        make_ending_model(dictionary, make=makers[kind], seed=seed)
        for seed, kind in enumerate(kinds, 2)
    ]
    hypos = generate(models, dictionary, sample, beam_size=beam)
    for src, nbest in zip(sentences(sample), hypos):
        assert_found(nbest, search_slowly(models, dictionary, src, beam, max_len=12))


@pytest.mark.parametrize("kinds", ["f", "ff", "ft"])
@pytest.mark.parametrize("softmax_batch", [None, 5])
def test_scorer_is_teacher_forcing(softmax_batch, kinds, dictionary):
    makers = {"f": make_model, "t": make_transformer}
    models = [
        makers[kind](dictionary=dictionary, seed=seed).double() for seed, kind in enumerate(kinds)
    ]
    src, lengths, prev = make_batch(dictionary, rows=4)
    ends = torch.full((4, 1), dictionary.pad())
    target = torch.cat([prev[:, 1:], ends], dim=1)
    target[torch.arange(4), prev.ne(dictionary.pad()).sum(dim=1) - 1] = dictionary.eos()
    net_input = {"src_tokens": src, "src_lengths": lengths, "prev_output_tokens": prev}
    sample = {"net_input": net_input, "target": target}
    scorer = SequenceScorer(dictionary, softmax_batch=softmax_batch)
    hypos = scorer.generate(models, sample)
    assert_scores_are_forced(models, dictionary, sample, hypos)
    for row, (hypo,) in enumerate(hypos):
        assert hypo["tokens"].tolist() == target[row, target[row] != dictionary.pad()].tolist()
        torch.testing.assert_close(hypo["score"], hypo["positional_scores"].mean())


# Preparing for inference, and the attention


def generation_config(**options):
    """What fairseq-generate hands to prepare_for_inference_."""
    return argparse.Namespace(generation=GenerationConfig(**options))


@pytest.mark.parametrize("variant", ["plain", "unshared", "no_cross_attention"])
def test_preparing_for_inference_changes_no_result(variant, dictionary, sample):
    want = generate(make_ending_model(dictionary, variant), dictionary, sample)
    fast = make_ending_model(dictionary, variant)
    fast.make_generation_fast_()
    prepared = make_ending_model(dictionary, variant)
    prepared.prepare_for_inference_(generation_config(beam=3))
    for model in (fast, prepared):
        assert_same_hypos(generate(model, dictionary, sample), want)
        with pytest.raises(RuntimeError, match="cannot train after make_generation_fast"):
            model.train()


def test_attention_is_returned_as_the_host_does(dictionary, sample):
    def attentions(model):
        src, lengths = sample["net_input"]["src_tokens"], sample["net_input"]["src_lengths"]
        forced = model(src, lengths, src)[1]["attn"][0]
        return [h["attention"] for n in generate(model, dictionary, sample) for h in n], forced

    hypos, forced = attentions(make_ending_model(dictionary))
    assert all(a.numel() > 0 for a in hypos) and forced is not None
    # Prepared without an alignment in mind, as by from_pretrained, and asked for one later.
    for model in (make_ending_model(dictionary), make_transformer(dictionary=dictionary)):
        model.prepare_for_inference_(generation_config(print_alignment=None))
        hypos, forced = attentions(model)
        assert all(a.numel() > 0 for a in hypos) and forced is not None
    hypos, forced = attentions(make_ending_model(dictionary, "no_cross_attention"))
    assert all(a.numel() == 0 for a in hypos) and forced is None


def test_attention_of_a_hypothesis_is_its_own(model, dictionary, sample):
    hypos = generate(model, dictionary, sample)
    for src, nbest in zip(sentences(sample), hypos):
        words = src.size(1)
        for hypo in nbest:
            attn = hypo["attention"]  # S x T
            assert attn.shape == (8, len(hypo["tokens"]))
            torch.testing.assert_close(attn.sum(dim=0), torch.ones_like(attn[0]))
            assert not attn[words:].any()
            prev = torch.cat([torch.tensor([dictionary.eos()]), hypo["tokens"][:-1]])
            with torch.no_grad():
                _, extra = model(src, torch.tensor([words]), prev[None])
            want = extra["attn"][0][0].t().float()  # the generator keeps float32
            torch.testing.assert_close(attn[:words].float(), want, rtol=0, atol=1e-6)


def test_alignments(model, dictionary, sample):
    hard = generate(model, dictionary, sample, SequenceGeneratorWithAlignment)
    assert_same_hypos(hard, generate(model, dictionary, sample))
    pairs = 0
    for src, nbest in zip(sentences(sample), hard):
        for hypo in nbest:
            words = len(hypo["tokens"]) - 1
            assert [t for _, t in hypo["alignment"]] == list(range(words))
            assert all(0 <= s < src.size(1) - 1 for s, _ in hypo["alignment"])
            pairs += words
    assert pairs > 0
    soft = generate(
        model, dictionary, sample, SequenceGeneratorWithAlignment, print_alignment="soft"
    )
    for src, nbest in zip(sentences(sample), soft):
        for hypo in nbest:
            assert len(hypo["alignment"]) == len(hypo["tokens"])
            for row in hypo["alignment"]:
                assert len(row) == src.size(1)
                assert abs(sum(float(p) for p in row) - 1) < 1e-5


# Beams of a sentence share the encoder's keys and values


def record_cross_rows(model, monkeypatch):
    """(rows decoded, rows of encoder keys) of the cache whenever a search reorders it."""
    rows = []
    reorder = model.decoder.reorder_incremental_state

    def recorded(incremental_state, order):
        reorder(incremental_state, order)
        for state in incremental_state.values():
            rows.append((len(order), state["cross_keys"].size(1)))

    monkeypatch.setattr(model.decoder, "reorder_incremental_state", recorded)
    return rows


@pytest.mark.parametrize("strategy", [None, "sampling"])
def test_encoder_keys_are_kept_once_per_sentence(strategy, dictionary, monkeypatch):
    sample = make_sample(dictionary, rows=6)
    model = make_ending_model(dictionary)
    alone = copy.deepcopy(model)
    alone.set_beam_size = lambda beam_size: None  # so that nothing is shared
    shared_rows = record_cross_rows(model, monkeypatch)
    own_rows = record_cross_rows(alone, monkeypatch)
    results = []
    for each in (model, alone):
        torch.manual_seed(1)
        chosen = search.Sampling(dictionary, sampling_topk=5) if strategy else None
        options = dict(beam_size=5, search_strategy=chosen, generator=SequenceGenerator)
        results.append(generate(each, dictionary, sample, **options))
    assert_same_hypos(*results)
    assert len(shared_rows) > 3
    assert len({rows for rows, _ in shared_rows}) > 1  # sentences left the batch
    assert all(rows == 5 * cross for rows, cross in shared_rows)
    assert own_rows == [(rows, rows) for rows, _ in shared_rows]


@pytest.mark.parametrize("ragged", [False, True])
def test_beam_size_of_an_earlier_search_does_no_harm(ragged, dictionary):
    sample = make_sample(dictionary, rows=5, ragged=ragged)
    want = generate(make_ending_model(dictionary), dictionary, sample, beam_size=1)
    model = make_ending_model(dictionary)
    generate(model, dictionary, sample, beam_size=5)
    assert model.decoder.beam_size == 5  # fairseq announces no beam of 1
    assert_same_hypos(generate(model, dictionary, sample, beam_size=1), want)
    want = generate(make_ending_model(dictionary), dictionary, sample, beam_size=3)
    assert_same_hypos(generate(model, dictionary, sample, beam_size=3), want)


def test_one_source_given_five_times_is_still_five_sentences(dictionary):
    # With a stale beam size they may share the encoder's keys, until they end at different times.
    src = make_sample(dictionary)["net_input"]["src_tokens"][:1].repeat(5, 1)
    sample = {"net_input": {"src_tokens": src, "src_lengths": torch.full((5,), src.size(1))}}
    prefix = torch.arange(5)[:, None] + dictionary.nspecial
    inputs = {"prefix_tokens": prefix}
    options = dict(beam_size=1, max_len_b=40, inputs=inputs)
    want = generate(make_ending_model(dictionary), dictionary, sample, **options)
    assert len(set(longest(want))) > 1
    model = make_ending_model(dictionary)
    model.set_beam_size(5)
    assert_same_hypos(generate(model, dictionary, sample, **options), want)


# Dropout in inference


def dropped_model(dictionary, **options):
    dropout = dict(dropout=0.3, attention_dropout=0.2, activation_dropout=0.2)
    model = make_ending_model(dictionary, **dropout)
    model.make_generation_fast_(**options)
    return model


def encoder_and_decoder_vary(model, sample):
    """Whether two runs differ: of the encoder, and of the decoder on one output of the encoder."""
    src, lengths = sample["net_input"]["src_tokens"], sample["net_input"]["src_lengths"]
    with torch.no_grad():
        encoded = [model.encoder(src, src_lengths=lengths) for _ in range(2)]
        decoded = [model.decoder(src, encoder_out=encoded[0])[0] for _ in range(2)]
        stepped = [
            model.decoder(src, encoder_out=encoded[0], incremental_state={})[0] for _ in range(2)
        ]
    outputs = [e["encoder_out"][0] for e in encoded]
    assert torch.equal(*decoded) == torch.equal(*stepped)
    return not torch.equal(*outputs), not torch.equal(*decoded)


def test_retained_dropout(dictionary, sample):
    model = dropped_model(dictionary, retain_dropout=True)
    torch.manual_seed(1)
    first = generate(model, dictionary, sample, beam_size=2)
    second = generate(model, dictionary, sample, beam_size=2)
    assert [h["score"] for h in first[0]] != [h["score"] for h in second[0]]
    torch.manual_seed(1)
    assert_same_hypos(generate(model, dictionary, sample, beam_size=2), first)


@pytest.mark.parametrize(
    "options, varies",
    [
        (dict(), (False, False)),
        (dict(retain_dropout=True), (True, True)),
        (
            dict(retain_dropout=True, retain_dropout_modules=["FeedbackDecoderLayer"]),
            (False, True),
        ),
        (dict(retain_dropout=True, retain_dropout_modules=["FeedbackDecoder"]), (False, True)),
        (
            dict(
                retain_dropout=True,
                retain_dropout_modules=["TransformerEncoder", "TransformerEncoderLayer"],
            ),
            (True, False),
        ),
    ],
    ids=["none", "all", "decoder_layers", "decoder_embedding", "encoder"],
)
def test_retained_dropout_is_that_of_the_named_modules(options, varies, dictionary, sample):
    model = dropped_model(dictionary, **options)
    assert encoder_and_decoder_vary(model, sample) == varies
    decoder = model.decoder
    layers = options.get("retain_dropout_modules", ["FeedbackDecoderLayer", "FeedbackDecoder"])
    wanted = bool(options) and "FeedbackDecoderLayer" in layers
    for part in (decoder.layer_dropout, decoder.attention_dropout, decoder.activation_dropout):
        assert part.apply_during_inference == wanted
    wanted = bool(options) and "FeedbackDecoder" in layers
    assert decoder.dropout_module.apply_during_inference == wanted


# Lower precision


@pytest.mark.parametrize("variant", ["plain", "unshared_pre_norm"])
@pytest.mark.parametrize("dtype, atol", [("half", 0.05), ("bfloat16", 0.2)])
def test_half_precision(dtype, atol, variant, dictionary, sample):
    model = getattr(make_ending_model(dictionary, variant), dtype)()
    hypos = generate(model, dictionary, sample)
    assert_scores_are_forced(model.float(), dictionary, sample, float_scores(hypos), atol=atol)


def float_scores(hypos):
    for nbest in hypos:
        for hypo in nbest:
            hypo["positional_scores"] = hypo["positional_scores"].cpu().float()
            hypo["tokens"] = hypo["tokens"].cpu()
    return hypos


def to_cuda(sample):
    return {"net_input": {k: v.cuda() for k, v in sample["net_input"].items()}}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("variant", ["plain", "unshared_pre_norm"])
@pytest.mark.parametrize("dtype, atol", [("double", ATOL), ("half", 0.05), ("bfloat16", 0.2)])
def test_gpu(dtype, atol, variant, dictionary, sample):
    model = getattr(make_ending_model(dictionary, variant), dtype)().cuda()
    hypos = generate(model, dictionary, to_cuda(sample), beam_size=5)
    model = model.cpu().float()
    assert_scores_are_forced(model, dictionary, sample, float_scores(hypos), atol=atol)
