"""Copy, reverse and counting: the answer is read as it is predicted, a symbol at a time."""

DIGITS = list("0123456789")


def draw_copy(rng, length):
    return _echo(rng, length, lambda digits: digits)


def draw_reverse(rng, length):
    return _echo(rng, length, lambda digits: digits[::-1])


def _echo(rng, length, answer):
    digits = rng.choices(DIGITS, k=length)
    said = answer(digits)
    return [*digits, "|", *said[:-1]], [None] * length + said


def draw_counting(rng, length):
    """A's, then as many B's: from the first B on, whether another follows."""
    return ["A"] * length + ["B"] * length, [None] * length + ["B"] * (length - 1) + ["END"]
