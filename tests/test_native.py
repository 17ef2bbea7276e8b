"""The C++ of fairseq_feedback/native beside what torch computes."""

import importlib.metadata
import os
import subprocess
import sys

import pytest
import torch
from helpers import make_batch, make_dictionary, make_model

from fairseq_feedback import native
from fairseq_feedback.generation.top import top
from fairseq_feedback.kernels.attention import attend
from fairseq_feedback.kernels.training import norms, slots
from fairseq_feedback.kernels.weights import Affine, Zeros

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
pytestmark = pytest.mark.core
needs_native = pytest.mark.skipif(bool(native.why_not()), reason=f"no C++ here: {native.why_not()}")


@pytest.fixture
def by_torch(monkeypatch):
    """Computes something without the library."""

    def compute(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(native, "why_not", lambda: "a test")
            return function(*args)

    return compute


@needs_native
@pytest.mark.parametrize("width", [64, 40, 7])
@pytest.mark.parametrize("beams", [1, 5])
@pytest.mark.parametrize("more", ["nothing", "own", "zeros", "zeros only"])
@pytest.mark.parametrize("distances", [False, True])
@pytest.mark.parametrize("hides", ["nothing", "of a sentence", "of a row"])
@torch.no_grad()
def test_attention(width, beams, more, distances, hides, by_torch):
    torch.manual_seed(0)
    rows, heads, room = 3, 2, 30
    slots = 0 if more == "zeros only" else 21
    query = torch.randn(rows * beams, heads * width)
    keys, values = (torch.randn(rows, heads, room, width)[:, :, 4 : 4 + slots] for _ in range(2))
    zeros = Zeros(torch.randn(heads, width), torch.randn(heads, width), 17) if "zeros" in more else None
    own = tuple(torch.randn(rows * beams, heads, 1, width) for _ in range(2)) if more == "own" else None
    columns = slots + int(own is not None) + (zeros.count if zeros else 0)
    hidden = None
    if hides != "nothing":
        hidden = torch.rand(rows, beams if hides == "of a row" else 1, columns) < 0.5
        hidden[:, :, -1] = False
    extra = (torch.randn(columns, width), torch.randn(heads, columns)) if distances else (None, None)
    args = (query, keys, values, hidden, None, 0.0, *extra, zeros, own)
    assert native.can_attend(query, keys, values, None)
    for got, want in zip(attend(*args), by_torch(attend, *args)):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@needs_native
@torch.no_grad()
def test_attention_to_extreme_scores():
    key = torch.tensor([[1e4], [-1e4], [0.0]]).expand(1, 1, 3, 1)
    values = torch.tensor([[1.0], [2.0], [3.0]]).expand(1, 1, 3, 1)
    key, values = key.contiguous(), values.contiguous()
    out, weights = native.attend(torch.ones(1, 1), key, values, *5 * [None])
    assert out.item() == 1 and weights.flatten().tolist() == [1, 0, 0]
    out, _ = native.attend(torch.tensor([[torch.nan]]), key, values, *5 * [None])
    assert out.isnan().all()


@needs_native
@pytest.mark.parametrize("rows", [0, 1, 11, 12, 13, 250, 485])
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (20, 33), (512, 64), (517, 47)])
def test_product_of_floats(rows, inputs, outputs):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    product = native.Product(weight, bias)
    want = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(product(x).double(), want, rtol=1e-4, atol=1e-4)
    for row in range(0, rows, 37):
        assert torch.equal(product(x[row : row + 1])[0], product(x)[row])
    of_transposed = native.Product(weight.t().contiguous().t(), bias)
    assert torch.equal(of_transposed(x.t().contiguous().t()), product(x))


@needs_native
def test_products_of_floats_that_are_not_finite():
    x = torch.ones(4, 3)
    x[1, 0], x[2, 1] = torch.nan, torch.inf
    got = native.Product(torch.ones(2, 3), None)(x, "relu")
    assert got[:, 0].isnan().tolist() == [False, True, False, False] and got[2, 1] == torch.inf


def slots_of(width, heads=3, rows=2, room=30):
    torch.manual_seed(0)
    keys, values = (torch.randn(rows * heads, room, width) for _ in range(2))
    like = torch.empty(0)
    made = [kind(rows * heads, room, width, like) for kind in (slots.Dots, slots.Sums, slots.Sums, slots.Dots)]
    return [table.write(0, x) for table, x in zip(made, (keys, values, keys, values))]


@needs_native
@pytest.mark.parametrize("width", [1, 7, 16, 33, 64, 100, 128, 129])
@pytest.mark.parametrize("more", ["nothing", "vectors", "added", "both"])
@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("first, last, again", [(0, 30, 0), (5, 6, 0), (3, 21, 0), (0, 2, 2), (0, 19, 37)])
@torch.no_grad()
def test_attention_of_a_training_step(width, more, drops, first, last, again, by_torch):
    rows, heads, window = 2, 3, slots.Window(first, last, again)
    count = last - first + again

    def both_ways():
        keys, values, keys_back, values_back = slots_of(width, heads, rows)
        torch.manual_seed(1)
        query, d_heads = torch.randn(rows, heads * width) / width**0.5, torch.randn(rows, heads * width)
        vectors = torch.randn(count, width) if more in ("vectors", "both") else None
        added = torch.randn(rows * heads, count) if more in ("added", "both") else None
        keep = torch.rand(rows, heads, 70)[:, :, 5 : 5 + count] < 0.7 if drops else None
        kept, out = torch.zeros(rows, heads * width), torch.zeros(rows, heads * width)
        z, attn = slots.attend(query, keys, values, window, vectors, added, keep, out)
        assert z is out
        d_scores = torch.zeros_like(attn)
        args = d_heads, keys_back, values_back, window, attn, keep, kept, d_scores
        d_query = slots.attend_back(*args, True)
        assert slots.attend_back(*args, False) is None and torch.equal(kept, d_heads)
        return z, attn, d_scores, d_query

    for got, want in zip(both_ways(), by_torch(both_ways)):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@needs_native
@pytest.mark.parametrize("rows, width", [(1, 5), (3, 16), (8, 512), (70, 600)])
@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("adds", [False, True])
@torch.no_grad()
def test_norms_of_a_training_step(rows, width, drops, adds, by_torch):
    torch.manual_seed(0)
    x, z, d, added, weight, bias = (torch.randn(rows, width) for _ in range(6))
    w, keep = Affine(weight[0], bias[0]), torch.rand(rows, width) < 0.7 if drops else None

    def both_ways():
        y, normed = norms.add_norm(x, z, keep, w, None)
        alone, same = norms.add_norm(x, z, keep, None, torch.empty(rows, width))
        assert torch.equal(alone, y) and same is alone
        mean, rstd = torch.native_layer_norm(y, w.weight.shape, *w, 1e-5)[1:]
        return y, normed, norms.norm_back(d, y, mean, rstd, w, added if adds else None)

    for got, want in zip(both_ways(), by_torch(both_ways)):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@needs_native
@pytest.mark.parametrize("rows", [0, 1, 11, 12, 13, 250])
@pytest.mark.parametrize("inputs, outputs", [(4, 1), (20, 33), (512, 64), (516, 47)])
def test_product_of_8_bits(rows, inputs, outputs):
    """The same numbers of 8 bits, multiplied exactly."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    got = native.Int8Product(weight, bias)(x)
    of_weight, of_rows = (t.abs().amax(dim=1, keepdim=True) / native.LEVELS for t in (weight, x))
    want = (x / of_rows).round().double() @ (weight / of_weight).round().double().t()
    want = want * of_rows * of_weight.t() + bias
    # A number that is half a level may be rounded the other way.
    torch.testing.assert_close(
        got.double(), want, rtol=0, atol=float(2 * of_rows.max() * weight.abs().max()) if rows else 0
    )
    assert got.shape == (rows, outputs)
    assert torch.equal(native.Int8Product(weight, bias)(x, "relu"), got.relu())


@needs_native
def test_products_of_the_largest_numbers():
    of_nan = native.Int8Product(torch.eye(4), None)(torch.tensor([[torch.nan, 1, 1, 1], [torch.inf, 1, 1, 1]]), "relu")
    assert of_nan.isnan().all()
    for sign in (1, -1):
        got = native.Int8Product(torch.full((3, 4096), float(sign)), None)(torch.full((2, 4096), -5.0))
        torch.testing.assert_close(got, torch.full((2, 3), -5.0 * 4096 * sign))


@needs_native
@pytest.mark.parametrize("width, k", [(5, 5), (63, 2), (64, 10), (1000, 1), (7912, 10)])
@torch.no_grad()
def test_top(width, k):
    torch.manual_seed(0)
    x = torch.randn(9, width)
    assert native.can_find_top(x, k)
    for got, want in zip(top(x, k), x.topk(k)):
        assert torch.equal(got, want)
    values, places = top(x[:, torch.arange(width).flip(0)], k)
    assert torch.equal(x.gather(1, width - 1 - places), values)


@needs_native
@torch.no_grad()
def test_top_of_few_numbers():
    x = torch.full((2, 100), -torch.inf)
    x[0, 70] = 3.0
    x[1] = torch.nan
    values, places = top(x, 4)
    assert values.tolist() == [[3.0] + 3 * [-torch.inf], 4 * [-torch.inf]]
    assert places[0, 0] == 70 and all(len(set(row)) == 4 for row in places.tolist())


@needs_native
@pytest.mark.parametrize("width", [1, 15, 33, 7912])
def test_log_softmax(width):
    torch.manual_seed(0)
    x = 30 * torch.randn(7, width)
    x[0, 0] = -torch.inf if width > 1 else 0.0
    x[1, -1] = torch.nan
    want = x.log_softmax(dim=1)
    torch.testing.assert_close(native.log_softmax_(x), want, rtol=1e-6, atol=1e-5, equal_nan=True)


@needs_native
def test_who_records_gradients_gets_torch():
    x = torch.randn(2, 8, requires_grad=True)
    assert not native.can_find_top(x, 2) and not native.can_normalize(x)
    with torch.no_grad():
        assert native.can_find_top(x.detach(), 2)
        assert not any(native.can_find_top(y, 2) for y in (x.double(), x.to("meta"), x.bfloat16()))
        assert not native.can_find_top(torch.randn(2, 8), 9)


@needs_native
@pytest.mark.parametrize("int8", [False, True])
@torch.no_grad()
def test_decoding_is_that_of_torch(int8, by_torch):
    words = make_dictionary()
    src, lengths, prev = make_batch(words)

    def scores():
        model = make_model(dictionary=words, dropout=0.0).eval()
        if int8:
            model.decode_in_int8()
        encoded, state = model.encoder(src, lengths), {}
        steps = [model.decoder(prev[:, :t], encoder_out=encoded, incremental_state=state) for t in range(1, 6)]
        return [torch.cat(parts) for parts in zip(*((out, extra["attn"][0]) for out, extra in steps))]

    for got, want in zip(scores(), by_torch(scores)):
        assert got.isfinite().all()
        torch.testing.assert_close(got, want, rtol=1e-4, atol=0.02 if int8 else 1e-4)


def test_it_can_be_left_out():
    code = "import torch; from fairseq_feedback import native; print(native.why_not())"
    environment = {**os.environ, "FEEDBACK_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "FEEDBACK_NATIVE=0\n", done.stderr


def test_reasons(monkeypatch, tmp_path):
    fresh = native.why_not.__wrapped__
    monkeypatch.delenv("FEEDBACK_NATIVE", raising=False)
    monkeypatch.setattr(native, "_path", str)
    assert fresh().startswith("it was not built, which takes a C++ compiler")
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(b"no library")
    monkeypatch.setattr(native, "_path", lambda: str(damaged))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert fresh() == "it needs a CPU with AVX-512 and VNNI"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    assert fresh().startswith("it does not load: ")


@needs_native
def test_of_another_version(monkeypatch):
    monkeypatch.setattr(native, "INTERFACE", 0)
    assert native.why_not.__wrapped__().endswith(" is of another version")


@needs_native
def test_sources_find_what_was_installed(monkeypatch, tmp_path):
    """As in a clone whose environment has the package."""
    (tmp_path / "fairseq_feedback" / "native").mkdir(parents=True)
    built = tmp_path / "fairseq_feedback" / "native" / "_native.so"
    built.touch()
    monkeypatch.setattr(native, "__file__", str(tmp_path / "elsewhere" / "__init__.py"))
    monkeypatch.setattr(
        native.importlib.metadata, "distribution", lambda name: importlib.metadata.PathDistribution(tmp_path / "x")
    )
    assert native._path() == str(built)
