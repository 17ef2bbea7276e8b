"""Feedback Transformer (Fan et al., 2020) for fairseq: give this folder to --user-dir."""

import importlib.util
import os
import sys

from fairseq_feedback import errors

__version__ = "0.1.0"


def is_own_command() -> bool:
    """Whether this process is our command line, an example or a script: they import fairseq when they need it."""
    started = os.path.abspath(sys.argv[0]) if sys.argv else ""
    package = os.path.dirname(os.path.abspath(__file__))
    own_main = os.path.join(package, "__main__.py")  # what its workers are told
    own = os.path.basename(started) == "fairseq-feedback" or started == own_main
    python_m = getattr(sys, "orig_argv", [])[1:3] == ["-m", "fairseq_feedback"]
    beside = tuple(os.path.join(os.path.dirname(package), folder, "") for folder in ("examples", "scripts"))
    return python_m or own or started.startswith(beside)


if not is_own_command():
    import fairseq_feedback.plugin  # noqa: F401

    errors.install_hook()

# Away from any checkout, `--user-dir fairseq_feedback` makes fairseq look at <fairseq>/../fairseq_feedback, and it
# takes a package for another one if its path is spelled differently. Known by both names, the package may be imported
# either way, twice.
for _path in (
    os.path.abspath(__path__[0]),
    os.path.join(os.path.dirname(importlib.util.find_spec("fairseq").origin), "..", __name__),
):
    if _path not in __path__ and os.path.exists(_path) and os.path.samefile(_path, __path__[0]):
        __path__.append(_path)
