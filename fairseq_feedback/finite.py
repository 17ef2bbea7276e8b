"""Training stops before an update that is not made of finite numbers, and says which."""

from functools import wraps

import torch

from fairseq_feedback.errors import FeedbackError

MOST_NAMES = 5


class NotFinite(FeedbackError):
    """What is wrong with an update. For a FloatingPointError the host would write crash.pt, and run the batch again."""


def into_gradients(backward):
    """A loss that is not finite makes its gradients so: then all workers see it, and no one waits for a number."""

    @wraps(backward)
    def wrapped(self, loss):
        return backward(self, loss * (1 + 0 * loss.detach()))

    return wrapped


def checked_norm(clip_grad_norm):
    """Of a trainer. --fp16 and --amp make their scale smaller first."""

    @wraps(clip_grad_norm)
    def wrapped(self, *args, **kwargs):
        try:
            norm = clip_grad_norm(self, *args, **kwargs)
        except FloatingPointError as error:
            raise NotFinite(str(error).split(". ")[0]) from None
        if not self.cfg.common.amp and not torch.isfinite(norm).all():
            raise NotFinite("the loss or a gradient is not a finite number")
        return norm

    return wrapped


def checked_step(train_step):
    """Of a trainer, which knows the batch."""

    @wraps(train_step)
    def wrapped(self, samples, *args, **kwargs):
        try:
            return train_step(self, samples, *args, **kwargs)
        except NotFinite as error:
            raise FeedbackError(_sentence(self, samples, error)) from None

    return wrapped


def _sentence(trainer, samples, error) -> str:
    rate = f"{trainer.get_lr():g}"
    return (
        f"update {trainer.get_num_updates() + 1} was not made, and training has stopped: {error}{_batch(samples)}. "
        f"Give a lower --lr (here it is {rate}), more --warmup-updates or a lower --clip-norm, and go on from the last "
        "checkpoint that is good"
    )


def _batch(samples) -> str:
    """Which sentences."""
    found = [int(number) for sample in samples if isinstance(sample, dict) and torch.is_tensor(sample.get("id"))
             for number in sample["id"].flatten()]  # fmt: skip
    if not found:
        return ""
    more = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    return f", for the training set's items {', '.join(map(str, found[:MOST_NAMES]))}{more} (the first is 0)"
