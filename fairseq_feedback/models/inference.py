"""What both models do for fairseq's commands that only decode."""

import torch

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.kernels import products


class Decodes:
    """To be mixed into a model of fairseq's: --bf16 and --decode-int8."""

    always_int8 = False  # what decode_in_int8() makes of it

    def prepare_for_inference_(self, cfg):
        """Also --bf16 of fairseq-generate, -interactive and -eval-lm, which know only --fp16."""
        super().prepare_for_inference_(cfg)
        # Without a path, this is the configuration of the training, out of the checkpoint (from_pretrained).
        path = getattr(getattr(cfg, "common_eval", None), "path", None)
        if path and cfg.common.bf16:
            self.bfloat16()

    def decode_in_int8(self):
        """Round weights and states to 8 bits when decoding, from now on."""
        self.always_int8 = True
        self.round_to_int8(True)

    def round_to_int8(self, int8: bool):
        """In 8 bits or exactly: until this is called again."""
        if int8:
            self._check_int8()
        for side in ("encoder", "decoder"):
            if hasattr(self, side):
                getattr(self, side).int8 = int8

    def _check_int8(self):
        device = next(self.parameters()).device.type
        if device != "cpu":
            raise FeedbackError(f"--decode-int8 is for CPUs, and this model is on {device}: give --cpu, or use --fp16")
        if not products.can_int8():
            raise FeedbackError(f"--decode-int8: torch {torch.__version__} has no products of 8 bits: leave it out")
        if not all(torch.isfinite(p).all() for p in self.parameters()):  # rounding would make numbers of them
            raise FeedbackError("--decode-int8: a weight of this model is not a finite number. Was it damaged?")
