"""Words, sentences and weights that are made up, and fairseq's configuration for them."""

import copy
import tempfile
from functools import lru_cache

import numpy as np
import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf


def dictionary(size):
    words = Dictionary()
    for i in range(size - words.nspecial):
        words.add_symbol(f"w{i}")
    return words


def sentence_lengths(rng, count, longest):
    """Of targets and of sources: about IWSLT14 German-English in a joint BPE.

    Targets are log-normal, median 20 and mean 25 tokens; a source is as long as its target times a log-normal factor
    around 1.
    """
    targets = np.clip(20 * np.exp(rng.normal(0, 0.65, count)), 2, longest).astype(int)
    sources = np.clip(targets * np.exp(rng.normal(0, 0.2, count)), 2, longest).astype(int)
    return targets, sources


def disturb(model, scale):
    """Biases, norms and the mix: their first values are all equal and would hide mistakes."""
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.add_(scale * torch.randn_like(p))


def configuration(flags):
    """fairseq's, of a command line of fairseq-train without its data."""
    return copy.deepcopy(_configuration(tuple(flags)))


@lru_cache(maxsize=None)  # hydra takes a second
def _configuration(flags):
    with tempfile.TemporaryDirectory() as folder:  # the task wants a folder, and is never asked to read it
        args = options.parse_args_and_arch(options.get_training_parser(), [folder, *flags])
    return convert_namespace_to_omegaconf(args)
