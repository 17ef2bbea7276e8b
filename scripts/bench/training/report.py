"""The result: a dictionary for JSON, and a Markdown table made from it."""

import os
import platform
import re
import shlex
import statistics
import subprocess
import sys

import torch
from cases import TRANSFORMER

HERE = os.path.dirname(os.path.abspath(__file__))


def about(script, device, threads, repeats):
    """What a reader has to know to run it again."""
    return dict(
        command=shlex.join(["python", script, *sys.argv[1:]]),
        commit=commit(),
        device=torch.cuda.get_device_name() if device == "cuda" else "CPU",
        cpu=cpu(),
        cores=cores(),
        threads=threads,
        repeats=repeats,
        python=platform.python_version(),
        torch=torch.__version__,
    )


def commit():
    def git(*args):
        done = subprocess.run(["git", "-C", HERE, *args], capture_output=True, text=True)
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


def row(case, system, words=None, parameters=None, seconds=(), peak_bytes=None, note=""):
    """One line of the table; compare() adds what compares it with the transformer."""
    median = statistics.median(seconds) if seconds else None
    return dict(
        case=case,
        system=system,
        words=words,
        parameters=parameters,
        seconds=list(seconds),
        median_seconds=median,
        words_per_second=words / median if median else None,
        peak_bytes=peak_bytes,
        note=note,
    )


def compare(rows):
    baselines = {r["case"]: r for r in rows if r["system"] == TRANSFORMER}
    for r in rows:
        baseline = baselines.get(r["case"])
        r["time_ratio"] = ratio(r, baseline, "median_seconds")
        r["peak_ratio"] = ratio(r, baseline, "peak_bytes")


def ratio(r, baseline, name):
    return r[name] / baseline[name] if baseline and r[name] is not None and baseline[name] else None


def markdown(result):
    """A line for each case, a column for each system."""
    rows = {(r["case"], r["system"]): r for r in result["rows"]}
    cases = list(dict.fromkeys(case for case, _ in rows))
    systems = list(dict.fromkeys(system for _, system in rows))
    notes = {}
    lines = [
        "| case | " + " | ".join(systems) + " |",
        "|---|" + "---|" * len(systems),
    ]
    for case in cases:
        cells = [cell(rows.get((case, system)), notes) for system in systems]
        lines.append("| " + " | ".join([case, *cells]) + " |")
    lines += ["", "Words/s, then time and peak memory as a multiple of the transformer's (its own: MB).", ""]
    lines += [f"[{n}] {system}: {note}.  " for (system, note), n in notes.items()]
    if notes:
        lines.append("")
    lines.append(origin(result["about"]))
    return "\n".join(lines) + "\n"


def origin(a):
    """The line under a table: how and where it was made. `a`: of about()."""
    where = a["cpu"] if a["device"] == "CPU" else "{} with {}".format(a["device"], a["cpu"])
    return (
        f"`{a['command']}` at commit {a['commit']}; {where}, {a['cores']} cores, {a['threads']} threads, "
        f"torch {a['torch']}, Python {a['python']}; median of {a['repeats']} repeats."
    )


def cell(r, notes):
    if r is None:
        return ""
    if r["system"] == TRANSFORMER:
        second, third = "1", number(r["peak_bytes"] and r["peak_bytes"] / 1e6, ",.0f") + " MB"
    else:
        second, third = number(r["time_ratio"], ".2f"), number(r["peak_ratio"], ".2f")
    mark = " [{}]".format(notes.setdefault((r["system"], r["note"]), len(notes) + 1)) if r["note"] else ""
    return f"{number(r['words_per_second'], ',.0f')} · {second} · {third}{mark}"


def number(value, form):
    return "–" if value is None else format(value, form)
