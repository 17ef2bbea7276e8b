"""prepare.sh of every recipe, from the archives to fairseq's binary data."""

import os
import re
import shutil

import pytest
from recipes import STAGES, files_of, kill_before_rename


# The others are the same shell with other data.
def some(*names):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in names)) for name in STAGES]


QUICK = some(*(set(STAGES) - {"wmt14_en_de", "enwik8"}))


@pytest.mark.parametrize("name", QUICK)
def test_prepares_and_tells_what_it_made(prepared, name):
    recipe = prepared(name)
    summary = recipe.read("bin", "summary.txt")
    assert summary and all(line in recipe.done.stdout for line in summary)
    assert "0.0% replaced" in "\n".join(line for line in summary if "train" in line)
    assert "Prepared: " + recipe.path("bin") in recipe.done.stdout
    assert not [name for name in os.listdir(recipe.out) if name.endswith(".part")]


@pytest.mark.parametrize("name", some("char_ptb"))
def test_killed_at_any_step_and_run_again_it_makes_the_same_bytes(prepared, name, tmp_path):
    recipe, out = prepared(name), str(tmp_path / "again")
    path = kill_before_rename(tmp_path) + os.pathsep + os.environ["PATH"]
    for stage in STAGES[name]:
        done = recipe.prepare(out=out, check=False, KILL_AT=stage, PATH=path)
        assert done.returncode == -9, done.stderr
        assert not os.path.exists(os.path.join(out, stage))
        for file in files_of(os.path.join(out, stage + ".part")):  # as if it had been killed in the middle of them
            half = os.path.join(out, stage + ".part", file)
            os.truncate(half, os.path.getsize(half) // 2)
    done = recipe.prepare(out=out)
    assert done.stderr.count("made before") == len(STAGES[name]) - 1
    assert files_of(out) == files_of(recipe.out)


@pytest.mark.parametrize("name", QUICK)
def test_archives_that_are_missing_or_cut_short(prepared, name, tmp_path):
    recipe = prepared(name)
    archives = sorted(file for file in os.listdir(recipe.data) if not file.endswith(".txt"))
    data = str(tmp_path / "data")
    for archive in archives[:1]:
        shutil.copytree(recipe.data, data)
        path = os.path.join(data, archive)
        os.truncate(path, os.path.getsize(path) // 2)
        flags = ("--data", data, "--expected", os.path.join(data, "expected.txt"))
        for complaint in ("is cut short", "is missing"):
            done = recipe.prepare(*flags, out=str(tmp_path / "out"), check=False)
            assert done.returncode == 1 and path in done.stderr and complaint in done.stderr
            assert "Traceback" not in done.stderr
            assert sorted(os.listdir(tmp_path / "out")) == sorted(
                [".lock", "logs", "settings", STAGES[name][0] + ".part"]
            )
            if os.path.exists(path):
                os.remove(path)


def test_iwslt_text(prepared):
    recipe = prepared("iwslt14_de_en")
    de, en = recipe.read("clean", "train.de"), recipe.read("clean", "train.en")
    both = list(zip(de + recipe.read("clean", "valid.de"), en + recipe.read("clean", "valid.en")))
    assert ("kein ende der zeile .", "not the end of a line .") in both
    assert ("ein nul darin .", "a nul in it .") in both
    assert "it ’ s “ quoted ” &amp; &lt; b &gt; ." in dict(both).values()
    assert not [line for line in de + en if "talkid" in line or "http" in line or "words talks" in line]
    # In the order dev2010, TEDX.dev2012, tst2010, ...
    test = recipe.read("raw", "test.en")
    assert test[3] == test[7] == "It's here & there."
    assert recipe.read("bin", "references", "clean.test.en") == recipe.read("clean", "test.en")
    assert 100 < len(recipe.read("bpe", "codes")) <= 151


def test_cnn_dm_text(prepared):
    recipe = prepared("cnn_dm")
    sources = recipe.read("text", "train.source")
    assert max(len(line.split()) for line in sources) == 400
    assert all(sources)
    assert recipe.read("text", "test.source")[-1] == ""
    assert recipe.read("text", "test.target")[-1] == "It is empty but a test story ."
    assert recipe.read("text", "valid.target")[-1] == "First sentence . <S_SEP> Second : it ’ s < odd > !"
    assert recipe.read("text", "valid.source")[-1] == "It . a NUL and a line . “ Quoted ” No full stop ."
    separators = [line.split().count("<S_SEP>") for line in recipe.read("bpe", "valid.target")]
    assert separators == [1] * 10 + [0, 1]
    # As the models read it; scores are of the whole.
    assert len(recipe.read("bpe", "valid.target")[-2].split()) == 1000
    assert len(recipe.read("bin", "references", "text.valid.target")[-2].split()) == 1501


@pytest.mark.slow
def test_bytes_of_enwik8(prepared):
    recipe = prepared("enwik8")
    text = [[int(word) for word in line.split()] for line in recipe.read("symbols", "train")]
    assert bytes(text[0]) == b"<mediawiki>" and bytes(text[1]) == b"  <page>\r" and text[2] == [0]


def test_another_count_stops_with_both_numbers(prepared, tmp_path):
    recipe = prepared("char_ptb")
    with open(os.path.join(recipe.data, "expected.txt")) as f:
        expected = f.read()
    wrong = tmp_path / "expected.txt"
    out = str(tmp_path / "out")
    for old, new, complaint in (
        ("valid 8", "valid 9", "error: valid: expected 9, found 8."),
        ("valid 8", "valid 9 within 10%", "error: valid: expected 9 within 10%, found 8."),
        ("valid 8\n", "", f"error: {wrong} has no count for valid."),
    ):
        wrong.write_text(expected.replace(old, new))
        done = recipe.prepare("--expected", wrong, out=out, check=False)
        assert done.returncode == 1 and complaint in done.stderr
        assert not os.path.exists(os.path.join(out, "text"))
    text = expected.replace("valid 8", "valid 9 within 12%").replace("train 250", "train 999 remembered")
    wrong.write_text(text.replace("\ntest 8", "\ntest 9"))
    done = recipe.prepare("--expected", wrong, out=out, check=False)
    for told in ("train: expected 999, found 250", "valid: expected 9, found 8"):
        assert f"{told}. The difference is small, or the number is not certain: going on." in done.stderr
    assert done.returncode == 1 and "error: test: expected 9, found 8." in done.stderr


def test_a_wrong_checksum(prepared, tmp_path):
    recipe = prepared("wikitext103")
    data = tmp_path / "data"
    data.mkdir()
    (data / "wikitext-103-v1.zip").write_bytes(b"<html>Quota exceeded</html>")
    done = recipe.prepare("--data", data, out=str(tmp_path / "out"), check=False)
    assert done.returncode == 1
    assert "is not the right file, or is cut short: expected md5" in done.stderr and "27 bytes" in done.stderr


def test_a_full_disk(prepared, tmp_path):
    """A limit on the size of files stands for it: writing fails in the same way."""
    recipe = prepared("char_ptb")
    out = str(tmp_path / "out")
    limit = tmp_path / "limit.sh"
    limit.write_text("ulimit -f 4\n")  # kilobytes
    done = recipe.prepare(out=out, check=False, BASH_ENV=str(limit))
    assert done.returncode == 1 and "error: " in done.stderr and "File too large" in done.stderr
    assert "error: the stage text of char_ptb did not come to its end" in done.stderr
    assert not os.path.exists(os.path.join(out, "text"))


@pytest.mark.parametrize(
    "flags, complaint",
    [
        (["--worker", 2], "error: unknown option --worker. See: bash examples/char_ptb/prepare.sh --help"),
        (["--workers"], "error: --workers needs a value."),
        (["--workers", 0], "error: --workers 0: give a positive number"),
        (["--bpe-size", 10], "error: unknown option --bpe-size."),
        (["--data", "/nowhere"], "error: --data /nowhere is not a folder"),
        (["--expected", "/nowhere"], "error: --expected /nowhere is not a file"),
    ],
)
def test_wrong_options(prepared, tmp_path, flags, complaint):
    done = prepared("char_ptb").prepare(*flags, out=str(tmp_path / "out"), check=False)
    assert done.returncode == 1 and done.stderr.startswith(complaint), done.stderr


def test_help(prepared):
    done = prepared("iwslt14_de_en").script("prepare.sh", "--help")
    assert done.stdout.startswith("Usage: bash examples/iwslt14_de_en/prepare.sh")
    for option in ("--data DIR", "--workers N", "--expected FILE", "--bpe-size N"):
        assert option in done.stdout


@pytest.mark.slow
def test_sentencepiece(prepared, tmp_path):
    recipe = prepared("iwslt14_de_en")
    expected = tmp_path / "expected.txt"
    with open(os.path.join(recipe.data, "expected.txt")) as f:
        expected.write_text(re.sub(r"(dict\...) \d+", r"\1 unknown", f.read()))
    out = str(tmp_path / "out")
    recipe.prepare("--subwords", "sentencepiece", "--expected", expected, out=out)
    assert os.path.exists(os.path.join(out, "bin", "sentencepiece"))
    with open(os.path.join(out, "bpe", "test.en"), encoding="utf-8") as f:
        units = f.read().splitlines()
    joined = [line.replace(" ", "").replace("\u2581", " ").strip() for line in units]
    assert joined == recipe.read("clean", "test.en")


def test_other_subword_units_do_not_go_on(prepared):
    recipe = prepared("iwslt14_de_en")
    done = recipe.prepare("--bpe-size", 99, check=False)
    assert done.returncode == 1
    assert "was begun as iwslt14_de_en subword-nmt 150, not as iwslt14_de_en subword-nmt 99" in done.stderr
