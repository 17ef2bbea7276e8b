"""Parameters of the feedback memory and of the attention over it."""

from dataclasses import dataclass
from typing import Optional

import torch
import torch.nn as nn

from fairseq_feedback.modules.adaptive_span import AdaptiveSpan


@dataclass(frozen=True)
class MemoryOptions:
    """What a model wants of its memory."""

    span: int  # how many past steps a step sees; 0 = all
    shared_kv: bool  # one pair of keys and values for all layers
    head_dim: int
    init_slots: int = 1  # zero vectors before the first step; 0 = as many as a step sees
    relative_positions: bool = False
    adaptive_span: bool = False
    adaptive_span_ramp: int = 32
    adaptive_span_start: int = 0


class FeedbackMemory(nn.Module):
    """The mix of layers, what depends on the distance, and, when shared, the keys and values that all layers read."""

    def __init__(self, layers: int, embed_dim: int, heads: int, options: MemoryOptions, pre_norm: bool):
        super().__init__()
        shared, width = options.shared_kv, heads * options.head_dim
        self.layer_weights = nn.Parameter(torch.zeros(layers + 1))
        self.k_proj = xavier_linear(embed_dim, width, gain=2**-0.5) if shared else None
        self.v_proj = xavier_linear(embed_dim, width, gain=2**-0.5) if shared else None
        self.layer_norm = nn.LayerNorm(embed_dim) if shared and pre_norm else None
        self.positions: Optional[nn.Parameter] = None
        if options.relative_positions:  # the newest slot last
            self.positions = nn.Parameter(torch.empty(options.span, options.head_dim))
            nn.init.normal_(self.positions, std=options.head_dim**-0.5)
        self.adaptive_span: Optional[AdaptiveSpan] = None
        if options.adaptive_span:
            self.adaptive_span = AdaptiveSpan(
                layers, heads, options.span, options.adaptive_span_ramp, options.adaptive_span_start
            )


class MemoryAttention(nn.Module):
    """One layer's attention over the memory, with keys and values of its own when they are not shared."""

    def __init__(self, embed_dim: int, width: int, shared_kv: bool, pre_norm: bool):
        super().__init__()
        self.q_proj = xavier_linear(embed_dim, width, gain=2**-0.5)
        self.out_proj = xavier_linear(width, embed_dim)
        nn.init.zeros_(self.out_proj.bias)
        self.k_proj = None if shared_kv else xavier_linear(embed_dim, width, gain=2**-0.5)
        self.v_proj = None if shared_kv else xavier_linear(embed_dim, width, gain=2**-0.5)
        self.memory_layer_norm = nn.LayerNorm(embed_dim) if pre_norm and not shared_kv else None


class SourceAttention(nn.Module):
    """One layer's attention over the encoder's output."""

    def __init__(self, embed_dim: int, source_dim: int):
        super().__init__()
        gain = 2**-0.5 if source_dim == embed_dim else 1.0
        self.q_proj = xavier_linear(embed_dim, embed_dim, gain)
        self.k_proj = xavier_linear(source_dim, embed_dim, gain)
        self.v_proj = xavier_linear(source_dim, embed_dim, gain)
        self.out_proj = xavier_linear(embed_dim, embed_dim)
        nn.init.zeros_(self.out_proj.bias)


def xavier_linear(in_features: int, out_features: int, gain: float = 1.0) -> nn.Linear:
    """Initialised as the projections of fairseq's MultiheadAttention."""
    linear = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(linear.weight, gain=gain)
    return linear
