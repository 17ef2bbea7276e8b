"""Gymnasium's two forms of a game: one environment, or many that are stepped together.

Environment i of many, reset with seed s, is the one that is reset with seed s + i alone, episode for episode.
"""

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from examples.reinforcement.environments import drawing
from fairseq_feedback.errors import FeedbackError

METADATA = {"render_modes": list(drawing.MODES), "render_fps": 4}
FIRST_SEEDS = 2**62  # what is drawn from when none is given


class GameEnv(gymnasium.Env):
    metadata = METADATA
    game_class = None

    def __init__(self, render_mode=None, **options):
        self.render_mode = check_mode(render_mode, self.metadata)
        self.game = self.game_class(1, **options)
        self.observation_space = MultiDiscrete(self.game.slots)
        self.action_space = Discrete(self.game.actions)
        self.seeded = False
        self.over = True

    def reset(self, *, seed=None, options=None):
        """options are not used."""
        super().reset(seed=seed)
        if not self.seeded and seed is None:
            seed = int(self.np_random.integers(FIRST_SEEDS))
        if seed is not None:
            self.game.streams.seed([seed])
        self.seeded = True
        self.over = False
        self.game.begin(np.arange(1))
        return self.game.observe()[0], {}

    def step(self, action):
        if self.over:
            raise ResetNeeded("The episode is over, or none has begun: call reset().")
        rewards, ended, late = self.game.step(check_actions([action], self.game.actions, 1))
        self.over = bool(ended[0] or late[0])
        return self.game.observe()[0], float(rewards[0]), bool(ended[0]), bool(late[0]), {}

    def render(self):
        return drawing.render(self.render_mode, self.game.scene(0))


class GameVectorEnv(gymnasium.vector.VectorEnv):
    """An episode that ends is followed by the next in the same step, whose first observation is returned.

    What was seen last is in infos["final_obs"], as from gymnasium's own vectors.
    """

    metadata = {**METADATA, "autoreset_mode": AutoresetMode.SAME_STEP}
    game_class = None

    def __init__(self, num_envs=1, render_mode=None, **options):
        self.render_mode = check_mode(render_mode, self.metadata)
        self.game = self.game_class(num_envs, **options)
        self.num_envs = num_envs
        self.single_observation_space = MultiDiscrete(self.game.slots)
        self.single_action_space = Discrete(self.game.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.seeded = False

    def reset(self, *, seed=None, options=None):
        """seed: of the first environment, the others' follow; or a list of all seeds. options are not used."""
        seeds = seed
        if not isinstance(seed, (list, tuple, np.ndarray)):
            super().reset(seed=seed)
            if not self.seeded and seed is None:
                seed = int(self.np_random.integers(FIRST_SEEDS))
            seeds = None if seed is None else [seed + i for i in range(self.num_envs)]
        if seeds is not None:
            if len(seeds) != self.num_envs:
                raise FeedbackError(f"There are {len(seeds)} seeds of {self.num_envs} environments: give one for each.")
            self.game.streams.seed(seeds)
        self.seeded = True
        self.game.begin(np.arange(self.num_envs))
        return self.game.observe(), {}

    def step(self, actions):
        self.need_reset()
        rewards, ended, late = self.game.step(check_actions(actions, self.game.actions, self.num_envs))
        seen, infos = self.game.observe(), {}
        over = ended | late
        rows = np.flatnonzero(over)
        if len(rows):
            infos = last_of(seen[rows], rows, over)
            self.game.begin(rows)
            seen[rows] = self.game.observe(rows)
        return seen, rewards, ended, late, infos

    def observe(self):
        """What is seen now, as after load_state_dict."""
        self.need_reset()
        return self.game.observe()

    def render(self):
        return tuple(drawing.render(self.render_mode, self.game.scene(row)) for row in range(self.num_envs))

    def state_dict(self):
        """With it, new environments of the same options go on as these would have."""
        self.need_reset()
        return self.game.state_dict()

    def load_state_dict(self, state):
        self.game.load_state_dict(state)
        self.seeded = True

    def need_reset(self):
        if not self.seeded:
            raise ResetNeeded("No episode has begun: call reset().")


def last_of(seen, rows, over):
    """infos of episodes that are over, as gymnasium's SyncVectorEnv has them."""
    final_obs = np.full(len(over), None, dtype=object)
    final_obs[rows] = np.frompyfunc(seen.__getitem__, 1, 1)(np.arange(len(rows)))
    return {"final_obs": final_obs, "_final_obs": over, "final_info": {}, "_final_info": over.copy()}


def check_actions(actions, number, count):
    actions = np.asarray(actions)
    if actions.shape != (count,) or actions.dtype.kind not in "iu":
        raise FeedbackError(f"actions are {actions.dtype} of the shape {actions.shape}: give {count} whole numbers.")
    if actions.min() < 0 or actions.max() >= number:
        raise FeedbackError(f"There are actions from {actions.min()} to {actions.max()}: give 0 to {number - 1}.")
    return actions


def check_mode(mode, metadata):
    modes = metadata["render_modes"]
    if mode is not None and mode not in modes:
        raise FeedbackError(f"render_mode is {mode}: give {' or '.join(modes) or 'none, there are no pictures of it'}.")
    return mode
