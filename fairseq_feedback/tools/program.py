"""What every program on the command line shares: its options, and how it ends."""

import argparse
import logging
import os
import sys
import warnings

from fairseq_feedback import errors


class Parser(argparse.ArgumentParser):
    """Shows the docstring as it is written, and a wrong option as one sentence."""

    def __init__(self, description=None, **more):
        more.setdefault("prog", f"python {sys.argv[0]}")
        more["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, **more)

    def error(self, message):
        self.exit(2, f"error: {message.replace('argument ', '', 1)}. See: {self.prog} --help\n")


def at_least_one(args, *names):
    """Numbers of options, and lists of them, where they were given."""
    for name in names:
        value = getattr(args, name)
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if number is not None and number < 1:
                raise errors.FeedbackError(f"--{name.replace('_', '-')} {number}: give at least 1")


def run(main):
    """Call main(). A mistake of the user, a full disk and Ctrl-C end the process by one sentence."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq makes all loggers say everything
    try:
        main()
        sys.stdout.flush()  # here, where a full disk still becomes a sentence
    except KeyboardInterrupt:
        end("stopped")
    except BrokenPipeError:  # as with `| head`: whoever read has enough
        end()
    except Exception as error:
        mistake = errors.sentence(error)
        if mistake is not None:
            end(mistake)
        if not isinstance(error, OSError) or error.strerror is None:
            raise
        end(errors.of_the_system(error))  # no permission, no space


def end(sentence=None):
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1 if sentence is None else f"error: {sentence}")


def quiet():
    """Warnings of fairseq only, unless LOGLEVEL asks for more. Called before fairseq sets its own logging up."""
    logging.basicConfig(level=os.environ.get("LOGLEVEL", "WARNING").upper(), stream=sys.stderr, force=True)
    if "LOGLEVEL" not in os.environ:
        warnings.simplefilter("ignore")  # of hydra and torch about the code of fairseq
