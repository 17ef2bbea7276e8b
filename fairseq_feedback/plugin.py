"""Imports all that registers itself with fairseq."""

import fairseq_feedback.quiet  # noqa: F401  isort: skip  before anything of fairseq
import fairseq_feedback.host  # noqa: F401  isort: skip  first: the host on a current torch
import fairseq_feedback.criterions.feedback_lm_loss  # noqa: F401
import fairseq_feedback.criterions.labelled_sequence_loss  # noqa: F401
import fairseq_feedback.models.feedback_transformer  # noqa: F401
import fairseq_feedback.models.feedback_transformer_lm  # noqa: F401
import fairseq_feedback.tasks.feedback_lm  # noqa: F401
import fairseq_feedback.tasks.labelled_sequences  # noqa: F401
