"""examples/ablations: one result for each run, none made twice, and a table of them."""

import json
import sys

import pytest

from examples.ablations import cells, report
from examples.ablations import run as ablations
from fairseq_feedback.errors import FeedbackError

TEXT = "\n\n".join(f"Speaker {i % 7}:\nto be or not to be, that is number {i}" for i in range(60)) + "\n"


@pytest.fixture
def made(tmp_path, monkeypatch):
    (tmp_path / "input.txt").write_text(TEXT, encoding="utf-8")
    group = cells.Group(cells.SMALL, cells.choices(cells.SHAKESPEARE, 1, 5, cells.OFFSET))
    monkeypatch.setattr(cells, "GROUPS", {"choices": group})

    def run(*flags):
        out = ["--out", str(tmp_path / "out"), "--seeds", "2"]
        monkeypatch.setattr(sys, "argv", ["run.py", *out, *flags])
        ablations.main()

    run.folder = tmp_path
    return run


@pytest.mark.slow
def test_every_run_has_its_result_and_goes_on_after_a_stop(made, capsys):
    made("--shakespeare", str(made.folder / "input.txt"))
    first = capsys.readouterr().err
    results = sorted((made.folder / "out" / "results").iterdir())
    assert len(results) == 4
    found = json.loads(results[0].read_text())
    assert found["data"] == "Tiny Shakespeare" and [update for update, _ in found["curve"]] == [1, 2, 3, 4, 5]
    assert found["bits"] == min(loss for _, loss in found["curve"]) > 0
    results[0].unlink()
    made("--shakespeare", str(made.folder / "input.txt"))
    again = capsys.readouterr().err
    assert first.count(" …") == 4 and again.count(" …") == 1
    made("--table", str(made.folder / "out" / "results"))
    printed = capsys.readouterr().out
    assert "| `--random-offset` |" in printed and "| no flag |" in printed


def test_a_result_of_other_settings_is_refused(made):
    (made.folder / "out" / "results").mkdir(parents=True)
    name = "tiny-shakespeare-1-no-flag-5-1.json"
    (made.folder / "out" / "results" / name).write_text('{"command": "fairseq-train DATA"}')
    with pytest.raises(FeedbackError, match=f"{name} is of other settings: move it away"):
        made()


def test_a_missing_text_is_named(made, monkeypatch):
    group = cells.Group(cells.SMALL, cells.choices(cells.WIKITEXT, 1, 5, cells.OFFSET))
    monkeypatch.setattr(cells, "GROUPS", {"choices": group})
    with pytest.raises(FeedbackError, match="--wikitext: give the folder of WikiText-2"):
        made()


def write(folder, group, number, cell, **changes):
    found = {"group": group, "data": cell.data, "layers": cell.layers, "setting": cell.setting, "updates": cell.updates}
    found.update({"seed": 1, "seconds": 300, "bits": 2.5 + number / 100, "parameters": 500_000, **changes})
    (folder / f"{group}-{number}-{found['seed']}.json").write_text(json.dumps(found))


def test_tables_and_pictures(tmp_path, capsys):
    for group, (_, of_group) in cells.GROUPS.items():
        for number, cell in enumerate(of_group):
            if group == "memory" or cell not in cells.MEMORY:
                write(tmp_path, group, number, cell)
    write(tmp_path, "memory", 0, cells.GROUPS["memory"].cells[0], seed=2, bits=2.4)
    report.show(tmp_path, tmp_path / "pictures")
    lines = capsys.readouterr().out.splitlines()
    assert "| Tiny Shakespeare | 3 | 2,400 | weighted | 0.50M | 2.500 | 2.400 | 300 |" in lines
    assert "| Tiny Shakespeare | 6 | 2,400 | own, a transformer | 0.50M | 2.570 | 300 |" in lines
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"memory.png", "depth.png", "training.png"}


def test_depths_have_as_many_parameters():
    """Of the products: two or four of the heads and two of the FFN in a layer, keys and values once where shared."""
    for sizes, of_layer, once in ((cells.SIZES, 2, 2), (cells.SIZES_OWN, 4, 0)):
        for layers, (ffn, head) in sizes.items():
            found = layers * (of_layer * 4 * head + 2 * ffn) + once * 4 * head
            assert abs(found / 5376 - 1) < 0.01, (layers, found)


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--seeds", "0"], "--seeds 0: give at least 1"),
        (["--plots", "x"], "--plots: give --table FOLDER, too"),
    ],
)
def test_mistakes(made, flags, words):
    with pytest.raises(FeedbackError, match=words):
        made(*flags)
