"""The generators of examples/state_tracking: every label is recomputed in another way."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.state_tracking import groups
from examples.state_tracking.problems import PROBLEMS
from examples.state_tracking.solvers import SOLVERS


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**9), length=st.integers(1, 60))
@pytest.mark.parametrize("name", PROBLEMS)
def test_labels_are_what_the_solver_finds(name, seed, length):
    problem = PROBLEMS[name]
    symbols, labels = problem.draw(random.Random(seed), length)
    assert len(symbols) == len(labels)
    assert set(symbols) <= set(problem.symbols) and {label for label in labels if label} <= set(problem.labels)
    assert labels == SOLVERS[name](symbols)
    assert (symbols, labels) == problem.draw(random.Random(seed), length)


@pytest.mark.parametrize(
    "name, length",
    [("parity", 9), ("s5", 9), ("modular", 10), ("modular_brackets", 10), ("random_walk", 9), ("copy", 18)],
)
def test_lengths(name, length):
    """Of 9 by each problem's measure: "=" comes on top, and an answer is as long as its question."""
    assert len(PROBLEMS[name].draw(random.Random(0), 9)[0]) == length


def test_groups():
    sizes = {name: len(getattr(groups, name).elements) for name in ("PARITY", "S3", "A5", "S5", "SWAPS_S5", "SUM5")}
    assert sizes == {"PARITY": 2, "S3": 6, "A5": 60, "S5": 120, "SWAPS_S5": 120, "SUM5": 5}
    assert len(groups.SWAPS_S5.symbols) == 11 and len(groups.S5.symbols) == 120
    for group in (groups.A5, groups.S5):
        assert all(sorted(column) == list(range(len(group.elements))) for column in zip(*group.table))


def test_programs_are_as_the_paper_says():
    """Statements of every kind, half of the comparisons with a variable; every variable can be printed."""
    count = Counter()
    for seed in range(50):
        symbols, labels = PROBLEMS["algorithmic_3"].draw(random.Random(seed), 100)
        assert symbols.count(";") == 100 and symbols[-1] == "END"
        for statement in " ".join(symbols).split(" ; ")[:-1]:
            words = statement.split()
            count[words[0] if words[0] in ("if", "print") else words[1]] += 1
            if words[0] == "if":
                count["with a variable"] += words[3] in "xyz"
    assert sum(label is not None for label in labels) == symbols.count("print")
    assert min(count[kind] for kind in ("++", "--", "if", "print")) > 600
    assert count["="] <= 3 * 50 and 0.4 < count["with a variable"] / count["if"] < 0.6


@pytest.mark.parametrize("length, left_out", [(4, {"++", "--", "if"}), (8, {"if"}), (9, set())])
def test_short_programs_have_fewer_kinds_of_statements(length, left_out):
    drawn = [PROBLEMS["algorithmic_3"].draw(random.Random(seed), length)[0] for seed in range(50)]
    assert {"++", "--", "if", "=", "print"} - {symbol for symbols in drawn for symbol in symbols} == left_out
