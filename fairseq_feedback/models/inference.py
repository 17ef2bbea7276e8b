"""Options of fairseq's commands for models that only decode."""

from fairseq_feedback.errors import FeedbackError


def use_bfloat16_if_asked(model, cfg) -> None:
    """--bf16 of fairseq-generate, -interactive and -eval-lm, which know only --fp16."""
    # Without a path, this is the configuration of the training, out of the checkpoint (from_pretrained).
    path = getattr(getattr(cfg, "common_eval", None), "path", None)
    if path and cfg.common.bf16:
        model.bfloat16()


def refuse_int8_off_cpus(model) -> None:
    device = next(model.parameters()).device.type
    if device != "cpu":
        raise FeedbackError(f"--decode-int8 is for CPUs, and this model is on {device}: give --cpu, or use --fp16")
