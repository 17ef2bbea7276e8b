"""The language model: the paper's equations, memory carried over blocks, what a step can know, decoding, options."""

import argparse
from dataclasses import fields

import literal
import pytest
import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.transformer_lm import TransformerLanguageModel
from fairseq.optim.fp16_optimizer import FP16Optimizer
from helpers import LM_VARIANTS, Task, make_dictionary, make_language_model, needs_current_fairseq, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_feedback.data.carried_memory import CarriedMemory
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.models.feedback_lm_config import FeedbackLanguageModelConfig
from fairseq_feedback.models.feedback_transformer_lm import ARCHITECTURES, UNSUPPORTED
from fairseq_feedback.modules.adaptive_span import AdaptiveSpan

OF_THE_TASK = ("tokens_per_sample", "max_target_positions")

pytestmark = pytest.mark.core

PAPER_TABLE_9 = {  # layers, hidden, FFN, heads, head width, span, dropout, embedding dropout, millions of parameters
    "algorithmic": (4, 256, 1024, 4, 64, 100, 0.2, 0.0, 3.2),
    "char_ptb": (6, 384, 1536, 4, 96, 512, 0.5, 0.0, 10.7),
    "enwik8": (12, 512, 4096, 8, 128, 8192, 0.5, 0.0, 77),
    "wiki103_small": (4, 512, 4096, 8, 128, 512, 0.1, 0.1, 44),
    "wiki103_large": (8, 1024, 4096, 8, 128, 512, 0.3, 0.2, 139),
}
VOCABULARY = dict(algorithmic=30, char_ptb=50, enwik8=205, wiki103_small=267744, wiki103_large=267744)


def tokens_of(dictionary, rows, length, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(dictionary.nspecial, len(dictionary), (rows, length), generator=g)


# ---------------------------------------------------------------- the equations


def to_literal(model, options):
    decoder = model.decoder
    config = literal.Config(
        layers=decoder.num_layers,
        heads=decoder.heads,
        embed_dim=decoder.embed_dim,
        padding_idx=decoder.padding_idx,
        normalize_before=not options.get("decoder_post_norm", False),
        unshared_memory_kv=options.get("unshared_memory_kv", False),
        composition=options.get("memory_composition", "weighted"),
        memory_span=decoder.memory_span,
        memory_init_slots=decoder.memory_span,  # "with zero slots": as many as a step sees
        activation=options.get("activation_fn", "relu"),
        scale_embedding=not options.get("no_scale_embedding", False),
        no_positions=True,
        layernorm_embedding=options.get("layernorm_embedding", False),
        cross_attention=False,
        final_norm=not options.get("no_decoder_final_norm", False),
        relative_positions=True,
        span_ramp=options.get("adaptive_span_ramp", 0),
    )
    return {k: v.tolist() for k, v in decoder.state_dict().items()}, config


@pytest.mark.parametrize("variant", [v for v in LM_VARIANTS if v not in ("adaptive", "input_dim", "layerdrop")])
def test_decoder_is_the_equations(variant):
    dictionary = make_dictionary(12)
    model = make_language_model(dictionary=dictionary, **LM_VARIANTS[variant]).double()
    weights, config = to_literal(model, LM_VARIANTS[variant])
    tokens = tokens_of(dictionary, 2, 12)
    with torch.no_grad():
        logits, extra = model(tokens)
    for row, text in enumerate(tokens.tolist()):
        _, expected, memory = literal.decode(weights, config, text)
        torch.testing.assert_close(logits[row], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)
        memory = torch.tensor(memory, dtype=torch.float64)
        torch.testing.assert_close(extra["memory"][0][:, row], memory, rtol=0, atol=1e-9)


# ---------------------------------------------------------------- blocks


def in_blocks(model, tokens, lengths):
    carried, parts = CarriedMemory(), []
    for block in tokens.split(lengths, dim=1):
        parts.append(model(block, carried=carried)[0])
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("kernel", ["reference", "bptt"])
@pytest.mark.parametrize("variant", LM_VARIANTS)
def test_blocks_with_carried_memory_equal_one_long_block(variant, kernel):
    dictionary = make_dictionary()
    model = make_language_model(dictionary=dictionary, feedback_kernel=kernel, **LM_VARIANTS[variant]).double()
    tokens = tokens_of(dictionary, 3, 17)
    with torch.no_grad():
        whole = model(tokens)[0]
        for lengths in ([5, 5, 5, 2], [1, 2, 14], [16, 1]):
            torch.testing.assert_close(in_blocks(model, tokens, lengths), whole, rtol=0, atol=1e-10)


def test_the_trimmed_reach_of_learned_spans_changes_nothing():
    """Slots that no head sees are left out of keys, values and what is carried."""
    dictionary = make_dictionary()
    options = dict(memory_span=300, adaptive_span=True, adaptive_span_ramp=8)
    model = make_language_model(dictionary=dictionary, **options).double()
    span = model.decoder.memory.adaptive_span
    span.ratios.data.mul_(0.1)
    assert span.reach() == 64 < model.slots_to_carry() == 128 < span.longest
    tokens = tokens_of(dictionary, 2, 170)
    with torch.no_grad():
        whole, extra = model(tokens)
        torch.testing.assert_close(in_blocks(model, tokens, [100, 70]), whole, rtol=0, atol=1e-10)
        span.trim = 1000  # no trimming
        assert span.reach() == 300
        torch.testing.assert_close(model(tokens)[0], whole, rtol=0, atol=1e-10)


def test_each_model_of_an_ensemble_carries_its_own_memory():
    dictionary = make_dictionary()
    models = [make_language_model(dictionary=dictionary, seed=seed).double() for seed in (0, 1)]
    tokens, together = tokens_of(dictionary, 2, 12), CarriedMemory()
    with torch.no_grad():
        for block in tokens.split(4, dim=1):
            both = [model(block, carried=together)[0] for model in models]
        for model, scores in zip(models, both):
            torch.testing.assert_close(scores, in_blocks(model, tokens, 4)[:, -4:], rtol=0, atol=1e-12)


def test_the_carried_memory_gets_no_gradient_but_its_keys_and_values_do():
    dictionary = make_dictionary()
    model = make_language_model(dictionary=dictionary).double().train()
    carried = CarriedMemory()
    model(tokens_of(dictionary, 2, 6), carried=carried)
    memory = carried.get(model)
    assert memory.shape == (5, 2, 12) and not memory.requires_grad
    block = tokens_of(dictionary, 2, 1)
    gradients = {}
    for carries in (True, False):
        model.zero_grad()
        before = CarriedMemory(memory) if carries else None
        model(block, carried=before)[0].square().sum().backward()
        gradients[carries] = model.decoder.memory.v_proj.weight.grad.clone()
    assert gradients[True].abs().max() > 0 and not torch.equal(gradients[True], gradients[False])


@pytest.mark.parametrize("span", [1, 2, 4])
@pytest.mark.parametrize("layers", [1, 3])
def test_what_a_step_can_know(span, layers):
    """
    A step sees the last `span` memory vectors. Each of these knew its own last `span`, so what a step can know has no
    bound; but if the last `span` memory vectors are given, nothing older can change it.
    """
    dictionary = make_dictionary()
    model = make_language_model(dictionary=dictionary, memory_span=span, decoder_layers=layers).double()
    a = tokens_of(dictionary, 1, 12)
    b = a.clone()
    b[0, 2] = dictionary.nspecial + (a[0, 2] - dictionary.nspecial + 1) % 30
    with torch.no_grad():
        (y_a, extra_a), (y_b, _) = model(a), model(b)
        changed = (y_a != y_b).any(-1)[0].tolist()
        assert changed == [False] * 2 + [True] * 10, "the change goes on from memory to memory"

        memory = extra_a["memory"][0]  # of text a
        for t in range(3, 12):
            y = model(b[:, t : t + 1], carried=CarriedMemory(memory[max(0, t - span) : t]))[0]
            if t >= span:  # the tokens of b, but the last memory vectors of a
                torch.testing.assert_close(y[:, 0], y_a[:, t], rtol=0, atol=1e-10)

        # Within one step of memory: a vector older than the span is not read at all.
        older = torch.cat([torch.full_like(memory[:1], 1e3), memory[:span]])
        y = model(a[:, :1], carried=CarriedMemory(older))[0]
        torch.testing.assert_close(y, model(a[:, :1], carried=CarriedMemory(memory[:span]))[0], rtol=0, atol=0)
        newer = torch.cat([memory[: span - 1], torch.full_like(memory[:1], 1e3)])
        assert (model(a[:, :1], carried=CarriedMemory(newer))[0] - y).abs().max() > 1e-6


# ---------------------------------------------------------------- decoding


@pytest.mark.parametrize("variant", LM_VARIANTS)
def test_decoding_equals_teacher_forcing(variant):
    """Further than the buffers of the cache are long, in steps of one token and more, with rows that move."""
    dictionary = make_dictionary()
    model = make_language_model(dictionary=dictionary, **LM_VARIANTS[variant]).double()
    tokens = tokens_of(dictionary, 3, 150)
    with torch.no_grad():
        whole = model(tokens, features_only=True)[0]
        state, done = {}, 0
        for new in [4, 1, 1, 70, 1, 30] + [1] * 43:
            done += new
            features, _ = model.decoder(tokens[:, :done], incremental_state=state, features_only=True)
            torch.testing.assert_close(features, whole[:, done - new : done], rtol=0, atol=1e-9)
            order = torch.randperm(3)
            model.decoder.reorder_incremental_state(state, order)
            tokens, whole = tokens[order], whole[order]


def test_the_cache_does_not_grow():
    dictionary = make_dictionary()
    model = make_language_model(dictionary=dictionary, memory_span=20)
    tokens, state, sizes = tokens_of(dictionary, 2, 400), {}, set()
    with torch.no_grad():
        for t in range(1, 401):
            model.decoder(tokens[:, :t], incremental_state=state)
            cache = next(iter(state.values()))
            sizes.add(cache["keys"].size(3))
    assert max(sizes) == 36


# ---------------------------------------------------------------- learned spans


@settings(max_examples=30, deadline=None, derandomize=True)
@given(start=st.integers(0, 9), ramp=st.integers(1, 9), seed=st.integers(0, 9))
def test_attention_with_learned_spans_sums_to_one_within_them(start, ramp, seed):
    model = make_language_model(
        memory_span=9, adaptive_span=True, adaptive_span_ramp=ramp, adaptive_span_start=start, seed=seed
    )
    span = model.decoder.memory.adaptive_span
    span.ratios.data.fill_(start / 9)
    scores = torch.randn(2, 1, 9)
    weights = (scores + span.scores(9)).softmax(-1)
    distance = torch.arange(8, -1, -1)
    mask = ((start - distance) / ramp + 1).clamp(0, 1)
    expected = scores.softmax(-1) * mask
    expected = (expected / expected.sum(-1, keepdim=True)).expand_as(weights)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-6)
    assert weights[..., distance >= start + ramp].eq(0).all()


def test_spans_learn_in_both_directions_and_stay_in_bounds():
    model = make_language_model(memory_span=9, adaptive_span=True, adaptive_span_ramp=3, adaptive_span_start=4).train()
    span = model.decoder.memory.adaptive_span
    span.ratios.data.fill_(0.5)
    gradient = torch.autograd.grad(span.scores(9)[..., 3].sum(), span.ratios)[0]
    assert (gradient > 0).all(), "a longer span gives a far slot more weight"
    assert (torch.autograd.grad(span.total(), span.ratios)[0] > 0).all()
    span.ratios.data.fill_(-0.3)
    assert torch.isfinite(span.scores(9)[..., -1]).all()
    assert span.ratios.min() == 0
    assert (torch.autograd.grad(span.total(), span.ratios)[0] == 0).all(), "nothing to gain below zero"


@pytest.mark.parametrize("flat", [False, True])
def test_a_span_of_half_precision_stays_in_its_bounds(flat):
    """scores() clamps the copy that trains; the optimizer has its own in float32."""
    span = AdaptiveSpan(layers=1, heads=2, longest=9, ramp=3, start=0).bfloat16()
    parameters = [torch.nn.Parameter(torch.zeros(3).bfloat16()), *span.parameters()]
    optimizer = FP16Optimizer.__new__(FP16Optimizer)
    optimizer.fp16_params, own = parameters, [torch.full((3,), 5.0), torch.tensor([[-0.5, 1.5]])]
    optimizer.fp32_params = {None: torch.cat([p.flatten() for p in own])} if flat else own
    optimizer._sync_fp32_params_to_fp16()
    assert parameters[0].tolist() == [5.0] * 3 and span.ratios.tolist() == [[0.0, 1.0]]
    left = optimizer.fp32_params[None].tolist()[3:] if flat else own[1].flatten().tolist()
    assert left == [0.0, 1.0]


@pytest.mark.parametrize("args, longest", [({}, 1024), ({"tokens_per_sample": 8}, 8),
                                           ({"tokens_per_sample": 8, "max_target_positions": 20}, 20)])  # fmt: skip
def test_sinusoidal_positions_go_as_far_as_the_task_says(args, longest):
    task = Task(make_dictionary(9))
    task.args = argparse.Namespace(**args)
    arch = "feedback_transformer_lm_tiny"
    model = ARCH_MODEL_REGISTRY[arch].build_model(parse(arch, "--positions", "sinusoidal"), task)
    assert model.max_positions() == longest


def test_memory_and_an_incremental_state_are_refused_together():
    model = make_language_model(memory_span=3)
    tokens = torch.tensor([[2, 5]])
    with pytest.raises(ValueError, match="memory: leave it out with incremental_state"):
        model.decoder(tokens, incremental_state={}, memory=torch.zeros(3, 1, model.decoder.embed_dim))


# ---------------------------------------------------------------- options


def build_empty(name, *flags):
    """The architecture with its vocabulary, without numbers in its weights."""
    arch = f"feedback_transformer_lm_{name}"
    with torch.device("meta"):
        return ARCH_MODEL_REGISTRY[arch].build_model(parse(arch, *flags), Task(make_dictionary(VOCABULARY[name] - 4)))


@pytest.mark.parametrize("name", PAPER_TABLE_9)
def test_named_architectures_have_the_papers_numbers(name):
    model = build_empty(name, "--unshared-memory-kv")  # Table 9's numbers of parameters are with these
    d = model.decoder
    layers, hidden, ffn, heads, head_width, span, dropout, embedding_dropout, millions = PAPER_TABLE_9[name]
    assert (d.num_layers, d.embed_dim, d.ffn_width, d.heads, d.memory_span) == (layers, hidden, ffn, heads, span)
    assert d.layers[0].self_attn.q_proj.out_features == heads * head_width
    assert d.attention_dropout.p == d.activation_dropout.p == dropout
    assert d.dropout_module.p == d.output_dropout.p == embedding_dropout and d.layer_dropout.p == 0
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("name, millions", [("wiki103_small", 40.93), ("wiki103_large", 124.46)])
def test_wikitext_shares_keys_and_values(name, millions):
    model = build_empty(name)
    assert model.decoder.memory.k_proj is not None
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize(
    "words, bands", [(300_000, [20000, 40000, 200000, 300_000]), (33_278, [20000, 33_278]), (20_000, [20_000])]
)
def test_the_architectures_own_bands_are_those_that_the_vocabulary_has(words, bands):
    dictionary = make_dictionary(words - 4)
    model = make_language_model("feedback_transformer_lm_wiki103_small", dictionary, decoder_embed_dim=64)
    assert model.decoder.adaptive_softmax.cutoff == model.decoder.embed_tokens.cutoff == bands
    tokens = tokens_of(dictionary, 1, 3)
    probabilities = model.get_normalized_probs(model(tokens), log_probs=False)
    assert probabilities.shape == (1, 3, words)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(1, 3))


def test_bands_that_are_given_are_not_the_architectures():
    """So a checkpoint, whose options are complete, keeps its own."""
    dictionary = make_dictionary(70_000)
    options = dict(adaptive_softmax_cutoff="20000,60000", decoder_embed_dim=64)
    old = make_language_model("feedback_transformer_lm_wiki103_small", dictionary, **options)
    assert old.decoder.adaptive_softmax.cutoff == old.decoder.embed_tokens.cutoff == [20000, 60000, 70004]


@needs_current_fairseq
def test_flags_are_frozen():
    """Renaming one breaks command lines and checkpoints; the host's names for the host's things."""
    ours = {f.name for f in fields(FeedbackLanguageModelConfig)} - {"_name", *OF_THE_TASK}
    parser = argparse.ArgumentParser()
    TransformerLanguageModel.add_args(parser)
    hosts = {a.dest for a in parser._actions} - {"help"}
    refused = {flag[2:].replace("-", "_") for flag in UNSUPPORTED}
    assert ours - hosts == {
        "memory_span", "memory_composition", "unshared_memory_kv", "feedback_kernel", "decoder_init", "adaptive_span",
        "adaptive_span_ramp", "adaptive_span_start", "positions", "decoder_post_norm", "decoder_head_dim",
        "embedding_dropout", "output_dropout", "output_bias",
    }  # fmt: skip
    assert hosts - ours == refused, "take it or refuse it by name"
    for field in fields(FeedbackLanguageModelConfig):
        assert field.name in ("_name", *OF_THE_TASK) or field.metadata["help"]


@pytest.mark.parametrize("flag", UNSUPPORTED)
def test_refuses_by_name(flag):
    with pytest.raises(FeedbackError, match=f"{flag} is not supported by feedback_transformer_lm: "):
        parse("feedback_transformer_lm", flag)


@pytest.mark.parametrize(
    "options, said",
    [
        (dict(memory_span=0), "--memory-span 0"),
        (dict(memory_span=-1), "--memory-span -1"),
        (dict(decoder_attention_heads=0), "--decoder-attention-heads 0"),
        (dict(decoder_head_dim=-2), "--decoder-head-dim -2"),
        (dict(decoder_layers=0), "--decoder-layers 0"),
        (dict(dropout=1.0), "--dropout 1.0"),
        (dict(output_dropout=-0.1), "--output-dropout -0.1"),
        (dict(adaptive_span=True, adaptive_span_ramp=0), "--adaptive-span-ramp 0"),
        (dict(adaptive_span=True, adaptive_span_start=6), "--adaptive-span-start 6"),
        (dict(adaptive_input=True), "--adaptive-input needs"),
        (dict(adaptive_softmax_cutoff="20,10"), "--adaptive-softmax-cutoff 20,10: give rising numbers below 34"),
        (dict(adaptive_softmax_cutoff="10,99"), "--adaptive-softmax-cutoff 10,99"),
        (dict(adaptive_softmax_cutoff="ten"), "--adaptive-softmax-cutoff ten"),
        (dict(tie_adaptive_weights=True), "--tie-adaptive-weights needs --adaptive-input"),
        (dict(tie_adaptive_proj=True), "--tie-adaptive-proj needs --tie-adaptive-weights"),
        (
            dict(adaptive_input=True, adaptive_input_cutoff="8", adaptive_softmax_cutoff="9", tie_adaptive_weights=1),
            "--adaptive-input-cutoff 8: give the same as --adaptive-softmax-cutoff",
        ),
        (dict(output_bias=True, adaptive_softmax_cutoff="9"), "--output-bias works without"),
        (dict(decoder_layers_to_keep="0,7"), "--decoder-layers-to-keep 0,7"),
        (dict(share_decoder_input_output_embed=True, decoder_input_dim=8), "--share-decoder-input-output-embed"),
    ],
)
def test_refuses_values_that_cannot_work(options, said):
    with pytest.raises(FeedbackError) as error:
        make_language_model(**options)
    assert said in str(error.value)


def test_a_dictionary_of_another_size_is_named():
    for options in ({}, LM_VARIANTS["adaptive"]):
        model = make_language_model(dictionary=make_dictionary(30), **options)
        other = make_language_model(dictionary=make_dictionary(31), **options)
        with pytest.raises(FeedbackError, match="dictionary has 34 entries, the data's has 35"):
            other.load_state_dict(model.state_dict())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_runs(arch):
    dictionary = make_dictionary(30)
    options = LM_VARIANTS["adaptive"] if "wiki103" in arch else {}
    model = make_language_model(arch, dictionary, **options)
    y, extra = model(tokens_of(dictionary, 2, 3))
    assert y.shape[:2] == (2, 3) and extra["memory"][0].shape == (3, 2, 12)
    assert model.max_positions() > 1e6


def test_every_parameter_gets_the_same_gradient_from_both_kernels():
    """Every parameter gets a gradient, from both kernels the same, of a block that goes on from another."""
    dictionary = make_dictionary()
    tokens = tokens_of(dictionary, 3, 7)
    for variant in ("unshared", "adaptive_span", "head_dim", "post_norm_unshared", "post_norm_adaptive_span"):
        gradients = []
        for kernel in ("reference", "bptt"):
            model = make_language_model(dictionary=dictionary, feedback_kernel=kernel, **LM_VARIANTS[variant]).double()
            model.train()
            torch.manual_seed(0)
            carried = CarriedMemory()
            model(tokens_of(dictionary, 3, 4, seed=2), carried=carried)
            model(tokens, carried=carried)[0].square().sum().backward()
            gradients.append({n: p.grad for n, p in model.named_parameters()})
        for name, gradient in gradients[0].items():
            assert gradient.abs().max() > 0 or name.endswith("k_proj.bias"), name
            torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-8, atol=1e-8, msg=name)
