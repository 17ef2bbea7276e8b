"""Mistakes of a user, told in one sentence instead of a stack trace."""

import errno
import re
import sys

# How messages of fairseq begin that say all there is to say.
CLEAR_MESSAGES_OF_FAIRSEQ = (
    "Size of sample #",
    "The dataset is empty.",
    "--finetune-from-model ",
    "--replace-unk requires",
    "min_len cannot be larger than max_len",
    "DiverseBeamSearch requires --beam to be divisible",  # also where the vocabulary is smaller than --beam
)

# What a disk says that a user can mend, and no trace explains.
DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ENOENT}

# What gloo and NCCL say of a connection that was there.
LOST = re.compile(
    "Connection (closed|reset|timed out)|Timed out waiting|Broken pipe|No route to host|unreachable|"
    "remote process exited"
)


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


def of_the_system(error):
    """The sentence of an OSError that the system raised."""
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def of_a_lost_worker(error):
    """The sentence for what gloo or NCCL raises where another worker no longer answers, or None."""
    of_the_network = "gloo/transport" in str(error) or type(error).__name__ in ("DistBackendError", "DistNetworkError")
    if not (of_the_network and LOST.search(str(error))):
        return None
    reason = re.sub(r"^\[[^\]]*\] ", "", str(error)).split(". This is typically")[0].splitlines()[0]
    return (
        f"another worker does not answer ({reason}), so this one stops. Look at what that one says; started again with "
        "the same commands, a training goes on from its last checkpoint"
    )


def sentence(error):
    """What to print instead of a trace, or None."""
    mistake = find(error)
    if mistake is None and isinstance(error, OSError) and error.errno in DISKS:
        mistake = of_the_system(error)
    if mistake is None and isinstance(error, UnicodeDecodeError):
        mistake = f"a text is not UTF-8: {error.reason}, {error.object[error.start : error.start + 20]!r}"
    return mistake or of_a_lost_worker(error)


def say(mistake):
    """In one write: several processes may end by the same sentence at the same time."""
    sys.stderr.write(f"error: {mistake}\n")


def install_hook():
    """Let a program that ends by a user's mistake print that sentence alone; other errors are untouched."""
    if getattr(sys.excepthook, "prints_feedback_errors", False):
        return
    previous = sys.excepthook

    def hook(kind, error, trace):
        mistake = sentence(error)
        if mistake is None:
            previous(kind, error, trace)
        else:
            say(mistake)

    hook.prints_feedback_errors = True
    sys.excepthook = hook
    if "hydra.core.utils" in sys.modules:
        _install_hook_of_hydra(sys.modules["hydra.core.utils"].JobReturn)


def _install_hook_of_hydra(result):
    """hydra catches what a training raises, and prints a part of the trace when it looks at the result."""
    returned = getattr(result, "return_value", None)  # in older versions it catches nothing
    if not isinstance(returned, property):
        return

    def return_value(self):
        raised = self._return_value
        mistake = sentence(raised) if isinstance(raised, Exception) else None
        if mistake is None:
            return returned.fget(self)
        say(mistake)
        sys.exit(1)

    result.return_value = property(return_value, returned.fset)
