"""What a server runs, as two graphs: the encoder once for a batch, and one step of the decoder for each word.

    encoder        source_tokens (R, S) -> cross_keys, cross_values (L, R, H, S, D), source_padding (R, S),
                   memory_keys, memory_values (G, R, H, N, D) that stand before the first step
    decoder_step   tokens (B), step (), candidates (), memory_keys, memory_values (G, B, H, M, D), cross_keys,
                   cross_values, source_padding -> log_probs (B, V), best_log_probs and best_tokens (B, candidates),
                   new_memory_keys, new_memory_values (G, B, H, M + 1, D)

R sentences, B rows, which are R times the beams: the rows of a sentence stand together, and share its cross_keys and
cross_values. G is 1 when all layers share the keys and values of the memory, otherwise L. With --memory-span, M does
not grow beyond it: the oldest slot falls off. A model without positions has no `step`. The other letters are those of
kernels/__init__.py.
"""

import warnings
from typing import Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.kernels import reference
from fairseq_feedback.kernels.weights import Choices, CrossMemory, Seen, Weights

MEMORY = ["memory_keys", "memory_values"]
NEW_MEMORY = ["new_memory_keys", "new_memory_values"]
SOURCE = ["cross_keys", "cross_values", "source_padding"]
OPSET = 17  # the first with layer norm


class Encoder(nn.Module):
    """The encoder, and everything that the decoder can have ready before its first step."""

    def __init__(self, model):
        super().__init__()
        self.encoder = model.encoder
        self.decoder = model.decoder

    def forward(self, tokens: Tensor):
        encoded = self.encoder(tokens, src_lengths=None)
        weights = self.decoder.weights(self.decoder.reach())
        padding = tokens.eq(self.encoder.padding_idx)
        cross = reference.project_source(
            encoded["encoder_out"][0], padding, weights.source_keys, weights.source_values, self.decoder.heads
        )
        start_keys, start_values = self._start(tokens.size(0), weights)
        return cross.keys, cross.values, padding, start_keys, start_values

    def _start(self, rows: int, weights: Weights) -> Tuple[Tensor, Tensor]:
        reach = self.decoder.reach()
        slots = init_slots(self.decoder)
        keys, values = self.decoder.first_slots(1, slots, weights, self.decoder.settings(reach, slots))
        return keys.expand(-1, rows, -1, -1, -1), values.expand(-1, rows, -1, -1, -1)


class DecoderStep(nn.Module):
    """One step of all rows: kernels/reference.py between the embedding and the output layer."""

    def __init__(self, model):
        super().__init__()
        self.decoder = model.decoder

    def forward(
        self,
        tokens: Tensor,
        step: Tensor,
        candidates: Tensor,
        keys: Tensor,
        values: Tensor,
        cross_keys: Tensor,
        cross_values: Tensor,
        padding: Tensor,
    ):
        decoder = self.decoder
        reach = decoder.reach()
        x = self._embed(tokens, step)
        first = 0  # counts for left-padded targets only, and a server has none
        # Of --memory-composition own the oldest slot is too old, or stands before the first step: it is hidden, as
        # padding is. There must be one, for onnxruntime takes no tensor without entries.
        hidden = torch.ones_like(tokens) if decoder.sees_itself else None
        cross = CrossMemory(cross_keys, cross_values, padding)
        done = reference.step(
            x,
            Seen(keys, values, first, None, None, hidden, cross),
            decoder.weights(reach),
            Choices([True] * decoder.num_layers, []),
            decoder.settings(reach, decoder.init_slots(reach)),
        )
        log_probs = self._log_probs(done.output)
        # Here, because numpy takes twenty times as long for it as onnxruntime.
        best_log_probs, best_tokens = torch.topk(log_probs, candidates, dim=-1)
        keys, values = self._grown(keys, done.key, reach), self._grown(values, done.value, reach)
        return log_probs, best_log_probs, best_tokens, keys, values

    def _embed(self, tokens: Tensor, step: Tensor) -> Tensor:
        """The host's embedding of one token at a given position."""
        decoder = self.decoder
        x = decoder.embed_scale * decoder.embed_tokens(tokens)
        if decoder.project_in_dim is not None:
            x = decoder.project_in_dim(x)
        positions = decoder.embed_positions
        if positions is not None:
            table = positions.weight if isinstance(positions, nn.Embedding) else positions.weights
            x = x + table.index_select(0, (decoder.padding_idx + 1 + step).view(1))
        if decoder.layernorm_embedding is not None:
            x = decoder.layernorm_embedding(x)
        return x

    def _log_probs(self, x: Tensor) -> Tensor:
        decoder = self.decoder
        if decoder.layer_norm is not None:
            x = decoder.layer_norm(x)
        if decoder.project_out_dim is not None:
            x = decoder.project_out_dim(x)
        if decoder.adaptive_softmax is None:
            return F.log_softmax(decoder.output_layer(x), dim=-1)
        softmax = decoder.adaptive_softmax  # its own get_log_prob writes into slices, which has no place in a graph
        head = F.log_softmax(softmax.head(x), dim=-1)
        first = softmax.cutoff[0]
        parts = [head[:, :first]]
        for i, tail in enumerate(softmax.tail):
            parts.append(F.log_softmax(tail(x), dim=-1) + head[:, first + i, None])
        return torch.cat(parts, dim=-1)

    def _grown(self, slots: Tensor, new: Tensor, reach: int) -> Tensor:
        slots = torch.cat([slots, new], dim=3)
        return slots[:, :, :, -reach:] if reach > 0 else slots


def init_slots(decoder) -> int:
    """Slots that an exported memory begins with."""
    return max(1, decoder.init_slots(decoder.reach()))


def check(model) -> None:
    """Refuse what the two graphs are not made for."""
    if any(layer.encoder_attn is None for layer in model.decoder.layers):
        raise FeedbackError("a model with --no-cross-attention is not exported: it does not read the source")


def export(model, encoder_path: str, step_path: str) -> None:
    """Write both graphs as ONNX, in float32. Leaves the model in float32, and in eval mode."""
    check(model)
    model.float().eval()
    encoder, decoder_step = Encoder(model).eval(), DecoderStep(model).eval()
    pad, eos = model.encoder.padding_idx, model.decoder.dictionary.eos()
    sources = torch.tensor([[pad, pad, eos], [eos, eos, eos]])  # padded: without, the host's encoder makes no mask
    with torch.no_grad():
        *cross, keys, values = encoder(sources)
    tokens_axes, cross_axes = {0: "sentences", 1: "length"}, {1: "sentences", 3: "length"}
    source_axes = dict(zip(SOURCE, (cross_axes, cross_axes, tokens_axes)))
    _write(
        encoder,
        [sources],
        encoder_path,
        ["source_tokens"],
        SOURCE + MEMORY,
        {
            "source_tokens": tokens_axes,
            **source_axes,
            **{name: {1: "sentences"} for name in MEMORY},
        },
    )
    beams = 3
    memory = [m.repeat_interleave(beams, dim=1) for m in (keys, values)]
    _write(
        decoder_step,
        [torch.full((2 * beams,), eos), torch.tensor(0), torch.tensor(1), *memory, *cross],
        step_path,
        ["tokens", "step", "candidates"] + MEMORY + SOURCE,
        ["log_probs", "best_log_probs", "best_tokens"] + NEW_MEMORY,
        {
            "tokens": {0: "rows"},
            **{name: {1: "rows", 3: "slots"} for name in MEMORY},
            **source_axes,
            "log_probs": {0: "rows"},
            "best_log_probs": {0: "rows", 1: "candidates"},
            "best_tokens": {0: "rows", 1: "candidates"},
            **{name: {1: "rows", 3: "new_slots"} for name in NEW_MEMORY},
        },
    )


def _write(graph, inputs, path, input_names, output_names, axes) -> None:
    with warnings.catch_warnings():
        # Of every size that it takes as fixed; those of the model are.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        # Of dynamo=False, and of a function that torch calls itself.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning, r"torch\.onnx\.")
        # dynamo=False: by tracing, where rows may be any multiple of sentences. The other way takes 20 times as long.
        torch.onnx.export(
            graph,
            tuple(inputs),
            path,
            input_names=input_names,
            output_names=output_names,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
