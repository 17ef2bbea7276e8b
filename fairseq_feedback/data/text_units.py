"""Words, characters and bytes of the text that a sequence of symbols stands for: what losses are told per."""

from typing import Dict

import torch
from torch import Tensor

SYMBOLS = ("words", "subword_nmt", "sentencepiece", "characters")
SPACE = "\u2581"  # how fairseq's --bpe characters and sentencepiece write a space


class TextUnits:
    """Counts for a dictionary. The end of a line counts as a word, and as the character that ends the line."""

    def __init__(self, dictionary, symbols: str):
        self.eos = dictionary.eos()
        count = [_count(dictionary[i], symbols) for i in range(len(dictionary))]
        count[self.eos] = (1, 0, 0)
        self.of_symbol = torch.tensor(count)  # (V, 3)
        # Words end with a space, the last one of a line with the end of the line. Characters do not.
        self.eos_ends_words = symbols != "characters"

    def count(self, source: Tensor, target: Tensor, pad: int) -> Dict[str, int]:
        """source, target (B, T): each token and the next."""
        words, characters, size = self.of_symbol[target[target != pad].cpu()].sum(0).tolist()
        ends = target == self.eos
        if self.eos_ends_words:
            ends &= source == self.eos  # an empty line
        ends = int(ends.sum())
        return {"nwords": words, "nchars": characters + ends, "nbytes": size + ends}


def _count(symbol: str, symbols: str):
    """Words that end in a symbol, its characters and bytes, the space after a word included."""
    if symbols == "words":
        text, words = symbol + " ", 1
    elif symbols == "subword_nmt":
        inside = symbol.endswith("@@")
        text, words = (symbol[:-2], 0) if inside else (symbol + " ", 1)
    else:  # what stands for a space begins a word, which is as good for counting
        text, words = symbol.replace(SPACE, " "), symbol.count(SPACE)
    return words, len(text), len(text.encode())
