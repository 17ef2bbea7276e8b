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
from ..weights import Affine, Inputs, LayerWeights, Settings
from .backward import backward
from .forward import Constants, Leaves, forward


def unsupported(inputs: Inputs) -> Optional[str]:
    """Why this kernel cannot do a run that the reference can; None if it can."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return "the model is being exported or compiled"
    if inputs.memory.dim() > 3:
        return "every layer has a memory of its own"
    if inputs.cross is not None and inputs.cross.keys.size(1) != inputs.x.size(1):
        return "several rows share a source sentence"
    if inputs.attn_layer >= 0 and torch.is_grad_enabled():
        return "attention weights are wanted together with gradients"
    return None


def run(inputs: Inputs) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """As reference.run."""
    kept = [i for i, k in enumerate(inputs.choices.kept) if k]
    if not kept:
        return reference.run(inputs)
    x, dtype = inputs.x.contiguous(), inputs.x.dtype
    if _autocast(x) and dtype != torch.float64:
        x, dtype = x.float(), torch.get_autocast_dtype(x.device.type)
    settings, dropout, cross, w = inputs.settings, inputs.choices.dropout, inputs.cross, inputs.weights.memory
    if len(w.keys) > 1:  # each layer has its own
        w = w._replace(
            keys=[w.keys[i] for i in kept],
            values=[w.values[i] for i in kept],
            norms=[w.norms[i] for i in kept] if w.norms else [],
        )
    memory = reference.with_zeros(inputs.memory, min(inputs.zeros, 1))
    keys, values = reference.project_memory(memory, w, settings)
    layers = [inputs.weights.layers[i] for i in kept]
    query, layers[0] = _first_query(x, layers[0], settings, keys.size(4))
    leaves = Leaves(
        x=x,
        query=query.to(dtype),
        keys=keys.to(dtype),
        values=values.to(dtype),
        mix=_mix_of_kept(w.mix.to(x.dtype), kept),
        layers=layers,
        memory_keys=w.keys,
        memory_values=w.values,
        memory_norms=w.norms,
        positions=None if w.positions is None else w.positions.to(dtype),
        spans=None if w.spans is None else _of_layers(w.spans, kept).to(dtype),
        cross_keys=None if cross is None else _of_layers(cross.keys, kept).to(dtype),
        cross_values=None if cross is None else _of_layers(cross.values, kept).to(dtype),
    )
    constants = Constants(
        settings,
        [dropout[i] for i in kept] if dropout else [],
        inputs.left_pad,
        None if cross is None else cross.padding,
        dtype,
        max(0, inputs.zeros - 1),
        kept.index(inputs.attn_layer) if inputs.attn_layer in kept else -1,
    )
    tensors, spec = tree_flatten(leaves)
    save = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return _Bptt.apply(constants, spec, save, *tensors)


class _Bptt(torch.autograd.Function):
    @staticmethod
    def forward(ctx, constants, spec, save, *tensors):
        leaves = tree_unflatten(tensors, spec)
        with _without_autocast(leaves.x):
            outputs, memory, keys, values, attn, kept = forward(leaves, constants, save)
        if save:
            keys, values = [k.all() for k in keys], [v.data for v in values]
            leaves = leaves._replace(keys=None, values=None)
            tensors, ctx.spec = tree_flatten((leaves, constants.dropout, outputs, memory, keys, values, kept))
            ctx.save_for_backward(*tensors)
            ctx.constants = constants._replace(dropout=[])
            ctx.set_materialize_grads(False)
            assert attn is None, "see unsupported()"
        return outputs, memory, attn

    @staticmethod
    @once_differentiable
    def backward(ctx, d_outputs, d_memory, _):
        leaves, dropout, *rest = tree_unflatten(ctx.saved_tensors, ctx.spec)
        constants = ctx.constants._replace(dropout=dropout)
        with _without_autocast(leaves.x):
            gradients = backward(leaves, constants, *rest, d_outputs, d_memory)
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
