"""The labels of symbols by other ways than the generators', which they check. None where there is no label."""

import ast
import operator


def parity(symbols):
    return [str(symbols[: i + 1].count("1") % 2) for i in range(len(symbols))]


def sum5(symbols):
    return [str(sum(map(int, symbols[: i + 1])) % 5) for i in range(len(symbols))]


def permutations(symbols):
    """By carrying objects: what is carried to place i came from place symbol[i]."""
    where = list(range(len(symbols[0])))  # of each object
    labels = []
    for symbol in symbols:
        moved_to = {int(place): i for i, place in enumerate(symbol)}
        where = [moved_to[place] for place in where]
        labels.append("".join(str(where.index(place)) for place in range(len(where))))
    return labels


OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.USub: operator.neg,
}


def arithmetic(symbols):
    """By Python's own grammar."""

    def value(node):
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.UnaryOp):
            return OPERATIONS[type(node.op)](value(node.operand))
        return OPERATIONS[type(node.op)](value(node.left), value(node.right)) % 5

    *expression, end = symbols
    assert end == "="
    tree = ast.parse("".join(expression), mode="eval")
    return [None] * len(expression) + [str(value(tree.body) % 5)]


def copy(symbols):
    middle = symbols.index("|")
    return [symbols[i - middle] if i >= middle else None for i in range(len(symbols))]


def reverse(symbols):
    middle = symbols.index("|")
    return [symbols[2 * middle - 1 - i] if i >= middle else None for i in range(len(symbols))]


def counting(symbols):
    labels = [None if s == "A" else "B" for s in symbols]
    labels[2 * symbols.count("A") - 1] = "END"
    return labels


def random_walk(symbols):
    """On the complex plane."""
    place, step, labels = 0j, 1j, []
    for symbol in symbols:
        if symbol == "forward":
            on = place + step
            inside = 0 <= on.real <= 7 and 0 <= on.imag <= 7
            place = on if inside else place
        else:
            step *= 1j if symbol == "left" else -1j
        labels.append(f"{int(place.real)},{int(place.imag)}")
    return labels


def algorithmic(symbols):
    """By running the program's text."""
    values, labels, statement = {}, [], []
    for symbol in symbols:
        labels.append(None)
        if symbol == "END":
            break
        if symbol != ";":
            statement.append(symbol)
            continue
        words = " ".join(statement)
        statement = []
        condition, _, action = words.rpartition(" : ")
        if condition:
            left, sign, right = condition.split()[1:]
            right = values[right] if right in values else int(right)
            if not (values[left] < right if sign == "<" else values[left] > right):
                continue
        if action.startswith("print "):
            labels[-1] = str(values[action.split()[1]])
        elif action.endswith(" ++") or action.endswith(" --"):
            name, sign = action.split()
            values[name] += {"++": 1, "--": -1}[sign]
        else:
            name, value = action.split(" = ")
            assert name not in values
            values[name] = int(value)
        assert all(1 <= value <= 10 for value in values.values())
    return labels


SOLVERS = {
    "parity": parity,
    "s3": permutations,
    "a5": permutations,
    "s5": permutations,
    "swaps_s5": permutations,
    "sum5": sum5,
    "modular": arithmetic,
    "modular_brackets": arithmetic,
    "copy": copy,
    "reverse": reverse,
    "counting": counting,
    "random_walk": random_walk,
    "algorithmic_3": algorithmic,
    "algorithmic_5": algorithmic,
}
