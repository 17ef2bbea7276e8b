"""What is trained: a cell is a problem, a model, a supervision, a rate and a seed, with the settings below.

Every model gets the same lengths, growth, updates and batches. The first of its rates is the one that fits most tasks.
"""

from typing import NamedTuple, Optional, Tuple

LAST, ALL = "last", "all"
SHORT = ("--attention-dropout", 0, "--activation-dropout", 0, "--decoder-attention-heads", 4)
# Where there are many states: a memory of normed vectors keeps them apart for as long as one likes.
POST_NORM = ("--decoder-post-norm",)
OWN = ("--memory-composition", "own", "--unshared-memory-kv")


def feedback(layers, width, span, *more):
    sizes = ("--decoder-layers", layers, "--decoder-embed-dim", width, "--decoder-ffn-embed-dim", 4 * width)
    return ("--arch", "feedback_transformer_lm", *sizes, "--memory-span", span, *SHORT, *more)


def recurrent(cell, layers, width):
    return ("--arch", "recurrent_lm", "--cell", cell, "--decoder-layers", layers, "--decoder-embed-dim", width)


def fairseq(layers, width):
    sizes = ("--decoder-layers", layers, "--decoder-embed-dim", width, "--decoder-ffn-embed-dim", 4 * width)
    return ("--arch", "transformer_lm", *sizes, "--decoder-attention-heads", 4, "--dropout", 0,
            "--decoder-normalize-before", "--max-target-positions", 8192)  # fmt: skip


class Model(NamedTuple):
    flags: Tuple
    rates: Tuple[float, ...]  # the best one counts
    of_task: Tuple = ()  # flags of the task, in tests, too


class Task(NamedTuple):
    problem: str
    shortest: int
    longest: int
    updates: int
    tests: Tuple  # lengths, and ranges of lengths as 2411.12537 tests
    models: dict
    grow_at: float = 97.0
    weight_decay: float = 0.1
    rows: int = 128
    supervisions: Tuple[str, ...] = (LAST, ALL)
    total: Optional[int] = None  # lengths of a batch, added up: shorter sequences are more, up to `rows`
    chance: Optional[float] = None  # percent that are right by guessing, where that is known
    hold: float = 0.64  # part of the updates with the full rate, which falls from then on


# Of two recurrent networks the wider has at least as many parameters as feedback. The peers have three rates each.
# A transformer sees at least as far back as feedback, and that a sequence begins, as feedback does by its empty memory.
def models(layers, width, span, rate, more=()):
    transformers, networks = (rate, rate / 3, 3 * rate), (2e-3, 5e-4, 8e-3)
    start = ("--start-symbol",)
    return {
        "feedback": Model(feedback(layers, width, span, *more), (rate,)),
        "own-4": Model(feedback(4, width, max(64, span), *OWN), transformers, start),
        "own-8": Model(feedback(8, width, max(64, span), *OWN), transformers, start),
        "transformer": Model(fairseq(4, width), transformers),
        "lstm": Model(recurrent("LSTM", 2, 2 * width), networks),
        "lstm-narrow": Model(recurrent("LSTM", 2, width), networks),
        "gru": Model(recurrent("GRU", 2, 2 * width), networks),
    }


TASKS = {
    "swaps_s5": Task("swaps_s5", 3, 32, 3200, (32, 64, 128, 256, 512, 1024, 4096), models(2, 128, 8, 1e-3),
                     chance=100 / 120),
    "parity": Task("parity", 3, 40, 3000, (40, 64, 128, 256, 512, 1024, "40-256"), models(1, 64, 4, 1e-3), hold=0.25,
                   chance=50),
    "s5": Task("s5", 3, 32, 13_000, (32, 64, 128, 256, 512, 1024, 4096), models(2, 128, 4, 1.5e-3, more=POST_NORM),
               grow_at=85, rows=512, total=2048, hold=0.6, chance=100 / 120),
    "modular": Task("modular", 3, 39, 5000, (39, 63, 127, 255, "40-256"), models(2, 128, 8, 1e-3), supervisions=(LAST,),
                    chance=20),
    "modular_brackets": Task("modular_brackets", 3, 40, 7000, (40, 64, 128, 256, "40-256"),
                             models(2, 128, 64, 1e-3, more=POST_NORM), supervisions=(LAST,), chance=20, grow_at=85,
                             rows=512, total=4096, hold=0.6),
    "random_walk": Task("random_walk", 3, 100, 20_000, (50, 100, 200, 400), models(1, 128, 8, 1e-3), grow_at=90,
                        weight_decay=0.01, rows=256, total=4096, supervisions=(ALL,), hold=0.3),
    "algorithmic_3": Task("algorithmic_3", 3, 100, 10_000, (10, 25, 50, 100, 200, 400),
                          models(2, 128, 16, 1e-3, more=POST_NORM), grow_at=95, rows=256, total=1024,
                          supervisions=(ALL,), hold=0.6),
    "algorithmic_5": Task("algorithmic_5", 3, 100, 10_000, (10, 25, 50, 100, 200, 400),
                          models(2, 128, 16, 1e-3, more=POST_NORM), grow_at=95, rows=256, total=1024,
                          supervisions=(ALL,), hold=0.6),
    "copy": Task("copy", 3, 40, 5000, (40, 400), models(2, 128, 100, 1e-3), rows=64, supervisions=(ALL,), chance=10),
    "reverse": Task("reverse", 3, 40, 5000, (40, 400), models(2, 128, 100, 1e-3), rows=64, supervisions=(ALL,),
                    chance=10),
    "counting": Task("counting", 1, 50, 6000, (50, 1000), models(2, 128, 128, 1e-3), rows=32, supervisions=(ALL,)),
    "s3": Task("s3", 3, 32, 2000, (32, 64, 256, 512), models(2, 128, 8, 1e-3), chance=100 / 6),
    "a5": Task("a5", 3, 32, 13_000, (32, 64, 256, 512), models(2, 128, 4, 1.5e-3, more=POST_NORM), grow_at=85,
               rows=512, total=2048, hold=0.6, chance=100 / 60),
}  # fmt: skip

# The sizes of the papers, for GPUs: of the Feedback Transformer for its own tasks, of RLT's for the rest.
ECHOES = ("copy", "reverse", "counting")  # what is to be said lies up to 800 symbols back


def paper(name, task):
    task = task._replace(rows=512, total=None)
    if name in (*ECHOES, "random_walk", "algorithmic_3", "algorithmic_5"):
        return task._replace(updates=50_000, models=models(4, 256, 1024 if name in ECHOES else 100, 1e-4))
    more = POST_NORM if "--decoder-post-norm" in task.models["feedback"].flags else ()
    return task._replace(models=models(8, 512, 8, 1e-4, more=more))


PAPER = {name: paper(name, task) for name, task in TASKS.items()}


def cells(tasks, names, supervisions, seeds, rates):
    """(task's name, model's, supervision, rate, seed), the first seed of all first. rates: of a model, at most."""
    for seed in range(1, seeds + 1):
        for name, task in tasks.items():
            for supervision in task.supervisions:
                if supervision in supervisions:
                    for model in task.models:
                        if model in names:
                            for rate in task.models[model].rates[:rates]:
                                yield name, model, supervision, rate, seed


def train_flags(task, model, supervision, rate, seed):
    return [
        *task_flags(task, model, supervision),
        *("--grow-from", task.shortest, "--grow-at", task.grow_at, "--seed", seed),
        *map(str, task.models[model].flags),
        *("--criterion", "labelled_sequence_loss", "--optimizer", "adam", "--adam-betas", "(0.9, 0.95)"),
        *("--clip-norm", 1, "--weight-decay", task.weight_decay, "--batch-size", task.rows),
        *(("--batch-total", task.total) if task.total else ()),
        *("--lr", rate, "--lr-scheduler", "tri_stage"),
        *("--phase-ratio", f"(0.03, {task.hold}, {0.97 - task.hold:.2f})"),
        *("--init-lr-scale", 0.01, "--final-lr-scale", 0.05, "--max-update", task.updates),
        *("--validate-interval", 1_000_000, "--validate-interval-updates", 250, "--save-interval", 1_000_000),
        *("--save-interval-updates", 250, "--keep-interval-updates", 1, "--no-epoch-checkpoints"),
        *("--log-format", "json", "--log-interval", 20, "--required-batch-size-multiple", 1),
    ]


def task_flags(task, model, supervision):
    return [
        *("--task", "state_tracking", "--problem", task.problem, "--supervision", supervision),
        *("--shortest", task.shortest, "--longest", task.longest, *task.models[model].of_task),
    ]
