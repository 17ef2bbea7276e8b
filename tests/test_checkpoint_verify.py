"""Damaged checkpoints are refused by name, whatever was flipped, and resuming says what to take instead."""

import logging
import os
import random
import shutil

import cli
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from fairseq_feedback.checkpoints import verify
from fairseq_feedback.errors import FeedbackError

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def saved(folder, data):
    """A folder with checkpoints of 2 and 4 updates, the last and the best."""
    train(folder, data, "saved", updates=4)
    return folder / "saved"


def train(folder, data, name, *more, check=True, **flags):
    flags = cli.train_flags(data, folder / name, "--save-interval-updates", 2, *more, **flags)
    return cli.run("train", *flags, check=check, log=folder / "log")


def flip(content, bit):
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def outcome(path, load, expected):
    """refused, or harmless; anything else fails."""
    try:
        got = load(str(path))
    except FeedbackError as error:
        assert str(path) in str(error) and "damaged" in str(error)
        return "refused"
    assert equal(got, expected)
    return "harmless"


@pytest.mark.parametrize("count", [30, pytest.param(2000, marks=pytest.mark.slow)])
def test_flipped_bits_are_refused_or_harmless(saved, tmp_path, count):
    whole, path = (saved / "checkpoint_last.pt").read_bytes(), tmp_path / "flipped.pt"
    path.write_bytes(whole)
    load, bits = checkpoint_utils.load_checkpoint_to_cpu, random.Random(0)
    expected = load(str(path))
    found = []
    for _ in range(count):
        path.write_bytes(flip(whole, bits.randrange(8 * len(whole))))
        found.append(outcome(path, load, expected))
    print(f"{found.count('refused')} refused, {found.count('harmless')} harmless")
    assert found.count("refused") > count / 2  # a small archive is padding for a good part


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flip_anywhere_in_a_small_archive(tmp_path, step):
    """Headers, padding and table of contents too: the loader may believe what is left, or refuse it by itself."""
    path, state = tmp_path / "small.pt", {"a": torch.arange(5.0), "b": [torch.ones(2), "text"]}
    torch.save(state, path)
    whole = path.read_bytes()

    def load(name):
        verify.verify(name)
        junk = torch.full((5,), 7.0)  # noqa: F841  what torch leaves unread is not what was there by chance
        del junk
        try:
            return torch.load(name)
        except Exception as error:
            raise verify.DamagedCheckpoint(name, str(error)) from error

    found = []
    for bit in range(0, 8 * len(whole), step):
        path.write_bytes(flip(whole, bit))
        found.append(outcome(path, load, state))
    assert "refused" in found and "harmless" in found


def test_the_part_is_named(saved, tmp_path):
    whole, path = (saved / "checkpoint_last.pt").read_bytes(), tmp_path / "damaged.pt"
    path.write_bytes(flip(whole, 8 * whole.index(b"optimizer_history")))
    assert verify.damage(path) == "its part data.pkl is not what was written"
    path.write_bytes(whole[: len(whole) // 2])
    assert verify.damage(path) == "its table of contents is not what was written"
    attributes = whole.index(b"PK\x01\x02") + 38  # of the first part, in the table of contents
    path.write_bytes(flip(whole, 8 * attributes + 4))
    assert verify.damage(path) == "its part data.pkl is marked as a folder"
    path.write_bytes(whole)
    assert verify.damage(path) is None


def test_the_old_format_passes(saved, tmp_path):
    path, state = tmp_path / "old.pt", cli.load(saved / "checkpoint_last.pt")
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert equal(checkpoint_utils.load_checkpoint_to_cpu(str(path))["model"], state["model"])


def test_verifying_can_be_left_out(saved, tmp_path, monkeypatch, caplog):
    path = tmp_path / "damaged.pt"
    state = cli.load(saved / "checkpoint_last.pt")
    shutil.copy(str(saved / "checkpoint_last.pt"), str(path))
    content = path.read_bytes()
    weights = max(state["model"].values(), key=torch.numel)
    path.write_bytes(flip(content, 8 * content.index(weights.numpy().tobytes()) + 5))
    with pytest.raises(FeedbackError, match="its part data/"):
        checkpoint_utils.load_checkpoint_to_cpu(str(path))
    monkeypatch.setenv(verify.SKIP, "1")
    with caplog.at_level(logging.WARNING):
        changed = checkpoint_utils.load_checkpoint_to_cpu(str(path))["model"]
    assert not equal(changed, state["model"])
    assert f"{verify.SKIP} is set: {path} is not verified" in caplog.text


def test_remote_names_are_left_to_fairseq(monkeypatch):
    asked = []
    monkeypatch.setattr(PathManager, "path_requires_pathmanager", staticmethod(lambda path: True))
    monkeypatch.setattr(verify, "verify", asked.append)
    with pytest.raises(FileNotFoundError):
        checkpoint_utils.load_checkpoint_to_cpu("elsewhere://checkpoint.pt")
    assert asked == []


def test_commands_refuse_a_flipped_bit(saved, data, folder, tmp_path):
    content, path = (saved / "checkpoint_best.pt").read_bytes(), tmp_path / "flipped.pt"
    path.write_bytes(flip(content, 4 * len(content)))
    done = cli.run("generate", *cli.generate_flags(data, path), check=False, log=folder / "log")
    line = cli.last_line(done.stderr)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert line.startswith(f"error: checkpoint {path} is damaged, its part data/")


@pytest.mark.parametrize("size", [0, 1000], ids=["empty", "cut"])
def test_resuming_names_the_newest_whole_one(saved, data, folder, size):
    name = f"resumed{size}"
    shutil.copytree(str(saved), str(folder / name))
    last, best = folder / name / "checkpoint_last.pt", folder / name / "checkpoint_best.pt"
    older, newer = folder / name / "checkpoint_1_2.pt", folder / name / "checkpoint_1_4.pt"
    for age, path in enumerate((last, best, newer, older)):  # best is damaged, too
        os.utime(str(path), (1e9 - age, 1e9 - age))
    for path in (last, best):
        path.write_bytes(path.read_bytes()[:size])
    done = train(folder, data, name, check=False)
    line = cli.last_line(done.stderr)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"{last} is damaged" in line and line.endswith(f"is taken by --restore-file {newer}")
    resumed = train(folder, data, name, "--restore-file", newer, updates=6)
    assert f"Loaded checkpoint {newer} (epoch 1 @ 4 updates)" in resumed.stdout
    assert verify.damage(last) is None and verify.newest_whole(str(folder / name))


def test_nothing_whole_beside_it(saved, data, folder):
    (folder / "alone").mkdir()
    path = folder / "alone" / "checkpoint_last.pt"
    path.write_bytes((saved / "checkpoint_last.pt").read_bytes()[:1000])
    line = cli.last_line(train(folder, data, "alone", check=False).stderr)
    assert str(path) in line and line.endswith("No checkpoint beside it is whole.")
