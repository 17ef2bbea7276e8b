"""Weights at the start of training as in transformer-sequential, the code of the paper's authors."""

import torch.nn as nn


def as_authors(layers, memory, pre_norm: bool) -> None:
    """Draw the decoder layers and the memory anew. Embeddings and norms stay as they are.

    Linear layers begin as torch's own, without biases in attention; relative positions are N(0, 1). With pre-norm what
    ends a sublayer is divided by sqrt(2 L), so that the sum over all layers stays small.
    """
    scale = (2 * len(layers)) ** -0.5 if pre_norm else 1.0
    for owner in [memory, *(m for layer in layers for m in (layer.self_attn, layer.encoder_attn) if m is not None)]:
        for name, linear in owner.named_children():
            if isinstance(linear, nn.Linear):
                linear.reset_parameters()
                nn.init.zeros_(linear.bias)
                if name == "out_proj":
                    linear.weight.data.mul_(scale)
    for layer in layers:
        layer.fc2.weight.data.mul_(scale)
        layer.fc2.bias.data.mul_(scale)
    if memory.positions is not None:
        nn.init.normal_(memory.positions)
