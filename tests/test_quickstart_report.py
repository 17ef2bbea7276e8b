"""The table at the end of the quickstart, from outputs of known content."""

import json
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = os.path.join(ROOT, "examples", "quickstart", "report.py")
REFERENCES = ["der alte Hund schläft .", "die Frau sieht ihn .", "es regnet heute in der Stadt ."]


def report(folder):
    return subprocess.run(
        [sys.executable, SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": ROOT},
    )


@pytest.fixture
def run(tmp_path):
    """The feedback model translated everything right, in another order; the transformer two of three."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "test.de").write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    (tmp_path / "text" / "test.en").write_text("a .\nb c .\nd e f .\n", encoding="utf-8")
    for name, wrong in (("feedback", None), ("transformer", 1)):
        lines = ["S-0\ta ."]
        for i in (2, 0, 1):
            text = "das war falsch ." if i == wrong else REFERENCES[i]
            lines += [f"H-{i}\t-0.1\tbpe@@ units", f"D-{i}\t-0.1\t{text}"]
        lines.append("Translated 3 sentences (1,040 tokens) in 2.0s (1.50 sentences/s, 520.00 tokens/s)")
        (tmp_path / f"test-{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (tmp_path / f"train-{name}.log").write_text(
            "| num. shared model params: 1,234,567 (num. trained: 1,234,567)\n"
            "| INFO | train_inner | epoch 001:  1 / 9 loss=9, wps=100.4, num_updates=1\n"
            "| INFO | train_inner | epoch 001:  2 / 9 loss=8, wps=900, num_updates=2\n"
            "| INFO | train_inner | epoch 001:  3 / 9 loss=7, wps=300, num_updates=3\n",
            encoding="utf-8",
        )
    return tmp_path


def test_numbers(run):
    done = report(run)
    assert done.returncode == 0, done.stderr
    feedback, transformer = json.loads((run / "report.json").read_text())
    assert feedback["BLEU"] == feedback["chrF"] == feedback["exact %"] == 100.0
    assert transformer["exact %"] == 66.7 and 0 < transformer["BLEU"] < 90
    assert transformer["BLEU, new pairs"] < 20 and feedback["BLEU, new pairs"] == 100.0
    assert feedback["decoding words/s"] == round((5 + 5 + 7) / 2.0)
    assert transformer["decoding words/s"] == 8
    assert feedback["training words/s"] == 300 and feedback["parameters"] == 1234567
    assert "| feedback transformer | 100.0 | 100.0 |" in done.stdout
    assert "1,234,567" in done.stdout
    assert "  transformer  das war falsch ." in done.stdout
    assert " translate -i " in done.stdout


def test_a_missing_translation_is_an_error(run):
    path = run / "test-transformer.txt"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "D-2" not in line))
    done = report(run)
    assert done.returncode != 0 and not (run / "report.json").exists()
    assert done.stderr.startswith(f"error: {path} has 2 sentences, expected 3: fairseq-generate was stopped")


def test_an_unfinished_run_is_an_error(run, tmp_path_factory):
    os.remove(run / "test-feedback.txt")
    assert "test-feedback.txt is missing: run bash scripts/quickstart.sh" in report(run).stderr
    assert "test.en is missing: run bash scripts/quickstart.sh" in report(run / "nothing").stderr
