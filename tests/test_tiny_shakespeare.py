"""examples/tiny_shakespeare: the text, the table, and (slow) the whole run."""

import json
import os
import random
import re
import subprocess
import sys

import pytest

EXAMPLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples", "tiny_shakespeare")


def python(script, *args):
    command = [sys.executable, os.path.join(EXAMPLE, script), *map(str, args)]
    env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(EXAMPLE))}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=env)


def play(paragraphs=120, seed=0):
    rng = random.Random(seed)
    words = "thou art my lord and I am thy poor fool".split()
    lines = [
        [" ".join(rng.choices(words, k=rng.randint(2, 8))) for _ in range(rng.randint(1, 4))] for _ in range(paragraphs)
    ]
    return "\n\n".join("\n".join(["ROMEO:", *paragraph]) for paragraph in lines) + "\n"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "input.txt"
    path.write_text(play(), encoding="utf-8")
    return path


def test_symbols_are_the_characters_of_the_text(text, tmp_path):
    length = len(text.read_text(encoding="utf-8"))
    done = python("corpus.py", "--data", text, "--out", tmp_path / "out", "--expect", length)
    assert done.returncode == 0, done.stderr
    found, sizes = "", []
    for split in ("train", "valid", "test"):
        lines = (tmp_path / "out" / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        part = "".join("".join(line.split(" ")) + "\n" for line in lines)
        assert f"{len(part):,} characters" in done.stdout
        sizes.append(len(part) / length)
        found += part.replace("▁", " ").replace("⏎", "\n")
    assert found == text.read_text(encoding="utf-8")
    assert sizes == pytest.approx([0.9, 0.05, 0.05], abs=0.03)


def test_windows_line_ends_are_the_same_text(text, tmp_path):
    length = len(text.read_text(encoding="utf-8"))
    for name, newline in (("unix", "\n"), ("windows", "\r\n")):
        path = tmp_path / name
        path.write_bytes(play().replace("\n", newline).encode())
        assert (
            python("corpus.py", "--data", path, "--out", tmp_path / f"{name}-out", "--expect", length).returncode == 0
        )
    for split in ("train", "valid", "test"):
        unix, windows = ((tmp_path / f"{name}-out" / f"{split}.txt").read_bytes() for name in ("unix", "windows"))
        assert unix == windows


@pytest.mark.parametrize(
    "content, options, said",
    [
        (None, [], "--data"),
        (b"\xff\xfe\xfa", [], "--data"),
        (b"short\n", [], "the text has 6 characters, expected 1,115,394"),
        (b"no empty line here", ["--expect", 19], "no empty lines in its last tenth"),
    ],
)
def test_mistakes(content, options, said, tmp_path):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    done = python("corpus.py", "--data", path, "--out", tmp_path / "out", *options)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and said in done.stderr
    assert not list(tmp_path.glob("out/*"))


def test_report(tmp_path):
    for name, loss in (("feedback", 2.1), ("transformer", 2.25)):
        log = ["x | INFO | fairseq_cli.train | num. shared model params: 1,234 (num. trained: 1,234)"]
        for update, speed in enumerate((900, 1000, 1100), 1):
            log.append(f"x | INFO | train_inner | epoch 001:  {update} / 9 loss=3.1, wps={speed}, num_updates={update}")
        log += ["x | INFO | fairseq_cli.train | done training in 125.7 seconds"]
        (tmp_path / f"train-{name}.log").write_text("\n".join(log) + "\n")
        for split, more in (("valid", 0), ("test", 0.125)):
            line = f"x | INFO | fairseq_cli.eval_lm | Loss (base 2): {loss + more:.4f}, Perplexity: 4.29\n"
            (tmp_path / f"{split}-{name}.log").write_text(line)
        (tmp_path / f"sample-{name}.txt").write_text("S-0\tR O\nH-0\t-1.0\tR O\nD-0\t-1.0\tROMEO:⏎Ay me\n")
    done = python("report.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| feedback transformer | 2.1 | 2.225 | 1,234 | 1,000 | 2 min 5 s |" in done.stdout
    assert "  ROMEO:\n  Ay me\n" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())[1]["valid bits/char"] == 2.25
    (tmp_path / "test-feedback.log").write_text("nothing\n")
    done = python("report.py", tmp_path)
    assert done.returncode == 1 and "test-feedback.log is incomplete" in done.stderr


@pytest.mark.slow
def test_the_whole_run(text, tmp_path):
    length = len(text.read_text(encoding="utf-8"))
    command = ["bash", os.path.join(EXAMPLE, "train.sh"), "--data", text, "--expect", length, "--updates", 3]
    env = {**os.environ, "FEEDBACK_ENV": "active", "PYTHON": sys.executable}
    runs = []
    for _ in range(2):
        done = subprocess.run(
            [*map(str, command), "--out", str(tmp_path / "run")],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=env,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        runs.append(done)
    rows = re.findall(
        r"^\| (feedback|standard) transformer \| ([\d.]+) \|.*\| ([\d,]+) \| [-\d,]+ \|", runs[0].stdout, re.M
    )
    assert [row[0] for row in rows] == ["feedback", "standard"]
    sizes = [int(row[2].replace(",", "")) for row in rows]
    assert abs(sizes[0] - sizes[1]) < 0.01 * sizes[0]
    assert "ROMEO:" in runs[0].stdout
    assert (
        runs[1].stderr.count("done before") == 4
        and runs[0].stdout.splitlines()[-5:] == runs[1].stdout.splitlines()[-5:]
    )
