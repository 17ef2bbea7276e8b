"""Parameters of one decoder layer, named as in fairseq's TransformerDecoderLayer."""

from typing import Optional

import torch.nn as nn

from fairseq_feedback.kernels.weights import Affine, LayerWeights
from fairseq_feedback.modules.feedback_memory import MemoryAttention, SourceAttention


class FeedbackDecoderLayer(nn.Module):
    """Holds weights; the step that uses them is kernels/reference.py, for training and decoding alike."""

    def __init__(self, cfg, no_encoder_attn: bool = False):
        super().__init__()
        dim, ffn_dim = cfg.decoder.embed_dim, cfg.decoder.ffn_embed_dim
        self.self_attn = MemoryAttention(
            dim,
            cfg.decoder.attention_heads * cfg.memory.head_dim,
            cfg.memory.shared_kv,
            cfg.decoder.normalize_before and not cfg.memory.sees_itself,  # which has one norm for all three
        )
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.encoder_attn: Optional[SourceAttention] = None
        self.encoder_attn_layer_norm: Optional[nn.Module] = None
        if not no_encoder_attn:
            self.encoder_attn = SourceAttention(dim, cfg.encoder.embed_dim)
            self.encoder_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, ffn_dim)
        self.fc2 = nn.Linear(ffn_dim, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    # Affine(...) is spelled out because TorchScript cannot pass a module to a function.
    def weights(self) -> LayerWeights:
        query: Optional[Affine] = None
        out: Optional[Affine] = None
        norm: Optional[Affine] = None
        if self.encoder_attn is not None and self.encoder_attn_layer_norm is not None:
            query = Affine(self.encoder_attn.q_proj.weight, self.encoder_attn.q_proj.bias)
            out = Affine(self.encoder_attn.out_proj.weight, self.encoder_attn.out_proj.bias)
            norm = Affine(self.encoder_attn_layer_norm.weight, self.encoder_attn_layer_norm.bias)
        return LayerWeights(
            Affine(self.self_attn.q_proj.weight, self.self_attn.q_proj.bias),
            Affine(self.self_attn.out_proj.weight, self.self_attn.out_proj.bias),
            Affine(self.self_attn_layer_norm.weight, self.self_attn_layer_norm.bias),
            query,
            out,
            norm,
            Affine(self.fc1.weight, self.fc1.bias),
            Affine(self.fc2.weight, self.fc2.bias),
            Affine(self.final_layer_norm.weight, self.final_layer_norm.bias),
        )
