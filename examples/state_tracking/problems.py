"""The problems by name: what symbols and labels they have, and how a sequence of some length is drawn.

draw(rng, length) gives symbols and labels, two lists of words; a label is None where there is none. What a length
counts is said with each problem. How they are solved again, in another way, is in solvers.py.
"""

from typing import Callable, NamedTuple, Sequence

from examples.state_tracking import arithmetic, groups, programs, strings, walk


class Problem(NamedTuple):
    draw: Callable
    symbols: Sequence[str]
    labels: Sequence[str]


def _of_group(group):
    return Problem(group.draw, list(group.symbols), sorted(set(group.names)))


PROBLEMS = {
    # Words of a group, a symbol an element; the label is the product so far. Length: elements.
    "parity": _of_group(groups.PARITY),
    "s3": _of_group(groups.S3),
    "a5": _of_group(groups.A5),
    "s5": _of_group(groups.S5),
    "swaps_s5": _of_group(groups.SWAPS_S5),
    # Addition modulo 5, for the number of examples. Length: numbers.
    "sum5": _of_group(groups.SUM5),
    # Arithmetic modulo 5, the label at "=", which ends it. Length: the symbols before.
    "modular": Problem(arithmetic.draw_flat, [*arithmetic.DIGITS, *"+-*="], arithmetic.DIGITS),
    "modular_brackets": Problem(arithmetic.draw_brackets, [*arithmetic.DIGITS, *"+-*()="], arithmetic.DIGITS),
    # Table 1 of the paper. Length: digits; A's; actions; statements.
    "copy": Problem(strings.draw_copy, [*strings.DIGITS, "|"], strings.DIGITS),
    "reverse": Problem(strings.draw_reverse, [*strings.DIGITS, "|"], strings.DIGITS),
    "counting": Problem(strings.draw_counting, ["A", "B"], ["B", "END"]),
    "random_walk": Problem(walk.draw, walk.ACTIONS, walk.PLACES),
    "algorithmic_3": Problem(programs.drawer("xyz"), programs.symbols("xyz"), programs.VALUES),
    "algorithmic_5": Problem(programs.drawer("xyzuv"), programs.symbols("xyzuv"), programs.VALUES),
}
