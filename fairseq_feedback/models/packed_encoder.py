"""fairseq's transformer encoder, faster where it only translates."""

from typing import Optional

import torch
from fairseq.models.transformer import TransformerEncoderBase
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from torch import Tensor

from fairseq_feedback.kernels.decoding import encoder as kernel
from fairseq_feedback.kernels.decoding.packing import Packed, joined, may_pack, pack
from fairseq_feedback.kernels.products import can_pack
from fairseq_feedback.kernels.weights import Affine


class PackedEncoder(TransformerEncoderBase):
    """The host's parameters and results. Without gradients, on a CPU, its layers run on packed weights."""

    def __init__(self, cfg, dictionary, embed_tokens, return_fc=False):
        super().__init__(cfg, dictionary, embed_tokens, return_fc)
        self.dropout_module.module_name = "TransformerEncoder"  # the name that --retain-dropout-modules knows
        self.activation = str(cfg.activation_fn)
        self.packed = Packed()
        self.int8 = False

    def forward(
        self,
        src_tokens,
        src_lengths: Optional[Tensor] = None,
        return_all_hiddens: bool = False,
        token_embeddings: Optional[Tensor] = None,
    ):
        if not torch.jit.is_scripting():
            if not return_all_hiddens and self._can_pack():
                return self._forward_packed(src_tokens, token_embeddings)
        return self.forward_scriptable(src_tokens, src_lengths, return_all_hiddens, token_embeddings)

    @torch.jit.unused
    def _can_pack(self) -> bool:
        if not may_pack(self.training) or not (self.int8 or can_pack(self.embed_tokens.weight)):
            return False
        if any(getattr(module, "apply_during_inference", False) for module in self.modules()):
            return False  # --retain-dropout
        return all(
            type(layer) is TransformerEncoderLayerBase and not getattr(layer.self_attn, "use_xformers", False)
            for layer in self.layers
        )

    @torch.jit.unused
    def _forward_packed(self, src_tokens, token_embeddings: Optional[Tensor]):
        layers = self.packed.refresh(self.parameters(), self._pack, self.int8)
        padding = src_tokens.eq(self.padding_idx)
        x, embedding = self.forward_embedding(src_tokens, token_embeddings)
        seen = None
        if bool(padding.any()):
            x = x.masked_fill(padding.unsqueeze(-1), 0.0)
            seen = ~padding[:, None, None, :]
        for i, weights in enumerate(layers):
            layer = self.layers[i]
            x = kernel.layer(x, seen, weights, layer.self_attn.num_heads, layer.normalize_before, self.activation)
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        return {
            "encoder_out": [x.transpose(0, 1).contiguous()],  # S x B x C
            "encoder_padding_mask": [padding],
            "encoder_embedding": [embedding],
            "encoder_states": [],
            "fc_results": [],
            "src_tokens": [],
            "src_lengths": [(~padding).sum(dim=1, dtype=torch.int32).unsqueeze(1)],
        }

    def _pack(self, int8):
        def affine(module):
            return Affine(module.weight, module.bias)

        return [
            kernel.EncoderLayerWeights(
                pack(joined([affine(p) for p in (a.q_proj, a.k_proj, a.v_proj)]), int8),
                pack(affine(a.out_proj), int8),
                affine(layer.self_attn_layer_norm),
                pack(affine(layer.fc1), int8),
                pack(affine(layer.fc2), int8),
                affine(layer.final_layer_norm),
            )
            for layer in self.layers
            for a in [layer.self_attn]
        ]

    def train(self, mode=True):
        if mode:
            self.packed.clear()
        return super().train(mode)
