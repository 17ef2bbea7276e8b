"""A small translation model, made by the commands that users type, and what its tests ask of it."""

import re
from types import SimpleNamespace

import cli
import pytest
import torch
from fairseq import checkpoint_utils
from helpers import OLD_FAIRSEQ


def make(folder):
    """Data and a checkpoint, trained in a process that starts with nothing."""
    data, save_dir, log = folder / "data", folder / "checkpoints", folder / "log"
    cli.make_data(folder)
    flags = cli.train_flags(data, save_dir, "--update-freq", 2, updates=70)
    training = cli.shell("train", *flags).stdout
    checkpoint = save_dir / "checkpoint_last.pt"
    generation = cli.run("generate", *cli.generate_flags(data, checkpoint), log=log).stdout
    return SimpleNamespace(
        folder=folder,
        data=data,
        log=log,
        training=training,
        checkpoint=checkpoint,
        generation=generation,
    )


def train(made, name, *more, check=True, **flags):
    flags = cli.train_flags(made.data, made.folder / name, *more, **flags)
    return cli.run("train", *flags, check=check, log=made.log)


def generate(made, *more, path=None, check=True):
    flags = cli.generate_flags(made.data, path or made.checkpoint, *more)
    return cli.run("generate", *flags, check=check, log=made.log)


def load(made, name):
    return cli.load(made.folder / name / "checkpoint_last.pt")


def load_model(path, **overrides):
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], overrides)
    return model.eval(), task


def assert_same_hypotheses(got, expected, tolerance=2e-4):
    """Both as cli.best gives them. The tolerance is that of the printed scores."""
    assert got.keys() == expected.keys()
    for i, (score, text) in expected.items():
        assert got[i][1] == text
        assert got[i][0] == pytest.approx(score, abs=tolerance)


def references(made):
    with open(made.folder / "raw" / "test.yy") as f:
        return f.read().splitlines()


def sources(made):
    with open(made.folder / "raw" / "test.xx") as f:
        return f.read().splitlines()


def are_rounded(path, dtype):
    """Whether the weights were of that type in training: fairseq saves them as float32."""
    weights = [value for value in cli.load(path)["model"].values() if value.is_floating_point()]
    return all(torch.equal(value, value.to(dtype).to(value.dtype)) for value in weights)


# A tensor never given a value, and second copies of the encoder's weights, made when a checkpoint is loaded.
IDLE_IN_OLD_FAIRSEQ = r"_float_tensor$|^encoder\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)$"


def is_idle(key):
    return OLD_FAIRSEQ and bool(re.search(IDLE_IN_OLD_FAIRSEQ, str(key)))


def assert_equal(got, expected):
    assert type(got) is type(expected)
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key in expected:
            if not is_idle(key):
                assert_equal(got[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(got) == len(expected)
        for pair in zip(got, expected):
            assert_equal(*pair)
    elif torch.is_tensor(expected):
        assert torch.equal(got, expected)
    else:
        assert got == expected
