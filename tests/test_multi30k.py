"""depths.sh of Multi30k: its cells, its table and its picture."""

import json
import os
import sys

import pytest

from examples.multi30k_en_de import depths
from fairseq_feedback.errors import FeedbackError


@pytest.fixture
def command(monkeypatch):
    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["depths.py", *map(str, flags)])
        depths.main()

    return run


def write(folder, **changes):
    result = {
        "arch": "feedback", "layers": 1, "seed": 1, "parameters": 2_500_000, "updates": 4000, "minutes": 50.2,
        "tokenized BLEU": 38.04, "sacrebleu": 37.5, "chrF": 60.1, "training words/s": 4000, "decoding words/s": 300,
        **changes,
    }  # fmt: skip
    path = folder / f"{result['arch']}-{result['layers']}-{result['seed']}.json"
    path.write_text(json.dumps(result))


def test_a_table_and_a_picture_of_results(command, tmp_path, capsys):
    write(tmp_path)
    write(tmp_path, seed=2, **{"tokenized BLEU": 39.0, "training words/s": 4100})
    write(tmp_path, arch="transformer", layers=2)
    command("--table", tmp_path, "--plots", tmp_path / "pictures")
    lines = capsys.readouterr().out.splitlines()
    assert "| published, from memory | 4 |  |  |  | 41.0 |" in lines[2]
    assert lines[3].startswith("| feedback | 1 | 2.50M | 4,000 | 50 | 38.0, 39.0 | 37.5, 37.5 | 60.1, 60.1 | 4,050 |")
    assert lines[4].startswith("| transformer | 2 |")
    assert (tmp_path / "pictures" / "depths.png").stat().st_size > 1000


def test_a_cell_is_trained_and_evaluated_and_not_made_twice(command, tmp_path, monkeypatch, capsys):
    called = []

    def call(script, *flags):
        called.append([script, *map(str, flags)])
        flags = [str(flag) for flag in flags]
        if script == "eval.sh":
            folder = flags[flags.index("--run") + 1]
            os.makedirs(os.path.join(folder, "eval"))
            row = {"tokenized BLEU": "38.04", "sacrebleu": "37.50", "chrF": "60.10", "words/s": 300}
            with open(os.path.join(folder, "eval", "results.json"), "w") as f:
                json.dump({"rows": [{"system": "published"}, row], "settings": ["beam 5"]}, f)
            with open(os.path.join(folder, "train.log"), "w") as f:
                f.write("x | INFO | fairseq_cli.train | num. shared model params: 2,500,000 (num. trained: 1)\n")
                f.write("x | INFO | train_inner | epoch 001:    100 / 124 wps=4000, num_updates=100\n")

    monkeypatch.setattr(depths, "call", call)
    out = tmp_path / "100-updates"
    checkpoint = out / "feedback-1-1" / "checkpoints" / "checkpoint_last.pt"
    monkeypatch.setattr(depths, "seconds_of", lambda path: 60 if path == str(checkpoint) else None)
    flags = ["--archs", "feedback", "--layers", 1, "--max-update", 100, "--out", tmp_path, "--data", "somewhere"]
    command(*flags)
    assert called == [
        ["train.sh", "--arch", "feedback", "--decoder-layers", "1", "--gpus", "0", "--max-update", "100", "--data",
         "somewhere", "--out", str(out / "feedback-1-1"), "--", "--seed", "1", "--num-workers", "0"],
        ["eval.sh", "--data", "somewhere", "--run", str(out / "feedback-1-1")],
    ]  # fmt: skip
    result = json.loads((out / "results" / "feedback-1-1.json").read_text())
    assert result["minutes"] == 1.0 and result["updates"] == 100 and result["training words/s"] == 4000
    printed = capsys.readouterr().out
    command(*flags)
    assert len(called) == 2 and capsys.readouterr().out == printed


def test_seconds_of_a_training_that_was_stopped(made):
    assert 0 < depths.seconds_of(made.checkpoint) < 300


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--seeds", 0], "--seeds 0: give at least 1"),
        (["--layers", 0, 1], "--layers 0: give at least 1"),
        (["--max-update", 0], "--max-update 0: give at least 1"),
        (["--plots", "x"], "--plots: give --table FOLDER, too"),
    ],
)
def test_mistakes(command, flags, words):
    with pytest.raises(FeedbackError, match=words):
        command(*flags)
