"""What the decoder learns: its modules, and their weights as the kernels take them."""

from typing import List, Optional

import torch
import torch.nn as nn
import torch.nn.functional as F
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import FairseqDropout
from torch import Tensor

from fairseq_feedback.kernels import reference
from fairseq_feedback.kernels.decoding import packing
from fairseq_feedback.kernels.weights import Affine, LayerWeights, MemoryWeights, Weights
from fairseq_feedback.models import warm_start
from fairseq_feedback.modules import initialisation
from fairseq_feedback.modules.feedback_decoder_layer import FeedbackDecoderLayer
from fairseq_feedback.modules.feedback_memory import FeedbackMemory


class DecoderWeights(TransformerDecoderBase):
    """fairseq's decoder with our layers and a memory. What computes with them is in the subclasses."""

    def __init__(self, cfg, dictionary, embed_tokens, no_encoder_attn=False, output_projection=None):
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn, output_projection)
        # The host drops layers of a LayerDropModuleList by skipping them; here a dropped layer keeps its place.
        self.layers = nn.ModuleList([self.layers[i] for i in range(self.num_layers)])
        self.heads = cfg.decoder.attention_heads
        self.pre_norm = cfg.decoder.normalize_before
        self.memory = FeedbackMemory(self.num_layers, self.embed_dim, self.heads, cfg.memory, self.pre_norm)
        if str(cfg.decoder_init) == "authors":
            initialisation.as_authors(self.layers, self.memory, self.pre_norm)
        name = FeedbackDecoderLayer.__name__
        self.layer_dropout = FairseqDropout(cfg.dropout, module_name=name)
        self.attention_dropout = FairseqDropout(cfg.attention_dropout, module_name=name)
        self.activation_dropout = FairseqDropout(cfg.activation_dropout, module_name=name)
        self.ffn_width = cfg.decoder.ffn_embed_dim
        self.activation = str(cfg.activation_fn)
        self.layers_to_keep = cfg.decoder.layers_to_keep
        self.memory_span = cfg.memory.span
        self.memory_init_slots = cfg.memory.init_slots
        self.sees_itself = cfg.memory.sees_itself
        self.memory_of_layers = cfg.memory.of_layers
        self.checkpoint_activations = cfg.checkpoint_activations
        self.feedback_kernel = str(cfg.feedback_kernel)
        self.kernels_said = set()
        self.output_bias: Optional[nn.Parameter] = None
        self.packed = packing.Packed()
        self.packed_output = packing.Packed()
        self.int8 = False  # for decoding, see packing.py

    def build_decoder_layer(self, cfg, no_encoder_attn=False):
        return FeedbackDecoderLayer(cfg, no_encoder_attn)

    def reach(self) -> int:
        """How many memory slots a step sees: --memory-span, or what adaptive spans leave of it; 0 = all."""
        if self.memory.adaptive_span is not None:
            return self.memory.adaptive_span.reach()
        return self.memory_span

    def weights(self, reach: int) -> Weights:
        layers: List[LayerWeights] = []
        source_keys: List[Affine] = []
        source_values: List[Affine] = []
        for layer in self.layers:
            layers.append(layer.weights())
            attn = layer.encoder_attn
            if attn is not None:
                source_keys.append(Affine(attn.k_proj.weight, attn.k_proj.bias))
                source_values.append(Affine(attn.v_proj.weight, attn.v_proj.bias))
        return Weights(layers, self._memory_weights(reach), source_keys, source_values)

    def decoding_weights(self, begins: bool, reach: int) -> Weights:
        """They are packed when decoding begins, if they have changed since the last time."""
        if not torch.jit.is_scripting():
            if begins:
                self._refresh_packed(reach)
            packed = self.packed.value
            if packed is not None and packing.may_pack(self.training):
                return packed
        return self.weights(reach)

    def output_layer(self, features):
        """Scores of the vocabulary; with adaptive softmax, as with the host's, that is left to the loss."""
        if self.adaptive_softmax is not None:
            return features
        if not torch.jit.is_scripting():
            if packing.may_pack(self.training):
                return self._packed_output(features)
        return F.linear(features, self.output_projection.weight, self.output_bias)

    def output_of(self, words: Tensor):
        """The output layer of these words of the vocabulary, for reference.linear."""
        bias = None if self.output_bias is None else self.output_bias.index_select(0, words)
        return packing.pack(Affine(self.output_projection.weight.index_select(0, words), bias), self.int8)

    def _memory_weights(self, reach: int) -> MemoryWeights:
        keys: List[Affine] = []
        values: List[Affine] = []
        norms: List[Affine] = []
        if self.memory.k_proj is not None and self.memory.v_proj is not None:
            keys.append(Affine(self.memory.k_proj.weight, self.memory.k_proj.bias))
            values.append(Affine(self.memory.v_proj.weight, self.memory.v_proj.bias))
            if self.memory.layer_norm is not None:
                norms.append(Affine(self.memory.layer_norm.weight, self.memory.layer_norm.bias))
        else:
            for layer in self.layers:
                attn = layer.self_attn
                if attn.k_proj is not None and attn.v_proj is not None:
                    keys.append(Affine(attn.k_proj.weight, attn.k_proj.bias))
                    values.append(Affine(attn.v_proj.weight, attn.v_proj.bias))
                if attn.memory_layer_norm is not None:
                    norms.append(Affine(attn.memory_layer_norm.weight, attn.memory_layer_norm.bias))
                elif self.pre_norm:
                    norms.append(Affine(layer.self_attn_layer_norm.weight, layer.self_attn_layer_norm.bias))
        positions: Optional[Tensor] = None
        if self.memory.positions is not None:
            positions = self.memory.positions[self.memory_span - reach :]
        spans: Optional[Tensor] = None
        if self.memory.adaptive_span is not None:
            spans = self.memory.adaptive_span.scores(reach)
        return MemoryWeights(self.memory.mix(), keys, values, norms, positions, spans)

    @torch.jit.unused
    def _refresh_packed(self, reach: int):
        if packing.may_pack(self.training):
            self.packed.refresh(self.parameters(), self._pack, self.int8, reach)
        else:
            self.packed.clear()

    def _pack(self, int8, reach):
        return packing.pack_weights(self.weights(reach), int8)

    @torch.jit.unused
    def _packed_output(self, features: Tensor) -> Tensor:
        w = Affine(self.output_projection.weight, self.output_bias)
        tensors = [tensor for tensor in w if tensor is not None]
        packed = self.packed_output.refresh(tensors, lambda int8: packing.pack(w, int8), self.int8)
        return reference.linear(features, packed)

    def train(self, mode: bool = True):
        if mode:
            self.packed.clear()
            self.packed_output.clear()
        return super().train(mode)

    def upgrade_state_dict_named(self, state_dict, name):
        """Accept checkpoints of fairseq's transformer (a warm start) and prune layers away."""
        super().upgrade_state_dict_named(state_dict, name)
        warm_start.from_transformer(self, state_dict, name)
        warm_start.prune(self.layers_to_keep, state_dict, name)
        return state_dict
