"""The kernel alone: gradients, carried memory, span, padding, dropout and dropped layers."""

import pytest
import torch
import torch.nn.functional as F
from fairseq import utils
from hypothesis import given, settings
from hypothesis import strategies as st
from problem import SHAPES, Problem

from fairseq_feedback.kernels import dropout, reference
from fairseq_feedback.kernels.attention import attend
from fairseq_feedback.kernels.training import segments
from fairseq_feedback.kernels.weights import LayerDropout

pytestmark = pytest.mark.core


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("left_pad", [False, True], ids=["", "left_pad"])
def test_gradcheck(name, left_pad):
    p = Problem(steps=3, rows=2, width=4, ffn=3, source=SHAPES[name].get("source", 2), **{
        k: v for k, v in SHAPES[name].items() if k != "source"
    })  # fmt: skip
    if name == "dropout":
        torch.manual_seed(0)
        p.draw_dropout()
    if left_pad:
        p.left_pad = torch.tensor([0, 2])
    tensors = p.tensors()
    for tensor in tensors:
        tensor.requires_grad_()

    def outputs(*_):
        y, m, _ = p.run()
        return y, m

    assert torch.autograd.gradcheck(outputs, tensors, fast_mode=True)


@pytest.mark.parametrize("name", SHAPES)
def test_blocks_with_carried_memory_equal_one_long_block(name):
    p = Problem(steps=7, **SHAPES[name])
    p.draw_dropout()
    p.x.requires_grad_()
    whole, memory, _ = p.run()
    outputs, carried = [], p.memory
    for first, last in ((0, 3), (3, 4), (4, 7)):
        drop = segments.choices_of(p.inputs().choices, first, last).dropout
        y, m, _ = p.run(p.x[first:last], carried, drop)
        outputs.append(y)
        carried = torch.cat([carried, m])
    blocks = torch.cat(outputs)
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(carried[len(p.memory) :], memory, rtol=0, atol=1e-12)
    goal = torch.randn_like(whole)
    (expected,) = torch.autograd.grad((whole * goal).sum(), p.x)
    (got,) = torch.autograd.grad((blocks * goal).sum(), p.x)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def test_memory_carried_into_a_block_needs_only_the_span():
    p = Problem(steps=6, span=3, source=0, init_slots=3)
    whole, memory, _ = p.run()
    y, _, _ = p.run(p.x[4:], torch.cat([p.memory, memory])[4:7])
    torch.testing.assert_close(y, whole[4:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("composition", ["weighted", "recurrent"])
def test_zero_slots_that_are_counted_are_those_that_are_stored(composition):
    p = Problem(steps=4, span=6, source=0, init_slots=5, composition=composition)
    stored, _, _ = p.run()
    p.zeros, p.memory = 3, p.memory[3:]
    counted, _, _ = p.run()
    assert torch.equal(counted, stored)


@pytest.mark.parametrize("span", [0, 1, 2, 4])
def test_a_step_sees_the_span_and_nothing_of_itself_or_later(span):
    """Through the memory vectors themselves, since memory of memory reaches further back than the span."""
    p = Problem(steps=1, span=span, init_slots=6, source=0)
    p.memory = p.randn(6, 3, 8).requires_grad_()
    y, _, _ = p.run()
    (gradient,) = torch.autograd.grad(y.sum(), p.memory)
    seen = gradient.abs().sum(dim=(1, 2)) > 0
    assert seen.tolist() == [span == 0 or i >= 6 - span for i in range(6)]

    p = Problem(steps=6, span=span)
    p.x.requires_grad_()
    y, _, _ = p.run()
    (gradient,) = torch.autograd.grad(y[3].sum(), p.x)
    assert (gradient[4:] == 0).all() and (gradient[:4].abs().sum(dim=(1, 2)) > 0).all()


def test_left_padding_is_as_if_it_were_not_there():
    for options in SHAPES.values():
        p = Problem(steps=6, **{**options, "p": (0.0, 0.0, 0.0)})
        alone, memory, _ = p.run(p.x[2:])
        p.left_pad = torch.tensor([2, 2, 2])
        for filling in (p.x[:2], torch.zeros_like(p.x[:2])):
            padded, padded_memory, _ = p.run(torch.cat([filling, p.x[2:]]))
            torch.testing.assert_close(padded[2:], alone, rtol=0, atol=1e-12)
            torch.testing.assert_close(padded_memory[2:], memory, rtol=0, atol=1e-12)
            assert (padded_memory[:2] == 0).all() and padded.isfinite().all()


def test_dropout_keeps_what_it_was_told_to():
    """Each mask alone: all kept = no dropout but scaled; and the expectation over many draws is right."""
    p = Problem(p=(0.5, 0.0, 0.0), source=0, layers=1)
    torch.manual_seed(0)
    p.draw_dropout()
    d = p.dropout[0]
    assert d.memory_attn is None and d.activation is None and d.cross_attn is None
    assert d.attn_out.dtype == torch.bool and d.attn_out.shape == p.x.shape
    none = LayerDropout(None, torch.zeros_like(d.attn_out), None, None, None, torch.zeros_like(d.ffn_out))
    y, _, _ = p.run(drop=[none])
    w = p.layers[0]
    expected = reference.norm(reference.norm(p.x, w.attn_norm), w.ffn_norm)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)

    x = torch.ones(200, 50)
    keep = dropout.draw(x[None], 1, 0, 4, 1, p.settings)[0].ffn_out[0]
    assert abs(dropout.apply(x, keep, 0.5).mean().item() - 1) < 0.05


def test_a_dropped_layer_is_the_identity():
    p = Problem(layers=3)
    p.layer_kept = [True, False, True]
    y, m, _ = p.run()
    mix = p.memory_weights.mix
    del p.layers[1], p.source_kv[0][1], p.source_kv[1][1]
    p.layer_kept = [True, True]
    # the dropped layer's weight weighs the output of the layer below
    p.memory_weights = p.memory_weights._replace(mix=torch.stack([mix[0], mix[1] + mix[2], mix[3]]))
    expected, expected_memory, _ = p.run()
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(m, expected_memory, rtol=0, atol=1e-12)


def test_activations_are_those_of_fairseq():
    x = torch.randn(100)
    for name in utils.get_available_activation_fns():
        expected = utils.get_activation_fn(name)(x)
        torch.testing.assert_close(reference.activate(x, name), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="nonsense"):
        reference.activate(x, "nonsense")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_softmax_and_mix_in_float32(dtype):
    """Scores far apart by less than half precision resolves around them must not decide by rounding alone."""
    query = torch.full((1, 2), 1.0, dtype=dtype)
    key = torch.tensor([[[[30.0, 30.0], [30.0, 30.0]]]], dtype=dtype)
    value = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]], dtype=dtype)
    z, weights = attend(query, key, value, None, None, 0.0)
    assert z.dtype == weights.dtype == dtype
    assert weights.flatten().tolist() == [0.5, 0.5]
    w = torch.randn(7, dtype=dtype)
    mix = reference.mix_weights(w)
    expected = F.softmax(w.float(), dim=0).to(dtype)
    assert mix.dtype == dtype and torch.equal(mix, expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    steps=st.integers(1, 6),
    rows=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 4]),
    layers=st.integers(1, 3),
    source=st.integers(0, 4),
    shared=st.booleans(),
    pre_norm=st.booleans(),
    span=st.integers(0, 4),
    init_slots=st.integers(1, 3),
)
def test_any_shape_equals_row_by_row(steps, rows, heads, layers, source, shared, pre_norm, span, init_slots):
    """A batch gives each row what it gets alone; the memory is the mix that the outputs say."""
    p = Problem(steps, rows, 8, heads, 5, layers, source, shared, pre_norm, span, init_slots)
    y, m, _ = p.run()
    assert y.shape == m.shape == p.x.shape
    row = rows - 1
    if p.source is not None:
        p.source, p.source_padding = p.source[:, row:], p.source_padding[row:]
    alone, memory, _ = p.run(p.x[:, row:], p.memory[:, row:])
    torch.testing.assert_close(alone, y[:, row:], rtol=0, atol=1e-12)
    torch.testing.assert_close(memory, m[:, row:], rtol=0, atol=1e-12)
