"""What is compared: make() gives an object with run(), clear() for after it, words, and a note on the comparison."""

import logging
import warnings

import peers
import stack
import step
from cases import PEERS, Stack


def make(case, system, device, authors_repository=None):
    if system in PEERS:
        return peers.make(case, system, device, authors_repository)
    if isinstance(case, Stack):
        return stack.make(case, system, device)
    return step.make(case, system, device)


def quiet():
    """Without what fairseq and hydra say about every model."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
