"""Programs of assignments, ++, --, if and print. The label, the value, stands at the ; of each print.

A variable is assigned once, before any use, and its value stays within 1 to 10: a step that would leave that is drawn
again. An if holds one ++, -- or assignment, which counts if the condition is true. Programs of up to 8 statements, with
which training begins, have no if, and those of up to 4 only assignments and prints.
"""

VALUES = [str(n) for n in range(1, 11)]
KINDS = ("assign", "++", "--", "if", "print")
# Up to a length. With all kinds a short program hardly has two variables and a print of one of them: the first thing
# to learn is which variable has which value.
KINDS_OF_SHORT = ((4, ("assign", "print")), (8, ("assign", "++", "--", "print")))


def symbols(variables):
    return [*variables, *VALUES, *"=<>:;", "++", "--", "if", "print", "END"]


def drawer(variables):
    def draw(rng, length):
        """Length: statements."""
        values, words, labels = {}, [], []
        kinds = next((kinds for most, kinds in KINDS_OF_SHORT if length <= most), KINDS)
        while length > 0:
            statement = _statement(rng, variables, values, kinds)
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
