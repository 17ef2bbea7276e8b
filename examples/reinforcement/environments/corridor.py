"""The corridor: remember a colour for as long as it takes to walk to the doors.

At the start lies an object of one of 2 colours (`colours`); all are equally likely. It is seen in the first
observation of an episode only. The doors, one of each colour, are 20 steps away (`length`). Who goes through the door
of the object's colour gets a reward of +1, who goes through another one 0; either way the episode is over.

Actions: 0 one step forward; 1 + k through the door of colour k. At the doors, forward does nothing; before them, the
other actions do nothing. Such a step takes as long as any other.

An observation is one number: 1 at the doors, 2 + k at the beginning, where k is the object's colour, and otherwise 0.

After `episode_steps` the episode is truncated without a reward. The default is (colours + 2) × (length + 1), so that
an agent that acts at random reaches the doors in most episodes. The quickest takes length + 1 steps, and what it
needs at the doors was seen `length` observations before.

The paper (section 4.1.1) has a blue and a green object, and says neither how long the corridor is nor what the
actions are.
"""

import numpy as np

from examples.reinforcement.environments.forms import GameEnv, GameVectorEnv
from examples.reinforcement.environments.game import ALL, FREE, OBJECT, WALL, Game, Scene, at_least, colours_within
from examples.reinforcement.environments.streams import below

AT_DOORS = 1


class Corridor(Game):
    arrays = ("steps", "place", "colour")

    def __init__(self, count, length=20, colours=2, episode_steps=None):
        self.length = at_least(1, length=length)
        self.colours = colours_within(26, colours)
        if episode_steps is None:
            episode_steps = (self.colours + 2) * (self.length + 1)
        super().__init__(count, length=self.length, colours=self.colours, episode_steps=episode_steps)
        self.actions = 1 + self.colours
        self.slots = [OBJECT + self.colours]
        self.place = np.zeros(count, np.int64)
        self.colour = np.zeros(count, np.int64)

    def draw(self, rows):
        self.place[rows] = 0
        self.colour[rows] = below(self.colours, self.streams.draw(rows, 1)[:, 0])

    def act(self, actions):
        at_doors = self.place == self.length
        ended = at_doors & (actions > 0)
        self.place += ~at_doors & (actions == 0)
        return (ended & (actions - 1 == self.colour)).astype(np.float32), ended

    def observe(self, rows=ALL):
        seen = np.where(self.place[rows] == self.length, AT_DOORS, FREE)
        return np.where(self.steps[rows] == 0, OBJECT + self.colour[rows], seen)[:, None]

    def scene(self, row):
        """The corridor from left to right, and the doors behind its end."""
        place, colour, middle = int(self.place[row]), int(self.colour[row]), self.colours // 2
        cells = np.full((self.colours, self.length + 2), WALL)
        cells[middle] = FREE
        cells[:, -2] = FREE
        cells[:, -1] = OBJECT + np.arange(self.colours)
        cells[middle, 0] = OBJECT + colour
        seen = np.zeros(cells.shape, bool)
        seen[middle, place] = True
        if place == self.length:
            seen[:, -2:] = True
        caption = f"step {self.steps[row]} of {self.episode_steps}"
        return Scene(cells, seen, agent=(middle, place), heading=None, target=colour, caption=caption)


class CorridorEnv(GameEnv):
    game_class = Corridor


class CorridorVectorEnv(GameVectorEnv):
    game_class = Corridor
