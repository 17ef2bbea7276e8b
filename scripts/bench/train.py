#!/usr/bin/env python3
"""Training speed and memory of the feedback decoder, against fairseq's transformer and other implementations.

    python scripts/bench/train.py --quick
    python scripts/bench/train.py --json train.json --markdown train.md

Cases are those of training/cases.py. README.md in this folder says what is measured.
"""

import os
import sys
from dataclasses import replace

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
from common import command, measure, origin
from common.command import say
from common.report import row
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import run
from training import parity, peers, report, systems
from training.cases import CASES, FULL, LM, PEERS, QUICK

FAILURE = "does not run: "
REPEATS = 5, 3  # without --quick, and with it


def main():
    parser = command.parser(__doc__, CASES, (*LM, *PEERS), REPEATS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--bf16", action="store_true", help="time in bfloat16; the gate stays in float32")
    parser.add_argument("--authors-repo", metavar="PATH", help="a checkout of transformer-sequential, to compare with")
    args = parser.parse_args()
    cases = select(args)
    repeats = args.repeats or REPEATS[args.quick]
    missing = peers.missing(args.authors_repo)
    measure.begin(args.threads)

    gate = []
    for case in cases:
        for found in parity.check(case, args.device):
            say(f"{found['case']}: {found['system']} is the same as the reference kernel to {found['difference']:.1e}")
            gate.append(found)
    rows = []
    for case in cases:
        rows += measured(replace(case, bf16=args.bf16), args, repeats, missing)
    report.compare(rows)
    about = origin.about("python scripts/bench/train.py", args.threads, repeats, args.device)
    result = dict(about=about, parity=gate, rows=rows)
    command.finish(args, result, report.markdown(result))
    for r in rows:
        if r["note"].startswith(FAILURE) and r["system"] not in PEERS:
            raise FeedbackError(f"{r['case']}: {r['system']} {r['note']}")


def select(args):
    if args.device == "cuda" and not torch.cuda.is_available():
        raise FeedbackError("--device cuda: torch finds no such device")
    return command.select(args, CASES, QUICK, FULL, (*LM, *PEERS))


def measured(case, args, repeats, missing):
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
            rows[system] = row(case.name, system, note=failure(error))
            say(f"{case.name}: {system} {failure(error)}")
    seconds = measure.in_turns(made, repeats, args.device, say)
    for system, s in made.items():
        parameters = sum(p.numel() for p in s.module.parameters())
        rows[system] = row(case.name, system, s.words, parameters, seconds[system], note=s.note)
    timed = list(made)
    made.clear()  # to leave the memory to the processes that measure it
    if not args.no_memory:
        for system in timed:
            try:
                peak = measure.peak(
                    systems.make_loaded, case, system, args.device, args.authors_repo,
                    threads=args.threads, device=args.device,
                )  # fmt: skip
                rows[system]["peak_bytes"] = peak
                say(f"  peak of {system}: {peak / 1e6:.1f} MB")
            except Exception as error:
                rows[system]["note"] = failure(error)
                say(f"  {system} alone in a process {failure(error)}")
    return [rows[system] for system in case.systems if system in rows]


def failure(error):
    return FAILURE + ((str(error).strip() or repr(error)).split("\n")[0].rstrip("."))


if __name__ == "__main__":
    run(main)
