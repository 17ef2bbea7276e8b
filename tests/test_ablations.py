"""examples/ablations: one result for each run, none made twice, and a table of them."""

import json
import sys

import pytest

from examples.ablations import run as ablations
from fairseq_feedback.errors import FeedbackError

TEXT = "\n\n".join(f"Speaker {i % 7}:\nto be or not to be, that is number {i}" for i in range(60)) + "\n"


@pytest.fixture
def made(tmp_path, monkeypatch):
    (tmp_path / "input.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(ablations, "SEEDS", (1, 2))
    monkeypatch.setattr(ablations, "EXPERIMENTS", [("Tiny Shakespeare", 1, 5, ablations.OFFSET)])

    def run(*flags):
        out = ["--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["run.py", *out, *flags])
        ablations.main()

    run.folder = tmp_path
    return run


@pytest.mark.slow
def test_every_run_has_its_result_and_goes_on_after_a_stop(made, capsys):
    made("--shakespeare", str(made.folder / "input.txt"))
    first = capsys.readouterr().out
    results = sorted((made.folder / "out" / "results").iterdir())
    assert len(results) == 4
    found = json.loads(results[0].read_text())
    assert found["data"] == "Tiny Shakespeare" and [update for update, _ in found["curve"]] == [1, 2, 3, 4, 5]
    assert found["bits"] == min(loss for _, loss in found["curve"]) > 0
    results[0].unlink()
    made("--shakespeare", str(made.folder / "input.txt"))
    again = capsys.readouterr().out
    assert first.count(" …\n") == 4 and again.count(" …\n") == 1
    made("--table", str(made.folder / "out" / "results"))
    printed = capsys.readouterr().out
    assert printed.count("\n") == 4 and "| `--random-offset` |" in printed and "| `no flag` |" in printed


def test_a_missing_text_is_named(made):
    with pytest.raises(FeedbackError, match="--shakespeare: give the text"):
        made()
