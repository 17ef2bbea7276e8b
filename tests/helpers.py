"""Small models, dictionaries and batches that the tests share."""

import argparse
from collections import OrderedDict

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerConfig, TransformerModel
from fairseq.models.transformer.transformer_legacy import base_architecture
from fairseq.tasks.fairseq_task import LegacyFairseqTask

import fairseq_feedback  # noqa: F401  registers the models
from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel
from fairseq_feedback.models.feedback_transformer_lm import FeedbackLanguageModel

# scripts/test_fairseq_0_12_2.sh runs the tests marked `core` with the last release.
OLD_FAIRSEQ = not hasattr(TransformerConfig, "merge_src_tgt_embed")
needs_current_fairseq = pytest.mark.skipif(OLD_FAIRSEQ, reason="fairseq 0.12.2 does this otherwise")

# What makes any named architecture small enough for a test; everything else of it stays.
SMALL = dict(
    encoder_embed_dim=16,
    encoder_ffn_embed_dim=24,
    encoder_attention_heads=2,
    encoder_layers=1,
    decoder_embed_dim=16,
    decoder_ffn_embed_dim=20,
    decoder_attention_heads=2,
    decoder_layers=2,
)

# One entry for each option that changes what the decoder computes.
VARIANTS = OrderedDict(
    plain={},
    pre_norm=dict(decoder_normalize_before=True, encoder_normalize_before=True),
    unshared=dict(unshared_memory_kv=True),
    unshared_pre_norm=dict(unshared_memory_kv=True, decoder_normalize_before=True),
    span_1=dict(memory_span=1),
    span_3=dict(memory_span=3),
    span_3_unshared=dict(memory_span=3, unshared_memory_kv=True),
    no_final_norm=dict(decoder_normalize_before=True, no_decoder_final_norm=True),
    layernorm_embedding=dict(layernorm_embedding=True),
    learned_positions=dict(decoder_learned_pos=True, encoder_learned_pos=True),
    no_positions=dict(no_token_positional_embeddings=True),
    no_scale_embedding=dict(no_scale_embedding=True),
    no_cross_attention=dict(no_cross_attention=True),
    wide_encoder=dict(encoder_embed_dim=24),
    output_dim=dict(decoder_output_dim=12),
    shared_embeddings=dict(share_all_embeddings=True),
    shared_output=dict(share_decoder_input_output_embed=True),
    gelu=dict(activation_fn="gelu"),
    tanh=dict(activation_fn="tanh"),
    gelu_accurate=dict(activation_fn="gelu_accurate"),
    one_layer=dict(decoder_layers=1),
    three_layers_layerdrop=dict(decoder_layers=3, decoder_layerdrop=0.5),
    dropouts=dict(dropout=0.3, attention_dropout=0.2, activation_dropout=0.1),
    checkpoint_activations=dict(checkpoint_activations=True),
    adaptive_softmax=dict(adaptive_softmax_cutoff=[10, 20], adaptive_softmax_dropout=0.1),
    mean=dict(memory_composition="mean", unshared_memory_kv=True, decoder_normalize_before=True),
    first_layer=dict(memory_composition="layer:1", memory_span=3),
    recurrent=dict(
        memory_composition="recurrent", unshared_memory_kv=True, decoder_normalize_before=True, decoder_layers=3
    ),
    own=dict(memory_composition="own", unshared_memory_kv=True),
    own_pre_norm=dict(memory_composition="own", unshared_memory_kv=True, decoder_normalize_before=True, memory_span=3),
)


# The same for the language model.
SMALL_LM = dict(
    decoder_embed_dim=12, decoder_ffn_embed_dim=20, decoder_attention_heads=2, decoder_layers=2, memory_span=5
)
LM_VARIANTS = OrderedDict(
    plain={},
    unshared=dict(unshared_memory_kv=True),
    span_1=dict(memory_span=1),
    head_dim=dict(decoder_head_dim=10),
    odd_head_dim=dict(decoder_head_dim=3, unshared_memory_kv=True),
    post_norm=dict(decoder_post_norm=True),
    post_norm_adaptive_span=dict(
        decoder_post_norm=True, memory_span=9, adaptive_span=True, adaptive_span_ramp=3, adaptive_span_start=4
    ),
    post_norm_unshared=dict(decoder_post_norm=True, unshared_memory_kv=True),
    adaptive_span=dict(memory_span=9, adaptive_span=True, adaptive_span_ramp=3, adaptive_span_start=4),
    adaptive_span_unshared=dict(
        memory_span=9, adaptive_span=True, adaptive_span_ramp=2, adaptive_span_start=2, unshared_memory_kv=True
    ),
    no_final_norm=dict(no_decoder_final_norm=True),
    layernorm_embedding=dict(layernorm_embedding=True),
    no_scale_embedding=dict(no_scale_embedding=True),
    shared_output=dict(share_decoder_input_output_embed=True),
    output_bias=dict(output_bias=True),
    gelu=dict(activation_fn="gelu"),
    one_layer=dict(decoder_layers=1),
    input_dim=dict(decoder_input_dim=8),
    dropouts=dict(
        dropout=0.1, attention_dropout=0.2, activation_dropout=0.1, embedding_dropout=0.2, output_dropout=0.3
    ),
    layerdrop=dict(decoder_layers=3, decoder_layerdrop=0.5),
    checkpoint_activations=dict(checkpoint_activations=True),
    adaptive=dict(
        adaptive_input=True,
        adaptive_softmax_cutoff="10,20",
        adaptive_input_factor=2,
        adaptive_softmax_factor=2,
        tie_adaptive_weights=True,
    ),
    top=dict(memory_composition="top"),
    recurrent=dict(memory_composition="recurrent", unshared_memory_kv=True),
    own=dict(memory_composition="own", unshared_memory_kv=True, decoder_head_dim=5),
    own_adaptive_span=dict(
        memory_composition="own", unshared_memory_kv=True, memory_span=9, adaptive_span=True, adaptive_span_ramp=3,
        adaptive_span_start=4, attention_dropout=0.2,
    ),
)  # fmt: skip


def make_dictionary(words=30):
    d = Dictionary()
    for i in range(words):
        d.add_symbol(f"w{i}")
    d.finalize(padding_factor=1)
    return d


class Task(LegacyFairseqTask):
    """The two dictionaries that build_model asks a task for."""

    def __init__(self, dictionary):
        super().__init__(argparse.Namespace())
        self.dictionary = dictionary

    @property
    def source_dictionary(self):
        return self.dictionary

    @property
    def target_dictionary(self):
        return self.dictionary


def parse(arch, *flags):
    """Options as fairseq-train makes them of a command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, argument_default=argparse.SUPPRESS)
    ARCH_MODEL_REGISTRY[arch].add_args(parser)
    args = parser.parse_args(flags)
    args.arch = arch
    return args


def make_model(arch="feedback_transformer_tiny", dictionary=None, seed=0, **options):
    """A model of that architecture, small unless `options` say otherwise, in eval mode."""
    torch.manual_seed(seed)
    task = Task(dictionary or make_dictionary())
    args = argparse.Namespace(arch=arch, **{**SMALL, "dropout": 0.0, **options})
    model = ARCH_MODEL_REGISTRY[arch].build_model(args, task).eval()
    spread_mix(model)
    return model


def make_language_model(arch="feedback_transformer_lm_tiny", dictionary=None, seed=0, **options):
    """A language model of that architecture, small unless `options` say otherwise, in eval mode."""
    torch.manual_seed(seed)
    args = argparse.Namespace(arch=arch, **{**SMALL_LM, **options})
    model = ARCH_MODEL_REGISTRY[arch].build_model(args, Task(dictionary or make_dictionary())).eval()
    spread_mix(model)
    return model


def make_transformer(dictionary=None, seed=0, **options):
    """fairseq's own transformer, of the same size."""
    torch.manual_seed(seed)
    args = argparse.Namespace(arch="transformer", **{**SMALL, "dropout": 0.0, **options})
    base_architecture(args)
    return TransformerModel.build_model(args, Task(dictionary or make_dictionary())).eval()


def spread_mix(model):
    """Mix weights, norms and biases as unequal as training makes them: at their first values they hide mistakes."""
    if not isinstance(model, (FeedbackTransformerModel, FeedbackLanguageModel)):
        return
    with torch.no_grad():
        for name, p in model.decoder.named_parameters():
            if name == "memory.layer_weights":
                p.normal_()
            elif name == "memory.adaptive_span.ratios":
                p.uniform_(0.0, 1.0)
            elif p.dim() == 1:
                p.add_(0.3 * torch.randn_like(p))


def make_batch(dictionary, rows=3, source=7, target=9, ragged=True, left_pad_target=False, seed=1):
    """Source, source lengths and previous output tokens of random words; ragged: rows of unequal length."""
    g = torch.Generator().manual_seed(seed)
    first, last = dictionary.nspecial, len(dictionary)
    src = torch.randint(first, last, (rows, source), generator=g)
    prev = torch.randint(first, last, (rows, target), generator=g)
    src[:, -1] = dictionary.eos()
    prev[:, 0] = dictionary.eos()
    lengths = torch.full((rows,), source)
    if ragged:
        for row in range(1, rows):
            cut = min(row, source - 2)
            src[row, : source - cut] = src[row, cut:].clone()
            src[row, source - cut :] = dictionary.pad()
            lengths[row] = source - cut
            cut = min(row, target - 2)
            if left_pad_target:
                prev[row, cut:] = prev[row, : target - cut].clone()
                prev[row, :cut] = dictionary.pad()
            else:
                prev[row, target - cut :] = dictionary.pad()
    return src, lengths, prev
