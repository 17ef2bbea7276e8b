"""Long runs: memory stays flat, and what was killed goes on as if nothing had happened.

bash scripts/test.sh -m slow -n 0 -s tests/test_soak.py      # 20 minutes, then a table
"""

import argparse
import random
import re
import time
from pathlib import Path

import cli
import pytest
import torch
from helpers import needs_current_fairseq
from trained import assert_equal, load_model

pytestmark = [pytest.mark.slow, needs_current_fairseq]

UPDATES, LINES, CALLS, KILLS = 3000, 200_000, 2000, 100
MORE = 8  # MB that a process may have more in the second half of its work than it had at most in the first
TABLE = []
# fairseq makes the batches once, from the number of the epoch it starts in, unless it is told otherwise.
EXACT = ("--update-epoch-batch-itr", True, "--dropout", 0.2)
STREAMS = ("--attention-dropout", 0.2, "--random-offset")
TRAININGS = {"translation": (cli.train_flags, EXACT), "language model": (cli.train_lm_flags, STREAMS)}


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    print("\n| what | |\n|---|---|")
    for row in TABLE:
        print("| " + " | ".join(row) + " |")


@pytest.fixture(scope="module")
def corpora(folder):
    sizes = dict(train=300, valid=16, test=8)
    return {"translation": cli.make_data(folder, **sizes), "language model": cli.make_text(folder, **sizes)}


def resident(pid="self"):
    """MB."""
    return int(re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) // 1024


def note_flat(what, curve):
    """`curve`: (work done, MB), from a fifth of the work on."""
    shown = [curve[len(curve) * k // 5] for k in range(5)] + [curve[-1]]
    TABLE.append((what, ", ".join(f"{mb} MB after {done:,}" for done, mb in shown)))
    sizes = [mb for _, mb in curve]
    assert max(sizes[len(sizes) // 2 :]) < max(sizes[: len(sizes) // 2]) + MORE, curve


def watched(started, done, whole):
    """(work done, MB) of a process; done() tells how much."""
    curve = []
    while started.process.is_alive():
        now = done()
        if now > whole / 5 and (not curve or now > curve[-1][0] + whole / 50):
            curve.append((now, resident(started.process.pid)))
        time.sleep(0.02)
    started.wait(timeout=900)
    return curve


@pytest.mark.parametrize("kind", TRAININGS)
def test_memory_of_training(kind, corpora, folder):
    """With validation, and a checkpoint, every hundred updates."""
    flags, more = TRAININGS[kind]
    often = ["--save-interval-updates", 100, "--keep-interval-updates", 1, "--validate-interval-updates", 100]
    flags = flags(corpora[kind], folder / kind, *more, *often, "--log-interval", 20, updates=UPDATES)
    started = cli.start("train", *flags, log=folder / "log")
    curve = watched(started, lambda: updates(started), UPDATES)
    note_flat(f"training, {kind}, {UPDATES:,} updates", curve)


def updates(started):
    found = re.findall(r'"num_updates": "(\d+)"', started._said("out")[-4000:])
    return int(found[-1]) if found else 0


def test_memory_of_translating(translating, work):
    """A file of any length."""
    lines = translating.lines * (LINES // len(translating.lines) + 1)
    work.write(lines[:LINES])
    started = work.start("--chunk-lines", 500)
    size = work.input.stat().st_size

    def done():
        """Lines, about: as long as the words that were read."""
        return int(LINES * (work.part.stat().st_size if work.part.exists() else 0) / size)

    note_flat(f"translate, {LINES:,} lines", watched(started, done, LINES))
    assert work.output.read_bytes().count(b"\n") == LINES


def test_memory_of_a_generator(made):
    """Of models as a server keeps them: batches of changing shapes, one after the other."""
    model, task = load_model(made.checkpoint)
    words, rng = task.target_dictionary, random.Random(0)
    generator = task.build_generator([model], argparse.Namespace(beam=4, max_len_b=10))
    curve = []
    for call in range(CALLS):
        length, rows = rng.randrange(1, 9), rng.randrange(1, 17)
        tokens = torch.tensor([[rng.randrange(4, len(words)) for _ in range(length)] + [words.eos()]] * rows)
        sample = {"net_input": {"src_tokens": tokens, "src_lengths": torch.full((rows,), length + 1)}}
        task.inference_step(generator, [model], sample)
        if call >= CALLS // 5 and call % (CALLS // 50) == 0:
            curve.append((call, resident()))
    note_flat(f"a generator, {CALLS:,} calls", curve)


@pytest.mark.parametrize("kind", TRAININGS)
def test_killed_trainings(kind, corpora, folder):
    """At any moment, again and again, until it is done: equal to one that nobody has killed."""
    flags, more = TRAININGS[kind]
    saves = ["--save-interval-updates", 1, "--keep-interval-updates", 2]

    def start(name):
        return cli.start("train", *flags(corpora[kind], folder / name, *more, *saves, updates=50), log=folder / "log")

    whole = start(kind + "-whole")
    began = time.time()
    whole.wait()
    seconds, rng, kills, runs = time.time() - began, random.Random(0), 0, 0
    while kills < KILLS // len(TRAININGS):
        name = f"{kind}-{runs}"
        while True:
            training = start(name)
            training.process.join(rng.uniform(0.3, 1) * seconds)
            if not training.process.is_alive():
                break
            training.process.kill()
            training.process.join()
            kills += 1
        assert training.wait().returncode == 0
        assert_same_training(folder / name, folder / (kind + "-whole"))
        runs += 1
    TABLE.append((f"training, {kind}", f"{kills} kills of {runs} trainings, all equal to one without"))


def assert_same_training(got, want):
    got, want = (cli.load(path / "checkpoint_last.pt") for path in (got, want))
    for part in ("model", "last_optimizer_state"):
        assert_equal(dict(got[part]), dict(want[part]))
    assert_equal(got["extra_state"]["train_iterator"], want["extra_state"]["train_iterator"])


def test_killed_workers(corpora, folder):
    """One of two: the other one ends, and both go on together."""
    more = (*EXACT, "--save-interval-updates", 1, "--keep-interval-updates", 2)

    def start(name):
        flags = cli.train_flags(corpora["translation"], folder / name, *more, updates=30)
        return cli.start_two("train", flags, log=folder / "log")

    began = time.time()
    for worker in start("two-whole"):
        worker.wait()
    seconds, rng, kills, runs = time.time() - began, random.Random(1), 0, 0
    while kills < 12:
        name = f"two-{runs}"
        runs += 1
        workers = start(name)
        workers[0].process.join(rng.uniform(0.5, 1) * seconds)
        killed = rng.randrange(2)
        if not all(worker.process.is_alive() for worker in workers):
            for worker in workers:
                worker.wait()
            continue
        workers[killed].process.kill()
        kills += 1
        left = workers[1 - killed].wait(check=False, timeout=60)
        assert left.returncode != 0
        assert "another worker does not answer" in cli.last_line(left.stderr), left.stderr[-2000:]
        for worker in start(name):
            worker.wait()
        assert_same_training(folder / name, folder / "two-whole")
    TABLE.append(("training, one of two workers", f"{kills} kills, the other one ended, all equal to one without"))
