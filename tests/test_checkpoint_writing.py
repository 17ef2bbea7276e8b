"""Full disks, kills and second trainings: what has a checkpoint's name is whole."""

import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import time

import cli
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager
from test_workers import train_by_two

from fairseq_feedback.checkpoints import begin, saving, verify
from fairseq_feedback.errors import FeedbackError

pytestmark = pytest.mark.core
EVERY_2 = ["--save-interval-updates", 2, "--disable-validation"]


@pytest.fixture(scope="module")
def size(folder, data):
    """Bytes of a checkpoint."""
    train(folder, data, "measured", updates=1)
    return os.path.getsize(str(folder / "measured" / "checkpoint_last.pt"))


@pytest.fixture
def disk(tmp_path, size):
    """A folder on a disk for the files of one save, the next one's first, and half a checkpoint more."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size * 7 // 2}", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk cannot be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def flags(data, save_dir, *more, **options):
    return cli.train_flags(data, save_dir, *EVERY_2, *more, **options)


def train(folder, data, name, *more, check=True, **options):
    return cli.run("train", *flags(data, folder / name, *more, **options), check=check, log=folder / "log")


def names(path):
    """What is in a folder, all of it whole."""
    found = sorted(name for name in os.listdir(str(path)) if name != begin.LOCK)
    for name in found:
        assert name.endswith(".pt") and verify.damage(path / name) is None, name
        assert "last_optimizer_state" in cli.load(path / name)
    return found


def fill(path, left):
    """Leave so many bytes of a disk free."""
    free = os.statvfs(str(path))
    with open(str(path / "filler"), "wb") as f:
        f.write(bytes(free.f_bavail * free.f_frsize - left))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def said(started, text):
    return lambda: text in started._said("out") + started._said("err")


def one_sentence(done, *parts):
    line = cli.last_line(done.stderr)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "error: " in line
    for part in parts:
        assert str(part) in line
    return line


def updates_of(path):
    return cli.load(path)["optimizer_history"][-1]["num_updates"]


# Full disks


def test_a_full_disk_stops_training_and_loses_nothing(disk, data, tmp_path):
    # The third file of the second save is one too many: a copy.
    done = train(tmp_path, data, disk, updates=6, check=False)
    assert names(disk) == ["checkpoint_1_2.pt", "checkpoint_1_4.pt", "checkpoint_last.pt"]
    newest = disk / "checkpoint_1_4.pt"
    one_sentence(
        done, f"checkpoint {disk}/checkpoint_last.pt was not written", os.strerror(errno.ENOSPC), f"folder {disk}",
        f"The last whole one is {newest}", f"--restore-file {newest}",
    )  # fmt: skip
    assert (updates_of(disk / "checkpoint_last.pt"), updates_of(newest)) == (2, 4)
    os.remove(str(disk / "checkpoint_1_2.pt"))
    train(tmp_path, data, disk, "--restore-file", newest, "--keep-interval-updates", 1, updates=5)
    assert names(disk) and updates_of(disk / "checkpoint_last.pt") == 5


def test_a_disk_that_is_full_for_a_moment(disk, data, tmp_path, size):
    train(tmp_path, data, disk, updates=2)
    fill(disk, left=size // 2)
    more = flags(data, disk, "--no-last-checkpoints", updates=4)
    training = cli.start("train", *more, log=tmp_path / "log")
    wait_for(said(training, "trying again in"))
    os.remove(str(disk / "filler"))
    assert training.wait().returncode == 0
    assert names(disk) == ["checkpoint_1_2.pt", "checkpoint_1_4.pt", "checkpoint_last.pt"]
    assert updates_of(disk / "checkpoint_1_4.pt") == 4


def test_a_limit_on_the_size_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "WAITS", ())
    path = tmp_path / "checkpoint_last.pt"
    checkpoint_utils.torch_persistent_save({"a": torch.zeros(10)}, str(path))
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(FeedbackError) as error:
            checkpoint_utils.torch_persistent_save({"a": torch.zeros(100_000)}, str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{path} was not written" in str(error.value) and os.strerror(errno.EFBIG) in str(error.value)
    assert path.read_bytes() == before and os.listdir(str(tmp_path)) == [path.name]


def test_a_folder_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "WAITS", ())
    with pytest.raises(FeedbackError, match="No checkpoint in it is whole"):
        saving.save({}, tmp_path / "gone" / "checkpoint_last.pt")


def test_what_cannot_be_saved_is_not_the_disks_fault(tmp_path):
    with pytest.raises(Exception, match="pickle"):
        checkpoint_utils.torch_persistent_save({"a": lambda: 0}, str(tmp_path / "a.pt"))
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("copies", [False, True], ids=["first", "copy"])
def test_what_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch, copies):
    monkeypatch.setattr(saving, "WAITS", ())
    source, path = tmp_path / "checkpoint_1_2.pt", tmp_path / "checkpoint_last.pt"
    for name in (source, path):
        saving.save({"a": torch.zeros(1000)}, name)
    before, fsync = path.read_bytes(), os.fsync

    def damaging(fd):
        fsync(fd)
        os.pwrite(fd, b"x", os.fstat(fd).st_size // 2)

    monkeypatch.setattr(os, "fsync", damaging)
    with pytest.raises(FeedbackError, match="it reads back damaged, its part data/"):
        if copies:
            PathManager.copy(str(source), str(path), overwrite=True)
        else:
            saving.save({"a": torch.ones(1000)}, path)
    assert path.read_bytes() == before
    assert sorted(os.listdir(str(tmp_path))) == [source.name, path.name]


KILLED = """
import os, sys, time
sys.path.insert(0, {root!r})
import torch
import fairseq_feedback
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager
os.fsync = lambda fd: time.sleep(60)  # a slow disk
path = {path!r}
if {copies}:
    PathManager.copy({source!r}, path, overwrite=True)
else:
    checkpoint_utils.torch_persistent_save({{"a": torch.ones(100000)}}, path)
"""


@pytest.mark.parametrize("copies", [False, True], ids=["first", "copy"])
def test_a_kill_leaves_the_old_file(tmp_path, copies):
    source, path, part = (tmp_path / name for name in ("a.pt", "checkpoint_last.pt", "checkpoint_last.pt.part"))
    for name in (source, path):
        saving.save({"a": torch.zeros(100)}, name)
    before = path.read_bytes()
    (tmp_path / "killed.py").write_text(KILLED.format(root=cli.ROOT, path=str(path), source=str(source), copies=copies))
    writing = cli.start(str(tmp_path / "killed.py"), log=tmp_path / "log")
    wait_for(part.exists)
    os.kill(writing.process.pid, signal.SIGKILL)
    writing.process.join()
    assert path.read_bytes() == before
    trainer = torch.nn.Module()
    begin.lock(str(tmp_path), trainer)  # the next training begins
    assert not part.exists() and path.read_bytes() == before


def test_workers_stop_together(disk, data, tmp_path, size):
    train(tmp_path, data, disk, updates=1)
    fill(disk, left=size // 2)
    writer, other = train_by_two(tmp_path, data, disk, *EVERY_2, updates=4, check=False)
    os.remove(str(disk / "filler"))
    one_sentence(writer, "was not written", "The last whole one is")
    one_sentence(other, "another worker could not go on")
    assert names(disk)


# Trainings one after the other, and at once

TWICE = """
import gc, sys
from fairseq_cli import train

for flags in {flags!r}:
    sys.argv = ["train", *flags]
    train.cli_main()
    gc.collect()
    from fairseq_feedback.checkpoints import begin
    assert begin._held.closed
"""


def test_a_second_training_in_one_process(data, tmp_path):
    """It has a best checkpoint and patience of its own, though it is the worse one."""
    more = ["--patience", 1, "--validate-interval-updates", 1]
    first = cli.train_flags(data, tmp_path / "first", *more, updates=20)
    second = cli.train_flags(data, tmp_path / "second", *more, "--lr", 0, updates=3)
    (tmp_path / "twice.py").write_text(TWICE.format(flags=[list(map(str, flags)) for flags in (first, second)]))
    cli.run_script(tmp_path / "twice.py", log=tmp_path / "log")
    assert (tmp_path / "first" / "checkpoint_best.pt").exists()
    assert (tmp_path / "second" / "checkpoint_best.pt").exists()
    # Its second validation is not better than its first. None is better than the first training's.
    assert updates_of(tmp_path / "second" / "checkpoint_last.pt") == 2


def test_two_trainings_in_one_folder(data, tmp_path):
    more = flags(data, tmp_path / "save", updates=100_000)
    first = cli.start("train", *more, "--no-save-optimizer-state", log=tmp_path / "log")
    wait_for(said(first, "Finished saving"))
    second = train(tmp_path, data, "save", updates=2, check=False)
    writer = f"another training writes there (process {first.process.pid} on"
    one_sentence(second, f"--save-dir {tmp_path / 'save'}: {writer}")
    train(tmp_path, data, "save", "--no-save", updates=2)  # writes nothing, so disturbs nobody
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.join()
    train(tmp_path, data, "save", "--reset-optimizer", "--reset-dataloader", updates=1)


def test_a_training_that_has_ended_leaves_the_folder(tmp_path):
    free = f"import fcntl; fcntl.lockf(open({str(tmp_path / begin.LOCK)!r}, 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"

    def is_free():
        return subprocess.run(["python3", "-c", free], capture_output=True).returncode == 0

    trainer = torch.nn.Module()
    begin.lock(str(tmp_path), trainer)
    assert not is_free()
    following = torch.nn.Module()
    begin.lock(str(tmp_path), following)
    del trainer
    assert not is_free()
    del following
    assert is_free()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    begin.lock(str(tmp_path), torch.nn.Module())


def test_writing_in_the_background_is_refused(data, tmp_path):
    done = train(tmp_path, data, "save", "--write-checkpoints-asynchronously", check=False)
    one_sentence(done, "--write-checkpoints-asynchronously")
