"""What fairseq's generating commands do differently for feedback models; host.py gives it to them."""

import logging
import re
import weakref
from functools import wraps

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.generation import shortlist
from fairseq_feedback.generation.generator import NOT_FINITE, FeedbackGenerator, has_feedback
from fairseq_feedback.models import stock

logger = logging.getLogger(__name__)

# What fairseq's searches and torch say of scores that are not numbers: "200 < 200" is the step after the last one.
SAID_OF_NAN = re.compile(r"(\d+) < \1$|invalid multinomial distribution|probability tensor contains either")

_engines = weakref.WeakKeyDictionary()  # {model: {whether in 8 bits: what decodes it}}


def to_decode(models, options, search) -> list:
    """What stands for these models when they decode. `options`: of the generation; `search`: the class asked for."""
    int8 = getattr(options, "decode_int8", False)
    if getattr(options, "score_reference", False):
        if int8:
            raise FeedbackError("--decode-int8 is for decoding, and --score-reference does not: leave one out")
        for model in filter(has_feedback, models):
            model.round_to_int8(False)
        return models
    if int8 and not all(map(_is_to_decode, models)):
        logger.warning("--decode-int8 is left out: a model that prepare_for_inference_ has not seen is being trained")
        int8 = False
    found = [model if has_feedback(model) else _with_engine(model, options, search, int8) for model in models]
    for model in filter(has_feedback, found):
        model.round_to_int8(int8 or model.always_int8)
    return found


def _with_engine(model, options, search, int8):
    """The engine of a model of fairseq's; or itself, and the log says why."""
    why_not = _why_not(model, options, search)
    if why_not is None:
        try:
            return _engine(model, int8)
        except stock.DoesNotFit as error:
            why_not = str(error)
    if int8:
        raise FeedbackError(f"--decode-int8: fairseq's own code decodes this checkpoint ({why_not}): leave it out")
    if _is_to_decode(model):
        logger.info(f"decoded by fairseq's own code: {why_not}")
    return model


def _engine(model, int8):
    engines = _engines.setdefault(model, {})
    if int8 not in engines:
        engines[int8] = stock.engine(model)
    return engines[int8]


def _why_not(model, options, search):
    """What has nothing to do with the kind of model."""
    if not _is_to_decode(model):
        return "it is being trained"
    if getattr(options, "no_feedback_engine", False):
        return "--no-feedback-engine"
    if getattr(options, "print_alignment", None):
        return "--print-alignment"
    if search is not None:
        return f"the task searches by {search.__name__}"
    if next(model.parameters()).device.type != "cpu":
        return "the engine was measured on CPUs only"
    return None


def _is_to_decode(model) -> bool:
    """Not so in a training with --eval-bleu: fairseq's commands that only decode have said so to the model."""
    return getattr(model, "_is_generation_fast", False)


def generator_for(models, options):
    """The class of the search; None = as the host chooses."""
    if getattr(options, "print_alignment", None) or not any(has_feedback(model) for model in models):
        return None
    return FeedbackGenerator


def align(generator) -> None:
    """For --replace-unk, which asks each word which one of the source it comes from."""
    if not isinstance(generator, FeedbackGenerator):
        raise FeedbackError("--replace-unk: fairseq's own search knows no alignment: leave it out")
    generator.aligned = True


def shorten(generator, options, task) -> None:
    """For --shortlist."""
    if getattr(options, "score_reference", False):
        raise FeedbackError("--shortlist is for decoding, and --score-reference does not: leave one out")
    shortlist.check(generator, options)
    generator.shortlist = shortlist.Shortlist(options.shortlist, task.source_dictionary, task.target_dictionary)


def names_what_is_not_finite(generate):
    """Of fairseq's generators, whose searches end in the middle of something."""

    @wraps(generate)
    def wrapped(*args, **kwargs):
        try:
            return generate(*args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            if not SAID_OF_NAN.match(str(error)):
                raise
            raise FeedbackError(NOT_FINITE) from error

    return wrapped
