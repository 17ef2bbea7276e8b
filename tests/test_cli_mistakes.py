"""What users see who type something wrong."""

import glob
import os
import shutil

import cli
import pytest
from trained import assert_equal, generate, train

pytestmark = pytest.mark.core


def assert_mistake(done, *names):
    """It failed, and the last that it said is one sentence of ours with these names in it."""
    line = cli.last_line(done.stderr)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert line.startswith("error: ")
    for name in names:
        assert str(name) in line
    return line


def left_behind(folder):
    return glob.glob(os.path.join(str(folder), "*.pt*"))


@pytest.mark.parametrize(
    "names, more",
    [
        (["--memory-span -1"], ["--memory-span", -1]),
        (
            ["--decoder-attention-heads 3", "--decoder-embed-dim 16"],
            ["--decoder-attention-heads", 3],
        ),
        (["--dropout 1.5"], ["--dropout", 1.5]),
        (["--quant-noise-pq"], ["--quant-noise-pq", 0.1]),
        (["--cross-self-attention"], ["--cross-self-attention"]),
        (["--base-layers"], ["--base-layers=1"]),
    ],
    ids=lambda value: value[0].split()[0].strip("-"),
)
def test_impossible_options(made, names, more):
    done = train(made, "mistake", *more, check=False)
    line = assert_mistake(done, *names)
    if len(more) == 1 or more[0].startswith("--quant"):
        assert "not supported by feedback_transformer" in line
    assert left_behind(made.folder / "mistake") == []


def test_a_mistake_in_a_process_of_its_own(made):
    flags = cli.train_flags(made.data, made.folder / "mistake", "--memory-span", -1)
    assert_mistake(cli.shell("train", *flags, check=False), "--memory-span -1")


def test_unknown_activation(made):
    done = train(made, "mistake", "--activation-fn", "nonsense", check=False)
    assert done.returncode == 2
    assert "argument --activation-fn: invalid choice: 'nonsense'" in cli.last_line(done.stderr)
    assert left_behind(made.folder / "mistake") == []


def test_checkpoint_cut_in_half(made):
    folder = made.folder / "cut"
    folder.mkdir()
    path = folder / "checkpoint_last.pt"
    half = made.checkpoint.read_bytes()[: made.checkpoint.stat().st_size // 2]
    path.write_bytes(half)
    assert "damaged" in assert_mistake(generate(made, path=path, check=False), path)
    assert "damaged" in assert_mistake(train(made, "cut", check=False), path)
    assert left_behind(folder) == [str(path)]
    assert path.read_bytes() == half


def test_data_with_another_dictionary(made):
    other = cli.make_data(made.folder / "other", words=cli.WORDS[:5])
    sizes = ["dictionary has 24 entries, the data's has 16", "dict.*.txt"]
    flags = cli.generate_flags(other, made.checkpoint)
    assert_mistake(cli.run("generate", *flags, check=False, log=made.log), *sizes)
    shutil.copytree(str(made.checkpoint.parent), str(made.folder / "other" / "save"))
    before = cli.load(made.checkpoint)["model"]
    flags = cli.train_flags(other, made.folder / "other" / "save", updates=200)
    assert_mistake(cli.run("train", *flags, check=False, log=made.log), *sizes)
    after = cli.load(made.folder / "other" / "save" / "checkpoint_last.pt")["model"]
    assert_equal(dict(after), dict(before))


@pytest.mark.parametrize("command", ["generate", "interactive"])
def test_source_too_long(made, command):
    flags = cli.generate_flags(made.data, made.checkpoint, "--max-source-positions", 4)
    flags += ["--buffer-size", 4] if command == "interactive" else []
    stdin = "ba be bi bo bu da\n"
    done = cli.run(command, *flags, stdin=stdin, check=False, log=made.log)
    assert_mistake(done, "is invalid", "max_positions=(4, 1024)", "--skip-invalid-size-inputs")


def test_wrong_user_dir(made):
    """The host's own message, which ends a trace: nothing of ours is loaded."""
    flags = cli.train_flags(made.data, made.folder / "mistake", "--user-dir", "/no/such/folder")
    done = cli.run("train", *flags, check=False, log=made.log)
    assert done.returncode != 0
    assert "/no/such/folder" in cli.last_line(done.stderr)
    assert left_behind(made.folder / "mistake") == []
