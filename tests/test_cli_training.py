"""The commands that users type to train."""

import cli
import pytest
import torch
from trained import are_rounded, assert_equal, generate, is_idle, load, load_model, train

from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel

pytestmark = pytest.mark.core

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_training_learns_and_validates(made):
    losses = cli.losses(made.training)
    assert len(losses) == 70
    assert losses[-1] < losses[0] - 1
    # 40 sentences in batches of 8, two of which make an update.
    sentences = [float(stats["bsz"]) for stats in cli.logged(made.training, "train_inner")]
    assert sentences[:3] in ([16, 16, 8], [16, 8, 16], [8, 16, 16])
    valid = [float(stats["valid_loss"]) for stats in cli.logged(made.training, "valid")]
    assert valid[-1] < valid[0] - 0.5
    state = cli.load(made.checkpoint)
    assert state["optimizer_history"][-1]["num_updates"] == 70
    assert state["extra_state"]["val_loss"] == pytest.approx(valid[-1], abs=1e-3)


def test_validate(made):
    flags = [*cli.common_flags(made.data), "--task", "translation", "--path", made.checkpoint]
    stdout = cli.run("validate", *flags, "--batch-size", 8, log=made.log).stdout
    (line,) = [line for line in stdout.splitlines() if "| valid |" in line and "| loss" in line]
    loss = float(line.split("| loss ")[1].split(" |")[0])
    assert loss == float(cli.logged(made.training, "valid")[-1]["valid_loss"])


# 5 batches make an epoch of 5 updates, or of 3 when two batches make an update.
@pytest.mark.parametrize("update_freq, first", [(1, 3), (2, 3)], ids=["mid_epoch", "epoch_border"])
def test_resumed_equals_uninterrupted(made, update_freq, first):
    # fairseq makes the batches once, from the number of the epoch it starts in, unless told to make
    # them anew for every epoch: without that it resumes in a later epoch with other batches.
    more = ["--update-freq", update_freq, "--update-epoch-batch-itr", True]
    more += ["--decoder-layerdrop", 0.3]
    name = f"resume{update_freq}"
    whole = train(made, name + "whole", *more)
    train(made, name, *more, updates=first)
    resumed = train(made, name, *more)
    assert cli.losses(resumed.stdout) == cli.losses(whole.stdout)[first:]

    expected, got = load(made, name + "whole"), load(made, name)
    assert_equal(dict(got["model"]), dict(expected["model"]))
    assert_equal(got["last_optimizer_state"], expected["last_optimizer_state"])
    for state in (expected, got):
        assert state["optimizer_history"][-1]["num_updates"] == 6
    learning_rates = [cli.logged(run.stdout, "train_inner")[-1]["lr"] for run in (whole, resumed)]
    assert learning_rates[0] == learning_rates[1]


def test_checkpoint_activations_change_nothing(made):
    more = ["--dropout", 0.3, "--attention-dropout", 0.1, "--decoder-layerdrop", 0.3]
    more += ["--optimizer", "sgd", "--lr", 0.5]  # Adam blows up the rounding of small gradients
    plain = train(made, "plain", *more)
    saving = train(made, "saving", *more, "--checkpoint-activations")
    assert cli.losses(saving.stdout) == cli.losses(plain.stdout)
    expected = load(made, "plain")["model"]
    for key, value in load(made, "saving")["model"].items():
        if not is_idle(key):
            torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-5)


def test_training_by_bleu(made):
    # The n-gram counts in the checkpoint are numpy's, the only such numbers fairseq saves.
    more = ["--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 5}']
    more += ["--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric"]
    train(made, "bleu", *more, updates=2)
    resumed = train(made, "bleu", *more, updates=3)
    assert len(cli.losses(resumed.stdout)) == 1
    assert "valid_best_bleu" in cli.logged(resumed.stdout, "valid")[-1]
    best = made.folder / "bleu" / "checkpoint_best.pt"
    assert len(cli.best(generate(made, path=best).stdout)) == 8


def test_adaptive_softmax(made):
    more = ["--adaptive-softmax-cutoff", "10,16", "--ddp-backend", "legacy_ddp"]
    flags = cli.train_flags(made.data, made.folder / "adaptive", *more, updates=40)
    at = flags.index("--criterion")
    flags[at : at + 4] = ["--criterion", "adaptive_loss"]
    losses = cli.losses(cli.run("train", *flags, log=made.log).stdout)
    assert losses[-1] < losses[0] - 0.5
    path = made.folder / "adaptive" / "checkpoint_last.pt"
    assert len(cli.best(generate(made, path=path).stdout)) == 8


# A warm start


@pytest.mark.parametrize("name", ["shared", "unshared", "own"])
def test_start_from_a_transformer(made, transformer, name):
    unshared, own = name != "shared", name == "own"
    more = ["--finetune-from-model", transformer, "--lr-scheduler", "fixed", "--lr", 0]
    if unshared:
        more.append("--unshared-memory-kv")
    if own:
        more += ["--memory-composition", "own"]
    cli.losses(train(made, name, *more, updates=1).stdout)
    old, new = cli.load(transformer)["model"], load(made, name)["model"]
    for kind in ("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"):
        names = [f"decoder.layers.{i}.self_attn.{kind}" for i in (0, 1)]
        if unshared:
            for key in names:
                assert torch.equal(new[key], old[key])
        else:
            mean = (old[names[0]] + old[names[1]]) / 2
            torch.testing.assert_close(new["decoder.memory." + kind], mean)
            for key in names:
                assert key not in new
                del old[key]
    assert_equal({key: new[key] for key in old}, dict(old))
    if own:
        assert old.keys() == new.keys()
        return
    assert torch.equal(new["decoder.memory.layer_weights"], torch.zeros(3))
    more = ["--finetune-from-model", transformer, "--dropout", 0]
    losses = cli.losses(train(made, name + "2", *more, updates=24).stdout)
    assert sum(losses[-6:]) < sum(losses[:6])


def test_kernels_train_alike(made):
    """The same random choices, so the same losses to rounding."""
    losses = {}
    for kernel in ("reference", "bptt"):
        run = train(made, kernel, "--feedback-kernel", kernel)
        losses[kernel] = cli.losses(run.stdout)
        assert run.stdout.count(f"feedback kernel: {kernel}") == 1
    assert losses["bptt"] == pytest.approx(losses["reference"], abs=5e-3)


def test_a_finished_training_is_not_trained_on(made):
    train(made, "finished", updates=3)
    path = made.folder / "finished" / "checkpoint_last.pt"
    before = path.read_bytes()
    again = train(made, "finished", updates=3)
    assert "--max-update 3 was reached before: there is nothing to train" in again.stdout + again.stderr
    assert cli.logged(again.stdout, "train_inner") == [] and path.read_bytes() == before
    assert cli.losses(train(made, "finished", updates=4).stdout)


@pytest.mark.parametrize("from_another", [False, True])
def test_a_checkpoint_of_another_model_is_one_sentence(made, from_another):
    name = "narrow" if from_another else "trained"
    more = ["--finetune-from-model", made.checkpoint] if from_another else []
    train(made, "trained", updates=1)
    wider = ["--decoder-ffn-embed-dim", 40]
    message = cli.last_line(train(made, name, *more, *wider, check=False, updates=2).stderr)
    path = made.checkpoint if from_another else made.folder / "trained" / "checkpoint_last.pt"
    assert message.startswith(f"error: checkpoint {path} does not fit the model of these options (")
    assert "size mismatch for decoder.layers.0.fc1.weight" in message and "--save-dir of its own" in message


# Another way to configure


def hydra_train(made, name, *more, check=True):
    """A training configured by hydra -> its last checkpoint, what the command was and said."""
    save_dir = made.folder / name
    done = cli.run(
        "hydra_train",
        *(f"hydra.run.dir={save_dir}_run", f"checkpoint.save_dir={save_dir}"),
        *(f"common.user_dir={cli.PACKAGE}", "common.cpu=true", "dataset.num_workers=0"),
        *("task=translation", f"task.data={made.data}"),
        *("dataset.batch_size=8", "dataset.required_batch_size_multiple=1"),
        *("criterion=label_smoothed_cross_entropy", "criterion.label_smoothing=0.1"),
        *("optimizer=adam", "optimization.lr=[0.003]", *more),
        log=made.log,
        check=check,
    )
    return save_dir / "checkpoint_last.pt", done


def test_hydra(made):
    small = dict(encoder_embed_dim=16, encoder_layers=1, decoder_layers=2, memory_span=3)
    model = ["+model._name=feedback_transformer_iwslt_de_en"]
    model += [f"+model.{name}={value}" for name, value in small.items()]
    path, _ = hydra_train(made, "hydra", *model, "optimization.max_update=2")
    model, _ = load_model(path, data=str(made.data))
    assert isinstance(model, FeedbackTransformerModel)
    decoder = model.decoder
    assert (decoder.num_layers, decoder.embed_dim, decoder.memory_span) == (2, 16, 3)
    # What was not given is the architecture's.
    assert (decoder.heads, decoder.ffn_width, decoder.layer_dropout.p) == (4, 1024, 0.3)
    assert model.encoder.layers[0].self_attn.num_heads == 4
    assert model.encoder.layers[0].dropout_module.p == 0.3
    assert len(cli.best(generate(made, path=path).stdout)) == 8


def test_a_mistake_in_hydra_is_one_sentence(made):
    model = ["+model._name=feedback_transformer", "+model.memory_span=-1"]
    _, done = hydra_train(made, "hydra_mistake", *model, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [done.stderr.splitlines()[-1]]
    assert "--memory-span" in done.stderr.splitlines()[-1]


def test_bfloat16(made):
    train(made, "bf16", "--bf16", "--max-update", 40)
    path = made.folder / "bf16" / "checkpoint_last.pt"
    assert are_rounded(path, torch.bfloat16)
    assert not are_rounded(made.checkpoint, torch.bfloat16)
    scores = cli.best(generate(made, "--score-reference", path=path).stdout)
    # An even guess among 24 words costs log2(24) = 4.6 a word.
    assert sum(score for score, _ in scores.values()) / len(scores) > -4
    assert len(cli.best(generate(made, path=path).stdout)) == 8


# A GPU


@needs_gpu
@pytest.mark.parametrize("precision", ["--fp16", "--amp"])
def test_half_precision(made, precision):
    name = precision.strip("-")
    flags = cli.train_flags(made.data, made.folder / name, precision, updates=30)
    flags.remove("--cpu")
    losses = cli.losses(cli.shell("train", *flags, CUDA_VISIBLE_DEVICES="0").stdout)
    assert losses[-1] < losses[0] - 0.5
    path = made.folder / name / "checkpoint_last.pt"
    assert are_rounded(path, torch.float16) == (precision == "--fp16")
    flags = cli.generate_flags(made.data, path, "--fp16")
    flags.remove("--cpu")
    assert len(cli.best(cli.shell("generate", *flags, CUDA_VISIBLE_DEVICES="0").stdout)) == 8
