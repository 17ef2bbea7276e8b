"""Ensembles, models prepared for inference, attention, dropout and lower precision under generators."""

import argparse

import pytest
import torch
from fairseq.dataclass.configs import GenerationConfig
from fairseq.sequence_generator import SequenceGeneratorWithAlignment
from fairseq.sequence_scorer import SequenceScorer
from generation import (
    ATOL,
    assert_found,
    assert_same_hypos,
    assert_scores_are_forced,
    generate,
    make_ending_model,
    search_slowly,
    sentences,
)
from helpers import make_batch, make_model, make_transformer

pytestmark = pytest.mark.core


# Several models


@pytest.mark.parametrize("kinds", ["ff", "ft", "tf"])
@pytest.mark.parametrize("beam", [1, 3])
def test_ensembles(kinds, beam, dictionary, sample):
    makers = {"f": make_model, "t": make_transformer}
    models = [make_ending_model(dictionary, make=makers[kind], seed=seed) for seed, kind in enumerate(kinds, 2)]
    hypos = generate(models, dictionary, sample, beam_size=beam)
    for src, nbest in zip(sentences(sample), hypos):
        assert_found(nbest, search_slowly(models, dictionary, src, beam, max_len=12))


@pytest.mark.parametrize("kinds", ["f", "ff", "ft"])
@pytest.mark.parametrize("softmax_batch", [None, 5])
def test_scorer_is_teacher_forcing(softmax_batch, kinds, dictionary):
    makers = {"f": make_model, "t": make_transformer}
    models = [makers[kind](dictionary=dictionary, seed=seed).double() for seed, kind in enumerate(kinds)]
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
    soft = generate(model, dictionary, sample, SequenceGeneratorWithAlignment, print_alignment="soft")
    for src, nbest in zip(sentences(sample), soft):
        for hypo in nbest:
            assert len(hypo["alignment"]) == len(hypo["tokens"])
            for row in hypo["alignment"]:
                assert len(row) == src.size(1)
                assert abs(sum(float(p) for p in row) - 1) < 1e-5


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
        stepped = [model.decoder(src, encoder_out=encoded[0], incremental_state={})[0] for _ in range(2)]
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
