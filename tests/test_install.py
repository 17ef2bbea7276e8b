"""The package as users meet it: installed beside fairseq, as a path, and on older Pythons."""

import ast
import os
import shutil
import subprocess
import sys

import fairseq
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INSTALLED = os.path.join(os.path.dirname(os.path.dirname(fairseq.__file__)), "fairseq_feedback")
PYTHON_M = ["-m", "fairseq_feedback"]
needs_installed = pytest.mark.skipif(not os.path.isdir(INSTALLED), reason="the package is not installed beside fairseq")


def python(*args, cwd, **env):
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environ.update(env)
    done = subprocess.run([sys.executable, *args], cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sources():
    for top in ("fairseq_feedback", "scripts", "examples"):
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            yield from (os.path.join(folder, n) for n in names if n.endswith(".py"))


def test_syntax_is_that_of_python_3_8():
    paths = list(sources())
    assert len(paths) > 15
    for path in paths:
        with open(path, encoding="utf-8") as f:
            ast.parse(f.read(), path, feature_version=(3, 8))


@pytest.mark.slow
def test_nothing_is_said_of_others_code():
    """Of torch when fairseq is imported, and of hydra when fairseq makes its configuration; Python's -W shows it."""
    code = (
        "import fairseq_feedback\n"
        "from fairseq import options\n"
        "from fairseq.dataclass.utils import convert_namespace_to_omegaconf\n"
        "parser = options.get_generation_parser()\n"
        "convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, ['data', '--path', 'checkpoint']))\n"
    )
    for command, said in ([sys.executable], False), ([sys.executable, "-W", "default"], True):
        done = subprocess.run([*command, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("hydra.experimental" in done.stderr) == said
        assert ("Warning: " in done.stderr) == said, done.stderr


@pytest.mark.slow
@needs_installed
def test_installed_package_is_found_from_any_folder(tmp_path):
    """By its bare name: before and after an import, and where it lies."""
    code = (
        "import argparse, sys\n"
        "{first}\n"
        "from fairseq import utils\n"
        "for user_dir in ('fairseq_feedback', 'fairseq_feedback', {installed!r}):\n"
        "    utils.import_user_module(argparse.Namespace(user_dir=user_dir))\n"
        "import fairseq_feedback\n"
        "from fairseq.models import ARCH_MODEL_INV_REGISTRY\n"
        "print(len(ARCH_MODEL_INV_REGISTRY['feedback_transformer']))\n"
    )
    for first in ("import fairseq_feedback", ""):
        printed = python("-c", code.format(first=first, installed=INSTALLED), cwd=tmp_path)
        assert printed.split() == ["6"]
    assert f"--user-dir {INSTALLED}\n" in python("-m", "fairseq_feedback", cwd=tmp_path)


def test_a_wheel_brings_the_command(tmp_path):
    """Built from a copy that is deleted, and installed in a folder of its own."""
    source, wheels, target = (tmp_path / name for name in ("source", "wheels", "target"))
    shutil.copytree(os.path.join(ROOT, "fairseq_feedback"), source / "fairseq_feedback")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(os.path.join(ROOT, name), source)
    pip = ("-m", "pip", "--no-input", "--disable-pip-version-check")
    python(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source, cwd=tmp_path)
    shutil.rmtree(source)
    python(*pip, "install", "--no-deps", "--no-index", "--target", target, *wheels.iterdir(), cwd=tmp_path)
    assert list(target.glob("fairseq_feedback-*.dist-info/**/LICENSE"))
    command = target / "bin" / "fairseq-feedback"
    said = python(command, "info", cwd=tmp_path, PYTHONPATH=str(target))
    assert f"--user-dir {target}{os.sep}fairseq_feedback\n" in said
    alike = [python(*start, "--help", cwd=tmp_path, PYTHONPATH=str(target)) for start in ([command], PYTHON_M)]
    assert alike[0] == alike[1]
    (tmp_path / "text").write_text("a b c d e\n")
    files = ("--hypotheses", "text", "--references", "text")
    printed = python(command, "score", "bleu", *files, cwd=tmp_path, PYTHONPATH=str(target))
    assert printed.startswith("tokenized: BLEU4 = 100.00")
