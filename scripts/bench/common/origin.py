"""How and where a result was made."""

import os
import platform
import re
import shlex
import subprocess
import sys

import torch


def about(script, threads, repeats, device="cpu"):
    """What a reader has to know to run it again."""
    return dict(
        command=shlex.join([*script.split(), *sys.argv[1:]]),
        commit=commit(),
        device=torch.cuda.get_device_name() if device == "cuda" else "CPU",
        cpu=cpu(),
        cores=cores(),
        threads=threads,
        repeats=repeats,
        python=platform.python_version(),
        torch=torch.__version__,
    )


def sentence(a):
    """The line under a table. `a`: of about()."""
    where = a["cpu"] if a["device"] == "CPU" else "{} with {}".format(a["device"], a["cpu"])
    return (
        f"`{a['command']}` at commit {a['commit']}; {where}, {a['cores']} cores, {a['threads']} threads, "
        f"torch {a['torch']}, Python {a['python']}; median of {a['repeats']} repeats."
    )


def commit():
    def git(*args):
        folder = os.path.dirname(os.path.abspath(__file__))
        done = subprocess.run(["git", "-C", folder, *args], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (" dirty" if changed else "")
    except OSError:
        return "unknown"


def cpu():
    try:
        with open("/proc/cpuinfo") as f:
            return re.search(r"model name\s*: (.*)", f.read()).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
