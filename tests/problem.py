"""Random arguments of a kernel, for the tests of kernels."""

import torch

from fairseq_feedback.kernels import dropout, reference
from fairseq_feedback.kernels.weights import (
    Affine,
    Choices,
    Inputs,
    LayerWeights,
    MemoryWeights,
    Settings,
    Weights,
)


class Problem:
    """Random arguments of a kernel. The same seed gives the same in every dtype."""

    def __init__(
        self, steps=5, rows=3, width=8, heads=2, ffn=6, layers=2, source=4, shared=True, pre_norm=False,
        span=0, init_slots=1, activation="gelu", p=(0.0, 0.0, 0.0), seed=0, scale=0.7,
        dtype=torch.float64, head_width=None, reach=0, ramp=None, composition="weighted",
    ):  # fmt: skip
        self.scale, self.dtype = scale, dtype
        self.g = torch.Generator().manual_seed(seed)
        of_layers, own = (layers,) if composition in ("own", "recurrent") else (), composition == "own"
        self.settings = Settings(heads, pre_norm, activation, span, own, init_slots, *p)
        self.x = self.randn(steps, rows, width)
        self.zeros, self.memory = 0, torch.zeros(init_slots, rows, *of_layers, width, dtype=dtype)
        groups = 1 if shared and not of_layers else layers
        heads_width = heads * (head_width or width // heads)
        self.layers = [self.layer(width, heads_width, ffn, source > 0) for _ in range(layers)]
        self.memory_weights = MemoryWeights(
            self.mix(composition, layers),
            [self.affine(width, heads_width) for _ in range(groups)],
            [self.affine(width, heads_width) for _ in range(groups)],
            [w.attn_norm if own else self.norm(width) for w in self.layers[:groups]] if pre_norm else [],
            self.randn(reach, heads_width // heads) if reach else None,
            self.spans(layers, heads, reach, ramp) if ramp else None,
        )
        self.source = self.randn(source, rows, width) if source else None
        self.source_kv = [[self.affine(width, heads_width) for _ in range(layers)] for _ in ("keys", "values")]
        self.source_padding = torch.zeros(rows, max(source, 1), dtype=torch.bool)
        self.source_padding[1:, max(source - 1, 1) :] = True
        self.left_pad = None
        self.layer_kept = [True] * layers
        self.dropout = []
        self.ffn = ffn

    def mix(self, composition, layers):
        w = self.randn(layers + 1)
        if composition == "own":
            return None
        if composition == "recurrent":
            w = self.randn(layers, layers + 1)
        if composition in ("top", "layer:0"):
            return torch.eye(layers + 1, dtype=self.dtype)[-1 if composition == "top" else 0]
        return reference.mix_weights(w)

    def randn(self, *shape):
        return torch.randn(*shape, generator=self.g, dtype=torch.float64).mul_(self.scale).to(self.dtype)

    def affine(self, i, o):
        return Affine(self.randn(o, i), self.randn(o))

    def norm(self, width):
        return Affine(1 + self.randn(width), self.randn(width))

    def spans(self, layers, heads, reach, ramp):
        """log of a ramp of its own for every head; some of the oldest slots are out of reach, the newest never."""
        length = torch.rand(layers, heads, 1, generator=self.g, dtype=torch.float64) * reach
        distance = torch.arange(reach - 1, -1, -1, dtype=torch.float64)
        return ((length - distance) / ramp + 1).clamp(0, 1).log().to(self.dtype)

    def layer(self, c, a, f, cross):
        return LayerWeights(
            self.affine(c, a),
            self.affine(a, c),
            self.norm(c),
            self.affine(c, a) if cross else None,
            self.affine(a, c) if cross else None,
            self.norm(c) if cross else None,
            self.affine(c, f),
            self.affine(f, c),
            self.norm(c),
        )

    def draw_dropout(self):
        slots = self.zeros + len(self.memory) + len(self.x)
        source = 0 if self.source is None else len(self.source)
        self.dropout = dropout.draw(self.x, slots, source, self.ffn, len(self.layers), self.settings)

    def cross(self):
        if self.source is None:
            return None
        return reference.project_source(self.source, self.source_padding, *self.source_kv, self.settings.heads)

    def inputs(self, x=None, memory=None, drop=None, attn_layer=-1):
        return Inputs(
            self.x if x is None else x,
            self.zeros,
            self.memory if memory is None else memory,
            Weights(self.layers, self.memory_weights, *self.source_kv),
            self.cross(),
            self.left_pad,
            Choices(self.layer_kept, self.dropout if drop is None else drop),
            self.settings,
            attn_layer,
        )

    def run(self, *args, kernel=reference, **kwargs):
        return kernel.run(self.inputs(*args, **kwargs))

    def tensors(self):
        """Everything that has a gradient."""
        w = self.memory_weights
        found = [self.x, self.memory] if len(self.memory) else [self.x]
        found += [t for t in (w.mix, w.positions, w.spans) if t is not None]
        if self.source is not None:
            found.append(self.source)
        affines = [a for layer in self.layers for a in layer]
        affines += w.keys + w.values + ([] if self.settings.sees_itself else w.norms)
        if self.source is not None:
            affines += self.source_kv[0] + self.source_kv[1]
        for affine in affines:
            if affine is not None:
                found += list(affine)
        return found


SHAPES = dict(  # of at most 7 steps
    plain={},
    pre_norm=dict(pre_norm=True),
    unshared=dict(shared=False),
    unshared_pre_norm=dict(shared=False, pre_norm=True),
    no_cross=dict(source=0, pre_norm=True),
    span=dict(span=2),
    span_and_slots=dict(span=3, init_slots=3, pre_norm=True, source=0),
    dropout=dict(p=(0.3, 0.2, 0.1), pre_norm=True),
    positions=dict(span=3, init_slots=3, reach=3, source=0, pre_norm=True, head_width=6),
    adaptive_span=dict(span=4, init_slots=4, reach=4, ramp=2, source=0, pre_norm=True, p=(0.0, 0.2, 0.1)),
    positions_unshared=dict(reach=7, ramp=2, shared=False, head_width=3),
    recurrent=dict(composition="recurrent", pre_norm=True),
    own=dict(composition="own", init_slots=0, span=3, p=(0.3, 0.2, 0.1)),
)
