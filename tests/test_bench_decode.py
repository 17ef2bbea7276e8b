"""The decoding benchmark: its command, its gate, its words for mistakes, and the report on depths."""

import json
import os
import statistics
import sys
from dataclasses import replace
from types import SimpleNamespace

import cli
import pytest
from helpers import needs_current_fairseq

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.kernels.decoding import cache

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scripts", "bench")
pytestmark = needs_current_fairseq


@pytest.fixture
def command(tmp_path):
    def run(name, *args, check=True):
        return cli.run_script(os.path.join(BENCH, name), *args, check=check, log=tmp_path / "log")

    return run


@pytest.fixture
def decode(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import decode

    monkeypatch.setattr(decode.measure, "begin", lambda threads: None)
    return decode


SYSTEMS = ["transformer", "feedback", "feedback, --decode-int8"]


@pytest.mark.slow
@pytest.mark.parametrize("systems", [SYSTEMS, []], ids=["some", "all"])
def test_quick_cases(systems, decode, monkeypatch, capsys, tmp_path):
    result, table = tmp_path / "result.json", tmp_path / "table.md"
    flags = ("--quick", "--no-memory", "--repeats", "2", "--threads", "1", "--json", result, "--markdown", table)
    flags += ("--systems", *systems) if systems else ()
    monkeypatch.setattr(sys, "argv", ["decode.py", *map(str, flags)])
    decode.main()
    assert capsys.readouterr().out == table.read_text()
    found = json.loads(result.read_text())
    assert [(p["case"], p["shape"]) for p in found["parity"]] == [
        ("quick", "2+2"), ("quick", "2+1"), ("quick-lm", "2 layers, span 16")
    ]  # fmt: skip
    assert "scripts/bench/decode.py --quick" in found["about"]["command"]
    rows = {(r["case"], r["shape"], r["system"]): r for r in found["rows"]}
    first = rows["quick", "2+2", "transformer"]
    for (case, shape, _), r in rows.items():
        same = rows[case, shape, "transformer"]
        assert r["median_seconds"] == statistics.median(r["seconds"]) and len(r["seconds"]) == 2
        assert r["speed_ratio"] == pytest.approx(r["words_per_second"] / same["words_per_second"])
        assert (r["peak_bytes"] is not None) == (case == "quick-lm")
        if case == "quick":
            assert r["words"] == 8 * 25
            assert r["first_ratio"] == pytest.approx(r["words_per_second"] / first["words_per_second"])
        else:
            assert r["words"] == 30 * r["rows"]
    assert {system for _, _, system in rows} >= {*SYSTEMS, *([] if systems else ["feedback, --bf16"])}
    assert rows["quick-lm", "2 layers, span 16", "transformer"]["rows"] >= 1


@pytest.mark.slow
def test_through_fairseq_generate(command):
    done = command(
        "decode.py", "--cases", "quick", "--systems", "transformer", "feedback", "--repeats", "1", "--threads", "1",
        "--through-fairseq-generate",
    )  # fmt: skip
    assert "| quick | transformer | feedback |" in done.stdout


@pytest.mark.slow
def test_processes(command):
    done = command("decode.py", "--quick", "--systems", "transformer", "feedback", "--repeats", "1", "--processes", "1")
    assert "| quick | transformer | feedback |" in done.stdout and "quick-lm" not in done.stdout


def test_peak_of_translations(decode):
    case = decode.CASES["quick"]
    case = replace(case, shapes=case.shapes[:1], systems=("feedback",))
    (found,) = decode.translate(case, SimpleNamespace(threads=1, no_memory=False, processes=None), 1)
    assert found["peak_bytes"] > 0 and "feedback" in found["system"]


def test_a_mistake_ends_the_command_with_one_sentence(command):
    done = command("decode.py", "--repeats", 0, check=False)
    assert (done.returncode, done.stderr) == (1, "error: --repeats 0: give at least 1\n")


def test_what_fails_the_gate_is_not_timed(decode, monkeypatch):
    right = cache.append

    def slightly_wrong(buffers, k, v, settings):
        right(buffers, k, 1.05 * v, settings)

    monkeypatch.setattr(cache, "append", slightly_wrong)
    monkeypatch.setattr(decode.measure, "in_turns", lambda *args: pytest.fail("it was timed"))
    monkeypatch.setattr(sys, "argv", ["decode.py", "--cases", "quick"])
    with pytest.raises(FeedbackError, match="^quick is not timed: with 2\\+2, hypotheses differ"):
        decode.main()


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--cases", "no-such"], "--cases no-such: give some of beam-5, "),
        (["--systems", "no-such"], "--systems no-such: give some of transformer, "),
        (["--repeats", "0"], "--repeats 0: give at least 1"),
        (["--cases", "lm-span-512", "--through-fairseq-generate"], "nothing is left to time: "),
        (["--cases", "lm-span-512", "--processes", "1"], "nothing is left to time: "),
        (["--processes", "0"], "--processes 0: give 1 to "),
        (["--processes", "1", "--through-fairseq-generate"], "--processes and --through-fairseq-generate: "),
        (["--json", "no-such/x.json"], "--json no-such/x.json: the folder does not exist"),
    ],
)
def test_mistakes(decode, monkeypatch, flags, words):
    monkeypatch.setattr(sys, "argv", ["decode.py", *flags])
    with pytest.raises(FeedbackError) as error:
        decode.main()
    assert str(error.value).startswith(words)


# depths.py


@pytest.fixture
def run_folder(tmp_path):
    """Two depths of two systems, translated twice; the transformer's deeper one has one sentence wrong."""
    pytest.importorskip("matplotlib")
    references = ["der alte Hund schläft .", "die Frau sieht ihn .", "es regnet heute in der Stadt ."]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "test.de").write_text("\n".join(references) + "\n", encoding="utf-8")
    for name, rates in (("transformer", (3, 1)), ("feedback_transformer--decode-int8", (6, 2))):
        for layers, rate in zip((1, 2), rates):
            for repeat in (1, 2):
                lines = [f"D-{i}\t-0.1\t{text}" for i, text in enumerate(references)]
                if name == "transformer" and layers == 2:
                    lines[1] = "D-1\t-0.1\tdas war falsch ."
                seconds = 3 / (rate * repeat)
                speed = f"({3 / seconds:.2f} sentences/s, {20 / seconds:.2f} tokens/s)"
                lines.append(f"Translated 3 sentences (20 tokens) in {seconds:.1f}s {speed}")
                (tmp_path / f"test-{name}-{layers}.{repeat}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_depths(command, run_folder):
    done = command("depths.py", run_folder)
    assert "| decoder layers | transformer | feedback, --decode-int8 |" in done.stdout
    rows = {(r["system"], r["layers"]): r for r in json.loads((run_folder / "depths.json").read_text())["rows"]}
    assert rows["transformer", 1]["bleu"] == pytest.approx(100)
    assert 0 < rows["transformer", 2]["bleu"] < 90
    # 17 words; 3 sentences at 3 and at 6 a second: the median of 1 and 0.5 seconds.
    assert rows["transformer", 1]["words_per_second"] == pytest.approx(17 / 0.75, rel=1e-3)
    assert (run_folder / "depths.md").read_text() in done.stdout
    assert (run_folder / "depths.png").stat().st_size > 5000


def test_depths_of_an_unfinished_run(command, run_folder):
    path = run_folder / "test-transformer-2.2.txt"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-1]), encoding="utf-8")
    done = command("depths.py", run_folder, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {path} does not say how long it took: run depths.sh to the end\n"
    done = command("depths.py", run_folder / "text", check=False)
    assert "test.de is missing" in done.stderr and done.returncode == 1
