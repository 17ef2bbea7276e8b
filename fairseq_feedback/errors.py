"""Mistakes of a user, told in one sentence instead of a stack trace."""

import sys

# How messages of fairseq begin that say all there is to say.
CLEAR_MESSAGES_OF_FAIRSEQ = ("Size of sample #",)


class FeedbackError(ValueError):
    """Something that the user can mend; the message names the flag or file and the mend."""


def find(error):
    """The mistake that an exception is or came from (fairseq wraps some in messages that say less), or None."""
    if str(error).startswith(CLEAR_MESSAGES_OF_FAIRSEQ):
        return error
    while error is not None:
        if isinstance(error, FeedbackError):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def install_hook():
    """Let a program that ends by a user's mistake print that sentence alone; other errors are untouched."""
    if getattr(sys.excepthook, "prints_feedback_errors", False):
        return
    previous = sys.excepthook

    def hook(kind, error, trace):
        mistake = find(error)
        if mistake is None:
            previous(kind, error, trace)
        else:
            print(f"error: {mistake}", file=sys.stderr)

    hook.prints_feedback_errors = True
    sys.excepthook = hook
