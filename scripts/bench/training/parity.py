"""The gate before the clock: at a small size of a case, the fast kernel must give what the reference kernel gives."""

import torch

from common.made_up import disturb
from fairseq_feedback.errors import FeedbackError
from training import systems
from training.cases import CHECKPOINTED, FEEDBACK, OWN, OWN_REFERENCE, REFERENCE, RELATIVE, RELATIVE_REFERENCE

# In float32 the kernels add up in different orders: that much times 1e-5 of a tensor's largest entry may differ.
FACTOR = 5
TOLERANCE = 1e-5 * FACTOR

REFERENCE_OF = {FEEDBACK: REFERENCE, CHECKPOINTED: REFERENCE, RELATIVE: RELATIVE_REFERENCE, OWN: OWN_REFERENCE}


def check(case, device):
    """The largest differences found, a dictionary for each fast system; an error if one is above TOLERANCE."""
    found = []
    for system, reference in REFERENCE_OF.items():
        if system in case.systems:
            wanted = results(case, reference, device)
            name, difference = largest_difference(results(case, system, device), wanted)
            if not difference <= TOLERANCE:
                raise FeedbackError(
                    f"{case.name} is not timed: with {system}, {name} differs from the reference kernel's by "
                    f"{difference:.1e} of its largest entry ({TOLERANCE:.0e} allowed)"
                )
            found.append(dict(case=case.name, system=system, difference=difference, tensor=name))
    return found


def results(case, system, device):
    """Outputs and all gradients, by name; weights and dropout are the same for every kernel."""
    made = systems.make(case.small(), system, device)
    torch.manual_seed(2)
    disturb(made.module, 0.3)
    return made.outputs_and_gradients()


def largest_difference(found, wanted):
    """Name of the tensor that differs most, and by how much of its largest entry."""
    if found.keys() != wanted.keys():
        return sorted(found.keys() ^ wanted.keys())[0], float("inf")
    worst = "outputs", 0.0
    for name, tensor in wanted.items():
        # A key's bias moves all scores of a softmax alike: its gradient is 0 but for rounding.
        scale = wanted[name.replace("k_proj.bias", "k_proj.weight")].abs().max()
        difference = ((found[name] - tensor).abs().max() / scale).item()
        if not difference <= worst[1]:
            worst = name, difference
    return worst
