"""fairseq-feedback plot, and the parser of fairseq-train's logs."""

import json
import os
import struct
import sys

import cli
import pytest

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import command, plot
from fairseq_feedback.tools.training_log import curves, parse, read

PREFIX = "2026-11-25 12:23:26 | INFO | "
BLEU = ["--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 5}', "--best-checkpoint-metric", "bleu"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Real logs: one of a translation model that was stopped and restarted, one of a language model."""
    folder = tmp_path_factory.mktemp("plot")
    data, text = cli.make_data(folder), cli.make_text(folder)
    flags = [*BLEU, "--maximize-best-checkpoint-metric", "--log-format", "simple"]
    printed = ""
    for updates in (6, 9):  # 5 updates are an epoch
        training = cli.train_flags(data, folder / "mt", *flags, updates=updates)
        printed += cli.run("train", *training, log=folder / "log").stdout
    (folder / "mt.log").write_text(printed)
    printed = cli.run("train", *cli.train_lm_flags(text, folder / "lm"), log=folder / "log").stdout
    (folder / "lm.log").write_text(printed)
    (folder / "other.log").write_text("nothing of a training\n")
    return folder


def simple(update, epoch=1, total=100, **stats):
    stats = ", ".join(f"{name}={value}" for name, value in {**stats, "num_updates": update}.items())
    return f"{PREFIX}train_inner | epoch {epoch:03d}:  {update:5d} / {total} {stats}\n"


def write(path, *lines):
    path.write_text("".join(lines))
    return str(path)


def drawn(path):
    """Width and height of a PNG."""
    with open(path, "rb") as f:
        head = f.read(24)
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:])


def stopped(*args):
    with pytest.raises(SystemExit) as stop:
        command.main(["plot", *args])
    return stop.value.code


def test_a_real_log_of_a_restarted_translation_model(logs):
    run = read(logs / "mt.log")
    updates, losses = run.curve("train", "loss")
    assert updates == list(range(1, 10)) and all(0 < loss < 10 for loss in losses)
    assert run.curve("train", "epochs")[1] == pytest.approx([u / 5 for u in updates])
    assert run.curve("valid", "bleu")[0] == [5, 6, 9]
    assert {"loss", "nll_loss", "ppl", "bleu", "best_bleu"} <= set(run.names("valid"))
    seconds = run.curve("train", "wall")[1]
    assert seconds == sorted(seconds)
    assert plot.usual([run]) == [("train", "loss"), ("valid", "ppl"), ("valid", "bleu"), ("train", "wps")]


def test_a_real_log_of_a_language_model(logs):
    run = read(logs / "lm.log")
    assert run.curve("train", "loss")[0] == run.curve("train", "epochs")[0] == [1, 2, 3, 4, 5, 6]
    assert run.curve("valid", "bits_per_char")[0] == [6]
    assert plot.usual([run]) == [("train", "loss"), ("valid", "ppl"), ("train", "wps")]  # its tokens are words


def test_the_command(logs, tmp_path, capsys):
    picture = tmp_path / "new" / "curves.png"
    command.main(["plot", logs / "mt.log", logs / "lm.log", "--output", picture])
    assert drawn(picture) == (1350, 855)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "| run | updates | training loss | best validation perplexity | best validation BLEU | words/s |"
    )
    assert lines[2].startswith("| mt | 9 | ") and lines[3].startswith("| lm | 6 | ")
    assert lines[-1] == str(picture)
    assert not [name for name in os.listdir(picture.parent) if name.endswith(".part")]


@pytest.mark.parametrize("against", ["updates", "epochs", "hours"])
def test_the_axis(logs, tmp_path, against):
    picture = tmp_path / "curves.svg"
    command.main(["plot", logs / "mt.log", "--output", picture, "--against", against, "--metrics", "loss", "gnorm"])
    assert "<svg" in picture.read_text()


def test_metrics_and_labels(logs, tmp_path, capsys):
    runs = curves([logs / "mt.log"])
    assert plot.asked(runs, ["loss"]) == [("train", "loss"), ("valid", "loss")]
    assert plot.asked(runs, ["train_loss", "bleu"]) == [("train", "loss"), ("valid", "bleu")]
    assert plot.asked(runs, ["train_wall"]) == [("train", "train_wall")]
    with pytest.raises(FeedbackError, match="--metrics rouge: the logs have best_bleu, bleu, "):
        plot.asked(runs, ["rouge"])
    command.main(["plot", logs / "mt.log", "--output", tmp_path / "a.png", "--labels", "my model"])
    assert "| my model | 9 |" in capsys.readouterr().out


def test_a_folder(logs, tmp_path):
    assert [run.label for run in curves([logs])] == ["lm", "mt"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "train.log", simple(1, loss=2))
    assert [run.label for run in curves([tmp_path / "a"])] == ["a"]
    assert [run.label for run in curves([tmp_path / name / "train.log" for name in "ab"])] == ["a", "b"]


def test_a_restart_replaces_what_came_after_its_checkpoint(tmp_path):
    log = [simple(u, loss=u, wall=u) for u in (10, 20, 30, 40)] + [simple(u, loss=-u, wall=u - 20) for u in (30, 35)]
    run = read(write(tmp_path / "a.log", *log))
    assert run.curve("train", "loss") == ([10, 20, 30, 35], [10, 20, -30, -35])
    assert run.curve("train", "wall") == ([10, 20, 30, 35], [10, 20, 50, 55])  # time goes on


def test_a_line_that_is_being_written_does_not_count(tmp_path):
    path = write(tmp_path / "a.log", simple(10, loss=5), simple(20, loss=4)[:-2])
    assert read(path).curve("train", "loss") == ([10], [5])


def test_lines_of_fairseqs_log_file_have_no_prefix():
    line = simple(7, loss=1.5, total=10)
    assert parse(line) == parse(line.split(" | ")[-1]) == ("train_inner", 7, {"loss": 1.5, "epochs": 0.7})
    stats = {"epoch": 2, "valid1_loss": "3.5", "valid1_num_updates": "70"}
    assert parse(json.dumps(stats)) == ("valid1", 70, {"loss": 3.5, "epochs": 2})
    assert parse("epoch 002 | valid on 'valid1' subset | loss 3.5 | num_updates 70") == parse(json.dumps(stats))
    with_list = "train | epoch 002 | sizes [1, 2] | num_updates 70\n"
    assert parse(PREFIX + with_list) == ("train", 70, {"epochs": 2})
    assert parse(PREFIX + "fairseq.trainer | begin training epoch 3") is None
    assert parse(PREFIX + '{"epoch": 1, "loss"}') is None


def test_without_progress_the_ends_of_epochs_are_the_curve(tmp_path):
    ends = [f"{PREFIX}train | epoch {e:03d} | loss {9 - e} | num_updates {10 * e}\n" for e in (1, 2)]
    run = read(write(tmp_path / "a.log", *ends))
    assert run.curve("train", "loss") == ([10, 20], [8, 7])
    assert plot.positions(run, [5, 20], "epochs", 1) == [0.5, 2]


def test_bits_per_character_where_tokens_are_characters(tmp_path):
    valid = "epoch 001 | valid on 'valid' subset | loss 2 | bits_per_char 2.01 | ppl 4 | num_updates 10\n"
    run = read(write(tmp_path / "a.log", simple(10, loss=2), valid))
    assert plot.validation([run]) == ["bits_per_char"]


def test_what_is_not_a_number_leaves_a_gap(tmp_path):
    path = write(tmp_path / "a.log", *(simple(u, loss=loss) for u, loss in ((1, 5), (2, "nan"), (3, "inf"), (4, 3))))
    command.main(["plot", path, "--output", str(tmp_path / "a.png")])
    assert drawn(tmp_path / "a.png")


def test_smoothing():
    assert plot.smoothed([1, 2, 3], 1) == [1, 2, 3]
    assert plot.smoothed([9, 3, 3, 0, 6], 3) == [9, 5, 2, 3, 3]


@pytest.mark.parametrize(
    "args, message",
    [
        (["missing.log"], "missing.log is missing"),
        (["other.log"], "other.log has no line of a training's progress: give what fairseq-train printed"),
        (["log"], "log has no *.log of fairseq-train: give the log itself"),
        (["mt.log", "--output", "a.jpeg"], "--output a.jpeg: give a name that ends in .png, .svg or .pdf"),
        (["mt.log", "--smooth", "0"], "--smooth 0: give at least 1"),
        (["mt.log", "--labels", "a", "b"], "--labels: give as many names as there are runs, 1"),
    ],
)
def test_mistakes(logs, monkeypatch, args, message):
    monkeypatch.chdir(logs)
    assert stopped(*args).startswith(f"error: {message}")


def test_without_matplotlib(logs, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert stopped(logs / "mt.log").endswith("pip install 'fairseq-feedback[plot]'")
