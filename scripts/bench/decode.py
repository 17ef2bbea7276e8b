#!/usr/bin/env python3
"""Decoding speed and memory of feedback models, against fairseq's transformer and CTranslate2.

    python scripts/bench/decode.py --quick
    python scripts/bench/decode.py --json decode.json --markdown decode.md
    python scripts/bench/decode.py --cases beam-5 --through-fairseq-generate
    python scripts/bench/decode.py --cases one-sentence --processes 2

Cases are those of decoding/cases.py. README.md in this folder says what is measured. Speed beside BLEU: depths.sh.
"""

import gc
import os
import sys
from dataclasses import replace

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
from common import command, measure, origin
from common.command import say
from common.origin import cores
from common.report import row
from decoding import commands, memory, parity, report, systems
from decoding.cases import CASES, CTRANSLATE2, FULL, HOST_SEARCH, QUICK, SYSTEMS, Generation
from decoding.processes import Processes
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import run

REPEATS = 5, 2  # without --quick, and with it


def main():
    parser = command.parser(__doc__, CASES, SYSTEMS, REPEATS)
    parser.add_argument("--through-fairseq-generate", action="store_true", help="time that command, translations only")
    parser.add_argument("--processes", type=int, metavar="N",
                        help="as many at once, with one thread and a core each, translations only")  # fmt: skip
    args = parser.parse_args()
    cases = select(args)
    if args.processes:
        args.threads = 1
    repeats = args.repeats or REPEATS[args.quick]
    missing = systems.missing()
    measure.begin(args.threads)

    gate = []
    for case in cases:
        for found in parity.check(case):
            say(f"{found['case']}: {found['shape']} decodes as the reference does, scores to {found['difference']:.1e}")
            gate.append(found)
    rows = []
    for case in cases:
        absent = [system for system in case.systems if system in missing]
        for system in absent:
            say(f"{case.name}: without {system}, which {missing[system]}")
        case = replace(case, systems=tuple(system for system in case.systems if system not in absent))
        if args.through_fairseq_generate:
            rows += commands.run(case, repeats, args.threads, say)
        elif isinstance(case, Generation):
            rows += generate(case, args, repeats)
        else:
            rows += translate(case, args, repeats)
    report.compare(rows)
    about = origin.about("python scripts/bench/decode.py", args.threads * (args.processes or 1), repeats)
    found = dict(about=about, parity=gate, rows=rows)
    command.finish(args, found, report.markdown(found))


def select(args):
    cases = command.select(args, CASES, QUICK, FULL, SYSTEMS)
    if args.processes is not None and not 1 <= args.processes <= cores():
        raise FeedbackError(f"--processes {args.processes}: give 1 to {cores()}, a core each")
    if args.processes and args.through_fairseq_generate:
        raise FeedbackError("--processes and --through-fairseq-generate: give one of them")
    if args.processes:
        cases = [case for case in cases if not isinstance(case, Generation)]
    if args.through_fairseq_generate:
        cases = [
            replace(case, systems=tuple(s for s in case.systems if s not in (*CTRANSLATE2, HOST_SEARCH)), peak=False)
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
            if args.processes:
                one = Processes(case, shape, system, args.processes)
            else:
                one = systems.make(case, shape, system, args.threads)
            made[system, shape.name] = one
            say(f"{case.name}: {system} {shape.name}, warm-up {measure.timed(one, 'cpu'):.2f} s")
    seconds = measure.in_turns(made, repeats, "cpu", say)
    rows = [
        result(case, shape, system, made[system, shape.name], seconds[system, shape.name])
        for shape in case.shapes
        for system in case.systems
    ]
    for one in made.values() if args.processes else ():
        one.close()
    made.clear()
    if case.peak and not args.no_memory and not args.processes:
        by_name = {shape.name: shape for shape in case.shapes}
        for r in rows:
            r["peak_bytes"] = memory.peak(case, by_name[r["shape"]], r["system"], args.threads)
            say(f"{case.name}: peak of {r['system']} {r['shape']}: {r['peak_bytes'] / 1e6:.0f} MB")
    return rows


def generate(case, args, repeats):
    """Rows of the report: every system with as many texts at once as the memory limit allows it."""
    rows = []
    for shape in case.shapes:
        made = {}
        for system in case.systems:
            texts = memory.most_rows(case, shape, system, args.threads, say)
            made[system] = systems.make(case, shape, system, args.threads, texts)
            made[system].rows = texts
        seconds = measure.in_turns(made, repeats, "cpu", say)
        for system, one in made.items():
            r = result(case, shape, system, one, seconds[system], one.rows)
            r["peak_bytes"] = memory.peak(case, shape, system, args.threads, one.rows)
            rows.append(r)
        made.clear()
        gc.collect()
    return rows


def result(case, shape, system, made, seconds, rows=None):
    return row(case.name, system, made.words, made.parameters, seconds, shape=shape.name, rows=rows)


if __name__ == "__main__":
    run(main)
