"""Exported files, run by onnxruntime beside the model that they are of."""

import os

import numpy as np
import onnxruntime
import torch

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.models import serving

# Lengths of the sentences in a batch, on which side they are padded, and beams.
BATCHES = [([1], "left", 1), ([2, 9, 5], "left", 1), ([17, 3], "right", 4), ([30, 30, 12, 1], "left", 2)]
STEPS = 12


def compare(model, folder, tolerance):
    """Run the files by onnxruntime, and torch beside it; refuse if they differ."""
    names = ("encoder.onnx", "decoder_step.onnx")
    encoder, step = (
        onnxruntime.InferenceSession(os.path.join(folder, name), providers=["CPUExecutionProvider"]) for name in names
    )
    print(f"comparing onnxruntime {onnxruntime.__version__} with torch {torch.__version__} and teacher forcing:")
    span = model.decoder.memory_span
    steps = min(model.decoder.max_positions(), min(span, 60) + STEPS if span > 0 else STEPS)
    random = torch.Generator().manual_seed(1)
    for lengths, side, beams in BATCHES:
        lengths = [min(length, model.encoder.max_positions()) for length in lengths]
        source, target = sample(model, lengths, side, len(lengths) * beams, steps, random)
        difference = largest_difference(model, encoder, step, source, target)
        print(f"  lengths {', '.join(map(str, lengths))}, padded on the {side}; beams: {beams}; steps: {steps}; "
              f"log-probabilities differ by at most {difference:.1e}")  # fmt: skip
        if not difference <= tolerance:
            raise FeedbackError(
                f"onnxruntime and torch differ by {difference:.1e}, more than --tolerance {tolerance:g}: "
                "nothing was written"
            )


def sample(model, lengths, side, rows, steps, random):
    """Sentences of random words (R, S), and what the decoder is given (B, T)."""
    words, eos = model.encoder.dictionary, model.decoder.dictionary.eos()
    source = torch.full((len(lengths), max(lengths)), words.pad())
    for row, length in enumerate(lengths):
        sentence = torch.randint(words.nspecial, len(words), (length,), generator=random)
        sentence[-1] = words.eos()
        first = max(lengths) - length if side == "left" else 0
        source[row, first : first + length] = sentence
    target = torch.randint(words.nspecial, len(model.decoder.dictionary), (rows, steps), generator=random)
    target[:, 0] = eos
    return source, target


def largest_difference(model, encoder, step, source, target):
    """Of any log-probability of any step."""
    beams = len(target) // len(source)
    with torch.no_grad():
        scores = model(source.repeat_interleave(beams, dim=0), None, target)
        expected = model.get_normalized_probs(scores, log_probs=True).numpy()
    *cross, keys, values = encoder.run(None, {"source_tokens": source.numpy()})
    inputs = dict(zip(serving.SOURCE, cross), candidates=np.array(1))
    keys, values = keys.repeat(beams, axis=1), values.repeat(beams, axis=1)
    wanted, outputs = [i.name for i in step.get_inputs()], ["log_probs"] + serving.NEW_MEMORY
    worst = 0.0
    for t in range(target.size(1)):
        inputs.update(tokens=target[:, t].numpy(), step=np.array(t), memory_keys=keys, memory_values=values)
        log_probs, keys, values = step.run(outputs, {name: inputs[name] for name in wanted})
        # numpy's maximum hands on what is not a number.
        worst = float(np.maximum(worst, np.abs(log_probs - expected[:, t]).max()))
    return worst
