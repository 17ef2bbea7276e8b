"""Weights packed, or rounded to 8 bits, for decoding."""

import copy
import io
import pickle

import pytest
import torch
from fairseq.models.transformer import TransformerEncoderBase
from helpers import VARIANTS, make_batch, make_dictionary, make_language_model, make_model

from fairseq_feedback import native
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.kernels import products, reference
from fairseq_feedback.kernels.decoding.packing import Packed, pack
from fairseq_feedback.kernels.products import Fbgemm, Onednn, can_pack
from fairseq_feedback.kernels.weights import Affine

DICTIONARY = make_dictionary()
needs_packing = pytest.mark.skipif(not can_pack(torch.zeros(1, 1)), reason="this CPU or torch has no packed weights")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def decode(model, target=6, **batch):
    """Output of all steps, one after the other."""
    src, lengths, prev = make_batch(DICTIONARY, target=target, **batch)
    state, outputs = {}, []
    whole = model.encoder(src, lengths) if hasattr(model, "encoder") else None
    for t in range(1, target + 1):
        outputs.append(model.decoder(prev[:, :t], encoder_out=whole, incremental_state=state)[0])
    return torch.cat(outputs, dim=1)


def modes(model, **batch):
    """The same with packed weights and, as gradients are possible, without."""
    with torch.no_grad():
        packed = decode(model, **batch)
    assert model.decoder.packed.value is not None
    plain = decode(model, **batch)
    assert model.decoder.packed.value is None
    return packed, plain


@pytest.mark.parametrize("variant", [v for v in VARIANTS if "dropout" not in v])
def test_packed_decoding(variant):
    packed, plain = modes(make_model(dictionary=DICTIONARY, **VARIANTS[variant]), ragged=False)
    torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, dict(output_bias=True), dict(adaptive_span=True, adaptive_span_start=2)], ids=str
)
def test_packed_language_model(options):
    packed, plain = modes(make_language_model(dictionary=DICTIONARY, **options), ragged=False)
    torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-5)


@needs_packing
@pytest.mark.parametrize("rows", [1, 7, 250])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [native.Product, products.Packed, products.Plain])
def test_product(rows, bias, kind, monkeypatch):
    if kind is not native.Product:
        monkeypatch.setattr(native, "why_not", lambda: "a test")
    elif native.why_not():
        pytest.skip(native.why_not())
    if kind is products.Plain:
        monkeypatch.setattr(products, "can_pack", lambda weight: False)
    w = Affine(torch.randn(33, 20), torch.randn(33) if bias else None)
    x, out = torch.randn(2, rows, 20), torch.zeros(2, rows, 33)
    product = products.product(*w, rows)
    assert type(product) is kind
    want = reference.linear(x, w)
    torch.testing.assert_close(product(x), want, rtol=1e-5, atol=1e-5)
    assert product(x, "relu", out) is out and torch.equal(out, product(x).relu())
    if kind is not products.Plain:
        assert torch.equal(reference.activated(x, pack(w), "relu"), out)


@pytest.fixture(params=[native.Int8Product, Fbgemm, Onednn])
def engine(request, monkeypatch):
    """Each that there is here, for weights of any size."""
    if request.param is native.Int8Product:
        if native.why_not():
            pytest.skip(native.why_not())
        return
    monkeypatch.setattr(native, "why_not", lambda: "a test of torch's")
    if request.param not in products.engines(wide=True):
        pytest.skip("this torch does not have it")
    monkeypatch.setattr(products, "engines", lambda wide: [request.param])


def test_rows_do_not_change_what_others_become(engine):
    w = Affine(torch.randn(33, 64), torch.randn(33))
    x = torch.randn(9, 64) * torch.logspace(-3, 3, 9).unsqueeze(1)
    x[4] = 0.0
    product = pack(w, int8=True)
    for i in range(9):
        assert torch.equal(product(x)[i : i + 1], product(x[i : i + 1]))
    assert torch.equal(product(x)[4], w.bias)
    x[2, 5] = torch.nan
    assert product(x).isnan().all(dim=1).tolist() == [i == 2 for i in range(9)]


def test_wide_outputs_have_an_engine_of_their_own():
    wide, narrow = [products.Int8Product(torch.randn(outputs, 8), None).engine for outputs in (products.WIDE, 8)]
    assert type(wide) is products.engines(wide=True)[0] and type(narrow) is products.engines(wide=False)[0]


@pytest.mark.parametrize("bias", [True, False])
def test_int8_product(engine, bias):
    torch.manual_seed(0)
    w = Affine(torch.randn(33, 64) * torch.rand(33, 1), torch.randn(33) if bias else None)
    w.weight[3] = 0.0  # a row of a pruned weight
    x = torch.randn(2, 9, 64)
    product = pack(w, int8=True)
    want = reference.linear(x, w)
    error = (reference.linear(x, product) - want).abs().max() / want.abs().max()
    assert 0 < error < 0.03
    assert torch.equal(reference.activated(x, product, "relu"), reference.linear(x, product).relu())
    half = reference.linear(x.bfloat16(), product)
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("variant", ["plain", "pre_norm", "layernorm_embedding", "learned_positions", "gelu"])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("left_pad", [False, True])
def test_encoder_gives_what_fairseqs_gives(variant, ragged, left_pad):
    model = make_model(dictionary=DICTIONARY, encoder_layers=3, **VARIANTS[variant])
    src, lengths, _ = make_batch(DICTIONARY, rows=4, ragged=ragged)
    if left_pad:
        src = torch.stack([row.roll(src.size(1) - int(n)) for row, n in zip(src, lengths)])
    want = TransformerEncoderBase.forward(model.encoder, src, lengths)
    assert model.encoder.packed.value is None
    with torch.no_grad():
        got = model.encoder(src, lengths)
    if can_pack(torch.zeros(1, 1)):
        assert model.encoder.packed.value is not None
    assert got.keys() == want.keys()
    for name in ("encoder_padding_mask", "src_lengths"):
        assert torch.equal(got[name][0], want[name][0]) and got[name][0].dtype == want[name][0].dtype
    for name in ("encoder_out", "encoder_embedding"):
        torch.testing.assert_close(got[name][0], want[name][0], rtol=1e-4, atol=1e-5)
    assert got["encoder_states"] == want["encoder_states"] == []


@needs_packing
def test_hidden_states_and_retained_dropout_are_left_to_fairseq():
    model = make_model(dictionary=DICTIONARY, dropout=0.5)
    src, lengths, _ = make_batch(DICTIONARY)
    with torch.no_grad():
        assert len(model.encoder(src, lengths, return_all_hiddens=True)["encoder_states"]) == 2
        model.make_generation_fast_(retain_dropout=True)
        assert not torch.equal(model.encoder(src)["encoder_out"][0], model.encoder(src)["encoder_out"][0])
    assert model.encoder.packed.value is None


# Every way in which weights change


def by_optimizer(model):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    src, lengths, prev = make_batch(DICTIONARY)
    model(src, lengths, prev)[0].square().sum().backward()
    optimizer.step()
    model.eval()


def by_data(model):
    """As fairseq's optimizers with float32 masters do: torch does not count that as a change."""
    model.train()
    for p in model.parameters():
        p.data.mul_(1.1)
    model.eval()


def by_data_while_it_decodes(model):
    """As an average of weights that is swapped in for an evaluation."""
    for p in model.parameters():
        p.data.copy_(1.1 * p.data)


def by_loading(model):
    model.load_state_dict({name: 1.1 * w if w.is_floating_point() else w for name, w in model.state_dict().items()})


def in_place(model):
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)


def by_type(model):
    model.double()


@pytest.mark.parametrize("change", [by_optimizer, by_data, by_data_while_it_decodes, by_loading, in_place, by_type])
def test_changed_weights_are_packed_anew(change):
    model = make_model(dictionary=DICTIONARY)
    before, _ = modes(model)
    with torch.no_grad():
        decode(model)  # is packed again
    change(model)
    packed, plain = modes(model)
    torch.testing.assert_close(packed, plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(packed.float(), before, rtol=1e-4, atol=1e-5) or change is by_type


def test_unchanged_weights_are_packed_once():
    packed, made = Packed(), []
    weights = [torch.randn(3, 3)]
    for _ in range(3):
        packed.refresh(weights, made.append, 1)
    assert made == [1]
    packed.refresh(weights, made.append, 2)
    assert made == [1, 2]


@pytest.mark.parametrize("int8", [False, True])
def test_copies_and_checkpoints_know_nothing_of_it(int8):
    model = make_model(dictionary=DICTIONARY)
    names = set(model.state_dict())
    if int8:
        model.decode_in_int8()
    with torch.no_grad():
        want = decode(model)
        for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model.decoder))):
            decoder = getattr(same, "decoder", same)
            assert decoder.packed.value is None
        torch.testing.assert_close(decode(copy.deepcopy(model)), want)
    assert set(model.state_dict()) == names
    torch.save(model.state_dict(), io.BytesIO())


# 8 bits


@pytest.mark.parametrize("make", [make_model, make_language_model])
@pytest.mark.parametrize("dtype", ["float", "bfloat16"])
@pytest.mark.parametrize("composition", ["weighted", "recurrent", "own"])
def test_int8_is_close(make, dtype, composition):
    options = dict(decoder_embed_dim=64, decoder_attention_heads=4, memory_composition=composition)
    options["unshared_memory_kv"] = composition != "weighted"
    if make is make_model:
        options["encoder_embed_dim"] = 64
    exact, rounded = (getattr(make(dictionary=DICTIONARY, **options), dtype)() for _ in range(2))
    rounded.decode_in_int8()
    with torch.no_grad():
        want, got = decode(exact).float().log_softmax(-1), decode(rounded).float().log_softmax(-1)
    difference = (got - want).abs().mean()
    assert 0 < difference < (0.1 if dtype == "float" else 0.2)


@needs_gpu
def test_int8_on_a_gpu_is_refused():
    with pytest.raises(FeedbackError, match="--decode-int8 is for CPUs, and this model is on cuda"):
        make_model(dictionary=DICTIONARY).cuda().decode_in_int8()
