"""The fast kernel gives what the reference gives: outputs, memory and every gradient."""

import itertools
import logging

import pytest
import torch
from helpers import VARIANTS, make_batch, make_dictionary, make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from problem import Problem

from fairseq_feedback import native
from fairseq_feedback.kernels import products, reference
from fairseq_feedback.kernels.training import backward, bptt, segments, slots

pytestmark = pytest.mark.core

FLAGS = list(itertools.product([False, True], repeat=8))


def compare(p, tolerance, kernel=bptt, use_memory=True):
    """Largest difference of a tensor, as a part of its largest entry; tiny gradients are measured by larger ones."""
    tensors = p.tensors()
    for tensor in tensors:
        tensor.requires_grad_()
    results = []
    for run in (reference, kernel):
        g = torch.Generator().manual_seed(5)
        y, m, _ = p.run(kernel=run)
        loss = (y * torch.randn(y.shape, generator=g, dtype=torch.float64).to(y.dtype)).sum()
        if use_memory:
            loss = loss + (m * torch.randn(m.shape, generator=g, dtype=torch.float64).to(m.dtype)).sum()
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
        results.append([y, m, *(torch.zeros_like(t) if d is None else d for t, d in zip(tensors, gradients))])
    floor = 0.01 * max(d.abs().max().item() for d in results[0][2:])
    for number, (expected, got) in enumerate(zip(*results)):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        difference = (got - expected).abs().max().item() / max(expected.abs().max().item(), floor)
        assert difference < tolerance, f"tensor {number} of {len(tensors)}"


@pytest.fixture
def short_blocks(monkeypatch):
    monkeypatch.setattr(backward, "block_length", lambda rows: 3)


@pytest.mark.parametrize("flags", FLAGS, ids=lambda f: "".join("01"[i] for i in f))
def test_every_combination_of_flags(flags, short_blocks):
    pre_norm, shared, span, cross, dropout, left_pad, positions, adaptive = flags
    number = FLAGS.index(flags)
    p = Problem(
        steps=7, layers=3, pre_norm=pre_norm, shared=shared, span=2 if span else 0, source=4 if cross else 0,
        init_slots=1 + number % 3, p=(0.3, 0.2, 0.1) if dropout else (0.0, 0.0, 0.0), seed=number,
        activation=["relu", "gelu", "tanh", "gelu_accurate", "linear"][number % 5],
        reach=17 if positions or adaptive else 0, ramp=4 if adaptive else None, head_width=[None, 3, 6][number % 3],
        composition=["weighted", "top", "layer:0"][number % 3],
    )  # fmt: skip
    if not positions:
        p.memory_weights = p.memory_weights._replace(positions=None)
    p.zeros = number // 3 % 5  # stand before what is carried from an earlier block
    p.memory = p.randn(len(p.memory) + number % 4, 3, 8)
    if dropout:
        torch.manual_seed(number)
        p.draw_dropout()
    if left_pad:
        p.left_pad = torch.tensor([0, 2, 4])
    p.layer_kept = [number % 5 != i for i in range(3)]
    compare(p, 1e-9, use_memory=number % 2 == 0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    steps=st.integers(1, 40),
    rows=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 4]),
    layers=st.integers(1, 3),
    source=st.sampled_from([0, 1, 17]),
    shared=st.booleans(),
    pre_norm=st.booleans(),
    span=st.sampled_from([0, 1, 16, 19]),
    init_slots=st.sampled_from([1, 3, 19]),
    distances=st.booleans(),
    head_width=st.sampled_from([None, 3, 16]),
    counted=st.booleans(),
    double=st.booleans(),
)
def test_any_shape(
    steps, rows, heads, layers, source, shared, pre_norm, span, init_slots, distances, head_width, counted, double
):
    p = Problem(
        # 40 steps multiply roundings: weights are small enough for that not to be what is measured in float32.
        steps, rows, 8, heads, 5, layers, source, shared, pre_norm, span, init_slots, scale=0.3 if double else 0.2,
        dtype=torch.float64 if double else torch.float32, reach=59 if distances else 0, ramp=7 if distances else None,
        head_width=head_width,
    )  # fmt: skip
    if counted:
        p.zeros, p.memory = init_slots, p.memory[:0]
        p.left_pad = torch.arange(rows) % steps
    compare(p, 1e-9 if double else 1e-5)


@pytest.mark.parametrize("without", ["", "C++", "C++, packed weights", "C++, bags", "C++, packed weights, bags"])
def test_float32_with_and_without_the_fast_operations(without, monkeypatch):
    if "C++" in without:
        monkeypatch.setattr(native, "why_not", lambda: "a test")
    if "packed" in without:
        monkeypatch.setattr(products, "can_pack", lambda weight: False)
    if "bags" in without:
        monkeypatch.setattr(slots, "fast_bags", lambda like, width: None)
    for pre_norm in (False, True):
        p = Problem(
            70, 5, 32, 2, 48, 3, 19, pre_norm=pre_norm, p=(0.3, 0.2, 0.1), activation="relu", scale=0.15,
            dtype=torch.float32, span=50, reach=50, ramp=9,
        )  # fmt: skip
        p.zeros = 40
        torch.manual_seed(1)
        p.draw_dropout()
        compare(p, 1e-5)


def test_float32_in_the_order_of_a_batch_and_with_frozen_weights():
    """The decoder hands over (B, T, C), transposed."""
    p = Problem(20, 5, 32, 2, 48, 3, 19, activation="relu", scale=0.15, dtype=torch.float32)
    p.x = p.x.transpose(0, 1).contiguous().transpose(0, 1)
    compare(p, 1e-5)
    for tensor in p.tensors()[1:]:
        tensor.requires_grad_(False)
    gradients = []
    for kernel in (reference, bptt):
        y, _, _ = p.run(kernel=kernel)
        gradients += torch.autograd.grad(y.square().sum(), p.x)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def gradients_in(dtype, kernel, autocast=None, zeros=0, **options):
    """Of a run in that precision, every one in float64."""
    p = Problem(steps=20, rows=4, width=16, ffn=24, activation="tanh", scale=0.3, dtype=dtype, **options)
    p.memory, p.zeros = p.randn(*p.memory.shape), zeros
    for tensor in p.tensors():
        tensor.requires_grad_()
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        y, m, _ = p.run(kernel=kernel)
    gradients = torch.autograd.grad(y.float().square().sum() + m.float().sum(), p.tensors())
    assert all(d.dtype == dtype for d in gradients)
    return [d.double() for d in gradients]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True], ids=["half", "autocast"])
@pytest.mark.parametrize(
    "options",
    [dict(pre_norm=False), dict(pre_norm=True), dict(pre_norm=True, source=0, reach=30, ramp=5, head_width=6, zeros=9)],
    ids=["post_norm", "pre_norm", "distances"],
)
def test_half_precision_is_as_exact_as_the_reference(dtype, autocast, options):
    precision = (torch.float32, dtype) if autocast else (dtype, None)
    exact = gradients_in(torch.float64, reference, **options)
    errors = []
    for kernel in (reference, bptt):
        found = gradients_in(precision[0], kernel, precision[1], **options)
        errors.append(sum((d - e).norm().item() / e.norm().item() for d, e in zip(found, exact) if e.norm() > 1e-3))
    assert errors[1] < 1.5 * errors[0]


def test_autocast_computes_products_in_half_precision():
    p = Problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _, _ = p.run(kernel=bptt)
    exact, _, _ = p.run(kernel=bptt)
    assert y.dtype == torch.float32
    assert 1e-4 < (y - exact).abs().max() < 0.3


def test_nothing_unwritten_is_read(short_blocks, monkeypatch):
    def with_nan(allocate):
        return lambda *args, **kwargs: allocate(*args, **kwargs).fill_(float("nan"))

    monkeypatch.setattr(torch, "empty_like", with_nan(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", with_nan(torch.Tensor.new_empty))
    for options in ({}, dict(span=2, pre_norm=True), dict(p=(0.3, 0.2, 0.1), shared=False)):
        for dtype in (torch.float64, torch.float32):
            p = Problem(steps=8, scale=0.3, dtype=dtype, **options)
            p.zeros = 3
            p.draw_dropout()
            compare(p, 1e-5)


def on_device(p, device):
    """What a kernel takes, on another device."""
    move = lambda x: x.to(device) if torch.is_tensor(x) else x  # noqa: E731
    return torch.utils._pytree.tree_map(move, p.inputs())


@pytest.mark.parametrize("pre_norm", [False, True])
def test_the_host_never_waits_for_the_device(pre_norm):
    """On the meta device there are no values to wait for: any look at one is an error. A CUDA graph needs that."""
    p = Problem(steps=20, pre_norm=pre_norm, span=3, p=(0.3, 0.2, 0.1))
    p.zeros = 2
    p.draw_dropout()
    p.left_pad = torch.tensor([0, 1, 2])
    p.layer_kept = [True, False]
    inputs = on_device(p, "meta")
    inputs.x.requires_grad_()
    y, m, _ = bptt.run(inputs)
    (y.sum() + m.sum()).backward()
    assert inputs.x.grad.shape == p.x.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gpu_equals_cpu(dtype):
    p = Problem(steps=40, p=(0.3, 0.2, 0.1), pre_norm=True, scale=0.3, dtype=dtype)
    p.zeros = 5
    p.draw_dropout()
    results = []
    for device in ("cpu", "cuda"):
        inputs = on_device(p, device)
        leaves = [t.detach().requires_grad_() for t in (inputs.x, inputs.memory)]
        y, m, _ = bptt.run(inputs._replace(x=leaves[0], memory=leaves[1]))
        results.append([y, m, *torch.autograd.grad(y.square().sum() + m.sum(), leaves)])
    for expected, got in zip(*results):
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-5)


def test_without_gradients_nothing_is_kept():
    p = Problem(steps=6)
    with torch.no_grad():
        expected, memory, attn = p.run(attn_layer=1)
        y, m, a = p.run(attn_layer=1, kernel=bptt)
    for got, wanted in ((y, expected), (m, memory), (a, attn)):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    assert p.run(kernel=bptt)[0].grad_fn is None  # nothing requires one


def test_backward_again():
    p = Problem()
    p.x.requires_grad_()
    y, _, _ = p.run(kernel=bptt)
    (first,) = torch.autograd.grad(y.sum(), p.x, retain_graph=True)
    (second,) = torch.autograd.grad(y.sum(), p.x)
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


def test_gradients_of_the_memory_alone():
    p = Problem()
    p.x.requires_grad_()
    gradients = []
    for kernel in (reference, bptt):
        _, m, _ = p.run(kernel=kernel)
        gradients += torch.autograd.grad(m.square().sum(), p.x)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["plain", "unshared"])
def test_all_layers_dropped(name):
    p = Problem(shared=name == "plain")
    p.layer_kept = [False, False]
    compare(p, 1e-9)


class Segments:
    """The fast kernel under --checkpoint-activations, as a kernel."""

    @staticmethod
    def run(inputs):
        return segments.run(bptt.run, inputs)


def test_segments(short_blocks):
    for pre_norm in (False, True):
        p = Problem(steps=40, pre_norm=pre_norm, p=(0.3, 0.2, 0.1), scale=0.3, span=9)
        p.zeros = 4
        p.draw_dropout()
        p.left_pad = torch.tensor([0, 5, 2])
        compare(p, 1e-9, kernel=Segments)


def saved_numbers(run):
    """How many numbers autograd keeps for backward, those of weights aside, and counting shared storage once."""
    storages = {}

    def pack(tensor):
        if tensor.grad_fn is not None or not tensor.requires_grad:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        keep_alive = run()
    return sum(storages.values()), keep_alive


def test_saved_memory_is_what_the_readme_says():
    """README.md, "What is kept": 4C + F a layer and token, less what the first layer shares with the input."""
    steps, rows, width, ffn, layers = 64, 4, 64, 256, 3
    p = Problem(steps, rows, width, 4, ffn, layers, source=0, pre_norm=True, activation="relu", dtype=torch.float32)
    for tensor in p.tensors():
        tensor.requires_grad_()
    saved, _ = saved_numbers(lambda: p.run(kernel=bptt))
    expected = steps * rows * (layers * (4 * width + ffn) + 6 * width)
    assert 0.9 * expected < saved < 1.05 * expected


@pytest.mark.parametrize("name", VARIANTS)
def test_whole_models(name):
    """Loss and all gradients of a model in training, through embedding, encoder and the decoder's own choices."""
    results = []
    for kernel in ("reference", "bptt"):
        model = make_model(**VARIANTS[name], feedback_kernel=kernel).double().train()
        src, lengths, prev = make_batch(make_dictionary(), left_pad_target=True)
        torch.manual_seed(3)
        features, extra = model(src, lengths, prev, features_only=True)
        features.square().sum().backward()
        results.append({"features": features.detach(), "memory": extra["memory"][0]})
        results[-1].update((k, p.grad) for k, p in model.named_parameters() if p.grad is not None)
    assert results[0].keys() == results[1].keys()
    for key, expected in results[0].items():
        torch.testing.assert_close(results[1][key], expected, rtol=1e-8, atol=1e-10, msg=key)


def kernels_said(caplog):
    return [r.getMessage() for r in caplog.records if "feedback kernel" in r.getMessage()]


def test_the_log_names_the_kernel_once(caplog):
    batch = make_batch(make_dictionary())
    with caplog.at_level(logging.INFO):
        model = make_model().train()
        for _ in range(2):
            model(*batch)
        assert kernels_said(caplog) == ["feedback kernel: bptt"]
        make_model(feedback_kernel="reference").train()(*batch)
        assert kernels_said(caplog)[1:] == ["feedback kernel: reference"]


def test_falling_back_says_why(caplog):
    with caplog.at_level(logging.INFO):
        model = make_model(feedback_kernel="bptt")
        src, lengths, prev = make_batch(make_dictionary())
        encoder_out = model.encoder(src, lengths)
        x, extra = model.decoder(prev, encoder_out, alignment_layer=0)
        (extra["attn"][0].square().sum() + x.sum()).backward()
    assert caplog.records[-1].levelno == logging.WARNING
    assert kernels_said(caplog) == [
        "feedback kernel: reference, because attention weights are wanted together with gradients"
    ]
    assert model.decoder.layers[0].encoder_attn.q_proj.weight.grad.abs().sum() > 0
