"""Every block of the README and of the other pages, typed as it stands and in order, in one folder for each page.

fairseq-train gets few updates and small models, and data are small. Recipes and other scripts that take minutes are
only asked whether they know their options: test_recipes_*.py, test_state_tracking.py and others run them.
"""

import os
import random
import re
import shutil
import subprocess
import sys

import cli
import forks
import pytest
from helpers import needs_current_fairseq

pytestmark = needs_current_fairseq

PAGES = [
    "README.md",
    *("examples/HYPERPARAMETERS.md", "examples/PYTHON.md", "examples/README.md", "examples/ablations/README.md"),
    *("examples/char_ptb/README.md", "examples/cnn_dm/README.md", "examples/enwik8/README.md"),
    "examples/hydra/README.md",
    *("examples/iwslt14_de_en/README.md", "examples/multi30k_en_de/README.md", "examples/onnx/README.md"),
    *("examples/quickstart/README.md", "examples/reinforcement/README.md", "examples/state_tracking/README.md"),
    *("examples/tiny_shakespeare/README.md", "examples/wikitext103/README.md", "examples/wmt14_en_de/README.md"),
    *("fairseq_feedback/tasks/README.md", "fairseq_feedback/tools/README.md"),
]
WORDS = [*cli.WORDS, "The", "old", "man"]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.M | re.S)

# The last of two equal options counts.
LESS = "--cpu --num-workers 0 --max-update 3 --decoder-layers 1 --required-batch-size-multiple 1"
LESS_BY_HYDRA = (
    "common.cpu=true dataset.num_workers=0 dataset.required_batch_size_multiple=1 "
    "optimization.max_update=3 checkpoint.no_epoch_checkpoints=true"
)
FAST = "--cpu --max-len-b 6 --required-batch-size-multiple 1"
PROGRAMS = {
    "fairseq-train": f'exec {{programs}}/fairseq-train "$@" {LESS}',
    "fairseq-hydra-train": f'exec {{real}} -m fairseq_cli.hydra_train "$@" {LESS_BY_HYDRA}',
    "fairseq-generate": f'exec {{programs}}/fairseq-generate "$@" {FAST}',
    "fairseq-interactive": f'exec {{programs}}/fairseq-interactive "$@" {FAST}',
    "fairseq-eval-lm": 'exec {programs}/fairseq-eval-lm "$@" --cpu --required-batch-size-multiple 1',
    "fairseq-validate": 'exec {programs}/fairseq-validate "$@" --cpu --required-batch-size-multiple 1',
    "fairseq-preprocess": 'exec {programs}/fairseq-preprocess "$@"',
    "fairseq-feedback": """
case "$1" in translate) set -- "$@" --cpu --max-len-b 6 --workers 1 ;; esac
exec {programs}/python -m fairseq_feedback "$@" """,
    "pip": '[ "$1" = install ]',
    "bash": 'exec {real} {knows} /bin/bash "$@"',
    "python": """
case "$1" in examples/onnx/*) exec {real} "$@" ;; esac
exec {real} {knows} {real} "$@" """,
    "sbatch": """
for last in "$@"; do :; done
for SLURM_ARRAY_TASK_ID in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
    export SLURM_ARRAY_TASK_ID; /bin/bash -ec "$last" || exit 1
done""",
}
# Of a script and its arguments, `bash x.sh --a 1` or `python x.py --a 1`: does it exist, and know the options?
KNOWS = """
import os, re, subprocess, sys
command, words = sys.argv[1:3], sys.argv[3:]
assert os.path.exists(command[1]), f"there is no {command[1]}"
kept = command[1].replace("/", "-") + ".help"
if not os.path.exists(kept):
    with open(kept, "w") as f:
        subprocess.run([*command, "--help"], stdout=f, check=True)
ours = words[: words.index("--")] if "--" in words else words
unknown = [w for w in ours if w.startswith("--") and not re.search(re.escape(w) + r"(?![\\w-])", open(kept).read())]
assert not unknown, f"{command[1]} does not know {unknown}"
"""


def blocks(page):
    with open(os.path.join(cli.ROOT, page), encoding="utf-8") as f:
        return BLOCK.findall(f.read())


def test_no_page_is_left_out():
    found = subprocess.run(["git", "ls-files", "*.md"], cwd=cli.ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a clone of the repository")
    assert [page for page in sorted(found.stdout.split()) if blocks(page)] == sorted(PAGES)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Data and models, made once: what the pages take for granted."""
    folder = tmp_path_factory.mktemp("pages")
    write_texts(folder)
    split = [f"--{name}pref {name}" for name in ("train", "valid", "test")]
    words = "--source-lang en --target-lang de --destdir data-bin --workers 1 --joined-dictionary"
    command("preprocess", " ".join([*split, words]).split(), folder)
    text = cli.make_text(folder, valid=24)
    os.rename(text, folder / "lm-data-bin")
    kept = ["--keep-last-epochs", 10, "--batch-size", 20, "--no-last-checkpoints"]
    for name, flags, more in (
        ("checkpoints", cli.train_flags(folder / "data-bin", folder / "checkpoints", updates=20), kept),
        ("lm-checkpoints", cli.train_lm_flags(folder / "lm-data-bin", folder / "lm-checkpoints", updates=6), []),
    ):
        flags = [flag for flag in flags if flag != "--no-epoch-checkpoints"]
        cli.run("train", *flags, *more, log=folder / "log")
        assert (folder / name / "checkpoint_best.pt").exists()
    return folder


def command(name, words, folder):
    subprocess.run([sys.executable, "-m", "fairseq_cli." + name, *words], cwd=folder, check=True, capture_output=True)


def write_texts(folder):
    """Text in two languages, as words, as pieces of words, and as the tools call their files."""
    rng = random.Random(0)
    for split, size in (("train", 40), ("valid", 24), ("test", 24)):
        lines = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 7))) + "\n" for _ in range(size)]
        names = [f"{split}.en", f"{split}.de", f"{split}.txt", f"{split}.bpe.en", f"{split}.bpe.de"]
        for name in names + (["news.en", "sentences.bpe"] if split == "test" else []):
            (folder / name).write_text("".join(lines))
    (folder / "news.en").write_text("ba be\n" * 16)  # a line for each of 16 machines
    (folder / "codes").write_text("#version: 0.2\n" + "".join(f"{word[0]} {word[1]}</w>\n" for word in cli.WORDS))
    for split in ("train", "valid"):
        bits = [[rng.choice("01") for _ in range(rng.randint(2, 6))] for _ in range(20)]
        (folder / f"{split}.bit").write_text("".join(" ".join(line) + "\n" for line in bits))
        sums = [" ".join(str(line[: i + 1].count("1") % 2) for i in range(len(line))) + "\n" for line in bits]
        (folder / f"{split}.parity").write_text("".join(sums))


def prepare(page, shelf, folder):
    """What a page begins with."""
    for name in ("examples", "scripts", "fairseq_feedback"):
        os.symlink(os.path.join(cli.ROOT, name), folder / name)
    for path in shelf.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    given = {
        "README.md": ["data-bin"],
        "examples/PYTHON.md": ["data-bin", "checkpoints", "lm-data-bin", "lm-checkpoints"],
        "fairseq_feedback/tasks/README.md": [],
    }
    for name in given.get(page, ["data-bin", "checkpoints"]):
        shutil.copytree(shelf / name, folder / name)
    if page == "fairseq_feedback/tools/README.md":
        shutil.copy(shelf / "checkpoints" / "checkpoint_best.pt", folder)
    if page == "examples/hydra/README.md":
        shutil.copytree(shelf / "lm-data-bin", folder / "data-lm")
    if page == "examples/tiny_shakespeare/README.md":
        shutil.copytree(shelf / "lm-data-bin", folder / "tiny-shakespeare-run" / "data")
        shutil.copytree(shelf / "lm-checkpoints", folder / "tiny-shakespeare-run" / "feedback")


def write_programs(folder):
    programs = forks.programs()
    (folder / "bin").mkdir()
    (folder / "knows.py").write_text(KNOWS)
    for name, text in PROGRAMS.items():
        text = text.format(programs=programs, real=sys.executable, knows=folder / "knows.py")
        forks.write_program(folder / "bin" / name, "#!/bin/bash\n" + text + "\n")


SLOW = "examples/hydra/README.md"  # four trainings by hydra


@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.slow] * (page == SLOW)) for page in PAGES])
def test_page(page, shelf, tmp_path):
    prepare(page, shelf, tmp_path)
    write_programs(tmp_path)
    env = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PYTHONPATH": cli.ROOT}
    env.update(OMP_NUM_THREADS="1", FEEDBACK_ENV="active", PYTHON=sys.executable)
    found = blocks(page)
    typed = [["/bin/bash", "-euo", "pipefail", "-c", text] for language, text in found if language == "bash"]
    python = [text for language, text in found if language == "python"]  # one session
    for command in typed + [[sys.executable, "-c", "\n".join(python)]] * bool(python):
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
