"""The command line of a benchmark: its options, the cases that they ask for, and where the result goes."""

import os
import sys
from dataclasses import replace

from common.origin import cores
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import whole, write_json
from fairseq_feedback.tools.program import Parser, at_least_one


def parser(doc, cases, systems, repeats):
    """`cases`: all, by name; `systems`: names of all; `repeats`: how many without --quick, and with it."""
    made = Parser(doc)
    made.add_argument("--quick", action="store_true", help="small cases, few repeats: does it work?")
    made.add_argument("--cases", nargs="+", metavar="NAME", help=f"some of: {', '.join(cases)}")
    made.add_argument("--systems", nargs="+", metavar="NAME", help=f"some of: {', '.join(systems)}")
    made.add_argument("--repeats", type=int, metavar="N", help="default: {}, or {} with --quick".format(*repeats))
    made.add_argument("--threads", type=int, metavar="N", default=cores(), help="default: the cores")
    made.add_argument("--no-memory", action="store_true", help="leave out the peaks")
    made.add_argument("--json", metavar="FILE", help="write the result with all single times")
    made.add_argument("--markdown", metavar="FILE", help="write the tables, which are printed anyway")
    return made


def select(args, cases, quick, full, systems):
    """The cases, after a look at what would otherwise fail only when all is measured. `quick` and `full`: what --quick
    and its absence mean."""
    for option, known in (("cases", cases), ("systems", systems)):
        for name in getattr(args, option) or []:
            if name not in known:
                raise FeedbackError(f"--{option} {name}: give some of {', '.join(known)}")
    at_least_one(args, "repeats", "threads")
    for name in ("json", "markdown"):
        folder = os.path.dirname(os.path.abspath(getattr(args, name) or ""))
        if not os.path.isdir(folder):
            raise FeedbackError(f"--{name} {getattr(args, name)}: the folder does not exist")
    chosen = [cases[name] for name in args.cases] if args.cases else quick if args.quick else full
    if args.systems:
        chosen = [replace(case, systems=tuple(s for s in case.systems if s in args.systems)) for case in chosen]
    return chosen


def finish(args, result, text):
    """`text`: the tables made from the result."""
    if args.json:
        write_json(args.json, result)
    if args.markdown:
        with whole(args.markdown) as f:
            f.write(text)
    print(text, end="")


def say(line):
    print(line, file=sys.stderr, flush=True)
