"""Mazes by Kruskal's algorithm, with their dead ends opened; many at once.

Rooms are the cells in even rows and columns. Between neighbouring rooms is one cell, a wall that can be taken away;
the cells in odd rows and columns stay walls. The walls are visited in a random order, and one is taken away if its
two rooms are not connected yet: a tree of rooms. Then the rooms are visited in a random order, and a dead end, a room
with one way out, loses one of its other walls. So in the end every free cell has two ways out or more.
"""

import numpy as np


class Kruskal:
    """Mazes of size × size cells; size is odd."""

    def __init__(self, size):
        self.size = size
        rooms = (size + 1) // 2
        self.rooms = rooms**2
        number = np.arange(self.rooms).reshape(rooms, rooms)
        beside = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()])
        below = np.stack([number[:-1].ravel(), number[1:].ravel()])
        self.ends = np.concatenate([beside, below], axis=1)  # 2 × walls: the rooms that a wall separates
        self.walls = self.ends.shape[1]
        self.room_cells = (2 * (number // rooms) * size + 2 * (number % rooms)).ravel()
        self.wall_cells = self.room_cells[self.ends].sum(axis=0) // 2
        # rooms × 4: the walls of a room. The last number, one too many, stands for the edge.
        self.sides = np.full((self.rooms, 4), self.walls)
        for side, (rooms_there, walls_there) in enumerate(
            (self.ends[end, part], part)
            for end in (0, 1)
            for part in (np.arange(beside.shape[1]), np.arange(beside.shape[1], self.walls))
        ):
            self.sides[rooms_there, side] = walls_there

    def draw(self, streams, rows):
        """rows × size × size: whether a cell is free."""
        gone = self.tree(streams.draw(rows, self.walls).argsort(axis=1))
        visits = streams.draw(rows, self.rooms).argsort(axis=1)
        liking = streams.draw(rows, self.rooms * 4).reshape(-1, self.rooms, 4)
        self.open_dead_ends(gone, visits, liking)
        return self.cells(gone)

    def tree(self, order):
        """mazes × (walls + 1): which walls are taken away. order: mazes × walls."""
        every = np.arange(len(order))
        part = np.tile(np.arange(self.rooms, dtype=np.int16), (len(order), 1))  # rooms with one number are connected
        gone = np.zeros((len(order), self.walls + 1), bool)
        for wall in order.T:
            one, other = part[every, self.ends[0, wall]], part[every, self.ends[1, wall]]
            gone[every, wall] = one != other
            part = np.where(part == other[:, None], one[:, None], part)
        return gone

    def open_dead_ends(self, gone, visits, liking):
        """visits: mazes × rooms, an order; liking: mazes × rooms × 4, of a visited room's walls the best liked goes."""
        every = np.arange(len(gone))
        for visit, room in enumerate(visits.T):
            walls = self.sides[room]
            is_gone = gone[every[:, None], walls]
            stands = ~is_gone & (walls < self.walls)
            best = walls[every, np.where(stands, liking[:, visit], -1).argmax(axis=1)]
            dead = is_gone.sum(axis=1) == 1
            gone[every[dead], best[dead]] = True

    def cells(self, gone):
        free = np.zeros((len(gone), self.size**2), bool)
        free[:, self.room_cells] = True
        free[:, self.wall_cells] = gone[:, : self.walls]
        return free.reshape(-1, self.size, self.size)
