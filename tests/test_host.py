"""fairseq on a current torch: hostile and damaged checkpoints, ways to import the package."""

import argparse
import os
import pickle
import random
import shutil
import sys
import tarfile
import zipfile

import cli
import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils

from fairseq_feedback import errors
from fairseq_feedback.errors import FeedbackError

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def checkpoint(folder, data):
    save_dir = folder / "checkpoints"
    cli.run("train", *cli.train_flags(data, save_dir, updates=1), log=folder / "log")
    return save_dir / "checkpoint_last.pt"


def load_error(path):
    """The one sentence with which the host refuses a checkpoint."""
    with pytest.raises(FeedbackError) as error:
        checkpoint_utils.load_checkpoint_to_cpu(str(path))
    assert_message(str(error.value), path)
    return str(error.value)


def assert_message(line, path):
    assert str(path) in line
    assert "\n" not in line
    # torch's own advice would run what the file says.
    assert "weights_only" not in line and "allowlist" not in line and "safe_globals" not in line


# Hostile


class RunsCommand:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"echo > '{self.path}'",)


class OpensFile:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def save_zip(state, path):
    torch.save(state, str(path))


def save_legacy(state, path):
    torch.save(state, str(path), _use_new_zipfile_serialization=False)


def save_pickle(state, path):
    with open(str(path), "wb") as f:
        pickle.dump(state, f)


def hide_in_extra_state(state, trap):
    return {**state, "extra_state": {**state["extra_state"], "best": trap}}


def hide_in_args(state, trap):
    return {**state, "args": argparse.Namespace(lr=trap)}


def only_the_trap(state, trap):
    return trap


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
@pytest.mark.parametrize("hide", [hide_in_extra_state, hide_in_args, only_the_trap])
@pytest.mark.parametrize("trap", [RunsCommand, OpensFile])
def test_hostile_checkpoint_is_not_run(checkpoint, tmp_path, trap, hide, save):
    path, proof = tmp_path / "hostile.pt", tmp_path / "proof"
    save(hide(cli.load(checkpoint), trap(proof)), path)
    message = load_error(path)
    assert "nothing in it was run" in message
    assert not proof.exists()


def test_the_trap_works(checkpoint, tmp_path):
    path, proof = tmp_path / "hostile.pt", tmp_path / "proof"
    for trap in (RunsCommand, OpensFile):
        save_zip(hide_in_extra_state(cli.load(checkpoint), trap(proof)), path)
        torch.load(str(path), weights_only=False)
        assert proof.exists()
        proof.unlink()


def test_the_reason_is_named(checkpoint, tmp_path):
    path = tmp_path / "hostile.pt"
    save_zip(hide_in_extra_state(cli.load(checkpoint), RunsCommand("x")), path)
    assert "posix.system" in load_error(path) or "nt.system" in load_error(path)
    save_zip(hide_in_extra_state(cli.load(checkpoint), OpensFile("x")), path)
    assert "io.open" in load_error(path)


@pytest.mark.parametrize("command", ["generate", "train"])
def test_commands_refuse_a_hostile_checkpoint(folder, data, checkpoint, tmp_path, command):
    path, proof = tmp_path / "checkpoint_last.pt", tmp_path / "proof"
    save_zip(hide_in_extra_state(cli.load(checkpoint), RunsCommand(proof)), path)
    hostile = path.read_bytes()
    if command == "generate":
        done = cli.shell(command, *cli.generate_flags(data, path), check=False)
    else:
        done = cli.run(command, *cli.train_flags(data, tmp_path), check=False, log=folder / "log")
    line = cli.last_line(done.stderr)
    assert done.returncode != 0
    assert line.startswith("error: ") and "nothing in it was run" in line
    assert_message(line, path)
    assert "Traceback" not in done.stderr and "weights_only" not in done.stderr
    assert not proof.exists()
    assert [p.name for p in tmp_path.glob("*.pt*")] == [path.name]
    assert path.read_bytes() == hostile


# Damaged


def cut(content, size):
    return content[:size]


def flip(content, start, length=500):
    flipped = bytes(b ^ 0x55 for b in content[start : start + length])
    return content[:start] + flipped + content[start + length :]


def test_damaged_small_checkpoint(tmp_path):
    """Of a small file torch reads beyond the end, which the system refuses."""
    whole, path = tmp_path / "whole.pt", tmp_path / "damaged.pt"
    torch.save({"model": {str(i): torch.randn(30, 30) for i in range(8)}}, whole)
    content = whole.read_bytes()
    for part in range(1, 20):
        path.write_bytes(content[: len(content) * part // 20])
        assert "damaged" in load_error(path)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_damaged_checkpoint(checkpoint, tmp_path, save):
    path = tmp_path / "damaged.pt"
    save(cli.load(checkpoint), path)
    whole = path.read_bytes()
    size = len(whole)
    damaged = [cut(whole, n) for n in (0, 1, 10, 100, 1000, size // 2, size - 100, size - 1)]
    damaged += [flip(whole, 0), flip(whole, 100)]
    for content in damaged:
        path.write_bytes(content)
        load_error(path)
    path.write_bytes(whole)
    assert "model" in checkpoint_utils.load_checkpoint_to_cpu(str(path))


def test_what_is_no_checkpoint(checkpoint, tmp_path):
    path = tmp_path / "other.pt"
    for seed in range(20):
        path.write_bytes(bytes(random.Random(seed).choices(range(256), k=3000)))
        load_error(path)
    path.write_text("hello world\n")
    load_error(path)
    with zipfile.ZipFile(str(path), "w") as f:
        f.writestr("hello.txt", "world")
    load_error(path)
    with tarfile.open(str(path), "w") as f:
        f.add(str(checkpoint), "checkpoint.pt")
    load_error(path)
    # Saved by torch, but something else: the weights alone, say.
    for state in (cli.load(checkpoint)["model"], {"a": 1}, [1, 2], None, torch.zeros(3)):
        torch.save(state, str(path))
        load_error(path)


def test_a_missing_checkpoint_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.pt"):
        checkpoint_utils.load_checkpoint_to_cpu(str(tmp_path / "absent.pt"))


# Good


def test_good_checkpoint_is_loaded_by_the_safe_loader(checkpoint, monkeypatch):
    calls = []
    load = torch.load

    def spy(*args, **kwargs):
        calls.append((args, kwargs))
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", spy)
    state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))
    assert state["optimizer_history"][-1]["num_updates"] == 1
    ((args, kwargs),) = calls
    assert len(args) == 1  # pickle_module would be the third
    assert kwargs.get("weights_only") in (None, True) and "pickle_module" not in kwargs
    assert not os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")


def test_numbers_of_numpy_are_loaded(checkpoint, tmp_path):
    # fairseq keeps the statistics of a validation with --eval-bleu as they come.
    path = tmp_path / "numpy.pt"
    numbers = {"counts": np.array([3, 1]), "sum": np.array([0.5])}
    torch.save({**cli.load(checkpoint), "numbers": numbers}, str(path))
    loaded = checkpoint_utils.load_checkpoint_to_cpu(str(path))["numbers"]
    assert loaded["counts"].tolist() == [3, 1] and loaded["counts"].dtype == np.int64
    assert loaded["sum"].tolist() == [0.5]


def test_options_of_an_old_checkpoint_are_loaded(checkpoint, tmp_path):
    path = tmp_path / "old.pt"
    state = {**cli.load(checkpoint), "args": argparse.Namespace(arch="transformer"), "cfg": None}
    torch.save(state, str(path))
    assert checkpoint_utils.load_checkpoint_to_cpu(str(path))["args"].arch == "transformer"


# Imported by path and by name

IMPORTS = """
import argparse, os, sys
from fairseq import checkpoint_utils, utils
from fairseq.models import ARCH_MODEL_REGISTRY

def by_path(path):
    utils.import_user_module(argparse.Namespace(user_dir=path))

def by_name():
    import fairseq_feedback

def check():
    package = sys.modules["fairseq_feedback"]
    from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel
    assert ARCH_MODEL_REGISTRY["feedback_transformer_tiny"] is FeedbackTransformerModel
    assert os.path.samefile(os.path.dirname(package.__file__), package_dir)
    modules = [n for n in sys.modules if n.endswith("feedback_transformer")]
    assert modules == ["fairseq_feedback.models.feedback_transformer"], modules
    load = checkpoint_utils.load_checkpoint_to_cpu
    assert hasattr(load, "__wrapped__") and not hasattr(load.__wrapped__, "__wrapped__")
    assert sys.excepthook.prints_feedback_errors

package_dir = {package!r}
root, name = os.path.split(package_dir)
sys.path[:] = [root] + [p for p in sys.path if os.path.abspath(p) != root]
"""


def run_imports(folder, body, package=cli.PACKAGE, **options):
    path = folder / f"imports_{len(list(folder.glob('imports_*')))}.py"
    path.write_text(IMPORTS.format(package=package) + body)
    return cli.run_script(path, log=folder / "log", **options)


@pytest.mark.parametrize(
    "steps",
    [
        "by_name(); by_path(package_dir); by_path(package_dir)",
        "by_path(package_dir); by_name(); by_path(package_dir)",
        "os.chdir(root); by_path(name); by_name(); by_path(package_dir)",
        "os.chdir(root); by_name(); by_path(name); by_path(os.path.join('.', name))",
        "by_path(package_dir); utils.import_user_module.memo.clear(); by_path(package_dir)",
        "sys.path.insert(0, os.path.join(root, 'tests', '..')); by_name(); by_path(package_dir)",
    ],
)
def test_imported_by_path_and_by_name(folder, steps):
    run_imports(folder, steps + "\ncheck()\n")


def test_imported_by_a_spawned_worker(folder):
    # As fairseq does on several GPUs: a worker starts from nothing and imports --user-dir again.
    body = """
def work():
    by_path(package_dir)
    by_path(package_dir)
    check()

if __name__ == "__main__":
    import multiprocessing
    by_path(package_dir)
    worker = multiprocessing.get_context("spawn").Process(target=work)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
"""
    run_imports(folder, body)


def test_a_copy_elsewhere_is_refused(folder):
    copy = folder / "elsewhere" / "fairseq_feedback"
    shutil.copytree(cli.PACKAGE, str(copy))
    done = run_imports(folder, f"by_name()\nby_path({str(copy)!r})\n", check=False)
    assert done.returncode == 1
    line = cli.last_line(done.stderr)
    assert line.startswith(f"ImportError: Failed to import --user-dir={copy}")
    assert "not globally unique" in line


def test_what_the_package_declares_safe(folder):
    body = """
import torch
before = set(map(str, torch.serialization.get_safe_globals()))
by_name()
for kind in torch.serialization.get_safe_globals():
    if str(kind) not in before:
        print(kind.__module__.split(".")[0])
"""
    declared = run_imports(folder, body).stdout.split()
    assert "argparse" in declared
    assert set(declared) <= {"argparse", "fairseq", "numpy"}


# Mistakes in one sentence


@pytest.fixture
def previous_hook(monkeypatch):
    """A recorder in the place of Python's own hook."""
    calls = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: calls.append(args))
    return calls


def raised(function):
    try:
        function()
    except BaseException:
        return sys.exc_info()


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[/x/gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:4. This is typically …",
         "Connection closed by peer [10.0.0.2]:4"),
        ("[/x/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 8000ms for recv operation to complete",
         "Timed out waiting 8000ms for recv operation to complete"),
        ("[/x/gloo/transport/tcp/device.cc:83] ifa != nullptr. Unable to find address for: nosuch0", None),
        ("Connection closed by peer", None),
    ],
)  # fmt: skip
def test_a_lost_worker_is_one_sentence(text, reason):
    said = errors.of_a_lost_worker(RuntimeError(text))
    assert said is None if reason is None else said.startswith(f"another worker does not answer ({reason}), so this")


def mistake():
    raise FeedbackError("--memory-span -1: give a number")


def mistake_wrapped_by_the_host():
    try:
        mistake()
    except Exception:
        raise Exception("Cannot load model parameters")  # noqa: B904  as fairseq does


def mistake_as_the_cause():
    try:
        mistake()
    except Exception as error:
        raise RuntimeError("failed") from error


@pytest.mark.parametrize("function", [mistake, mistake_wrapped_by_the_host, mistake_as_the_cause])
def test_hook_prints_one_sentence(previous_hook, capsys, function):
    errors.install_hook()
    sys.excepthook(*raised(function))
    assert capsys.readouterr().err == "error: --memory-span -1: give a number\n"
    assert previous_hook == []


@pytest.mark.parametrize("kind", [ValueError, KeyError, KeyboardInterrupt])
def test_hook_leaves_other_errors_alone(previous_hook, capsys, kind):
    def fail():
        raise kind("other")

    errors.install_hook()
    args = raised(fail)
    sys.excepthook(*args)
    assert previous_hook == [args]
    assert capsys.readouterr().err == ""


def test_hook_is_installed_once(previous_hook):
    before = sys.excepthook
    errors.install_hook()
    first = sys.excepthook
    errors.install_hook()
    assert sys.excepthook is first is not before


def test_other_errors_keep_their_trace(folder):
    done = run_imports(folder, "by_name()\nraise KeyError('other')\n", check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert cli.last_line(done.stderr) == "KeyError: 'other'"
