"""--random-offset: blocks that begin elsewhere in each epoch, and training that goes on in the middle of one."""

import os

import cli
import pytest
import torch

pytestmark = pytest.mark.core

GROUPS = ["--random-offset", "--update-freq", 2]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offsets")
    return folder, cli.make_text(folder)


def train(text, name, *more, check=True, **options):
    folder, data = text
    flags = cli.train_lm_flags(data, folder / name, *more, **options)
    return cli.run("train", *flags, log=folder / "log", check=check)


def epochs(stdout):
    """Tokens of each update, by epoch."""
    found = {}
    for stats in cli.logged(stdout, "train_inner"):
        found.setdefault(int(stats["epoch"]), []).append(int(float(stats["wpb"])))
    return list(found.values())


def tokens_in(text):
    with open(os.path.join(text[0], "text-raw", "train.xx")) as f:
        return sum(len(line.split()) + 1 for line in f)


def test_every_epoch_has_other_blocks_and_all_tokens(text):
    """The end of the epoch is where the iterator says it is, though epochs differ in their number of blocks."""
    more = ["--random-offset", "--tokens-per-sample", 9, "--max-epoch", 6]
    found = epochs(train(text, "epochs", *more, updates=1000).stdout)
    assert len(found) == 6 and len({epoch[0] for epoch in found}) >= 3
    for epoch in found:
        assert sum(epoch) == tokens_in(text)
        assert epoch[0] % 4 == 0 and 4 <= epoch[0] <= 36, "the first block of 4 streams"
        assert set(epoch[1:-1]) == {36}, "all others are whole"
    assert len({len(epoch) for epoch in found}) == 2
    assert epochs(train(text, "again", *more, updates=1000).stdout) == found
    assert epochs(train(text, "other", *more, "--seed", 2, updates=1000).stdout) != found


def test_validation_has_the_blocks_that_it_always_had(text):
    more = ["--lr", 1e-12, "--max-epoch", 1]
    done = [train(text, name, *more, *flag, updates=1000) for name, flag in [("on", ["--random-offset"]), ("off", [])]]
    losses = [float(cli.logged(run.stdout, "valid")[-1]["valid_loss"]) for run in done]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("epoch", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_resumed_is_as_uninterrupted(text, epoch):
    """To the bit, with two batches an update, in the middle of the first epoch and of the second."""
    name = f"resumed-{epoch}"
    whole = train(text, f"whole-{epoch}", *GROUPS, "--max-epoch", 3, updates=1000)
    length = len(epochs(whole.stdout)[0])
    stop = length // 2 + (length if epoch == 2 else 0)
    first = train(text, name, *GROUPS, updates=stop)
    resumed = train(text, name, *GROUPS, "--max-epoch", 3, updates=1000)
    assert cli.losses(first.stdout) + cli.losses(resumed.stdout) == cli.losses(whole.stdout)
    expected, got = (cli.load(text[0] / n / "checkpoint_last.pt")["model"] for n in (f"whole-{epoch}", name))
    for key in expected:
        assert torch.equal(got[key], expected[key]), key


@pytest.mark.parametrize("more", [["--random-offset", "--seed", 2], []], ids=["seed", "without"])
def test_other_blocks_in_mid_epoch_are_refused(text, more):
    name = "refused" + str(len(more))
    train(text, name, "--random-offset", updates=3)
    done = train(text, name, *more, updates=6, check=False)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "give the same --seed, and --random-offset as before; or --reset-dataloader" in cli.last_line(done.stderr)
