"""What fairseq-train logged: the curves of a run, also of one that was restarted or still goes on."""

import json
import os
import re
from dataclasses import dataclass, field
from typing import Dict, List, Tuple

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import must_be_file

JSON = re.compile(r'\{"epoch": .*\}')
INNER = re.compile(r"epoch (\d+): +(\d+) / (\d+) (\S+=.*)")  # --log-format simple, within an epoch
END = re.compile(r"epoch (\d+) \| (?:valid on '(.+)' subset \| )?(\S+ .+)")


@dataclass
class Run:
    """Statistics under the names that fairseq gives them, with the number of updates they belong to.

    The key of `stats` is "train", in progress and if there is none at the ends of epochs, or a subset for validation.
    """

    label: str
    path: str
    stats: Dict[str, Dict[int, Dict[str, float]]] = field(default_factory=dict)

    def curve(self, kind: str, name: str) -> Tuple[List[int], List[float]]:
        """Updates and values of a statistic: two empty lists if it was not logged."""
        points = [(update, stats[name]) for update, stats in self.stats.get(kind, {}).items() if name in stats]
        return [update for update, _ in points], [value for _, value in points]

    def names(self, kind: str) -> List[str]:
        """All statistics of that kind, in fairseq's order."""
        return list(dict.fromkeys(name for stats in self.stats.get(kind, {}).values() for name in stats))

    def updates(self) -> int:
        return max(update for points in self.stats.values() for update in points)


def curves(paths) -> List[Run]:
    """The runs in these logs. Of a folder, those of its *.log files that are logs of a training."""
    runs = []
    for path in map(os.fspath, paths):
        if not os.path.isdir(path):
            runs.append(read(path))
            continue
        logs = [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(".log")]
        found = [run for run in map(_read, logs) if "train" in run.stats]
        if not found:
            raise FeedbackError(f"{path} has no *.log of fairseq-train: give the log itself")
        if len(found) == 1:
            found[0].label = os.path.basename(os.path.abspath(path))
        runs += found
    labels = [run.label for run in runs]
    for run in runs:
        if labels.count(run.label) > 1:
            folder, name = os.path.split(os.path.abspath(run.path))
            run.label = os.path.basename(folder)
            if sum(os.path.dirname(os.path.abspath(other.path)) == folder for other in runs) > 1:
                run.label += "/" + name
    return runs


def read(path) -> Run:
    run = _read(path)
    if "train" not in run.stats:
        raise FeedbackError(
            f"{path} has no line of a training's progress: give what fairseq-train printed, with --log-format simple "
            "or json and a --log-interval below the number of updates"
        )
    return run


def _read(path) -> Run:
    must_be_file(path)
    run = Run(os.path.splitext(os.path.basename(path))[0], path)
    kinds = {"train_inner": {}, "train": {}}
    last = offset = seconds = 0
    with open(path, encoding="utf-8", errors="replace", newline="\n") as f:
        for line in f:
            if not line.endswith("\n"):  # it is being written
                break
            found = parse(line)
            if found is None:
                continue
            kind, update, stats = found
            if update < last:  # restarted from an earlier checkpoint: what came after that one did not lead here
                for points in kinds.values():
                    for later in [u for u in points if u >= update]:
                        del points[later]
            last = update
            if "wall" in stats:  # starts again at every restart
                if stats["wall"] + offset < seconds:
                    offset = seconds
                stats["wall"] = seconds = stats["wall"] + offset
            kinds.setdefault(kind, {})[update] = stats
    train = kinds.pop("train_inner") or kinds["train"]
    run.stats = {kind: points for kind, points in {**kinds, "train": train}.items() if points}
    return run


def parse(line):
    """(train_inner, train or the subset for validation; updates; statistics), or None for any other line."""
    match = JSON.search(line)
    if match:
        return _from_json(match.group())
    match = INNER.search(line)
    if match:
        epoch, batch, batches, rest = match.groups()
        stats = _numbers(pair.partition("=")[::2] for pair in rest.split(", "))
        stats["epochs"] = int(epoch) - 1 + int(batch) / int(batches)
        return _found("train_inner", stats)
    match = END.search(line)
    if match:
        epoch, subset, rest = match.groups()
        stats = _numbers(pair.partition(" ")[::2] for pair in rest.split(" | "))
        return _found(subset or "train", {**stats, "epochs": int(epoch)})
    return None


def _from_json(text):
    try:
        stats = json.loads(text)
    except ValueError:
        return None
    prefix = next((name[: -len("num_updates")] for name in stats if name.endswith("num_updates")), "")
    epochs = stats.pop("update", stats.pop("epoch"))
    stats = _numbers((name[len(prefix) :], value) for name, value in stats.items() if name.startswith(prefix))
    return _found(prefix[:-1] or "train_inner", {**stats, "epochs": float(epochs)})


def _numbers(pairs):
    stats = {}
    for name, value in pairs:
        try:
            stats[name] = float(value)
        except (TypeError, ValueError):  # a list, or nothing
            continue
    return stats


def _found(kind, stats):
    return (kind, int(stats.pop("num_updates")), stats) if "num_updates" in stats else None
