"""fairseq-feedback translate: the translations of fairseq-interactive, for any length, however often it is stopped."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import cli
import pytest
from translation import SHORT, children, translated

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import progress
from fairseq_feedback.tools.translation import text as texts

# The translations


@pytest.mark.parametrize(
    "arch, more",
    [
        ("feedback_transformer_tiny", []),
        ("transformer", []),
        ("feedback_transformer_tiny", ["--beam", 3, "--nbest", 2, "--lenpen", 0.5, "--batch-size", 7]),
        ("feedback_transformer_tiny", ["--bpe", "subword_nmt", "--tokenizer", "moses", "--remove-bpe"]),
        ("feedback_transformer_tiny", ["--constraints"]),
        ("both", ["--beam", 2]),
    ],
    ids=["feedback", "transformer", "nbest", "bpe_moses", "constraints", "ensemble"],
)
def test_translates_as_fairseq_interactive(translating, work, arch, more):
    lines = list(translating.lines)
    if "--bpe" in more:
        more = [*more, "--bpe-codes", translating.folder / "codes", "--source-lang", "xx", "--target-lang", "yy"]
        lines = [line + " , isn't it?" for line in lines]
    if "--constraints" in more:
        lines = [line + "\tGO\tBA" for line in lines]
    work.write(lines)
    both = translating.feedback_transformer_tiny + os.pathsep + translating.transformer
    work.path = both if arch == "both" else getattr(translating, arch)
    theirs = cli.run(
        "interactive",
        *(translating.data, *SHORT, "--user-dir", cli.PACKAGE, "--path", work.path, "--input", work.input),
        *("--buffer-size", 16, *([] if "--batch-size" in more else ["--max-tokens", 4000]), *more),
        log=translating.log,
    ).stdout
    expected = [text for i, found in sorted(cli.hypotheses(theirs, "D").items()) for _, text in found]
    assert translated(work.result("--chunk-lines", 16, *more)) == expected
    assert len(set(expected)) > 5


UNKNOWN = ("--unkpen", -20, "--beam", 2)  # which writes <unk> again and again


def interactive(translating, work, *more, check=True):
    flags = [
        translating.data,
        *SHORT,
        "--user-dir",
        cli.PACKAGE,
        "--path",
        work.path,
        "--input",
        work.input,
        "--buffer-size",
        16,
        "--max-tokens",
        4000,
    ]
    return cli.run("interactive", *flags, *more, check=check, log=translating.log)


@pytest.mark.parametrize("arch", ["feedback_transformer_tiny", "transformer"])
def test_unknown_words_are_replaced(translating, work, arch):
    work.path = getattr(translating, arch)
    more = [*UNKNOWN, "--replace-unk", translating.folder / "unk"]
    theirs = cli.hypotheses(interactive(translating, work, *more).stdout, "D")
    got = translated(work.result(*more))
    assert got == [found[0][1] for _, found in sorted(theirs.items())]
    words = {word for line in got for word in line.split()}
    assert "BE" in words and not {"ba", "do", "<unk>"} & words and {"bi", "du"} & words


def test_unknown_words_in_pieces_are_replaced_before_these_are_joined(translating, work):
    """And a word that the dictionary does not know stays what it is."""
    work.write(["zzz", "ba zzz"])
    more = [*UNKNOWN, "--bpe", "subword_nmt", "--bpe-codes", translating.folder / "codes", "--remove-bpe"]
    more += ["--replace-unk", translating.folder / "unk"]
    words = {word for line in translated(work.result(*more)) for word in line.split()}
    assert "<unk>" not in words and words & {"z", "zz", "zzz", "zzzz"}
    done = interactive(translating, work, *more, check=False)
    assert cli.last_line(done.stderr).startswith("error: --replace-unk with --post-process subword_nmt: fairseq would")


@pytest.mark.slow
def test_the_installed_command_and_its_workers(work, installed):
    """They are other processes: each loads the plugin itself."""
    flags = work.flags("--workers", 2, "--chunk-lines", 20)
    env = {**os.environ, "PYTHONPATH": cli.ROOT, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([installed, "translate", *map(str, flags)], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and done.stderr == "2 workers, 1 thread each\n"
    assert work.output.read_bytes() == work.result("--chunk-lines", 20)


def test_what_a_line_is(translating, work):
    """Only a line feed ends a line, and the translation of nothing is nothing."""
    a, b, c, d = translating.lines[:4]
    work.write([a, b, c, d, d])
    ta, tb, tc, td, _ = translated(work.result())
    text = f"\n{a}\r\n\n  {b}\t \n\u3000\r\n{c.replace(' ', chr(0x2028))}\n{d.replace(' ', chr(0x85))}\n\x0c\n{d}"
    work.input.write_bytes(text.encode("utf-8"))
    done = work.run("--chunk-lines", 3)
    assert translated(work.output.read_bytes()) == ["", ta, "", tb, "", tc, td, "", td]
    assert re.match(r"9 lines, \d+ words in \S+ seconds with loading: \S+ lines/s, \S+ words/s; .*out\n$", done.stdout)


def test_nothing_to_translate(work):
    for number, text in enumerate(["", "\n\n"]):
        work.input.write_text(text)
        work.run("--nbest", 2, "--output", work.folder / str(number))
        assert (work.folder / str(number)).read_text() == 2 * text
    assert sorted(os.listdir(work.folder)) == ["0", "1", "in"]


def test_lines_that_are_too_long(translating, work):
    work.write([*translating.lines[:6], "ba " * 1100, *translating.lines[6:9], "ba " * 1200])
    message = work.refused("--chunk-lines", 2)
    assert re.match(r"error: line 7 of .*in has 1101 tokens, and the model or --max-tokens allows 1024: ", message)
    assert len(translated(work.part.read_bytes())) == 6  # and it goes on from there
    done = work.run("--chunk-lines", 2, "--skip-invalid-size-inputs-valid-test")
    assert done.stderr.endswith("warning: 2 lines were too long and have an empty translation\n")
    lines = translated(work.output.read_bytes())
    assert len(lines) == 11 and [i for i, line in enumerate(lines) if not line] == [6, 10]
    work.output.unlink()
    assert "--max-tokens allows 5" in work.refused("--max-tokens", 5)


# Stopped and continued


def test_killed_at_any_moment(translating, work):
    """By kill -9, this process or a worker of two: one sentence, no process is left, and in the end the same bytes."""
    work.write(translating.lines * 3)
    flags = ("--chunk-lines", 20, "--batch-size", 1, "--sampling", "--beam", 2, "--nbest", 2)
    expected = work.result(*flags)
    assert len(translated(expected)) == 240

    started = work.start(*flags)
    work.wait_for_lines(60, started)
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.join()
    with open(work.part, "ab") as f:
        f.write(b"of a chunk that was not finished\nand half a li")
    assert work.part.exists() and work.state.exists() and not work.output.exists()

    message = work.refused(*flags, "--beam", 3, "--nbest", 3, "--lenpen", 2)
    assert "lines of other work (--beam was 2, is 3; --lenpen was 1, is 2.0; --nbest was 2, is 3): start" in message

    started = work.start(*flags, "--workers", 2)
    first, second = work.wait_for_workers(2, started)
    os.kill(second, signal.SIGSTOP)  # or a fast machine is done before the next line
    assert "another run is writing" in work.refused(*flags)
    os.kill(second, signal.SIGKILL)
    done = started.wait(check=False)
    assert done.returncode == 1 and not os.path.exists(f"/proc/{first}")
    sentence = "\nerror: a worker process was ended by signal 9, as the system does when memory runs out"
    assert sentence in done.stderr and done.stderr.count("\n") == 3  # what is there already, how many workers

    done = work.run(*flags)
    assert work.output.read_bytes() == expected
    assert sorted(os.listdir(work.folder)) == ["in", "out", "whole"]  # and nothing of the state
    assert re.match(r"(\d+) lines are there already: continuing\n1 worker, ", done.stderr)
    assert re.match(r"\d+ lines \(\d+ more were there already\), ", done.stdout)
    assert "out exists already: delete it" in work.refused(*flags)


@pytest.mark.slow
def test_workers_end_with_their_parent(translating, work):
    """Also when it is killed by kill -9, and cannot end them."""
    work.write(translating.lines * 50)
    started = work.start("--chunk-lines", 20, "--batch-size", 1, "--workers", 2)
    work.wait_for_lines(100, started)
    workers = children(started.process.pid)
    os.kill(started.process.pid, signal.SIGKILL)
    limit = time.time() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.time() < limit
        time.sleep(0.05)
    assert len(workers) == 2


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_control_c(translating, work, workers):
    work.write(translating.lines * 50)
    started = work.start("--chunk-lines", 20, "--batch-size", 1, "--workers", workers)
    work.wait_for_lines(100, started)
    left = children(started.process.pid)
    for pid in (*left, started.process.pid):
        os.kill(pid, signal.SIGINT)
    done = started.wait(check=False)
    assert done.returncode == 1 and not any(os.path.exists(f"/proc/{pid}") for pid in left)
    assert re.search(r"^error: stopped: \d+ lines are done, the same command continues$", done.stderr, re.M)
    assert done.stderr.count("\n") == 2


def test_other_work_is_refused(translating, work):
    work.write([*translating.lines[:4], "ba " * 1100])
    work.refused("--chunk-lines", 2)
    kept = work.part.read_bytes()
    other = work.folder / "other.pt"
    os.link(work.path, other)
    assert "4 lines of other work" in work.refused("--chunk-lines", 2, "--path", other)
    assert "--chunk-lines was 2, is 3" in work.refused("--chunk-lines", 3)
    work.write(translating.lines)
    assert "--input had another text" in work.refused("--chunk-lines", 2)
    state = work.state.read_text()
    work.state.write_text("{")
    assert "out.part.json is missing or damaged: delete " in work.refused("--chunk-lines", 2)
    assert work.part.read_bytes() == kept
    work.state.write_text(state)
    work.part.unlink()  # whoever deletes it begins again
    work.run("--chunk-lines", 2)
    assert len(translated(work.output.read_bytes())) == len(translating.lines)


# Mistakes


def test_mistakes_are_one_sentence(translating, work):
    nowhere = work.folder / "nowhere"
    assert f"{nowhere} is missing" in work.refused("--input", nowhere)
    assert f"{nowhere} is missing" in work.refused("--path", f"{work.path}:{nowhere}")
    assert "the folder of --output" in work.refused("--output", nowhere / "out")
    assert "--input FILE is missing" in work.refused("--input", "-")
    assert "unrecognized arguments: --beams 4. See: fairseq-feedback translate --help" in work.refused("--beams", 4)
    assert "--user-dir was not imported" in work.refused("--user-dir", nowhere)
    assert "Cannot combine --fp16 and --tpu" in work.refused("--fp16", "--tpu")
    assert "--nbest 9 is more than --beam 5" in work.refused("--nbest", 9)
    assert "--workers 0: give at least 1" in work.refused("--workers", 0)
    work.input.write_bytes(b"ba\nbe\nb\xff bi\n")
    assert "line 3 of " in work.refused() and "is not UTF-8 text" in work.refused()
    for shard in ("0/3", "4/3", "3", "a/b"):
        assert f"--shard: invalid shard value: '{shard}'" in work.refused("--shard", shard)
    assert os.listdir(work.folder) == ["in"]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_fairseq_cannot_load_is_one_sentence(work, workers):
    data = work.folder / "data"
    data.mkdir()
    work.made = SimpleNamespace(data=data, log=work.made.log)
    flags = ("--source-lang", "xx", "--target-lang", "yy", "--workers", workers, "--chunk-lines", 10)
    assert "dict.xx.txt: No such file" in work.refused(*flags)
    assert sorted(os.listdir(work.folder)) == ["data", "in"]


def test_a_prompt(translating, work):
    lines = translating.lines[:3]
    work.write(lines)
    options = ("--beam", 3, "--nbest", 2)
    flags = [translating.data, *SHORT, "--path", work.path, "-i", *options]
    said = cli.run_tool("translate", *flags, stdin="\n".join([*lines, "", ""]), log=translating.log).stdout.splitlines()
    scores, found = zip(*(re.fullmatch(r" *(-\d+\.\d{3})  (.*)", line).groups() for line in said))
    assert translated(work.result(*options)) == list(found)
    assert all(float(a) >= float(b) for a, b in zip(scores[::2], scores[1::2]))
    for more in (["--output", work.output], ["--input", work.input]):
        done = cli.run_tool("translate", *flags, *more, check=False, log=translating.log)
        assert done.returncode == 1 and "error: --interactive reads and writes no files" in done.stderr
    without = cli.run_tool("translate", *flags[:-5], "--input", work.input, check=False, log=translating.log)
    assert "error: --output FILE is missing (or -i, for a prompt)" in without.stderr


def test_help(translating):
    done = cli.run_tool("translate", "--help", log=translating.log)
    assert done.stdout.startswith("usage: fairseq-feedback translate DATA-BIN")
    assert "--chunk-lines" in done.stdout and "--lenpen" in done.stdout and not done.stderr


# Parts


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1000])
def test_scan(tmp_path, monkeypatch, block):
    monkeypatch.setattr(texts, "BLOCK", block)
    (tmp_path / "text").write_bytes("eins\nzwei Ä\r\n\n\u2028\nlast".encode("utf-8"))
    found = texts.scan(tmp_path / "text")
    assert found["lines"] == 5 and found["bytes"] == 23
    for bad, line in ((b"\xc3", 1), (b"a\nb\xc3\x28\n", 2), (b"\xe2\x82\n", 1), (b"a\n\n\xe2\x82", 3)):
        (tmp_path / "text").write_bytes(bad)
        with pytest.raises(FeedbackError, match=f"^line {line} of "):
            texts.scan(tmp_path / "text")


def test_progress(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    now = [0.0]
    monkeypatch.setattr(progress.time, "time", lambda: now[0])
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        shown = progress.Progress(1000, 9000)
        for _ in range(4):
            shown.add(1000)
            now[0] += 6
        shown.end()
        line = "4,000 / 9,000 lines (44.4%), 250.0 lines/s, 0:00:20 left"
        assert stream.getvalue().startswith("1,000 lines are there already: continuing\n")
        assert (f"\r{line}\x1b[K\r" in stream.getvalue()) == stream.isatty()
        assert f"\n{line}\n" in stream.getvalue() or stream.isatty()
