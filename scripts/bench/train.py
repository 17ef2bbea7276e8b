#!/usr/bin/env python3
"""Training speed and memory of the feedback decoder, against fairseq's transformer and other implementations.

    python scripts/bench/train.py --quick
    python scripts/bench/train.py --json train.json --markdown train.md

Cases are those of cases.py. README.md in this folder says what is measured.
"""

import argparse
import json
import os
import sys
from dataclasses import replace

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
import measure  # noqa: E402
import parity  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
import selection  # noqa: E402
import systems  # noqa: E402
from cases import CASES, FULL, LM, PEERS, QUICK  # noqa: E402

from fairseq_feedback.errors import FeedbackError  # noqa: E402

FAILURE = "does not run: "


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases, 3 repeats: does it work?")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help=f"some of: {', '.join((*LM, *PEERS))}")
    parser.add_argument("--repeats", type=int, metavar="N", help="default: 5, or 3 with --quick")
    parser.add_argument("--threads", type=int, metavar="N", default=report.cores(), help="default: the cores")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--bf16", action="store_true", help="time in bfloat16; the gate stays in float32")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks")
    parser.add_argument("--authors-repo", metavar="PATH", help="a checkout of transformer-sequential, to compare with")
    parser.add_argument("--json", metavar="FILE", help="write the result with all single times")
    parser.add_argument("--markdown", metavar="FILE", help="write the table, which is printed anyway")
    args = parser.parse_args()
    cases = select(args)
    repeats = args.repeats or (3 if args.quick else 5)
    missing = peers.missing(args.authors_repo)
    torch.set_num_threads(args.threads)
    systems.quiet()

    gate = []
    for case in cases:
        for found in parity.check(case, args.device):
            say(f"{found['case']}: {found['system']} is the same as the reference kernel to {found['difference']:.1e}")
            gate.append(found)
    rows = []
    for case in cases:
        rows += run(replace(case, bf16=args.bf16), args, repeats, missing)
    report.compare(rows)
    about = report.about("scripts/bench/train.py", args.device, args.threads, repeats)
    result = dict(about=about, parity=gate, rows=rows)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
            f.write("\n")
    table = report.markdown(result)
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as f:
            f.write(table)
    print(table, end="")
    for r in rows:
        if r["note"].startswith(FAILURE) and r["system"] not in PEERS:
            raise FeedbackError(f"{r['case']}: {r['system']} {r['note']}")


def select(args):
    if args.device == "cuda" and not torch.cuda.is_available():
        raise FeedbackError("--device cuda: torch finds no such device")
    return selection.select(args, CASES, QUICK, FULL, (*LM, *PEERS))


def run(case, args, repeats, missing):
    """Times and peaks of all systems of a case, as rows of the report."""
    made, rows = {}, {}
    for system in case.systems:
        if system in missing:
            say(f"{case.name}: without {system}, which {missing[system]}")
            continue
        try:
            made[system] = systems.make(case, system, args.device, args.authors_repo)
            warm_up = measure.timed(made[system], args.device)
            say(f"{case.name}: {system} runs, warm-up {warm_up:.3f} s")
        except Exception as error:
            made.pop(system, None)
            rows[system] = report.row(case.name, system, note=failure(error))
            say(f"{case.name}: {system} {failure(error)}")
    seconds = measure.in_turns(made, repeats, args.device, say)
    for system, s in made.items():
        parameters = sum(p.numel() for p in s.module.parameters())
        rows[system] = report.row(case.name, system, s.words, parameters, seconds[system], note=s.note)
    timed = list(made)
    made.clear()  # to leave the memory to the processes that measure it
    if not args.no_memory:
        for system in timed:
            try:
                peak = measure.peak_memory(case, system, (args.device, args.threads, args.authors_repo))
                rows[system]["peak_bytes"] = peak
                say(f"  peak of {system}: {peak / 1e6:.1f} MB")
            except Exception as error:
                rows[system]["note"] = failure(error)
                say(f"  {system} alone in a process {failure(error)}")
    return [rows[system] for system in case.systems if system in rows]


def failure(error):
    return FAILURE + ((str(error).strip() or repr(error)).split("\n")[0].rstrip("."))


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except FeedbackError as error:
        sys.exit(f"error: {error}")
