"""What is not a finite number neither trains a model nor becomes a translation."""

import argparse
import math
import os
from types import SimpleNamespace

import cli
import pytest
import torch
from fairseq.optim import FairseqOptimizer
from generation import make_sample
from helpers import Task, make_model, make_transformer
from test_cli_mistakes import assert_mistake

from fairseq_feedback.errors import FeedbackError

pytestmark = pytest.mark.core


@pytest.mark.parametrize("task", ["translation", "language_model"])
def test_training_stops_before_such_an_update(tmp_path, task):
    more = ["--lr", 1e9, "--save-interval-updates", 1]
    if task == "translation":
        flags = cli.train_flags(cli.make_data(tmp_path), tmp_path / "save", *more)
    else:
        flags = cli.train_lm_flags(cli.make_text(tmp_path), tmp_path / "save", *more)
    done = cli.run("train", *flags, check=False, log=tmp_path / "log")
    assert_mistake(done, "update ", "was not made", "not a finite number", "training set's items", "--lr")
    names = os.listdir(tmp_path / "save")
    assert "crash.pt" not in names and any(name.endswith(".pt") for name in names)
    for name in names:
        weights = cli.load(tmp_path / "save" / name)["model"] if name.endswith(".pt") else {}
        assert all(weight.isfinite().all() for weight in weights.values())


@pytest.mark.parametrize("value", [2.0, math.inf, math.nan])
def test_a_loss_shows_in_its_gradients(value):
    weight = torch.tensor([3.0], requires_grad=True)
    FairseqOptimizer.backward(SimpleNamespace(), weight.sum() + value)
    assert weight.grad.isfinite().all() == math.isfinite(value)
    assert not math.isfinite(value) or weight.grad == 1


def poison_output(model):
    model.decoder.output_projection.weight.fill_(math.nan)


def poison_layer(model):
    model.decoder.layers[0].fc1.weight.fill_(math.inf)


def poison_a_word(model):
    model.encoder.embed_tokens.weight[7].fill_(math.nan)  # the first sentence has it


@pytest.mark.parametrize("poison", [poison_output, poison_layer, poison_a_word])
@pytest.mark.parametrize("make", [make_model, make_transformer])
@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(no_feedback_engine=True),
        dict(decode_int8=True),
        dict(sampling=True),
        dict(diverse_beam_groups=3, diverse_beam_strength=0.5),
    ],
    ids=lambda options: next(iter(options), "beam"),
)
def test_no_translation_is_made_of_them(options, make, poison, dictionary):
    model = make(dictionary=dictionary)
    model._is_generation_fast = True
    with torch.no_grad():
        poison(model)
    with pytest.raises(FeedbackError, match="not a (finite )?number"):
        args = argparse.Namespace(beam=3, max_len_b=6, **options)
        Task(dictionary).build_generator([model], args).generate([model], make_sample(dictionary))
