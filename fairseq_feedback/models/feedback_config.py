"""Options of the feedback models, with the names that fairseq's transformer has for the same things."""

from argparse import Namespace
from dataclasses import dataclass, field
from typing import List, Optional

from fairseq import utils
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models.transformer import TransformerConfig
from fairseq.models.transformer.transformer_config import (
    DEFAULT_MAX_SOURCE_POSITIONS,
    DEFAULT_MAX_TARGET_POSITIONS,
    DEFAULT_MIN_PARAMS_TO_WRAP,
)

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.models.options import (
    flag,
    option,
    require,
    require_composition,
    require_layers_to_keep,
    require_probabilities,
)
from fairseq_feedback.modules.feedback_memory import MemoryOptions


@dataclass
class FeedbackTransformerConfig(FairseqDataclass):
    # None = as the architecture says, see ARCHITECTURES in feedback_transformer.py.
    encoder_embed_dim: Optional[int] = option(None, "encoder embedding dimension")
    encoder_ffn_embed_dim: Optional[int] = option(None, "encoder embedding dimension for FFN")
    encoder_layers: Optional[int] = option(None, "num encoder layers")
    encoder_attention_heads: Optional[int] = option(None, "num encoder attention heads")
    encoder_layerdrop: Optional[float] = option(None, "LayerDrop probability for the encoder")
    decoder_embed_dim: Optional[int] = option(None, "decoder embedding dimension (default: the encoder's)")
    decoder_ffn_embed_dim: Optional[int] = option(None, "decoder embedding dimension for FFN (default: the encoder's)")
    decoder_layers: Optional[int] = option(None, "num decoder layers")
    decoder_attention_heads: Optional[int] = option(None, "num decoder attention heads")
    decoder_layerdrop: Optional[float] = option(
        None, "LayerDrop probability for the decoder; a dropped layer is the identity"
    )
    decoder_output_dim: Optional[int] = option(
        None,
        "decoder output dimension, an extra linear layer if different (default: --decoder-embed-dim)",
    )
    dropout: Optional[float] = option(None, "dropout probability")
    attention_dropout: Optional[float] = option(None, "dropout probability for attention weights")
    activation_dropout: float = field(
        default=0.0,
        metadata={"help": "dropout probability after activation in FFN", "alias": "--relu-dropout"},
    )

    memory_span: int = option(0, "how many past steps the feedback memory attention of a step sees; 0 = all")
    memory_composition: str = option(
        "weighted",
        "what the memory is made of: weighted (a learned mix of the embedding and all layers), mean (of these), "
        "top (the last layer), layer:K (the output of layer K, 0 = the embedding); or every layer has a memory of its "
        "own: recurrent (a learned mix of its output and those below), own (its input: a standard transformer)",
    )
    unshared_memory_kv: bool = option(
        False,
        "give every decoder layer its own keys and values of the memory (default: one pair for all layers)",
    )

    feedback_kernel: ChoiceEnum(["auto", "bptt", "reference"]) = option(
        "auto",
        "how sequences are computed: reference (readable, its backward is autograd's), bptt (fast, its backward is "
        "derived by hand; warns where it must fall back) or auto (the fastest that can do the run)",
    )

    decoder_init: ChoiceEnum(["fairseq", "authors"]) = option(
        "fairseq",
        "how the decoder's layers begin: as fairseq's transformer, or as in the code of the paper's authors (with "
        "--decoder-normalize-before, what ends a sublayer is divided by sqrt(2 * layers))",
    )

    activation_fn: ChoiceEnum(utils.get_available_activation_fns()) = option("relu", "activation function to use")
    encoder_normalize_before: bool = option(False, "apply layernorm before each encoder block")
    decoder_normalize_before: bool = option(False, "apply layernorm before each decoder block")
    no_decoder_final_norm: bool = option(False, "don't add an extra layernorm after the last decoder block")
    layernorm_embedding: bool = option(False, "add layernorm to embedding")
    no_scale_embedding: bool = option(False, "don't scale embeddings by sqrt(embed_dim)")
    no_cross_attention: bool = option(False, "do not perform cross-attention")
    encoder_learned_pos: bool = option(False, "use learned positional embeddings in the encoder")
    decoder_learned_pos: bool = option(False, "use learned positional embeddings in the decoder")
    no_token_positional_embeddings: bool = option(False, "disable positional embeddings")
    max_source_positions: int = option(DEFAULT_MAX_SOURCE_POSITIONS, "maximum input length supported by the encoder")
    max_target_positions: int = option(DEFAULT_MAX_TARGET_POSITIONS, "maximum output length supported by the decoder")
    share_decoder_input_output_embed: bool = option(False, "share decoder input and output embeddings")
    share_all_embeddings: bool = option(
        False,
        "share encoder, decoder and output embeddings (requires shared dictionary and embed dim)",
    )
    merge_src_tgt_embed: bool = option(False, "merge the source and target embedding tables into one")
    encoder_embed_path: Optional[str] = option(None, "path to pre-trained encoder embedding")
    decoder_embed_path: Optional[str] = option(None, "path to pre-trained decoder embedding")
    adaptive_softmax_cutoff: Optional[List[int]] = option(
        None, "list of adaptive softmax cutoff points, for the adaptive_loss criterion"
    )
    adaptive_softmax_dropout: float = option(0.0, "adaptive softmax dropout for the tail projections")
    adaptive_softmax_factor: float = option(4, "adaptive softmax factor")
    encoder_layers_to_keep: Optional[str] = option(
        None, "which encoder layers to keep when pruning, a comma-separated list"
    )
    decoder_layers_to_keep: Optional[str] = option(
        None, "which decoder layers to keep when pruning, a comma-separated list"
    )
    checkpoint_activations: bool = option(
        False,
        "keep few activations and recompute the rest in backward: the encoder's by layer, "
        "the decoder's by segments of time",
    )
    encoder_xformers_att_config: Optional[str] = option(None, "config for xFormers attention in the encoder")
    min_params_to_wrap: int = option(
        DEFAULT_MIN_PARAMS_TO_WRAP,
        "minimum number of params for a layer to be wrapped with FSDP()",
    )
    export: bool = option(False, "make the layernorm exportable with torchscript")


def to_transformer_config(config, memory: MemoryOptions) -> TransformerConfig:
    """The nested configuration that the host's encoder and decoder take, with our own options on top."""
    return TransformerConfig.from_namespace(Namespace(**vars(config), memory=memory))


def check(config: FeedbackTransformerConfig) -> None:
    """Refuse values that cannot work, naming the flag."""
    for side in ("encoder", "decoder"):
        dim = getattr(config, f"{side}_embed_dim")
        heads = getattr(config, f"{side}_attention_heads")
        layers = getattr(config, f"{side}_layers")
        require(config, f"{side}_embed_dim", dim >= 1, "a positive width")
        require(config, f"{side}_layers", layers >= 1, "at least one layer")
        require(
            config,
            f"{side}_ffn_embed_dim",
            getattr(config, f"{side}_ffn_embed_dim") >= 1,
            "a positive width",
        )
        require(
            config,
            f"{side}_attention_heads",
            heads >= 1 and dim % heads == 0,
            f"a divisor of {flag(side + '_embed_dim')} {dim}",
        )
        require_layers_to_keep(config, side)
    if bool(config.encoder_layers_to_keep) != bool(config.decoder_layers_to_keep):
        missing = "encoder" if config.decoder_layers_to_keep else "decoder"
        raise FeedbackError(
            f"--{missing}-layers-to-keep is missing: fairseq prunes both sides when it prunes one, "
            "so list the layers of both"
        )
    require(
        config,
        "merge_src_tgt_embed",
        not config.merge_src_tgt_embed or hasattr(TransformerConfig, "merge_src_tgt_embed"),
        "it to a newer fairseq, this one does not have it",
    )
    for name in ("max_source_positions", "max_target_positions", "decoder_output_dim"):
        require(config, name, getattr(config, name) >= 1, "a positive number")
    require_composition(config)
    require(config, "memory_span", config.memory_span >= 0, "0 (everything) or a number of steps")
    require_probabilities(
        config,
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "adaptive_softmax_dropout",
        "encoder_layerdrop",
        "decoder_layerdrop",
    )
