"""Decoder layers on given states: fairseq's transformer and ours, both without embedding and vocabulary."""

import torch
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerDecoderBase

from fairseq_feedback.models.feedback_config import FeedbackTransformerConfig, check, to_transformer_config
from fairseq_feedback.models.feedback_decoder import FeedbackDecoder
from fairseq_feedback.models.feedback_transformer import complete_architecture
from fairseq_feedback.modules.feedback_memory import MemoryOptions
from training.cases import CHECKPOINTED, OWN, OWN_REFERENCE, REFERENCE, RELATIVE, RELATIVE_REFERENCE, TRANSFORMER


class Stack:
    """forward() and backward() of one system, on the same random states for all systems of a case.

    A subclass sets self.module before this, and has features(): the outputs of the layers on self.x.
    """

    note = ""

    def __init__(self, case, device):
        self.words = case.steps * case.rows
        dtype = torch.bfloat16 if case.bf16 else torch.float32
        self.module.to(device, dtype).train()
        g = torch.Generator().manual_seed(1)
        shape = (case.steps, case.rows, case.width)
        self.x = torch.randn(shape, generator=g).to(device, dtype).requires_grad_()
        self.y_grad = torch.randn(shape, generator=g).to(device, dtype)
        self.source = None
        if case.source:
            shape = (case.source, case.rows, case.width)
            self.source = torch.randn(shape, generator=g).to(device, dtype).requires_grad_()

    def run(self):
        self.features().backward(self.y_grad)

    def clear(self):
        self.x.grad = None
        if self.source is not None:
            self.source.grad = None
        self.module.zero_grad(set_to_none=True)

    def outputs_and_gradients(self):
        y = self.features()
        y.backward(self.y_grad)
        found = {name: p.grad for name, p in self.module.named_parameters() if p.grad is not None}
        found.update(outputs=y.detach(), input=self.x.grad)
        if self.source is not None:
            found["encoder output"] = self.source.grad
        return found

    def encoder_out(self):
        if self.source is None:
            return None
        return {"encoder_out": [self.source], "encoder_padding_mask": []}


class TransformerStack(Stack):
    def __init__(self, case, device):
        self.module = build(TransformerDecoderBase, case)
        super().__init__(case, device)

    def features(self):
        """What extract_features() does from its comment "decoder layers" on."""
        x = self.x
        for i, layer in enumerate(self.module.layers):
            x, _, _ = layer(
                x,
                self.source,
                self_attn_mask=self.module.buffered_future_mask(x),
                need_attn=i == len(self.module.layers) - 1,
                need_head_weights=i == len(self.module.layers) - 1,
            )
        return x if self.module.layer_norm is None else self.module.layer_norm(x)


class FeedbackStack(Stack):
    def __init__(self, case, device, kernel, positions=False, own=False, **options):
        # With a vector for every distance that there is, a step sees as many slots as without.
        memory = MemoryOptions(
            span=case.steps if positions else 0,
            init_slots=0 if case.zero_slots and positions else 1,
            shared_kv=not own,
            head_dim=case.width // case.heads,
            relative_positions=positions,
            composition="own" if own else "weighted",
        )
        self.module = build(FeedbackDecoder, case, memory, feedback_kernel=kernel, **options)
        super().__init__(case, device)
        # Tokens that are all words; their embeddings are the given states.
        self.tokens = torch.full((case.rows, case.steps), self.module.padding_idx + 1, device=device)
        self.module.embed = lambda *_: self.x

    def features(self):
        x, _, _ = self.module.run_sequence(self.tokens, self.encoder_out(), -1, None)
        return x if self.module.layer_norm is None else self.module.layer_norm(x)


def make(case, system, device):
    if system == TRANSFORMER:
        return TransformerStack(case, device)
    return FeedbackStack(
        case,
        device,
        kernel="reference" if system in (REFERENCE, RELATIVE_REFERENCE, OWN_REFERENCE) else "bptt",
        positions=system in (RELATIVE, RELATIVE_REFERENCE),
        own=system in (OWN, OWN_REFERENCE),
        checkpoint_activations=system == CHECKPOINTED,
    )


def build(decoder, case, memory=None, **options):
    torch.manual_seed(1)
    config = FeedbackTransformerConfig(
        encoder_embed_dim=case.width,
        decoder_layers=case.layers,
        decoder_ffn_embed_dim=case.ffn,
        decoder_attention_heads=case.heads,
        decoder_normalize_before=case.pre_norm,
        no_cross_attention=case.source == 0,
        dropout=case.dropout,
        share_decoder_input_output_embed=True,
        **options,
    )
    complete_architecture(config, "feedback_transformer")
    check(config)
    words = Dictionary()
    embedding = torch.nn.Embedding(len(words), case.width, words.pad())
    return decoder(to_transformer_config(config, memory), words, embedding, no_encoder_attn=case.source == 0)
