"""TorchScript: a compiled model or generator gives what the eager one gives, also once reloaded."""

import io
from typing import Dict, List, Optional

import pytest
import torch
from fairseq import search
from fairseq.sequence_generator import EnsembleModel, SequenceGenerator
from helpers import (
    LM_VARIANTS,
    VARIANTS,
    make_batch,
    make_language_model,
    make_model,
    make_transformer,
)

pytestmark = [
    pytest.mark.core,
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning"),  # since torch 2.14
]

# fairseq's own transformer cannot be scripted with these either (test_what_the_host_cannot_script).
NOT_SCRIPTABLE = ["gelu_accurate", "checkpoint_activations", "adaptive_softmax"]


def save_and_load(scripted):
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def outputs(model, sample):
    """Logits, attention and memory."""
    with torch.no_grad():
        logits, extra = model(*sample)
    return logits, extra["attn"][0], extra["memory"][0]


def assert_same_outputs(got, want):
    for a, b in zip(got, want):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


# Which differ from others in numbers or in training only.
SAME_CODE = ["span_1", "span_3_unshared", "no_scale_embedding", "shared_output", "dropouts"]


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in NOT_SCRIPTABLE + SAME_CODE])
def test_model(variant, dictionary):
    model = make_model(dictionary=dictionary, **VARIANTS[variant])
    samples = [
        make_batch(dictionary),
        make_batch(dictionary, rows=2, source=5, target=4, ragged=False),
        make_batch(dictionary, rows=5, left_pad_target=True),
    ]
    scripted = torch.jit.script(model)
    # Several runs each: the first is recorded, and a later one is optimised by the record.
    for exported in (scripted, save_and_load(scripted)):
        for sample in samples:
            assert_same_outputs(outputs(exported, sample), outputs(model, sample))


class Steps(torch.nn.Module):
    """A decoder step by step."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        state: Dict[str, Dict[str, Optional[torch.Tensor]]] = {}
        found: List[torch.Tensor] = []
        for t in range(tokens.size(1)):
            found.append(self.decoder(tokens[:, : t + 1], None, state)[0])
        return torch.cat(found, dim=1)


@pytest.mark.parametrize(
    "variant", ["plain", "unshared", "adaptive_span", "output_bias", "recurrent", "own_adaptive_span"]
)
def test_decoder_of_a_language_model(variant, dictionary):
    """At once, from a memory, and step by step. (fairseq's language models can be scripted as decoders only, too.)"""
    decoder = make_language_model(dictionary=dictionary, **LM_VARIANTS[variant]).decoder
    _, _, tokens = make_batch(dictionary, target=12, ragged=False)
    scripted = torch.jit.script(decoder)
    for exported in (scripted, save_and_load(scripted)):
        with torch.no_grad():
            want, extra = decoder(tokens)
            torch.testing.assert_close(exported(tokens)[0], want, rtol=1e-5, atol=1e-5)
            memory = extra["memory"][0]
            want, _ = decoder(tokens[:, 3:], memory=memory[:3])
            torch.testing.assert_close(exported(tokens[:, 3:], memory=memory[:3])[0], want, rtol=1e-5, atol=1e-5)
    steps = torch.jit.script(Steps(decoder))
    torch.testing.assert_close(steps(tokens), decoder(tokens)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", NOT_SCRIPTABLE)
def test_what_the_host_cannot_script(variant, dictionary):
    for make in (make_transformer, make_model):
        with pytest.raises((RuntimeError, AttributeError)):
            torch.jit.script(make(dictionary=dictionary, **VARIANTS[variant]))


def test_training_of_a_scripted_model(dictionary):
    model = make_model(dictionary=dictionary, dropout=0.2, attention_dropout=0.1).train()
    scripted = torch.jit.script(model)
    sample = make_batch(dictionary)
    grads = []
    for each in (model, scripted):
        torch.manual_seed(3)
        model.zero_grad()
        logits, extra = each(*sample)
        assert extra["attn"][0] is None
        logits.pow(2).sum().backward()
        grads.append([p.grad.clone() for p in model.decoder.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_half_precision_of_a_scripted_model(dictionary):
    model = make_model(dictionary=dictionary).bfloat16()
    sample = make_batch(dictionary)
    got, want = outputs(torch.jit.script(model), sample), outputs(model, sample)
    for a, b in zip(got, want):
        assert a.dtype == b.dtype == torch.bfloat16
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


# The generators


# Random weights seldom end a sentence; these do.
SEEDS = dict(plain=2, pre_norm=3, unshared=2, span_3=2, learned_positions=5, no_cross_attention=5)


def make_sample(dictionary, rows=4, seed=1):
    src, lengths, _ = make_batch(dictionary, rows, source=8, seed=seed)
    return {"net_input": {"src_tokens": src, "src_lengths": lengths}}


def make_ending_models(dictionary, makers=(make_model,), variant="plain"):
    """Models that end some sentences sooner than others, so that rows leave the batch."""
    models = []
    for seed, make in enumerate(makers, SEEDS[variant]):
        models.append(make(dictionary=dictionary, seed=seed, **VARIANTS[variant]))
        with torch.no_grad():
            models[-1].decoder.output_projection.weight[dictionary.eos()] *= 5
    return models


def assert_same_hypos(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want):
        assert [h["tokens"].tolist() for h in a] == [h["tokens"].tolist() for h in b]
        for x, y in zip(a, b):
            for name in ("score", "positional_scores", "attention"):
                torch.testing.assert_close(x[name], y[name], rtol=1e-4, atol=1e-4)


def assert_generates_the_same(generator, dictionary, reload=True):
    exported = torch.jit.script(generator)
    if reload:
        exported = save_and_load(exported)
    ends = set()
    for sample in (make_sample(dictionary), make_sample(dictionary, rows=6, seed=2)):
        torch.manual_seed(1)
        want = generator.generate([], sample)
        torch.manual_seed(1)
        assert_same_hypos(exported(sample), want)
        ends.update(max(len(h["tokens"]) for h in nbest) for nbest in want)
    return ends


@pytest.mark.parametrize(
    "variant, beam",
    [
        ("plain", 1),
        ("plain", 3),
        ("plain", 5),
        ("pre_norm", 3),
        ("unshared", 3),
        ("span_3", 3),
        ("learned_positions", 3),
        ("no_cross_attention", 3),
    ],
)
def test_generator(variant, beam, dictionary):
    models = make_ending_models(dictionary, variant=variant)
    generator = SequenceGenerator(models, dictionary, beam_size=beam, max_len_b=12)
    ends = assert_generates_the_same(generator, dictionary)
    if variant != "no_cross_attention":  # which gives every sentence the same
        assert len(ends) > 1  # so rows left the batch


def test_generator_that_was_not_saved(dictionary):
    generator = SequenceGenerator(make_ending_models(dictionary), dictionary, beam_size=3, max_len_b=12)
    assert_generates_the_same(generator, dictionary, reload=False)


@pytest.mark.parametrize(
    "options",
    [
        dict(min_len=4, len_penalty=0.5, no_repeat_ngram_size=2),
        dict(temperature=1.5, unk_penalty=-2.0, normalize_scores=False),
    ],
    ids=lambda options: "-".join(options),
)
def test_options_of_a_scripted_generator(options, dictionary):
    models = make_ending_models(dictionary)
    generator = SequenceGenerator(models, dictionary, beam_size=3, max_len_b=12, **options)
    assert_generates_the_same(generator, dictionary)


def test_prefix_tokens_of_a_scripted_generator(dictionary):
    models = make_ending_models(dictionary)
    generator = SequenceGenerator(models, dictionary, beam_size=3, max_len_b=12)
    scripted = torch.jit.script(generator)
    sample = make_sample(dictionary)
    prefix = torch.tensor([[5, 6], [7, dictionary.pad()], [dictionary.pad()] * 2, [8, 9]])
    want = generator.generate([], sample, prefix_tokens=prefix)
    assert want[0][0]["tokens"][:2].tolist() == [5, 6]
    assert_same_hypos(save_and_load(scripted)(sample, prefix), want)


@pytest.mark.parametrize("name", ["diverse_beams", "topk", "topp"])
def test_other_searches_of_a_scripted_generator(name, dictionary):
    # DiverseSiblingsSearch is missing: fairseq's code for it is not TorchScript.
    if name == "diverse_beams":
        strategy = search.DiverseBeamSearch(dictionary, num_groups=2, diversity_strength=0.5)
    elif name == "topk":
        strategy = search.Sampling(dictionary, sampling_topk=5)
    else:
        strategy = search.Sampling(dictionary, sampling_topp=0.7)
    models = make_ending_models(dictionary)
    generator = SequenceGenerator(models, dictionary, beam_size=4, max_len_b=12, search_strategy=strategy)
    assert_generates_the_same(generator, dictionary)


@pytest.mark.parametrize("kinds, beam", [("ff", 3), pytest.param("ft", 3, marks=pytest.mark.slow), ("tf", 1)])
def test_ensembles(kinds, beam, dictionary):
    makers = [{"f": make_model, "t": make_transformer}[kind] for kind in kinds]
    models = make_ending_models(dictionary, makers)
    generator = SequenceGenerator(models, dictionary, beam_size=beam, max_len_b=12)
    assert_generates_the_same(generator, dictionary)


def test_ensemble_model(dictionary):
    models = make_ending_models(dictionary, [make_model, make_model])
    eager = EnsembleModel(models)
    sample = make_sample(dictionary)["net_input"]
    tokens = torch.tensor([[dictionary.eos(), 5, 6, 7]]).repeat(4, 1)
    exported = save_and_load(torch.jit.script(eager))
    with torch.no_grad():
        got = exported.forward_decoder(tokens, exported.forward_encoder(sample), [{}, {}])
        want = eager.forward_decoder(tokens, eager.forward_encoder(sample), [{}, {}])
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
