"""--shortlist: for each batch a vocabulary of the words that its source may become, and of the most frequent ones.

The file is text. A line is a word of the source and those of the target that it may become, with spaces between; the
line of <s> holds those that every sentence may have. `fairseq-feedback shortlist` writes it.
"""

from typing import Dict, List

import torch
from fairseq import search
from fairseq.data import Dictionary
from torch import Tensor

from fairseq_feedback.errors import FeedbackError

ALWAYS = "<s>"


class Shortlist:
    def __init__(self, path: str, source: Dictionary, target: Dictionary):
        self.of: Dict[int, Tensor] = {}
        self.always = torch.arange(target.nspecial)  # so a special symbol has the same number among the chosen
        for line in _lines(path):
            words = line.split()
            if not words:
                continue
            # A dictionary with the most frequent words only lacks some of the others.
            ids = torch.tensor([target.indices[word] for word in words[1:] if word in target.indices], dtype=torch.long)
            if words[0] == ALWAYS:
                self.always = torch.cat([self.always, ids]).unique()
            elif words[0] in source.indices:
                self.of[source.indices[words[0]]] = ids
        if len(self.always) == target.nspecial or not self.of:
            raise FeedbackError(f"--shortlist {path}: no line of {ALWAYS}, or none of words of the dictionary: make it "
                                "by fairseq-feedback shortlist, from the text of the training data")  # fmt: skip
        self.source, self.target = source, target

    def choose(self, tokens: Tensor) -> Tensor:
        """The target's words for these of the source, their numbers in order."""
        chosen: List[Tensor] = [self.always]
        for token in tokens.unique().tolist():
            if token not in self.of:  # a name, or a number: it may stay as it is
                same = self.target.index(self.source[token])
                self.of[token] = torch.tensor([] if same == self.target.unk() else [same], dtype=torch.long)
            chosen.append(self.of[token])
        return torch.cat(chosen).unique().to(tokens.device)


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8", newline="\n") as f:
            return list(f)
    except (OSError, UnicodeDecodeError) as error:
        raise FeedbackError(f"--shortlist {path} cannot be read: {getattr(error, 'strerror', error)}") from error


def check(generator, options) -> None:
    """Refuse what needs the whole vocabulary."""
    models = generator.model.models
    for what, given in {
        "several models": len(models) > 1,
        "a search of fairseq's own": not hasattr(generator, "shortlist")
        or type(generator.search) is not search.BeamSearch,
        "an adaptive softmax": any(getattr(m.decoder, "adaptive_softmax", None) is not None for m in models),
        "--prefix-size": getattr(options, "prefix_size", 0) > 0,
        "--no-repeat-ngram-size": getattr(options, "no_repeat_ngram_size", 0) > 0,
    }.items():
        if given:
            raise FeedbackError(f"--shortlist does not go with {what}: leave it out")
