"""What the decoding benchmark runs: add a line to FULL or QUICK for a new case."""

from dataclasses import dataclass, replace
from typing import Tuple

TRANSFORMER = "transformer"
ENGINE = "transformer, our engine"
ENGINE_INT8 = "transformer, our engine, --decode-int8"
FEEDBACK = "feedback"
HOST_SEARCH = "feedback, fairseq's search"
BF16 = "feedback, --bf16"
INT8 = "feedback, --decode-int8"
CT2 = "CTranslate2"
CT2_INT8 = "CTranslate2 int8"

SYSTEMS = (TRANSFORMER, ENGINE, ENGINE_INT8, FEEDBACK, HOST_SEARCH, BF16, INT8, CT2, CT2_INT8)
CTRANSLATE2 = (CT2, CT2_INT8)
TRANSFORMERS = (TRANSFORMER, ENGINE, ENGINE_INT8, *CTRANSLATE2)  # the same model, with the same weights


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. Without encoder layers it is a language model."""

    encoder_layers: int
    decoder_layers: int
    width: int = 512
    ffn: int = 1024
    heads: int = 4
    vocabulary: int = 7912
    span: int = 0  # of a language model's memory

    @property
    def name(self):
        if self.encoder_layers:
            return f"{self.encoder_layers}+{self.decoder_layers}"
        return f"{self.decoder_layers} layers, span {self.span}"

    def small(self):
        return replace(self, width=8 * self.heads, ffn=24, vocabulary=60, span=min(self.span, 8))


@dataclass(frozen=True)
class Translation:
    """Sentences of one batch, all as long as each other; or batches of fairseq's, as long as those of IWSLT14."""

    name: str
    beam: int
    sentences: int = 50
    source: int = 25
    target: int = 25
    batches: int = 0  # of real lengths; a batch's translations are then as long as its longest source
    shapes: Tuple[Shape, ...] = (Shape(6, 6), Shape(6, 2), Shape(6, 1), Shape(12, 2))
    systems: Tuple[str, ...] = SYSTEMS
    peak: bool = False  # measure memory, too

    def small(self):
        return replace(self, sentences=6, source=7, target=9, batches=min(self.batches, 1))


@dataclass(frozen=True)
class Generation:
    """A text of a language model from nothing, greedily, in as many rows as the memory limit allows each system."""

    name: str
    shapes: Tuple[Shape, ...]
    tokens: int = 1000
    limit_mb: int = 256  # for what generation adds to the weights
    systems: Tuple[str, ...] = (TRANSFORMER, FEEDBACK)
    beam: int = 1

    def small(self):
        return replace(self, tokens=20)


def _lm(span):
    return Shape(0, 6, ffn=2048, heads=8, vocabulary=8000, span=span)


_WITHOUT_VARIANTS = tuple(system for system in SYSTEMS if system not in (HOST_SEARCH, BF16))
FULL = [
    Translation("beam-5", beam=5, peak=True),
    Translation(
        "beam-5-real-lengths",
        beam=5,
        batches=3,
        shapes=(Shape(6, 6), Shape(6, 1)),
        systems=_WITHOUT_VARIANTS,
    ),
    Translation("beam-1", beam=1, systems=_WITHOUT_VARIANTS),
    Translation("one-sentence", beam=5, sentences=1, systems=_WITHOUT_VARIANTS),
    Translation(
        "big-32k",  # as wide as for WMT
        beam=5,
        sentences=16,
        shapes=tuple(Shape(e, d, 1024, 4096, 16, 32000) for e, d in ((6, 1), (12, 2))),
        systems=_WITHOUT_VARIANTS,
    ),
    Generation("lm-span-512", (_lm(512),)),
    Generation("lm-span-2048", (_lm(2048),)),
]

_QUICK = dict(width=64, ffn=128, vocabulary=500)
QUICK = [
    Translation("quick", beam=5, sentences=8, shapes=(Shape(2, 2, **_QUICK), Shape(2, 1, **_QUICK)), peak=True),
    Generation("quick-lm", (Shape(0, 2, span=16, **_QUICK),), tokens=30, limit_mb=2),
]

CASES = {case.name: case for case in FULL + QUICK}
