"""What the memory is made of: options and parameters. The equations: test_literal.py and test_language_model.py."""

import pytest
from helpers import make_language_model, make_model

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


def test_a_pruned_layer_is_no_layer_to_choose():
    keep = dict(decoder_layers=3, decoder_layers_to_keep="0,2", encoder_layers_to_keep="0")
    made("layer:2", **keep)
    with pytest.raises(FeedbackError, match="K from 0 to 2$"):
        made("layer:3", **keep)


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_only_what_is_learned_is_a_parameter(composition):
    shapes = {"weighted": (3,), "recurrent": (2, 3)}
    for make in (make_model, make_language_model):
        names = made(composition, make).state_dict()
        found = names.get("decoder.memory.layer_weights")
        assert (None if found is None else tuple(found.shape)) == shapes.get(composition)
