"""What fairseq's commands do differently for feedback models."""

from functools import wraps

from fairseq import options
from fairseq.tasks import FairseqTask

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.generation.generator import FeedbackGenerator, has_feedback

asked = {"int8": False}  # by the command line read last: fairseq has no place for an option of ours to go


def search_with_our_generator() -> None:
    """Tasks build a FeedbackGenerator where they would build the host's SequenceGenerator."""
    build = FairseqTask.build_generator

    @wraps(build)
    def build_generator(self, models, args, seq_gen_cls=None, *more, **kwargs):
        if asked["int8"]:
            if getattr(args, "score_reference", False):
                raise FeedbackError("--decode-int8 is for decoding, and --score-reference does not: leave one out")
            if not all(has_feedback(model) for model in models):
                raise FeedbackError(
                    "--decode-int8 is for feedback models, and this checkpoint is another's: leave it out"
                )
            for model in models:
                model.decode_in_int8()
        ours = seq_gen_cls is None and not getattr(args, "print_alignment", None)
        if ours and any(has_feedback(model) for model in models):
            seq_gen_cls = FeedbackGenerator
        return build(self, models, args, seq_gen_cls, *more, **kwargs)

    FairseqTask.build_generator = build_generator


def offer_int8() -> None:
    """--decode-int8 of fairseq-generate and fairseq-interactive."""
    add, parse = options.add_generation_args, options.parse_args_and_arch

    @wraps(add)
    def add_generation_args(parser, *args, **kwargs):
        group = add(parser, *args, **kwargs)
        group.add_argument(
            "--decode-int8", action="store_true", help="round weights and states to 8 bits (feedback models, on a CPU)"
        )
        return group

    @wraps(parse)
    def parse_args_and_arch(*args, **kwargs):
        parsed = parse(*args, **kwargs)
        known = parsed[0] if isinstance(parsed, tuple) else parsed
        asked["int8"] = getattr(known, "decode_int8", False)
        return parsed

    options.add_generation_args = add_generation_args
    options.parse_args_and_arch = parse_args_and_arch


search_with_our_generator()
offer_int8()
