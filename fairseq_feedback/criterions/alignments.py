"""fairseq's label_smoothed_cross_entropy_with_alignment reads the attention of the decoder's last layer."""

from functools import wraps

from fairseq_feedback.models.feedback_decoder import FeedbackDecoder


def asks_for_attention(forward):
    """Of that criterion. In training a feedback decoder returns attention only where somebody asks for it."""

    @wraps(forward)
    def wrapped(self, model, sample, reduce=True):
        decoder = getattr(model, "decoder", None)
        if isinstance(decoder, FeedbackDecoder) and sample.get("alignments") is not None:
            net_input = {**sample["net_input"], "alignment_layer": decoder.num_layers - 1}
            sample = {**sample, "net_input": net_input}
        return forward(self, model, sample, reduce)

    return wrapped
