"""fairseq-feedback inspect."""

import os
import re
import struct
from types import SimpleNamespace

import cli
import pytest
import torch
from trained import is_idle

from fairseq_feedback.tools import attention_picture, command
from fairseq_feedback.tools import checkpoint_facts as facts


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data and a checkpoint of a translation model, a language model and fairseq's transformer."""
    folder = tmp_path_factory.mktemp("inspect")
    data, text = cli.make_data(folder), cli.make_text(folder)
    tied = ["--share-decoder-input-output-embed", "--validate-interval", 10]
    spans = ["--adaptive-span", "--adaptive-span-ramp", 2, "--adaptive-span-start", 3, "--unshared-memory-kv"]
    trainings = {
        "mt": cli.train_flags(data, folder / "mt", *tied, updates=28),
        "lm": cli.train_lm_flags(text, folder / "lm", *spans, updates=3),
        "transformer": cli.train_flags(data, folder / "transformer", arch="transformer", updates=3),
    }
    printed = {name: cli.run("train", *flags, log=folder / "log").stdout for name, flags in trainings.items()}
    paths = {name: folder / name / "checkpoint_last.pt" for name in trainings}
    return SimpleNamespace(folder=folder, data=data, text=text, printed=printed, **paths)


def inspect(capsys, *args):
    command.main(["inspect", *args])
    return capsys.readouterr().out


def stopped(*args):
    with pytest.raises(SystemExit) as stop:
        command.main(["inspect", *args])
    return stop.value.code


def trained_parameters(made, name):
    """As fairseq-train counts them, but for the second copies of fairseq 0.12.2."""
    counted = int(re.search(r"num\. shared model params: ([\d,]+)", made.printed[name]).group(1).replace(",", ""))
    weights = cli.load(getattr(made, name))["model"]
    return counted - sum(weights[key].numel() for key in weights if is_idle(key) and not key.endswith("_float_tensor"))


def is_png(path):
    with open(path, "rb") as f:
        head = f.read(24)
    return head[:8] == b"\x89PNG\r\n\x1a\n" and all(side > 150 for side in struct.unpack(">II", head[16:]))


@pytest.mark.core
@pytest.mark.parametrize("name", ["mt", "lm", "transformer"])
def test_parameters_are_counted_as_fairseq_does(made, name):
    counts, shared = facts.parts(cli.load(getattr(made, name))["model"])
    assert sum(counts.values()) == trained_parameters(made, name)
    assert ("memory" in counts) == (name != "transformer")
    tied = {"decoder.output_projection.weight": "decoder.embed_tokens.weight"}
    assert shared == (tied if name == "mt" else {})


@pytest.mark.core
def test_a_copy_counts_as_shared(made):
    weights = {name: weight.clone() for name, weight in cli.load(made.mt)["model"].items()}
    assert sum(facts.parts(weights)[0].values()) == trained_parameters(made, "mt")


@pytest.mark.core
def test_parts_of_unshared_memory(made):
    counts, _ = facts.parts(cli.load(made.lm)["model"])
    # Of 2 layers: keys and values of width 16, and a norm; the mix, the positions of 2 heads, and the spans.
    assert counts["memory"] == 2 * (2 * (16 * 16 + 16) + 2 * 16) + 3 + 6 * 8 + 4


@pytest.mark.core
def test_translation_model(made, capsys):
    lines = inspect(capsys, made.mt).splitlines()
    size = os.path.getsize(made.mt) / 1e6
    assert lines[0] == f"checkpoint    {made.mt}, {size:,.1f} MB, float32, with the optimizer's state"
    assert lines[1:4] == [
        "architecture  feedback_transformer_tiny",
        "task          translation",
        "vocabulary    24 source, 24 target",
    ]
    assert re.fullmatch(r"training      28 updates, in epoch 6, loss [\d.]+ \(the best\)", lines[4])
    assert lines[6:11] == [
        "options, where the architecture has others",
        "  --encoder-embed-dim                 16  (64)",
        "  --encoder-ffn-embed-dim             24  (64)",
        "  --encoder-layers                    1  (2)",
        "  --share-decoder-input-output-embed",
    ]
    assert "decoder.output_projection.weight is decoder.embed_tokens.weight" in lines
    assert f"| all | {trained_parameters(made, 'mt'):,} |  |" in lines
    shares = [float(re.match(r"  (?:embedding|layer \d) +([\d.]+)  █+$", line).group(1)) for line in lines[-3:]]
    assert lines[-4] == "mix of layers in the memory" and sum(shares) == pytest.approx(1, abs=2e-3)


@pytest.mark.core
def test_language_model(made, capsys):
    text = inspect(capsys, made.lm)
    assert "architecture  feedback_transformer_lm\n" in text and "vocabulary    24\n" in text
    options = text.split("\n\n")[1].splitlines()[1:]
    assert [line.split()[0] for line in options] == [
        *("--decoder-embed-dim", "--decoder-ffn-embed-dim", "--decoder-layers", "--decoder-attention-heads"),
        *("--memory-span", "--adaptive-span", "--adaptive-span-ramp", "--adaptive-span-start", "--unshared-memory-kv"),
    ]
    spans = facts.spans(cli.load(made.lm)["model"])
    assert torch.tensor(spans).shape == (2, 2) and all(2 < span < 4 for layer in spans for span in layer)
    low, mean, high = (float(x) for x in text.splitlines()[-1].split(" ", 4)[-1].split(", "))
    assert low <= mean <= high and high == pytest.approx(max(spans[1]), abs=0.06)


@pytest.mark.core
def test_another_model_of_fairseq(made, capsys):
    text = inspect(capsys, made.transformer)
    assert "architecture  transformer\n" in text and "mix of layers" not in text
    options = [line.split()[0] for line in text.split("\n\n")[1].splitlines()[1:]]
    assert "--encoder-embed-dim" in options and "--decoder-embed-dim" not in options  # which follows it


@pytest.mark.core
def test_a_model_that_is_not_known_here(tmp_path, capsys):
    cfg = {"model": {"_name": "theirs", "width": 3}, "task": {"_name": "their_task"}}
    weights = {"body.weight": torch.zeros(2, 3, dtype=torch.float16), "body.version": torch.zeros(1)}
    state = {
        **{"cfg": cfg, "args": None, "model": weights, "last_optimizer_state": None},
        "extra_state": {"train_iterator": {"epoch": 1}},
        "optimizer_history": [dict(num_updates=1, criterion_name="", optimizer_name="", lr_scheduler_state={})],
    }
    torch.save(state, tmp_path / "a.pt")
    text = inspect(capsys, tmp_path / "a.pt")
    assert "float16, without the optimizer's state" in text and "| other | 6 | 100.0% |" in text
    assert "its architecture is not known here, so its options are not compared" in text


def test_pictures_of_mix_and_spans(made, tmp_path, capsys):
    for name in ("mt", "lm"):
        assert inspect(capsys, getattr(made, name), "--plot", tmp_path / "a.png").endswith(f"\n\n{tmp_path}/a.png\n")
        assert is_png(tmp_path / "a.png")


def test_picture_of_a_sentence(made, tmp_path, capsys):
    """An unknown word is fine. The model's own translation is that of fairseq-generate's search."""
    given = [made.mt, "--data", made.data, "--plot", tmp_path / "a.png", "--text", "ba unknown go"]
    lines = inspect(capsys, *given, "--target", "BA GO").splitlines()
    assert lines[-4:-2] == ["source  ba unknown go </s>", "target  BA GO </s>  (as given)"]
    assert is_png(tmp_path / "a.png")
    lines = inspect(capsys, *given).splitlines()
    assert re.fullmatch(r"target  .*</s>  \(the model's own, beam 5\)", lines[-3])


def test_picture_of_a_text(made, tmp_path, capsys):
    args = [made.lm, "--data", made.text, "--plot", tmp_path / "a.png", "--text", "ba bi"]
    assert inspect(capsys, *args).splitlines()[-3] == "text    ba bi"
    assert is_png(tmp_path / "a.png")


def test_what_is_drawn_of_a_sentence(made):
    options = dict(source_lang=None, target_lang=None, bpe="characters", tokenizer=None, checkpoint=str(made.mt))
    args = SimpleNamespace(data=made.data, text="ba", target="B A GO", **options)
    reading = attention_picture.read(args, {"source_lang": None, "target_lang": None})
    assert reading.source == ["b", "a", "</s>"]
    assert reading.words == ["B", "▁", "A", "▁", "G", "O", "</s>"]
    assert reading.zero_slots == 1 and reading.memory.shape == (2, 2, 7, 8) and reading.cross.shape == (2, 7, 3)
    assert reading.memory.sum(axis=3) == pytest.approx(1, abs=1e-5) and reading.cross.sum(axis=2) == pytest.approx(1)
    for step in range(7):
        assert (reading.memory[:, :, step, : step + 1] > 0).all() and not reading.memory[:, :, step, step + 1 :].any()


def test_zero_slots_of_a_text_are_one_column(made):
    options = dict(source_lang=None, target_lang=None, bpe=None, tokenizer=None, checkpoint=str(made.lm))
    args = SimpleNamespace(data=made.text, text="ba bi bu", target=None, **options)
    reading = attention_picture.read(args, {})
    assert reading.words == ["ba", "bi", "bu"] and reading.source is reading.cross is None
    assert reading.zero_slots == 6 and reading.memory.shape == (2, 2, 3, 4)
    assert reading.memory.sum(axis=3) == pytest.approx(1, abs=1e-5)


SENTENCE = ["--plot", "a.png", "--text", "ba"]


@pytest.mark.core
@pytest.mark.parametrize(
    "args, message",
    [
        (["missing.pt"], "missing.pt is missing: give the file of a checkpoint"),
        (["mt", "--plot", "a.gif"], "--plot a.gif: give a name that ends in .png, .svg or .pdf"),
        (["mt", "--text", "ba", "--plot", "a.png"], "--text needs --data"),
        (["mt", "--text", "ba", "--data", "data"], "--text needs --plot"),
        (["mt", "--target", "ba"], "--target needs --text, the sentence to look at"),
        (["mt", *SENTENCE, "--data", "no"], "--data no is missing: give the folder that fairseq-preprocess made"),
        (["mt", *SENTENCE, "--data", "text"], "--data text does not tell the languages: give --source-lang and"),
        (["mt", *SENTENCE, "--data", "data", "--bpe", "x"], "--bpe x: give one of "),
        (["mt", *SENTENCE, "--data", "data", "--bpe", "subword_nmt"], "--bpe-codes and --bpe subword_nmt or fastbpe"),
        (["mt", "--plot", "a.png", "--text", " ", "--data", "data"], "--text is empty: give a sentence"),
        (["lm", *SENTENCE, "--data", "text", "--target", "ba"], "--target is for models that translate: leave it out"),
        (["transformer", "--plot", "a.png"], "transformer is a model without feedback memory: leave --plot and --text"),
    ],
)
def test_mistakes(made, monkeypatch, args, message):
    pytest.importorskip("matplotlib")  # the environment of fairseq 0.12.2 has none
    monkeypatch.chdir(made.folder)
    path = getattr(made, args[0], args[0])
    said = stopped(path, *args[1:])
    assert said.replace(str(path), args[0]).startswith(f"error: {message}")


@pytest.mark.core
def test_a_damaged_checkpoint(made, tmp_path):
    content = made.mt.read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    message = stopped(tmp_path / "cut.pt")
    assert message.startswith(f"error: checkpoint {tmp_path}/cut.pt is damaged, its table of contents")


@pytest.mark.core
def test_layers_that_have_a_memory_each(tmp_path):
    """No one mix to draw; and where a step sees itself, no slot stands before the first."""
    assert facts.mix({facts.MIX: torch.zeros(2, 3)}) is None
    assert facts.has_memory({}, {"memory_composition": "own"}) and not facts.has_memory({}, {})
    pytest.importorskip("matplotlib")  # the environment of fairseq 0.12.2 has none
    words = ["ba", "bi", "</s>"]
    reading = attention_picture.Reading(words, None, torch.eye(4)[1:].expand(2, 2, 3, 4).numpy(), None, 0)
    attention_picture._draw(tmp_path / "own.png", reading)
    assert is_png(tmp_path / "own.png")
