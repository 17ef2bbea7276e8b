"""The cases that a command line asks for, after a look at what would otherwise fail only when all is measured."""

import os
from dataclasses import replace

from fairseq_feedback.errors import FeedbackError


def select(args, cases, quick, full, systems):
    """`cases`: all, by name; `quick` and `full`: what --quick and its absence mean; `systems`: names of all."""
    for option, known in (("cases", cases), ("systems", systems)):
        for name in getattr(args, option) or []:
            if name not in known:
                raise FeedbackError(f"--{option} {name}: give some of {', '.join(known)}")
    for name in ("repeats", "threads"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise FeedbackError(f"--{name} {getattr(args, name)}: give at least 1")
    for name in ("json", "markdown"):
        folder = os.path.dirname(os.path.abspath(getattr(args, name) or ""))
        if not os.path.isdir(folder):
            raise FeedbackError(f"--{name} {getattr(args, name)}: the folder does not exist")
    chosen = [cases[name] for name in args.cases] if args.cases else quick if args.quick else full
    if args.systems:
        chosen = [replace(case, systems=tuple(s for s in case.systems if s in args.systems)) for case in chosen]
    return chosen
