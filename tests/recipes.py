"""Runs the recipes' scripts on the corpora of raw_corpora.py, as a user would."""

import os
import shutil
import subprocess
import sys

import forks
import raw_corpora

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BPE = ("iwslt14_de_en", "wmt14_en_de", "multi30k_en_de", "cnn_dm")  # recipes with subword units
STAGES = {
    "iwslt14_de_en": ["raw", "tokens", "clean", "bpe", "bin"],
    "wmt14_en_de": ["raw", "tokens", "clean", "bpe", "bin"],
    "multi30k_en_de": ["raw", "tokens", "bpe", "bin"],
    "cnn_dm": ["stories", "text", "bpe", "bin"],
    "wikitext103": ["text", "bin"],
    "enwik8": ["symbols", "bin"],
    "char_ptb": ["text", "bin"],
}


# The environment of the tests is a good one: the check at the start of each script would take seconds. Then scripts ask
# where fairseq's commands are, and Python.
PYTHON = """#!/bin/sh
case "$1 $2" in
"- "*) exec cat ;;
*scripts*) echo {programs}:{scripts} ;;
*executable*) echo {python} ;;
*/prepare/*) exec {real} "$@" ;; # nothing of fairseq: no faster if forked
*) exec {programs}/python "$@" ;;
esac
"""


class Recipe:
    """One recipe with its small corpus, in a folder."""

    def __init__(self, name, folder):
        self.name, self.folder = name, str(folder)
        self.data = os.path.join(self.folder, "archives")
        self.out = os.path.join(self.folder, "out")
        os.makedirs(self.data)
        raw_corpora.CORPORA[name](self.data)
        self.python = os.path.join(self.folder, "python")
        scripts, programs = os.path.dirname(sys.executable), forks.programs()
        text = PYTHON.format(python=self.python, real=sys.executable, programs=programs, scripts=scripts)
        forks.write_program(self.python, text)

    def script(self, name, *args, check=True, **env):
        done = subprocess.run(
            ["bash", os.path.join(ROOT, "examples", self.name, name), *map(str, args)],
            capture_output=True,
            text=True,
            env={**os.environ, "FEEDBACK_ENV": "active", "PYTHON": self.python, "OMP_NUM_THREADS": "1", **env},
            stdin=subprocess.DEVNULL,
            timeout=280,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def prepare(self, *more, out=None, check=True, **env):
        flags = ["--data", self.data, "--out", out or self.out, "--workers", 2]
        flags += ["--expected", os.path.join(self.data, "expected.txt")]
        if self.name in BPE:
            flags += ["--bpe-size", 150]
        return self.script("prepare.sh", *flags, *more, check=check, **env)

    def path(self, *names):
        return os.path.join(self.out, *names)

    def read(self, *names):
        with open(self.path(*names), encoding="utf-8", newline="\n") as f:
            return f.read().split("\n")[:-1]


def files_of(folder):
    """{path in the folder: bytes}, without logs."""
    found = {}
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "logs"]
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, folder)] = f.read()
    return found


def kill_before_rename(folder):
    """A folder for PATH with a mv that kills the recipe that calls it to give the step $KILL_AT its name."""
    where = os.path.join(str(folder), "kill")
    os.makedirs(where, exist_ok=True)
    forks.write_program(
        os.path.join(where, "mv"),
        "#!/bin/bash\n"
        f'[[ $1 == -T && $4 == */"$KILL_AT" ]] && kill -9 $PPID && exit 1\nexec {shutil.which("mv")} "$@"\n',
    )
    return where
