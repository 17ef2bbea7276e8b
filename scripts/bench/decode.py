#!/usr/bin/env python3
"""Decoding speed and memory of feedback models, against fairseq's transformer and CTranslate2.

    python scripts/bench/decode.py --quick
    python scripts/bench/decode.py --json decode.json --markdown decode.md
    python scripts/bench/decode.py --cases beam-5 --through-fairseq-generate

Cases are those of decode_cases.py. README.md in this folder says what is measured. Speed beside BLEU: depths.sh.
"""

import argparse
import gc
import os
import sys
from dataclasses import replace

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import decode_commands  # noqa: E402
import decode_memory  # noqa: E402
import decode_parity  # noqa: E402
import decode_report  # noqa: E402
import decode_systems  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
import selection  # noqa: E402
import systems  # noqa: E402
from decode_cases import CASES, CTRANSLATE2, FULL, QUICK, SYSTEMS, Generation  # noqa: E402
from tool import whole, write_json  # noqa: E402

from fairseq_feedback.errors import FeedbackError  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases, 2 repeats: does it work?")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help=f"some of: {', '.join(CASES)}")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help=f"some of: {', '.join(SYSTEMS)}")
    parser.add_argument("--repeats", type=int, metavar="N", help="default: 5, or 2 with --quick")
    parser.add_argument("--threads", type=int, metavar="N", default=report.cores(), help="default: the cores")
    parser.add_argument("--through-fairseq-generate", action="store_true", help="time that command, translations only")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks")
    parser.add_argument("--json", metavar="FILE", help="write the result with all single times")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables, which are printed anyway")
    args = parser.parse_args()
    cases = select(args)
    repeats = args.repeats or (2 if args.quick else 5)
    missing = decode_systems.missing()
    torch.set_num_threads(args.threads)
    systems.quiet()

    gate = []
    for case in cases:
        for found in decode_parity.check(case):
            say(f"{found['case']}: {found['shape']} decodes as the reference does, scores to {found['difference']:.1e}")
            gate.append(found)
    rows = []
    for case in cases:
        absent = [system for system in case.systems if system in missing]
        for system in absent:
            say(f"{case.name}: without {system}, which {missing[system]}")
        case = replace(case, systems=tuple(system for system in case.systems if system not in absent))
        if args.through_fairseq_generate:
            rows += decode_commands.run(case, repeats, args.threads, say)
        elif isinstance(case, Generation):
            rows += generate(case, args, repeats)
        else:
            rows += translate(case, args, repeats)
    decode_report.compare(rows)
    about = report.about("scripts/bench/decode.py", "cpu", args.threads, repeats)
    result = dict(about=about, parity=gate, rows=rows)
    if args.json:
        write_json(args.json, result)
    tables = decode_report.markdown(result)
    if args.markdown:
        with whole(args.markdown) as f:
            f.write(tables)
    print(tables, end="")


def select(args):
    cases = selection.select(args, CASES, QUICK, FULL, SYSTEMS)
    if args.through_fairseq_generate:
        cases = [
            replace(case, systems=tuple(s for s in case.systems if s not in CTRANSLATE2), peak=False)
            for case in cases
            if not isinstance(case, Generation) and not case.batches
        ]
    cases = [case for case in cases if case.systems]
    if not cases:
        raise FeedbackError("nothing is left to time: give other --cases or --systems")
    return cases


def translate(case, args, repeats):
    """Rows of the report. All shapes and systems take turns."""
    made = {}
    for shape in case.shapes:
        for system in case.systems:
            made[system, shape.name] = decode_systems.make(case, shape, system, args.threads)
            say(f"{case.name}: {system} {shape.name}, warm-up {measure.timed(made[system, shape.name], 'cpu'):.2f} s")
    seconds = measure.in_turns(made, repeats, "cpu", say)
    rows = [
        decode_report.row(case, shape, system, made[system, shape.name], seconds[system, shape.name])
        for shape in case.shapes
        for system in case.systems
    ]
    made.clear()
    if case.peak and not args.no_memory:
        by_name = {shape.name: shape for shape in case.shapes}
        for r in rows:
            r["peak_bytes"] = decode_memory.peak(case, by_name[r["shape"]], r["system"], args.threads)
            say(f"{case.name}: peak of {r['system']} {r['shape']}: {r['peak_bytes'] / 1e6:.0f} MB")
    return rows


def generate(case, args, repeats):
    """Rows of the report: every system with as many texts at once as the memory limit allows it."""
    rows = []
    for shape in case.shapes:
        made = {}
        for system in case.systems:
            texts = decode_memory.most_rows(case, shape, system, args.threads, say)
            made[system] = decode_systems.make(case, shape, system, args.threads, texts)
            made[system].rows = texts
        seconds = measure.in_turns(made, repeats, "cpu", say)
        for system, one in made.items():
            r = decode_report.row(case, shape, system, one, seconds[system])
            r["rows"] = one.rows
            r["peak_bytes"] = decode_memory.peak(case, shape, system, args.threads, one.rows)
            rows.append(r)
        made.clear()
        gc.collect()
    return rows


def say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except FeedbackError as error:
        sys.exit(f"error: {error}")
