"""The fast kernel for training: backpropagation through time, derived by hand.

Signature and mathematics are those of ../reference.py; what is missing is autograd's graph of every step. forward.py
and backward.py are functions of tensors, this file ties them to autograd. Equation numbers: see ../README.md.
"""

import contextlib
from typing import List, Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._pytree import tree_flatten, tree_unflatten

from .. import reference
from ..weights import Affine, CrossMemory, LayerDropout, LayerWeights, MemoryWeights, Settings
from .backward import backward
from .forward import Constants, Inputs, forward


def unsupported(x: Tensor, cross: Optional[CrossMemory], attn_layer: int) -> Optional[str]:
    """Why this kernel cannot do a run that the reference can; None if it can."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return "the model is being exported or compiled"
    if cross is not None and cross.keys.size(1) != x.size(1):
        return "several rows share a source sentence"
    if attn_layer >= 0 and torch.is_grad_enabled():
        return "attention weights are wanted together with gradients"
    return None


def run(
    x: Tensor,
    memory: Tensor,
    layers: List[LayerWeights],
    memory_weights: MemoryWeights,
    cross: Optional[CrossMemory],
    left_pad: Optional[Tensor],
    layer_kept: List[bool],
    dropout: List[LayerDropout],
    settings: Settings,
    attn_layer: int = -1,
) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """As reference.run."""
    kept = [i for i, k in enumerate(layer_kept) if k]
    if not kept:
        return reference.run(
            x, memory, layers, memory_weights, cross, left_pad, layer_kept, dropout, settings, attn_layer
        )
    x, dtype = x.contiguous(), x.dtype
    if _autocast(x) and dtype != torch.float64:
        x, dtype = x.float(), torch.get_autocast_dtype(x.device.type)
    if len(memory_weights.keys) > 1:  # each layer has its own
        memory_weights = memory_weights._replace(
            keys=[memory_weights.keys[i] for i in kept],
            values=[memory_weights.values[i] for i in kept],
            norms=[memory_weights.norms[i] for i in kept] if memory_weights.norms else [],
        )
    positions, spans = memory_weights.positions, memory_weights.spans
    keys, values = reference.project_memory(memory, memory_weights, settings)
    layers = [layers[i] for i in kept]
    query, layers[0] = _first_query(x, layers[0], settings, keys.size(4))
    inputs = Inputs(
        x=x,
        query=query.to(dtype),
        keys=keys.to(dtype),
        values=values.to(dtype),
        mix=_mix_of_kept(reference.mix_weights(memory_weights, x), kept),
        layers=layers,
        memory_keys=memory_weights.keys,
        memory_values=memory_weights.values,
        memory_norms=memory_weights.norms,
        positions=None if positions is None else positions.to(dtype),
        spans=None if spans is None else _of_layers(spans, kept).to(dtype),
        cross_keys=None if cross is None else _of_layers(cross.keys, kept).to(dtype),
        cross_values=None if cross is None else _of_layers(cross.values, kept).to(dtype),
    )
    constants = Constants(
        settings,
        [dropout[i] for i in kept] if dropout else [],
        left_pad,
        None if cross is None else cross.padding,
        dtype,
        kept.index(attn_layer) if attn_layer in kept else -1,
    )
    leaves, spec = tree_flatten(inputs)
    save = torch.is_grad_enabled() and any(leaf is not None and leaf.requires_grad for leaf in leaves)
    return _Bptt.apply(constants, spec, save, *leaves)


class _Bptt(torch.autograd.Function):
    @staticmethod
    def forward(ctx, constants, spec, save, *leaves):
        inputs = tree_unflatten(leaves, spec)
        with _without_autocast(inputs.x):
            outputs, memory, keys, values, attn, kept = forward(inputs, constants, save)
        if save:
            keys, values = [k.all() for k in keys], [v.data for v in values]
            inputs = inputs._replace(keys=None, values=None)
            tensors, ctx.spec = tree_flatten((inputs, constants.dropout, outputs, memory, keys, values, kept))
            ctx.save_for_backward(*tensors)
            ctx.constants = constants._replace(dropout=[])
            ctx.set_materialize_grads(False)
            assert attn is None, "see unsupported()"
        return outputs, memory, attn

    @staticmethod
    @once_differentiable
    def backward(ctx, d_outputs, d_memory, _):
        inputs, dropout, *rest = tree_unflatten(ctx.saved_tensors, ctx.spec)
        constants = ctx.constants._replace(dropout=dropout)
        with _without_autocast(inputs.x):
            gradients = backward(inputs, constants, *rest, d_outputs, d_memory)
        return (None, None, None, *tree_flatten(gradients)[0])


def _autocast(x: Tensor) -> bool:
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _without_autocast(x: Tensor):
    return torch.autocast(x.device.type, enabled=False) if _autocast(x) else contextlib.nullcontext()


def _first_query(x: Tensor, w: LayerWeights, s: Settings, head_width: int) -> Tuple[Tensor, LayerWeights]:
    """Queries of the first layer for all steps (7), and the layer without the weights that only they need."""
    scale = head_width**-0.5
    normed = reference.norm(x, w.attn_norm) if s.pre_norm else x
    query = reference.linear(normed, Affine(w.query.weight * scale, w.query.bias * scale))
    w = w._replace(query=None)
    return query, w._replace(attn_norm=None) if s.pre_norm else w


def _mix_of_kept(mix: Tensor, kept: List[int]) -> Tensor:
    """A dropped layer is the identity: its share goes to the last kept layer below it, or to the input."""
    if len(kept) + 1 == mix.size(0):
        return mix
    borders = [0] + [i + 1 for i in kept] + [mix.size(0)]
    return torch.stack([mix[a:b].sum() for a, b in zip(borders, borders[1:])])


def _of_layers(x: Tensor, kept: List[int]) -> Tensor:
    return x if len(kept) == x.size(0) else torch.stack([x[i] for i in kept])
