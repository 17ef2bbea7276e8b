"""Parameters of the feedback memory and of the attention over it."""

from dataclasses import dataclass
from typing import Optional

import torch
import torch.nn as nn
from torch import Tensor

from fairseq_feedback.kernels import reference
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
    composition: str = "weighted"  # what it is made of: see --memory-composition

    @property
    def sees_itself(self) -> bool:
        return self.composition == "own"

    @property
    def of_layers(self) -> bool:
        """Whether every layer has a memory of its own."""
        return self.composition in ("own", "recurrent")

    def the_only_layer(self, layers: int) -> Optional[int]:
        """Of which alone the memory is made, 0 = the embedding."""
        if self.composition.startswith("layer:"):
            return int(self.composition[len("layer:") :])
        return layers if self.composition == "top" else None


class FeedbackMemory(nn.Module):
    """The mix of layers, what depends on the distance, and, when shared, the keys and values that all layers read."""

    def __init__(self, layers: int, embed_dim: int, heads: int, options: MemoryOptions, pre_norm: bool):
        super().__init__()
        shared, width = options.shared_kv, heads * options.head_dim
        weights = torch.zeros((layers, layers + 1) if options.of_layers else layers + 1)
        only = options.the_only_layer(layers)
        if only is not None:
            weights = torch.full_like(weights, float("-inf")).index_fill(0, torch.tensor(only), 0.0)
        if options.composition in ("weighted", "recurrent"):
            self.layer_weights = nn.Parameter(weights)
        else:  # nothing to learn, and nothing in checkpoints
            self.register_buffer("layer_weights", None if options.sees_itself else weights, persistent=False)
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

    def mix(self) -> Optional[Tensor]:
        return None if self.layer_weights is None else reference.mix_weights(self.layer_weights)


class MemoryAttention(nn.Module):
    """One layer's attention over the memory, with keys and values of its own when they are not shared."""

    def __init__(self, embed_dim: int, width: int, shared_kv: bool, memory_norm: bool):
        super().__init__()
        self.q_proj = xavier_linear(embed_dim, width, gain=2**-0.5)
        self.out_proj = xavier_linear(width, embed_dim)
        nn.init.zeros_(self.out_proj.bias)
        self.k_proj = None if shared_kv else xavier_linear(embed_dim, width, gain=2**-0.5)
        self.v_proj = None if shared_kv else xavier_linear(embed_dim, width, gain=2**-0.5)
        self.memory_layer_norm = nn.LayerNorm(embed_dim) if memory_norm and not shared_kv else None


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
