"""--decoder-init: how large weights are at the start, and that a checkpoint's stay what they are."""

import math

import pytest
import torch
from helpers import make_language_model, make_model
from trained import is_idle

from fairseq_feedback.modules.initialisation import as_authors

pytestmark = pytest.mark.core

WIDTH, FFN, LAYERS = 64, 128, 12
SIZES = dict(decoder_layers=LAYERS, decoder_embed_dim=WIDTH, decoder_ffn_embed_dim=FFN, decoder_attention_heads=4)
XAVIER, TORCH = WIDTH**-0.5, (3 * WIDTH) ** -0.5  # of square matrices; a uniform distribution's deviation
FC2, SCALE = (3 * FFN) ** -0.5, (2 * LAYERS) ** -0.5


def language_model(**options):
    return make_language_model(**SIZES, memory_span=512, unshared_memory_kv=True, **options)


def translation(**options):
    return make_model(encoder_embed_dim=WIDTH, **SIZES, **options)


def deviations(model):
    """Of every kind of weight, over all layers together."""
    found = {}
    for name, p in model.decoder.named_parameters():
        if p.dim() == 2 and name.split(".")[0] in ("layers", "memory"):
            found.setdefault(".".join(name.split(".")[2:]) or name, []).append(p.detach().flatten())
    return {name: torch.cat(parts).std().item() for name, parts in found.items()}


@pytest.mark.parametrize(
    "init, queries, out, fc2, positions",
    [
        ("fairseq", XAVIER / math.sqrt(2), XAVIER, FC2, 16**-0.5),
        ("authors", TORCH, TORCH * SCALE, FC2 * SCALE, 1.0),
    ],
)
def test_deviations_of_language_models(init, queries, out, fc2, positions):
    found = deviations(language_model(decoder_init=init))
    expected = {"fc1.weight": TORCH, "fc2.weight": fc2, "self_attn.out_proj.weight": out, "memory.positions": positions}
    expected.update({f"self_attn.{part}_proj.weight": queries for part in "qkv"})
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("pre_norm", [True, False])
@pytest.mark.parametrize("init", ["fairseq", "authors"])
def test_deviations_of_translation(init, pre_norm):
    found = deviations(translation(decoder_init=init, decoder_normalize_before=pre_norm))
    scale = SCALE if pre_norm and init == "authors" else 1.0
    out = (TORCH if init == "authors" else XAVIER) * scale
    assert found["self_attn.out_proj.weight"] == pytest.approx(out, rel=0.02)
    assert found["encoder_attn.out_proj.weight"] == pytest.approx(out, rel=0.02)
    assert found["fc2.weight"] == pytest.approx(FC2 * scale, rel=0.02)
    assert found["fc1.weight"] == pytest.approx(TORCH, rel=0.02)


def test_the_authors_attention_begins_without_biases():
    decoder = translation().decoder
    as_authors(decoder.layers, decoder.memory, pre_norm=False)
    biases = [p for name, p in decoder.named_parameters() if name.endswith("_proj.bias")]
    assert len(biases) == 6 * LAYERS + 2 and all((bias == 0).all() for bias in biases)


@pytest.mark.parametrize("make", [language_model, translation])
def test_loading_does_not_touch_what_was_trained(make):
    trained = make(decoder_init="fairseq", seed=1).state_dict()
    model = make(decoder_init="authors", seed=2)
    model.load_state_dict(trained)
    for name, weight in model.state_dict().items():
        assert is_idle(name) or torch.equal(weight, trained[name]), name
