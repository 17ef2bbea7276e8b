"""fairseq's own transformers in our engine: --memory-composition own is the same model, decoded faster.

The engine is a model of ours that holds the modules of theirs: nothing is copied, and what happens to one happens to
both. Theirs stays as it was.
"""

import copy

import torch
import torch.nn as nn
from fairseq import modules, utils
from fairseq.models.transformer import (
    TransformerDecoder,
    TransformerDecoderBase,
    TransformerEncoder,
    TransformerEncoderBase,
    TransformerModel,
)
from fairseq.models.transformer_lm import TransformerLanguageModel
from fairseq.modules.adaptive_softmax import TiedHeadModule, TiedLinear
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase, TransformerEncoderLayerBase

from fairseq_feedback.models.feedback_decoder import FeedbackDecoder
from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel
from fairseq_feedback.models.feedback_transformer_lm import FeedbackLanguageModel
from fairseq_feedback.models.packed_encoder import PackedEncoder
from fairseq_feedback.modules.feedback_decoder_layer import FeedbackDecoderLayer
from fairseq_feedback.modules.feedback_memory import MemoryAttention, MemoryOptions, SourceAttention

FAMILIES = (TransformerModel, TransformerLanguageModel)
# What such a model may be made of. A subclass of these computes something else, for all that is known.
PARTS = {
    *FAMILIES,
    *(TransformerEncoder, TransformerEncoderBase, TransformerDecoder, TransformerDecoderBase),
    *(TransformerEncoderLayerBase, TransformerDecoderLayerBase, modules.MultiheadAttention, modules.FairseqDropout),
    *(modules.SinusoidalPositionalEmbedding, modules.LearnedPositionalEmbedding, modules.LayerDropModuleList),
    *(modules.AdaptiveInput, modules.AdaptiveSoftmax, TiedHeadModule, TiedLinear),
    *(nn.Linear, nn.Embedding, nn.LayerNorm, nn.ModuleList, nn.Sequential, nn.Dropout, nn.LogSoftmax),
}
OURS = (nn.ModuleList, FeedbackDecoderLayer, MemoryAttention, SourceAttention)  # whose parts are theirs


class DoesNotFit(Exception):
    """Why a model cannot be decoded by the engine."""


def engine(model):
    """A model of ours that is this one."""
    _check(model)
    theirs = model.decoder
    heads = theirs.cfg.decoder.attention_heads
    cfg = copy.copy(theirs.cfg)
    cfg.memory = MemoryOptions(span=0, shared_kv=False, head_dim=theirs.embed_dim // heads, composition="own")
    cfg.decoder_init, cfg.feedback_kernel, cfg.checkpoint_activations = "fairseq", "auto", False
    translates = type(model) is TransformerModel
    with torch.device("meta"):  # no weights: they are theirs
        decoder = FeedbackDecoder(
            cfg,
            theirs.dictionary,
            theirs.embed_tokens,
            no_encoder_attn=theirs.layers[0].encoder_attn is None,
            output_projection=theirs.output_projection,
        )
        encoder = PackedEncoder(cfg, model.encoder.dictionary, model.encoder.embed_tokens) if translates else None
    _require_same_shapes(decoder.layers, theirs.layers)
    _hold(decoder, theirs)
    if not translates:
        return FeedbackLanguageModel(decoder).eval()
    for name, module in model.encoder.named_children():
        setattr(encoder, name, module)
    return FeedbackTransformerModel(cfg, encoder, decoder).eval()


def _check(model) -> None:
    if type(model) not in FAMILIES:
        names = " or ".join(family.__name__ for family in FAMILIES)
        raise DoesNotFit(f"a {type(model).__name__} is no {names} of fairseq")
    strange = sorted({type(m).__name__ for m in model.modules() if type(m) not in PARTS})
    if strange:
        raise DoesNotFit(f"it has parts that the engine does not know: {', '.join(strange)}")
    cfg = model.decoder.cfg
    if cfg.cross_self_attention:
        raise DoesNotFit("--cross-self-attention")
    if cfg.quant_noise.pq > 0:
        raise DoesNotFit("--quant-noise-pq")
    if str(cfg.activation_fn) not in utils.get_available_activation_fns():
        raise DoesNotFit(f"--activation-fn {cfg.activation_fn}")
    if any(getattr(m, "use_xformers", False) for m in model.modules()):
        raise DoesNotFit("attention by xFormers")
    if any(getattr(m, "apply_during_inference", False) for m in model.modules()):
        raise DoesNotFit("--retain-dropout")


def _require_same_shapes(ours, theirs) -> None:
    wanted, found = ({name: p.shape for name, p in layers.named_parameters()} for layers in (ours, theirs))
    if wanted != found:
        names = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        raise DoesNotFit(f"its decoder has other parameters than a plain transformer's: layers.{names[0]}")


def _hold(ours, theirs) -> None:
    """Let our decoder, layer or attention have the modules of theirs that are called the same."""
    for name, module in theirs.named_children():
        mine = getattr(ours, name, None)
        if isinstance(mine, OURS):
            _hold(mine, module)
        elif mine is not None:
            setattr(ours, name, module)
