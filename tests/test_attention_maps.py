"""The public reading of attention, against the paper's equations on scalars."""

import literal
import pytest
import test_language_model
import test_literal
import torch
from helpers import LM_VARIANTS, VARIANTS, make_batch, make_dictionary, make_language_model, make_model

pytestmark = pytest.mark.core


@pytest.fixture
def recorded(monkeypatch):
    """Weights of attention in the order in which literal.py computes them: H lists each."""
    found = []
    compute = literal.attention_weights

    def attention_weights(*args):
        found.append(compute(*args))
        return found[-1]

    monkeypatch.setattr(literal, "attention_weights", attention_weights)
    return found


@pytest.mark.parametrize(
    "variant",
    ["plain", "pre_norm", "unshared", "span_1", "span_3", "no_cross_attention", "three_layers_layerdrop", "own"]
    + ["own_pre_norm"],
)
def test_translation(variant, recorded):
    dictionary = make_dictionary(12)
    model = make_model(dictionary=dictionary, **VARIANTS[variant]).double()
    src, lengths, prev = make_batch(dictionary, rows=1, target=6)
    with torch.no_grad():
        encoder_out = model.encoder(src, src_lengths=lengths)
    maps = model.decoder.attention_maps(prev, encoder_out)
    weights, config = test_literal.to_literal(model)
    literal.decode(weights, config, prev[0].tolist(), encoder_out["encoder_out"][0][:, 0].tolist(), [False] * 7)
    source = config.cross_attention
    assert_recorded(maps.memory, recorded[:: 2 if source else 1], config)
    if source:
        want = torch.tensor(recorded[1::2], dtype=torch.float64).view(6, config.layers, config.heads, 7)
        torch.testing.assert_close(maps.source, want.permute(1, 2, 0, 3))
    else:
        assert maps.source is None


@pytest.mark.parametrize("variant", ["plain", "unshared"])
def test_language_model_with_a_window(variant, recorded):
    dictionary = make_dictionary(12)
    model = make_language_model(dictionary=dictionary, **LM_VARIANTS[variant]).double()
    tokens = test_language_model.tokens_of(dictionary, 1, 9)
    maps = model.decoder.attention_maps(tokens)
    weights, config = test_language_model.to_literal(model, LM_VARIANTS[variant])
    literal.decode(weights, config, tokens[0].tolist())
    assert maps.source is None
    assert_recorded(maps.memory, recorded, config)


def assert_recorded(memory, recorded, config):
    """recorded: for each step and layer. The slots seen are the last ones before the step's own."""
    own = config.composition == "own"  # which has no zero slots, and sees itself
    steps, zeros = len(recorded) // config.layers, 0 if own else config.memory_init_slots
    assert memory.shape == (config.layers, config.heads, steps, zeros + steps) and not memory.requires_grad
    want = torch.zeros_like(memory)
    for i, heads in enumerate(recorded):
        t, layer = divmod(i, config.layers)
        heads = torch.tensor(heads, dtype=torch.float64)
        end = zeros + t + own
        want[layer, :, t, end - heads.size(1) : end] = heads
    torch.testing.assert_close(memory, want)


def test_only_one_sentence_and_only_in_eval():
    model = make_model(dictionary=make_dictionary(12), no_cross_attention=True)
    for wrong in (lambda: model.eval(), lambda: model.train()):
        wrong()
        with pytest.raises(ValueError, match="for one sentence, and a model in eval"):
            model.decoder.attention_maps(torch.full((1 if model.training else 2, 3), 5))
