"""The maze: find coloured objects, one after another, in walls of which only the nearest are seen.

An episode has a new maze of 9 × 9 cells (`size`; see kruskal.py), and 8 objects (`colours`), one of each colour, in
free cells. The agent begins in a free cell without one. It is told the colour that it is to reach; when it steps on
that object it gets a reward of +1, and one of the other colours becomes the target. The objects stay where they are,
and do not block the way. After 200 steps (`episode_steps`) the episode is truncated. So an agent does well that
remembers where the walls and objects are, and keeps track of where it is.

Actions (`directions`):
  turns  0 one cell forward, 1 turn left, 2 turn right. The episode begins with a random heading.
  four   0 up, 1 right, 2 down, 3 left; the agent has no heading. The paper's easy version.
A step into a wall or over the edge leaves the agent where it is, and takes as long as any other.

An observation has view × view + 1 numbers (`view` is 3 by default). First the cells around the agent, row by row: 0
free, 1 wall (also beyond the edge), 2 + k an object of colour k. With turns, the first row is what is ahead of the
agent, and the left of the picture is its left; with four directions up is up. In the middle is the agent's own cell,
with the object that it stands on. The last number is the target's colour.

The paper (section 7.2) does not say whether its 9 × 9 counts an outer wall: here it does not. Nor whether a new
target can be the old one: here it cannot, because the agent stands on that.
"""

import numpy as np

from examples.reinforcement.environments.forms import GameEnv, GameVectorEnv
from examples.reinforcement.environments.game import ALL, FREE, OBJECT, WALL, Game, Scene, colours_within, odd
from examples.reinforcement.environments.kruskal import Kruskal
from examples.reinforcement.environments.streams import another, below
from fairseq_feedback.errors import FeedbackError

DIRECTIONS = {"turns": ["forward", "left", "right"], "four": ["up", "right", "down", "left"]}
TURN = np.array([0, -1, 1])


class Maze(Game):
    arrays = ("steps", "cells", "place", "heading", "target")

    def __init__(self, count, size=9, colours=8, view=3, directions="turns", episode_steps=200):
        size = odd(3, size=size)
        view = odd(1, view=view)
        # A tree of rooms has one wall less than rooms: those cells are free, and one is for the agent.
        colours = colours_within(2 * ((size + 1) // 2) ** 2 - 2, colours)
        if directions not in DIRECTIONS:
            raise FeedbackError(f"directions is {directions}: give {' or '.join(DIRECTIONS)}.")
        super().__init__(
            count, size=size, colours=colours, view=view, directions=directions, episode_steps=episode_steps
        )
        self.size, self.colours, self.turns = size, colours, directions == "turns"
        self.actions = len(DIRECTIONS[directions])
        self.slots = [OBJECT + colours] * view**2 + [colours]
        self.kruskal = Kruskal(size)

        # Cells are numbered row by row, with so many walls around the maze that every view is within.
        self.edge = max(1, view // 2)
        self.width = size + 2 * self.edge
        self.forward = np.array([-self.width, 1, self.width, -1])  # by heading: up, right, down, left
        ahead, aside = np.mgrid[view // 2 : -(view // 2) - 1 : -1, -(view // 2) : view // 2 + 1].reshape(2, -1)
        self.views = self.forward[:, None] * ahead + np.roll(self.forward, -1)[:, None] * aside
        self.first = np.arange(count) * self.width**2  # of each row's cells, in all cells

        self.cells = np.zeros((count, self.width**2), np.uint8)
        self.place = np.zeros(count, np.int64)
        self.heading = np.zeros(count, np.int64)
        self.target = np.zeros(count, np.int64)

    def draw(self, rows):
        free = self.kruskal.draw(self.streams, rows)
        cells = np.full((len(rows), self.width, self.width), WALL, np.uint8)
        inside = slice(self.edge, -self.edge)
        cells[:, inside, inside] = np.where(free, FREE, WALL)
        cells = cells.reshape(len(rows), -1)

        keys = self.streams.draw(rows, self.size**2)
        keys[~free.reshape(len(rows), -1)] = 2  # behind all free cells
        row, column = np.divmod(keys.argsort(axis=1)[:, : self.colours + 1], self.size)
        places = (row + self.edge) * self.width + column + self.edge
        np.put_along_axis(cells, places[:, :-1], (OBJECT + np.arange(self.colours, dtype=np.uint8))[None], axis=1)

        heading, target = self.streams.draw(rows, 2).T
        self.cells[rows] = cells
        self.place[rows] = places[:, -1]
        self.heading[rows] = below(4, heading) if self.turns else 0
        self.target[rows] = below(self.colours, target)

    def act(self, actions):
        if self.turns:
            self.heading = (self.heading + TURN[actions]) % 4
            step = np.where(actions == 0, self.forward[self.heading], 0)
        else:
            step = self.forward[actions]
        there = self.place + step
        self.place = np.where(self.look(there) == WALL, self.place, there)
        found = self.look(self.place) == OBJECT + self.target
        rows = np.flatnonzero(found)
        if len(rows):
            self.target[rows] = self.next_target(self.target[rows], self.streams.draw(rows, 1)[:, 0])
        return found.astype(np.float32), np.zeros(len(found), bool)

    def look(self, places):
        return self.cells.ravel().take(self.first + places)

    def next_target(self, target, numbers):
        return another(target, self.colours, numbers)

    def observe(self, rows=ALL):
        corner = self.first[rows] + self.place[rows]
        seen = np.empty((len(corner), len(self.slots)), np.int64)
        seen[:, :-1] = self.cells.ravel().take(corner[:, None] + self.views[self.heading[rows]])
        seen[:, -1] = self.target[rows]
        return seen

    def scene(self, row):
        """With one wall around."""
        square = (self.width, self.width)
        seen = np.zeros(self.width**2, bool)
        seen[self.place[row] + self.views[self.heading[row]]] = True
        cut = slice(self.edge - 1, self.width - self.edge + 1)
        y, x = divmod(int(self.place[row]), self.width)
        target = int(self.target[row])
        return Scene(
            cells=self.cells[row].reshape(square)[cut, cut],
            seen=seen.reshape(square)[cut, cut],
            agent=(y - self.edge + 1, x - self.edge + 1),
            heading=int(self.heading[row]) if self.turns else None,
            target=target,
            caption=f"step {self.steps[row]} of {self.episode_steps}",
        )


class MazeEnv(GameEnv):
    game_class = Maze


class MazeVectorEnv(GameVectorEnv):
    game_class = Maze
