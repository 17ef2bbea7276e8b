"""Options of the feedback language model, with the names that fairseq's transformer_lm has for the same things."""

from dataclasses import dataclass
from typing import Optional

from fairseq import utils
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models.transformer.transformer_config import DEFAULT_MIN_PARAMS_TO_WRAP
from omegaconf import II

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.models.feedback_config import FeedbackTransformerConfig
from fairseq_feedback.models.options import (
    flag,
    option,
    require,
    require_composition,
    require_layers_to_keep,
    require_probabilities,
)


def _as_in_translation(name):
    """A field with the default and the help of the encoder-decoder model's."""
    return option(*_DEFAULT_AND_HELP[name])


_DEFAULT_AND_HELP = {
    name: (f.default, f.metadata["help"])
    for name, f in FeedbackTransformerConfig.__dataclass_fields__.items()
    if "help" in f.metadata
}


@dataclass
class FeedbackLanguageModelConfig(FairseqDataclass):
    # None = as the architecture says, see ARCHITECTURES in feedback_transformer_lm.py.
    decoder_embed_dim: Optional[int] = option(None, "decoder embedding dimension")
    decoder_input_dim: Optional[int] = option(None, "decoder input dimension (default: --decoder-embed-dim)")
    decoder_output_dim: Optional[int] = option(None, "decoder output dimension (default: --decoder-embed-dim)")
    decoder_ffn_embed_dim: Optional[int] = option(None, "decoder embedding dimension for FFN")
    decoder_layers: Optional[int] = option(None, "num decoder layers")
    decoder_attention_heads: Optional[int] = option(None, "num decoder attention heads")
    decoder_head_dim: Optional[int] = option(
        None, "width of an attention head (default: --decoder-embed-dim / --decoder-attention-heads)"
    )
    decoder_layerdrop: float = option(0.0, _DEFAULT_AND_HELP["decoder_layerdrop"][1])
    decoder_layers_to_keep: Optional[str] = _as_in_translation("decoder_layers_to_keep")

    dropout: Optional[float] = option(None, "dropout probability of the output of every sublayer")
    attention_dropout: Optional[float] = option(None, "dropout probability for attention weights")
    activation_dropout: Optional[float] = option(None, "dropout probability after activation in FFN")
    embedding_dropout: Optional[float] = option(None, "dropout probability of the embedding (default: --dropout)")
    output_dropout: Optional[float] = option(None, "dropout probability of the last output")

    positions: ChoiceEnum(["relative", "sinusoidal", "learned"]) = option(
        "relative",
        "relative (a vector for every distance within --memory-span), or absolute as in fairseq's transformer_lm, "
        "with which every block begins anew",
    )
    memory_span: Optional[int] = option(
        None, "how many past steps a step sees; with --adaptive-span, the longest that a head can learn to see"
    )
    adaptive_span: Optional[bool] = option(
        None, "let every attention head learn how far it looks back (see --adaptive-span-loss of the criterion)"
    )
    adaptive_span_ramp: int = option(32, "steps over which a head's attention fades out at the end of its span")
    adaptive_span_start: int = option(0, "span of every head before training, without the ramp")
    memory_composition: str = _as_in_translation("memory_composition")
    unshared_memory_kv: Optional[bool] = option(None, _DEFAULT_AND_HELP["unshared_memory_kv"][1])
    feedback_kernel: ChoiceEnum(["auto", "bptt", "reference"]) = _as_in_translation("feedback_kernel")

    decoder_init: ChoiceEnum(["fairseq", "authors"]) = option(
        "authors",
        "how the layers begin: as fairseq's transformer, or as in the code of the paper's authors (what ends a "
        "sublayer is divided by sqrt(2 * layers) unless --decoder-post-norm is given, relative positions are N(0, 1))",
    )
    activation_fn: ChoiceEnum(utils.get_available_activation_fns()) = _as_in_translation("activation_fn")
    decoder_post_norm: bool = option(False, "apply layernorm after each decoder block, not before")
    no_decoder_final_norm: bool = _as_in_translation("no_decoder_final_norm")
    layernorm_embedding: bool = _as_in_translation("layernorm_embedding")
    no_scale_embedding: bool = _as_in_translation("no_scale_embedding")
    share_decoder_input_output_embed: bool = _as_in_translation("share_decoder_input_output_embed")
    output_bias: bool = option(False, "add a bias to the scores of the vocabulary")
    adaptive_input: Optional[bool] = option(None, "if set, uses adaptive input")
    adaptive_input_factor: float = option(4, "adaptive input factor")
    adaptive_input_cutoff: Optional[str] = option(
        None, "comma separated list of adaptive input cutoff points (default: --adaptive-softmax-cutoff)"
    )
    adaptive_softmax_cutoff: Optional[str] = option(
        None, "comma separated list of adaptive softmax cutoff points (criterion feedback_lm_loss or adaptive_loss)"
    )
    adaptive_softmax_dropout: float = _as_in_translation("adaptive_softmax_dropout")
    adaptive_softmax_factor: float = _as_in_translation("adaptive_softmax_factor")
    tie_adaptive_weights: Optional[bool] = option(
        None, "if set, ties the weights of adaptive softmax and adaptive input"
    )
    tie_adaptive_proj: Optional[bool] = option(
        None, "if set, ties the projection weights of adaptive softmax and adaptive input"
    )
    checkpoint_activations: bool = option(
        False, "keep few activations and recompute the rest in backward, by segments of time"
    )
    min_params_to_wrap: int = option(DEFAULT_MIN_PARAMS_TO_WRAP, _DEFAULT_AND_HELP["min_params_to_wrap"][1])
    # Of the training: how many learned positions there are.
    tokens_per_sample: int = II("task.tokens_per_sample")
    max_target_positions: Optional[int] = II("task.max_target_positions")


def check(config: FeedbackLanguageModelConfig) -> None:
    """Refuse values that cannot work, naming the flag."""
    for name in ("embed_dim", "input_dim", "output_dim", "ffn_embed_dim", "head_dim"):
        require(config, f"decoder_{name}", getattr(config, f"decoder_{name}") >= 1, "a positive width")
    require(config, "decoder_layers", config.decoder_layers >= 1, "at least one layer")
    require(config, "decoder_attention_heads", config.decoder_attention_heads >= 1, "at least one head")
    require_layers_to_keep(config, "decoder")
    require_composition(config)
    if config.positions == "relative":
        every = "at least one step: every relative position has its own vector"
        require(config, "memory_span", config.memory_span >= 1, every)
    else:
        require(config, "memory_span", config.memory_span >= 0, "0 (everything) or a number of steps")
        require(config, "positions", not config.adaptive_span, "relative, which --adaptive-span needs")
    require(config, "adaptive_span_ramp", config.adaptive_span_ramp >= 1, "at least one step")
    require(
        config,
        "adaptive_span_start",
        0 <= config.adaptive_span_start <= config.memory_span,
        f"a number of steps up to --memory-span {config.memory_span}",
    )
    require_probabilities(
        config,
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "embedding_dropout",
        "output_dropout",
        "adaptive_softmax_dropout",
        "decoder_layerdrop",
    )
    if config.adaptive_input and not config.adaptive_input_cutoff:
        raise FeedbackError("--adaptive-input needs --adaptive-input-cutoff or --adaptive-softmax-cutoff")
    if config.share_decoder_input_output_embed and (config.adaptive_input or config.adaptive_softmax_cutoff):
        raise FeedbackError(
            "--share-decoder-input-output-embed works without --adaptive-input and --adaptive-softmax-cutoff; "
            "for these there is --tie-adaptive-weights"
        )
    if config.share_decoder_input_output_embed and config.decoder_input_dim != config.decoder_output_dim:
        raise FeedbackError(
            "--share-decoder-input-output-embed: --decoder-input-dim and --decoder-output-dim must be the same, "
            f"not {config.decoder_input_dim} and {config.decoder_output_dim}"
        )
    if config.output_bias and config.adaptive_softmax_cutoff:
        raise FeedbackError("--output-bias works without --adaptive-softmax-cutoff")
    if config.tie_adaptive_proj and not config.tie_adaptive_weights:
        raise FeedbackError("--tie-adaptive-proj needs --tie-adaptive-weights")
    if config.tie_adaptive_weights:
        pairs = [
            ("adaptive_input_factor", "adaptive_softmax_factor"),
            ("adaptive_input_cutoff", "adaptive_softmax_cutoff"),
            ("decoder_input_dim", "decoder_output_dim"),
        ]
        if not config.adaptive_input:
            raise FeedbackError("--tie-adaptive-weights needs --adaptive-input")
        for ours, theirs in pairs:
            same = getattr(config, ours) == getattr(config, theirs)
            require(config, ours, same, f"the same as {flag(theirs)}, as --tie-adaptive-weights needs")
