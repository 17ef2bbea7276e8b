"""The command fairseq-feedback itself: sub-commands, help, mistakes, extras."""

import ast
import os
import re
import resource
import subprocess
import sys

import cli
import pytest

import fairseq_feedback
from fairseq_feedback.tools import command
from fairseq_feedback.tools.extras import EXTRAS
from fairseq_feedback.tools.files import whole
from fairseq_feedback.tools.table import markdown

PYTHON_M = [sys.executable, "-m", "fairseq_feedback"]


def shell(start, *args, **more):
    more = {"stdout": subprocess.PIPE, **more}
    env = {**os.environ, "PYTHONPATH": cli.ROOT, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*start, *map(str, args)], stderr=subprocess.PIPE, text=True, env=env, **more)


def stopped(*args):
    """What the command exits with, in this process."""
    with pytest.raises(SystemExit) as stop:
        command.main(args)
    return stop.value.code


def assert_one_sentence(done, code):
    assert done.returncode == code and not done.stdout
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


# Help


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", ["", *command.TOOLS])
def test_help_answers_within_a_second(name, installed):
    said = []
    for start in (PYTHON_M, [installed]):
        before = cpu_seconds()
        done = shell(start, *name.split(), "--help")
        assert cpu_seconds() - before < 1
        assert done.returncode == 0 and not done.stderr
        said.append(done.stdout)
    assert said[0] == said[1] and said[0].startswith(f"usage: fairseq-feedback {name}".rstrip())
    if name:
        assert f"\n    fairseq-feedback {name}" in said[0]  # an example
    else:
        assert all(re.search(rf"^  {known}  +\S", said[0], re.M) for known in command.TOOLS)


def test_help_of_a_group(installed):
    done = shell([installed], "score", "--help")
    assert re.findall(r"^  (\w+ \w+) ", done.stdout, re.M) == ["score bleu", "score rouge"]


# What is here


def test_info(installed):
    alike = [shell(PYTHON_M), shell([installed], "info")]
    assert all(done.returncode == 0 and not done.stderr for done in alike), [done.stderr for done in alike]
    (said,) = {done.stdout for done in alike}
    assert f"--user-dir {cli.PACKAGE}\n" in said
    assert said.startswith(f"fairseq_feedback {fairseq_feedback.__version__}\n")
    for part in ("fairseq ", "torch ", "python ", *(f"  feedback_transformer_{x}\n" for x in ("iwslt_de_en", "lm"))):
        assert part in said
    machine = said.partition("this machine:\n")[2].partition("\n\n")[0]
    facts = ["GPU", "C++", "packed products", "--bf16", "--decode-int8"]
    assert re.findall(r"^  (\S.*?)  +", machine, re.M) == facts
    assert re.findall(r"^  (\S+) +", said.partition("extras:\n")[2], re.M) == list(EXTRAS)


def test_info_names_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(EXTRAS, "plot", ["matplotlib", "no-such-package"])
    monkeypatch.setitem(EXTRAS, "test", ["pytest>=1.0"])
    command.main(["info"])
    said = capsys.readouterr().out
    assert "plot     without no-such-package: pip install 'fairseq-feedback[plot]'\n" in said
    assert f"test     pytest {pytest.__version__}\n" in said


def test_extras_are_those_of_setup():
    with open(os.path.join(cli.ROOT, "setup.py"), encoding="utf-8") as f:
        found = [node for node in ast.walk(ast.parse(f.read())) if getattr(node, "arg", "") == "extras_require"]
    assert ast.literal_eval(found[0].value) == EXTRAS


@pytest.mark.parametrize(
    "module, extra, args",
    [
        ("rouge_score", "recipes", ["score", "rouge", "--hypotheses", "FILE", "--references", "FILE"]),
        ("sacremoses", "recipes", "score bleu --hypotheses FILE --references FILE --detokenize de".split()),
        ("rouge_score", "recipes", "tune data --path FILE --out none --lenpen 1 --metric rouge1".split()),
        ("sacremoses", "recipes", "translate data --path FILE --input FILE --output none --tokenizer moses".split()),
        ("sentencepiece", "recipes", "translate a --path FILE --input FILE --output none --bpe sentencepiece".split()),
        ("onnxruntime", "onnx", "export --path FILE --data data --output none".split()),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]),
)
def test_a_missing_extra_is_named(monkeypatch, module, extra, args):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys, "argv", ["fairseq-feedback"])  # where fairseq looks for options
    message = stopped(*[__file__ if arg == "FILE" else arg for arg in args])
    assert message.startswith("error: ") and message.endswith(f": pip install 'fairseq-feedback[{extra}]'")
    assert module in message


# Mistakes


def test_mistakes_of_the_command_line(installed):
    for start in (PYTHON_M, [installed]):
        done = shell(start, "trnslate")
        assert_one_sentence(done, 2)
        assert done.stderr == (
            f"error: there is no sub-command trnslate: give one of {', '.join(command.TOOLS)}. "
            "See: fairseq-feedback --help\n"
        )
    done = shell([installed], "score", "meteor")
    assert_one_sentence(done, 2)
    assert "there is no sub-command score meteor: give one of score bleu, score rouge. See: " in done.stderr
    done = shell([installed], "average", "--inputs", "x")
    assert_one_sentence(done, 2)
    assert "the following arguments are required: --output. See: fairseq-feedback average --help" in done.stderr
    assert_one_sentence(shell([installed], "--beam", 5), 2)
    assert_one_sentence(shell([installed], "info", "more"), 2)
    assert_one_sentence(shell([installed], "score", "bleu"), 1)


def test_a_full_disk(installed):
    with open("/dev/full", "w") as full:
        done = shell([installed], "--help", stdout=full)
    assert done.returncode == 1 and done.stderr == "error: No space left on device\n"


def test_a_reader_that_has_enough(installed):
    read, write = os.pipe()
    os.close(read)
    done = shell([installed], "--help", stdout=write)
    os.close(write)
    assert done.returncode == 1 and not done.stderr


def test_control_c(monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "dispatch", interrupted)
    assert stopped("info") == "error: stopped"


# Parts


def test_nothing_else_imports_the_tools():
    for folder, _, names in os.walk(cli.PACKAGE):
        for name in names:
            if name.endswith(".py") and name != "__main__.py" and os.path.join(cli.PACKAGE, "tools") not in folder:
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    assert "fairseq_feedback.tools" not in f.read(), name


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file"
    with whole(path) as f:
        f.write("text")
        assert os.listdir(path.parent) == ["file.part"]
    assert os.listdir(path.parent) == ["file"] and path.read_text() == "text"


def test_a_table():
    assert markdown(["a", "b"], [[1234567, None], ["x", 1.5]]) == "| a | b |\n|---|---|\n| 1,234,567 |  |\n| x | 1.5 |"


def test_options(capsys):
    command.main(["options", "--arch", "feedback_transformer_tiny"])
    said = capsys.readouterr().out
    assert said.startswith("feedback_transformer_tiny; in brackets what feedback_transformer has\n")
    assert re.search(r"^--encoder-layers +2 \(6\) +num encoder layers$", said, re.M)
    assert re.search(r"^--memory-composition +weighted +what the memory is made of", said, re.M)
    assert "feedback_transformer_iwslt_de_en" in said.splitlines()[-1]
    with pytest.raises(SystemExit, match="error: --arch transformer: give one of feedback_transformer, "):
        command.main(["options", "--arch", "transformer"])
