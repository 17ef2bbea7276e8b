"""fairseq-feedback import: a model of theirs and its import compute the same."""

import argparse
import math
import re

import cli
import pytest
import torch
import torch.nn.functional as F
from fairseq import checkpoint_utils

import fairseq_feedback  # noqa: F401  registers the model and the task
from fairseq_feedback.data.carried_memory import CarriedMemory
from fairseq_feedback.tools import command

SYMBOLS = "e <unk> a <eos> c d b".split()
LAYERS, WIDTH, HEADS, HEAD_DIM, FFN = 3, 10, 2, 3, 7
RAMP = 8
SPANS = [f"layers.{i}.attn.attn.adaptive_span" for i in range(LAYERS)]

pytestmark = pytest.mark.core


def random_weights(shared, span, adaptive, pre_norm=True, seed=0):
    """Names and shapes of their weights."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape, std=0.5, mean=0.0):
        return mean + std * torch.randn(*shape, generator=g)

    weights = {"in_emb.weight": normal(len(SYMBOLS), WIDTH), "out.out_emb.weight": normal(len(SYMBOLS), WIDTH)}
    weights["out.out_emb.bias"] = normal(len(SYMBOLS))
    weights["single_memory_attn_params"] = normal(1, LAYERS + 1)
    weights["single_memory_attn_buf"] = torch.zeros(1, LAYERS + 1)
    norms = ["out_norm"] if pre_norm else []
    positions = normal(1, HEAD_DIM, span)
    for i in range(LAYERS):
        name = f"layers.{i}."
        weights[name + "attn.attn.key_pe"] = positions
        if adaptive:
            ratios = torch.rand(HEADS, 1, 1, generator=g) * (0.4 if i > 0 else 0.0)
            weights[SPANS[i] + ".mask.size_ratio"] = ratios
            weights[SPANS[i] + ".mask.mask_template"] = torch.arange(1.0 - span, 1.0)
        for part in ("query", "key", "val"):
            weights[f"{name}attn.proj_{part}.weight"] = normal(HEADS * HEAD_DIM, WIDTH)
        weights[name + "attn.proj_out.weight"] = normal(WIDTH, HEADS * HEAD_DIM)
        weights.update({name + "ff.fc1.weight": normal(FFN, WIDTH), name + "ff.fc1.bias": normal(FFN)})
        weights.update({name + "ff.fc2.weight": normal(WIDTH, FFN), name + "ff.fc2.bias": normal(WIDTH)})
        norms += [name + "norm1", name + "norm2"]
    for norm in norms:
        weights.update({norm + ".weight": normal(WIDTH, mean=1.0), norm + ".bias": normal(WIDTH)})
    for i in range(LAYERS if shared else 0):
        for part in ["attn.proj_key.weight", "attn.proj_val.weight", *(["norm1.weight", "norm1.bias"] * pre_norm)]:
            weights[f"layers.{i}.{part}"] = weights[f"layers.0.{part}"]
    return weights


def oracle(weights, tokens, memory=None):
    """The equations of the paper for one text of their numbers -> log-probabilities (T, V), memory (span, C)."""
    w = {name: weight.double() for name, weight in weights.items()}
    positions = w["layers.0.attn.attn.key_pe"][0]  # (D, span), the oldest slot first
    span = positions.size(1)
    memory = torch.zeros(span, WIDTH, dtype=torch.float64) if memory is None else memory
    distance = torch.arange(span - 1, -1, -1)  # 0: the step before

    def norm(x, name, here=True):
        return F.layer_norm(x, (WIDTH,), w[name + ".weight"], w[name + ".bias"]) if here else x

    pre_norm = "out_norm.weight" in w
    found = []
    for token in tokens:
        states = [w["in_emb.weight"][token]]
        for i in range(LAYERS):
            name, x = f"layers.{i}.", states[-1]
            query = (w[name + "attn.proj_query.weight"] @ norm(x, name + "norm1", pre_norm)).view(HEADS, HEAD_DIM)
            slots = norm(memory, name + "norm1", pre_norm)
            keys = (slots @ w[name + "attn.proj_key.weight"].t()).view(span, HEADS, HEAD_DIM)
            values = (slots @ w[name + "attn.proj_val.weight"].t()).view(span, HEADS, HEAD_DIM)
            scores = torch.einsum("hd,jhd->hj", query, keys) + query @ positions
            attention = torch.softmax(scores / math.sqrt(HEAD_DIM), dim=-1)
            ratio = w.get(SPANS[i] + ".mask.size_ratio")
            if ratio is not None:
                seen = ((ratio.view(-1, 1) * span - distance) / RAMP + 1).clamp(0, 1)
                attention = attention * seen / (attention * seen).sum(-1, keepdim=True)
            z = torch.einsum("hj,jhd->hd", attention, values).reshape(-1)
            x = norm(x + w[name + "attn.proj_out.weight"] @ z, name + "norm1", not pre_norm)
            inner = w[name + "ff.fc1.weight"] @ norm(x, name + "norm2", pre_norm) + w[name + "ff.fc1.bias"]
            x = x + w[name + "ff.fc2.weight"] @ inner.relu() + w[name + "ff.fc2.bias"]
            states.append(norm(x, name + "norm2", not pre_norm))
        mixed = torch.softmax(w["single_memory_attn_params"][0], dim=0) @ torch.stack(states)
        memory = torch.cat([memory[1:], mixed[None]])
        scores = w["out.out_emb.weight"] @ norm(states[-1], "out_norm", pre_norm) + w["out.out_emb.bias"]
        found.append(torch.log_softmax(scores, dim=0))
    return torch.stack(found), memory


@pytest.fixture
def bring_over(tmp_path):
    """Write a checkpoint and a vocabulary of theirs, and import it; None, or what it exits with."""

    def run(weights, *options, args=None, symbols=SYMBOLS, prefix="module."):
        state = {"epoch": 3, "model": {prefix + name: w for name, w in weights.items()}}
        state.update(logger={"loss": {"data": [1.5], "type": "line"}}, optimizer={"state": {}}, scheduler_epoch=7)
        torch.save({**state, "args": args} if args is not None else state, tmp_path / "theirs.pt")
        (tmp_path / "symbols.txt").write_text("".join(s + "\n" for s in symbols), encoding="utf-8")
        return again(*options)

    def again(*options):
        flags = [*("--checkpoint", tmp_path / "theirs.pt", "--vocabulary", tmp_path / "symbols.txt")]
        flags += [*("--dict", tmp_path / "new" / "dict.txt", "--output", tmp_path / "new" / "ours.pt"), *options]
        try:
            command.main(["import", *flags])
        except SystemExit as stop:
            assert not (tmp_path / "new").exists()
            return stop.code
        return None

    run.again = again
    return run


def imported(tmp_path):
    """The model, and for each of their symbols its number in our dictionary."""
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(tmp_path / "new" / "ours.pt")])
    rows = [task.dictionary.eos() if s == "<eos>" else task.dictionary.index(s) for s in SYMBOLS]
    assert len(set(rows)) == len(SYMBOLS) and len(task.dictionary) == len(SYMBOLS) + 2  # and <s>, <pad>
    return models[0].eval(), torch.tensor(rows)


SAVED = dict(feedback=True, pre_norm=True, adapt_span_len=float(RAMP), head_dim=0, hid_sz=WIDTH, share_proj_kv=False)


LENGTHS = {"fixed": (5, False), "adaptive": (16, True), "trimmed": (70, True)}


@pytest.mark.parametrize("args", [None, argparse.Namespace(**SAVED)], ids=["flags", "args"])
@pytest.mark.parametrize(
    "span, adaptive, shared, pre_norm",
    [
        pytest.param(*LENGTHS[span], shared, pre_norm, id=f"{span}-{shared}-{pre_norm}",
                     marks=[pytest.mark.slow] * (not shared and span == "trimmed" or not pre_norm and span == "fixed"))
        for span in LENGTHS for shared in (True, False) for pre_norm in (True, False)
    ],
)  # fmt: skip
def test_log_probabilities(bring_over, tmp_path, capsys, pre_norm, shared, span, adaptive, args):
    weights = random_weights(shared, span, adaptive, pre_norm)
    flags = ["--adaptive-span-ramp", RAMP] if adaptive and args is None else []
    args = args and argparse.Namespace(**{**vars(args), "pre_norm": pre_norm})
    assert bring_over(weights, *flags, args=args, prefix="module." if args is None else "") is None
    said = capsys.readouterr().out
    assert ("norms the memory of the block before twice" in said) == pre_norm
    assert ("--decoder-post-norm" in said) != pre_norm
    model, rows = imported(tmp_path)
    assert (model.decoder.memory.k_proj is not None) == shared
    theirs = torch.randint(len(SYMBOLS), (2, 12), generator=torch.Generator().manual_seed(1))
    expected = torch.stack([oracle(weights, text)[0] for text in theirs])
    if adaptive:  # spans end inside the text, and with 70 slots the oldest six are never read
        assert model.decoder.reach() == min(span, 64)

    def log_probabilities(tokens, **more):
        scores, _ = model(rows[tokens], **more)
        return scores.detach().double().log_softmax(dim=-1)[..., rows]

    torch.testing.assert_close(log_probabilities(theirs), expected, atol=1e-5, rtol=0)
    model.double()
    tolerance = dict(atol=1e-6 if adaptive else 1e-10, rtol=0)  # spans are computed in float32
    torch.testing.assert_close(log_probabilities(theirs), expected, **tolerance)
    carried = CarriedMemory()
    blocks = [log_probabilities(block, carried=carried) for block in theirs.split([7, 5], dim=1)]
    torch.testing.assert_close(torch.cat(blocks, dim=1), expected, **tolerance)


def test_one_span_for_all_heads_and_other_end_of_line(bring_over, tmp_path):
    weights = random_weights(False, 16, True)
    for i in range(LAYERS):
        weights[SPANS[i] + ".mask.size_ratio"] = torch.tensor([0.1 * i])
    symbols = [{"<eos>": "e", "e": "<eos>"}.get(s, s) for s in SYMBOLS]
    assert bring_over(weights, "--eos", "e", "--dropout", 0.4, "--adaptive-span-ramp", 8, symbols=symbols) is None
    state = torch.load(tmp_path / "new" / "ours.pt", weights_only=True)
    ratios = state["model"]["decoder.memory.adaptive_span.ratios"]
    torch.testing.assert_close(ratios, torch.tensor([[0.0] * HEADS, [0.1] * HEADS, [0.2] * HEADS]))
    assert state["cfg"]["model"]["attention_dropout"] == state["cfg"]["model"]["activation_dropout"] == 0.4
    dictionary = (tmp_path / "new" / "dict.txt").read_text().split("\n")
    assert [line.split(" ")[0] for line in dictionary] == ["<eos>", "a", "c", "d", "b", ""]
    bias = state["model"]["decoder.output_bias"]
    assert bias[[0, 1]].tolist() == [-1e4, -1e4] and bias[2] == weights["out.out_emb.bias"][3]


def test_eval_lm_reports_the_loss_of_their_model(bring_over, tmp_path):
    weights = random_weights(True, 5, False)
    assert bring_over(weights) is None
    lines = ["a b c d e", "e e b", "d a c b a a"]
    (tmp_path / "test.txt").write_text("".join(line + "\n" for line in lines))
    flags = ["--only-source", "--srcdict", tmp_path / "new" / "dict.txt", "--testpref", tmp_path / "test.txt"]
    cli.run("preprocess", *flags, "--destdir", tmp_path / "data", "--workers", 1, log=tmp_path / "log")
    flags = ["--user-dir", cli.PACKAGE, "--path", tmp_path / "new" / "ours.pt", "--batch-size", 1, "--cpu"]
    flags += ["--task", "feedback_lm", "--tokens-per-sample", 4, "--num-workers", 0]
    done = cli.run("eval_lm", tmp_path / "data", *flags, log=tmp_path / "log")
    text = torch.tensor([SYMBOLS.index(s) for line in ["", *lines] for s in [*line.split(), "<eos>"]])
    lprobs = oracle(weights, text[:-1])[0].gather(1, text[1:, None])
    loss = float(re.search(r"Loss \(base 2\): ([\d.]+)", done.stdout + done.stderr).group(1))
    assert loss == pytest.approx(-lprobs.mean().item() / math.log(2), abs=1e-4)


def without(*names):
    return lambda w: [w.pop(name) for name in list(w) if name.startswith(names)]


def replaced(name, *shape):
    return lambda w: w.update({name: torch.ones(*shape)})


@pytest.mark.parametrize(
    "change, options, sentence",
    [
        (without("out_norm"), dict(args={"pre_norm": True}), "--pre-norm is True in its args, False in its weights"),
        (without("out_norm.bias"), {}, "out_norm.bias is missing"),
        (without("single_memory"), {}, "theirs.pt is not of a feedback model"),
        (without("layers.1.norm2"), {}, "another model: layers.1.norm2.weight is missing"),
        (replaced("layers.2.attn.proj_out.weight", WIDTH, 5), {}, "layers.2.attn.proj_out.weight is (10, 5)"),
        (replaced("layers.1.attn.attn.key_pe", 1, HEAD_DIM, 5), {}, "attn.attn.key_pe is"),
        (replaced("layers.1.attn.proj_query.bias", 6), {}, "no place for layers.1.attn.proj_query.bias"),
        (None, dict(symbols=SYMBOLS[1:]), "symbols.txt has 6 symbols, the checkpoint has 7"),
        (None, dict(symbols=["a b", *SYMBOLS[1:]]), "line 1: the symbol 'a b' is empty or has white space"),
        (None, dict(symbols=["<pad>", *SYMBOLS[1:]]), "line 1: the symbol '<pad>' would be padding"),
        (None, dict(symbols=["</s>", *SYMBOLS[1:]]), "line 4: the symbol '<eos>' is the same as that of line 1"),
        (None, dict(args={"nheads": 5}), "contradicts itself: --nheads is 5 in its args, 2 in its weights"),
        (None, dict(args={"share_proj_kv": True}), "--share-proj-kv is True in its args, False in its weights"),
        (None, dict(args=argparse.Namespace(adapt_span_len=7.0)), "--adaptive-span-ramp 8: the checkpoint says 7"),
        (without("layers.0.attn.attn.adapt"), {}, "layers.0.attn.attn.adaptive_span.mask.size_ratio is missing"),
        (None, dict(flags=["--eos", "<nl>"]), "--eos <nl>: --vocabulary"),
        (None, dict(flags=["--dropout", 1]), "--dropout 1.0: give a probability"),
        (None, dict(flags=["--adaptive-span-ramp", 0]), "--adaptive-span-ramp 0: ramps here are whole numbers"),
        (without(*SPANS), {}, "--adaptive-span-ramp: the checkpoint has no adaptive spans"),
        (None, dict(flags=["--dict", "words.txt"]), "--dict words.txt: name the file dict.txt"),
        (None, dict(flags=["--vocabulary", "missing.txt"]), "--vocabulary missing.txt cannot be read"),
        (None, dict(flags=["--checkpoint", "missing.pt"]), "--checkpoint missing.pt is not a file"),
    ],
)
def test_mistakes_are_one_sentence(bring_over, change, options, sentence):
    weights = random_weights(False, 5, True)
    if change is not None:
        change(weights)
    flags = ["--adaptive-span-ramp", 8, *options.get("flags", [])]
    message = bring_over(weights, *flags, **{name: value for name, value in options.items() if name != "flags"})
    assert message.startswith("error: --") and sentence in message and "\n" not in message


def test_damaged_and_unsafe_files_are_named(bring_over, tmp_path):
    path = tmp_path / "theirs.pt"
    assert bring_over(random_weights(True, 5, False), "--eos", "?")  # writes it
    path.write_bytes(path.read_bytes()[:-300])
    assert bring_over.again().startswith(f"error: --checkpoint {path} is damaged")
    path.write_text("not a checkpoint")
    assert f"--checkpoint {path} was not loaded" in bring_over.again()
    torch.save({"model": {}, "args": pytest.approx(1)}, path)
    assert f"--checkpoint {path} was not loaded, and nothing in it was run" in bring_over.again()
    torch.save([1], path)
    assert f"--checkpoint {path} is not a checkpoint of transformer-sequential" in bring_over.again()
