"""From tokens, encoder output and options to what a kernel takes: the same for teacher forcing and decoding."""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_feedback.kernels import dropout, reference
from fairseq_feedback.kernels.weights import CrossMemory, LayerDropout, Settings, Weights
from fairseq_feedback.models.decoder_weights import DecoderWeights


class DecoderInputs(DecoderWeights):
    def embed(
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

    def left_padding(self, tokens) -> Optional[Tensor]:
        """Padded steps at the start of each row, (B); None if there are none."""
        padding = tokens.eq(self.padding_idx)
        if not bool(padding[:, 0].any()):
            return None
        return padding.long().cumprod(dim=1).sum(dim=1)

    def zero_slots(self, rows: int, slots: int, like: Tensor) -> Tensor:
        """A memory of zero vectors, (N, B, C) or (N, B, L, C)."""
        shape = [slots, rows, self.embed_dim]
        if self.memory_of_layers:
            shape.insert(2, self.num_layers)
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def first_slots(self, rows: int, slots: int, weights: Weights, settings: Settings) -> Tuple[Tensor, Tensor]:
        """Keys and values of zero vectors, (G, B, H, N, D)."""
        zeros = self.zero_slots(rows, slots, self.layers[0].fc1.weight)
        return reference.project_memory(zeros, weights.memory, settings)

    def init_slots(self, reach: int) -> int:
        if self.sees_itself:
            return 0
        return reach if self.memory_init_slots == 0 else self.memory_init_slots

    def settings(self, reach: int, init_slots: int) -> Settings:
        return Settings(
            self.heads,
            self.pre_norm,
            self.activation,
            reach,
            self.sees_itself,
            init_slots,
            self._active(self.layer_dropout.p, self.layer_dropout.apply_during_inference),
            self._active(self.attention_dropout.p, self.attention_dropout.apply_during_inference),
            self._active(self.activation_dropout.p, self.activation_dropout.apply_during_inference),
        )

    def _active(self, p: float, during_inference: bool) -> float:
        return p if self.training or during_inference else 0.0

    def draw_dropout(
        self, x: Tensor, slots: int, cross: Optional[CrossMemory], settings: Settings
    ) -> List[LayerDropout]:
        if settings.dropout + settings.attention_dropout + settings.activation_dropout == 0.0:
            no_dropout: List[LayerDropout] = []
            return no_dropout
        source = 0 if cross is None else cross.keys.size(3)
        return dropout.draw(x, slots, source, self.ffn_width, self.num_layers, settings)

    def project_source(self, encoder_out: Optional[Dict[str, List[Tensor]]], weights: Weights) -> Optional[CrossMemory]:
        """The encoder's keys and values for all layers; as many rows as `encoder_out` has."""
        if encoder_out is None or len(encoder_out["encoder_out"]) == 0 or len(weights.source_keys) == 0:
            return None
        padding: Optional[Tensor] = None
        if len(encoder_out["encoder_padding_mask"]) > 0:
            mask = encoder_out["encoder_padding_mask"][0]
            if bool(mask.any()):
                padding = mask
        source = encoder_out["encoder_out"][0]  # S x B x C
        return reference.project_source(source, padding, weights.source_keys, weights.source_values, self.heads)
