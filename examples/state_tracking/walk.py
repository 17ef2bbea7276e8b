"""An agent on a grid of 8 × 8 that begins in a corner: it goes forward, or turns; the label is where it stands."""

SIZE = 8
ACTIONS = ["forward", "left", "right"]
PLACES = [f"{x},{y}" for x in range(SIZE) for y in range(SIZE)]


def draw(rng, length):
    """Length: actions. At the edge, a step forward is none."""
    actions = rng.choices(ACTIONS, k=length)
    x = y = 0
    dx, dy = 0, 1
    labels = []
    for action in actions:
        if action == "forward":
            x, y = min(max(x + dx, 0), SIZE - 1), min(max(y + dy, 0), SIZE - 1)
        elif action == "left":
            dx, dy = -dy, dx
        else:
            dx, dy = dy, -dx
        labels.append(f"{x},{y}")
    return actions, labels
