"""A small game with memory: a symbol is shown, some empty steps later it is asked for, and the right answer is +1."""

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class Recall(VectorEnv):
    """Some episodes are cut before the question comes. An observation: the symbol or 0, and whether it is asked for."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"]}

    def __init__(self, num_envs=1, symbols=3, longest=4, cut=0.0, render_mode=None):
        self.num_envs, self.symbols, self.longest, self.cut = num_envs, symbols, longest, cut
        self.single_observation_space, self.single_action_space = MultiDiscrete([symbols + 1, 2]), Discrete(symbols)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.symbol, self.left, self.time = (np.zeros(num_envs, np.int64) for _ in range(3))

    def reset(self, *, seed=None, options=None):
        self.random = np.random.default_rng(seed)
        self.begin(np.ones(self.num_envs, bool))
        return self.observe(), {}

    def begin(self, rows):
        self.symbol[rows] = self.random.integers(1, self.symbols + 1, rows.sum())
        self.left[rows] = self.random.integers(1, self.longest + 1, rows.sum())
        self.time[rows] = 0

    def observe(self):
        return np.stack([np.where(self.time == 0, self.symbol, 0), (self.left == 0).astype(np.int64)], axis=1)

    def step(self, actions):
        asked = self.left == 0
        rewards = (asked & (actions + 1 == self.symbol)).astype(np.float32)
        cut = ~asked & (self.random.random(self.num_envs) < self.cut)
        self.left -= 1
        self.time += 1
        self.begin(asked | cut)
        return self.observe(), rewards, asked, cut, {}

    STATE = ("symbol", "left", "time")

    def state_dict(self):
        return {**{name: getattr(self, name) for name in self.STATE}, "random": self.random.bit_generator.state}

    def load_state_dict(self, state):
        for name in self.STATE:
            getattr(self, name)[:] = state[name]
        self.random.bit_generator.state = state["random"]


class One(gymnasium.Env):
    """One of them, which draws itself."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None, **options):
        self.games, self.render_mode = Recall(1, **options), render_mode
        self.observation_space, self.action_space = self.games.single_observation_space, self.games.single_action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.games.reset(seed=seed)[0][0], {}

    def step(self, action):
        observations, rewards, ended, cut, _ = self.games.step(np.array([action]))
        return observations[0], float(rewards[0]), bool(ended[0]), bool(cut[0]), {}

    def render(self):
        return np.full((8, 8, 3), 60 * self.games.symbol[0], np.uint8)


NAME = "tests/Recall-v0"


def register():
    if NAME not in gymnasium.registry:
        gymnasium.register(NAME, entry_point=One, vector_entry_point=Recall)
