"""The gate before the clock: at a small size, decoding must find what the reference kernel finds without any cache, and
our engine what fairseq's own code finds with the same transformer."""

import torch
import torch.nn as nn
from fairseq.sequence_generator import SequenceGenerator

from decoding import systems
from decoding.cases import ENGINE, FEEDBACK, TRANSFORMER
from fairseq_feedback.errors import FeedbackError

TOLERANCE = 1e-4  # of a hypothesis' score


def check(case):
    """A dictionary for each shape: the largest difference of scores. An error if it, or any hypothesis, is another."""
    found = []
    small = case.small()
    for shape in case.shapes:
        system = decoded(small, shape, FEEDBACK)
        differences = {"the reference kernel": largest_difference(system.hypotheses, slowly(system, small))}
        if ENGINE in case.systems:
            engine, own = (decoded(small, shape, system).hypotheses for system in (ENGINE, TRANSFORMER))
            differences["fairseq's own code"] = largest_difference(engine, own)
        for other, difference in differences.items():
            if not difference <= TOLERANCE:
                raise FeedbackError(
                    f"{case.name} is not timed: with {shape.name}, hypotheses differ from those of {other} by "
                    f"{difference:.1e} ({TOLERANCE:.0e} allowed; inf: other words)"
                )
        found.append(dict(case=case.name, shape=shape.name, difference=max(differences.values())))
    return found


def decoded(case, shape, system):
    made = systems.Fairseq(case, shape.small(), system, rows=3)
    made.run()
    return made


def slowly(system, case):
    """fairseq's search, with a model that computes every step anew from the first word on."""
    system.model.decoder.feedback_kernel = "reference"
    slow = WithoutCache(system.model)
    found = []
    for _, sample, length in system.work:
        generator = SequenceGenerator(
            [slow], system.task.target_dictionary, beam_size=case.beam, min_len=length, max_len_b=length
        )
        found += system.task.inference_step(generator, [slow], sample)
    return found


class WithoutCache(nn.Module):
    def __init__(self, model):
        super().__init__()
        if hasattr(model, "encoder"):
            self.encoder = PlainEncoder(model.encoder)
        self.decoder = PlainDecoder(model.decoder)
        self.get_normalized_probs = model.get_normalized_probs
        self.max_decoder_positions = model.max_decoder_positions


class PlainEncoder(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.reorder_encoder_out = encoder.reorder_encoder_out
        self.host = [encoder]

    def forward_torchscript(self, net_input):
        return self.host[0].forward_scriptable(net_input["src_tokens"], net_input["src_lengths"])


class PlainDecoder(nn.Module):
    """Not a FairseqIncrementalDecoder, so the search hands it no state."""

    def __init__(self, decoder):
        super().__init__()
        self.host = [decoder]

    def forward(self, tokens, encoder_out=None):
        return self.host[0](tokens, encoder_out=encoder_out)


def largest_difference(found, wanted):
    if [len(ours) for ours in found] != [len(theirs) for theirs in wanted]:
        return float("inf")
    largest = 0.0
    for ours, theirs in zip(found, wanted):
        for a, b in zip(ours, theirs):
            if not torch.equal(a["tokens"], b["tokens"]):
                return float("inf")
            largest = max(largest, abs(float(a["score"]) - float(b["score"])))
    return largest
