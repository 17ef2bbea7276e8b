"""What is compared: groups of trainings that differ in one thing."""

from typing import List, NamedTuple, Tuple

SHAKESPEARE, WIKITEXT = "Tiny Shakespeare", "WikiText-2"
# Characters of Tiny Shakespeare to train on; WikiText-2's are words.
DATA = {
    SHAKESPEARE: None,
    "its first 51,200 characters": 51_200,  # 50 updates an epoch
    "its first 20,480 characters": 20_480,  # 20 updates an epoch, as char-PTB has with the paper's numbers
    WIKITEXT: None,
}


class Cell(NamedTuple):
    data: str
    layers: int
    updates: int
    setting: str
    flags: Tuple
    name: str = ""  # of its files, if not made from the others


class Group(NamedTuple):
    model: List
    cells: List[Cell]


def model(width, span, batch, tokens, rate, warmup):
    return [
        *("--task", "feedback_lm", "--arch", "feedback_transformer_lm_tiny", "--criterion", "feedback_lm_loss"),
        *("--decoder-embed-dim", width, "--decoder-ffn-embed-dim", 4 * width, "--decoder-attention-heads", 4),
        *("--memory-span", span, "--share-decoder-input-output-embed"),
        *("--attention-dropout", 0.1, "--activation-dropout", 0.1),
        *("--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--clip-norm", 0.5, "--lr", rate),
        *("--lr-scheduler", "polynomial_decay", "--warmup-updates", warmup, "--batch-size", batch),
        *("--tokens-per-sample", tokens, "--batch-size-valid", 32),
    ]


SMALL = model(64, 64, 32, 32, 4e-3, 30)
LARGER = model(128, 64, 16, 64, 2e-3, 240)
UPDATES = 2400  # of the larger one: 2.5M characters

OWN = ("--memory-composition", "own", "--unshared-memory-kv")
MEMORIES = {
    "weighted": (),
    "mean": ("--memory-composition", "mean"),
    "top": ("--memory-composition", "top"),
    **{f"layer {k}": ("--memory-composition", f"layer:{k}") for k in (2, 1, 0)},
    "recurrent": ("--memory-composition", "recurrent", "--unshared-memory-kv"),
    "own, a transformer": OWN,
}

# (FFN, width of a head) with which all products have as many parameters as those of four layers of LARGER.
SIZES = {1: (1792, 112), 2: (984, 60), 4: (512, 32), 6: (345, 22)}
SIZES_OWN = {1: (1792, 112), 2: (896, 56), 4: (448, 28), 6: (296, 19)}


def depth(layers, sizes, setting, more=()):
    ffn, head = sizes[layers]
    flags = ("--decoder-ffn-embed-dim", ffn, "--decoder-head-dim", head, *more)
    return Cell(SHAKESPEARE, layers, UPDATES, setting, flags, f"depth-{setting.split(',')[0]}-{layers}")


def choices(data, layers, updates, settings):
    return [Cell(data, layers, updates, " ".join(flags) or "no flag", flags) for flags in settings]


INIT = [("--decoder-init", "fairseq"), ("--decoder-init", "authors")]
OFFSET = [(), ("--random-offset",)]

MEMORY = [
    Cell(SHAKESPEARE, 3, UPDATES, name, flags, "memory-" + name.split(",")[0].replace(" ", "-"))
    for name, flags in MEMORIES.items()
]

GROUPS = {
    "memory": Group(LARGER, MEMORY),
    "depth": Group(
        LARGER,
        [depth(layers, SIZES, "feedback") for layers in SIZES]
        + [depth(layers, SIZES_OWN, "own, a transformer", OWN) for layers in SIZES_OWN],
    ),
    "training": Group(
        LARGER,
        [
            MEMORY[0],  # pre-norm, a fixed span, blocks of 64 characters
            Cell(SHAKESPEARE, 3, UPDATES, "post-norm", ("--decoder-post-norm",), "training-post-norm"),
            Cell(SHAKESPEARE, 3, UPDATES, "adaptive span", ("--adaptive-span",), "training-adaptive-span"),
            Cell(SHAKESPEARE, 3, UPDATES, "blocks of 32, then of 64", ("--bptt-warmup-epochs", 1), "training-growing"),
        ],
    ),
    "choices": Group(
        SMALL,
        [
            *choices(SHAKESPEARE, 3, 300, INIT),
            *choices(SHAKESPEARE, 12, 100, INIT),
            *choices("its first 20,480 characters", 2, 400, OFFSET),
            *choices("its first 51,200 characters", 2, 400, OFFSET),
            *choices(WIKITEXT, 3, 300, INIT),
            *choices(WIKITEXT, 12, 100, INIT),
        ],
    ),
}
