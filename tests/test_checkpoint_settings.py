"""Checkpoints of strings only that try to run, read or overwrite something, through every entry that loads one."""

import argparse
import ast
import os
import pickle
import re
import shutil
import socket
import sys

import cli
import fairseq
import helpers
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY
from fairseq.models.speech_to_text.xm_transformer import XMTransformerModel
from hostile import LM, SIZES, WAYS, Touches, code, load, options, refused, save, save_good

from fairseq_feedback.checkpoints import settings
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel

pytestmark = [pytest.mark.core, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of dictionaries."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("dict.xx.txt", "dict.yy.txt", "dict.txt", "dict.ltr.txt"):
        (folder / name).write_text("".join(f"w{i} 1\n" for i in range(30)))
    return folder


@pytest.fixture
def proof(tmp_path):
    """What a checkpoint creates if anything in it is run."""
    return tmp_path / "proof"


@pytest.fixture(scope="module")
def opened():
    """The files that Python has opened."""
    paths = set()
    sys.addaudithook(lambda event, args: paths.add(str(args[0])) if event == "open" else None)
    return paths


# Evaluated


def save_way(data, tmp_path, proof, arch, more, name):
    """The settings of models without a dataclass are objects, also in newer checkpoints."""
    sizes = SIZES.get(arch, helpers.SMALL)
    args = options(data, **{**sizes, "arch": arch, **more, name: code(proof)})
    return save(tmp_path / "hostile.pt", cfg={"task": args, "model": args})


@pytest.mark.parametrize("arch, more, name", WAYS)
def test_nothing_is_run(data, tmp_path, proof, monkeypatch, arch, more, name):
    path = save_way(data, tmp_path, proof, arch, more, name)
    assert f"setting {name} " in refused(path)
    # A second door behind that, should it miss a setting's name.
    monkeypatch.setattr(settings, "EVALUATED", frozenset())
    with pytest.raises(FeedbackError, match="was not run|give rising numbers"):
        load(path)
    assert not proof.exists()
    # And the trap does work.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(Exception):  # noqa: B017  without parameters no model is loaded
        load(path)
    assert proof.exists()


@pytest.mark.parametrize("name", sorted(settings.EVALUATED))
def test_every_evaluated_setting(data, tmp_path, proof, name):
    cfg = {"task": {"_name": "translation"}, "model": {"_name": "transformer"}, "criterion": {name: code(proof)}}
    refused(save(tmp_path / "cfg.pt", cfg=cfg))
    refused(save(tmp_path / "args.pt", options(data, **{name: code(proof)})), checkpoint_utils.load_checkpoint_to_cpu)
    assert not proof.exists()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda bad: {"w2v_args": argparse.Namespace(model=argparse.Namespace(**bad))},
        lambda bad: {"w2v_args": {"model": bad}},
        lambda bad: {"multitask": [{"a": ({"b": bad},)}]},
        lambda bad: {name: [value] for name, value in bad.items()},
    ],
)
def test_settings_within_settings(data, tmp_path, proof, wrap):
    hidden = wrap({"conv_feature_layers": code(proof)})
    assert "setting conv_feature_layers" in refused(save(tmp_path / "hostile.pt", options(data, **hidden)))
    cfg = {"task": {"_name": "translation"}, "model": {"_name": "wav2vec_ctc", **hidden}}
    assert "setting conv_feature_layers" in refused(save(tmp_path / "hostile.pt", cfg=cfg))


def test_settings_that_contain_themselves(data, tmp_path, proof):
    loop = []
    loop.append({"loop": loop, "wer_args": code(proof)})
    refused(save(tmp_path / "hostile.pt", options(data, loop=loop)))


def test_criterion(data, tmp_path, proof, monkeypatch):
    """fairseq-validate builds the criterion of the checkpoint."""
    path = tmp_path / "ctc.pt"
    args = options(data, arch="feedback_transformer_tiny", criterion="ctc", **helpers.SMALL)
    save_good(path, args)
    args.wer_args = code(proof)
    save_good(path, args)
    refused(path)
    monkeypatch.setattr(settings, "EVALUATED", frozenset())
    _, cfg, task = load(path)
    with pytest.raises(FeedbackError, match="was not run"):
        task.build_criterion(cfg.criterion)
    assert not proof.exists()


@pytest.mark.parametrize(
    "text, value",
    [
        ("[(512, 3)] * 20", [(512, 3)] * 20),
        ("[(512, 10, 5)] + [(512, 3, 2)] * 2", [(512, 10, 5), (512, 3, 2), (512, 3, 2)]),
        *((" (0.9, 0.98)", (0.9, 0.98)), ("1000,2000", (1000, 2000)), ("2*[3,-7]", [3, -7, 3, -7]), ("9-1", 8)),
        *(("True", True), ("None", None), ("{'a': [1, 'b']}", {"a": [1, "b"]}), ("1e-3", 1e-3)),
    ],
)
def test_literals(text, value):
    assert settings.literal(text) == value == eval(text)


@pytest.mark.parametrize(
    "text",
    ["[0] * 10**12", "[0] * 1000000000000", "1000000000000 * 'a'", "[1] * ([2] * 9)", "9**9**9", "[0] * 1.5", "", "1 +"]
    + ["a", "a.b", "a()", "[a for a in b]", "f'{a}'", "lambda: 1", "(a := 1)", "[0][0]", "1 if 1 else 2", "{*a}", "\0"]
    + ["(" * 10**5, "-" * 10**5 + "1", "1+" * 10**5 + "1", "[[" * 99, "9" * 5000, "{[]: 1}", "([0] * 9999) * 1 * 2"],
)
def test_no_literals(text):
    with pytest.raises(FeedbackError, match="was not run") as error:
        settings.literal(text)
    assert len(str(error.value)) < 250 and "\n" not in str(error.value)


def test_what_is_no_string_is_no_setting_to_evaluate():
    assert fairseq.utils.eval_bool(True, default="default") == "default"  # as always
    assert fairseq.utils.eval_str_list([1, 2], type=int) == [1, 2]


# Written, downloaded, looked up, called


@pytest.mark.parametrize(
    "bad, reason",
    [
        ({"save_predictions": "{proof}"}, "overwritten"),
        ({"encoder_embed_path": "${{oc.env:HOME}}"}, "no setting"),
        ({"bpe_codes": "${{task.${{oc.env:HOME}}}}"}, "no setting"),
        ({"bpe_codes": "http://127.0.0.1:9/{proof}"}, "downloaded"),
        ({"sentencepiece_model": "s3://bucket/model"}, "downloaded"),
        ({"bpe": "{{_name: subword_nmt, bpe_codes: 'http://127.0.0.1:9/x'}}"}, "downloaded"),
        ({"extra": {"_target_": "os.system", "command": "touch {proof}"}}, "called"),
    ],
)
def test_settings_that_do_something(data, tmp_path, proof, bad, reason):
    bad = {k: v.format(proof=proof) if isinstance(v, str) else v for k, v in bad.items()}
    assert reason in refused(save(tmp_path / "args.pt", options(data, **bad)))
    if not {"bpe", "bpe_codes"} & bad.keys():
        cfg = {"task": {"_name": "translation"}, "model": {"_name": "transformer", **bad}}
        assert reason in refused(save(tmp_path / "cfg.pt", cfg=cfg))
    assert not proof.exists()


def test_addresses_of_fairseq_itself_are_kept(data, tmp_path):
    path = tmp_path / "good.pt"
    address = "https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe/encoder.json"
    save_good(path, options(data, **helpers.SMALL), bpe={"_name": "gpt2", "gpt2_encoder_json": address})
    load(path)


@pytest.fixture
def nobody_calls():
    """An address that counts who connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(TimeoutError):
            server.accept()


def test_settings_that_loading_does_not_look_at(data, tmp_path, proof, nobody_calls):
    plugin = tmp_path / "stranger"
    plugin.mkdir()
    (plugin / "__init__.py").write_text(code(proof))
    other = dict(user_dir=str(plugin), post_save_script=f"touch {proof}", save_dir=str(proof), log_file=str(proof))
    other.update(tensorboard_logdir=str(proof), results_path=str(proof), path=str(plugin), lm_path=str(plugin))
    other.update(distributed_init_method=nobody_calls, distributed_world_size=2, restore_file=str(plugin))
    args = options(data, arch="feedback_transformer_tiny", **helpers.SMALL, **other)
    save_good(tmp_path / "good.pt", args, "args")
    hub = FeedbackTransformerModel.from_pretrained(str(tmp_path), "good.pt", str(data))
    assert hub.translate("w1 w2", beam=1) is not None
    assert hub.cfg.common.user_dir == str(plugin)  # it was there to be found
    assert not proof.exists() and "stranger" not in sys.modules


@pytest.mark.parametrize(
    "more",
    [
        {"arch": "lstm", "encoder_embed_path": "{other}"},
        {"arch": "fconv", "encoder_embed_path": "{other}"},
        {"arch": "transformer", "encoder_embed_path": "{other}"},
        {"arch": "fconv_self_att", "pretrained": "True", "pretrained_checkpoint": "{other}"},
        {"arch": "wav2vec_ctc", "w2v_path": "{other}"},
        {"arch": "roberta_enc_dec", "pretrained_mlm_checkpoint": "{other}"},
    ],
)
@pytest.mark.parametrize("content", ["pickle", "settings"])
def test_files_that_settings_name_are_not_run(data, tmp_path, proof, opened, more, content):
    other = tmp_path / "other.pt"
    if content == "pickle":
        torch.save(Touches(proof), str(other))
    else:
        save(other, options(data, arch="lstm", decoder_attention=code(proof)))
    sizes = SIZES.get(more["arch"], helpers.SMALL)
    args = options(data, **{**sizes, **{k: v.format(other=other) for k, v in more.items()}})
    path = save(tmp_path / "hostile.pt", cfg={"task": args, "model": args})
    opened.clear()
    with pytest.raises(Exception):  # noqa: B017  a text of vectors is expected at some
        load(path)
    assert str(other) in opened and not proof.exists()


def test_a_decoder_that_settings_name_is_not_run(tmp_path, proof):
    other = tmp_path / "other.pt"
    torch.save(Touches(proof), str(other))
    with pytest.raises(pickle.UnpicklingError):
        XMTransformerModel.build_model(argparse.Namespace(load_pretrained_decoder_from=str(other)), None)
    assert not proof.exists()


def test_codes_of_bpe_that_settings_name_are_not_run(data, tmp_path, proof, opened):
    other = tmp_path / "other"
    torch.save(Touches(proof), str(other))
    args = options(data, arch="feedback_transformer_tiny", bpe="subword_nmt", bpe_codes=str(other), **helpers.SMALL)
    save_good(tmp_path / "good.pt", args, "args")
    opened.clear()
    with pytest.raises(Exception):  # noqa: B017  they are no such codes
        FeedbackTransformerModel.from_pretrained(str(tmp_path), "good.pt", str(data))
    assert str(other) in opened and not proof.exists()


# Entries


def test_ensemble_and_from_pretrained(data, tmp_path, proof):
    args = options(data, arch="feedback_transformer_tiny", **helpers.SMALL)
    save_good(tmp_path / "good.pt", args)
    args.decoder_attention = code(proof)
    bad = save(tmp_path / "bad.pt", cfg={"task": args, "model": args})
    good = str(tmp_path / "good.pt")
    refused(bad, lambda path: checkpoint_utils.load_model_ensemble([good, path]))
    both = os.pathsep.join(["good.pt", "bad.pt"])
    refused(bad, lambda path: FeedbackTransformerModel.from_pretrained(str(tmp_path), both, str(data)))
    assert not proof.exists()
    refused(good, lambda path: load(path, decoder_attention=code(proof)))  # what the user gives is a literal, too
    assert not proof.exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data and a trained checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    data = cli.make_data(folder)
    shutil.copy(os.path.join(data, "dict.xx.txt"), os.path.join(data, "dict.txt"))  # for fairseq-eval-lm
    cli.run("train", *cli.train_flags(data, folder / "good", updates=1), log=folder / "log")
    return folder


@pytest.mark.parametrize("command", ["generate", "interactive", "validate", "eval_lm", "resume", "finetune"])
def test_commands(trained, tmp_path, proof, command):
    path, data = tmp_path / "checkpoint_last.pt", trained / "data"
    state = cli.load(trained / "good" / "checkpoint_last.pt")
    state["cfg"]["model"]["decoder_attention"] = code(proof)
    torch.save(state, str(path))
    before = path.read_bytes()
    flags = cli.generate_flags(data, path)
    if command in ("eval_lm", "interactive"):
        flags = [*cli.common_flags(data), "--path", path]
    elif command == "validate":
        flags = [*cli.common_flags(data), "--path", path, "--task", "translation", "--batch-size", 4]
    elif command == "resume":
        command, flags = "train", cli.train_flags(data, tmp_path)
    elif command == "finetune":
        command, flags = "train", cli.train_flags(data, tmp_path / "new", "--finetune-from-model", path)
    done = cli.run(command, *flags, stdin="ba be\n", check=False, log=tmp_path / "log")
    line = cli.last_line(done.stderr)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert line.startswith("error: ") and f"{path} was not loaded" in line and "setting decoder_attention" in line
    assert not proof.exists() and path.read_bytes() == before


# Ordinary checkpoints

OURS = [arch for arch, model in ARCH_MODEL_REGISTRY.items() if model.__module__.startswith("fairseq_feedback.")]
SMALL_WIKI = dict(adaptive_softmax_cutoff="10,20", adaptive_input_factor=2, adaptive_softmax_factor=2)
ORDINARY = [
    *(dict(arch=arch, **helpers.SMALL) for arch in OURS if "_lm" not in arch),
    *(dict(arch=arch, **LM, **helpers.SMALL_LM) for arch in OURS if "_lm" in arch and "wiki" not in arch),
    *(dict(arch=arch, **LM, **helpers.SMALL_LM, **SMALL_WIKI) for arch in OURS if "wiki" in arch),
    dict(arch="transformer", adaptive_softmax_cutoff="10,20", **helpers.SMALL),
    dict(arch="transformer_lm", adaptive_softmax_cutoff="10,20", **LM, decoder_embed_dim=16, decoder_attention_heads=2),
    dict(arch="lstm", decoder_attention="1", **SIZES["lstm"]),
    dict(arch="fconv", decoder_attention="True", **SIZES["fconv"]),
    dict(arch="lightconv", **SIZES["lightconv"]),
]


@pytest.mark.parametrize("more", ORDINARY, ids=lambda more: more["arch"])
def test_ordinary_checkpoints_load(data, tmp_path, more):
    check_ordinary(data, tmp_path, more, "cfg")


@pytest.mark.parametrize("arch", ["transformer", "lstm", "fconv", "feedback_transformer_tiny"])
def test_ordinary_checkpoints_of_old_load(data, tmp_path, arch):
    check_ordinary(data, tmp_path, next(more for more in ORDINARY if more["arch"] == arch), "args")


def check_ordinary(data, tmp_path, more, form):
    saved = save_good(tmp_path / "good.pt", options(data, **more), form)
    (model,), _, _ = load(tmp_path / "good.pt")
    assert model.state_dict().keys() == saved.keys()
    for name, parameter in model.named_parameters():
        # fairseq 0.12.2 makes some of others when it loads.
        assert helpers.OLD_FAIRSEQ or torch.equal(parameter, saved[name]), name


def test_the_defaults_of_all_architectures_are_literals():
    found = 0
    for arch, complete in ARCH_CONFIG_REGISTRY.items():
        args = options("", dropout=0.1, attention_dropout=0.1)
        dataclass = MODEL_DATACLASS_REGISTRY.get(arch)
        if dataclass is None:
            complete(args)
        else:
            args = argparse.Namespace(**vars(dataclass()))
        settings.check({"args": args})
        for name, value in vars(args).items():
            if name in settings.EVALUATED and isinstance(value, str) and value:
                assert settings.literal(value) == eval(value)
                found += 1
    assert found > 20


# Of all that fairseq evaluates, something else than a setting
NO_SETTINGS = {("data/codedataset.py", "line.strip()"), ("utils.py", "x"), ("dataclass/utils.py", "x")}


def test_no_evaluated_setting_was_overlooked():
    """fairseq's own code, read: every call that evaluates takes a setting that is known, in a module that is mended."""
    root, seen = os.path.dirname(fairseq.__file__), 0
    for folder, folders, files in os.walk(root):
        if folder == root:
            folders[:] = [name for name in folders if name != "examples"]  # programs of their own, never imported
        for file in (name for name in files if name.endswith(".py")):
            path = os.path.relpath(os.path.join(folder, file), root)
            with open(os.path.join(folder, file), encoding="utf-8") as f:
                source = f.read()
            if not re.search(r"eval|exec|__import__|system|popen|instantiate", source):
                continue
            for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
                name = ast.unparse(call.func).removeprefix("utils.").removeprefix("options.")
                assert name.split(".")[-1] not in ("exec", "__import__", "system", "popen", "instantiate")
                if name not in ("eval", "eval_bool", "eval_str_list", "eval_str_dict"):
                    continue
                seen += 1
                argument = ast.unparse(call.args[0])
                known = re.findall(r"\w+", argument)[-1] in settings.EVALUATED or (path, argument) in NO_SETTINGS
                # In argparse's type=: of the command line.
                assert known or argument in ("x", "uf"), (path, argument)
                module = sys.modules.get("fairseq." + path[:-3].replace(os.sep, "."))
                assert name != "eval" or module is None or module.eval is settings.literal, path
    assert seen > 40
