"""The kernel that computes all steps at once gives what the reference gives: outputs, memory and every gradient."""

import itertools
import logging

import pytest
import torch
from helpers import make_batch, make_dictionary, make_language_model, make_model
from problem import Problem
from test_bptt import compare, gradients_in, kernels_said
from test_language_model import in_blocks, tokens_of

from fairseq_feedback.kernels import reference
from fairseq_feedback.kernels.training import parallel, segments

pytestmark = pytest.mark.core

FLAGS = list(itertools.product([False, True], repeat=6))
OWN = dict(memory_composition="own", unshared_memory_kv=True)


@pytest.fixture
def short_pieces(monkeypatch):
    monkeypatch.setattr(parallel, "PIECE", 3)


@pytest.mark.parametrize("number", range(0, 64, 5), ids=lambda n: "".join("01"[i] for i in FLAGS[n]))
def test_flags(number, short_pieces):
    pre_norm, span, cross, dropout, left_pad, positions = FLAGS[number]
    p = Problem(
        steps=8, layers=3, pre_norm=pre_norm, span=1 + number % 4 if span else 0, source=4 if cross else 0,
        init_slots=number % 3, p=(0.3, 0.2, 0.1) if dropout else (0.0, 0.0, 0.0), seed=number, composition="own",
        activation=["relu", "gelu", "tanh"][number % 3], reach=17 if positions else 0,
        ramp=4 if positions and number % 2 else None, head_width=[None, 3, 6][number % 3],
    )  # fmt: skip
    p.memory = p.randn(len(p.memory) + number % 4, 3, 3, 8)  # carried from an earlier block
    if dropout:
        torch.manual_seed(number)
        p.draw_dropout()
    if left_pad:
        p.left_pad = torch.tensor([0, 2, 4])
    p.layer_kept = [number % 4 != i for i in range(3)]
    compare(p, 1e-9, kernel=parallel, use_memory=number % 2 == 0)


class Segments:
    """The same under --checkpoint-activations, as a kernel."""

    @staticmethod
    def run(inputs):
        return segments.run(parallel.run, inputs)


def test_segments(short_pieces):
    p = Problem(steps=20, composition="own", span=7, init_slots=0, p=(0.3, 0.2, 0.1), scale=0.3, source=0)
    p.draw_dropout()
    p.left_pad = torch.tensor([0, 5, 2])
    compare(p, 1e-9, kernel=Segments)


def test_attention_to_the_source_and_layers_without_it():
    p = Problem(composition="own", layers=3)
    for layer, kept in ((1, True), (1, False)):
        p.layer_kept[1] = kept
        found = [p.run(attn_layer=layer, kernel=kernel)[2] for kernel in (reference, parallel)]
        if kept:
            torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)
        else:
            assert found == [None, None]


def test_half_precision_is_as_exact_as_the_reference():
    options = dict(pre_norm=True, source=0, reach=21, ramp=5, head_width=6, composition="own")
    exact = gradients_in(torch.float64, reference, **options)
    errors = []
    for kernel in (reference, parallel):
        found = gradients_in(torch.float32, kernel, torch.bfloat16, **options)
        errors.append(sum((d - e).norm().item() / e.norm().item() for d, e in zip(found, exact) if e.norm() > 1e-3))
    assert errors[1] < 1.5 * errors[0]


def test_perplexity_does_not_depend_on_the_block():
    dictionary = make_dictionary()
    model = make_language_model(dictionary=dictionary, memory_span=40, **OWN).double()
    tokens = tokens_of(dictionary, 2, 257)

    def loss(length):
        scores = in_blocks(model, tokens[:, :-1], length)
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())

    with torch.no_grad():
        whole = loss(256)
        for length in (16, 64, 100):
            torch.testing.assert_close(loss(length), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("wanted", ["auto", "bptt"])
def test_the_log_names_it_and_says_why_not(wanted, caplog):
    src, lengths, prev = make_batch(make_dictionary())
    with caplog.at_level(logging.INFO):
        model = make_model(feedback_kernel=wanted, **OWN).train()
        model(src, lengths, prev)
        encoder_out = model.encoder(src[:1], lengths[:1])
        model.decoder(prev, encoder_out)
    why = "feedback kernel: reference, because several rows share a source sentence"
    assert kernels_said(caplog) == ["feedback kernel: parallel", why]
    assert (caplog.records[-1].levelno == logging.WARNING) == (wanted == "bptt")
