"""What chance and the best player get in an episode, and frames per second of many environments on one core.

    PYTHONPATH=. OMP_NUM_THREADS=1 taskset -c 0 python examples/reinforcement/environments/measure.py

Of the paper's sizes. All actions are random, but the best player's. The time includes the new episodes.
"""

import time

import gymnasium
import numpy as np

from examples.reinforcement.environments.solver import best_return
from fairseq_feedback.tools.program import Parser, run
from fairseq_feedback.tools.table import markdown

PROBLEMS = [("Corridor", {}), ("Maze", {}), ("Maze", {"directions": "four"}), ("WaterMaze", {})]


def main():
    parser = Parser(__doc__)
    parser.add_argument("--episodes", type=int, default=100, help="that chance and the best player play (%(default)s)")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[64, 1024, 4096], help="for the time (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="to measure each at least (%(default)s)")
    args = parser.parse_args()
    rows = []
    for name, options in PROBLEMS:
        name = f"fairseq_feedback/{name}-v0"
        best = [best_return(name, seed, **options) for seed in range(args.episodes)]
        chance = returns_of_chance(name, args.episodes, **options)
        speeds = [f"{frames_per_second(name, n, args.seconds, **options):,.0f}" for n in args.num_envs]
        called = " ".join([name, *(f"{option}={value}" for option, value in options.items())])
        rows.append([called, f"{np.mean(chance):.2f}", f"{np.mean(best):.2f}", *speeds])
    print(markdown(["", "chance", "best", *(f"frames/s of {n:,}" for n in args.num_envs)], rows))


def returns_of_chance(name, episodes, **options):
    """Of the first episode of each environment."""
    vector, rng = gymnasium.make_vec(name, num_envs=episodes, **options), np.random.default_rng(0)
    vector.reset(seed=0)
    returns, going = np.zeros(episodes), np.ones(episodes, bool)
    while going.any():
        _, rewards, ended, late, _ = vector.step(rng.integers(vector.single_action_space.n, size=episodes))
        returns += rewards * going
        going &= ~(ended | late)
    return returns


def frames_per_second(name, num_envs, seconds, **options):
    """In whole episodes' steps."""
    vector, rng = gymnasium.make_vec(name, num_envs=num_envs, **options), np.random.default_rng(0)
    vector.reset(seed=0)
    steps = vector.game.episode_steps
    actions = rng.integers(vector.single_action_space.n, size=(steps, num_envs))
    begin, frames = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        for step in actions:
            vector.step(step)
        frames += actions.size
    return frames / (time.perf_counter() - begin)


if __name__ == "__main__":
    run(main)
