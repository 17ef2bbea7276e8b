"""Parameters of the feedback memory and of the attention over it."""

import math
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

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
    trained_layers: int = 0
    kept: Optional[Tuple[int, ...]] = None  # of them; None = all

    @property
    def sees_itself(self) -> bool:
        return self.composition == "own"

    @property
    def of_layers(self) -> bool:
        """Whether every layer has a memory of its own."""
        return self.composition in ("own", "recurrent")

    def first_mix(self, layers: int) -> Tensor:
        """Logits of the layers' shares, which training changes or not. layers: of the model."""
        if self.of_layers:
            return torch.zeros(layers, layers + 1)
        if self.kept is None or self.composition == "weighted":
            return self._shares(layers)
        return prune_mix(self._shares(self.trained_layers), self.kept)

    def _shares(self, layers: int) -> Tensor:
        if self.composition in ("weighted", "mean"):
            return torch.zeros(layers + 1)
        only = layers if self.composition == "top" else int(self.composition[len("layer:") :])
        return torch.full((layers + 1,), -math.inf).index_fill(0, torch.tensor(only), 0.0)


def prune_mix(shares: Tensor, kept: Sequence[int]) -> Tensor:
    """(…, trained layers + 1) -> (…, kept layers + 1).

    A pruned layer acts as one that LayerDrop dropped: the identity. Its share of the mix goes to the layer below.
    """
    starts = [0] + [i + 1 for i in kept]
    ends = starts[1:] + [shares.shape[-1]]
    return torch.stack([shares[..., a:b].logsumexp(dim=-1) for a, b in zip(starts, ends)], dim=-1)


class FeedbackMemory(nn.Module):
    """The mix of layers, what depends on the distance, and, when shared, the keys and values that all layers read."""

    def __init__(self, layers: int, embed_dim: int, heads: int, options: MemoryOptions, pre_norm: bool):
        super().__init__()
        shared, width = options.shared_kv, heads * options.head_dim
        weights = options.first_mix(layers)
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
