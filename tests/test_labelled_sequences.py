"""The task labelled_sequences: symbols and labels, one sequence a row or as streams."""

import random
import socket

import cli
import pytest
import torch

pytestmark = pytest.mark.core


def write(folder, split, rows, seed, longest=9):
    """Bits and the parity so far, of which every second one has no label."""
    rng = random.Random(seed)
    with open(folder / f"{split}.bit", "w") as bits, open(folder / f"{split}.parity", "w") as labels:
        for _ in range(rows):
            row = [rng.randint(0, 1) for _ in range(rng.randint(2, longest))]
            so_far = [str(sum(row[: i + 1]) % 2) if i % 2 else "<pad>" for i in range(len(row))]
            print(*row, file=bits)
            print(*so_far, file=labels)


@pytest.fixture(scope="module")
def data(folder):
    flags = ["--source-lang", "bit", "--target-lang", "parity", "--destdir", folder / "bin", "--workers", 1]
    for seed, (split, rows) in enumerate({"train": 60, "valid": 20, "test": 12}.items()):
        write(folder, split, rows, seed)
        flags += [f"--{split}pref", folder / split]
    cli.run("preprocess", *flags, log=folder / "log")
    return str(folder / "bin")


def flags(data, save_dir, *more, **options):
    return cli.train_lm_flags(
        data, save_dir, "--task", "labelled_sequences", "--criterion", "labelled_sequence_loss", *more, **options
    )


ROWS = ["--sample-break-mode", "eos"]


def test_rows(data, folder):
    best = ["--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric"]
    trained = cli.run("train", *flags(data, folder / "rows", *ROWS, *best), log=folder / "log")
    (valid,) = cli.logged(trained.stdout, "valid")
    with open(folder / "valid.parity") as f:
        lengths = [len(line.split()) for line in f]
    assert 0 <= float(valid["valid_sequence_accuracy"]) <= float(valid["valid_accuracy"]) <= 100
    assert valid["valid_accuracy_1_16"] == valid["valid_accuracy"] and "valid_accuracy_17_32" not in valid
    best = cli.load(folder / "rows/checkpoint_best.pt")["extra_state"]["best"]
    assert best == float(valid["valid_accuracy"])

    # Against the model itself, row by row.
    more = ["--task", "labelled_sequences", "--length-bounds", "4,9", "--path", folder / "rows/checkpoint_best.pt"]
    done = cli.run("validate", *cli.common_flags(data), *more, "--batch-size", 3, "--log-format", "json",
                   log=folder / "log")  # fmt: skip
    (found,) = cli.logged(done.stdout, "valid")
    assert float(found["valid_accuracy"]) == float(valid["valid_accuracy"])
    right = by_hand(data, folder / "rows/checkpoint_best.pt", folder)
    assert float(found["valid_accuracy"]) == percent(sum(right, []))
    assert float(found["valid_sequence_accuracy"]) == percent([all(row) for row in right])
    short = [row for row, length in zip(right, lengths) if length <= 4]
    assert float(found["valid_accuracy_1_4"]) == percent(sum(short, []))
    assert float(found["valid_sequence_accuracy_1_4"]) == percent([all(row) for row in short])
    long = [row for row, length in zip(right, lengths) if length > 4]
    assert float(found["valid_accuracy_5_9"]) == percent(sum(long, []))


def percent(right):
    return round(100 * sum(right) / len(right), 2)


def by_hand(data, path, folder):
    """Whether each label of each validation sequence is what the model says."""
    from fairseq import checkpoint_utils

    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides={"data": data})
    model.eval()
    found = []
    with open(folder / "valid.bit") as bits, open(folder / "valid.parity") as labels:
        for symbols, wanted in zip(bits, labels):
            tokens = torch.tensor([[task.source_dictionary.index(s) for s in symbols.split()]])
            said = model(tokens)[0].argmax(-1)[0].tolist()
            pairs = zip(said, wanted.split())
            found.append([task.target_dictionary[s] == label for s, label in pairs if label != "<pad>"])
    return found


def test_streams_carry_their_memory(data, folder):
    """The loss is that of one long row; the accuracy of sequences is not told, as streams have none."""
    trained = cli.run("train", *flags(data, folder / "streams"), log=folder / "log")
    (valid,) = cli.logged(trained.stdout, "valid")
    assert "valid_accuracy" in valid and "valid_sequence_accuracy" not in valid
    losses = []
    for length in (3, 1000):
        more = ["--task", "labelled_sequences", "--tokens-per-sample", length, "--batch-size", 1]
        more += ["--log-format", "json", "--path", folder / "streams/checkpoint_best.pt"]
        done = cli.run("validate", *cli.common_flags(data), *more, log=folder / "log")
        losses.append(cli.logged(done.stdout, "valid")[0]["valid_loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("mode", [[], ROWS])
def test_resumed_is_uninterrupted(data, folder, mode):
    name = "-".join(["resumed", *mode]).replace("--", "")
    more = [*mode, "--update-freq", 2, "--save-interval-updates", 3]
    whole = cli.run("train", *flags(data, folder / f"{name}-whole", *more, updates=7), log=folder / "log")
    cli.run("train", *flags(data, folder / f"{name}-part", *more, updates=3), log=folder / "log")
    rest = cli.run("train", *flags(data, folder / f"{name}-part", *more, updates=7), log=folder / "log")
    assert cli.losses(whole.stdout)[3:] == cli.losses(rest.stdout)


def test_a_transformer_of_fairseq(data, folder):
    more = [*ROWS, "--max-target-positions", 12, "--dropout", 0]
    made = flags(data, folder / "stock", *more, updates=30, arch="transformer_lm")
    left_out = ("--memory-span", 6, "--activation-dropout", 0.1, "--attention-dropout", 0.1)
    made = [flag for i, flag in enumerate(made) if flag not in left_out[::2] and made[i - 1] not in left_out[::2]]
    losses = cli.losses(cli.run("train", *made, log=folder / "log").stdout)
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ROWS])
def test_two_workers_are_one_with_update_freq_2(data, folder, mode):
    mode = [*mode, "--dropout", 0, "--attention-dropout", 0, "--activation-dropout", 0]  # drawn in another order
    name = "workers" + "-rows" * ("eos" in mode)
    one = cli.run("train", *flags(data, folder / f"{name}-1", *mode, "--update-freq", 2), log=folder / "log")
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    started = []
    for rank in range(2):
        more = [
            *("--distributed-world-size", 2, "--distributed-rank", rank, "--distributed-no-spawn"),
            *("--distributed-init-method", f"tcp://localhost:{port}", "--distributed-backend", "gloo"),
            *("--ddp-backend", "legacy_ddp"),
        ]
        started.append(cli.start("train", *flags(data, folder / f"{name}-2", *mode, *more), log=folder / f"log{rank}"))
    two = [process.wait() for process in started][0]
    assert cli.losses(one.stdout) == pytest.approx(cli.losses(two.stdout), abs=0.002)


@pytest.mark.parametrize(
    "more, words",
    [
        (["--length-bounds", "9,4"], "--length-bounds 9,4: give rising numbers"),
        ([*ROWS, "--random-offset"], "--random-offset is of streams"),
        (["--add-bos-token"], "--add-bos-token is of language models"),
        (["--target-lang", "sum"], "dict.sum.txt is missing"),
        (["--adaptive-softmax-cutoff", "3"], "--adaptive-softmax-cutoff does not go with labelled_sequence_loss"),
        (["--valid-subset", "other"], "no such split"),
    ],
)
def test_mistakes_are_one_sentence(data, folder, more, words):
    done = cli.run("train", *flags(data, folder / "mistake", *more), check=False, log=folder / "log")
    assert done.returncode == 1 and words in cli.last_line(done.stderr)


def test_a_line_without_all_its_labels_is_named(data, folder):
    write(folder, "bad", 5, 9)
    lines = (folder / "bad.parity").read_text().splitlines()
    lines[2] += " 1"
    (folder / "bad.parity").write_text("\n".join(lines) + "\n")
    made = ["--source-lang", "bit", "--target-lang", "parity", "--destdir", folder / "bin2", "--workers", 1]
    cli.run("preprocess", *made, "--trainpref", folder / "bad", "--validpref", folder / "bad", log=folder / "log")
    more = ["--disable-validation", *ROWS]
    done = cli.run("train", *flags(folder / "bin2", folder / "bad-run", *more), check=False, log=folder / "log")
    assert done.returncode == 1 and "In line 3 there is not" in cli.last_line(done.stderr)


def test_an_empty_line_is_named(data, folder):
    write(folder, "empty", 5, 9)
    for language in ("bit", "parity"):
        path = folder / f"empty.{language}"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:3], "", *lines[3:]]) + "\n")
    made = ["--source-lang", "bit", "--target-lang", "parity", "--destdir", folder / "bin3", "--workers", 1]
    cli.run("preprocess", *made, "--trainpref", folder / "empty", "--validpref", folder / "empty", log=folder / "log")
    more = ["--disable-validation", *ROWS]
    done = cli.run("train", *flags(folder / "bin3", folder / "empty-run", *more), check=False, log=folder / "log")
    assert done.returncode == 1 and "train.bit-parity.bit: line 4 is empty" in cli.last_line(done.stderr)
