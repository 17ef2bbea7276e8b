"""What is trained: a cell is a task, an agent, a memory span and a seed, with the settings below."""

from typing import Dict, NamedTuple, Optional, Tuple

from examples.reinforcement.a2c import Costs
from examples.reinforcement.agents import Sizes


class Model(NamedTuple):
    sizes: Sizes  # its span is the task's
    rate: float


class Task(NamedTuple):
    environment: str
    options: dict  # of the environment
    spans: Tuple[int, ...]  # of feedback and own
    frames: int  # steps of all environments together
    models: Dict[str, Model]
    environments: int = 64
    block: int = 32  # steps of backpropagation through time
    costs: Costs = Costs()
    optimizer: str = "adam"
    epsilon: float = 1e-8
    clip_norm: float = 1.0


class Cell(NamedTuple):
    name: str
    task: Task
    agent: str
    span: Optional[int]  # None: a recurrent network
    seed: int

    @property
    def key(self) -> str:
        span = "" if self.span is None else f"-span{self.span}"
        return f"{self.name}-{self.agent}{span}-{self.seed}"

    @property
    def model(self) -> Model:
        return self.task.models[self.agent]

    @property
    def sizes(self) -> Sizes:
        return self.model.sizes if self.span is None else self.model.sizes._replace(span=self.span)


def models(layers, width, heads, rate, recurrent=None, recurrent_rate=None):
    """Of every agent; recurrent: layers and width of lstm and gru, where they have others."""
    transformer = Model(Sizes(layers, width, heads), rate)
    network = Model(Sizes(*(recurrent or (layers, width))), recurrent_rate or rate)
    return {"feedback": transformer, "own": transformer, "lstm": network, "gru": network}


HERE = "examples.reinforcement.environments:fairseq_feedback"  # gymnasium imports what stands before the colon
CORRIDOR, MAZE, WATER, POPGYM = (f"{HERE}/{name}-v0" for name in ("Corridor", "Maze", "WaterMaze", "POPGym"))
SMALL = models(2, 64, 4, 2e-3)
STEADY = {"epsilon": 1e-5, "clip_norm": 0.5}
MAZES = {"environments": 32, "block": 50, "costs": Costs(0.95, entropy=0.01), **STEADY}
TASKS = {
    # They soon walk straight on: little entropy, and later rewards count little. Who wanders has longer to remember.
    "corridor": Task(CORRIDOR, {"length": 20}, (4, 8, 12, 16, 24, 32), 400_000, SMALL, environments=16, block=64,
                     costs=Costs(0.95, entropy=0.003), **STEADY),
    "maze_turns": Task(MAZE, {"size": 5, "colours": 4}, (100,), 2_000_000, SMALL, **MAZES),
    "maze_large": Task(MAZE, {"size": 9, "colours": 8}, (100,), 8_000_000, SMALL, **MAZES),  # the paper's, fewer frames
    "maze_easy": Task(MAZE, {"size": 5, "colours": 4, "directions": "four"}, (100,), 2_000_000, SMALL, **MAZES),
    "water_maze": Task(WATER, {"size": 5}, (100,), 2_000_000, SMALL, **MAZES),
    # As many frames, and steps to read, as others have given it.
    "repeat_previous": Task(POPGYM, {"task": "RepeatPreviousEasy"}, (64,), 2_000_000, SMALL, **MAZES),
}  # fmt: skip

# The paper's sizes, for GPUs; of the corridor it gives none, and of the mazes' frames those of the water maze alone.
LARGE = models(2, 256, 4, 3e-4, recurrent=(3, 256))
RMSPROP = {"optimizer": "rmsprop", "epsilon": 0.01}
PAPER = {
    "corridor": TASKS["corridor"]._replace(frames=5_000_000),
    "maze_turns": Task(MAZE, {}, (200,), 500_000_000, LARGE, 1024, 100),
    "maze_easy": Task(MAZE, {"directions": "four"}, (200,), 500_000_000, LARGE, 128, 100, **RMSPROP),
    "water_maze": Task(WATER, {}, (200,), 500_000_000, models(2, 64, 1, 3e-4, recurrent_rate=4e-4), 64, 200,
                       Costs(entropy=1e-4), **RMSPROP),
}  # fmt: skip


def cells(tasks: Dict[str, Task], agents, seeds: int):
    """The first seed of all first."""
    for seed in range(1, seeds + 1):
        for name, task in tasks.items():
            for agent in task.models:
                if agent in agents:
                    for span in task.spans if agent in ("feedback", "own") else [None]:
                        yield Cell(name, task, agent, span, seed)
