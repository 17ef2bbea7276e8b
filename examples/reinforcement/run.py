"""Trains agents to walk corridors and mazes, in which they must remember what they saw.

    bash examples/reinforcement/run.sh
    bash examples/reinforcement/run.sh --tasks corridor --agents feedback own --seeds 3
    bash examples/reinforcement/run.sh --table examples/reinforcement/results --plots examples/reinforcement/pictures

A cell is a task, an agent, a memory span (of feedback and own) and a seed. Each has a JSON file in OUT/results in the
end, and in OUT its checkpoint, its metrics and a picture of an episode. A run that was stopped goes on with the same
command: cells that have their file are not made again, and one in the middle goes on from its checkpoint.
"""

import functools
import os
import statistics

from examples.reinforcement import cells, picture, report, training
from examples.reinforcement.agents import NAMES, build
from examples.report import add_table, is_made, wants_table
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.extras import need
from fairseq_feedback.tools.files import write_json
from fairseq_feedback.tools.program import Parser, at_least_one, run
from fairseq_feedback.tools.progress import Progress

EPISODES = 100  # of the best player


def main():
    parser = Parser(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=list(cells.TASKS), metavar="TASK",
                        help=f"of {', '.join(cells.TASKS)} (all)")  # fmt: skip
    parser.add_argument("--agents", nargs="+", choices=NAMES, default=list(NAMES), metavar="AGENT",
                        help=f"of {', '.join(NAMES)} (all)")  # fmt: skip
    parser.add_argument("--spans", nargs="+", type=int, metavar="N", help="of feedback and own, instead of the task's")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 1 to N (%(default)s)")
    parser.add_argument("--frames", type=int, metavar="N", help="of every cell, instead of the task's own number")
    parser.add_argument("--out", default="runs/reinforcement", help="folder for checkpoints and metrics (%(default)s)")
    parser.add_argument("--results", metavar="FOLDER", help="folder for the JSON files (OUT/results)")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda (%(default)s)")
    parser.add_argument("--paper", action="store_true", help="the paper's sizes, for GPUs")
    parser.add_argument("--dry-run", action="store_true", help="print the cells only")
    add_table(parser)
    args = parser.parse_args()
    if wants_table(args):
        return report.show(args.table, args.plots)
    chosen = list(cells.cells(tasks(args), args.agents, args.seeds))
    if args.paper:
        args.out = os.path.join(args.out, "paper")
    if args.frames:
        args.out = os.path.join(args.out, f"{args.frames}-frames")
    args.results = args.results or os.path.join(args.out, "results")
    if args.dry_run:
        for cell in chosen:
            task = cell.task
            print(f"{cell.key}: {task.frames:,} frames, {cell.sizes}, rate {cell.model.rate:g}, {task.options}")
        return
    need("rl", "gymnasium")
    if any(cell.task.environment == cells.POPGYM for cell in chosen):
        need("rl", "popgym")
    progress = Progress(sum(done(cell, args) for cell in chosen), sum(cell.task.frames for cell in chosen), "frames")
    for cell in chosen:
        if not is_made(result(cell, args), command(cell, args)):
            make(cell, args, progress)
    progress.end()
    report.show(args.results)


def tasks(args):
    at_least_one(args, "seeds", "frames", "spans")
    known = cells.PAPER if args.paper else cells.TASKS
    found = {name: known.get(name) for name in args.tasks or known}
    if None in found.values():
        raise FeedbackError(f"--paper: the paper does not have all of {' '.join(found)}, but {', '.join(known)}")
    if args.frames:
        found = {name: task._replace(frames=args.frames) for name, task in found.items()}
    if args.spans:
        found = {name: task._replace(spans=tuple(args.spans)) for name, task in found.items()}
    return found


def result(cell, args):
    return os.path.join(args.results, cell.key + ".json")


def folder(cell, args):
    return os.path.join(args.out, cell.key)


def done(cell, args):
    """Frames."""
    if is_made(result(cell, args), command(cell, args)):
        return cell.task.frames
    return min(training.frames_of(folder(cell, args)), cell.task.frames)


def make(cell, args, progress):
    import gymnasium
    import torch

    progress.say(f"{cell.key} …")
    task = cell.task
    environments = gymnasium.make_vec(task.environment, num_envs=task.environments, **task.options)
    torch.manual_seed(cell.seed)
    slots, actions = environments.single_observation_space.nvec.tolist(), int(environments.single_action_space.n)
    agent = build(cell.agent, slots, actions, cell.sizes).to(args.device)
    made = training.Training(task, cell.model, agent, environments, cell.seed)
    training.train(made, folder(cell, args), progress)
    environments.close()
    drawn = "it draws no pictures"
    if "rgb_array" in environments.metadata["render_modes"]:
        drawn = picture.episode(
            agent, lambda: gymnasium.make(task.environment, render_mode="rgb_array", **task.options),
            folder(cell, args), cell.seed,
        )  # fmt: skip
    write_json(result(cell, args), facts(cell, args, made))
    last = made.actor.reward()
    progress.say(f"{cell.key}: " + ", ".join(f"{name} {value:.3f}" for name, value in last.items()) + f"; {drawn}")


def command(cell, args):
    which = f"--tasks {cell.name} --agents {cell.agent} --seeds {cell.seed} --frames {cell.task.frames}"
    spans = "" if cell.span is None else f" --spans {cell.span}"
    return which + spans + (" --paper" if args.paper else "")


def facts(cell, args, made):
    task, model = cell.task, cell.model
    known = training.lines(os.path.join(folder(cell, args), training.METRICS))
    return {
        "task": cell.name,
        "agent": cell.agent,
        "span": cell.span,
        "seed": cell.seed,
        "layers": cell.sizes.layers,
        "width": cell.sizes.width,
        "rate": model.rate,
        "environments": task.environments,
        "block": task.block,
        "options": task.options,
        "parameters": sum(p.numel() for p in made.agent.parameters()),
        "frames": made.frames,
        "updates": made.updates,
        "episodes": made.actor.episodes,
        **made.actor.reward(),
        "best": best_reward(task.environment, tuple(task.options.items())),
        **{name: round(value) for name, value in made.speeds().items()},
        "minutes": round(made.seconds() / 60, 1),
        "cpu_minutes": round(made.cpu_seconds / 60, 1),
        "command": command(cell, args),
        "curve": [[line["frames"], round(line["reward"], 4)] for line in known if "reward" in line],
    }


@functools.lru_cache(maxsize=None)
def best_reward(environment, options):
    """What the best player gets in an episode, on average; None where that is not known."""
    import gymnasium

    from examples.reinforcement.environments import solver

    options = dict(options)
    if not solver.plays(environment, **options):
        game = getattr(gymnasium.make(environment, **options).unwrapped, "game", None)
        return getattr(game, "most", None)
    return statistics.fmean(float(solver.best_return(environment, seed, **options)) for seed in range(EPISODES))


if __name__ == "__main__":
    run(main)
