"""The encoder-decoder model: fairseq's transformer encoder and the feedback decoder."""

from fairseq.models import register_model
from fairseq.models.transformer import TransformerModelBase

from fairseq_feedback.models.feedback_config import FeedbackTransformerConfig, check, to_transformer_config
from fairseq_feedback.models.feedback_decoder import FeedbackDecoder
from fairseq_feedback.models.inference import Decodes
from fairseq_feedback.models.options import (
    complete,
    completed,
    follow,
    kept_layers,
    refuse,
    register_architectures,
    require_same_dictionary,
)
from fairseq_feedback.models.packed_encoder import PackedEncoder
from fairseq_feedback.modules.feedback_memory import MemoryOptions

# Numbers of Fan et al. (2020), Table 7, and section 4.2 for the 12 + 2 layers. What a table leaves out is as in
# "feedback_transformer", which has the defaults of fairseq's transformer; the decoder follows the encoder.
ARCHITECTURES = {
    "feedback_transformer": dict(
        encoder_embed_dim=512,
        encoder_ffn_embed_dim=2048,
        encoder_attention_heads=8,
        encoder_layers=6,
        encoder_layerdrop=0.0,
        decoder_attention_heads=8,
        decoder_layers=6,
        decoder_layerdrop=0.0,
        dropout=0.1,
        attention_dropout=0.0,
    ),
    "feedback_transformer_iwslt_de_en": dict(
        encoder_ffn_embed_dim=1024,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        dropout=0.3,
    ),
    "feedback_transformer_wmt_en_de_big": dict(
        encoder_embed_dim=1024,
        encoder_ffn_embed_dim=4096,
        encoder_attention_heads=16,
        decoder_attention_heads=16,
        dropout=0.3,
    ),
    # The paper does not print its LayerDrop rate; 0.2 is that of Fan et al. (2019).
    "feedback_transformer_wmt_en_de_12_2": dict(
        encoder_embed_dim=1024,
        encoder_ffn_embed_dim=4096,
        encoder_attention_heads=16,
        encoder_layers=12,
        encoder_layerdrop=0.2,
        decoder_attention_heads=16,
        decoder_layers=2,
        decoder_layerdrop=0.2,
        dropout=0.3,
    ),
    "feedback_transformer_cnn_dm": dict(dropout=0.3),
    "feedback_transformer_tiny": dict(
        encoder_embed_dim=64,
        encoder_ffn_embed_dim=64,
        encoder_attention_heads=2,
        encoder_layers=2,
        decoder_attention_heads=2,
        decoder_layers=2,
    ),
}

# Options of fairseq's transformer that this model refuses, and why.
UNSUPPORTED = {
    "--quant-noise-pq": "the feedback step reads weights directly, past the modules that would add the noise",
    "--quant-noise-pq-block-size": "see --quant-noise-pq",
    "--quant-noise-scalar": "the feedback step reads weights directly, past the modules that would add the noise",
    "--cross-self-attention": "the memory attention reads past steps only",
    "--offload-activations": "use --checkpoint-activations",
    "--adaptive-input": "fairseq's encoder-decoder models do not implement it either",
    "--tie-adaptive-weights": "it needs --adaptive-input",
    "--tie-adaptive-proj": "it needs --adaptive-input",
    "--base-layers": "BASE layers process all steps at once",
    "--base-sublayers": "see --base-layers",
    "--base-shuffle": "see --base-layers",
    "--char-inputs": "fairseq's transformer no longer implements it either",
    "--decoder-xformers-att-config": "the attention over the memory is not xFormers'",
}


@register_model("feedback_transformer", dataclass=FeedbackTransformerConfig)
class FeedbackTransformerModel(Decodes, TransformerModelBase):
    """Sequence to sequence with feedback memory in the decoder (Fan et al., 2020)."""

    @classmethod
    def add_args(cls, parser):
        super(TransformerModelBase, cls).add_args(parser)
        refuse(parser, "feedback_transformer", UNSUPPORTED)

    @classmethod
    def build_model(cls, cfg, task):
        config = completed(cfg, FeedbackTransformerConfig, complete_architecture)
        check(config)
        memory = MemoryOptions(
            span=config.memory_span,
            shared_kv=not config.unshared_memory_kv,
            head_dim=config.decoder_embed_dim // config.decoder_attention_heads,
            composition=config.memory_composition,
            trained_layers=config.decoder_layers,
            kept=kept_layers(config.decoder_layers_to_keep),
        )
        return super().build_model(to_transformer_config(config, memory), task)

    @classmethod
    def build_encoder(cls, cfg, src_dict, embed_tokens):
        return PackedEncoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(cls, cfg, tgt_dict, embed_tokens):
        return FeedbackDecoder(cfg, tgt_dict, embed_tokens, no_encoder_attn=cfg.no_cross_attention)

    def load_state_dict(self, state_dict, *args, **kwargs):
        for side in ("encoder", "decoder"):
            ours = getattr(self, side).embed_tokens.weight
            theirs = state_dict.get(f"{side}.embed_tokens.weight")
            if theirs is not None:
                require_same_dictionary(len(ours), len(theirs), f"{side} ", "dict.*.txt")
        return super().load_state_dict(state_dict, *args, **kwargs)


def complete_architecture(config, architecture):
    complete(config, ARCHITECTURES, architecture)
    follow(config, "decoder_embed_dim", config.encoder_embed_dim)
    follow(config, "decoder_ffn_embed_dim", config.encoder_ffn_embed_dim)
    follow(config, "decoder_output_dim", config.decoder_embed_dim)


register_architectures("feedback_transformer", ARCHITECTURES, complete_architecture)
