"""What fairseq's generating commands do differently for feedback models; host.py gives it to them."""

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.generation.generator import FeedbackGenerator, has_feedback


def decode_in_int8_if_asked(models, options) -> None:
    """options: those of the generation."""
    if not getattr(options, "decode_int8", False):
        return
    if getattr(options, "score_reference", False):
        raise FeedbackError("--decode-int8 is for decoding, and --score-reference does not: leave one out")
    if not all(has_feedback(model) for model in models):
        raise FeedbackError("--decode-int8 is for feedback models, and this checkpoint is another's: leave it out")
    for model in models:
        model.decode_in_int8()


def generator_for(models, options):
    """The class of the search; None = as the host chooses."""
    if getattr(options, "print_alignment", None) or not any(has_feedback(model) for model in models):
        return None
    return FeedbackGenerator
