"""The language model: the feedback decoder alone, over text of any length."""

import logging
from typing import Dict, List, Optional

import torch
import torch.nn as nn
from fairseq import utils
from fairseq.models import FairseqLanguageModel, register_model
from fairseq.models.transformer import DEFAULT_MAX_TARGET_POSITIONS, Embedding
from fairseq.modules import AdaptiveInput, FairseqDropout
from torch import Tensor

from fairseq_feedback.data.carried_memory import CarriedMemory
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.models.feedback_config import to_transformer_config
from fairseq_feedback.models.feedback_decoder import FeedbackDecoder
from fairseq_feedback.models.feedback_lm_config import FeedbackLanguageModelConfig, check
from fairseq_feedback.models.inference import Decodes
from fairseq_feedback.models.options import (
    complete,
    completed,
    flag,
    follow,
    kept_layers,
    refuse,
    register_architectures,
    require_same_dictionary,
    vocabulary,
)
from fairseq_feedback.modules.feedback_memory import MemoryOptions

logger = logging.getLogger(__name__)

# Bands of the vocabulary with which the paper's numbers of parameters come out; a smaller one has those that fit.
BANDS = "20000,40000,200000"

# Numbers of Fan et al. (2020), Table 9, its "dropout rate" being that of attention and ReLU (section 7.6). What a
# table leaves out is as in "feedback_transformer_lm", which has the sizes of fairseq's transformer_lm. Keys and values
# are shared on WikiText-103, as the 126M of Table 3 say; elsewhere they are not, as the parameters of Table 9 say.
ARCHITECTURES = {
    "feedback_transformer_lm": dict(
        decoder_embed_dim=512,
        decoder_ffn_embed_dim=2048,
        decoder_attention_heads=8,
        decoder_layers=6,
        memory_span=512,
        adaptive_span=False,
        unshared_memory_kv=False,
        adaptive_input=False,
        tie_adaptive_weights=False,
        tie_adaptive_proj=False,
        dropout=0.0,
        attention_dropout=0.1,
        activation_dropout=0.1,
        output_dropout=0.0,
    ),
    "feedback_transformer_lm_wiki103_small": dict(
        decoder_embed_dim=512,
        decoder_ffn_embed_dim=4096,
        decoder_head_dim=128,
        decoder_layers=4,
        adaptive_input=True,
        adaptive_softmax_cutoff=BANDS,
        tie_adaptive_weights=True,
        tie_adaptive_proj=True,
        embedding_dropout=0.1,
        output_dropout=0.1,
    ),
    "feedback_transformer_lm_wiki103_large": dict(
        decoder_embed_dim=1024,
        decoder_ffn_embed_dim=4096,
        decoder_layers=8,
        adaptive_input=True,
        adaptive_softmax_cutoff=BANDS,
        tie_adaptive_weights=True,
        tie_adaptive_proj=True,
        attention_dropout=0.3,
        activation_dropout=0.3,
        embedding_dropout=0.2,
        output_dropout=0.2,
    ),
    "feedback_transformer_lm_enwik8": dict(
        decoder_embed_dim=512,
        decoder_ffn_embed_dim=4096,
        decoder_head_dim=128,
        decoder_layers=12,
        memory_span=8192,
        adaptive_span=True,
        unshared_memory_kv=True,
        attention_dropout=0.5,
        activation_dropout=0.5,
    ),
    "feedback_transformer_lm_char_ptb": dict(
        decoder_embed_dim=384,
        decoder_ffn_embed_dim=1536,
        decoder_attention_heads=4,
        decoder_layers=6,
        unshared_memory_kv=True,
        attention_dropout=0.5,
        activation_dropout=0.5,
    ),
    "feedback_transformer_lm_algorithmic": dict(
        decoder_embed_dim=256,
        decoder_ffn_embed_dim=1024,
        decoder_attention_heads=4,
        decoder_layers=4,
        memory_span=100,
        unshared_memory_kv=True,
        attention_dropout=0.2,
        activation_dropout=0.2,
    ),
    # Not in the paper: a character model that two CPU cores train in minutes.
    "feedback_transformer_lm_shakespeare": dict(
        decoder_embed_dim=128,
        decoder_ffn_embed_dim=512,
        decoder_attention_heads=4,
        decoder_layers=3,
        memory_span=128,
        embedding_dropout=0.1,
        output_dropout=0.1,
    ),
    "feedback_transformer_lm_tiny": dict(
        decoder_embed_dim=32,
        decoder_ffn_embed_dim=32,
        decoder_attention_heads=2,
        decoder_layers=2,
        memory_span=16,
        attention_dropout=0.0,
        activation_dropout=0.0,
    ),
}

_PAST_THE_MODULES = "the feedback step reads weights directly, past the modules that would add the noise"
# Options of fairseq's transformer_lm that this model refuses, and why.
UNSUPPORTED = {
    "--quant-noise-pq": _PAST_THE_MODULES,
    "--quant-noise-pq-block-size": "see --quant-noise-pq",
    "--quant-noise-scalar": _PAST_THE_MODULES,
    "--offload-activations": "use --checkpoint-activations",
    "--character-embeddings": "its input is tokens; for a character model, make each character a token",
    "--character-filters": "see --character-embeddings",
    "--character-embedding-dim": "see --character-embeddings",
    "--char-embedder-highway-layers": "see --character-embeddings",
    "--decoder-learned-pos": "use --positions learned",
    "--no-token-positional-embeddings": "its positions are relative, see --positions",
    "--decoder-normalize-before": "norms come before, unless --decoder-post-norm is given",
    "--relu-dropout": "use --activation-dropout",
    "--base-layers": "BASE layers process all steps at once",
    "--base-sublayers": "see --base-layers",
    "--base-shuffle": "see --base-layers",
    "--scale-fc": "the feedback step has no NormFormer norms",
    "--scale-attn": "see --scale-fc",
    "--scale-heads": "see --scale-fc",
    "--scale-resids": "see --scale-fc",
    "--decoder-xformers-att-config": "the attention over the memory is not xFormers'",
}


class FeedbackLMDecoder(FeedbackDecoder):
    """The decoder of the language model: no encoder, no absolute positions, a memory that may come from before."""

    def __init__(self, cfg, dictionary, embed_tokens):
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn=True)
        name = type(self).__name__
        self.dropout_module = FairseqDropout(cfg.embedding_dropout, module_name=name)
        self.output_dropout = FairseqDropout(cfg.output_dropout, module_name=name)
        if cfg.output_bias:
            self.output_bias = nn.Parameter(torch.zeros(len(dictionary)))

    def forward(
        self,
        prev_output_tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]] = None,
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        features_only: bool = False,
        memory: Optional[Tensor] = None,
    ):
        """
        Scores (B, T, V) and a dictionary, see extract_features. `memory`: of the steps before, (N, B, C).
        """
        x, extra = self.extract_features(prev_output_tokens, None, incremental_state=incremental_state, memory=memory)
        x = self.output_dropout(x)
        if not features_only:
            x = self.output_layer(x)
        return x, extra

    def max_positions(self):
        """Any length, if positions are relative: a step sees --memory-span others."""
        return int(1e8) if self.embed_positions is None else super().max_positions()


@register_model("feedback_transformer_lm", dataclass=FeedbackLanguageModelConfig)
class FeedbackLanguageModel(Decodes, FairseqLanguageModel):
    """Language model with feedback memory (Fan et al., 2020)."""

    @classmethod
    def add_args(cls, parser):
        super().add_args(parser)
        refuse(parser, "feedback_transformer_lm", UNSUPPORTED)

    @classmethod
    def build_model(cls, cfg, task):
        config = completed(cfg, FeedbackLanguageModelConfig, complete_architecture)
        check(config)
        relative = config.positions == "relative"
        if config.positions == "learned" and getattr(task, "streams", False):
            raise FeedbackError(
                "--positions learned: the last block of a stream may be longer than --tokens-per-sample: give "
                "sinusoidal, or --task language_modeling"
            )
        memory = MemoryOptions(
            span=config.memory_span,
            shared_kv=not config.unshared_memory_kv,
            head_dim=config.decoder_head_dim,
            init_slots=0 if relative else 1,
            relative_positions=relative,
            adaptive_span=config.adaptive_span,
            adaptive_span_ramp=config.adaptive_span_ramp,
            adaptive_span_start=config.adaptive_span_start,
            composition=config.memory_composition,
            trained_layers=config.decoder_layers,
            kept=kept_layers(config.decoder_layers_to_keep),
        )
        if relative and not hasattr(task, "carry_memory"):
            logger.info("under this task every block starts with an empty memory; --task feedback_lm carries it on")
        host = to_transformer_config(config, memory)
        if memory.kept:
            host.decoder.layers = len(memory.kept)
        host.decoder.normalize_before = not config.decoder_post_norm
        host.no_token_positional_embeddings = relative
        host.decoder.learned_pos = config.positions == "learned"
        now = config if host.decoder.learned_pos else getattr(task, "args", config)  # learned: as trained
        lengths = [getattr(now, name, None) for name in ("max_target_positions", "tokens_per_sample")]
        host.max_target_positions = next(filter(None, lengths), DEFAULT_MAX_TARGET_POSITIONS)
        if config.adaptive_softmax_cutoff:
            host.adaptive_softmax_cutoff = _cutoffs("adaptive_softmax_cutoff", config, task.target_dictionary)
        return cls(FeedbackLMDecoder(host, task.target_dictionary, _embedding(config, task.source_dictionary)))

    def forward(self, src_tokens, src_lengths=None, carried: Optional[CarriedMemory] = None, **kwargs):
        """
        Scores (B, T, V) of the next token after each, and a dictionary.

        carried: the memory of the text before, which this text's replaces.
        """
        if carried is None or self.slots_to_carry() == 0:
            return self.decoder(src_tokens, **kwargs)
        x, extra = self.decoder(src_tokens, memory=carried.get(self), **kwargs)
        carried.put(self, extra["memory"][0], self.slots_to_carry(), zeros=not self.decoder.sees_itself)
        return x, extra

    def slots_to_carry(self) -> int:
        """Memory vectors that the next block may want: what a step sees, and some more, as learned spans may grow.

        None with absolute positions, which begin anew in every block.
        """
        if self.decoder.embed_positions is not None:
            return 0
        span = self.decoder.memory.adaptive_span
        return self.decoder.reach() if span is None else min(span.longest, span.reach() + span.trim)

    def load_state_dict(self, state_dict, *args, **kwargs):
        ours, theirs = (vocabulary(state, "decoder") for state in (self.state_dict(), state_dict))
        if theirs:
            require_same_dictionary(ours, theirs, "", "dict.txt")
        return super().load_state_dict(state_dict, *args, **kwargs)


def complete_architecture(config, architecture):
    complete(config, ARCHITECTURES, architecture)
    follow(config, "decoder_input_dim", config.decoder_embed_dim)
    follow(config, "decoder_output_dim", config.decoder_embed_dim)
    follow(config, "decoder_head_dim", config.decoder_embed_dim // max(1, config.decoder_attention_heads))
    follow(config, "embedding_dropout", config.dropout)
    follow(config, "adaptive_input_cutoff", getattr(config, "adaptive_softmax_cutoff", None))


def _embedding(config, dictionary):
    if not config.adaptive_input:
        return Embedding(len(dictionary), config.decoder_input_dim, dictionary.pad())
    return AdaptiveInput(
        len(dictionary),
        dictionary.pad(),
        config.decoder_input_dim,
        config.adaptive_input_factor,
        config.decoder_embed_dim,
        _cutoffs("adaptive_input_cutoff", config, dictionary),
    )


def _cutoffs(name, config, dictionary):
    value = getattr(config, name)
    if value == BANDS:
        return [n for n in map(int, BANDS.split(",")) if n < len(dictionary)] or [len(dictionary)]
    try:
        cutoffs = utils.eval_str_list(value, type=int)
    except (SyntaxError, NameError, TypeError, ValueError):
        cutoffs = []
    if not cutoffs or cutoffs != sorted(set(cutoffs)) or cutoffs[0] < 1 or cutoffs[-1] >= len(dictionary):
        raise FeedbackError(
            f"{flag(name)} {value}: give rising numbers below {len(dictionary)}, the size of the dictionary"
        )
    return cutoffs


register_architectures("feedback_transformer_lm", ARCHITECTURES, complete_architecture)
