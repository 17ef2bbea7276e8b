"""What several data-parallel workers need that one does not."""

from fairseq.modules import LayerDropModuleList

from fairseq_feedback.errors import FeedbackError


def check(args, model) -> None:
    """Refuse LayerDrop where torch would wait for the gradients of dropped layers. `args`: the distributed options."""
    waits = str(args.ddp_backend) in ("c10d", "pytorch_ddp") and not args.find_unused_parameters
    if waits and any(isinstance(m, LayerDropModuleList) and m.p > 0 for m in model.modules()):
        raise FeedbackError(
            "--encoder-layerdrop and --decoder-layerdrop leave layers out of an update, so several workers need "
            "--find-unused-parameters (or --ddp-backend legacy_ddp)"
        )
