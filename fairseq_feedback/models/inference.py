"""Options of fairseq's commands for models that only decode."""


def use_bfloat16_if_asked(model, cfg) -> None:
    """--bf16 of fairseq-generate, -interactive and -eval-lm, which know only --fp16."""
    # Without a path, this is the configuration of the training, out of the checkpoint (from_pretrained).
    path = getattr(getattr(cfg, "common_eval", None), "path", None)
    if path and cfg.common.bf16:
        model.bfloat16()
