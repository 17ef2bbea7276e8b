"""What fairseq's commands do differently for feedback models."""

from functools import wraps

from fairseq.tasks import FairseqTask

from fairseq_feedback.generation.generator import FeedbackGenerator, has_feedback


def search_with_our_generator() -> None:
    """Tasks build a FeedbackGenerator where they would build the host's SequenceGenerator."""
    build = FairseqTask.build_generator

    @wraps(build)
    def build_generator(self, models, args, seq_gen_cls=None, *more, **kwargs):
        ours = seq_gen_cls is None and not getattr(args, "print_alignment", None)
        if ours and any(has_feedback(model) for model in models):
            seq_gen_cls = FeedbackGenerator
        return build(self, models, args, seq_gen_cls, *more, **kwargs)

    FairseqTask.build_generator = build_generator


search_with_our_generator()
