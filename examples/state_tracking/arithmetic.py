"""Expressions modulo 5, with * before + and -, and with brackets. They end in "=", whose label is the value."""

DIGITS = list("01234")
OPERATORS = "+-*"


def draw_flat(rng, length):
    """Numbers and operators in turn; of an even length, one symbol less."""
    symbols = [rng.choice(DIGITS)]
    total, product = 0, int(symbols[0])  # of the finished terms; of the one that is being read
    while len(symbols) + 2 <= length:
        operator, digit = rng.choice(OPERATORS), rng.choice(DIGITS)
        symbols += [operator, digit]
        if operator == "*":
            product *= int(digit)
        else:
            total, product = (total + product) % 5, int(operator + digit)
    return _labelled(symbols, total + product)


def draw_brackets(rng, length):
    return _labelled(*_expression(rng, length))


def _expression(rng, length):
    """Its symbols, and its value."""
    if length < 5:
        digit = rng.choice(DIGITS)
        symbols = {1: [digit], 2: ["-", digit], 3: ["(", digit, ")"], 4: ["(", "-", digit, ")"]}[length]
        return symbols, int(digit) if length % 2 else -int(digit)
    first = rng.randint(1, length - 4)
    left, a = _expression(rng, first)
    right, b = _expression(rng, length - 3 - first)
    operator = rng.choice(OPERATORS)
    return ["(", *left, operator, *right, ")"], {"+": a + b, "-": a - b, "*": a * b}[operator] % 5


def _labelled(symbols, value):
    return [*symbols, "="], [None] * len(symbols) + [str(value % 5)]
