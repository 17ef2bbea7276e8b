"""Runs fairseq's command lines on tiny corpora, as a user would."""

import contextlib
import json
import math
import os
import random
import socket
import subprocess
import sys

import forks
import torch

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = os.path.join(ROOT, "fairseq_feedback")
TOOL = "fairseq-feedback"
WORDS = "ba be bi bo bu da de di do du ga ge gi go".split()

# What makes any named architecture small enough for a test.
SMALL = [
    *("--encoder-embed-dim", 16, "--encoder-ffn-embed-dim", 24, "--encoder-layers", 1),
    *("--decoder-layers", 2, "--encoder-attention-heads", 2, "--decoder-attention-heads", 2),
]


def shell(command, *args, stdin="", check=True, **env):
    """`python -m fairseq_cli.<command> <args>` -> subprocess.CompletedProcess."""
    done = subprocess.run(
        [sys.executable, "-m", "fairseq_cli." + command, *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        timeout=300,
    )
    return _checked(done, check)


def run(command, *args, stdin="", check=True, log):
    """The same, forked from a process that has imported fairseq: seconds less. `log`: a folder."""
    return Started(command, args, stdin, log).wait(check)


def run_tool(*args, stdin="", check=True, log):
    """`fairseq-feedback <args>`, forked likewise."""
    return start_tool(*args, stdin=stdin, log=log).wait(check)


def start_tool(*args, stdin="", log):
    """run_tool() in the background."""
    return Started(TOOL, args, stdin, log)


def run_script(path, *args, check=True, log, cwd=ROOT):
    """`python <path> <args>`, forked likewise."""
    return Started(path, args, "", log, cwd).wait(check)


def start(command, *args, stdin="", log):
    """run() in the background."""
    return Started(command, args, stdin, log)


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start_two(command, flags, ddp="legacy_ddp", *, log):
    """Two data-parallel workers, on a CPU."""
    port = free_port()
    both = [
        *("--distributed-world-size", 2, "--distributed-init-method", f"tcp://localhost:{port}"),
        *("--distributed-no-spawn", "--distributed-backend", "gloo", "--ddp-backend", ddp),
    ]
    return [start(command, *flags, *both, "--distributed-rank", rank, log=log) for rank in (0, 1)]


FILES = (("in", "r"), ("out", "w"), ("err", "w"))


class Started:
    """A process forked for a command of fairseq_cli, our own command, or a script: a path that ends in .py."""

    def __init__(self, command, args, stdin, log, cwd=ROOT):
        if command == TOOL:
            start = ["-m", "fairseq_feedback"]
        else:
            start = [command] if str(command).endswith(".py") else ["-m", "fairseq_cli." + command]
        self.args = [*map(str, start), *map(str, args)]
        os.makedirs(str(log), exist_ok=True)
        number = len([name for name in os.listdir(str(log)) if name.endswith(".in")])
        self.prefix = os.path.join(str(log), f"{number}-{os.path.basename(str(command))}.")
        with open(self.prefix + "in", "w", encoding="utf-8") as f:
            f.write(stdin)
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(open(self.prefix + name, mode)) for name, mode in FILES]
            self.process = forks.start(self.args, [f.fileno() for f in files], cwd=cwd, env=os.environ)

    def wait(self, check=True, timeout=300):
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            check = True  # fails below, and shows what the command has said
        done = subprocess.CompletedProcess(self.args, self.process.exitcode, self._said("out"), self._said("err"))
        return _checked(done, check)

    def _said(self, name):
        with open(self.prefix + name, encoding="utf-8") as f:
            return f.read()


def _checked(done, check):
    if check:
        assert done.returncode == 0, f"{done.args}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


def last_line(text):
    return text.rstrip().rsplit("\n", 1)[-1]


def write_corpus(folder, train=40, valid=6, test=8, longest=7, words=WORDS, seed=0):
    """Sentences of random words; their translation is the same in capitals."""
    os.makedirs(str(folder), exist_ok=True)
    rng = random.Random(seed)
    for split, size in (("train", train), ("valid", valid), ("test", test)):
        lines = [" ".join(rng.choice(words) for _ in range(rng.randint(2, longest))) + "\n" for _ in range(size)]
        for language, text in (("xx", lines), ("yy", [line.upper() for line in lines])):
            with open(os.path.join(str(folder), f"{split}.{language}"), "w") as f:
                f.writelines(text)


def preprocess_flags(raw, data):
    flags = ["--source-lang", "xx", "--target-lang", "yy", "--destdir", data, "--workers", 1]
    for split in ("train", "valid", "test"):
        flags += [f"--{split}pref", os.path.join(str(raw), split)]
    return flags


def make_data(folder, **corpus):
    """A preprocessed corpus -> its folder."""
    raw, data = os.path.join(str(folder), "raw"), os.path.join(str(folder), "data")
    write_corpus(raw, **corpus)
    run("preprocess", *preprocess_flags(raw, data), log=os.path.join(str(folder), "log"))
    return data


def make_text(folder, name="text", train=40, valid=6, test=8, **corpus):
    """A preprocessed corpus for a language model -> its folder."""
    raw, data = os.path.join(str(folder), name + "-raw"), os.path.join(str(folder), name)
    write_corpus(raw, train, valid, test, **corpus)
    flags = ["--only-source", "--destdir", data, "--workers", 1]
    for split in ("train", "valid", "test"):
        flags += [f"--{split}pref", os.path.join(raw, split + ".xx")]
    run("preprocess", *flags, log=os.path.join(str(folder), "log"))
    return data


def common_flags(data):
    return [
        *(data, "--user-dir", PACKAGE, "--cpu", "--num-workers", 0),
        # fairseq's default, 8, leaves out a last batch of any other size, in generation too.
        *("--required-batch-size-multiple", 1),
    ]


def train_flags(data, save_dir, *more, updates=6, arch="feedback_transformer_tiny"):
    """More flags may repeat these: the last one counts."""
    return [
        *common_flags(data),
        *("--task", "translation", "--arch", arch, *SMALL, "--batch-size", 8),
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", 0.1),
        *("--optimizer", "adam", "--lr", 0.01, "--max-update", updates),
        *("--lr-scheduler", "inverse_sqrt", "--warmup-updates", 4),
        *("--save-dir", save_dir, "--no-epoch-checkpoints"),
        *("--log-format", "json", "--log-interval", 1, *more),
    ]


SMALL_LM = [
    *("--decoder-embed-dim", 16, "--decoder-ffn-embed-dim", 24, "--decoder-layers", 2),
    *("--decoder-attention-heads", 2, "--memory-span", 6, "--attention-dropout", 0.1),
]


def train_lm_flags(data, save_dir, *more, updates=6, arch="feedback_transformer_lm"):
    """More flags may repeat these: the last one counts."""
    return [
        *common_flags(data),
        *("--task", "feedback_lm", "--arch", arch, *SMALL_LM, "--batch-size", 4, "--tokens-per-sample", 5),
        *("--criterion", "feedback_lm_loss", "--optimizer", "adam", "--lr", 0.01, "--max-update", updates),
        *("--save-dir", save_dir, "--no-epoch-checkpoints"),
        *("--log-format", "json", "--log-interval", 1, *more),
    ]


def generate_flags(data, path, *more):
    # Sentences of at most 10 words: what is hardly trained would go on to 200.
    return [*common_flags(data), "--path", path, "--batch-size", 4, "--max-len-b", 10, *more]


def logged(stdout, tag):
    """The statistics that a training logged under a tag: train_inner, train, valid."""
    lines = [line.split(f"| {tag} | ", 1) for line in stdout.splitlines()]
    return [json.loads(line[1]) for line in lines if len(line) == 2]


def losses(stdout):
    """The loss of each update."""
    found = [float(stats["loss"]) for stats in logged(stdout, "train_inner")]
    assert found and all(math.isfinite(loss) for loss in found)
    return found


def hypotheses(stdout, kind="H"):
    """Lines of generation of one kind (H, P, A, ...) -> {sentence: [what follows, best first]}."""
    found = {}
    for line in stdout.splitlines():
        name, _, rest = line.partition("\t")
        if name.startswith(kind + "-"):
            found.setdefault(int(name[2:]), []).append(rest.split("\t"))
    return found


def texts(stdout):
    """{sentence: [(text), ...]} of hypotheses, best first."""
    return {i: [text for _, text in found] for i, found in hypotheses(stdout).items()}


def best(stdout):
    """{sentence: (score, text)} of the best hypotheses."""
    return {i: (float(found[0][0]), found[0][1]) for i, found in hypotheses(stdout).items()}


def position_scores(stdout):
    """{sentence: log2 probability of each word and of the end} of the best hypotheses."""
    return {i: [float(p) for p in found[0][0].split()] for i, found in hypotheses(stdout, "P").items()}


def load(path):
    """A checkpoint as torch reads it, by its safe loader."""
    return torch.load(str(path), map_location="cpu")
