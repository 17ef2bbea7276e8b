"""Pictures of a game, in pixels and in characters: what the agent sees is highlighted.

In pixels, a cell is a square, an object a smaller one of its colour, the agent black: a triangle that points where it
heads, or a disc. The last row has the target's colour. In characters, what is seen is in brackets, an object is a
letter, and the agent is ^ > v < or @.
"""

import colorsys

import numpy as np

from examples.reinforcement.environments.game import FREE, OBJECT, WALL
from fairseq_feedback.errors import FeedbackError

TILE = 16
FLOOR, BRICK, LINE = (244, 244, 240), (92, 92, 98), (222, 222, 216)
LIGHT = np.array([255, 214, 64])  # of what is seen
AGENT = (0, 0, 0)


def colour(number):
    """Blue, red, green, violet, yellow, cyan, pink, lime; then the same, darker."""
    hue, darker = (5 + 3 * number) / 8 % 1, number // 8
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.85, 0.95 * 0.65**darker))


def shapes():
    """TILE × TILE: the pixels of an object; of an agent without a heading; of one that heads up."""
    y, x = np.mgrid[:TILE, :TILE] - (TILE - 1) / 2
    box = np.maximum(abs(x), abs(y)) < TILE * 0.36
    disc = x**2 + y**2 < (TILE * 0.25) ** 2
    arrow = (abs(x) < (y + TILE * 0.3) / 2) & (y < TILE * 0.3)
    return box, disc, arrow


BOX, DISC, ARROW = shapes()


def pixels(scene):
    """rows × columns × 3."""
    rows, columns = scene.cells.shape
    tiles = np.empty((rows + 1, columns, TILE, TILE, 3), np.uint8)
    tiles[:] = FLOOR
    tiles[:, :, -1], tiles[:, :, :, -1] = LINE, LINE
    board = tiles[:-1]
    board[scene.cells == WALL] = BRICK
    board[scene.seen] = 0.55 * board[scene.seen] + 0.45 * LIGHT
    for y, x in np.argwhere(scene.cells >= OBJECT):
        board[y, x, BOX] = colour(scene.cells[y, x] - OBJECT)
    board[scene.agent][DISC if scene.heading is None else np.rot90(ARROW, -scene.heading)] = AGENT
    tiles[-1] = colour(scene.target)
    return tiles.transpose(0, 2, 1, 3, 4).reshape((rows + 1) * TILE, columns * TILE, 3)


def text(scene):
    lines = []
    for y, row in enumerate(scene.cells):
        signs = [{FREE: ".", WALL: "#"}.get(cell) or letter(cell - OBJECT) for cell in row]
        if y == scene.agent[0]:
            signs[scene.agent[1]] = "@" if scene.heading is None else "^>v<"[scene.heading]
        lines.append("".join(f"[{sign}]" if seen else f" {sign} " for sign, seen in zip(signs, scene.seen[y])))
    return "\n".join([*lines, f"target {letter(scene.target)}, {scene.caption}\n"])


def letter(number):
    return chr(ord("a") + number)


MODES = {"rgb_array": pixels, "ansi": text}


def render(mode, scene):
    if mode is None:
        raise FeedbackError(f"render_mode is not set: make the environment with {' or '.join(MODES)}.")
    return MODES[mode](scene)
