"""Feedback Transformer (Fan et al., 2020) for fairseq: give this folder to --user-dir."""

import os

# isort: off
import fairseq_feedback.quiet  # noqa: F401  before anything of fairseq
import fairseq
import fairseq_feedback.compat  # noqa: F401  first: the host on a current torch
from fairseq_feedback import errors
import fairseq_feedback.criterions.feedback_lm_loss  # noqa: F401
import fairseq_feedback.tasks.feedback_lm  # noqa: F401
import fairseq_feedback.models.feedback_transformer  # noqa: F401
import fairseq_feedback.models.feedback_transformer_lm  # noqa: F401
import fairseq_feedback.generation.commands  # noqa: F401

# isort: on

__version__ = "0.1.0"

errors.install_hook()

# Away from any checkout, `--user-dir fairseq_feedback` makes fairseq look at <fairseq>/../fairseq_feedback, and it
# takes a package for another one if its path is spelled differently. Known by both names, the package may be imported
# either way, twice.
for _path in (
    os.path.abspath(__path__[0]),
    os.path.join(os.path.dirname(fairseq.__file__), "..", __name__),
):
    if _path not in __path__ and os.path.exists(_path) and os.path.samefile(_path, __path__[0]):
        __path__.append(_path)
