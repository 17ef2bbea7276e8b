"""Parameters of the feedback memory and of the attention over it."""

import torch
import torch.nn as nn


class FeedbackMemory(nn.Module):
    """The mix of layers and, when they are shared, the keys and values that all layers read."""

    def __init__(self, layers: int, embed_dim: int, shared_kv: bool, pre_norm: bool):
        super().__init__()
        self.layer_weights = nn.Parameter(torch.zeros(layers + 1))
        self.k_proj = xavier_linear(embed_dim, embed_dim, gain=2**-0.5) if shared_kv else None
        self.v_proj = xavier_linear(embed_dim, embed_dim, gain=2**-0.5) if shared_kv else None
        self.layer_norm = nn.LayerNorm(embed_dim) if shared_kv and pre_norm else None


class MemoryAttention(nn.Module):
    """One layer's attention over the memory, with keys and values of its own when they are not shared."""

    def __init__(self, embed_dim: int, shared_kv: bool, pre_norm: bool):
        super().__init__()
        self.q_proj = xavier_linear(embed_dim, embed_dim, gain=2**-0.5)
        self.out_proj = xavier_linear(embed_dim, embed_dim)
        nn.init.zeros_(self.out_proj.bias)
        self.k_proj = None if shared_kv else xavier_linear(embed_dim, embed_dim, gain=2**-0.5)
        self.v_proj = None if shared_kv else xavier_linear(embed_dim, embed_dim, gain=2**-0.5)
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
