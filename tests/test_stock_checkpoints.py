"""Checkpoints of fairseq's own transformers, decoded by our engine: the hypotheses and scores of fairseq's own code."""

import argparse
import copy
import json
import re
from types import SimpleNamespace

import cli
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.models.transformer_lm import TransformerLanguageModel, base_lm_architecture
from fairseq.sequence_generator import SequenceGenerator
from generation import assert_same_hypos, generate, make_ending_model, make_sample
from helpers import SMALL_LM, Task, make_transformer

from fairseq_feedback.generation.generator import has_feedback
from fairseq_feedback.models import stock

pytestmark = pytest.mark.core


# ---------------------------------------------------------------- the model

FITS = dict(
    post_norm={},
    pre_norm=dict(decoder_normalize_before=True, encoder_normalize_before=True, decoder_layerdrop=0.2),
    learned_positions=dict(decoder_learned_pos=True, encoder_learned_pos=True, layernorm_embedding=True),
    no_positions=dict(no_token_positional_embeddings=True, no_scale_embedding=True, activation_fn="gelu"),
    widths=dict(encoder_embed_dim=24, decoder_output_dim=12),
    shared=dict(share_all_embeddings=True, checkpoint_activations=True),
    no_cross_attention=dict(no_cross_attention=True),
    adaptive_softmax=dict(adaptive_softmax_cutoff=[10, 20]),
)


def make_stock_lm(dictionary, **options):
    torch.manual_seed(4)
    sizes = {k: v for k, v in SMALL_LM.items() if k != "memory_span"}
    args = argparse.Namespace(arch="transformer_lm", tokens_per_sample=64, **{**sizes, "dropout": 0.0, **options})
    base_lm_architecture(args)
    return TransformerLanguageModel.build_model(args, Task(dictionary)).double().eval()


def assert_engine_is_the_model(theirs, dictionary, ragged=True):
    before = copy.deepcopy(theirs.state_dict())
    ours = stock.engine(theirs)
    assert {id(p) for p in ours.parameters()} == {id(p) for p in theirs.parameters()}
    sample = make_sample(dictionary, ragged=ragged)
    want = generate(theirs, dictionary, sample, generator=SequenceGenerator, beam_size=4)
    assert_same_hypos(generate(ours, dictionary, sample, beam_size=4), want)
    assert before.keys() == theirs.state_dict().keys()
    assert all(torch.equal(v, before[k]) for k, v in theirs.state_dict().items())


@pytest.mark.parametrize("variant", FITS)
def test_translation_models(variant, dictionary):
    theirs = make_ending_model(dictionary, make=make_transformer, seed=3, **FITS[variant]).eval()
    assert_engine_is_the_model(theirs, dictionary)


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(decoder_learned_pos=True, share_decoder_input_output_embed=True),
        dict(decoder_input_dim=8, decoder_output_dim=8, no_decoder_final_norm=True),
        dict(
            adaptive_input=True,
            **{f"adaptive_{side}_{name}": value for side in ("input", "softmax") for name, value in
               (("cutoff", "10,20"), ("factor", 2))},
            tie_adaptive_weights=True,
            tie_adaptive_proj=True,
        ),
    ],
)  # fmt: skip
def test_language_models(options, dictionary):
    assert_engine_is_the_model(make_stock_lm(dictionary, **options), dictionary, ragged=False)


@pytest.mark.parametrize(
    "options, reason",
    [
        (dict(cross_self_attention=True), "--cross-self-attention"),
        (dict(quant_noise_pq=0.1, quant_noise_pq_block_size=2), "--quant-noise-pq"),
        (dict(scale_heads=True), "other parameters than a plain transformer's: layers.0.c_attn"),
        (dict(scale_fc=True), "layers.0.ffn_layernorm"),
    ],
)
def test_options_that_do_not_fit(options, reason, dictionary):
    with pytest.raises(stock.DoesNotFit, match=reason):
        stock.engine(make_transformer(dictionary, **options))


def test_what_is_not_plain_does_not_fit(dictionary):
    class Subclass(torch.nn.Linear):
        pass

    with pytest.raises(stock.DoesNotFit, match="does not know: CharacterTokenEmbedder, "):
        stock.engine(make_stock_lm(dictionary, character_embeddings=True, character_filters="[(1, 8)]",
                                   character_embedding_dim=4, char_embedder_highway_layers=1))  # fmt: skip
    model = make_transformer(dictionary)
    model.decoder.layers[0].fc1.__class__ = Subclass
    with pytest.raises(stock.DoesNotFit, match="does not know: Subclass"):
        stock.engine(model)
    with pytest.raises(stock.DoesNotFit, match="a Linear is no TransformerModel or TransformerLanguageModel"):
        stock.engine(torch.nn.Linear(1, 1))


# ---------------------------------------------------------------- the commands

WIDTHS = ["--decoder-embed-dim", 16, "--decoder-ffn-embed-dim", 24]
PRE_NORM = ["--encoder-normalize-before", "--decoder-normalize-before", "--decoder-learned-pos"]
PRE_NORM += ["--encoder-learned-pos", "--share-decoder-input-output-embed", "--decoder-layers", 3]
LM = ["--task", "language_modeling", "--sample-break-mode", "eos"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Checkpoints of fairseq's transformers, and of a feedback transformer."""
    folder = tmp_path_factory.mktemp("stock")
    data, text = cli.make_data(folder), cli.make_text(folder)
    flags = {
        name: cli.train_flags(data, folder / name, *WIDTHS, *more, arch="transformer_iwslt_de_en", updates=40)
        for name, more in (("post_norm", []), ("pre_norm", PRE_NORM))
    }
    flags["feedback"] = cli.train_flags(data, folder / "feedback", updates=10)
    flags["lm"] = [
        *cli.common_flags(text), *LM, *WIDTHS, "--arch", "transformer_lm", "--decoder-layers", 2,
        "--decoder-attention-heads", 2, "--tokens-per-sample", 32, "--batch-size", 8, "--optimizer", "adam",
        "--lr", 0.01, "--max-update", 40, "--save-dir", folder / "lm", "--no-epoch-checkpoints",
    ]  # fmt: skip
    for training in [cli.start("train", *training, log=folder / "log") for training in flags.values()]:
        training.wait()
    paths = {name: folder / name / "checkpoint_last.pt" for name in flags}
    return SimpleNamespace(folder=folder, log=folder / "log", data=data, text=text, **paths)


def command(flags, made, *more):
    """Each sentence's hypotheses, and what the log says of the engine."""
    done = cli.run("generate", *flags, *more, log=made.log)
    return cli.hypotheses(done.stdout), re.findall(r"decoded by (.*)", done.stdout + done.stderr)


def assert_same(got, want):
    assert got.keys() == want.keys() and len(got) > 4
    for i, hypotheses in want.items():
        assert [text for _, text in got[i]] == [text for _, text in hypotheses]
        scores = [[float(score) for score, _ in found] for found in (got[i], hypotheses)]
        assert scores[0] == pytest.approx(scores[1], abs=2e-4)  # as they are printed


def decode(made, names, overrides=None, half=False, **options):
    """What the commands do, in this process -> hypotheses, models that made them."""
    paths = [str(getattr(made, name)) for name in names]
    models, _, task = checkpoint_utils.load_model_ensemble_and_task(paths, overrides)
    for model in models:
        if half:
            model.half()
        model.make_generation_fast_()
    task.load_dataset("test")
    sentences = task.dataset("test")
    generator = task.build_generator(models, argparse.Namespace(beam=4, max_len_b=10, **options))
    sample = sentences.collater([sentences[i] for i in range(len(sentences))])
    return task.inference_step(generator, models, sample), list(generator.model.models)


@pytest.fixture(scope="module")
def translations(made):
    """Of the post-norm model, by fairseq's own code."""
    flags = cli.generate_flags(made.data, made.post_norm, "--nbest", 3)
    want, log = command(flags, made, "--no-feedback-engine")
    assert log == ["fairseq's own code: --no-feedback-engine"]
    return want


def test_translation(made, translations):
    flags = cli.generate_flags(made.data, made.post_norm, "--nbest", 3)
    got, log = command(flags, made)
    assert log == []
    assert_same(got, translations)
    rounded, _ = command(flags, made, "--decode-int8")
    assert rounded != got  # the option does something
    scores = [[float(hypotheses[0][0]) for hypotheses in found.values()] for found in (rounded, got)]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


def test_language_model(made):
    flags = cli.generate_flags(made.text, made.lm, *LM, "--nbest", 3, "--prefix-size", 2, "--max-len-b", 20)
    want, got = (command(flags, made, *more)[0] for more in (["--no-feedback-engine"], []))
    assert_same(got, want)


@pytest.mark.parametrize(
    "names, options",
    [
        (["pre_norm"], {}),
        (["pre_norm"], dict(overrides=dict(encoder_layers_to_keep="0", decoder_layers_to_keep="0,2"))),
        (["post_norm"], dict(half=True)),
        (["lm"], dict(overrides=dict(sample_break_mode="eos"))),
        (["pre_norm", "feedback"], {}),
    ],
)
def test_checkpoints(made, names, options):
    got, models = decode(made, names, **options)
    assert all(map(has_feedback, models))
    want, models = decode(made, names, no_feedback_engine=True, **options)
    assert sum(map(has_feedback, models)) == names.count("feedback")
    assert_same_hypos(got, want, atol=5e-3 if "half" in options else 1e-4)
    if "half" not in options:
        rounded, models = decode(made, names, decode_int8=True, **options)
        assert all(model.decoder.int8 for model in models)
        assert any(not torch.equal(a[0]["score"], b[0]["score"]) for a, b in zip(rounded, got))


def test_a_model_that_does_not_fit(made):
    flags = cli.generate_flags(made.data, made.post_norm, "--model-overrides", "{'cross_self_attention': True}")
    found, log = command(flags, made)
    assert log == ["fairseq's own code: --cross-self-attention"]
    want, (model,) = decode(made, ["post_norm"], dict(cross_self_attention=True))
    assert not has_feedback(model) and len(found) == len(want)
    done = cli.run("generate", *flags, "--decode-int8", check=False, log=made.log)
    want = "error: --decode-int8: fairseq's own code decodes this checkpoint (--cross-self-attention): leave it out"
    assert done.returncode == 1 and cli.last_line(done.stderr) == want


def test_translate(made, translations):
    source, output = made.folder / "raw" / "test.xx", made.folder / "output"
    flags = [made.data, "--path", made.post_norm, "--input", source, "--output", output, "--max-len-b", 10, "--cpu"]
    cli.run_tool("translate", *flags, "--workers", 1, log=made.log)
    assert output.read_text().splitlines() == [translations[i][0][1] for i in sorted(translations)]


def test_export(made):
    pytest.importorskip("onnxruntime")
    exported = made.folder / "exported"
    done = cli.run_tool("export", "--path", made.post_norm, "--data", made.data, "--output", exported, log=made.log)
    assert done.stdout.count("log-probabilities differ by at most") == 4
    assert json.loads((exported / "config.json").read_text())["groups"] == 2


def test_from_pretrained_and_training(made):
    """One engine for a model and its options; and none where the model goes on being trained."""
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(made.post_norm)])
    options = argparse.Namespace(beam=2)
    assert not any(map(has_feedback, task.build_generator([model], options).model.models))
    assert task.build_generator([model], argparse.Namespace(beam=2, decode_int8=True)).model.models[0] is model
    model.make_generation_fast_()
    exact, again, rounded = (
        task.build_generator([model], argparse.Namespace(beam=2, decode_int8=int8)).model.models[0]
        for int8 in (False, False, True)
    )
    assert has_feedback(exact) and exact is again is not rounded
    assert rounded.decoder.int8 and not exact.decoder.int8 and not exact.encoder.int8
    alone = task.build_generator([model], argparse.Namespace(beam=2), SequenceGenerator).model.models[0]
    assert alone is model
