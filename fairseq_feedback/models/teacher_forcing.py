"""The decoder over whole sequences: training, validation, scoring."""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_feedback.kernels import reference
from fairseq_feedback.kernels.training import choice
from fairseq_feedback.kernels.weights import AttentionMaps, Choices, Inputs
from fairseq_feedback.models.decoder_inputs import DecoderInputs


class TeacherForcing(DecoderInputs):
    def run_sequence(
        self,
        tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        attn_layer: int,
        memory: Optional[Tensor],
    ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """All steps -> outputs (T, B, C), memory (T, B, C), attention (T, B, H, S)."""
        inputs = self.inputs(tokens, encoder_out, attn_layer, memory)
        if torch.jit.is_scripting():
            return reference.run(inputs)
        return self._run(inputs)

    def inputs(
        self,
        tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        attn_layer: int,
        memory: Optional[Tensor],
    ) -> Inputs:
        left_pad = self.left_padding(tokens)
        x = self.embed(tokens, tokens.size(1), left_pad is not None, None)
        reach = self.reach()
        weights = self.weights(reach)
        cross = self.project_source(encoder_out, weights)
        zeros, start = 0, memory
        if start is None:
            zeros, start = self.init_slots(reach), self.zero_slots(x.size(1), 0, x)  # which is empty
        elif reach > 0:
            start = start[-reach:]
        slots = zeros + start.size(0)
        settings = self.settings(reach, slots)
        dropout = self.draw_dropout(x, slots + x.size(0), cross, settings)
        choices = Choices(self.draw_layers(), dropout)
        return Inputs(x, zeros, start, weights, cross, left_pad, choices, settings, attn_layer)

    def draw_layers(self) -> List[bool]:
        """Which layers LayerDrop keeps."""
        kept = [True for _ in range(self.num_layers)]
        if self.training and self.decoder_layerdrop > 0.0:
            drawn = torch.rand(self.num_layers)
            for i in range(self.num_layers):
                kept[i] = bool(drawn[i] > self.decoder_layerdrop)
        return kept

    @torch.jit.unused
    def _run(self, inputs: Inputs) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        by_segments = self.checkpoint_activations and self.training
        return choice.run(inputs, self.feedback_kernel, by_segments, self.kernels_said)

    @torch.jit.unused
    @torch.no_grad()
    def attention_maps(
        self, prev_output_tokens, encoder_out: Optional[Dict[str, List[Tensor]]] = None
    ) -> AttentionMaps:
        """Which slots of the memory, and of the source, every step of one sentence (1, T) reads. For eval()."""
        if self.training or prev_output_tokens.size(0) != 1:
            raise ValueError("attention_maps is for one sentence, and a model in eval()")
        return reference.attention_maps(self.inputs(prev_output_tokens, encoder_out, -1, None))
