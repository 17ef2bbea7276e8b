"""Cross entropy of a language model, with or without adaptive softmax, and the loss that holds learned spans down."""

from dataclasses import dataclass, field

import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.criterions.adaptive_loss import AdaptiveLossConfig
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.logging import metrics

from fairseq_feedback.errors import FeedbackError


@dataclass
class FeedbackLMLossConfig(AdaptiveLossConfig):
    adaptive_span_loss: float = field(
        default=0.0,
        metadata={
            "help": "weight, in the loss of a token, of the mean span of a layer's heads, summed over the layers; "
            "for models with --adaptive-span"
        },
    )


@register_criterion("feedback_lm_loss", dataclass=FeedbackLMLossConfig)
class FeedbackLMLoss(FairseqCriterion):
    def __init__(self, task, sentence_avg, ddp_backend, adaptive_span_loss):
        super().__init__(task)
        self.cross_entropy = CrossEntropyCriterion(task, sentence_avg)
        self.sentence_avg = sentence_avg
        self.ddp_backend = str(ddp_backend)
        self.span_loss = adaptive_span_loss
        if adaptive_span_loss < 0:
            raise FeedbackError(f"--adaptive-span-loss {adaptive_span_loss}: give 0 or more")

    @classmethod
    def build_criterion(cls, cfg, task):
        return cls(task, cfg.sentence_avg, cfg.ddp_backend, cfg.adaptive_span_loss)

    def forward(self, model, sample, reduce=True):
        """Loss, sample size, what to log; as the criterions of the host."""
        span = getattr(getattr(model.decoder, "memory", None), "adaptive_span", None)
        if span is None and self.span_loss > 0:
            raise FeedbackError("--adaptive-span-loss needs a model with --adaptive-span")
        criterion = self.of_all_scores
        if model.decoder.adaptive_softmax is not None:
            criterion = self.adaptive_cross_entropy
            if model.training and self.ddp_backend in ("c10d", "pytorch_ddp") and hasattr(model, "module"):
                raise FeedbackError("adaptive softmax on several workers needs --ddp-backend legacy_ddp")
        loss, sample_size, logging_output = criterion(model, sample, reduce)
        if span is not None:
            if self.training and self.span_loss > 0:
                loss = loss + self.span_loss * sample_size * span.total()
            mean, longest = span.mean_and_longest()
            # Summed over workers and batches, and divided by their number in the end.
            logging_output.update(spans=1, span_mean=mean, span_longest=longest)
        return loss, sample_size, logging_output

    def of_all_scores(self, model, sample, reduce=True):
        return self.cross_entropy(model, sample, reduce)

    def adaptive_cross_entropy(self, model, sample, reduce=True):
        """What fairseq's adaptive_loss is meant to be.

        That leaves out the second word of every band but the first, whose number there is that of padding, and sums in
        half precision, which cannot hold the loss of a batch.
        """
        net_output = model(**sample["net_input"])
        target = model.get_targets(sample, net_output)
        scores, words = model.decoder.adaptive_softmax(net_output[0], target.view(-1))
        loss = F.cross_entropy(scores[0].float(), words[0], ignore_index=self.padding_idx, reduction="sum")
        for band_scores, band_words in zip(scores[1:], words[1:]):
            if band_words is not None:
                loss = loss + F.cross_entropy(band_scores.float(), band_words, reduction="sum")
        sample_size = target.size(0) if self.sentence_avg else sample["ntokens"]
        sizes = dict(ntokens=sample["ntokens"], nsentences=target.size(0), sample_size=sample_size)
        return loss, sample_size, {"loss": loss.data, **sizes}

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        CrossEntropyCriterion.reduce_metrics(logging_outputs)
        batches = sum(log.get("spans", 0) for log in logging_outputs)
        for name in ("span_mean", "span_longest") if batches > 0 else ():
            total = sum(log.get(name, 0) for log in logging_outputs)
            metrics.log_scalar(name, total / batches, batches, round=1)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
