"""train.sh and eval.sh of every recipe, on the small corpora and with small models."""

import json
import os
import re
import subprocess
import sys

import cli
import pytest
from recipes import ROOT, STAGES, Recipe

PAIRS = ("iwslt14_de_en", "wmt14_en_de", "multi30k_en_de", "cnn_dm")
SMALL_LM = ["--decoder-layers", 1, "--decoder-embed-dim", 16, "--decoder-ffn-embed-dim", 16]
SMALL_LM += ["--decoder-attention-heads", 2]
FEEDBACK_LM = [*SMALL_LM, "--decoder-head-dim", 8, "--memory-span", 8, "--batch-size-valid", 2]
TRANSFORMER_LM = [*SMALL_LM, "--decoder-input-dim", 16, "--decoder-output-dim", 16]
WORDS = ["--adaptive-softmax-cutoff", "8,16", "--adaptive-input-cutoff", "8,16"]


def train(recipe, kind, *more, updates=2, **env):
    """What train.sh printed; the run is in the folder of the recipe that is called like its kind."""
    flags = ["--data", recipe.path("bin"), "--out", run_of(recipe, kind), "--arch", kind, "--max-update", updates]
    flags += ["--gpus", 0]
    if recipe.name in PAIRS:
        small = cli.SMALL
    else:
        flags += ["--finetune-update", int(recipe.name == "char_ptb"), "--per-gpu", 2048]
        small = TRANSFORMER_LM if kind == "fairseq-transformer" else FEEDBACK_LM
        small = [*small, *(WORDS if "wiki" in recipe.name else [])]
        if recipe.name == "enwik8":
            small += ["--batch-size-valid", 256]
    return recipe.script("train.sh", *flags, "--", *small, "--num-workers", 0, *more, **env)


@pytest.mark.slow
def test_a_small_model_from_archives_to_a_translation(prepared):
    recipe = prepared("multi30k_en_de")
    out = os.path.join(recipe.folder, "small model")
    flags = ["--data", recipe.data, "--expected", os.path.join(recipe.data, "expected.txt"), "--out", out]
    flags += ["--gpus", 0, "--max-update", 12, "--", *cli.SMALL, "--num-workers", 0]
    done = recipe.script("small.sh", *flags)
    assert "tokenized BLEU" in done.stdout
    typed = done.stdout[done.stdout.index("fairseq-feedback translate -i") :].split("A file:")[0]
    env = {**os.environ, "PYTHONPATH": ROOT}
    typed = typed.replace("fairseq-feedback", f"{sys.executable} -m fairseq_feedback", 1)
    said = subprocess.run(["bash", "-c", typed], input="a dog .\n", capture_output=True, text=True, cwd=ROOT, env=env)
    assert said.returncode == 0 and len(said.stdout.splitlines()) == 1, said.stderr
    assert recipe.script("small.sh", *flags).stdout.endswith(done.stdout[-300:])


def run_of(recipe, kind):
    return os.path.join(recipe.folder, kind)


def evaluate(recipe, kind, *more, check=True):
    flags = ["--data", recipe.path("bin"), "--run", run_of(recipe, kind)]
    flags += ["--workers", 1] if recipe.name in PAIRS else []
    return recipe.script("eval.sh", *flags, *more, check=check)


def results(recipe, kind):
    with open(os.path.join(run_of(recipe, kind), "eval", "results.json")) as f:
        return json.load(f)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "iwslt14_de_en")) for n in PAIRS])
def test_pairs_from_archives_to_a_score(prepared, name):
    recipe = prepared(name)
    done = train(recipe, "feedback", updates=4 if name == "multi30k_en_de" else 2)  # of which one epoch has two
    assert "one update: " in done.stderr and re.search(r"--arch feedback_transformer\w* ", done.stdout)
    checkpoints = os.listdir(os.path.join(run_of(recipe, "feedback"), "checkpoints"))
    assert {"checkpoint1.pt", "checkpoint2.pt"} <= set(checkpoints)
    more = {"wmt14_en_de": ["--lenpen", "0.5 1.5"], "cnn_dm": ["--lenpen", "1", "--min-len", "3 5"]}.get(name, [])
    done = evaluate(recipe, "feedback", "--average", 2, *more, "--", "--max-len-b", 8)
    found = results(recipe, "feedback")
    row = found["rows"][-1]
    assert row["system"] == "feedback" and found["checkpoint"].endswith("averaged-2.pt")
    assert (
        "| system | " in done.stdout
        and "| feedback, paper |" in done.stdout
        or name in ("wmt14_en_de", "multi30k_en_de")
    )
    if name == "cnn_dm":
        assert {"ROUGE-1", "ROUGE-2", "ROUGE-Lsum"} < set(row) and any("stemmer on" in s for s in found["settings"])
        assert "--no-repeat-ngram-size 3" in done.stderr and "best: --lenpen 1 --min-len" in done.stdout
    else:
        assert 0 <= float(row["sacrebleu"]) < 100 and any("|tok:13a|" in s for s in found["settings"])
        assert ("tokenized BLEU, compounds split" in row) == (name == "wmt14_en_de")
        assert ("case:lc" in " ".join(found["settings"])) == (name in ("iwslt14_de_en", "multi30k_en_de"))
    if name == "wmt14_en_de":
        the_best_was_taken(recipe)


def the_best_was_taken(recipe):
    with open(os.path.join(run_of(recipe, "feedback"), "eval", "valid", "best.json")) as f:
        best = json.load(f)
    assert [row["lenpen"] for row in best["tried"]] == [0.5, 1.5]
    assert best["score"] == max(row["score"] for row in best["tried"])


@pytest.mark.slow
def test_what_was_generated_is_not_made_twice(prepared):
    recipe = prepared("wmt14_en_de")
    train(recipe, "feedback")
    evaluate(recipe, "feedback", "--average", 2, "--lenpen", "0.5 1.5", "--", "--max-len-b", 8)
    done = evaluate(recipe, "feedback", "--average", 2, "--lenpen", "0.5 1.5 1.0", "--", "--max-len-b", 8)
    assert len(generations(done, "valid")) == 1 and "--lenpen 1.0" in generations(done, "valid")[0]
    done = evaluate(recipe, "feedback", "--average", 0, "--lenpen", "1.0", "--", "--max-len-b", 8)
    # Another checkpoint begins again.
    assert "beginning again" in done.stdout and len(generations(done, "test")) == 1
    assert results(recipe, "feedback")["checkpoint"].endswith("checkpoint_best.pt")


def generations(done, subset):
    """The commands that tune_lenpen.py ran."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("$ fairseq-generate ")]
    return [line for line in lines if f"--gen-subset {subset} " in line]


@pytest.mark.slow
def test_the_transformer(prepared):
    recipe = prepared("iwslt14_de_en")
    done = train(recipe, "transformer", updates=1)
    assert "--arch transformer_iwslt_de_en" in done.stdout
    evaluate(recipe, "transformer", "--", "--max-len-b", 8)
    assert results(recipe, "transformer")["rows"][-1]["system"] == "transformer"


def test_a_run_goes_on_and_another_kind_does_not(prepared):
    recipe = prepared("iwslt14_de_en")
    train(recipe, "feedback")
    train(recipe, "feedback", updates=3)
    with open(os.path.join(run_of(recipe, "feedback"), "train.log")) as f:
        assert "Loaded checkpoint" in f.read()
    assert "train: done before" in train(recipe, "feedback", updates=3).stderr
    out = run_of(recipe, "feedback")
    done = recipe.script("train.sh", "--data", recipe.path("bin"), "--out", out, "--arch", "transformer", check=False)
    assert done.returncode == 1 and f"--out {out} has a run of feedback: give another folder" in done.stderr


LANGUAGE_MODELS = [
    pytest.param(name, kind, marks=[pytest.mark.slow] * ((name, kind) != ("char_ptb", "feedback")))
    for name in ("wikitext103", "enwik8", "char_ptb")
    for kind in ("feedback", "transformer", "fairseq-transformer")
]


@pytest.mark.parametrize("name, kind", LANGUAGE_MODELS)
def test_language_models_from_archives_to_a_score(prepared, name, kind):
    recipe = prepared(name)
    train(recipe, kind)
    assert os.path.exists(os.path.join(run_of(recipe, kind), "finetuned")) == (name == "char_ptb")
    with open(os.path.join(run_of(recipe, kind), "train.log")) as f:
        assert f.read().count(" | valid | ") == 1  # at the end; char_ptb had two epochs
    done = evaluate(recipe, kind, *(["--streams", 64] if name == "enwik8" else []))
    found = results(recipe, kind)
    row = found["rows"][-1]
    column = {"wikitext103": "perplexity", "enwik8": "bits per byte", "char_ptb": "bits per character"}[name]
    assert float(row["test " + column]) > 1 and float(row["valid " + column]) > 1
    assert found["settings"][0].startswith("context: ") and found["settings"][0] in done.stdout
    if kind == "feedback":
        streams = "64 streams" if name == "enwik8" else "1 stream"
        assert found["settings"][0].endswith(f"the test text read as {streams}")
    folder = "finetuned" if name == "char_ptb" else "checkpoints"
    assert found["checkpoint"].endswith(f"{folder}/checkpoint_best.pt")


@pytest.mark.parametrize("name", STAGES)
def test_dry_run(name):
    """No GPU, no data and no environment are needed; the number of units in an update stays the same."""
    recipe = Recipe.__new__(Recipe)
    recipe.name, recipe.python = name, "/nowhere"
    sizes = set()
    for gpus, nodes in ((1, 1), (2, 1), (4, 2), (8, 8)):
        flags = ["--dry-run", "--gpus", gpus, "--nodes", nodes, "--node-rank", nodes - 1, "--master", "first:29500"]
        done = recipe.script("train.sh", *flags, "--fp16")
        size = re.search(r"one update: (\d+) (tokens|streams) = (\d+) GPUs × (\d+) × --update-freq (\d+)", done.stderr)
        workers, batch, frequency = map(int, size.groups()[2:])
        assert workers == gpus * nodes and int(size[1]) == workers * batch * frequency
        sizes.add(int(size[1]))
        command = done.stdout.splitlines()[0]
        assert f"--update-freq {frequency} --distributed-world-size {workers}" in command and "--fp16" in command
        if nodes > 1:
            start = f"torchrun --nnodes {nodes} --node-rank {nodes - 1} --nproc-per-node {gpus} --master-addr first "
            assert command.startswith(start + "--master-port 29500 fairseq-train ")
    assert len(sizes) == 1


@pytest.mark.parametrize(
    "script, flags, complaint",
    [
        ("train.sh", ["--arch", "lstm"], "error: --arch lstm: give feedback or transformer"),
        (
            "train.sh",
            ["--data", "/nowhere"],
            "error: --data /nowhere is missing: run bash examples/iwslt14_de_en/prepare.sh",
        ),
        ("train.sh", ["--nodes", 2], "error: --nodes 2 needs --master HOST:PORT"),
        (
            "train.sh",
            ["--nodes", 2, "--master", "first:1", "--gpus", 0],
            "error: --nodes 2: several machines train on GPUs",
        ),
        ("train.sh", ["--finetune-update", 2], "error: unknown option --finetune-update."),
        (
            "eval.sh",
            ["--run", "/nowhere"],
            "error: --run /nowhere is missing: run bash examples/iwslt14_de_en/train.sh",
        ),
        ("eval.sh", ["--beam"], "error: unknown option --beam."),
    ],
)
def test_wrong_options(prepared, script, flags, complaint):
    recipe = prepared("iwslt14_de_en")
    if flags[0] != "--data":
        flags = ["--data", recipe.path("bin"), *flags]
    done = recipe.script(script, "--gpus" if script == "train.sh" else "--workers", 1, *flags, check=False)
    assert done.returncode == 1 and done.stderr.startswith(complaint), done.stderr


def test_progress():
    """Of what fairseq-train logs, losses and speed."""
    log = """2026-01-01 | INFO | fairseq_cli.train | max tokens per device = 2500
2026-01-01 | INFO | train_inner | epoch 002:     53 / 147 loss=5.4, wps=8165.2, ups=3.6, num_updates=200, lr=0.004
2026-01-01 | INFO | valid | epoch 002 | valid on 'valid' subset | loss 3.25 | ppl 9.5 | num_updates 250
2026-01-01 | INFO | train | epoch 002 | loss 4.1 | ppl 17.1 | wps 8000 | num_updates 294
"""
    script = os.path.join(ROOT, "examples", "progress.py")
    env = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, script, "small", "1000"], input=log, capture_output=True, text=True, env=env)
    assert done.stdout.splitlines() == [
        "  small  update 200 of 1000  epoch 2  loss 5.4  8,165 words/s",
        "  small  validation loss 3.25",
    ]


def test_eval_without_a_checkpoint_is_an_error(prepared, tmp_path):
    recipe = prepared("iwslt14_de_en")
    done = recipe.script("eval.sh", "--data", recipe.path("bin"), "--run", tmp_path, check=False)
    assert done.returncode == 1 and "checkpoint_best.pt is missing" in done.stderr
