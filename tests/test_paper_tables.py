"""examples/HYPERPARAMETERS.md says what the architectures and the recipes have."""

import os
import re
import shlex
import subprocess
from argparse import Namespace

import pytest
import torch
from fairseq import options
from fairseq.models import ARCH_MODEL_REGISTRY
from helpers import Task, make_dictionary, parse
from recipes import ROOT

import fairseq_feedback  # noqa: F401  registers the architectures

VOCABULARY = dict(algorithmic=30, char_ptb=56, enwik8=208, wikitext103=267744)
NO_RECIPE = "no recipe"
WORDS = {"yes": True, "no": False, "None": None}


def read_tables():
    """{"recipe kind", or architecture: [(hyper-parameter, options, the paper's value, ours)]}"""
    with open(os.path.join(ROOT, "examples", "HYPERPARAMETERS.md"), encoding="utf-8") as f:
        lines = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in f if line.startswith("|")]
    tables, names = {}, []
    for name, flags, *cells in lines:
        if name == "recipe":
            names = [cell.strip("`") for cell in cells]
            tables.update({column: [] for column in names})
        elif names and flags.startswith("`"):
            assert len(cells) == len(names), name
            for column, cell in zip(names, cells):
                parts = [part.strip() for part in re.split("[→=≈]", cell)]
                tables[column].append((name, re.findall("`(.*?)`", flags), parts[0], parts[-1]))
        else:
            names = []
    return tables


TABLES = read_tables()


def dry_run(recipe, kind, *flags):
    """(units of an update, the commands of the training and of the fine-tuning)."""
    done = subprocess.run(
        ["bash", f"examples/{recipe}/train.sh", "--dry-run", "--arch", kind, "--gpus", "1", *map(str, flags)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env={**os.environ, "PYTHON": "/nowhere"},
    )
    units = int(re.search(r"one update: (\d+) ", done.stderr)[1])
    return units, [shlex.split(line)[1:] for line in done.stdout.splitlines()]


def parsed(command):
    return options.parse_args_and_arch(options.get_training_parser(), input_args=command)


def values_of(column):
    """A function: an option as the table names it -> its value."""
    if " " not in column:
        units, trained, finetuned = None, parse(column), None
        ARCH_MODEL_REGISTRY[column].build_model(trained, Task(make_dictionary()))  # completes the options
        from fairseq_feedback.models.feedback_transformer_lm import complete_architecture

        complete_architecture(trained, column)
    else:
        units, commands = dry_run(*column.split())
        trained, finetuned = [*map(parsed, commands), None][:2]

    def value(option):
        if option == "one update":
            return units
        if option.startswith("parameters"):
            return millions(column, trained, option.endswith("--unshared-memory-kv"))
        args = trained
        if option.startswith("finetune "):
            args, option = finetuned, option.split()[1]
        return getattr(args, option[2:].replace("-", "_"), None)

    return value


def millions(column, args, unshared):
    args = Namespace(**{**vars(args), **({"unshared_memory_kv": True} if unshared else {})})
    name = column.split()[0].removeprefix("feedback_transformer_lm_")
    with torch.device("meta"):
        model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, Task(make_dictionary(VOCABULARY[name] - 4)))
    return sum(p.numel() for p in model.parameters()) / 1e6


def same(written, value, rough):
    if isinstance(value, list):
        (value,) = value
    if written in WORDS:
        return (value or False) == (WORDS[written] or False)
    number = written.replace(",", "")
    try:
        return float(value) == pytest.approx(float(number), rel=0.01 if rough else 1e-6)
    except (TypeError, ValueError):
        return str(value).replace(" ", "") == written.replace(" ", "")


@pytest.mark.parametrize("column", TABLES)
def test_ours_is_what_the_table_says(column):
    value, wrong = values_of(column), []
    for name, flags, _, ours in TABLES[column]:
        for option in flags if ours != NO_RECIPE else []:
            if not same(ours, value(option), rough=option.startswith("parameters")):
                wrong.append(f"{name}, {option}: {value(option)}, and in the table {ours}")
    assert not wrong


def test_what_is_said_to_come_out_is_within_a_hundredth():
    with open(os.path.join(ROOT, "examples", "HYPERPARAMETERS.md"), encoding="utf-8") as f:
        pairs = re.findall(r"\| ([\d.]+) ≈ ([\d.]+) ", f.read())
    assert len(pairs) == 8
    for papers, ours in pairs:
        assert float(ours) == pytest.approx(float(papers), rel=0.01)


def test_every_column_of_the_papers_tables_is_there():
    recipes = {column.split()[0] for column in TABLES}
    assert recipes == {*VOCABULARY, "cnn_dm", "wmt14_en_de", "iwslt14_de_en"} - {"algorithmic"} | {
        "feedback_transformer_lm_algorithmic"
    }
    assert all(len(rows) >= 18 for rows in TABLES.values())


SAME_FOR_BOTH = (
    "decoder_layers decoder_embed_dim decoder_ffn_embed_dim decoder_attention_heads attention_dropout "
    "lr lr_scheduler clip_norm warmup_updates max_update criterion optimizer adam_betas weight_decay"
).split()


@pytest.mark.parametrize("column", [column for column in TABLES if column.endswith(" feedback")])
def test_the_standard_transformer_has_the_same(column):
    recipe = column.split()[0]
    kind = "fairseq-transformer" if recipe in VOCABULARY else "transformer"
    runs = [dry_run(recipe, kind) for kind in ("feedback", kind)]
    ours, theirs = (parsed(commands[0]) for _, commands in runs)
    for name in SAME_FOR_BOTH:
        assert getattr(ours, name) == getattr(theirs, name), name
    if recipe in VOCABULARY:
        assert theirs.decoder_normalize_before and theirs.criterion == "feedback_lm_loss"
        assert theirs.activation_dropout == ours.activation_dropout
        tokens = [units * args.tokens_per_sample for (units, _), args in zip(runs, (ours, theirs))]
        assert tokens[0] == tokens[1]
    else:
        assert ours.dropout == theirs.dropout and runs[0][0] == runs[1][0]


@pytest.mark.parametrize("column", [column for column in TABLES if column.split()[0] in VOCABULARY])
def test_the_papers_transformer_is_the_same_model_with_memories_of_its_own(column):
    recipe, kind = column.split()
    kinds = {"feedback": "transformer", "feedback-large-2048": "transformer-large-2048"}
    if kind not in kinds:
        return
    ours, theirs = (dry_run(recipe, k) for k in (kind, kinds[kind]))
    for a, b in zip(ours[1], theirs[1]):
        own = [word for word in b if word not in a]
        runs = [word for word in own if word.startswith("/")]
        assert set(own) - set(runs) == {"--memory-composition", "own", "--unshared-memory-kv"}
        assert all(kinds[kind] in word for word in runs)
    assert ours[0] == theirs[0]
    if kind == "feedback-large-2048":  # 140M, says Table 3
        assert millions(column, parsed(theirs[1][0]), True) == pytest.approx(140, rel=0.01)


# ---------------------------------------------------------------- what the recipes' scripts add


@pytest.mark.parametrize(
    "flags, rate",
    [([], [0.00015]), (["--", "--lr", "2e-3"], [0.0002]), (["--", "--lr=1e-3,5e-4"], [0.0001, 0.00005])],
)
def test_fine_tuning_has_a_tenth_of_the_rate_that_the_user_gave(flags, rate):
    _, (trained, finetuned) = dry_run("char_ptb", "feedback", *flags)
    assert parsed(finetuned).lr == pytest.approx(rate) and parsed(trained).lr == pytest.approx([10 * x for x in rate])
    assert parsed(finetuned).warmup_updates == 0


@pytest.mark.parametrize("recipe", ["char_ptb", "enwik8", "wikitext103"])
def test_language_models_are_validated_by_updates(recipe):
    """An epoch of char_ptb is 20 updates; fairseq would validate and save after each."""
    _, (command, _) = dry_run(recipe, "feedback")
    args = parsed(command)
    assert args.save_interval > args.max_update and args.validate_interval > args.max_update
    assert args.save_interval_updates == args.validate_interval_updates
    assert 20 <= args.max_update / args.validate_interval_updates <= 100


@pytest.mark.parametrize(
    "kind, flags, needed",
    [
        ("feedback-12-2", ["--gpus", 8], True),
        ("feedback-12-2", [], False),
        ("feedback", ["--gpus", 8], False),
        ("feedback", ["--gpus", 8, "--", "--decoder-layerdrop", 0.1], True),
    ],
)
def test_layerdrop_on_several_gpus(kind, flags, needed):
    _, (command,) = dry_run("wmt14_en_de", kind, *flags)
    assert ("--find-unused-parameters" in command) == needed
