"""What is compared: make() gives an object with run(), clear() for after it, words, and a note on the comparison."""

import fairseq_feedback.plugin  # noqa: F401  registers our models
from training import peers, stack, step
from training.cases import PEERS, Stack


def make(case, system, device, authors_repository=None):
    if system in PEERS:
        return peers.make(case, system, device, authors_repository)
    if isinstance(case, Stack):
        return stack.make(case, system, device)
    return step.make(case, system, device)


def make_loaded(case, system, device, authors_repository):
    """In a process that has loaded all that a first run loads, of any size."""
    make(case.small(), system, device, authors_repository).run()
    return make(case, system, device, authors_repository)
