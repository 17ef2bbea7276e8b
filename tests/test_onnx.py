"""The exported graphs beside the model, the example that drives them beside fairseq's search, and the command lines."""

import importlib
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import cli
import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.data_utils import post_process
from fairseq.sequence_generator import SequenceGenerator
from helpers import VARIANTS, make_batch, make_model

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.models import serving
from fairseq_feedback.tools import export, inspect_checkpoint

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TRANSLATE = os.path.join(cli.ROOT, "examples", "onnx", "translate.py")
ATOL = 2e-5
REFUSED = ["no_cross_attention"]
# Which differ from others in numbers or in training only.
SAME_GRAPH = ["no_scale_embedding", "shared_output", "tanh", "one_layer", "checkpoint_activations"]


def load_module(path):
    before = list(sys.path)
    sys.path.insert(0, os.path.dirname(path))
    try:
        return importlib.import_module(os.path.basename(path)[:-3])
    finally:
        sys.path[:] = before


@pytest.fixture(scope="module")
def translate():
    return load_module(TRANSLATE)


class Exported:
    """Both graphs of a model, with a memory that is carried from step to step."""

    def __init__(self, model, folder):
        paths = [str(folder / name) for name in ("encoder.onnx", "decoder_step.onnx")]
        serving.export(model, *paths)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.encoder, self.step = (
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths
        )
        self.inputs = [i.name for i in self.step.get_inputs()]

    def run(self, source, target, candidates=3):
        """Log-probabilities (B, T, V); the slots of the memory after each step."""
        *cross, keys, values = self.encoder.run(None, {"source_tokens": source.numpy()})
        beams = len(target) // len(source)
        memory = [m.repeat(beams, axis=1) for m in (keys, values)]
        found, slots = [], []
        for t in range(target.size(1)):
            inputs = dict(tokens=target[:, t].numpy(), step=np.array(t), candidates=np.array(candidates))
            inputs.update(zip(serving.MEMORY + serving.SOURCE, memory + cross))
            log_probs, best, words, *memory = self.step.run(None, {name: inputs[name] for name in self.inputs})
            assert np.array_equal(best, -np.sort(-log_probs, axis=1)[:, :candidates])
            assert np.array_equal(best, np.take_along_axis(log_probs, words, axis=1))
            found.append(torch.from_numpy(log_probs))
            slots.append(memory[0].shape[3])
        return torch.stack(found, dim=1), slots


def teacher_forcing(model, source, target):
    with torch.no_grad():
        return model.get_normalized_probs(model(source, None, target), log_probs=True)


def random_target(dictionary, rows, steps, seed=2):
    return make_batch(dictionary, rows, target=steps, ragged=False, seed=seed)[2]


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in REFUSED + SAME_GRAPH])
def test_steps_equal_teacher_forcing(variant, dictionary, tmp_path):
    """Sources of several lengths, and beams that share them."""
    model = make_model(dictionary=dictionary, **VARIANTS[variant])
    exported = Exported(model, tmp_path)
    span = VARIANTS[variant].get("memory_span", 0)
    for rows, length, steps, beams in ((1, 2, 5, 1), (4, 11, 7, 3)):
        source, _, _ = make_batch(dictionary, rows, length)
        target = random_target(dictionary, rows * beams, steps)
        found, slots = exported.run(source, target)
        expected = teacher_forcing(model, source.repeat_interleave(beams, dim=0), target)
        torch.testing.assert_close(found, expected, rtol=0, atol=ATOL)
        assert slots == [min(t + 2, span or t + 2) for t in range(steps)]  # the first slot stands before the first step
    assert ("step" in exported.inputs) == (variant != "no_positions")


def test_unshared_memory_has_a_pair_for_each_layer(dictionary, tmp_path):
    for variant, groups in (("plain", 1), ("unshared", 2)):
        exported = Exported(make_model(dictionary=dictionary, **VARIANTS[variant]), tmp_path)
        source = make_batch(dictionary, 3)[0]
        outputs = exported.encoder.run(serving.MEMORY, {"source_tokens": source.numpy()})
        assert [m.shape for m in outputs] == [(groups, 3, 2, 1, 8)] * 2


def test_padding_on_either_side_changes_nothing(dictionary, tmp_path):
    exported = Exported(make_model(dictionary=dictionary), tmp_path)
    right, lengths, _ = make_batch(dictionary, 4, 9)
    left = torch.stack([row.roll(9 - int(length)) for row, length in zip(right, lengths)])
    assert (left[1:, 0] == dictionary.pad()).all()
    target = random_target(dictionary, 4, 6)
    for row, length in enumerate(lengths):
        alone, _ = exported.run(right[row : row + 1, :length], target[row : row + 1])
        for padded in (left, right):
            together, _ = exported.run(padded, target)
            torch.testing.assert_close(together[row], alone[0], rtol=0, atol=ATOL)


def test_weights_of_half_precision_are_exported_as_float32(dictionary, tmp_path):
    model = make_model(dictionary=dictionary).half()
    exported = Exported(model, tmp_path)
    source, target = make_batch(dictionary)[0], random_target(dictionary, 3, 4)
    found, _ = exported.run(source, target)
    torch.testing.assert_close(found, teacher_forcing(model.float(), source, target), rtol=0, atol=ATOL)


def test_a_model_that_does_not_read_the_source_is_refused(dictionary, tmp_path):
    model = make_model(dictionary=dictionary, **VARIANTS["no_cross_attention"])
    with pytest.raises(FeedbackError, match="--no-cross-attention"):
        serving.export(model, str(tmp_path / "encoder"), str(tmp_path / "step"))
    assert os.listdir(str(tmp_path)) == []


# The example that drives the graphs


def make_translator(model, dictionary, folder, translate):
    """A model that does end sentences, exported."""
    with torch.no_grad():
        if model.decoder.adaptive_softmax is None:
            model.decoder.output_projection.weight[dictionary.eos()] *= 5
    languages = SimpleNamespace(source_lang="xx", target_lang="yy")
    task = SimpleNamespace(cfg=languages, source_dictionary=dictionary, target_dictionary=dictionary)
    export.write(model, task, str(folder))
    return translate.Translator(str(folder), threads=1)


def assert_same_search(translator, model, dictionary, beam, lenpen=1.0, min_len=1, max_len_a=0.0, max_len_b=12):
    source, lengths, _ = make_batch(dictionary, rows=6, source=8)
    generator = SequenceGenerator([model], dictionary, beam, max_len_a, max_len_b, min_len=min_len, len_penalty=lenpen)
    expected = generator.generate([model], {"net_input": {"src_tokens": source, "src_lengths": lengths}})
    found = translator.search(source.numpy(), beam, lenpen, min_len, max_len_a, max_len_b)
    assert [[t for _, t in hypotheses] for hypotheses in found] == [
        [h["tokens"].tolist()[:-1] for h in hypotheses] for hypotheses in expected
    ]
    for ours, theirs in zip(found, expected):
        np.testing.assert_allclose([s for s, _ in ours], [float(h["score"]) for h in theirs], atol=1e-4)
    return {len(hypotheses[0][1]) for hypotheses in found}


SEEDS = dict(plain=2, pre_norm=3, unshared=2, span_3=2, learned_positions=5, adaptive_softmax=5)


@pytest.mark.parametrize("variant", SEEDS)
def test_search_is_fairseqs(variant, dictionary, tmp_path, translate):
    model = make_model(dictionary=dictionary, seed=SEEDS[variant], **VARIANTS[variant])
    translator = make_translator(model, dictionary, tmp_path, translate)
    lengths = [assert_same_search(translator, model, dictionary, beam) for beam in (1, 3, 5)]
    if variant != "adaptive_softmax":
        assert max(map(len, lengths)) > 1  # so sentences left the batch at different times


def test_options_of_the_search_are_fairseqs(dictionary, tmp_path, translate):
    model = make_model(dictionary=dictionary, seed=2)
    translator = make_translator(model, dictionary, tmp_path, translate)
    for options in (
        dict(lenpen=0.2),
        dict(lenpen=2.0, beam=2),
        dict(min_len=5),
        dict(max_len_a=0.5, max_len_b=2, beam=4),
        dict(max_len_b=1, beam=2),
        dict(max_len_b=2, min_len=2, beam=1),
        dict(beam=len(dictionary) // 2 - 1),
    ):
        assert_same_search(translator, model, dictionary, **{"beam": 3, **options})


def test_search_ends_with_the_positions(dictionary, tmp_path, translate):
    model = make_model(dictionary=dictionary, max_target_positions=6, decoder_learned_pos=True)
    translator = make_translator(model, dictionary, tmp_path, translate)
    assert_same_search(translator, model, dictionary, beam=2, max_len_b=200)


def test_text_in_any_batch(dictionary, tmp_path, translate):
    model = make_model(dictionary=dictionary, seed=2, max_source_positions=20)
    translator = make_translator(model, dictionary, tmp_path, translate)
    lines = ["w1 w2 w3", "", "w4", "w5  not-a-word w6 \t w7 w8", "w9 w1"]
    options = dict(beam=2, max_len_b=8)
    expected = [translator.translate([line], **options)[0] for line in lines]
    assert translator.translate(lines, **options) == expected == translator.translate(lines, batch_size=2, **options)
    assert len(set(expected)) > 1
    with pytest.raises(ValueError, match="line 2 has 20 words, the model reads at most 19"):
        translator.translate(["w1", "w1 " * 20])


# The command lines


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, data-lm and checkpoints of a feedback transformer, transformer_align and a language model."""
    folder = tmp_path_factory.mktemp("onnx")
    data, text = cli.make_data(folder), cli.make_text(folder)
    ours = cli.train_flags(data, folder / "ours", "--checkpoint-activations", updates=60)
    theirs = cli.train_flags(data, folder / "theirs", updates=1, arch="transformer_align")
    language_model = cli.train_lm_flags(text, folder / "lm", updates=1)
    started = [cli.start("train", *options, log=folder / "log") for options in (ours, theirs, language_model)]
    for training in started:
        training.wait()
    return folder


def python(*args, stdin="", **env):
    return subprocess.run(
        [sys.executable, *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
    )


def checkpoint(trained, name="ours"):
    return trained / name / "checkpoint_last.pt"


def flags(trained, output, name="ours", data="data"):
    return ["--path", checkpoint(trained, name), "--data", trained / data, "--output", output]


def test_from_the_checkpoint_to_translations(trained, tmp_path):
    output = tmp_path / "new" / "exported"
    done = python("-m", "fairseq_feedback", "export", *flags(trained, output))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    files = ["config.json", "decoder_step.onnx", "dict.xx.txt", "dict.yy.txt", "encoder.onnx"]
    assert sorted(os.listdir(str(output))) == files and os.listdir(str(output.parent)) == ["exported"]
    for name in files:
        assert f"written: {output / name}, {os.path.getsize(str(output / name)):,} bytes" in done.stdout
    assert done.stdout.count("log-probabilities differ by at most") == 4
    command = f"translate: python examples/onnx/translate.py {output} --beam 5 < SENTENCES"
    assert cli.last_line(done.stdout) == command
    config = json.loads((output / "config.json").read_text())
    assert (config["layers"], config["groups"], config["heads"], config["head_width"]) == (2, 1, 2, 8)
    assert (config["source_lang"], config["target_lang"], config["memory_span"]) == ("xx", "yy", 0)
    assert config["vocabulary"] == len((output / "dict.yy.txt").read_text().splitlines()) + 4

    sentences = (trained / "raw" / "test.xx").read_text(encoding="utf-8")
    # As on a machine that has neither torch nor fairseq.
    driver = (
        "import runpy, sys; sys.modules.update(torch=None, fairseq=None); sys.argv = sys.argv[1:];"
        " runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    for beam in (1, 4):
        generated = cli.run(
            "generate",
            *cli.generate_flags(trained / "data", checkpoint(trained), "--beam", beam, "--lenpen", 0.8),
            log=trained / "log",
        )
        options = ["--beam", beam, "--lenpen", 0.8, "--max-len-b", 10, "--batch-size", 3, "--threads", 1]
        done = python("-c", driver, TRANSLATE, output, *options, stdin=sentences)
        assert done.returncode == 0, done.stderr
        texts = cli.best(generated.stdout)
        assert done.stdout.splitlines() == [texts[i][1] for i in range(len(texts))]


def test_pruned_layers_and_files_that_are_there(trained, tmp_path):
    (tmp_path / "config.json").write_text("old")
    (tmp_path / "notes.txt").write_text("of the user")
    keep = "{'encoder_layers_to_keep': '0', 'decoder_layers_to_keep': '1'}"
    cli.run_tool("export", *flags(trained, tmp_path), "--model-overrides", keep, log=trained / "log")
    assert json.loads((tmp_path / "config.json").read_text())["layers"] == 1
    assert (tmp_path / "notes.txt").read_text() == "of the user"


def test_words_cut_by_bpe_are_joined(tmp_path, translate):
    dictionary = Dictionary()
    for word in ("a@@", "b@@", "c", "d"):
        dictionary.add_symbol(word)
    model = make_model(dictionary=dictionary)
    make_translator(model, dictionary, tmp_path, translate)
    (tmp_path / "input").write_text("a@@ c\n\nd b@@ c\n", encoding="utf-8")
    options = [TRANSLATE, tmp_path, "--input", tmp_path / "input", "--beam", 2, "--min-len", 8, "--max-len-b", 8]
    plain, joined = (python(*options, *more).stdout.splitlines() for more in ([], ["--remove-bpe"]))
    assert len(plain) == 3 and "@@ " in "".join(plain)
    assert joined == [post_process(line, "@@ ") for line in plain]


@pytest.mark.parametrize(
    "case, said",
    [
        ("missing checkpoint", "none.pt is missing"),
        ("no checkpoint", "was not loaded"),
        ("missing data", "none is not a folder"),
        ("data without languages", "give --source-lang and --target-lang"),
        ("data without dictionaries", "dict.xx.txt: No such file or directory"),
        ("other data", "dictionary has"),
        ("transformer_align", "is of the architecture transformer_align: only feedback_transformer"),
        ("language model", "is of the architecture feedback_transformer_lm: only feedback_transformer"),
        ("unwritable output", "start: File exists"),
        ("output is a file", "is not a folder"),
        ("no dictionary of options", "--model-overrides: 3 is not a dictionary of options"),
        ("too exact", "more than --tolerance 1e-30: nothing was written"),
        ("no tolerance", "--tolerance 0: give a positive number"),
    ],
)
def test_mistakes(case, said, trained, tmp_path):
    output, start = tmp_path / "exported", tmp_path / "start"
    start.write_text("of the user")
    args = flags(trained, output)
    if case == "missing checkpoint":
        args += ["--path", tmp_path / "none.pt"]
    elif case == "no checkpoint":
        args += ["--path", start]
    elif case == "missing data":
        args += ["--data", tmp_path / "none"]
    elif case == "data without languages":
        args += ["--data", trained]
    elif case == "data without dictionaries":
        args += ["--data", trained, "--source-lang", "xx", "--target-lang", "yy"]
    elif case == "other data":
        args += ["--data", cli.make_data(trained / "other", words=cli.WORDS + ["more%d" % i for i in range(20)])]
    elif case == "transformer_align":
        args += ["--path", checkpoint(trained, "theirs")]
    elif case == "language model":
        args += ["--path", checkpoint(trained, "lm"), "--data", trained / "text"]
    elif case == "unwritable output":
        args += ["--output", start / "exported"]
    elif case == "output is a file":
        args += ["--output", start]
    elif case == "no dictionary of options":
        args += ["--model-overrides", "3"]
    elif case == "too exact":
        args += ["--tolerance", "1e-30"]
    elif case == "no tolerance":
        args += ["--tolerance", "0"]
    done = cli.run_tool("export", *args, check=False, log=trained / "log")
    assert done.returncode != 0
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr
    assert os.listdir(str(tmp_path)) == ["start"] and start.read_text() == "of the user"


@pytest.mark.parametrize(
    "args, said",
    [
        (["none"], "none"),
        (["FOLDER", "--input", "none"], "none"),
        (["FOLDER", "--beam", "0"], "--beam 0: give a number from 1 to 16"),
        (["FOLDER", "--beam", "17"], "--beam 17: give a number from 1 to 16"),
        (["FOLDER", "--batch-size", "0"], "--batch-size 0: give at least 1"),
        (["FOLDER", "--min-len", "300"], "--min-len 300: the longest translation is 200"),
    ],
)
def test_mistakes_of_translating(args, said, tmp_path, dictionary, translate):
    make_translator(make_model(dictionary=dictionary), dictionary, tmp_path, translate)
    done = python(TRANSLATE, *[str(tmp_path) if a == "FOLDER" else a for a in args], stdin="w1\n")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr


def test_files_that_are_not_what_was_exported(tmp_path, dictionary, translate):
    folder = tmp_path / "exported"
    folder.mkdir()
    make_translator(make_model(dictionary=dictionary), dictionary, folder, translate)
    names = sorted(json.loads((folder / "config.json").read_text())["files"])
    assert names == ["decoder_step.onnx", "dict.xx.txt", "dict.yy.txt", "encoder.onnx"]
    assert inspect_checkpoint.report_of_export(str(folder)).endswith("4 files, all as they were exported")
    for name in names:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        for read in (translate.Translator, inspect_checkpoint.report_of_export):
            with pytest.raises(ValueError, match=f"{name} is not what was exported: copy the folder again"):
                read(str(folder))
        path.unlink()
        with pytest.raises((FeedbackError, FileNotFoundError), match=name):
            inspect_checkpoint.report_of_export(str(folder))
        path.write_bytes(content)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="has no checksums of its files: export it again"):
        translate.Translator(str(folder))
    with pytest.raises(FeedbackError, match="config.json is damaged, or of an export without checksums"):
        inspect_checkpoint.report_of_export(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(FeedbackError, match="exported is no export: it has no config.json"):
        inspect_checkpoint.report_of_export(str(folder))
