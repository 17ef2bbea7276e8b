"""Dropout whose random choices are made before the loop over time."""

from typing import List, Optional

import torch
from torch import Tensor

from .weights import Choices, LayerDropout, Settings


def draw(x: Tensor, slots: int, source: int, ffn_width: int, layers: int, settings: Settings) -> List[LayerDropout]:
    """Choices for T steps of every layer.

    x: (T, B, C); slots: M after the last step; source: S, 0 = no cross-attention.
    """
    steps, rows, width = x.shape
    drawn: List[LayerDropout] = []
    for _ in range(layers):
        cross_attn: Optional[Tensor] = None
        cross_out: Optional[Tensor] = None
        if source > 0:
            cross_attn = _keep(x, [steps, rows, settings.heads, source], settings.attention_dropout)
            cross_out = _keep(x, [steps, rows, width], settings.dropout)
        drawn.append(
            LayerDropout(
                memory_attn=_keep(x, [steps, rows, settings.heads, slots], settings.attention_dropout),
                attn_out=_keep(x, [steps, rows, width], settings.dropout),
                cross_attn=cross_attn,
                cross_out=cross_out,
                activation=_keep(x, [steps, rows, ffn_width], settings.activation_dropout),
                ffn_out=_keep(x, [steps, rows, width], settings.dropout),
            )
        )
    return drawn


def of_layer(drawn: List[LayerDropout], index: int) -> LayerDropout:
    """`drawn` may be empty, for no dropout."""
    return drawn[index] if drawn else LayerDropout(*[None] * 6)


def at_step(choices: Choices, t: int, first: int, last: int) -> Choices:
    """The choices of step t, for the memory slots first..last-1."""
    return Choices(choices.kept, [_at_step(d, t, first, last) for d in choices.dropout])


def apply(x: Tensor, keep: Optional[Tensor], p: float) -> Tensor:
    if keep is None:
        return x
    return x * keep * (1.0 / (1.0 - p))


def _at_step(d: LayerDropout, t: int, first: int, last: int) -> LayerDropout:
    memory_attn = d.memory_attn
    if memory_attn is not None:
        memory_attn = memory_attn[t, :, :, first:last]
    return LayerDropout(
        memory_attn,
        _row(d.attn_out, t),
        _row(d.cross_attn, t),
        _row(d.cross_out, t),
        _row(d.activation, t),
        _row(d.ffn_out, t),
    )


def _keep(x: Tensor, shape: List[int], p: float) -> Optional[Tensor]:
    if p == 0.0:
        return None
    keep = torch.empty(shape, dtype=torch.bool, device=x.device)
    if x.device.type != "cpu":
        return keep.bernoulli_(1.0 - p)
    for t in range(shape[0]):  # three times as fast
        keep[t] = torch.rand(shape[1:], dtype=torch.float32) >= p
    return keep


def _row(keep: Optional[Tensor], t: int) -> Optional[Tensor]:
    return None if keep is None else keep[t]
