"""A training that can be stopped at any moment and goes on exactly: updates, checkpoints, metrics."""

import contextlib
import json
import os
import signal
import time

import numpy as np
import torch

from examples.reinforcement import a2c
from fairseq_feedback.checkpoints.verify import damage, verify
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import read_lines, whole

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"
SAVE_EVERY = 60  # seconds
POINTS = 100  # of a learning curve, at most


class Training:
    """task: of cells.py; model: its entry for this agent."""

    def __init__(self, task, model, agent, environments, seed: int):
        self.task, self.agent = task, agent
        kind = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[task.optimizer]
        self.rate = model.rate
        self.optimizer = kind(agent.parameters(), lr=self.rate, eps=task.epsilon)
        self.actor = a2c.Actor(agent, environments, seed)
        self.updates, self.learning_seconds, self.cpu_seconds = 0, 0.0, 0.0

    @property
    def frames(self) -> int:
        return self.actor.frames

    def update(self) -> dict:
        """One block -> what was measured of it. The rate falls in a straight line, to 0 at the task's last frame."""
        cpu = time.process_time()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * max(0.0, 1 - self.frames / self.task.frames)
        carried = self.actor.carried
        block = self.actor.act(self.task.block)
        begun = time.perf_counter()
        loss, parts = a2c.loss(self.agent, block, carried, self.task.costs)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.agent.parameters(), self.task.clip_norm)
        self.optimizer.step()
        parts["gradient_norm"] = float(norm)
        self.updates += 1
        self.learning_seconds += time.perf_counter() - begun
        self.cpu_seconds += time.process_time() - cpu
        return parts

    def seconds(self) -> float:
        """That it has taken, without checkpoints and what was done before."""
        return sum(self.actor.seconds.values()) + self.learning_seconds

    def speeds(self) -> dict:
        """Frames a second, of the agent alone while it acts, of learning, and of both with the environments."""
        return {
            "acting_speed": self.frames / self.actor.seconds["agent"],
            "learning_speed": self.frames / self.learning_seconds,
            "training_speed": self.frames / self.seconds(),
        }

    STATE = ("updates", "learning_seconds", "cpu_seconds")

    def state_dict(self) -> dict:
        return {
            **{name: getattr(self, name) for name in self.STATE},
            "agent": self.agent.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "actor": self.actor.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        for name in self.STATE:
            setattr(self, name, state[name])
        self.agent.load_state_dict(state["agent"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.actor.load_state_dict(state["actor"])


def train(training: Training, folder: str, progress) -> None:
    """Up to the task's frames; goes on from the folder's checkpoint."""
    os.makedirs(folder, exist_ok=True)
    path, last = os.path.join(folder, CHECKPOINT), training.task.frames
    if os.path.exists(path):
        load(training, path)
    metrics = Metrics(folder, training)
    saved = time.monotonic()
    with Stop() as stop:
        while training.frames < last and not stop.asked:
            before = training.frames
            parts = training.update()
            metrics.add(parts)
            progress.add(training.frames - before)
            if time.monotonic() - saved > SAVE_EVERY:
                save(training, path)
                saved = time.monotonic()
        metrics.close()
        save(training, path)
    if stop.asked:
        raise KeyboardInterrupt


class Stop:
    """Ctrl-C ends the update first. A second one ends the program."""

    asked = False

    def __enter__(self):
        self.before = None
        with contextlib.suppress(ValueError):  # only a main thread may
            self.before = signal.signal(signal.SIGINT, self.ask)
        return self

    def ask(self, *_):
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_):
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


class Metrics:
    """A JSON line for every few updates, and tensorboard's files where that is installed."""

    def __init__(self, folder: str, training: Training):
        self.path, self.training = os.path.join(folder, METRICS), training
        task = training.task
        updates = -(-task.frames // (task.block * task.environments))
        self.every = max(1, updates // POINTS)
        # What was written after the checkpoint will be written again.
        known = [line for line in lines(self.path) if line["updates"] <= training.updates]
        with whole(self.path) as f:
            f.writelines(json.dumps(line) + "\n" for line in known)
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  closed by close()
        self.board = None
        with contextlib.suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder, purge_step=training.frames)

    def add(self, parts: dict) -> None:
        training = self.training
        if training.updates % self.every and training.frames < training.task.frames:
            return
        values = {**training.actor.reward(), **parts, **training.speeds()}
        counts = {"updates": training.updates, "frames": training.frames, "episodes": training.actor.episodes}
        self.file.write(json.dumps({**counts, **{name: round(value, 6) for name, value in values.items()}}) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, training.frames)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()


def frames_of(folder: str) -> int:
    """How many a training has come to, that is not in memory."""
    path = os.path.join(folder, CHECKPOINT)
    return read(path)["actor"]["frames"] if os.path.exists(path) else 0


def lines(path: str) -> list:
    """Of metrics.jsonl. The last one may be cut off."""
    found = []
    for line in read_lines(path) if os.path.exists(path) else []:
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def save(training: Training, path: str) -> None:
    with whole(path, "wb", damage) as f:
        torch.save(as_tensors(training.state_dict()), f)


def read(path: str) -> dict:
    verify(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def load(training: Training, path: str) -> None:
    state = read(path)
    actor = state["actor"]
    tensors = {name: actor.pop(name) for name in ("generator", "carried")}
    state["actor"] = {**as_arrays(actor), **tensors}
    try:
        training.load_state_dict(state)
    except (KeyError, RuntimeError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise FeedbackError(f"{path} is not of this training ({what}): give another --out, or remove it") from error


def as_tensors(x):
    """A state without numpy, which torch's safe loader refuses."""
    if isinstance(x, dict):
        return {key: as_tensors(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(map(as_tensors, x))
    if isinstance(x, np.ndarray):
        return torch.from_numpy(x.copy())
    return x.item() if isinstance(x, np.generic) else x


def as_arrays(x):
    """The way back."""
    if isinstance(x, dict):
        return {key: as_arrays(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(map(as_arrays, x))
    return x.numpy() if isinstance(x, torch.Tensor) else x
