"""The decoder step by step, with the past in a cache: kernels/decoding/cache.py."""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_feedback.kernels import dropout, reference
from fairseq_feedback.kernels.decoding import cache
from fairseq_feedback.kernels.weights import Choices, Zeros
from fairseq_feedback.models.decoder_inputs import DecoderInputs


class IncrementalDecoding(DecoderInputs):
    def run_new_steps(
        self,
        tokens,
        encoder_out: Optional[Dict[str, List[Tensor]]],
        incremental_state: Dict[str, Dict[str, Optional[Tensor]]],
        attn_layer: int,
    ) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """The steps that the cache does not hold yet, usually one -> as TeacherForcing.run_sequence."""
        reach = self.reach()
        settings = self.settings(reach, self.init_slots(reach))
        state = self.get_incremental_state(incremental_state, "memory")
        weights = self.decoding_weights(state is None, reach)
        if state is None:
            keys, values = self.first_slots(tokens.size(0), 0, weights, settings)
            zeros: Optional[Zeros] = None
            if settings.init_slots > 0:
                key, value = self.first_slots(1, 1, weights, settings)
                zeros = Zeros(key[:, 0, :, 0], value[:, 0, :, 0], settings.init_slots)
            cross = self.project_source(encoder_out, weights)
            state = cache.start(keys, values, self.left_padding(tokens), cross, zeros)
            self.set_incremental_state(incremental_state, "memory", state)
        if state["left_pad"] is not None:  # earlier calls may have seen only a part of the padding
            state["left_pad"] = self.left_padding(tokens)
        done = cache.steps_done(state)
        new = tokens.size(1) - done
        if new < 1:
            raise ValueError(
                "incremental_state already holds {} tokens, prev_output_tokens has {}: "
                "pass all tokens so far, the new ones last".format(done, tokens.size(1))
            )
        x = self.embed(tokens, new, state["left_pad"] is not None, incremental_state)
        beams = cache.beams_together(state)
        slots = (settings.init_slots + done + new) * beams
        drawn = self.draw_dropout(x, slots, cache.cross_memory(state), settings)
        choices = Choices([True for _ in range(self.num_layers)], drawn)
        outputs: List[Tensor] = []
        memories: List[Tensor] = []
        attns: List[Tensor] = []
        for t in range(new):
            seen = cache.seen(state, settings)
            first = seen.first * beams
            before = seen.zeros
            columns = (before.count if before is not None else 0) + seen.keys.size(3) + int(self.sees_itself)
            now = dropout.at_step(choices, t, first, first + columns)
            step = reference.step(x[t], seen, weights, now, settings)
            cache.append(state, step.key, step.value, settings)
            outputs.append(step.output)
            memories.append(step.memory)
            attn = reference.source_attention(step, attn_layer)
            if attn is not None:
                attns.append(attn)
        return reference.stacked(outputs, memories, attns)

    @torch.jit.export
    def reorder_incremental_state(
        self,
        incremental_state: Dict[str, Dict[str, Optional[Tensor]]],
        new_order: Tensor,
    ):
        state = self.get_incremental_state(incremental_state, "memory")
        if state is not None:
            reach = self.reach()
            cache.reorder(state, new_order, self.settings(reach, self.init_slots(reach)))

    def reorder_incremental_state_scripting(
        self,
        incremental_state: Dict[str, Dict[str, Optional[Tensor]]],
        new_order: Tensor,
    ):
        self.reorder_incremental_state(incremental_state, new_order)
