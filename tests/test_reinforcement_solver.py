"""The best player: against all that can be done in small games, and the rules that it has of its own."""

import itertools

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the problems need gymnasium: pip install 'fairseq-feedback[rl]'")

from examples.reinforcement.environments import measure  # noqa: E402
from examples.reinforcement.environments.solver import WORLDS, best_action, best_plan, best_return  # noqa: E402

SMALL = [
    ("Corridor", {"length": 2, "colours": 3, "episode_steps": 6}, 6),
    ("Corridor", {"length": 6, "colours": 2, "episode_steps": 6}, 6),  # too short
    ("Maze", {"size": 3, "colours": 3, "episode_steps": 9}, 9),
    ("Maze", {"size": 5, "colours": 10, "episode_steps": 9}, 9),
    ("Maze", {"size": 3, "colours": 4, "directions": "four", "episode_steps": 7}, 7),
    ("WaterMaze", {"size": 3, "episode_steps": 7}, 7),
]
IDS = ["corridor", "short", "turns", "objects", "four", "water"]


@pytest.mark.parametrize("name, options, steps", SMALL, ids=IDS)
def test_nothing_that_can_be_done_is_better(name, options, steps):
    """All sequences of actions, each in an environment of its own."""
    number = gymnasium.make(f"fairseq_feedback/{name}-v0", **options).action_space.n
    sequences = np.array(list(itertools.product(range(number), repeat=steps)))
    vector = gymnasium.make_vec(f"fairseq_feedback/{name}-v0", num_envs=len(sequences), **options)
    returns = []
    for seed in range(4):
        vector.reset(seed=[seed] * len(sequences))
        total, over = np.zeros(len(sequences)), np.zeros(len(sequences), bool)
        for actions in sequences.T:
            _, rewards, ended, late, _ = vector.step(actions)
            total += rewards * ~over
            over |= ended | late
        assert over.all()
        returns.append(best_return(f"fairseq_feedback/{name}-v0", seed, **options))
        assert returns[-1] == total.max()
    assert max(returns) >= (0 if options.get("length") == 6 else 1)


@pytest.mark.parametrize(
    "name, options",
    [
        ("Corridor", {"length": 5, "colours": 4}),
        ("Maze", {"size": 7, "colours": 5}),
        ("Maze", {"size": 7, "colours": 5, "view": 5, "directions": "four"}),
        ("WaterMaze", {"size": 4}),
    ],
    ids=["corridor", "turns", "four", "water"],
)
def test_its_rules_are_those_of_the_games(name, options):
    """Step by step through an episode, of actions that are good or random."""
    vector = gymnasium.make_vec(f"fairseq_feedback/{name}-v0", num_envs=20, **options)
    vector.reset(seed=1)
    game, rng = vector.game, np.random.default_rng(0)
    states, moves = zip(*(WORLDS[type(game)](game, row) for row in range(20)))
    plans = [best_plan(game, row) for row in range(20)]
    going, total = list(range(20)), np.zeros(20)
    for step in range(game.episode_steps - 1):
        actions = rng.integers(game.actions, size=20)
        for row in range(10):
            actions[row] = plans[row][step] if step < len(plans[row]) else 0
        states = [move(state, int(action)) for move, state, action in zip(moves, states, actions)]
        _, rewards, ended, _, _ = vector.step(actions)
        total[going] += rewards[going]
        for row in list(going):
            assert states[row][0] == total[row]
            if ended[row]:
                assert states[row][1] is None  # through a door: another episode has begun
                going.remove(row)
            else:
                assert states[row][1:] == place_of(game, row)
    assert total[:10].mean() > total[10:].mean() > 0


def place_of(game, row):
    if not hasattr(game, "size"):
        return (game.place[row],)
    if not hasattr(game, "edge"):
        return (divmod(game.place[row], game.size),)
    y, x = divmod(game.place[row], game.width)
    return (y - game.edge, x - game.edge), [(-1, 0), (0, 1), (1, 0), (0, -1)][game.heading[row]]


@pytest.mark.parametrize("name", ["Corridor", "Maze", "WaterMaze"])
def test_no_random_player_gets_more(name):
    """As the same seeds, of the paper's sizes."""
    name = f"fairseq_feedback/{name}-v0"
    best = np.array([best_return(name, seed) for seed in range(8)])
    vector = gymnasium.make_vec(name, num_envs=8 * 40)
    vector.reset(seed=[seed % 8 for seed in range(8 * 40)])
    rng = np.random.default_rng(0)
    total, over = np.zeros(8 * 40), np.zeros(8 * 40, bool)
    while not over.all():
        _, rewards, ended, late, _ = vector.step(rng.integers(vector.single_action_space.n, size=8 * 40))
        total += rewards * ~over
        over |= ended | late
    assert (total.reshape(40, 8) <= best).all() and total.mean() < best.mean()


@pytest.mark.parametrize("name", ["Corridor", "Maze", "WaterMaze"])
def test_it_goes_on_from_any_state(name):
    """Taken action by action, after some at random, it gets what it has planned."""
    env = gymnasium.make(f"fairseq_feedback/{name}-v0", episode_steps=60).unwrapped
    env.reset(seed=3)
    for action in np.random.default_rng(0).integers(env.action_space.n, size=15):
        env.step(int(action))
    plan = best_plan(env.game)
    (start, move), rewards = WORLDS[type(env.game)](env.game, 0), []
    for action in plan:
        start = move(start, action)
    over = False
    while not over:
        _, reward, ended, late, _ = env.step(best_action(env.game))
        rewards.append(reward)
        over = ended or late
    assert sum(rewards) == start[0] > 0
    assert rewards[len(plan) - 1] == 1 and sum(rewards[len(plan) :]) == 0  # a plan ends with a reward


def test_the_table(monkeypatch, capsys):
    """Chance, the best player and the speed; in the corridor, where the doors are always reached, and the maze."""
    monkeypatch.setattr(measure, "PROBLEMS", [("Corridor", {"colours": 3, "episode_steps": 10**3}), ("Maze", {})])
    monkeypatch.setattr("sys.argv", ["measure.py", "--episodes", "6", "--num-envs", "3", "--seconds", "0.01"])
    measure.main()
    *_, corridor, maze = capsys.readouterr().out.splitlines()
    name, chance, best, speed = corridor.strip("| ").split(" | ")
    assert name == "fairseq_feedback/Corridor-v0 colours=3 episode_steps=1000" and best == "1.00"
    assert 0 <= float(chance) < 0.7 and int(speed.replace(",", "")) > 1000
    returns = [best_return("fairseq_feedback/Maze-v0", seed) for seed in range(6)]
    assert maze.split(" | ")[2] == f"{np.mean(returns):.2f}"
