"""Tasks of POPGym (Morad et al., 2023), played by its own package, in this folder's two forms.

    gymnasium.make_vec("fairseq_feedback/POPGym-v0", num_envs=64, task="RepeatPreviousEasy")

Those are taken whose actions are one of a few, and whose observations name things; the most that an episode can give
is 1. Their environments have no state that could be saved. But an episode is drawn from a seed when it begins, so what
has become of it is its seed and the actions since.
"""

import numpy as np

from examples.reinforcement.environments.forms import GameEnv, GameVectorEnv
from examples.reinforcement.environments.game import ALL, Game
from examples.reinforcement.environments.streams import below
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.extras import need

TASKS = [kind + level for kind in ("RepeatFirst", "RepeatPrevious", "Autoencode", "CountRecall")
         for level in ("Easy", "Medium", "Hard")]  # fmt: skip
SEEDS = 2**31


class POPGym(Game):
    arrays = ("steps", "seeds", "played", "seen")
    most = 1.0  # that an episode can give

    def __init__(self, count, task="RepeatPreviousEasy"):
        need("rl", "popgym")
        import popgym.envs

        if task not in TASKS:
            raise FeedbackError(f"task is {task}: give one of {', '.join(TASKS)}.")
        make = getattr(popgym.envs, task)
        first = make()
        super().__init__(count, task=task, episode_steps=first.max_episode_length + 1)  # it ends by its rules before
        self.options = {"task": task}
        self.slots = slots(first.observation_space)
        self.actions = int(first.action_space.n)
        self.made = [first, *(make() for _ in range(count - 1))]
        self.seeds = np.zeros(count, np.int64)
        self.played = np.zeros((count, self.episode_steps), np.int64)
        self.seen = np.zeros((count, len(self.slots)), np.int64)

    def draw(self, rows):
        self.seeds[rows] = below(SEEDS, self.streams.draw(rows, 1)[:, 0])
        for row in rows:
            self.seen[row] = named(self.made[row].reset(seed=int(self.seeds[row]))[0])

    def act(self, actions):
        count = len(actions)
        self.played[np.arange(count), self.steps - 1] = actions
        rewards, ended = np.zeros(count, np.float32), np.zeros(count, bool)
        for row, action in enumerate(actions):
            seen, rewards[row], ended[row], _, _ = self.made[row].step(int(action))
            self.seen[row] = named(seen)
        return rewards, ended

    def observe(self, rows=ALL):
        return self.seen[rows].copy()

    def load_state_dict(self, state):
        super().load_state_dict(state)
        for row, made in enumerate(self.made):
            made.reset(seed=int(self.seeds[row]))
            for action in self.played[row, : self.steps[row]]:
                made.step(int(action))


def slots(space):
    """How many values each part of an observation has."""
    if hasattr(space, "spaces"):
        return [n for part in space.spaces for n in slots(part)]
    return [int(n) for n in np.atleast_1d(space.nvec if hasattr(space, "nvec") else space.n)]


def named(observation):
    """A number, an array of them, or a tuple of such -> an array."""
    return np.hstack(observation if isinstance(observation, tuple) else [observation])


class POPGymEnv(GameEnv):
    metadata = {"render_modes": []}
    game_class = POPGym


class POPGymVectorEnv(GameVectorEnv):
    metadata = {**GameVectorEnv.metadata, "render_modes": []}
    game_class = POPGym
