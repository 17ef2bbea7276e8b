"""Other implementations of the Feedback Transformer, on the same states as our stacks. None is needed.

Each keeps its own ways; where they make its work differ from ours, its note says so. Embedding and vocabulary are
taken out, nothing else is changed.
"""

import argparse
import contextlib
import importlib
import importlib.util
import os
import sys

import torch

from fairseq_feedback.errors import FeedbackError
from training.cases import AUTHORS, LABML, LUCIDRAINS
from training.stack import Stack

MODULES = {LABML: "labml_nn", LUCIDRAINS: "feedback_transformer_pytorch"}


class Labml(Stack):
    note = "adds learned relative positions (a table of 4096 in each layer)"

    def __init__(self, case, device):
        from labml_nn.transformers import feedback
        from labml_nn.transformers.feed_forward import FeedForward

        torch.manual_seed(1)
        layer = feedback.FeedbackTransformerLayer(
            d_model=case.width,
            attn=feedback.FeedbackAttention(case.heads, case.width, 0.0, is_kv_precomputed=True),
            feed_forward=FeedForward(case.width, case.ffn, dropout=0.0),
            dropout_prob=0.0,
        )
        self.module = feedback.FeedbackTransformerKV(layer, case.layers, case.width, case.heads)
        super().__init__(case, device)

    def features(self):
        return self.module(self.x)


class Lucidrains(Stack):
    def __init__(self, case, device):
        from feedback_transformer_pytorch import FeedbackTransformer

        torch.manual_seed(1)
        self.module = FeedbackTransformer(
            num_tokens=1,
            dim=case.width,
            depth=case.layers,
            mem_len=case.steps,
            seq_len=1,
            heads=case.heads,
            dim_head=case.width // case.heads,
        )
        super().__init__(case, device)
        self.note = (
            f"its feed-forward is gated (GEGLU) and always of width {4 * case.width}, ours {case.ffn}: "
            "half again as many weights; adds relative positions"
        )
        self.module.token_emb = Given(self.x)
        self.module.to_logits[1] = torch.nn.Identity()
        self.tokens = torch.zeros((case.rows, case.steps), dtype=torch.long, device=device)

    def features(self):
        return self.module(self.tokens).transpose(0, 1)


class Authors(Stack):
    note = "adds learned relative positions; every step attends to as many slots as the last one"

    def __init__(self, case, device, repository):
        with on_path(repository):
            feedback = importlib.import_module("models.feedback")
        torch.manual_seed(1)
        options = argparse.Namespace(
            feedback=True,
            share_proj_kv=True,
            pre_norm=case.pre_norm,
            nlayers=case.layers,
            hid_sz=case.width,
            inner_hid_sz=case.ffn,
            nheads=case.heads,
            head_dim=case.width // case.heads,
            mem_sz=case.steps,
            attn_lim=case.steps,
            vocab_sz=1,
            dropout=0.0,
            adapt_span=False,
            adapt_span_cache=False,
            device=device,
        )
        self.module = feedback.FeedbackTransformer(options)
        super().__init__(case, device)
        self.module.in_emb = Given(self.x)
        self.module.out = States()
        self.tokens = torch.zeros((case.rows, case.steps), dtype=torch.long, device=device)

    def features(self):
        y, _, _ = self.module(self.tokens, self.module.init_hid_cache(len(self.tokens)))
        return y.transpose(0, 1)


class Given(torch.nn.Module):
    """An embedding that returns given states (T, B, C), the batch first."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def forward(self, _):
        return self.x.transpose(0, 1)


class States(torch.nn.Module):
    """An output layer that returns the states."""

    def forward(self, x, _target):
        return x


def make(case, system, device, authors_repository):
    if system == LABML:
        return Labml(case, device)
    if system == LUCIDRAINS:
        return Lucidrains(case, device)
    return Authors(case, device, authors_repository)


def missing(authors_repository):
    """Those that cannot run here, with why."""
    why = {system: "is not installed" for system, module in MODULES.items() if importlib.util.find_spec(module) is None}
    if authors_repository is None:
        why[AUTHORS] = "is not given with --authors-repo"
    elif not os.path.isfile(os.path.join(authors_repository, "models", "feedback.py")):
        raise FeedbackError(
            f"--authors-repo {authors_repository} has no models/feedback.py: give a checkout of transformer-sequential"
        )
    return why


@contextlib.contextmanager
def on_path(folder):
    sys.path.insert(0, os.path.abspath(folder))
    try:
        yield
    finally:
        sys.path.pop(0)
