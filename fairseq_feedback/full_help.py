"""--help of fairseq's commands, which ends before the options of --arch, --task, --criterion and so on are known."""

import sys
from functools import wraps

from fairseq.models import ARCH_MODEL_REGISTRY

HELP = {"-h", "--help"}


def with_options_of_what_is_chosen(parse):
    """Of fairseq's parse_args_and_arch."""

    @wraps(parse)
    def parse_args_and_arch(parser, input_args=None, *more, **named):
        words = sys.argv[1:] if input_args is None else list(input_args)
        if not HELP.intersection(words) or not _names_a_model(words):
            return parse(parser, input_args, *more, **named)

        def show(*_):
            parser.print_help()
            parser.exit()

        # What is missing, such as the folder of the data, is not missed. The second parsing knows all options.
        parser.error, parser.parse_args = lambda message: None, show
        return parse(parser, [word for word in words if word not in HELP], *more, **named)

    return parse_args_and_arch


def _names_a_model(words) -> bool:
    names = [b for a, b in zip(words, words[1:]) if a in ("--arch", "-a")]
    names += [word.partition("=")[2] for word in words if word.startswith("--arch=")]
    return bool(names) and names[-1] in ARCH_MODEL_REGISTRY
