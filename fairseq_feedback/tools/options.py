"""The options of an architecture: what each is if nobody sets it, and what it does.

    fairseq-feedback options
    fairseq-feedback options --arch feedback_transformer_lm_wiki103_large

Architectures with the name of a data set have the paper's values for it. Training itself has more options, which
`fairseq-train --user-dir fairseq_feedback --arch ARCH --help` shows, too.
"""

import shutil
import sys
import textwrap

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import quiet

FIRST = "feedback_transformer"


def add_arguments(parser):
    parser.add_argument("--arch", default=FIRST, metavar="ARCH", help="an architecture of this package (%(default)s)")


def main(args):
    quiet()
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY, ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY

    import fairseq_feedback.plugin  # noqa: F401

    ours = [arch for arch, model in ARCH_MODEL_REGISTRY.items() if model.__module__.startswith("fairseq_feedback.")]
    if args.arch not in ours:
        raise FeedbackError(f"--arch {args.arch}: give one of {', '.join(ours)}")
    first = ARCH_MODEL_NAME_REGISTRY[args.arch]
    kind = MODEL_DATACLASS_REGISTRY[first]
    complete = sys.modules[ARCH_MODEL_REGISTRY[first].__module__].complete_architecture
    base, chosen = kind(), kind()
    complete(base, first)
    complete(chosen, args.arch)
    print(args.arch + (f"; in brackets what {first} has" if args.arch != first else "") + "\n")
    rows = list(table(kind, base, chosen))
    names, values = (max(len(row[i]) for row in rows) for i in (0, 1))
    margin = names + values + 4
    width = max(shutil.get_terminal_size((120, 0)).columns - margin, 40)
    for name, value, does in rows:
        lines = textwrap.wrap(does, width) or [""]
        print(f"{name:<{names}}  {value:<{values}}  {lines[0]}")
        for line in lines[1:]:
            print(" " * margin + line)
    alike = [arch for arch in ours if ARCH_MODEL_NAME_REGISTRY[arch] == first and arch != args.arch]
    if alike:
        print("\nThe same model with other values: " + ", ".join(alike))


def table(kind, base, chosen):
    for name, field in kind.__dataclass_fields__.items():
        does = field.metadata.get("help")
        if does:
            values = [shown(getattr(config, name)) for config in (chosen, base)]
            yield "--" + name.replace("_", "-"), values[0] + (f" ({values[1]})" if values[0] != values[1] else ""), does


def shown(value):
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(getattr(value, "value", value))
