"""Words of finite groups: the label of a symbol is the product of all elements so far."""

from itertools import permutations


class Group:
    """elements: what states are; times(state, element) is the next state; symbols: the elements that are drawn."""

    def __init__(self, elements, times, symbols, start):
        self.elements = list(elements)
        self.names = [_name(element) for element in self.elements]
        number = {element: i for i, element in enumerate(self.elements)}
        self.drawn = list(symbols)
        self.symbols = [_name(element) for element in self.drawn]
        self.start = number[start]
        # The next state, of each state and each symbol.
        self.table = [[number[times(state, element)] for element in self.drawn] for state in self.elements]

    def draw(self, rng, length):
        words = rng.choices(range(len(self.drawn)), k=length)
        state, labels = self.start, []
        for word in words:
            state = self.table[state][word]
            labels.append(self.names[state])
        return [self.symbols[word] for word in words], labels


def _name(element):
    return "".join(map(str, element)) if isinstance(element, tuple) else str(element)


def after(state, element):
    """The arrangement of places after moving what is at element[i] to i."""
    return tuple(state[i] for i in element)


def even(permutation):
    pairs = [(a, b) for i, a in enumerate(permutation) for b in permutation[i + 1 :]]
    return sum(a > b for a, b in pairs) % 2 == 0


def swaps(size):
    """The identity, and every exchange of two places."""
    found = [tuple(range(size))]
    for a in range(size):
        for b in range(a + 1, size):
            places = list(range(size))
            places[a], places[b] = b, a
            found.append(tuple(places))
    return found


def _permutations(size, symbols=None, of=lambda permutation: True):
    elements = [p for p in permutations(range(size)) if of(p)]
    return Group(elements, after, symbols or elements, tuple(range(size)))


PARITY = Group([0, 1], lambda state, bit: state ^ bit, [0, 1], 0)
SUM5 = Group(range(5), lambda state, number: (state + number) % 5, range(5), 0)
S3 = _permutations(3)
A5 = _permutations(5, of=even)
S5 = _permutations(5)
SWAPS_S5 = _permutations(5, swaps(5))
