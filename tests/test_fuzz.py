"""Whatever is damaged or strange ends in a result or in one sentence of ours, and in no other error.

    bash scripts/test.sh -m fuzz -n 0 -s                            # ten seconds for each kind of input, then a table
    FEEDBACK_FUZZ_SECONDS=600 bash scripts/test.sh -m fuzz -n 0 -s  # ten minutes for each

A trial is drawn from its number, and the first that fails is named: FEEDBACK_FUZZ_FIRST=N begins with it.
"""

import argparse
import math
import os
import random
import shutil
import time
from collections import Counter

import cli
import pytest
import raw_corpora
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary, data_utils
from fairseq.data.encoders.subword_nmt_bpe import SubwordNMTBPE, SubwordNMTBPEConfig
from trained import assert_equal, load_model

from examples.prepare import archive
from fairseq_feedback import errors
from fairseq_feedback.tools import exported, training_log
from fairseq_feedback.tools.translation import translator
from fairseq_feedback.tools.translation.translator import Chunk, Translator

pytestmark = pytest.mark.fuzz

SECONDS = float(os.environ.get("FEEDBACK_FUZZ_SECONDS", 10))
FIRST = int(os.environ.get("FEEDBACK_FUZZ_FIRST", 0))
ROWS = []


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    print("\n| kind of input | tried | a result | one sentence |\n|---|---|---|---|")
    for kind, count in ROWS:
        print(f"| {kind} | {sum(count.values()):,} | {count['result']:,} | {count['sentence']:,} |")


def fuzz(kind, trial):
    """trial(rng): does what may end in a FeedbackError."""
    count, number, end = Counter(), FIRST, time.time() + SECONDS
    while time.time() < end:
        try:
            trial(random.Random(number))
            count["result"] += 1
        except BaseException as error:
            said = str(errors.find(error) or "")
            if not said or "\n" in said:
                raise AssertionError(f"FEEDBACK_FUZZ_FIRST={number} of {kind}: {error!r}") from error
            count["sentence"] += 1
        number += 1
    ROWS.append((kind, count))


def damaged(rng, content):
    """Bits flipped, bytes written over, parts cut off, left out, doubled or exchanged."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        a, b = sorted(rng.randrange(len(content) + 1) for _ in "ab")
        kind = rng.randrange(6)
        if kind == 0 and content:
            content[a % len(content)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[a : a + 4] = rng.randbytes(4)
        elif kind == 2:
            del content[a:]
        elif kind == 3:
            del content[a:b]
        elif kind == 4:
            content[a:a] = content[a:b]
        else:
            content[a:b] = bytes(b - a)
    return bytes(content)


def test_checkpoints(made, tmp_path):
    whole, expected = made.checkpoint.read_bytes(), cli.load(made.checkpoint)["model"]
    path = tmp_path / "checkpoint.pt"

    def trial(rng):
        path.write_bytes(damaged(rng, whole))
        assert_equal(dict(checkpoint_utils.load_checkpoint_to_cpu(str(path))["model"]), dict(expected))

    fuzz("checkpoints", trial)


def test_data(made, tmp_path):
    names = ["test.xx-yy.xx.bin", "test.xx-yy.xx.idx", "dict.xx.txt"]
    whole = {name: (made.data / name).read_bytes() for name in names}

    def trial(rng):
        chosen = rng.choice(names)
        for name in names:
            (tmp_path / name).write_bytes(damaged(rng, whole[name]) if name == chosen else whole[name])
        words = Dictionary.load(str(tmp_path / "dict.xx.txt"))
        data = data_utils.load_indexed_dataset(str(tmp_path / "test.xx-yy.xx"), words)
        for i in range(len(data)):
            assert len(words.string(data[i])) >= 0 and (data[i] < len(words)).all()

    fuzz("data and dictionaries", trial)


def test_codes(made, tmp_path):
    whole = b"#version: 0.2\n" + "".join(f"{word[0]} {word[1]}</w>\n" for word in cli.WORDS).encode()
    path = tmp_path / "codes"

    def trial(rng):
        path.write_bytes(damaged(rng, whole))
        bpe = SubwordNMTBPE(SubwordNMTBPEConfig(bpe_codes=str(path)))
        assert bpe.decode(bpe.encode("ba be bu")) == "ba be bu"

    fuzz("codes of BPE", trial)


@pytest.mark.parametrize("name", ["a.tgz", "a.zip"])
def test_archives(name, tmp_path):
    content = random.Random(0).randbytes(5000)
    make = raw_corpora.tar if name == "a.tgz" else raw_corpora.zipped
    make(tmp_path / "whole", {"x/one.txt": content, "../two.txt": b"2", "/three.txt": b"3"})
    whole = (tmp_path / "whole").read_bytes()

    def trial(rng):
        (tmp_path / name).write_bytes(damaged(rng, whole))
        shutil.rmtree(tmp_path / "to", ignore_errors=True)
        wanted = ["one.txt", "two.txt", "three.txt"]
        archive.with_sentences(tmp_path / name, lambda path: archive.take(path, wanted, tmp_path / "to"))
        assert (tmp_path / "to" / "one.txt").read_bytes() == content
        assert sorted(os.listdir(tmp_path)) == sorted([name, "to", "whole"])

    fuzz(f"archives ({name[2:]})", trial)


def test_logs_and_exports(made, tmp_path):
    whole = {"train.log": made.training.encode(), "config.json": b'{"files": {"a": "b"}, "vocabulary": 7}'}

    def trial(rng):
        for name, content in whole.items():
            (tmp_path / name).write_bytes(damaged(rng, content))
        rng.choice([exported.read, lambda folder: training_log.read(folder / "train.log")])(tmp_path)

    fuzz("logs and exports", trial)


STRANGE = [
    "\0",
    "\u2028",
    "\x85",
    " ",
    "\t",
    "\u3000",
    "\ufffd",
    "\u202e",
    "שלום",
    "e\u0301",
    "🙂",
    "\r",
    "@@",
    "<unk>",
    "</s>",
]
STRANGE += ["<pad>", "<Lua heritage>", "madeupword0000", "x" * 3000]


def strange(rng):
    words = [rng.choice(STRANGE + cli.WORDS) for _ in range(rng.choice([0, 1, 3, 8, 8, 60]))]
    line = rng.choice(["", " "]).join(words).encode("utf-8", "surrogatepass")
    return (damaged(rng, line) if line and rng.random() < 0.3 else line).replace(b"\n", b"") + b"\n"


def test_text(made):
    flags = [made.data, "--cpu", "--path", made.checkpoint, "--input", "-", "--output", "-", "--max-len-b", 5]
    flags += ["--errors", "replace", "--beam", 2, "--skip-invalid-size-inputs-valid-test", "--replace-unk"]
    translate = Translator(translator.parse([*map(str, flags)]), 1)

    def trial(rng):
        lines = [strange(rng) for _ in range(rng.randrange(5))]
        found = translate.translate(Chunk(0, lines), lambda lines: None)
        assert found.text.decode("utf-8").count("\n") == len(lines)

    fuzz("lines of text", trial)


EDGES = {
    "beam": [-1, 0, 1, 2, 22, 23, 24, 100],
    "nbest": [-1, 0, 1, 2, 100],
    "lenpen": [-1e30, 0, 1, 1e30, float("nan"), float("inf")],
    "unkpen": [-1e30, 0, 1e30, float("-inf")],
    "temperature": [-1, 0, 1e-30, 1, 1e30, float("nan")],
    "min_len": [-1, 0, 1, 5, 10**6],
    "max_len_a": [-1, 0, 0.5, 1e9, float("inf")],
    "max_len_b": [-5, 0, 1, 5, 10**9],
    "no_repeat_ngram_size": [-1, 0, 1, 2, 100],
    "sampling": [False, True],
    "sampling_topk": [-1, 0, 1, 10**6],
    "sampling_topp": [-1.0, 0.0, 1e-9, 1.0, 2.0],
    "diverse_beam_groups": [-1, 0, 1, 2, 3],
    "diverse_beam_strength": [-1, 0, 0.5, 1e30],
    "diversity_rate": [-1.0, 0.5],
    "match_source_len": [False, True],
    "prefix": [None, None, "short", "end", "long"],
    "decode_int8": [False, True],
}


def test_options(made):
    model, task = load_model(made.checkpoint)
    words = task.target_dictionary
    source = torch.tensor([[5, 6, 7, words.eos()], [words.pad(), words.pad(), 4, words.eos()]])
    sample = {"net_input": {"src_tokens": source, "src_lengths": torch.tensor([4, 2])}}
    prefixes = {"short": [[5], [words.pad()]], "end": [[words.eos()], [5]], "long": [[4, 5, 6, 7, 8, 9]] * 2}

    def trial(rng):
        options = {name: rng.choice(EDGES[name]) for name in rng.sample(list(EDGES), rng.choice([1, 2, 4]))}
        options = {"max_len_b": 6, **options}
        prefix = options.pop("prefix", None)
        prefix = None if prefix is None else torch.tensor(prefixes[prefix])
        if options["max_len_b"] > 100 or options.get("max_len_a", 0) > 100:
            options["beam"] = 1  # it goes on for as long as the model has positions
        generator = task.build_generator([model], argparse.Namespace(**options))
        for hypotheses in task.inference_step(generator, [model], sample, prefix_tokens=prefix):
            scores = [float(hypothesis["score"]) for hypothesis in hypotheses]
            # fairseq's other searches fill up with what is impossible, where there is nothing else.
            assert scores and math.isfinite(scores[0]) and not any(map(math.isnan, scores)), (options, prefix, scores)

    fuzz("options of a search", trial)
