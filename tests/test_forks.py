"""Forked commands do what commands do."""

import os
import resource
import signal
import subprocess

import cli
import forks
import pytest

pytestmark = pytest.mark.core

COMPARE = """
import sys
import fairseq.dataclass.utils as dataclasses
from fairseq import options
from omegaconf import OmegaConf
import quick_hydra

assert dataclasses.compose is quick_hydra.compose
kind, *args = sys.argv[1:]
args = options.parse_args_and_arch(getattr(options, f"get_{kind}_parser")(), args)
quick = dataclasses.convert_namespace_to_omegaconf(args)
dataclasses.compose = quick_hydra.hydras_compose
whole = dataclasses.convert_namespace_to_omegaconf(args)
assert OmegaConf.to_yaml(quick) == OmegaConf.to_yaml(whole) and quick == whole
assert {key: type(quick[key]) for key in quick} == {key: type(whole[key]) for key in whole}
print(OmegaConf.to_yaml(quick))
"""
SEVERAL = ["--lr", "0.1,0.2", "--update-freq", "2,1", "--bpe", "subword_nmt", "--optimizer", "sgd"]
BLEU = ["--eval-bleu-args", '{"beam": 2, "x": "a, b"}']
ADAPTIVE = ["--criterion", "adaptive_loss", "--optimizer", "sgd", "--lr-scheduler", "cosine"]


@pytest.mark.parametrize(
    "kind, args, part",
    [
        ("training", cli.train_flags("data", "save", *SEVERAL), "- 0.2\n"),
        ("training", cli.train_flags("data", "save", *BLEU), "eval_bleu_args: '{"),
        ("training", cli.train_flags("data", "it's = [here]", arch="transformer"), "save_dir: it's = [here]"),
        ("training", cli.train_lm_flags("data", "save", "--random-offset"), "random_offset: true\n"),
        ("training", cli.train_lm_flags("data", "save", *ADAPTIVE), "_name: cosine\n"),
        ("generation", cli.generate_flags("data", "a:b", "--nbest", 3, "--fp16"), "nbest: 3\n"),
        ("interactive_generation", cli.generate_flags("data", "a", "--input", "x y"), "input: x y\n"),
        ("validation", [*cli.common_flags("data"), "--path", "a", "--task", "feedback_lm"], "_name: feedback_lm\n"),
        ("eval_lm", ["data", "--path", "a", "--context-window", 4], "context_window: 4\n"),
    ],
)
def test_configurations_are_those_of_hydra(tmp_path, kind, args, part):
    script = tmp_path / "compare.py"
    script.write_text(COMPARE)
    assert part in cli.run_script(script, kind, *args, log=tmp_path / "log").stdout


SAY = """
import os, sys, resource
print(sys.argv, sys.path[:2], os.getcwd(), os.environ["A"], resource.getrlimit(resource.RLIMIT_FSIZE)[0])
print(sys.stdin.read(), [name for name in sys.modules if name.startswith("fairseq_feedback")])
sys.stdout.flush()
os.kill(os.getpid(), 9) if sys.argv[1] == "kill" else sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("name, code", [("3", 3), ("kill", -signal.SIGKILL)])
def test_python_for_scripts(tmp_path, name, code):
    (tmp_path / "say.py").write_text(SAY)
    command = [os.path.join(forks.programs(), "python"), "say.py", name]
    done = subprocess.run(
        command,
        input="ä",
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "A": "b", "PYTHONPATH": "/c"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY)),
    )
    assert done.returncode == code
    assert done.stdout == f"['say.py', '{name}'] ['{tmp_path}', '/c'] {tmp_path} b {2**20}\nä []\n"
