"""What the games share: rules for many environments at once, each of them a row of every array."""

from typing import NamedTuple, Optional

import numpy as np

from examples.reinforcement.environments.streams import Streams
from fairseq_feedback.errors import FeedbackError

FREE, WALL, OBJECT = 0, 1, 2  # of a cell; OBJECT + k is one of colour k
ALL = slice(None)


class Scene(NamedTuple):
    """One environment, for drawing.py."""

    cells: np.ndarray  # rows × columns: FREE, WALL, OBJECT + colour
    seen: np.ndarray  # rows × columns: whether the agent sees it
    agent: tuple  # row, column
    heading: Optional[int]  # up, right, down, left; None: it has none
    target: int  # a colour
    caption: str


class Game:
    """A game says how episodes begin, what actions do, and what the agents see.

    slots: how many values each part of an observation has; actions: how many there are; arrays: the names of what
    differs between rows. An episode draws from its row's stream only.
    """

    slots = ()
    actions = 0
    arrays = ("steps",)

    def __init__(self, count, **options):
        self.options = options
        self.episode_steps = at_least(1, episode_steps=options["episode_steps"])
        self.streams = Streams(at_least(1, num_envs=count))
        self.steps = np.zeros(count, np.int64)

    def begin(self, rows):
        """New episodes. rows: their numbers."""
        self.steps[rows] = 0
        self.draw(rows)

    def step(self, actions):
        """Rewards, and whether episodes have ended: by the rules, or only because their time is over."""
        self.steps += 1
        rewards, ended = self.act(actions)
        return rewards, ended, ~ended & (self.steps >= self.episode_steps)

    def draw(self, rows):
        """Draw what begins."""
        raise NotImplementedError

    def act(self, actions):
        """Rewards, and whether episodes have ended by the rules."""
        raise NotImplementedError

    def observe(self, rows=ALL):
        """rows × slots: what agents see now."""
        raise NotImplementedError

    def scene(self, row):
        raise NotImplementedError

    def state_dict(self):
        """Everything that the future depends on: numbers, words and numpy's arrays only."""
        arrays = {name: getattr(self, name).copy() for name in self.arrays}
        arrays["streams"] = self.streams.state.copy()
        return {"game": self.__class__.__name__, "options": self.options, **arrays}

    def load_state_dict(self, state):
        mine = self.state_dict()
        for name, value in mine.items():
            given = state.get(name)
            same = type(given) is type(value)
            if same and isinstance(value, np.ndarray):
                same = (given.shape, given.dtype) == (value.shape, value.dtype)
            elif same:
                same = given == value
            if not same:
                raise FeedbackError(
                    f"The state is not one of {len(self.steps)} environments of {mine['game']} with {self.options}: "
                    f"{name} differs. Make the environments as those were made."
                )
        self.streams.state[:] = state["streams"]
        for name in self.arrays:
            getattr(self, name)[:] = state[name]


def at_least(least, **named):
    """The value, if it is a whole number that is large enough."""
    ((name, value),) = named.items()
    if not isinstance(value, (int, np.integer)) or value < least:
        raise FeedbackError(f"{name} is {value}: give a whole number, {least} or more.")
    return int(value)


def odd(least, **named):
    value = at_least(least, **named)
    if value % 2 == 0:
        raise FeedbackError(f"{next(iter(named))} is {value}: give an odd number.")
    return value


def colours_within(most, colours):
    if at_least(2, colours=colours) > min(most, 26):
        raise FeedbackError(f"colours is {colours}: give {min(most, 26)} or less.")
    return int(colours)
