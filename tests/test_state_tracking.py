"""examples/state_tracking: growing lengths, recurrent networks, exact resume, and the command that makes the tables."""

import json
import shlex
import sys
from types import SimpleNamespace

import cli
import numpy as np
import pytest
import torch

from examples.state_tracking import cells, commands, needed, report
from examples.state_tracking import run as state_tracking
from fairseq_feedback.errors import FeedbackError

TINY = ["--decoder-layers", 1, "--decoder-embed-dim", 16]
FEEDBACK = ["--arch", "feedback_transformer_lm", *TINY, "--decoder-ffn-embed-dim", 24, "--decoder-attention-heads", 2]
MODELS = {
    "feedback": [*FEEDBACK, "--memory-span", 4],
    "own": [*FEEDBACK, "--memory-span", 4, "--memory-composition", "own", "--unshared-memory-kv"],
    "lstm": ["--arch", "recurrent_lm", "--cell", "LSTM", *TINY],
    "gru": ["--arch", "recurrent_lm", "--cell", "GRU", *TINY],
}


@pytest.fixture(scope="module")
def user_dir():
    """What fairseq imports for --user-dir."""
    from fairseq import utils

    utils.import_user_module(SimpleNamespace(user_dir=commands.USER_DIR))
    return sys.modules["user_dir"]


def flags(save_dir, model, *more, updates=6):
    return [
        *("--user-dir", commands.USER_DIR, "--cpu", "--num-workers", 0, "--task", "state_tracking"),
        *("--problem", "parity", "--shortest", 2, "--longest", 9, "--grow-from", 3, "--grow-at", 40),
        *("--epoch-updates", 2, "--valid-sequences", 16, "--batch-size", 8, *MODELS[model]),
        *("--criterion", "labelled_sequence_loss", "--optimizer", "adam", "--lr", 0.01, "--max-update", updates),
        *("--required-batch-size-multiple", 1, "--save-dir", save_dir, "--no-epoch-checkpoints"),
        *("--log-format", "json", "--log-interval", 1, *more),
    ]


@pytest.mark.parametrize("model", MODELS)
def test_resumed_is_uninterrupted(folder, model):
    """With two batches an update, stopped in the middle of an epoch, while lengths grow."""
    more = ["--update-freq", 2, "--dropout", 0.1, "--save-interval-updates", 3]
    whole = cli.run("train", *flags(folder / f"{model}-1", model, *more, updates=7), log=folder / "log")
    cli.run("train", *flags(folder / f"{model}-2", model, *more, updates=3), log=folder / "log")
    rest = cli.run("train", *flags(folder / f"{model}-2", model, *more, updates=7), log=folder / "log")
    assert cli.losses(whole.stdout)[3:] == cli.losses(rest.stdout)
    expected, got = (cli.load(folder / f"{model}-{i}" / "checkpoint_last.pt") for i in (1, 2))
    for name, value in expected["model"].items():
        assert torch.equal(got["model"][name], value), name
    states = [state["extra_state"]["train_iterator"]["growth"] for state in (expected, got)]
    assert states[0] == states[1] and states[0]["length"] > 3 and states[0]["symbols"] >= 7 * 2 * 8 * 2
    lengths = [int(stats["length"]) for stats in cli.logged(whole.stdout, "train_inner")]
    assert lengths == sorted(lengths) and lengths[0] == 3


def test_validation_and_sets_named_by_their_length(folder):
    trained = cli.run("train", *flags(folder / "sets", "lstm", "--valid-subset", "valid,valid_30"), log=folder / "log")
    last = {key: float(value) for stats in cli.logged(trained.stdout, "valid_30") for key, value in stats.items()
            if key.startswith("valid_30_")}  # fmt: skip
    assert 0 <= last["valid_30_sequence_accuracy"] <= last["valid_30_accuracy"] <= 100
    valid = cli.logged(trained.stdout, "valid")[-1]
    more = ["--path", folder / "sets" / "checkpoint_last.pt", "--batch-size", 5, "--valid-sequences", 16]
    command = ["--user-dir", commands.USER_DIR, "--cpu", "--num-workers", 0, "--task", "state_tracking",
               "--problem", "parity", "--shortest", 2, "--longest", 9, "--log-format", "json"]  # fmt: skip
    done = cli.run("validate", *command, *more, "--required-batch-size-multiple", 1, log=folder / "log")
    (again,) = cli.logged(done.stdout, "valid")
    assert float(again["valid_accuracy"]) == float(valid["valid_accuracy"])


@pytest.mark.parametrize(
    "more, words",
    [
        (["--grow-from", 12], "--shortest 2 --grow-from 12 --longest 9: give rising numbers"),
        (["--valid-subset", "valid_x"], "valid_x: a set is named by its length"),
        (["--valid-subset", "valid_9-3"], "valid_9-3: give lengths from 1, the shorter one first"),
        (["--problem", "sudoku"], "argument --problem: invalid choice"),
        (["--add-bos-token"], "--add-bos-token is of language models: leave it out"),
        (["--random-offset"], "--random-offset is of streams: leave it out"),
        (["--sample-break-mode", "none"], "--sample-break-mode none: leave it out"),
    ],
)
def test_mistakes_are_one_sentence(folder, more, words):
    done = cli.run("train", *flags(folder / "mistake", "gru", *more), check=False, log=folder / "log")
    assert done.returncode and words in cli.last_line(done.stderr)


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_blocks_equal_the_whole_sequence(user_dir, cell):
    """A recurrent network that carries its state: outputs of blocks of 3 are those of all at once."""
    from fairseq.data import Dictionary

    from fairseq_feedback.data.carried_memory import CarriedMemory

    dictionary = Dictionary()
    for word in "abcdef":
        dictionary.add_symbol(word)
    cfg = user_dir.recurrent.RecurrentConfig(cell=cell, decoder_embed_dim=8, decoder_layers=2)
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = user_dir.recurrent.RecurrentLanguageModel.build_model(cfg, task).eval()
    tokens = torch.randint(4, len(dictionary), (2, 9), generator=torch.Generator().manual_seed(1))
    whole, _ = model(tokens)
    carried = CarriedMemory()
    blocks = [model(block, carried=carried)[0] for block in tokens.split(3, dim=1)]
    torch.testing.assert_close(torch.cat(blocks, 1), whole)


@pytest.fixture
def task_of(user_dir):
    """The task with these options."""

    def make(problem, **more):
        cfg = user_dir.task.StateTrackingConfig(problem=problem, seed=1, **more)
        return user_dir.task.StateTrackingTask.setup_task(cfg)

    return make


def sources(dataset):
    return [tuple(dataset[i]["source"].tolist()) for i in range(len(dataset))]


def test_last_label_alone(task_of, user_dir):
    drawn = user_dir.drawn.Drawn(task_of("parity", supervision="last"), "train 1", [20] * 8)
    assert len(set(sources(drawn))) == 8
    assert all((np.asarray(drawn[i]["target"])[:-1] == drawn.pad).all() for i in range(8))


def test_distinct_sequences_come_again_and_none_is_validated_on(task_of):
    """96 of the 216 sequences of three permutations; of the others validation has each once."""
    task = task_of("s3", shortest=3, longest=3, distinct=96)
    for split in ("train", "valid", "test_3", "test_4"):
        task.load_dataset(split)
    train = task.dataset("train")
    train.sizes = np.full(192, 3)
    first = sources(train)
    assert len(set(first)) == 96 and first[:96] == first[96:]
    train.first = 96 + 5
    assert sources(train)[0] == first[5]
    for split in ("valid", "test_3"):
        new = sources(task.dataset(split))
        assert len(new) == len(set(new)) == 216 - 96 and not set(new) & set(first)
    assert len(task.dataset("test_4")) == 512


@pytest.mark.parametrize(
    "more, words",
    [
        ({"shortest": 2, "longest": 3}, "give at least 1, and --shortest as long as --longest"),
        ({"shortest": 2, "longest": 2, "distinct": 37}, "s3 has 36 sequences of length 2"),
        ({"shortest": 2, "longest": 2, "distinct": 36}, "no sequence of length 2 is left to validate on"),
    ],
)
def test_what_cannot_be_distinct(task_of, more, words):
    with pytest.raises(FeedbackError, match=words):
        task_of("s3", **{"distinct": 4, **more}).load_dataset("valid")


@pytest.mark.parametrize("name", ["own-4", "own-8"])
def test_a_transformer_counts_equal_symbols_by_the_start(task_of, name):
    """It has no positions: without the start all outputs of a row of the same symbol are the same."""
    from fairseq import options, tasks

    for start in (True, False):
        model = cells.TASKS["parity"].models[name]
        assert model.of_task == ("--start-symbol",)
        flags = ["--task", "state_tracking", "--problem", "parity", *(model.of_task if start else ())]
        args = options.parse_args_and_arch(options.get_training_parser(), [*map(str, flags + list(model.flags))])
        task = tasks.setup_task(args)
        torch.manual_seed(1)
        built = task.build_model(args).eval()
        known = task.source_dictionary
        row = [known.bos()] * start + [known.index("1")] * 5
        outputs = built(torch.tensor([row]))[0][0, start:]
        assert (outputs - outputs[0]).abs()[1:].amax(1).gt(1e-4).all() == start
        task.load_dataset("valid_5")
        sample = task.dataset("valid_5")[0]
        assert (sample["source"][0] == known.bos()) == start and len(sample["source"]) == len(sample["target"])
        assert len(sample["target"]) == 5 + start and (sample["target"][0] == known.pad()) == start


def test_shorter_sequences_are_more(user_dir):
    """All batches of an epoch have one number of symbols, and all epochs other sequences."""
    task = SimpleNamespace(source_dictionary=SimpleNamespace(pad=lambda: 1))
    dataset = user_dir.drawn.Drawn(task, "train 1", [])
    growth = user_dir.drawn.Growth(2, 30, 30, 97.0)
    iterator = user_dir.drawn.GrowingBatches(dataset, growth, 20, 60, 50, seed=1)
    last = 0
    for epoch in (1, 2):
        batches = iterator.draw(dataset, epoch)
        lengths = [dataset.sizes[batch] for batch in batches]
        assert len(batches) == 50 and sum(batches, []) == list(range(len(dataset.sizes)))
        assert all(len(set(batch)) == 1 and len(batch) == min(20, 60 // batch[0]) for batch in lengths)
        assert {len(batch) for batch in batches} >= {2, 20} and dataset.first >= last
        last = dataset.first + len(dataset.sizes)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """run.py with cells of a few updates, in which fairseq's commands are forked."""
    flags = {"feedback": cells.feedback(1, 16, 4), "transformer": cells.fairseq(1, 16)}
    models = {name: cells.Model(more, (1e-3, 3e-3)[: 1 + (name == "transformer")]) for name, more in flags.items()}
    task = cells.TASKS["parity"]._replace(longest=9, tests=(9, 20, "40-256"), models=models, updates=8, rows=8)
    monkeypatch.setattr(cells, "TASKS", {**cells.TASKS, "parity": task})

    def lines(command, log, mode):
        name = command[2].partition(".")[2]
        done = cli.run(name, *command[3:], log=tmp_path / "log")
        with open(log, mode, encoding="utf-8") as f:
            f.write(done.stdout)
        yield from done.stdout.splitlines()

    for module in (state_tracking, needed):
        monkeypatch.setattr(module, "lines", lines)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(tmp_path / "out"), *map(str, flags)])
        state_tracking.main()

    run.results = tmp_path / "out" / "results"
    return run


def test_every_cell_has_its_result_and_none_is_made_twice(command, capsys, tmp_path):
    which = ["--tasks", "parity", "--models", "feedback", "transformer", "--supervision", "last", "--rates", 2]
    command(*which)
    first = capsys.readouterr()
    keys = [f"parity-last-{model}-1" for model in ("feedback-0.001", "transformer-0.001", "transformer-0.003")]
    assert sorted(path.name for path in command.results.iterdir()) == [f"{key}.json" for key in keys]
    found = json.loads((command.results / "parity-last-feedback-0.001-1.json").read_text())
    assert found["updates"] == 8 and found["symbols"] == 8 * 8 * 3 and found["accuracy"].keys() == {"9", "20", "40-256"}
    assert str(tmp_path) not in found["command"] and found["curve"][-1][0] == 8
    (command.results / "parity-last-transformer-0.003-1.json").unlink()
    command(*which)
    again = capsys.readouterr()
    assert first.err.count(" …\n") == 3 and again.err.count(" …\n") == 1
    assert [line[:30] for line in again.out.splitlines()] == [line[:30] for line in first.out.splitlines()]
    path = command.results / "parity-last-feedback-0.001-1.json"
    path.write_text(json.dumps({**found, "command": found["command"] + " --clip-norm 2"}))
    with pytest.raises(FeedbackError, match="0.001-1.json is of other settings: move it away, or give another --out"):
        command(*which)
    path.unlink()
    begun = command.results.parent / "parity-last-feedback-0.001-1" / "command"
    settings = begun.read_text()
    begun.write_text(settings + " --clip-norm 2")
    with pytest.raises(FeedbackError, match="parity-last-feedback-0.001-1 is of other settings"):
        command(*which)
    begun.write_text(settings)
    path.write_text(json.dumps(found))
    command(*which, "--updates", 4)
    assert (tmp_path / "out" / "4-updates" / "results" / path.name).exists()
    capsys.readouterr()
    pytest.importorskip("matplotlib")
    command("--table", command.results, "--plots", tmp_path / "plots")
    assert (tmp_path / "plots" / "parity-last.png").stat().st_size > 5000
    said = capsys.readouterr().out
    assert said.count("| transformer (fairseq's) | 0.0") == 1 and said.count("2411.12537") == 6


def test_the_best_rate_is_shown(tmp_path, capsys):
    """By the labels that are right at the trained lengths, and among equals by how far these have grown."""
    facts = {"task": "parity", "model": "lstm", "supervision": "last", "parameters": 10**6, "cpu_minutes": 1}
    of_rate = {0.1: ((60, 3e6), (80, 3e6)), 0.2: ((75, 2e6), (75, 2e6)), 0.3: ((75, 3e6), (75, 1.5e6))}
    for rate, of_seed in of_rate.items():
        for seed, (right, symbols) in enumerate(of_seed, 1):
            accuracy = {"40": {"symbols": 99 + rate, "sequences": 0}, "40-256": {"symbols": 75.0, "sequences": 0}}
            more = {"rate": rate, "seed": seed, "curve": [[1, right]], "symbols": symbols, "accuracy": accuracy}
            (tmp_path / f"{rate}-{seed}.json").write_text(json.dumps({**facts, **more}))
    report.show(str(tmp_path))
    assert "\n| LSTM | 1.00M | 0.3 | 2.2M | 1 | 99.3, 99.3 | 0.500, 0.500 |\n" in capsys.readouterr().out


def test_how_many_sequences_are_needed(command, monkeypatch, capsys, tmp_path):
    """One that is trained, with what every count but the last does not reach; then each count as if it were enough."""
    which = ["--needed", "--models", "feedback", "--results", tmp_path / "needed"]
    monkeypatch.setattr(needed, "NAMES", ("s3",))
    monkeypatch.setattr(needed, "LENGTHS", (4,))
    monkeypatch.setattr(needed, "UPDATES", 4)
    monkeypatch.setattr(needed, "COUNTS", [16])
    command(*which)
    assert "| s3 | feedback | > 16 |" in capsys.readouterr().out
    tried = json.loads((tmp_path / "needed" / "s3-4-feedback-1.json").read_text())["tries"]
    assert tried.keys() == {"16"} and 0 < tried["16"]["accuracy"] < 95

    asked = []

    def enough(search, count, progress):
        asked.append(count)
        return {"accuracy": 99.0 if count >= 3 * 2**search.length else 50.0, "updates": 1}

    monkeypatch.setattr(needed.Search, "tried", enough)
    monkeypatch.setattr(needed, "LENGTHS", (4, 8, 16, 32))
    monkeypatch.setattr(needed, "COUNTS", [2**k for k in range(4, 13)])
    (tmp_path / "needed" / "s3-4-feedback-1.json").unlink()
    command(*which)
    assert "| s3 | feedback | 64 | 1,024 | > 4,096 | > 4,096 |" in capsys.readouterr().out
    assert len(asked) <= 16
    asked.clear()
    command(*which)
    assert not asked
    pytest.importorskip("matplotlib")
    command("--needed", "--table", tmp_path / "needed", "--plots", tmp_path)
    assert (tmp_path / "needed.png").stat().st_size > 5000


@pytest.mark.parametrize("paper", [[], ["--paper"]])
def test_every_command_is_one_that_fairseq_takes(paper, monkeypatch, capsys, user_dir):
    """The flags of all cells, read by fairseq's own parser."""
    from fairseq import options

    monkeypatch.setattr(
        sys, "argv", ["run.py", "--rates", "3", "--models", *state_tracking.MODELS, "--dry-run", *paper]
    )
    state_tracking.main()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == sum(len(task.supervisions) * (1 + 6 * 3) for task in cells.TASKS.values())
    assert ("--cpu" in printed[0]) == (not paper)
    for line in printed:
        options.parse_args_and_arch(options.get_training_parser(), shlex.split(line)[3:])


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--updates", 3], "--updates 3"),
        (["--seeds", 0], "--seeds 0"),
        (["--rates", 0], "--rates 0"),
        (["--needed", "--dry-run"], "--dry-run: leave it out with --needed"),
        (["--plots", "here"], "--plots: give --table FOLDER, too"),
    ],
)
def test_mistakes_of_the_command(command, flags, words):
    with pytest.raises(FeedbackError, match=words):
        command(*flags)


def test_a_folder_without_results(tmp_path):
    with pytest.raises(FeedbackError, match="has no results"):
        report.show(str(tmp_path))
