"""The training benchmark: its command, its gate, and its words for mistakes."""

import json
import os
import statistics
import sys

import cli
import pytest
from helpers import needs_current_fairseq

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.kernels.training import bptt

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scripts", "bench")
pytestmark = needs_current_fairseq


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's module train, without what it switches off for good."""
    monkeypatch.syspath_prepend(BENCH)
    import train

    monkeypatch.setattr(train.measure, "begin", lambda threads: None)
    return train


@pytest.fixture
def mistake(bench, monkeypatch):
    """What the command says and exits with, before it times anything."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["train.py", *args])
        monkeypatch.setattr(bench.measure, "in_turns", lambda *args: pytest.fail("it was timed"))
        with pytest.raises(FeedbackError) as error:
            bench.main()
        return str(error.value)

    return run


def test_a_quick_case_as_a_command(tmp_path):
    result, table = tmp_path / "result.json", tmp_path / "table.md"
    flags = ("--cases", "quick-decoder", "--repeats", 2, "--threads", 1, "--json", result, "--markdown", table)
    done = cli.run_script(os.path.join(BENCH, "train.py"), *flags, log=tmp_path / "log", cwd=tmp_path)
    assert done.stdout == table.read_text()

    found = json.loads(result.read_text())
    assert set(found) == {"about", "parity", "rows"}
    assert {"command", "commit", "cpu", "cores", "threads", "torch", "repeats"} <= set(found["about"])
    assert [p["system"] for p in found["parity"]] == ["feedback"]
    rows = {r["system"]: r for r in found["rows"]}
    assert list(rows) == ["transformer", "feedback", "feedback (reference kernel)"]
    baseline = rows["transformer"]
    for r in rows.values():
        assert len(r["seconds"]) == 2
        assert r["median_seconds"] == statistics.median(r["seconds"])
        assert r["words_per_second"] == pytest.approx(r["words"] / r["median_seconds"])
        assert r["time_ratio"] == pytest.approx(r["median_seconds"] / baseline["median_seconds"])
        assert r["peak_bytes"] > 0
        assert r["peak_ratio"] == pytest.approx(r["peak_bytes"] / baseline["peak_bytes"])
        assert f"{r['words_per_second']:,.0f} · " in done.stdout
    feedback = rows["feedback"]
    assert f" · {feedback['time_ratio']:.2f} · {feedback['peak_ratio']:.2f}" in done.stdout
    assert "| case | transformer | feedback | feedback (reference kernel) |" in done.stdout


def test_steps_train_all_systems_on_the_same_words(bench):
    case = bench.CASES["quick-step"].small()
    ours, theirs = (bench.systems.make(case, name, "cpu") for name in ("feedback", "transformer"))
    assert ours.words == theirs.words > 0
    for system in (ours, theirs):
        system.run()
        assert system.trainer.get_num_updates() == case.batches
    sizes = [sum(p.numel() for p in system.module.parameters()) for system in (ours, theirs)]
    assert sizes[0] < sizes[1] < 1.3 * sizes[0]  # the same shape: ours shares keys and values of the memory


@pytest.mark.parametrize("case", ["quick-lm", "quick-step"])
def test_what_fails_the_gate_is_not_timed(mistake, monkeypatch, case):
    right = bptt.run

    def slightly_wrong(inputs):
        y, memory, attn = right(inputs)
        return y + 1e-3 * inputs.x, memory, attn

    monkeypatch.setattr(bptt, "run", slightly_wrong)
    assert mistake("--cases", case).startswith(f"{case} is not timed: with feedback, ")


def test_the_gate_of_zero_slots(bench):
    (found,) = bench.parity.check(bench.CASES["lm-first-block"], "cpu")
    assert found["system"] == "feedback, relative positions" and found["difference"] < 1e-5


def test_an_unknown_case(mistake):
    assert mistake("--cases", "quick-lm", "no-such") == (
        "--cases no-such: give some of lm-512-b64, lm-512-b16, lm-256-b64, lm-deep-b8, lm-first-block, "
        "iwslt-decoder, iwslt-step, quick-lm, quick-decoder, quick-step"
    )


def test_an_unknown_system(mistake):
    assert mistake("--quick", "--systems", "no-such").startswith("--systems no-such: give some of transformer, ")


def test_a_missing_checkout_of_the_authors(mistake, tmp_path):
    assert mistake("--quick", "--authors-repo", str(tmp_path / "no")) == (
        f"--authors-repo {tmp_path / 'no'} has no models/feedback.py: give a checkout of transformer-sequential"
    )


def test_mistakes_end_the_command_with_one_sentence(tmp_path):
    done = cli.run_script(os.path.join(BENCH, "train.py"), "--repeats", 0, check=False, log=tmp_path / "log")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: --repeats 0: give at least 1"
    assert "Traceback" not in done.stderr
