"""Training with two data-parallel workers, on CPU through gloo."""

import os
import subprocess
import sys
from types import SimpleNamespace

import cli
import pytest
import torch
from trained import assert_equal

import fairseq_feedback  # noqa: F401  lets torch read the types in its checkpoints
from fairseq_feedback import errors


@pytest.fixture(scope="module")
def data(folder):
    # 5 batches of 8: two workers make 3 updates of them, and in the third one worker has nothing.
    return cli.make_data(folder)


def train(folder, data, name, *more, check=True, **flags):
    """One worker -> what it printed."""
    flags = cli.train_flags(data, folder / name, *more, **flags)
    return cli.run("train", *flags, check=check, log=folder / "log")


# fairseq's pytorch_ddp asks for a GPU; this does not.
PYTORCH_DDP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ddp_on_a_cpu.py")


def train_by_two(folder, data, name, *more, check=True, flags_of=cli.train_flags, command="train", **flags):
    """Two workers -> what they printed."""
    ddp = "legacy_ddp" if command == "train" else "pytorch_ddp"
    workers = cli.start_two(command, flags_of(data, folder / name, *more, **flags), ddp, log=folder / "log")
    done = [worker.wait(check=False) for worker in workers]
    if check:
        for worker in done:
            assert worker.returncode == 0, worker.stderr[-3000:]
    return done


def train_by_torchrun(folder, data, name, *more):
    command = ["-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port", cli.free_port()]
    command += ["-m", "fairseq_cli.train", *cli.train_flags(data, folder / name, *more)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": cli.ROOT}
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cli.ROOT, env=env, timeout=300)


def test_torchrun(folder, data):
    flags = ["--distributed-world-size", 2, "--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"]
    done = train_by_torchrun(folder, data, "torchrun")
    sentence = "error: 2 processes were started, and each would train alone: give " + " ".join(map(str, flags))
    assert done.returncode != 0 and sentence in done.stderr.splitlines()
    done = train_by_torchrun(folder, data, "torchrun", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    train_by_two(folder, data, "by_hand")
    assert_equal(dict(load(folder, "torchrun")["model"]), dict(load(folder, "by_hand")["model"]))


def test_a_sentence_is_one_write(monkeypatch):
    """Of two processes without a buffer (PYTHONUNBUFFERED) the lines would mix."""
    writes = []
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=writes.append))
    errors.say("give a flag")
    assert writes == ["error: give a flag\n"]


def load(folder, name):
    return cli.load(folder / name / "checkpoint_last.pt")


@pytest.mark.parametrize("more", [[], ["--unshared-memory-kv"]], ids=["shared", "unshared"])
def test_two_workers_equal_one_with_twice_the_batches(folder, data, more):
    name = "unshared" if more else "shared"
    more = [*more, "--dropout", 0, "--optimizer", "sgd", "--lr", 0.5]
    one = train(folder, data, name + "1", *more, "--update-freq", 2)
    two, silent = train_by_two(folder, data, name + "2", *more)
    assert "training on 2 devices" in two.stdout
    statistics = [cli.logged(done.stdout, "train_inner") for done in (one, two)]
    for a, b in zip(*statistics):
        for key in ("loss", "nll_loss", "gnorm", "lr", "bsz", "num_updates"):
            assert float(a[key]) == pytest.approx(float(b[key]), abs=2e-3), key
    assert [s["bsz"] for s in statistics[1]].count("8") == 2  # the odd batch of either epoch
    assert cli.logged(silent.stdout, "train_inner") == []
    expected, got = load(folder, name + "1")["model"], load(folder, name + "2")["model"]
    assert expected.keys() == got.keys()
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], rtol=0, atol=2e-6)


def test_two_workers_resume_with_layers_dropped(folder, data):
    # Only the first worker saves. Had their weights come apart, the resumed run would differ.
    more = ["--dropout", 0.2, "--decoder-layerdrop", 0.5, "--encoder-layerdrop", 0.3]
    whole, _ = train_by_two(folder, data, "whole", *more, updates=5)
    train_by_two(folder, data, "resumed", *more, updates=2)
    resumed, _ = train_by_two(folder, data, "resumed", *more, updates=5)
    assert cli.losses(resumed.stdout) == cli.losses(whole.stdout)[2:]
    expected, got = load(folder, "whole"), load(folder, "resumed")
    for key, value in expected["model"].items():
        assert torch.equal(got["model"][key], value), key
    states = [state["last_optimizer_state"]["state"] for state in (expected, got)]
    assert states[0].keys() == states[1].keys()
    for key, moments in states[0].items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(states[1][key][name], moments[name])


LAYERDROP = ["--decoder-layerdrop", 0.5, "--encoder-layerdrop", 0.3, "--update-freq", 2, "--dropout", 0]


def test_pytorch_ddp_with_layers_dropped(folder, data):
    """Gradients of several batches are summed as the other kind of data-parallel training sums them."""
    more = [*LAYERDROP, "--optimizer", "sgd", "--lr", 0.5]
    train_by_two(folder, data, "legacy", *more, updates=4)
    train_by_two(folder, data, "pytorch", *more, "--find-unused-parameters", command=PYTORCH_DDP, updates=4)
    expected, got = load(folder, "legacy")["model"], load(folder, "pytorch")["model"]
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "arch, flags",
    [
        ("feedback_transformer_tiny", LAYERDROP),
        ("feedback_transformer_tiny", ["--decoder-layerdrop", 0.5]),
        ("transformer", LAYERDROP),
    ],
    ids=["feedback", "decoder alone", "transformer"],
)
def test_pytorch_ddp_says_what_dropped_layers_need(folder, data, arch, flags):
    done = train_by_two(folder, data, "refused", *flags, command=PYTORCH_DDP, check=False, arch=arch)
    for rank, worker in enumerate(done):
        assert worker.returncode != 0 and "Traceback" not in worker.stderr
        line = cli.last_line(worker.stderr)
        assert line.startswith(f"[rank{rank}]: error: --encoder-layerdrop") and "--find-unused-parameters" in line


def test_workers_share_the_streams_of_a_language_model(folder):
    """Two workers, or two batches an update: the same streams, so the same training."""
    text = cli.make_text(folder)
    more = ["--attention-dropout", 0, "--activation-dropout", 0, "--optimizer", "sgd", "--lr", 0.5]
    flags = cli.train_lm_flags(text, folder / "streams1", *more, "--update-freq", 2, updates=12)
    one = cli.run("train", *flags, log=folder / "log")
    two, _ = train_by_two(folder, text, "streams2", *more, flags_of=cli.train_lm_flags, updates=12)
    assert "8 streams" in one.stdout + one.stderr and "8 streams" in two.stdout + two.stderr
    statistics = [cli.logged(done.stdout, "train_inner") for done in (one, two)]
    assert len(statistics[0]) == len(statistics[1]) == 12
    for a, b in zip(*statistics):
        for key in ("loss", "wpb", "gnorm", "num_updates"):
            assert float(a[key]) == pytest.approx(float(b[key]), abs=2e-3), key
    expected, got = load(folder, "streams1")["model"], load(folder, "streams2")["model"]
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], rtol=0, atol=2e-6)


def test_random_offsets_are_the_same_for_all_workers(folder):
    """Over three epochs of two workers, stopped in the second, as one worker with two batches an update."""
    text = cli.make_text(folder, "offset-text")
    more = ["--attention-dropout", 0, "--activation-dropout", 0, "--optimizer", "sgd", "--lr", 0.1, "--random-offset"]
    flags = cli.train_lm_flags(text, folder / "offsets1", *more, "--update-freq", 2, updates=14)
    one = cli.run("train", *flags, log=folder / "log")
    found = []
    for updates in (8, 14):
        done, _ = train_by_two(folder, text, "offsets2", *more, flags_of=cli.train_lm_flags, updates=updates)
        found += cli.logged(done.stdout, "train_inner")
    expected = cli.logged(one.stdout, "train_inner")
    assert expected[-1]["epoch"] == found[-1]["epoch"] and len({stats["epoch"] for stats in expected}) == 3
    assert [stats["wpb"] for stats in found] == [stats["wpb"] for stats in expected]
    for a, b in zip(found, expected):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), abs=0.02)


def test_a_language_model_resumes_in_mid_epoch(folder):
    """The first worker finds its memory in the checkpoint, the other replays the text before."""
    text = cli.make_text(folder, "resumed-text")
    whole, _ = train_by_two(folder, text, "lm-whole", flags_of=cli.train_lm_flags, updates=8)
    train_by_two(folder, text, "lm-resumed", flags_of=cli.train_lm_flags, updates=4)
    resumed, _ = train_by_two(folder, text, "lm-resumed", flags_of=cli.train_lm_flags, updates=8)
    said = resumed.stdout + resumed.stderr
    assert "the carried memory of 4 streams is that of the checkpoint" in said
    assert "of the other workers' 4 it is rebuilt by replaying the text before" in said
    assert cli.losses(resumed.stdout) == pytest.approx(cli.losses(whole.stdout)[4:], abs=0.05)


def test_a_language_model_resumes_with_more_workers_and_with_fewer(folder):
    """What the second worker's streams were when the first stopped alone is no longer their memory."""
    text = cli.make_text(folder, "changing-text")
    flags = {updates: cli.train_lm_flags(text, folder / "changing", "--update-freq", 2, updates=updates)
             for updates in (3, 9)}  # fmt: skip
    alone = cli.train_lm_flags(text, folder / "alone", "--update-freq", 2, updates=9)
    whole = cli.run("train", *alone, log=folder / "log")
    cli.run("train", *flags[3], log=folder / "log")
    train_by_two(folder, text, "changing", flags_of=cli.train_lm_flags, updates=6)
    rest = cli.run("train", *flags[9], log=folder / "log")
    said = rest.stdout + rest.stderr
    assert "the carried memory of 4 streams is that of the checkpoint; of the other workers' 4 it is rebuilt" in said
    assert cli.losses(rest.stdout) == pytest.approx(cli.losses(whole.stdout)[6:], abs=0.05)


def test_a_mistake_of_two_workers_is_one_sentence(folder, data):
    done = train_by_two(folder, data, "mistake", "--memory-span", -1, check=False)
    for rank, worker in enumerate(done):
        assert worker.returncode != 0
        assert "Traceback" not in worker.stderr
        line = cli.last_line(worker.stderr)
        assert line.startswith(f"[rank{rank}]: error: --memory-span -1")
