"""Words, characters and bytes of the text that a sequence of symbols stands for: what losses are told per."""

from typing import Dict

import torch
from torch import Tensor

SYMBOLS = ("words", "subword_nmt", "sentencepiece", "characters")
SPACE = "\u2581"  # how fairseq's --bpe characters and sentencepiece write a space
LINE_FEED = "\u23ce"  # in text of characters, the end of a line that does not end fairseq's sentence


class TextUnits:
    """Counts for a dictionary. The end of a sentence counts as a word, and as the character that ends its line."""

    def __init__(self, dictionary, symbols: str):
        self.eos = dictionary.eos()
        count = [_count(dictionary[i], symbols) for i in range(len(dictionary))]
        count[self.eos] = (1, 0, 0)
        self.of_symbol = torch.tensor(count)  # (V, 3)
        self.characters = symbols == "characters"

    def count(self, source: Tensor, target: Tensor, pad: int) -> Dict[str, int]:
        """source, target (B, T): each token and the next."""
        words, characters, size = self.of_symbol[target[target != pad].cpu()].sum(0).tolist()
        ends = target == self.eos
        empty = ends & (source == self.eos)
        if self.characters:  # no space stands after the last word
            words += int((ends & ~empty).sum())
        else:  # a space is counted after every word, so an end is one more character on an empty line only
            ends = empty
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
        text = symbol.replace(SPACE, " ").replace(LINE_FEED, "\n")
        words = text.count(" ") + text.count("\n")
    return words, len(text), len(text.encode())
