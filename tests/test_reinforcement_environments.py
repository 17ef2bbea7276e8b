"""Both forms of the reinforcement learning problems, as gymnasium wants them: seeds, ends, resuming, pictures.

The rules are in test_reinforcement_games.py, the best player in test_reinforcement_solver.py.
"""

import importlib
import io
import pickle
import pickletools
import sys
import warnings

import numpy as np
import pytest
import torch

from fairseq_feedback.errors import FeedbackError

for module in ("gymnasium", "popgym"):
    pytest.importorskip(module, reason=f"the problems need {module}: pip install 'fairseq-feedback[rl]'")

import gymnasium  # noqa: E402
from gymnasium.utils.env_checker import check_env, data_equivalence  # noqa: E402
from gymnasium.vector import AutoresetMode  # noqa: E402

import examples.reinforcement.environments as environments  # noqa: E402
from examples.reinforcement.environments.drawing import AGENT, LIGHT, TILE, colour  # noqa: E402
from examples.reinforcement.environments.streams import Streams  # noqa: E402

# Small, and with episodes that end at different steps, or all at once.
PROBLEMS = [
    ("Corridor", {"length": 3, "colours": 3}),
    ("Maze", {"size": 5, "colours": 4, "episode_steps": 23}),
    ("Maze", {"size": 3, "colours": 2, "view": 5, "directions": "four", "episode_steps": 9}),
    ("WaterMaze", {"size": 4, "episode_steps": 17}),
    ("POPGym", {"task": "RepeatPreviousEasy"}),
    ("POPGym", {"task": "AutoencodeEasy"}),
    ("POPGym", {"task": "CountRecallMedium"}),
]
NAMES = ["corridor", "turns", "four", "water", "previous", "autoencode", "count"]
every_problem = pytest.mark.parametrize("name, options", PROBLEMS, ids=NAMES)
every_drawn_one = pytest.mark.parametrize("name, options", PROBLEMS[:4], ids=NAMES[:4])


def one(name, **options):
    return gymnasium.make(f"fairseq_feedback/{name}-v0", **options)


def many(name, num_envs, **options):
    return gymnasium.make_vec(f"fairseq_feedback/{name}-v0", num_envs=num_envs, **options)


def assert_alike(given, expected):
    for mine, other in zip(given, expected):
        assert data_equivalence(mine, other, exact=True), (mine, other)


def actions_of(vector, steps, seed=0):
    return np.random.default_rng(seed).integers(vector.single_action_space.n, size=(steps, vector.num_envs))


@every_problem
def test_gymnasium_finds_nothing_to_say(name, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(one(name, **options).unwrapped)
        many(name, 2, **options)


@pytest.mark.parametrize(
    "name, slots, actions, steps",
    [("Corridor", [4], 3, 84), ("Maze", [10] * 9 + [8], 3, 200), ("WaterMaze", [225, 225, 10], 4, 200)],
)
def test_the_papers_sizes_are_the_default(name, slots, actions, steps):
    env, vector = one(name), many(name, 6)
    assert env.observation_space == vector.single_observation_space == gymnasium.spaces.MultiDiscrete(slots)
    assert env.action_space == vector.single_action_space == gymnasium.spaces.Discrete(actions)
    seen, infos = vector.reset(seed=1)
    assert seen.shape == (6, len(slots)) and seen.dtype == np.int64 and infos == {}
    assert seen in vector.observation_space
    late = np.zeros(6, bool)
    for step in range(1, steps + 1):
        seen, rewards, ended, late, _ = vector.step(np.full(6, 1))  # of no use anywhere
        assert (rewards.dtype, ended.dtype, late.dtype) == (np.float32, bool, bool)
        assert late.all() == late.any() == (step == steps)


@every_problem
def test_many_are_as_each_alone(name, options):
    """gymnasium's own vector of single environments gives the same of everything, over the ends of episodes, too."""
    vector = many(name, 5, **options)
    alone = many(
        name, 5, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}, **options
    )
    assert vector.metadata["autoreset_mode"] == alone.metadata["autoreset_mode"]
    assert vector.observation_space == alone.observation_space and vector.action_space == alone.action_space
    rewarded = ended = 0
    for seed in (3, None, [8, 1, 1, 5, 2**70]):
        assert_alike(vector.reset(seed=seed), alone.reset(seed=seed))
        for actions in actions_of(vector, 110):
            given, expected = list(vector.step(actions)), list(alone.step(actions))
            rewarded += np.abs(given[1]).sum()
            ended += (given[2] | given[3]).sum()
            expected[1] = expected[1].astype(np.float32)  # float64, of gymnasium's
            assert_alike(given, expected)
    assert rewarded > 0 and ended >= 15


@every_problem
def test_an_environment_does_not_know_how_many_others_there_are(name, options):
    few, lots = many(name, 3, **options), many(name, 40, **options)
    assert_alike([few.reset(seed=11)[0]], [lots.reset(seed=11)[0][:3]])
    for actions in actions_of(lots, 50):
        assert_alike(few.step(actions[:3])[:4], [value[:3] for value in lots.step(actions)[:4]])


@every_problem
def test_seeds(name, options):
    vector = many(name, 64, **options)

    def episode(seed):
        seen = [vector.reset(seed=seed)[0]]
        return np.stack(seen + [vector.step(np.full(64, actions[0]))[0] for actions in actions_of(vector, 30)])

    first = episode(5)
    assert (episode(5) == first).all()
    assert (episode(6)[:, :-1] == first[:, 1:]).all()  # environment i of 6 is environment i + 1 of 5
    assert (episode(1000) != first).any()
    assert (episode(None) != first).any()
    unseeded = [many(name, 64, **options).reset()[0] for _ in range(2)]
    assert (unseeded[0] != unseeded[1]).any()


@every_problem
def test_an_end_and_the_next_beginning_come_in_the_same_step(name, options):
    """Alone, an environment shows its last observation, and then wants to be reset."""
    vector, env = many(name, 1, **options), one(name, **options).unwrapped
    vector.reset(seed=2), env.reset(seed=2)
    for actions in actions_of(vector, 200):
        seen, _, ended, late, infos = vector.step(actions)
        last, _, *ends, _ = env.step(actions[0])
        assert ends == [ended[0], late[0]]
        if ended[0] or late[0]:
            break
        assert infos == {}
    assert infos["_final_obs"].tolist() == [True] and (infos["final_obs"][0] == last).all()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    assert (env.reset()[0] == seen[0]).all()


@every_problem
def test_gymnasiums_statistics(name, options):
    """Its wrapper counts the episodes' rewards and steps."""
    vector = gymnasium.wrappers.vector.RecordEpisodeStatistics(many(name, 4, **options))
    vector.reset(seed=0)
    returns, lengths = np.zeros(4), np.zeros(4, int)
    for actions in actions_of(vector, 110):
        _, rewards, ended, late, infos = vector.step(actions)
        returns += rewards
        lengths += 1
        over = ended | late
        if over.any():
            assert infos["episode"]["r"][over] == pytest.approx(returns[over])
            assert (infos["episode"]["l"][over] == lengths[over]).all()
        returns[over], lengths[over] = 0, 0
    assert vector.episode_count >= 4


@every_problem
def test_a_stopped_run_goes_on_as_if_it_had_not(name, options):
    vector = many(name, 5, **options)
    vector.reset(seed=4)
    actions = actions_of(vector, 90)
    for step in actions[:31]:
        seen = vector.step(step)[0]
    file = io.BytesIO()
    torch.save(vector.state_dict(), file)
    kept = pickle.dumps(vector.state_dict(), protocol=3)
    expected = [vector.step(step) for step in actions[31:]] + [vector.reset()]

    other = many(name, 5, **options)
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=False))
    assert (other.observe() == seen).all()
    for given, then in zip([other.step(step) for step in actions[31:]] + [other.reset()], expected):
        assert_alike(given, then)
    other.load_state_dict(pickle.loads(kept))
    assert (other.observe() == seen).all()
    code = {argument for opcode, argument, _ in pickletools.genops(kept) if opcode.name == "GLOBAL"}
    assert {name.split(".")[0].split()[0] for name in code} == {"numpy"}


def test_a_state_of_something_else_is_refused():
    vector = many("Maze", 4, size=5, colours=4)
    with pytest.raises(gymnasium.error.ResetNeeded):
        vector.state_dict()
    vector.reset(seed=1)
    state = vector.state_dict()
    for name, count, options in [
        ("Maze", 3, {"size": 5, "colours": 4}),
        ("Maze", 4, {"size": 5, "colours": 4, "directions": "four"}),
        ("Maze", 4, {"size": 5, "colours": 4, "episode_steps": 100}),
        ("Corridor", 4, {}),
    ]:
        with pytest.raises(FeedbackError, match=rf"not one of {count} environments of {name}"):
            many(name, count, **options).load_state_dict(state)
    for broken in {}, {**state, "cells": state["cells"].tolist()}, {**state, "streams": state["streams"].astype(int)}:
        with pytest.raises(FeedbackError, match="differs"):
            vector.load_state_dict(broken)


def test_streams_are_splitmix64():
    """By the definition, in Python's own numbers; of each stream the same, however it is drawn."""

    def splitmix64(state, count):
        for _ in range(count):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            number = state
            number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
            yield ((number ^ (number >> 31)) >> 11) / 2**53

    streams = Streams(3)
    streams.seed([7, 8, 2**64])
    starts = [int(state) for state in streams.state]
    rows = np.array([2, 0])
    assert (streams.ahead(rows, 5) == [list(splitmix64(starts[row], 5)) for row in rows]).all()
    parts = np.concatenate([streams.draw(rows, 2), streams.draw(rows, 3)], axis=1)
    assert (parts == [list(splitmix64(starts[row], 5)) for row in rows]).all()
    assert (streams.draw(np.array([1]), 1)[0, 0], len(set(starts))) == (next(splitmix64(starts[1], 1)), 3)


def agent_of(frame):
    """Row and column of the agent's pixels' middle."""
    return np.argwhere((frame == AGENT).all(axis=2)).mean(axis=0)


@every_drawn_one
def test_pictures(name, options):
    """The agent's pixels move with it; of many environments, each has its picture."""
    env = one(name, render_mode="rgb_array", **options)
    text = one(name, render_mode="ansi", **options)
    env.reset(seed=3), text.reset(seed=3)
    moved = set()
    for actions in actions_of(many(name, 1), 40):
        before, frame = env.unwrapped.game.scene(0), env.render()
        rows, columns = before.cells.shape
        assert frame.shape == ((rows + 1) * TILE, columns * TILE, 3) and frame.dtype == np.uint8
        assert (frame[-TILE:] == colour(before.target)).all()
        if before.heading is None:
            assert np.allclose(agent_of(frame), (np.array(before.agent) + 0.5) * TILE - 0.5)
        assert np.allclose(agent_of(frame) // TILE, before.agent)
        drawn = text.render().splitlines()[before.agent[0]]
        assert drawn[3 * before.agent[1] + 1] in ("@" if before.heading is None else "^>v<"[before.heading])
        assert drawn[3 * before.agent[1]] == "["
        over = any(env.step(actions[0])[2:4])
        assert over == any(text.step(actions[0])[2:4])
        if over:
            break
        moved.add(tuple(np.subtract(env.unwrapped.game.scene(0).agent, before.agent)))
    assert len(moved) > 1
    vector = many(name, 3, render_mode="rgb_array", **options)
    vector.reset(seed=1)
    frames = vector.render()
    env.reset(seed=2)
    assert isinstance(frames, tuple) and len(frames) == 3 and (frames[1] == env.render()).all()


def test_what_is_seen_is_highlighted_and_the_agent_points_ahead():
    env = one("Maze", size=5, colours=4, render_mode="rgb_array").unwrapped
    env.reset(seed=3)
    for _ in range(4):
        scene, frame = env.game.scene(0), env.render()
        corners = frame[:-TILE:TILE, ::TILE].astype(float)
        plain = (corners - 0.45 * LIGHT) / 0.55
        for cell, seen, corner, unlit in zip(*(x.reshape(-1, *x.shape[2:]) for x in (*scene[:2], corners, plain))):
            expected = (92, 92, 98) if cell == 1 else (244, 244, 240)
            assert np.abs((unlit if seen else corner) - expected).max() < 2
        assert scene.seen.sum() == 9
        ahead = [(-1, 0), (0, 1), (1, 0), (0, -1)][scene.heading]
        black = (frame == AGENT).all(axis=2)
        offsets = np.argwhere(black) - ((np.array(scene.agent) + 0.5) * TILE - 0.5)
        forwards = offsets @ np.array(ahead)
        sideways = np.abs(offsets @ np.array(ahead[::-1]))
        assert sideways[forwards > 2].max() < sideways[forwards < -2].max()  # a triangle is narrow in front
        env.step(2)


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("Maze", {"size": 8}, "size is 8: give an odd number"),
        ("Maze", {"size": 1}, "size is 1: give a whole number, 3 or more"),
        ("Maze", {"size": 5.0}, "size is 5.0: give a whole number"),
        ("Maze", {"view": 2}, "view is 2: give an odd number"),
        ("Maze", {"size": 3, "colours": 7}, "colours is 7: give 6 or less"),
        ("Maze", {"colours": 1}, "colours is 1: give a whole number, 2 or more"),
        ("Maze", {"colours": 27}, "colours is 27: give 26 or less"),
        ("Maze", {"directions": "eight"}, "directions is eight: give turns or four"),
        ("Maze", {"episode_steps": 0}, "episode_steps is 0: give a whole number, 1 or more"),
        ("Corridor", {"length": 0}, "length is 0: give a whole number, 1 or more"),
        ("Corridor", {"colours": 27}, "colours is 27: give 26 or less"),
        ("WaterMaze", {"size": 1}, "size is 1: give a whole number, 2 or more"),
        ("WaterMaze", {"view": 4}, "view is 4: give an odd number"),
        ("Maze", {"num_envs": 0}, "num_envs is 0: give a whole number, 1 or more"),
        ("Maze", {"render_mode": "human"}, "render_mode is human: give rgb_array or ansi"),
        ("POPGym", {"task": "RepeatLast"}, "task is RepeatLast: give one of RepeatFirstEasy, "),
        ("POPGym", {"render_mode": "ansi"}, "render_mode is ansi: give none, there are no pictures of it"),
    ],
)
def test_wrong_options(name, options, said):
    with pytest.raises(FeedbackError, match=said):
        many(name, **{"num_envs": 2, **options})


def test_other_mistakes():
    vector = many("Maze", 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        vector.step(np.zeros(2, int))
    with pytest.raises(FeedbackError, match="There are 3 seeds of 2 environments"):
        vector.reset(seed=[1, 2, 3])
    vector.reset(seed=1)
    for actions, said in [
        ([0, 3], "actions from 0 to 3: give 0 to 2"),
        ([-1, 0], "actions from -1 to 0: give 0 to 2"),
        ([0.0, 1.0], "actions are float64 of the shape .2,.: give 2 whole numbers"),
        ([0, 1, 2], "give 2 whole numbers"),
    ]:
        with pytest.raises(FeedbackError, match=said):
            vector.step(np.array(actions))
    with pytest.raises(FeedbackError, match="render_mode is not set: make the environment with rgb_array or ansi"):
        vector.render()


def test_the_most_of_an_episode_of_popgym_is_1():
    """Whoever says what was seen 3 steps before the last observation; nothing counts until there is that much."""
    vector = many("POPGym", 3, task="RepeatPreviousEasy")
    seen = [vector.reset(seed=1)[0][:, 0]]
    returns, ended = np.zeros(3), np.zeros(3, bool)
    while not ended.any():
        observed, rewards, ended, late, _ = vector.step(seen[max(0, len(seen) - 4)])
        seen.append(observed[:, 0])
        returns += rewards
    assert ended.all() and not late.any() and len(seen) == 52
    assert returns == pytest.approx(np.full(3, vector.game.most))


def test_without_gymnasium_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(FeedbackError, match=r"pip install 'fairseq-feedback\[rl\]'"):
        importlib.reload(environments)
