"""fairseq-feedback average."""

import argparse
import errno
import os
import resource

import pytest
import torch

from fairseq_feedback.tools import command

pytestmark = pytest.mark.core


def average(*args):
    """None, or the message that it exits with."""
    try:
        command.main(["average", *args])
    except SystemExit as stop:
        return stop.code
    return None


def write(folder, name, weights, cfg=None):
    path = os.path.join(folder, name)
    extra = {"args": None, "cfg": cfg or {"model": {"_name": "some"}}, "optimizer_history": [
        {"criterion_name": "c", "optimizer_name": "o", "lr_scheduler_state": {}, "num_updates": 1}],
        "extra_state": {"train_iterator": {"epoch": 1}}, "last_optimizer_state": {"big": 1}}  # fmt: skip
    torch.save({"model": weights, **extra}, path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Epochs 1 to 4 whose weights are 1 to 4, and updates 10, 20 in epoch 2."""
    for epoch in range(1, 5):
        write(tmp_path, f"checkpoint{epoch}.pt", {"w": torch.full((3,), float(epoch))})
    for updates in (10, 20):
        write(tmp_path, f"checkpoint_2_{updates}.pt", {"w": torch.full((3,), float(updates))})
    write(tmp_path, "checkpoint_best.pt", {"w": torch.full((3,), 99.0)})
    return str(tmp_path)


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--num-epoch-checkpoints", "2"], 3.5),
        (["--num-epoch-checkpoints", "2", "--checkpoint-upper-bound", "3"], 2.5),
        (["--num-update-checkpoints", "2"], 15.0),
    ],
)
def test_last_checkpoints_of_a_folder(folder, options, expected):
    output = os.path.join(folder, "new", "averaged.pt")
    assert average("--inputs", folder, "--output", output, *options) is None
    state = torch.load(output, weights_only=True)
    assert state["model"]["w"].tolist() == [expected] * 3
    assert state["cfg"]["model"]["_name"] == "some" and state["last_optimizer_state"] is None


def test_half_precision_is_summed_in_float32(tmp_path):
    """In half precision 2048 + 1 is 2048, so a sum of halves would lose what the mean keeps."""
    values = [2048.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    paths = [write(tmp_path, f"{i}.pt", {"w": torch.tensor([v], dtype=torch.float16)}) for i, v in enumerate(values)]
    output = str(tmp_path / "averaged.pt")
    assert average("--inputs", *paths, "--output", output) is None
    w = torch.load(output, weights_only=True)["model"]["w"]
    assert w.dtype == torch.float16
    assert w.item() == torch.tensor(sum(values) / 8).half().item() == 256.875 + 0.125


def test_a_legacy_configuration_survives(tmp_path):
    """fairseq's own transformer keeps its options in a Namespace inside the configuration."""
    cfg = {"model": argparse.Namespace(_name="transformer", arch="transformer")}
    path = write(tmp_path, "1.pt", {"w": torch.ones(1)}, cfg)
    output = str(tmp_path / "averaged.pt")
    assert average("--inputs", path, path, "--output", output) is None
    assert torch.load(output, weights_only=True)["cfg"]["model"].arch == "transformer"


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--num-epoch-checkpoints", "5"], "--num-epoch-checkpoints 5: {folder} has only 4 such"),
        (["--num-update-checkpoints", "0"], "--num-update-checkpoints 0: give at least 1"),
        ([], "--inputs {folder} is not a file"),
        (["--checkpoint-upper-bound", "5"], "--checkpoint-upper-bound needs"),
    ],
)
def test_mistakes_are_one_sentence(folder, options, sentence):
    output = os.path.join(folder, "averaged.pt")
    message = average("--inputs", folder, "--output", output, *options)
    assert not os.path.exists(output)
    assert message.startswith("error: " + sentence.format(folder=folder))


def test_different_models_and_damaged_files_are_named(tmp_path):
    a = write(tmp_path, "a.pt", {"w": torch.ones(1)})
    for name, weights in (("b.pt", {"v": torch.ones(1)}), ("c.pt", {"w": torch.ones(2)})):
        other = write(tmp_path, name, weights)
        message = average("--inputs", a, other, "--output", str(tmp_path / "out.pt"))
        assert f"{other} and {a} are of different models" in message
    half = tmp_path / "half.pt"
    half.write_bytes(open(a, "rb").read()[:-200])
    message = average("--inputs", str(half), "--output", str(tmp_path / "out.pt"))
    assert f"checkpoint {half} is damaged" in message
    assert not (tmp_path / "out.pt").exists()


def test_a_full_disk(tmp_path, capsys):
    paths = [write(tmp_path, f"{i}.pt", {"w": torch.full((100_000,), float(i))}) for i in range(2)]
    before, limits = sorted(os.listdir(tmp_path)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        said = average("--inputs", *paths, "--output", str(tmp_path / "out.pt"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said == f"error: {tmp_path / 'out.pt'}: {os.strerror(errno.EFBIG)}"
    assert sorted(os.listdir(tmp_path)) == before
