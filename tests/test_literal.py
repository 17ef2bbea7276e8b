"""The model against the paper's equations, written out on scalars in literal.py."""

import literal
import pytest
import torch
from helpers import VARIANTS, make_batch, make_dictionary, make_model

pytestmark = pytest.mark.core

# Options that change sizes or training only, or that literal.py has no use for.
SKIPPED = {"gelu_accurate", "adaptive_softmax", "output_dim"}


def to_literal(model):
    decoder, cfg = model.decoder, model.cfg
    weights = {k: v.tolist() for k, v in decoder.state_dict().items()}
    learned = True
    if decoder.embed_positions is not None and not cfg.decoder.learned_pos:
        # fairseq's sinusoidal table is float32 even in a float64 model: give literal.py the same numbers.
        weights["embed_positions.weight"] = decoder.embed_positions.weights.tolist()
    config = literal.Config(
        layers=decoder.num_layers,
        heads=decoder.heads,
        embed_dim=decoder.embed_dim,
        padding_idx=decoder.padding_idx,
        normalize_before=cfg.decoder.normalize_before,
        unshared_memory_kv=cfg.unshared_memory_kv,
        composition=cfg.memory_composition,
        memory_span=cfg.memory_span,
        memory_init_slots=decoder.memory_init_slots,
        activation=str(cfg.activation_fn),
        scale_embedding=not cfg.no_scale_embedding,
        learned_pos=learned,
        no_positions=cfg.no_token_positional_embeddings,
        layernorm_embedding=cfg.layernorm_embedding,
        cross_attention=not cfg.no_cross_attention,
        final_norm=not cfg.no_decoder_final_norm,
    )
    return weights, config


def assert_equals_literal(model, dictionary, left_pad):
    src, lengths, prev = make_batch(dictionary, target=6, left_pad_target=left_pad)
    with torch.no_grad():
        encoder_out = model.encoder(src, src_lengths=lengths)
        features, extra = model.decoder(prev, encoder_out=encoder_out, features_only=True)
        logits = model.decoder.output_layer(features)
    weights, config = to_literal(model)
    source = encoder_out["encoder_out"][0].transpose(0, 1)
    for row in range(len(prev)):
        expected, expected_logits, memory = literal.decode(
            weights,
            config,
            prev[row].tolist(),
            source[row].tolist(),
            src[row].eq(dictionary.pad()).tolist(),
        )
        words = prev[row].ne(dictionary.pad())
        for got, want in (
            (features[row], expected),
            (logits[row], expected_logits),
            (extra["memory"][0][:, row], memory),
        ):
            want = torch.tensor([w for w in want if w is not None], dtype=torch.float64)
            torch.testing.assert_close(got[words], want, rtol=0, atol=1e-9)
            assert words.sum() == len(want)


@pytest.mark.parametrize("left_pad", [False, True], ids=["right_pad", "left_pad"])
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in SKIPPED])
def test_decoder_is_the_equations(variant, left_pad):
    dictionary = make_dictionary(12)
    model = make_model(dictionary=dictionary, **VARIANTS[variant]).double()
    assert_equals_literal(model, dictionary, left_pad)


@pytest.mark.parametrize("span", [0, 2])
def test_several_zero_slots(span):
    dictionary = make_dictionary(12)
    model = make_model(dictionary=dictionary, memory_span=span, decoder_normalize_before=True)
    model.decoder.memory_init_slots = 3
    assert_equals_literal(model.double(), dictionary, left_pad=True)
