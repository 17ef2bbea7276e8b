"""Feedback Transformer (Fan et al., 2020) for fairseq: give this folder to --user-dir."""

import os

import fairseq

# isort: off
import fairseq_feedback.compat  # noqa: F401  first: the host on a current torch
from fairseq_feedback import errors
import fairseq_feedback.models.feedback_transformer  # noqa: F401

# isort: on

__version__ = "0.1.0"

errors.install_hook()

# `--user-dir fairseq_feedback` away from any checkout makes fairseq look at <fairseq>/../fairseq_feedback. Knowing
# itself by that name too, the installed package may be imported before and after.
_seen_from_fairseq = os.path.join(os.path.dirname(fairseq.__file__), "..", __name__)
if os.path.exists(_seen_from_fairseq) and os.path.samefile(_seen_from_fairseq, __path__[0]):
    __path__.append(_seen_from_fairseq)
