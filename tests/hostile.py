"""Checkpoints that hold only what torch's safe loader takes, and yet try to run something."""

import argparse

import helpers
import pytest
import torch
from fairseq import checkpoint_utils, tasks

from fairseq_feedback.errors import FeedbackError

CONVS = dict(encoder_layers="[(16, 3)] * 20", decoder_layers="[(16, 3)] * 2", decoder_out_embed_dim=16)
LIGHT = dict(
    **dict(encoder_conv_type="lightweight", decoder_conv_type="lightweight", weight_softmax=True),
    **dict(encoder_kernel_size_list=[3], decoder_kernel_size_list=[3, 3], tie_adaptive_weights=False),
    **dict(tie_adaptive_proj=False, share_decoder_input_output_embed=False, no_token_positional_embeddings=False),
    **dict(dropout=0.1, attention_dropout=0.1, relu_dropout=0.0),
)
SIZES = {
    **{name: {**helpers.SMALL, **CONVS} for name in ("fconv", "fconv_lm", "fconv_self_att")},
    **{name: {**helpers.SMALL, **LIGHT} for name in ("lightconv", "lightconv_lm")},
    "feedback_transformer_lm_tiny": helpers.SMALL_LM,
    "lstm": dict(encoder_embed_dim=16, decoder_embed_dim=16, encoder_hidden_size=8, decoder_hidden_size=8),
    "wav2vec": dict(),
}
LM = {"task": "language_modeling"}
PADS = {"left_pad_source": "True", "left_pad_target": "False"}
PAIRS = {"task": "multilingual_translation", "lang_pairs": "xx-yy", **PADS}
MANY = {"task": "translation_multi_simple_epoch", "lang_pairs": "xx-yy", **PADS}
BACK = {"task": "online_backtranslation", "mono_langs": "xx,yy", **PADS}
CONV = "encoder_layers decoder_layers decoder_attention"
SELF_ATT = CONV + " pretrained encoder_attention self_attention project_input gated_attention downsample"

# (architecture, what makes it look at the setting, the setting)
WAYS = [
    ("transformer", {}, "adaptive_softmax_cutoff"),
    ("transformer_lm", LM, "adaptive_softmax_cutoff"),
    ("transformer_lm", {**LM, "adaptive_input": True}, "adaptive_input_cutoff"),
    ("transformer_lm", {**LM, "character_embeddings": True}, "character_filters"),
    ("lstm", {}, "decoder_attention"),
    ("lstm", {"criterion": "adaptive_loss"}, "adaptive_softmax_cutoff"),
    ("lstm_lm", {**LM, "criterion": "adaptive_loss"}, "adaptive_softmax_cutoff"),
    *(("fconv", {}, name) for name in CONV.split()),
    ("fconv_lm", LM, "decoder_layers"),
    ("fconv_lm", LM, "decoder_attention"),
    ("fconv_lm", {**LM, "criterion": "adaptive_loss"}, "adaptive_softmax_cutoff"),
    *(("fconv_self_att", {}, name) for name in SELF_ATT.split()),
    ("lightconv", {}, "adaptive_softmax_cutoff"),
    ("lightconv_lm", LM, "adaptive_softmax_cutoff"),
    ("lightconv_lm", {**LM, "adaptive_input": True}, "adaptive_input_cutoff"),
    ("lightconv_lm", {**LM, "character_embeddings": True}, "character_filters"),
    ("wav2vec2", {}, "conv_feature_layers"),
    ("wav2vec", {}, "conv_feature_layers"),
    ("wav2vec", {"aggregator": "cnn"}, "conv_aggregator_layers"),
    ("hubert", {"task": "hubert_pretraining"}, "conv_feature_layers"),
    *(("multilingual_transformer", PAIRS, name) for name in PADS),
    *(("transformer", MANY, name) for name in PADS),
    *(("transformer", BACK, name) for name in PADS),
    ("feedback_transformer_lm_tiny", LM, "adaptive_softmax_cutoff"),
    ("feedback_transformer_lm_tiny", {**LM, "adaptive_input": True}, "adaptive_input_cutoff"),
    *(
        pytest.param("transformer", {}, name, marks=helpers.needs_current_fairseq)
        for name in ("encoder_xformers_att_config", "decoder_xformers_att_config")
    ),
]


class Touches:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def code(proof):
    return f"__import__('pathlib').Path('{proof}').touch()"


def options(data, **more):
    """Settings of a training as fairseq-train had them."""
    return argparse.Namespace(
        **{
            **dict(arch="transformer", task="translation", criterion="cross_entropy", data=str(data)),
            **dict(source_lang="xx", target_lang="yy", max_source_positions=64, max_target_positions=64),
            **dict(tokens_per_sample=64, **more),
        }
    )


def save(path, args=None, cfg=None, model=None, **more):
    history = {"criterion_name": "c", "optimizer_name": "o", "lr_scheduler_state": {}, "num_updates": 0}
    state = {"args": args, "cfg": cfg, "model": model or {}, "optimizer_history": [history]}
    torch.save({**state, "extra_state": {"train_iterator": None}, **more}, str(path))
    return str(path)


def save_good(path, args, form="cfg", **more):
    """A checkpoint that fairseq could have written -> the model's parameters."""
    task = tasks.setup_task(argparse.Namespace(**vars(args)))
    model = task.build_model(argparse.Namespace(**vars(args))).state_dict()
    if form == "args":
        save(path, args=args, model=model)
    else:
        save(path, cfg={"task": args, "model": args, "criterion": args, **more}, model=model)
    return model


def load(path, **changes):
    return checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides=changes)


def refused(path, function=load):
    with pytest.raises(FeedbackError) as error:
        function(path)
    line = str(error.value)
    assert str(path) in line and "\n" not in line and "nothing in it was run" in line
    return line
