"""Cross entropy of labels, and how many are right: of single ones, and of whole sequences by their length."""

import torch.nn.functional as F
from fairseq.criterions import register_criterion
from fairseq.logging import metrics

from fairseq_feedback.criterions.feedback_lm_loss import FeedbackLMLoss, FeedbackLMLossConfig
from fairseq_feedback.errors import FeedbackError


@register_criterion("labelled_sequence_loss", dataclass=FeedbackLMLossConfig)
class LabelledSequenceLoss(FeedbackLMLoss):
    """Symbols without a label have no loss. The loss of learned spans is that of feedback_lm_loss."""

    def __init__(self, task, sentence_avg, ddp_backend, adaptive_span_loss):
        super().__init__(task, sentence_avg, ddp_backend, adaptive_span_loss)
        self.bounds = list(getattr(task, "length_bounds", []))

    def adaptive_cross_entropy(self, model, sample, reduce=True):
        raise FeedbackError("--adaptive-softmax-cutoff does not go with labelled_sequence_loss: leave it out")

    def of_all_scores(self, model, sample, reduce=True):
        labelled = sample["target"] != self.padding_idx  # (B, T)
        target = sample["target"][labelled]
        scores = model(**sample["net_input"])[0][labelled]
        loss = F.cross_entropy(scores.float(), target, reduction="sum" if reduce else "none")
        right = labelled.clone()
        right[labelled] = scores.argmax(-1) == target
        labels, right = labelled.sum(1), right.sum(1)  # of each row
        sample_size = labelled.size(0) if self.sentence_avg else target.size(0)
        logging_output = {
            "loss": loss.data,
            "ntokens": sample["ntokens"],
            "nsentences": labelled.size(0),
            "sample_size": sample_size,
            "symbols": sample["net_input"]["src_lengths"].sum(),
            "labels": labels.sum(),
            "right_labels": right.sum(),
        }
        if "block" not in sample:
            whole = (labels > 0) & (right == labels)
            logging_output.update(sequences=(labels > 0).sum(), right_sequences=whole.sum())
            for name, shortest, longest in () if model.training else self.ranges():
                lengths = sample["net_input"]["src_lengths"]
                here = (lengths >= shortest) & (lengths <= longest)
                logging_output["labels" + name] = labels[here].sum()
                logging_output["right_labels" + name] = right[here].sum()
                logging_output["sequences" + name] = (labels[here] > 0).sum()
                logging_output["right_sequences" + name] = whole[here].sum()
        return loss, sample_size, logging_output

    def ranges(self):
        """Names, shortest and longest length."""
        return [(f"_{first + 1}_{last}", first + 1, last) for first, last in zip([0, *self.bounds], self.bounds)]

    @staticmethod
    def reduce_metrics(logging_outputs) -> None:
        FeedbackLMLoss.reduce_metrics(logging_outputs)
        for accuracy, counted in (("accuracy", "labels"), ("sequence_accuracy", "sequences")):
            for name in dict.fromkeys(name for log in logging_outputs for name in log if name.startswith(counted)):
                number, right = (
                    float(sum(log.get(key, 0) for log in logging_outputs)) for key in (name, "right_" + name)
                )
                if number > 0:
                    metrics.log_scalar(name.replace(counted, accuracy), 100 * right / number, number, round=2)
