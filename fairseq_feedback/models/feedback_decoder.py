"""The decoder with feedback memory."""

from typing import Dict, List, Optional

from torch import Tensor

from fairseq_feedback.models.incremental_decoding import IncrementalDecoding
from fairseq_feedback.models.teacher_forcing import TeacherForcing


class FeedbackDecoder(TeacherForcing, IncrementalDecoding):
    """fairseq's transformer decoder, except that all layers attend to one memory of past steps.

    The embedding, the output layer and the incremental-decoding interface are the host's. What happens in between
    is a kernel: under teacher forcing any of kernels/, in decoding the step of kernels/reference.py.
    """

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

        `memory` (N, B, C) is what stands before the first step, the newest last (default: zero vectors; under
        incremental decoding always these). Where every layer has its own, here and below it is (N, B, L, C).

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

        if memory is not None and incremental_state is not None:
            raise ValueError("memory: leave it out with incremental_state, which holds the memory of its own steps")
        if incremental_state is None:
            x, new_memory, attn = self.run_sequence(prev_output_tokens, encoder_out, attn_layer, memory)
        else:
            x, new_memory, attn = self.run_new_steps(prev_output_tokens, encoder_out, incremental_state, attn_layer)

        if attn is not None:
            if alignment_heads is not None:
                attn = attn[:, :, :alignment_heads]
            attn = attn.mean(dim=2).transpose(0, 1).contiguous()  # B x T x S
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        x = x.transpose(0, 1)  # B x T x C
        if self.project_out_dim is not None:
            x = self.project_out_dim(x)
        attns: List[Optional[Tensor]] = [attn]
        memories: List[Optional[Tensor]] = [new_memory.detach()]
        return x, {"attn": attns, "memory": memories}
