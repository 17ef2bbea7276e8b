"""Training on alignments, as fairseq's label_smoothed_cross_entropy_with_alignment does it."""

import os

import cli
import pytest

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def data(folder):
    """The n-th word of the target comes from the n-th of the source."""
    raw, data = folder / "raw", folder / "data"
    cli.write_corpus(raw)
    for split in ("train", "valid"):
        with open(raw / f"{split}.xx") as f, open(raw / f"{split}.align", "w") as g:
            g.writelines(" ".join(f"{i}-{i}" for i in range(len(line.split()))) + "\n" for line in f)
    flags = [*cli.preprocess_flags(raw, data), "--align-suffix", "align"]
    cli.run("preprocess", *flags, log=folder / "log")
    assert os.path.exists(data / "train.align.xx-yy.bin")
    return data


@pytest.mark.parametrize("composition", ["weighted", "own"])
def test_attention_learns_them(data, folder, composition):
    more = ["--load-alignments", "--criterion", "label_smoothed_cross_entropy_with_alignment", "--alignment-lambda", 1]
    more += ["--memory-composition", composition, *(["--unshared-memory-kv"] if composition == "own" else [])]
    done = cli.run("train", *cli.train_flags(data, folder / composition, *more, updates=60), log=folder / "log")
    losses = [float(line["alignment_loss"]) for line in cli.logged(done.stdout, "train_inner")]
    assert losses[0] > 1 and losses[-1] < 0.6 * losses[0]
    assert ("attention weights are wanted together with gradients" in done.stdout) == (composition == "weighted")
