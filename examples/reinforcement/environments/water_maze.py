"""The water maze: find a place that is not marked, again and again, and remember the way from where one was before.

After Morris (1981): a pool without walls, 15 × 15 cells (`size`). Every cell has a number of its own, an ID. Where
the goal is and which cell has which ID is new in every episode, and stays while it lasts. When the agent reaches the
goal it gets a reward of +1, and is put into a random other cell. If it knows the IDs there, from the way that it took
before, it can go back to the goal at once. After 200 steps (`episode_steps`) the episode is truncated.

Actions: 0 up, 1 right, 2 down, 3 left. A step over the edge leaves the agent where it is.

An observation is three numbers: the ID of the agent's cell; the ID of the goal's cell; and where the goal is if it is
within the view × view cells around the agent (`view` is 3 by default): 1 + its number in them, row by row, otherwise
0.

The paper (sections 6.1 and 7.3) does not say which actions there are: these are those of its easy maze, which it
describes just before. Of the goal it says that the agent can see if it is within 3 × 3: here it sees where, too.
"""

import numpy as np

from examples.reinforcement.environments.forms import GameEnv, GameVectorEnv
from examples.reinforcement.environments.game import ALL, FREE, OBJECT, Game, Scene, at_least, odd
from examples.reinforcement.environments.streams import another, below


class WaterMaze(Game):
    arrays = ("steps", "ids", "goal", "place")
    actions = 4

    def __init__(self, count, size=15, view=3, episode_steps=200):
        self.size, self.view = at_least(2, size=size), odd(1, view=view)
        super().__init__(count, size=self.size, view=self.view, episode_steps=episode_steps)
        self.cells = self.size**2
        self.slots = [self.cells, self.cells, 1 + self.view**2]
        row, column = np.divmod(np.arange(self.cells), self.size)
        moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
        last = self.size - 1
        self.neighbours = np.stack(
            [np.clip(row + y, 0, last) * self.size + np.clip(column + x, 0, last) for y, x in moves], axis=1
        )
        self.ids = np.zeros((count, self.cells), np.int32)  # of cells, which are numbered row by row
        self.goal = np.zeros(count, np.int64)
        self.place = np.zeros(count, np.int64)

    def draw(self, rows):
        self.ids[rows] = self.streams.draw(rows, self.cells).argsort(axis=1)
        goal, place = self.streams.draw(rows, 2).T
        self.goal[rows] = below(self.cells, goal)
        self.place[rows] = self.next_place(self.goal[rows], place)

    def act(self, actions):
        self.place = self.neighbours[self.place, actions]
        found = self.place == self.goal
        rows = np.flatnonzero(found)
        if len(rows):
            self.place[rows] = self.next_place(self.goal[rows], self.streams.draw(rows, 1)[:, 0])
        return found.astype(np.float32), np.zeros(len(found), bool)

    def next_place(self, goal, numbers):
        return another(goal, self.cells, numbers)

    def observe(self, rows=ALL):
        goal, place, ids = self.goal[rows], self.place[rows], self.ids[rows]
        every = np.arange(len(place))
        return np.stack([ids[every, place], ids[every, goal], self.sight(goal, place)], axis=1).astype(np.int64)

    def sight(self, goal, place):
        """1 + the goal's number in the view; 0 if it is not there."""
        reach = self.view // 2
        down = goal // self.size - place // self.size + reach
        right = goal % self.size - place % self.size + reach
        within = (down >= 0) & (down < self.view) & (right >= 0) & (right < self.view)
        return np.where(within, 1 + down * self.view + right, 0)

    def scene(self, row):
        y, x = divmod(int(self.place[row]), self.size)
        reach = self.view // 2
        cells = np.full((self.size, self.size), FREE)
        cells[divmod(int(self.goal[row]), self.size)] = OBJECT
        seen = np.zeros(cells.shape, bool)
        seen[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1] = True
        here, goal = (self.ids[row, place[row]] for place in (self.place, self.goal))
        caption = f"step {self.steps[row]} of {self.episode_steps}, cell {here}, goal {goal}"
        return Scene(cells, seen, agent=(y, x), heading=None, target=0, caption=caption)


class WaterMazeEnv(GameEnv):
    game_class = WaterMaze


class WaterMazeVectorEnv(GameVectorEnv):
    game_class = WaterMaze
