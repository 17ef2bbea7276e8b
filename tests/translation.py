"""What the tests of `fairseq-feedback translate` share: a corpus with checkpoints, and one translation."""

import os
import re
import time
from types import SimpleNamespace

import cli

SHORT = ("--cpu", "--max-len-b", 10)  # what is hardly trained would go on to 200


def make(folder):
    """Data, and checkpoints of both architectures."""
    data = cli.make_data(folder)
    paths = {}
    for arch in ("feedback_transformer_tiny", "transformer"):
        more = ["--decoder-embed-dim", 16, "--decoder-ffn-embed-dim", 24] if arch == "transformer" else []
        flags = cli.train_flags(data, folder / arch, *more, updates=30, arch=arch)
        cli.run("train", *flags, log=folder / "log")
        paths[arch] = str(folder / arch / "checkpoint_last.pt")
    (folder / "codes").write_text("#version: 0.2\n" + "".join(f"{word[0]} {word[1]}</w>\n" for word in cli.WORDS))
    (folder / "unk").write_text("ba BE\ndo IN\n")
    with open(folder / "raw" / "train.xx", encoding="utf-8") as f:
        lines = f.read().splitlines()
    return SimpleNamespace(folder=folder, data=data, log=folder / "log", lines=lines, **paths)


class Work:
    def __init__(self, made, folder):
        self.made, self.folder = made, folder
        self.path = made.feedback_transformer_tiny
        self.input, self.output = folder / "in", folder / "out"
        self.part, self.state = folder / "out.part", folder / "out.part.json"
        self.write(made.lines)

    def write(self, lines):
        self.input.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def flags(self, *more):
        """More flags may repeat these: the last one counts."""
        return [
            *(self.made.data, *SHORT, "--path", self.path, "--input", self.input, "--output", self.output),
            *("--workers", 1, *more),
        ]

    def start(self, *more):
        return cli.start_tool("translate", *self.flags(*more), log=self.made.log)

    def run(self, *more, check=True):
        return self.start(*more).wait(check)

    def result(self, *more):
        """The bytes of an uninterrupted run to another file."""
        path = self.folder / "whole"
        self.run(*more, "--output", path)
        return path.read_bytes()

    def refused(self, *more):
        """The one sentence that it ends with."""
        done = self.run(*more, check=False)
        usual = re.compile(r"\d+ workers?, \d+ thread|.* lines/s, |.* lines are there already: ")
        said = [line for line in done.stderr.splitlines() if not usual.match(line)]
        assert done.returncode in (1, 2) and len(said) == 1 and said[0].startswith("error: "), done.stderr
        return said[0]

    def wait_for_lines(self, number, started):
        """Until so many lines are in the unfinished output."""
        limit = time.time() + 60
        while not self.part.exists() or self.part.read_bytes().count(b"\n") < number:
            assert started.process.is_alive() and time.time() < limit, started._said("err")
            time.sleep(0.01)

    def wait_for_workers(self, number, started):
        limit = time.time() + 60
        while len(workers := children(started.process.pid)) < number:
            assert started.process.is_alive() and time.time() < limit, started._said("err")
            time.sleep(0.01)
        return workers


def translated(text):
    return text.decode("utf-8").split("\n")[:-1]


def children(pid):
    """Worker processes."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as f:
                parent = int(f.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{name}/cmdline") as f:
                if parent == pid and "spawn_main" in f.read():
                    found.append(int(name))
        except OSError:  # has ended
            pass
    return found
