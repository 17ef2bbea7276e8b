"""The command `fairseq-feedback`: finds the tool that a sub-command names, and gives it its options."""

import importlib
import sys

from fairseq_feedback.tools.program import Parser, run

PROGRAM = "fairseq-feedback"
TOOLS = {  # sub-command: module
    "info": "info",
    "options": "options",
    "translate": "translate",
    "average": "average",
    "export": "export",
    "import": "import_transformer_sequential",
    "score bleu": "score_bleu",
    "score rouge": "score_rouge",
    "tune": "tune",
    "shortlist": "shortlist",
    "split-compounds": "split_compounds",
    "inspect": "inspect_checkpoint",
    "plot": "plot",
}
USAGE = f"""\
usage: {PROGRAM} SUB-COMMAND [OPTION...]

{{list}}

`{PROGRAM} SUB-COMMAND --help` shows the options, with an example. `python -m fairseq_feedback` is the same command."""


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else [str(argument) for argument in arguments]
    run(lambda: dispatch(arguments))


def dispatch(arguments):
    arguments = arguments or ["info"]
    for name in TOOLS:
        words = name.split()
        if arguments[: len(words)] == words:
            start(name, arguments[len(words) :])
            return
    group = [name for name in TOOLS if name.startswith(arguments[0] + " ")]
    if arguments[1 if group else 0 :][:1] in (["-h"], ["--help"]):
        print(USAGE.format(list=summaries(group or TOOLS)))
    else:
        wrong = " ".join(arguments[: 2 if group else 1])
        Parser(prog=PROGRAM).error(f"there is no sub-command {wrong}: give one of {', '.join(group or TOOLS)}")


def start(name, arguments):
    tool = load(name)
    parser = Parser(tool.__doc__, prog=f"{PROGRAM} {name}")
    tool.add_arguments(parser)
    parse = getattr(tool, "parse", Parser.parse_args)  # of a tool that hands options on to fairseq
    tool.main(parse(parser, arguments))


def load(name):
    return importlib.import_module(f"fairseq_feedback.tools.{TOOLS[name]}")


def summaries(names):
    width = max(map(len, names))
    return "\n".join(f"  {name:<{width}}  {load(name).__doc__.splitlines()[0]}" for name in names)
