"""What the training benchmark runs: add a line to FULL or QUICK for a new case."""

from dataclasses import dataclass, field, replace
from typing import Dict, Tuple

TRANSFORMER = "transformer"
FEEDBACK = "feedback"
REFERENCE = "feedback (reference kernel)"
CHECKPOINTED = "feedback, --checkpoint-activations"
RELATIVE = "feedback, relative positions"
RELATIVE_REFERENCE = "feedback, relative positions (reference kernel)"
OWN = "own memory"
OWN_REFERENCE = "own memory (reference kernel)"
LABML = "labml-nn"
LUCIDRAINS = "feedback-transformer-pytorch"
AUTHORS = "transformer-sequential"

OURS = (TRANSFORMER, FEEDBACK, REFERENCE)
WITH_OWN = (*OURS, OWN)
LM = (*WITH_OWN, CHECKPOINTED, RELATIVE)
PEERS = (LABML, LUCIDRAINS, AUTHORS)


@dataclass(frozen=True)
class Stack:
    """Forward and backward of decoder layers alone, on random states (T, B, C)."""

    name: str
    layers: int
    width: int
    heads: int
    ffn: int
    steps: int
    rows: int
    systems: Tuple[str, ...] = LM
    source: int = 0  # encoder states to attend to; 0 = a language model
    pre_norm: bool = True
    zero_slots: bool = False  # as many as a step sees stand before the first, as in a text's first block
    dropout: float = 0.0
    bf16: bool = False

    def small(self):
        """The same flags in a size that the parity gate runs in no time."""
        return replace(
            self,
            layers=min(self.layers, 3),
            width=8 * self.heads,
            ffn=24 * self.heads,
            steps=11,
            rows=3,
            source=min(self.source, 7),
        )


@dataclass(frozen=True)
class Step:
    """Training steps of fairseq's Trainer: embeddings, encoder, decoder, loss, optimizer."""

    name: str
    arch: str  # without its "transformer_" or "feedback_transformer_"
    max_tokens: int
    batches: int
    vocabulary: int = 8000
    sizes: Dict[str, int] = field(default_factory=dict)  # what the architecture has otherwise, of both sides
    systems: Tuple[str, ...] = OURS
    bf16: bool = False

    def small(self):
        sizes = dict(embed_dim=32, ffn_embed_dim=48, layers=2)
        return replace(self, max_tokens=200, batches=1, vocabulary=50, sizes=sizes)


FULL = [
    Stack("lm-512-b64", 4, 512, 8, 2048, steps=128, rows=64, systems=LM + PEERS),
    Stack("lm-512-b16", 4, 512, 8, 2048, steps=128, rows=16, systems=LM + PEERS),
    Stack("lm-256-b64", 4, 256, 4, 1024, steps=64, rows=64, systems=LM + PEERS),
    Stack("lm-deep-b8", 6, 512, 8, 2048, steps=100, rows=8),
    Stack("lm-first-block", 4, 512, 8, 2048, 512, 16, (TRANSFORMER, RELATIVE), zero_slots=True),
    Stack("iwslt-decoder", 6, 512, 4, 1024, 30, 128, WITH_OWN, source=30, pre_norm=False, dropout=0.3),
    Step("iwslt-step", "iwslt_de_en", max_tokens=4096, batches=4, systems=WITH_OWN),
]

QUICK = [
    Stack("quick-lm", 2, 64, 4, 256, steps=24, rows=8, systems=LM + PEERS),
    Stack("quick-decoder", 2, 64, 4, 128, steps=16, rows=8, source=16, pre_norm=False, dropout=0.3, systems=OURS),
    Step(
        "quick-step",
        "iwslt_de_en",
        max_tokens=400,
        batches=2,
        vocabulary=500,
        sizes=dict(embed_dim=64, ffn_embed_dim=128, layers=2),
    ),
]

CASES = {case.name: case for case in FULL + QUICK}
