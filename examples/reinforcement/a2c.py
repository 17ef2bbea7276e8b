"""Advantage actor-critic (A2C): blocks of steps are acted and learnt in turn.

The return of a step is the discounted reward up to the end of the block, and the value of the step after it. It stops
where an episode ends. A time limit counts as an end: the score is the reward up to it.

Shapes: T steps of a block, B environments, K slots of an observation.
"""

import time
from collections import deque
from typing import NamedTuple, Tuple

import numpy as np
import torch
from torch import Tensor

from examples.reinforcement.agents import Agent
from examples.reinforcement.rows import Carried

RECENT = 500  # episodes that a reward is averaged over, as in the paper
APART = 10_000  # the environments' seeds of two trainings: more than there are environments


class Costs(NamedTuple):
    discount: float = 0.99
    entropy: float = 5e-4
    value: float = 0.5


class Block(NamedTuple):
    """What was seen and done."""

    symbols: Tensor  # (T, B, K + 1) observations, and the action before, see Actor
    started: Tensor  # (T, B) True = the first step of an episode
    actions: Tensor  # (T, B)
    rewards: Tensor  # (T, B)
    ended: Tensor  # (T, B) True = the last step of an episode
    next_value: Tensor  # (B) of the step after the block


def returns(rewards: Tensor, ended: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """(T, B)."""
    found = torch.empty_like(rewards)
    following = next_value
    for t in range(len(rewards) - 1, -1, -1):
        found[t] = following = rewards[t] + discount * following.masked_fill(ended[t], 0.0)
    return found


def loss(agent: Agent, block: Block, carried: Carried, costs: Costs) -> Tuple[Tensor, dict]:
    """A mean over all steps, and its parts."""
    logits, values = agent(block.symbols, block.started, carried)
    log_policy = logits.log_softmax(dim=-1)
    chosen = log_policy.gather(-1, block.actions[..., None]).squeeze(-1)
    advantage = returns(block.rewards, block.ended, block.next_value, costs.discount) - values
    parts = {
        "policy_loss": -(advantage.detach() * chosen).mean(),
        "value_loss": 0.5 * advantage.square().mean(),
        "entropy": -(log_policy.exp() * log_policy).sum(dim=-1).mean(),
    }
    total = parts["policy_loss"] + costs.value * parts["value_loss"] - costs.entropy * parts["entropy"]
    return total, {name: part.item() for name, part in parts.items()}


class Actor:
    """Acts in all environments at once, and counts their rewards."""

    def __init__(self, agent: Agent, environments, seed: int):
        self.agent, self.environments = agent, environments
        rows = environments.num_envs
        self.device = agent.policy.weight.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.observations, _ = environments.reset(seed=APART * seed)  # theirs are this one and those after it
        self.before = np.zeros(rows, dtype=np.int64)  # 1 + the action before; 0 at the first step of an episode
        self.carried = agent.nothing(rows)
        self.rewards, self.lengths = np.zeros(rows), np.zeros(rows, dtype=np.int64)  # of episodes that go on
        self.recent = deque(maxlen=RECENT)  # (reward, length) of those that ended
        self.frames = self.episodes = 0
        self.seconds = {"agent": 0.0, "environments": 0.0}

    def act(self, steps: int) -> Block:
        clock = time.perf_counter
        seen, begun = [], clock()
        acting = self.agent.acting(self.carried)
        for _ in range(steps):
            symbols = self.symbols()
            started = symbols[:, -1] == 0
            logits, _ = acting.step(symbols, started)
            actions = torch.multinomial(logits.softmax(dim=-1), 1, generator=self.generator).squeeze(1)
            chosen = actions.cpu().numpy()
            self.seconds["agent"] += clock() - begun
            begun = clock()
            self.observations, rewards, terminated, truncated, _ = self.environments.step(chosen)
            ended = terminated | truncated
            self.before = np.where(ended, 0, chosen + 1)
            self.count(rewards, ended)
            self.seconds["environments"] += clock() - begun
            begun = clock()
            seen.append((symbols, started, actions, self.tensor(rewards), self.tensor(ended)))
        next_value = acting.value(self.symbols())
        self.carried = acting.carried()
        self.seconds["agent"] += clock() - begun
        symbols, started, actions, rewards, ended = map(torch.stack, zip(*seen))
        return Block(symbols, started, actions, rewards.float(), ended, next_value)

    def symbols(self) -> Tensor:
        return self.tensor(np.concatenate([self.observations, self.before[:, None]], axis=1))

    def tensor(self, x) -> Tensor:
        return torch.from_numpy(np.array(x)).to(self.device)  # a copy: environments may write into theirs again

    def count(self, rewards, ended) -> None:
        self.frames += len(rewards)
        self.rewards += rewards
        self.lengths += 1
        for i in np.flatnonzero(ended):
            self.recent.append((float(self.rewards[i]), int(self.lengths[i])))
        self.episodes += int(ended.sum())
        self.rewards[ended] = 0
        self.lengths[ended] = 0

    def reward(self) -> dict:
        """Of the episodes that ended last."""
        if not self.recent:
            return {}
        rewards, lengths = zip(*self.recent)
        success = sum(reward > 0 for reward in rewards) / len(rewards)
        return {"reward": sum(rewards) / len(rewards), "success": success, "length": sum(lengths) / len(lengths)}

    STATE = ("observations", "before", "rewards", "lengths", "frames", "episodes", "seconds")

    def state_dict(self) -> dict:
        return {
            **{name: getattr(self, name) for name in self.STATE},
            "recent": list(self.recent),
            "carried": tuple(self.carried),
            "generator": self.generator.get_state(),
            "environments": self.environments.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        for name in self.STATE:
            setattr(self, name, state[name])
        self.recent = deque(map(tuple, state["recent"]), maxlen=RECENT)
        self.carried = Carried(*(part.to(self.device) for part in state["carried"]))
        self.generator.set_state(state["generator"])
        self.environments.load_state_dict(state["environments"])
