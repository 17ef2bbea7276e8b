"""The decoder with feedback memory."""

import logging
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import FairseqDropout
from torch import Tensor

from fairseq_feedback.kernels import dropout, reference
from fairseq_feedback.kernels.decoding import cache, packing
from fairseq_feedback.kernels.training import bptt, segments
from fairseq_feedback.kernels.weights import (
    Affine,
    CrossMemory,
    LayerDropout,
    LayerWeights,
    MemoryWeights,
    Settings,
)
from fairseq_feedback.models import warm_start
from fairseq_feedback.modules.feedback_decoder_layer import FeedbackDecoderLayer
from fairseq_feedback.modules.feedback_memory import FeedbackMemory

logger = logging.getLogger(__name__)


class PackedDecoder(NamedTuple):
    layers: List[LayerWeights]
    memory: MemoryWeights
    source: Tuple[List[Affine], List[Affine]]  # keys, values


class FeedbackDecoder(TransformerDecoderBase):
    """fairseq's transformer decoder, except that all layers attend to one memory of past steps.

    The embedding, the output layer and the incremental-decoding interface are the host's. What happens in between
    is a kernel: under teacher forcing any of kernels/, in decoding the step of kernels/reference.py.
    """

    def __init__(self, cfg, dictionary, embed_tokens, no_encoder_attn=False, output_projection=None):
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn, output_projection)
        # The host drops layers of a LayerDropModuleList by skipping them; here a dropped layer keeps its place.
        self.layers = nn.ModuleList([self.layers[i] for i in range(self.num_layers)])
        self.heads = cfg.decoder.attention_heads
        self.pre_norm = cfg.decoder.normalize_before
        self.memory = FeedbackMemory(
            self.num_layers, self.embed_dim, self.heads, cfg.memory, self.pre_norm
        )
        name = FeedbackDecoderLayer.__name__
        self.layer_dropout = FairseqDropout(cfg.dropout, module_name=name)
        self.attention_dropout = FairseqDropout(cfg.attention_dropout, module_name=name)
        self.activation_dropout = FairseqDropout(cfg.activation_dropout, module_name=name)
        self.ffn_width = cfg.decoder.ffn_embed_dim
        self.activation = str(cfg.activation_fn)
        self.layers_to_keep = cfg.decoder.layers_to_keep
        self.memory_span = cfg.memory.span
        self.memory_init_slots = cfg.memory.init_slots
        self.checkpoint_activations = cfg.checkpoint_activations
        self.feedback_kernel = str(cfg.feedback_kernel)
        self.kernels_said = set()
        self.beam_size = 1
        self.output_bias: Optional[nn.Parameter] = None
        self.packed = packing.Packed()
        self.packed_output = packing.Packed()
        self.int8 = False  # for decoding, see packing.py

    def build_decoder_layer(self, cfg, no_encoder_attn=False):
        return FeedbackDecoderLayer(cfg, no_encoder_attn)

    def extract_features(
        self,
        prev_output_tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]] = None,
        full_context_alignment: bool = False,
        alignment_layer: Optional[int] = None,
        alignment_heads: Optional[int] = None,
        memory: Optional[Tensor] = None,
    ):
        """
        Features (B, T, C) of all tokens, or under incremental decoding of those not seen before.

        `memory` (N, B, C) is what stands before the first step, the newest last (default: zero vectors).

        The dictionary returned with them holds `attn`, the cross-attention (B, T, S) of `alignment_layer` (default:
        the last) averaged over heads, or None in training if nobody asked for it; and `memory`, the memory vectors
        (T, B, C) of these steps, detached.
        """
        if full_context_alignment:
            raise NotImplementedError(
                "full_context_alignment: a feedback decoder is sequential, no step can see a later one"
            )
        attn_layer = -1
        if alignment_layer is not None:
            attn_layer = alignment_layer
        elif not self.training:
            attn_layer = self.num_layers - 1

        if incremental_state is None:
            x, new_memory, attn = self._run_sequence(
                prev_output_tokens, encoder_out, attn_layer, memory
            )
        else:
            x, new_memory, attn = self._run_new_steps(
                prev_output_tokens, encoder_out, incremental_state, attn_layer
            )

        if attn is not None:
            if alignment_heads is not None:
                attn = attn[:, :, :alignment_heads]
            attn = attn.mean(dim=2).transpose(0, 1)  # B x T x S
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        x = x.transpose(0, 1)  # B x T x C
        if self.project_out_dim is not None:
            x = self.project_out_dim(x)
        attns: List[Optional[Tensor]] = [attn]
        memories: List[Optional[Tensor]] = [new_memory.detach()]
        return x, {"attn": attns, "memory": memories}

    def _run_sequence(
        self,
        tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        attn_layer: int,
        memory: Optional[Tensor],
    ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """Teacher forcing: all steps -> outputs (T, B, C), memory (T, B, C), attention (T, B, H, S)."""
        left_pad = self._left_padding(tokens)
        x = self._embed(tokens, tokens.size(1), left_pad is not None, None)
        cross = self._project_source(encoder_out, self._source_weights(), tokens.size(0), 1)
        layers = self._layer_weights()
        reach = self.reach()
        start = memory
        if start is None:
            start = self._initial_memory(x.size(1), reach, x)
        elif reach > 0:
            start = start[-reach:]
        settings = self._settings(reach, start.size(0))
        choices = self._draw_dropout(x, start.size(0) + x.size(0), cross, settings)
        kept = self._draw_layers()
        weights = self._memory_weights(reach)
        if torch.jit.is_scripting():
            return reference.run(
                x, start, layers, weights, cross, left_pad, kept, choices, settings, attn_layer
            )
        return self._run_kernel(
            x, start, layers, weights, cross, left_pad, kept, choices, settings, attn_layer
        )

    @torch.jit.unused
    def _run_kernel(
        self,
        x: Tensor,
        memory: Tensor,
        layers: List[LayerWeights],
        memory_weights: MemoryWeights,
        cross: Optional[CrossMemory],
        left_pad: Optional[Tensor],
        layer_kept: List[bool],
        choices: List[LayerDropout],
        settings: Settings,
        attn_layer: int,
    ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        name, reason = self.feedback_kernel, ""
        if name != "reference":
            reason = bptt.unsupported(x, cross, attn_layer)
            name = "bptt" if reason is None else "reference"
        said = f"feedback kernel: {name}" + (f", because {reason}" if reason else "")
        if said not in self.kernels_said:
            self.kernels_said.add(said)
            asked_for_more = self.feedback_kernel == "bptt" and name != "bptt"
            logger.log(logging.WARNING if asked_for_more else logging.INFO, said)
        kernel = bptt.run if name == "bptt" else reference.run
        args = (x, memory, layers, memory_weights, cross, left_pad, layer_kept, choices, settings, attn_layer)
        if self.checkpoint_activations and self.training:
            return segments.run(kernel, *args)
        return kernel(*args)

    def _run_new_steps(
        self,
        tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        incremental_state: Dict[str, Dict[str, Optional[Tensor]]],
        attn_layer: int,
    ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """Decoding: the steps that the cache does not hold yet, usually one."""
        reach = self.reach()
        init_slots = self._init_slots(reach)
        settings = self._settings(reach, init_slots)
        state = self.get_incremental_state(incremental_state, "memory")
        layers, memory_weights, source_weights = self._decoding_weights(state is None, reach)
        if state is None:
            start = self._initial_memory(tokens.size(0), reach, self.memory.layer_weights)
            keys, values = reference.project_memory(start, memory_weights, settings)
            state = cache.start(
                keys,
                values,
                self._left_padding(tokens),
                self._project_source(encoder_out, source_weights, tokens.size(0), self.beam_size),
                self.beam_size,
            )
            self.set_incremental_state(incremental_state, "memory", state)
        if state["left_pad"] is not None:  # earlier calls may have seen only a part of the padding
            state["left_pad"] = self._left_padding(tokens)
        left_pad = state["left_pad"]
        cross = cache.cross_memory(state)
        done = cache.steps_done(state)
        new = tokens.size(1) - done
        if new < 1:
            raise ValueError(
                "incremental_state already holds {} tokens, prev_output_tokens has {}: "
                "pass all tokens so far, the new ones last".format(done, tokens.size(1))
            )
        x = self._embed(tokens, new, left_pad is not None, incremental_state)
        mix = reference.mix_weights(memory_weights, x)
        beams = cache.beams_together(state)
        slots = (init_slots + done + new) * beams
        choices = self._draw_dropout(x, slots, cross, settings)
        kept = [True for _ in range(self.num_layers)]
        outputs: List[Tensor] = []
        memories: List[Tensor] = []
        attns: List[Tensor] = []
        for t in range(new):
            seen = cache.visible(state, settings)
            y, m, k, v, attn = reference.step(
                x[t],
                seen.keys,
                seen.values,
                seen.first,
                layers,
                memory_weights,
                mix,
                cross,
                left_pad,
                kept,
                [dropout.at_step(d, t, seen.first * beams, seen.last * beams) for d in choices],
                settings,
                attn_layer,
                seen.origin,
            )
            cache.append(state, k, v, settings)
            outputs.append(y)
            memories.append(m)
            if attn is not None:
                attns.append(attn)
        return (
            torch.stack(outputs),
            torch.stack(memories),
            torch.stack(attns) if len(attns) > 0 else None,
        )

    def _embed(
        self,
        tokens,
        new: int,
        padded: bool,
        incremental_state: Optional[Dict[str, Dict[str, Optional[Tensor]]]],
    ) -> Tensor:
        """x^0 of the last `new` tokens: scaled, with positions, norm and dropout. (new, B, C)"""
        x = self.embed_scale * self.embed_tokens(tokens[:, -new:].contiguous())
        if self.project_in_dim is not None:
            x = self.project_in_dim(x)
        if self.embed_positions is not None:
            if new == 1 and not padded:
                x = x + self.embed_positions(tokens, incremental_state=incremental_state)[:, -1:]
            else:  # the host's incremental positions are those of one step, and do not know of left padding
                x = x + self.embed_positions(tokens)[:, -new:]
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        return self.dropout_module(x).transpose(0, 1)

    def _left_padding(self, tokens) -> Optional[Tensor]:
        """Padded steps at the start of each row, (B); None if there are none."""
        padding = tokens.eq(self.padding_idx)
        if not bool(padding[:, 0].any()):
            return None
        return padding.long().cumprod(dim=1).sum(dim=1)

    def _source_weights(self) -> Tuple[List[Affine], List[Affine]]:
        """Of the projections of the encoder's output; empty lists in a decoder without cross-attention."""
        keys: List[Affine] = []
        values: List[Affine] = []
        for layer in self.layers:
            if layer.encoder_attn is not None:
                keys.append(Affine(layer.encoder_attn.k_proj.weight, layer.encoder_attn.k_proj.bias))
                values.append(
                    Affine(layer.encoder_attn.v_proj.weight, layer.encoder_attn.v_proj.bias)
                )
        return keys, values

    def _project_source(
        self,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        weights: Tuple[List[Affine], List[Affine]],
        rows: int,
        beams: int,
    ) -> Optional[CrossMemory]:
        """The encoder's keys and values for all layers; one copy for the beams of a sentence.

        `encoder_out` has as many rows as there are tokens' rows, or one for each sentence.
        """
        keys, values = weights
        if encoder_out is None or len(encoder_out["encoder_out"]) == 0 or len(keys) == 0:
            return None
        source = encoder_out["encoder_out"][0]  # S x B x C
        padding: Optional[Tensor] = None
        if len(encoder_out["encoder_padding_mask"]) > 0:
            mask = encoder_out["encoder_padding_mask"][0]
            if bool(mask.any()):
                padding = mask
        if source.size(1) == rows and beams > 1 and rows % beams == 0:
            # `beams` is what a generator announced, perhaps another one than the caller: trust it only if true.
            grouped = source.view(source.size(0), -1, beams, source.size(2))
            same = bool((grouped == grouped[:, :, :1]).all())
            if same and padding is not None:
                masks = padding.view(-1, beams, padding.size(1))
                same = bool((masks == masks[:, :1]).all())
            if same:
                source = grouped[:, :, 0]
                if padding is not None:
                    padding = padding[::beams]
        return reference.project_source(source, padding, keys, values, self.heads)

    def _decoding_weights(
        self, begins: bool, reach: int
    ) -> Tuple[List[LayerWeights], MemoryWeights, Tuple[List[Affine], List[Affine]]]:
        """They are packed when decoding begins, if they have changed since the last time."""
        if not torch.jit.is_scripting():
            if begins:
                self._refresh_packed(reach)
            packed = self.packed.value
            if packed is not None and packing.may_pack(self.training):
                return packed.layers, packed.memory, packed.source
        return self._layer_weights(), self._memory_weights(reach), self._source_weights()

    @torch.jit.unused
    def _refresh_packed(self, reach: int):
        if packing.may_pack(self.training):
            self.packed.refresh(self.parameters(), self._pack, self.int8, reach)
        else:
            self.packed.clear()

    def _pack(self, int8, reach):
        return PackedDecoder(
            [packing.pack_layer(w, int8) for w in self._layer_weights()],
            packing.pack_memory(self._memory_weights(reach), int8),
            tuple(packing.pack_all(weights, int8) for weights in self._source_weights()),
        )

    def output_layer(self, features):
        """Scores of the vocabulary; with adaptive softmax, as with the host's, that is left to the loss."""
        if self.adaptive_softmax is not None:
            return features
        if not torch.jit.is_scripting():
            if packing.may_pack(self.training):
                return self._packed_output(features)
        return F.linear(features, self.output_projection.weight, self.output_bias)

    @torch.jit.unused
    def _packed_output(self, features: Tensor) -> Tensor:
        w = Affine(self.output_projection.weight, self.output_bias)
        tensors = [tensor for tensor in w if tensor is not None]
        packed = self.packed_output.refresh(tensors, lambda int8: packing.pack(w, int8), self.int8)
        return reference.linear(features, packed)

    def _layer_weights(self) -> List[LayerWeights]:
        weights: List[LayerWeights] = []
        for layer in self.layers:
            weights.append(layer.weights())
        return weights

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
                    norms.append(
                        Affine(attn.memory_layer_norm.weight, attn.memory_layer_norm.bias)
                    )
        positions: Optional[Tensor] = None
        if self.memory.positions is not None:
            positions = self.memory.positions[self.memory_span - reach :]
        spans: Optional[Tensor] = None
        if self.memory.adaptive_span is not None:
            spans = self.memory.adaptive_span.scores(reach)
        return MemoryWeights(self.memory.layer_weights, keys, values, norms, positions, spans)

    def reach(self) -> int:
        """How many memory slots a step sees: --memory-span, or what adaptive spans leave of it; 0 = all."""
        if self.memory.adaptive_span is not None:
            return self.memory.adaptive_span.reach()
        return self.memory_span

    def _init_slots(self, reach: int) -> int:
        return reach if self.memory_init_slots == 0 else self.memory_init_slots

    def _settings(self, reach: int, init_slots: int) -> Settings:
        return Settings(
            self.heads,
            self.pre_norm,
            self.activation,
            reach,
            init_slots,
            self._active(self.layer_dropout.p, self.layer_dropout.apply_during_inference),
            self._active(self.attention_dropout.p, self.attention_dropout.apply_during_inference),
            self._active(self.activation_dropout.p, self.activation_dropout.apply_during_inference),
        )

    def _active(self, p: float, during_inference: bool) -> float:
        return p if self.training or during_inference else 0.0

    def _draw_dropout(
        self, x: Tensor, slots: int, cross: Optional[CrossMemory], settings: Settings
    ) -> List[LayerDropout]:
        if settings.dropout + settings.attention_dropout + settings.activation_dropout == 0.0:
            no_dropout: List[LayerDropout] = []
            return no_dropout
        source = 0 if cross is None else cross.keys.size(3)
        return dropout.draw(x, slots, source, self.ffn_width, self.num_layers, settings)

    def _draw_layers(self) -> List[bool]:
        kept = [True for _ in range(self.num_layers)]
        if self.training and self.decoder_layerdrop > 0.0:
            drawn = torch.rand(self.num_layers)
            for i in range(self.num_layers):
                kept[i] = bool(drawn[i] > self.decoder_layerdrop)
        return kept

    def _initial_memory(self, rows: int, reach: int, like: Tensor) -> Tensor:
        slots = self._init_slots(reach)
        return torch.zeros([slots, rows, self.embed_dim], dtype=like.dtype, device=like.device)

    @torch.jit.export
    def reorder_incremental_state(
        self,
        incremental_state: Dict[str, Dict[str, Optional[Tensor]]],
        new_order: Tensor,
    ):
        state = self.get_incremental_state(incremental_state, "memory")
        if state is not None:
            reach = self.reach()
            cache.reorder(state, new_order, self._settings(reach, self._init_slots(reach)))

    def reorder_incremental_state_scripting(
        self,
        incremental_state: Dict[str, Dict[str, Optional[Tensor]]],
        new_order: Tensor,
    ):
        self.reorder_incremental_state(incremental_state, new_order)

    def train(self, mode: bool = True):
        if mode:
            self.packed.clear()
            self.packed_output.clear()
        return super().train(mode)

    def set_beam_size(self, beam_size: int):
        """How many rows of a batch belong to one sentence: they share the source's keys and values, and slots."""
        self.beam_size = beam_size

    def upgrade_state_dict_named(self, state_dict, name):
        """Accept checkpoints of fairseq's transformer (a warm start) and prune layers away."""
        super().upgrade_state_dict_named(state_dict, name)
        warm_start.from_transformer(self, state_dict, name)
        warm_start.prune_mix(self.layers_to_keep, state_dict, name)
        return state_dict
