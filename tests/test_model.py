"""Options, names and the parts of the model around the kernel."""

import argparse
from dataclasses import fields

import pytest
import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerConfig
from helpers import (
    OLD_FAIRSEQ,
    VARIANTS,
    Task,
    make_batch,
    make_dictionary,
    make_model,
    make_transformer,
    needs_current_fairseq,
    parse,
)
from omegaconf import OmegaConf

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.models.feedback_config import FeedbackTransformerConfig
from fairseq_feedback.models.feedback_transformer import ARCHITECTURES, UNSUPPORTED

pytestmark = pytest.mark.core

PAPER_TABLE_7 = {  # encoder layers, decoder layers, FFN, heads, dropout, hidden
    "feedback_transformer_cnn_dm": (6, 6, 2048, 8, 0.3, 512),
    "feedback_transformer_wmt_en_de_big": (6, 6, 4096, 16, 0.3, 1024),
    "feedback_transformer_iwslt_de_en": (6, 6, 1024, 4, 0.3, 512),
    "feedback_transformer_wmt_en_de_12_2": (12, 2, 4096, 16, 0.3, 1024),
}


@pytest.mark.parametrize("arch", PAPER_TABLE_7)
def test_named_architectures_have_the_papers_numbers(arch):
    with torch.device("meta"):
        model = ARCH_MODEL_REGISTRY[arch].build_model(parse(arch), Task(make_dictionary()))
    cfg = model.cfg
    enc_layers, dec_layers, ffn, heads, dropout, hidden = PAPER_TABLE_7[arch]
    assert (len(model.encoder.layers), len(model.decoder.layers)) == (enc_layers, dec_layers)
    for side in (cfg.encoder, cfg.decoder):
        assert (side.ffn_embed_dim, side.attention_heads, side.embed_dim) == (ffn, heads, hidden)
    assert cfg.dropout == dropout
    if arch.endswith("12_2"):
        assert cfg.encoder.layerdrop > 0 and cfg.decoder.layerdrop > 0


def test_every_architecture_is_registered_and_takes_flags():
    for arch in ARCHITECTURES:
        args = parse(arch, "--decoder-layers", "1", "--encoder-embed-dim", "32")
        with torch.device("meta"):
            model = ARCH_MODEL_REGISTRY[arch].build_model(args, Task(make_dictionary()))
        assert len(model.decoder.layers) == 1
        assert model.decoder.embed_dim == 32, "the decoder's width follows the encoder's"


def test_a_named_architecture_under_hydra_keeps_its_numbers():
    """There, unset options are None instead of missing."""
    cfg = OmegaConf.structured(FeedbackTransformerConfig(decoder_layers=1))
    cfg._name = "feedback_transformer_iwslt_de_en"
    with torch.device("meta"):
        model = ARCH_MODEL_REGISTRY[cfg._name].build_model(cfg, Task(make_dictionary()))
    assert model.cfg.encoder.ffn_embed_dim == 1024 and model.cfg.decoder.attention_heads == 4
    assert len(model.decoder.layers) == 1 and model.cfg.dropout == 0.3


@needs_current_fairseq
def test_flags_are_frozen():
    """Renaming one breaks command lines and checkpoints; the host's names for the host's things."""
    ours = {f.name for f in fields(FeedbackTransformerConfig)} - {"_name"}
    parser = argparse.ArgumentParser()
    from fairseq.models.transformer import TransformerModel

    TransformerModel.add_args(parser)
    hosts = {a.dest for a in parser._actions} - {"help"}
    refused = {flag[2:].replace("-", "_") for flag in UNSUPPORTED}
    assert ours - hosts == {
        "memory_span", "memory_composition", "unshared_memory_kv", "feedback_kernel", "decoder_init"
    }  # fmt: skip
    assert hosts - ours - {"relu_dropout"} == refused, "take it or refuse it by name"
    for field in fields(FeedbackTransformerConfig):
        assert field.name == "_name" or field.metadata["help"]


def test_defaults_are_those_of_fairseqs_transformer():
    model = ARCH_MODEL_REGISTRY["feedback_transformer"].build_model
    with torch.device("meta"):
        cfg = model(parse("feedback_transformer"), Task(make_dictionary())).cfg
    host = TransformerConfig()
    for f in fields(TransformerConfig):
        if f.name not in ("encoder", "decoder", "quant_noise", "_name"):
            assert getattr(cfg, f.name) == getattr(host, f.name), f.name
    for side in ("encoder", "decoder"):
        expected = getattr(host, side)
        expected = expected() if isinstance(expected, type) else expected
        for f in fields(expected):
            value = getattr(getattr(cfg, side), f.name)
            assert f.name == "_name" or value == getattr(expected, f.name), f.name


FFN_AND_NORMS = {f"{m}.{p}" for m in ("fc1", "fc2", "final_layer_norm", "self_attn_layer_norm",
                 "encoder_attn_layer_norm") for p in ("weight", "bias")}  # fmt: skip
CROSS = {f"encoder_attn.{m}_proj.{p}" for m in "qkv" for p in ("weight", "bias")} | {
    "encoder_attn.out_proj.weight",
    "encoder_attn.out_proj.bias",
}
QUERY = {f"self_attn.{m}_proj.{p}" for m in ("q", "out") for p in ("weight", "bias")}
KEY_VALUE = {f"{m}_proj.{p}" for m in "kv" for p in ("weight", "bias")}
NORM = {"layer_norm.weight", "layer_norm.bias"}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_state_dict_names_are_frozen(shared, pre_norm):
    model = make_model(unshared_memory_kv=not shared, decoder_normalize_before=pre_norm)
    layer = FFN_AND_NORMS | CROSS | QUERY
    expected = {"memory.layer_weights", "embed_tokens.weight", "output_projection.weight", "version"}
    if shared:
        expected |= {f"memory.{k}" for k in KEY_VALUE | (NORM if pre_norm else set())}
    else:
        layer = layer | {f"self_attn.{k}" for k in KEY_VALUE}
        if pre_norm:
            layer = layer | {f"self_attn.memory_{k}" for k in NORM}
    if pre_norm:
        expected |= NORM
    expected |= {f"layers.{i}.{k}" for i in range(2) for k in layer}
    names = set(model.decoder.state_dict())
    assert names - {"embed_positions._float_tensor"} == expected  # that one is of fairseq 0.12.2


def test_parameters_beyond_the_transformers_are_the_mix():
    """Shared keys and values save (L - 1) pairs of projections; unshared ones cost only the mix."""
    count = lambda m: sum(p.numel() for p in m.decoder.parameters())  # noqa: E731
    transformer = count(make_transformer())
    assert count(make_model(unshared_memory_kv=True)) == transformer + 3
    assert count(make_model()) == transformer + 3 - 2 * (16 * 16 + 16)


@pytest.mark.parametrize(
    "options, named",
    [
        (dict(memory_span=-1), "--memory-span -1"),
        (dict(decoder_attention_heads=3), "--decoder-attention-heads 3"),
        (dict(encoder_attention_heads=0), "--encoder-attention-heads 0"),
        (dict(decoder_layers=0), "--decoder-layers 0"),
        (dict(dropout=1.0), "--dropout 1.0"),
        (dict(attention_dropout=-0.1), "--attention-dropout -0.1"),
        (dict(decoder_layerdrop=1.5), "--decoder-layerdrop 1.5"),
        (dict(decoder_layers_to_keep="0,2"), "--decoder-layers-to-keep 0,2"),
        (dict(encoder_layers_to_keep="first"), "--encoder-layers-to-keep first"),
    ],
)
def test_impossible_values_are_refused_by_name(options, named):
    with pytest.raises(FeedbackError, match="^" + named + ": give "):
        make_model(**options)


def test_pruning_one_side_is_refused():
    """The host would throw the other side's layers away."""
    with pytest.raises(FeedbackError, match="^--encoder-layers-to-keep is missing"):
        make_model(decoder_layers_to_keep="0")


@pytest.mark.parametrize("flag", UNSUPPORTED)
def test_unsupported_options_are_refused_by_name(flag):
    with pytest.raises(FeedbackError, match=f"^{flag} is not supported by feedback_transformer"):
        parse("feedback_transformer", flag, "1")


def test_full_context_alignment_is_refused():
    model = make_model()
    src, lengths, prev = make_batch(make_dictionary())
    encoder_out = model.encoder(src, src_lengths=lengths)
    with pytest.raises(NotImplementedError, match="full_context_alignment"):
        model.decoder(prev, encoder_out=encoder_out, full_context_alignment=True)


# ------------------------------------------------------------ layers that are dropped or pruned


def test_layerdrop_draws_per_batch_and_never_in_evaluation():
    model = make_model(decoder_layers=3, decoder_layerdrop=0.5)
    assert model.decoder.draw_layers() == [True] * 3
    model.train()
    torch.manual_seed(0)
    draws = [tuple(model.decoder.draw_layers()) for _ in range(400)]
    assert len(set(draws)) == 8
    kept = sum(sum(d) for d in draws) / (3 * len(draws))
    assert abs(kept - 0.5) < 0.05


def test_pruned_layers_act_as_dropped_ones():
    """--decoder-layers-to-keep on a trained checkpoint, through the host's own loading."""
    full = make_model(decoder_layers=3, decoder_normalize_before=True, unshared_memory_kv=True)
    options = dict(decoder_layers=3, decoder_normalize_before=True, unshared_memory_kv=True)
    keep = dict(encoder_layers_to_keep="0", decoder_layers_to_keep="0,2")
    pruned = make_model(seed=5, **keep, **options)
    assert len(pruned.decoder.layers) == 2
    cfg = OmegaConf.create({"_name": "feedback_transformer", **keep})
    pruned.load_state_dict(dict(full.state_dict()), model_cfg=cfg)
    src, lengths, prev = make_batch(make_dictionary())
    full.decoder.draw_layers = lambda: [True, False, True]
    with torch.no_grad():
        expected, extra = full(src, lengths, prev)
        got, got_extra = pruned(src, lengths, prev)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got_extra["memory"][0], extra["memory"][0])


# ------------------------------------------------------------ warm start


@pytest.mark.parametrize("pre_norm", [False, True])
def test_warm_start_from_a_transformer(pre_norm):
    transformer = make_transformer(decoder_normalize_before=pre_norm, seed=3)
    theirs = {k: torch.randn_like(v) for k, v in transformer.decoder.state_dict().items()}
    state = dict(transformer.state_dict(), **{f"decoder.{k}": v for k, v in theirs.items()})
    state["decoder.version"] = transformer.state_dict()["decoder.version"]
    shared = make_model(decoder_normalize_before=pre_norm)
    shared.load_state_dict(dict(state))
    ours = shared.decoder.state_dict()
    for part in ("weight", "bias"):
        for new in ("k_proj", "v_proj"):
            own = [theirs[f"layers.{i}.self_attn.{new}.{part}"] for i in range(2)]
            torch.testing.assert_close(ours[f"memory.{new}.{part}"], (own[0] + own[1]) / 2)
        if pre_norm:
            own = [theirs[f"layers.{i}.self_attn_layer_norm.{part}"] for i in range(2)]
            torch.testing.assert_close(ours[f"memory.layer_norm.{part}"], (own[0] + own[1]) / 2)
    assert (ours["memory.layer_weights"] == 0).all()
    for name in set(ours) & set(theirs) - {"version", "embed_positions._float_tensor"}:
        assert torch.equal(ours[name], theirs[name]), name

    unshared = make_model(decoder_normalize_before=pre_norm, unshared_memory_kv=True)
    unshared.load_state_dict(dict(state))
    ours = unshared.decoder.state_dict()
    for name in set(theirs) - {"version", "embed_positions._float_tensor"}:
        assert torch.equal(ours[name], theirs[name]), name
    if pre_norm:
        for i in range(2):
            assert torch.equal(
                ours[f"layers.{i}.self_attn.memory_layer_norm.weight"],
                theirs[f"layers.{i}.self_attn_layer_norm.weight"],
            )


def test_other_checkpoints_still_must_fit():
    with pytest.raises(RuntimeError, match="layers.1"):
        make_model(decoder_layers=1).load_state_dict(make_transformer().state_dict())
    with pytest.raises(FeedbackError, match="encoder dictionary has 24 entries, the data's has 34"):
        make_model().load_state_dict(make_model(dictionary=make_dictionary(20)).state_dict())


# ------------------------------------------------------------ training


def losses_and_gradients(model, seed):
    dictionary = make_dictionary()
    src, lengths, prev = make_batch(dictionary, target=11)
    model.train()
    torch.manual_seed(seed)
    saved = SavedBytes()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda t: t):
        x, _ = model.decoder(prev, encoder_out=model.encoder(src, src_lengths=lengths))
    x.logsumexp(dim=-1).sum().backward()
    return x, {n: p.grad for n, p in model.named_parameters()}, saved.total()


class SavedBytes:
    """Bytes that autograd holds on to, each storage once."""

    def __init__(self):
        self.storages = {}

    def pack(self, tensor):
        storage = tensor.untyped_storage()
        self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    def total(self):
        return sum(self.storages.values())


@pytest.mark.parametrize("options", [{}, dict(memory_span=3, decoder_normalize_before=True)])
def test_checkpoint_activations_change_memory_and_nothing_else(options):
    options = dict(options, dropout=0.3, attention_dropout=0.2, activation_dropout=0.1, decoder_layerdrop=0.3)
    plain = losses_and_gradients(make_model(**options), seed=7)
    few = losses_and_gradients(make_model(checkpoint_activations=True, **options), seed=7)
    torch.testing.assert_close(few[0], plain[0])
    for name, gradient in plain[1].items():
        if gradient is None:
            assert few[1][name] is None
        else:
            torch.testing.assert_close(few[1][name], gradient)
    assert few[2] < 0.6 * plain[2]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant):
    options = dict(VARIANTS[variant], decoder_layerdrop=0.0)
    model = make_model(**options).train()
    src, lengths, prev = make_batch(make_dictionary())
    x, _ = model(src, lengths, prev)
    (x * torch.randn_like(x)).sum().backward()
    idle = ["adaptive_softmax"]  # the criterion's
    if variant == "span_1":
        # the softmax over a single slot is 1 whatever the query and the key
        idle += ["decoder.memory.k_proj"] + [f"decoder.layers.{i}.self_attn.q_proj" for i in (0, 1)]
    if variant == "no_cross_attention":
        idle.append("encoder.")
    for name, p in model.named_parameters():
        if OLD_FAIRSEQ and name.startswith("encoder.layers."):
            continue  # they hold second copies of their weights
        learns = p.grad is not None and bool(p.grad.abs().sum() > 0)
        assert learns != any(part in name for part in idle), name


def test_attention_is_returned_where_it_is_asked_for():
    model = make_model(decoder_layers=2)
    src, lengths, prev = make_batch(make_dictionary())
    _, extra = model(src, lengths, prev)
    last = extra["attn"][0]
    assert last.shape == (3, 9, 7)
    torch.testing.assert_close(last.sum(-1), torch.ones(3, 9))
    assert (last.masked_select(src.eq(make_dictionary().pad())[:, None].expand_as(last)) == 0).all()
    first = model(src, lengths, prev, alignment_layer=0)[1]["attn"][0]
    assert not torch.allclose(first, last)
    one_head = model(src, lengths, prev, alignment_layer=1, alignment_heads=1)[1]["attn"][0]
    assert not torch.allclose(one_head, last)
    torch.testing.assert_close(model(src, lengths, prev, alignment_layer=1)[1]["attn"][0], last)
    model.train()
    assert model(src, lengths, prev)[1]["attn"][0] is None
    assert model(src, lengths, prev, alignment_layer=1)[1]["attn"][0] is not None
