"""Random numbers: a stream for each environment, and any number of streams drawn from at once.

SplitMix64 (Steele, Lea and Flood, 2014): the n-th number is a hash of the stream's state plus n times a constant. So
an environment draws the same numbers alone as among thousands, and one integer says all about a stream.
"""

import numpy as np

STEP = 0x9E3779B97F4A7C15
MIX = [(30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)]


class Streams:
    def __init__(self, count):
        self.state = np.zeros(count, np.uint64)

    def seed(self, seeds):
        self.state[:] = [np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] for seed in seeds]

    def ahead(self, rows, count):
        """rows × count: the next numbers in [0, 1) of some streams, which stay where they are."""
        hashed = self.state[rows][:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(STEP)
        for shift, factor in MIX:
            hashed = (hashed ^ (hashed >> np.uint64(shift))) * np.uint64(factor)
        hashed ^= hashed >> np.uint64(31)
        return (hashed >> np.uint64(11)) * 2.0**-53

    def draw(self, rows, count):
        numbers = self.ahead(rows, count)
        self.state[rows] += np.uint64(STEP * count % 2**64)
        return numbers


def below(bound, numbers):
    """Numbers in [0, 1) as whole numbers from 0 to bound - 1."""
    return (numbers * bound).astype(np.int64)


def another(than, bound, numbers):
    """Whole numbers from 0 to bound - 1, but the ones given; the others are equally likely."""
    return (than + 1 + below(bound - 1, numbers)) % bound
