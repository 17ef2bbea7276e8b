"""What the memory is made of: options and parameters. The equations: test_literal.py and test_language_model.py."""

import argparse

import pytest
import torch
from fairseq.models.transformer_lm import TransformerLanguageModel, base_lm_architecture
from fairseq.sequence_generator import SequenceGenerator
from generation import assert_same_hypos, generate, make_ending_model, make_sample
from helpers import (
    SMALL_LM,
    Task,
    make_batch,
    make_dictionary,
    make_language_model,
    make_model,
    make_transformer,
    needs_current_fairseq,
)
from omegaconf import OmegaConf
from trained import is_idle

from fairseq_feedback.errors import FeedbackError

pytestmark = pytest.mark.core

COMPOSITIONS = ["weighted", "mean", "top", "layer:0", "recurrent", "own"]


def made(composition, make=make_model, **options):
    return make(memory_composition=composition, unshared_memory_kv=True, **options)


@pytest.mark.parametrize("wrong", ["", "sum", "layer:", "layer:3", "layer:-1", "layer:1:2", "Own"])
def test_refused_by_name(wrong):
    for make in (make_model, make_language_model):
        with pytest.raises(FeedbackError, match=f"^--memory-composition {wrong}: give .* K from 0 to 2$"):
            made(wrong, make)


@pytest.mark.parametrize("composition", ["recurrent", "own"])
def test_layers_that_have_a_memory_each_share_no_keys(composition):
    for make in (make_model, make_language_model):
        with pytest.raises(FeedbackError, match=f"^--memory-composition {composition}: .* give --unshared-memory-kv$"):
            make(memory_composition=composition)


def test_pruned_layers_count():
    keep = dict(decoder_layers=3, decoder_layers_to_keep="0,2", encoder_layers_to_keep="0")
    made("layer:3", **keep)
    with pytest.raises(FeedbackError, match="K from 0 to 3$"):
        made("layer:4", **keep)


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_only_what_is_learned_is_a_parameter(composition):
    shapes = {"weighted": (3,), "recurrent": (2, 3)}
    for make in (make_model, make_language_model):
        names = made(composition, make).state_dict()
        found = names.get("decoder.memory.layer_weights")
        assert (None if found is None else tuple(found.shape)) == shapes.get(composition)


# ---------------------------------------------------------------- a transformer


def same_parameters(a, b):
    def told(model):
        state = model.state_dict().items()
        return {k: v for k, v in state if not k.endswith(("version", "_float_tensor")) and not is_idle(k)}

    state = told(a)
    assert state.keys() == told(b).keys()
    b.load_state_dict(a.state_dict())
    assert all(torch.equal(v, state[k]) for k, v in told(b).items())


@pytest.mark.parametrize("pre_norm", [False, True])
def test_own_is_a_transformer(pre_norm):
    """Its checkpoint is one of ours: the same outputs, teacher-forced, and the same hypotheses of both searches."""
    dictionary = make_dictionary()
    options = dict(decoder_normalize_before=pre_norm, decoder_learned_pos=pre_norm)
    theirs = make_ending_model(dictionary, make=make_transformer, seed=3, **options).eval()
    ours = made("own", dictionary=dictionary, **options).double()
    same_parameters(theirs, ours)
    src, lengths, prev = make_batch(dictionary)
    words = prev.ne(dictionary.pad())
    with torch.no_grad():
        expected, got = theirs(src, lengths, prev), ours(src, lengths, prev)
    torch.testing.assert_close(got[0][words], expected[0][words], rtol=0, atol=1e-5)
    torch.testing.assert_close(got[1]["attn"][0][words], expected[1]["attn"][0][words], rtol=0, atol=1e-5)
    sample = make_sample(dictionary)
    want = generate(theirs, dictionary, sample, generator=SequenceGenerator, beam_size=4)
    for options in ({}, dict(generator=SequenceGenerator)):
        assert_same_hypos(generate(ours, dictionary, sample, beam_size=4, **options), want)


@needs_current_fairseq
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_own_is_a_language_model_of_the_host(positions):
    dictionary = make_dictionary()
    sizes = {k: v for k, v in SMALL_LM.items() if k != "memory_span"}
    args = argparse.Namespace(
        arch="transformer_lm", tokens_per_sample=1024, dropout=0.0, decoder_learned_pos=positions == "learned", **sizes
    )
    base_lm_architecture(args)
    theirs = TransformerLanguageModel.build_model(args, Task(dictionary)).eval()
    options = dict(positions=positions, memory_span=0, tokens_per_sample=1024)
    ours = made("own", make_language_model, dictionary=dictionary, **options)
    same_parameters(theirs, ours)
    _, _, tokens = make_batch(dictionary, target=30, left_pad_target=True)
    words, state = tokens.ne(dictionary.pad()), {}
    with torch.no_grad():
        expected = theirs(tokens)[0]
        torch.testing.assert_close(ours(tokens)[0][words], expected[words], rtol=1e-5, atol=1e-5)
        steps = [ours.decoder(tokens[:, : t + 1], None, state)[0] for t in range(30)]
        torch.testing.assert_close(torch.cat(steps, dim=1)[words], expected[words], rtol=1e-5, atol=1e-5)
    sample = make_sample(dictionary, ragged=False)
    hypos = [generate(m.double(), dictionary, sample, generator=SequenceGenerator) for m in (ours, theirs)]
    assert_same_hypos(*hypos)


def test_absolute_positions_carry_nothing():
    model = made("own", make_language_model, positions="sinusoidal")
    assert model.slots_to_carry() == 0 and model.max_positions() == 1024
    with pytest.raises(FeedbackError, match="^--positions learned: give relative, which --adaptive-span needs$"):
        make_language_model(positions="learned", adaptive_span=True)


# ---------------------------------------------------------------- warm starts


@pytest.mark.parametrize("composition", COMPOSITIONS)
@pytest.mark.parametrize("make", [make_model, make_language_model])
def test_any_composition_starts_from_own(make, composition):
    pre_norm = {} if make is make_language_model else dict(decoder_normalize_before=True)
    state = made("own", make, seed=1, **pre_norm).state_dict()
    for shared in (False, True):
        if shared and composition in ("own", "recurrent"):
            continue
        model = make(memory_composition=composition, unshared_memory_kv=not shared, **pre_norm)
        model.load_state_dict(dict(state))
        w = model.decoder.weights(model.decoder.reach()).memory
        for i, (key, norm) in enumerate(zip(w.keys, w.norms)):
            layers = [i] if not shared else [0, 1]
            for found, name in ((key, "k_proj"), (norm, "_layer_norm")):
                name = f"self_attn{'.' * (name == 'k_proj')}{name}.weight"
                want = torch.stack([state[f"decoder.layers.{j}.{name}"] for j in layers]).mean(0)
                torch.testing.assert_close(found.weight, want)


@pytest.mark.parametrize("composition", ["weighted", "mean", "top", "layer:1", "layer:2", "recurrent", "own"])
def test_pruned_layers_are_as_dropped_ones(composition):
    keep = dict(encoder_layers_to_keep="0", decoder_layers_to_keep="0,2")
    full, pruned = made(composition, decoder_layers=3), made(composition, decoder_layers=3, seed=5, **keep)
    cfg = OmegaConf.create({"_name": "feedback_transformer", **keep})
    pruned.load_state_dict(dict(full.state_dict()), model_cfg=cfg)
    batch = make_batch(make_dictionary())
    full.decoder.draw_layers = lambda: [True, False, True]
    with torch.no_grad():
        torch.testing.assert_close(pruned(*batch)[0], full(*batch)[0], rtol=1e-5, atol=1e-5)
