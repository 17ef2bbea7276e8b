"""Programs of assignments, ++, --, if and print. The label, the value, stands at the ; of each print.

A variable is assigned once, before any use, and its value stays within 1 to 10: a step that would leave that is drawn
again. An if holds one ++, -- or assignment, which counts if the condition is true.
"""

VALUES = [str(n) for n in range(1, 11)]
KINDS = ("assign", "++", "--", "if", "print")


def symbols(variables):
    return [*variables, *VALUES, *"=<>:;", "++", "--", "if", "print", "END"]


def drawer(variables):
    def draw(rng, length):
        """Length: statements."""
        values, words, labels = {}, [], []
        while length > 0:
            statement = _statement(rng, variables, values)
            if statement is not None:
                words += [*statement, ";"]
                labels += [None] * len(statement)
                labels.append(str(values[statement[1]]) if statement[0] == "print" else None)
                length -= 1
        return [*words, "END"], [*labels, None]

    return draw


def _statement(rng, variables, values, kinds=KINDS):
    """Its words, after it changed `values`; None if what was drawn cannot stand here."""
    kind = rng.choice(kinds)
    if kind == "assign":
        new = [name for name in variables if name not in values]
        if not new:
            return None
        name, value = rng.choice(new), rng.randint(1, 10)
        values[name] = value
        return [name, "=", str(value)]
    if not values:
        return None
    name = rng.choice(sorted(values))
    if kind == "print":
        return ["print", name]
    if kind == "if":
        return _if(rng, variables, values, name)
    changed = values[name] + (1 if kind == "++" else -1)
    if not 1 <= changed <= 10:
        return None
    values[name] = changed
    return [name, kind]


def _if(rng, variables, values, name):
    other = rng.choice(sorted(values)) if rng.random() < 0.5 else str(rng.randint(1, 10))
    sign = rng.choice("<>")
    number = values.get(other) or int(other)
    true = values[name] < number if sign == "<" else values[name] > number
    then = dict(values)
    inner = _statement(rng, variables, then, KINDS[:3])
    if inner is None:
        return None
    if true:
        values.update(then)
    return ["if", name, sign, other, ":", *inner]
