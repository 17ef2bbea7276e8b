"""The commands that users type, from raw text to translations."""

import glob
import math
import os
import re
import shutil
from types import SimpleNamespace

import cli
import pytest
import torch
from fairseq import checkpoint_utils
from helpers import OLD_FAIRSEQ

from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel

pytestmark = pytest.mark.core

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data and a checkpoint by the commands a user types, each in a process of its own."""
    folder = tmp_path_factory.mktemp("cli")
    raw, data, save_dir = folder / "raw", folder / "data", folder / "checkpoints"
    cli.write_corpus(raw)
    cli.shell("preprocess", *cli.preprocess_flags(raw, data))
    flags = cli.train_flags(data, save_dir, "--update-freq", 2, updates=70)
    training = cli.shell("train", *flags).stdout
    checkpoint = save_dir / "checkpoint_last.pt"
    generation = cli.shell("generate", *cli.generate_flags(data, checkpoint)).stdout
    return SimpleNamespace(
        folder=folder,
        data=data,
        log=folder / "log",
        training=training,
        checkpoint=checkpoint,
        generation=generation,
    )


@pytest.fixture(scope="module")
def transformer(made):
    """The checkpoint of fairseq's own transformer of the same size."""
    more = ["--decoder-embed-dim", 16, "--decoder-ffn-embed-dim", 24]
    train(made, "transformer", *more, arch="transformer")
    return made.folder / "transformer" / "checkpoint_last.pt"


def train(made, name, *more, check=True, **flags):
    flags = cli.train_flags(made.data, made.folder / name, *more, **flags)
    return cli.run("train", *flags, check=check, log=made.log)


def generate(made, *more, path=None, check=True):
    flags = cli.generate_flags(made.data, path or made.checkpoint, *more)
    return cli.run("generate", *flags, check=check, log=made.log)


def load(made, name):
    return cli.load(made.folder / name / "checkpoint_last.pt")


def load_model(path, **overrides):
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], overrides)
    return model.eval(), task


def assert_same_hypotheses(got, expected, tolerance=2e-4):
    """Both as cli.best gives them. The tolerance is that of the printed scores."""
    assert got.keys() == expected.keys()
    for i, (score, text) in expected.items():
        assert got[i][1] == text
        assert got[i][0] == pytest.approx(score, abs=tolerance)


def references(made):
    with open(made.folder / "raw" / "test.yy") as f:
        return f.read().splitlines()


def sources(made):
    with open(made.folder / "raw" / "test.xx") as f:
        return f.read().splitlines()


# Training


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


# A tensor never given a value, and second copies of the encoder's weights, made when a checkpoint is loaded.
IDLE_IN_OLD_FAIRSEQ = r"_float_tensor$|^encoder\.layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)$"


def is_idle(key):
    return OLD_FAIRSEQ and bool(re.search(IDLE_IN_OLD_FAIRSEQ, str(key)))


def assert_equal(got, expected):
    assert type(got) is type(expected)
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for key in expected:
            if not is_idle(key):
                assert_equal(got[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(got) == len(expected)
        for pair in zip(got, expected):
            assert_equal(*pair)
    elif torch.is_tensor(expected):
        assert torch.equal(got, expected)
    else:
        assert got == expected


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


def test_layerdrop_and_pruning(made):
    more = ["--decoder-layers", 3, "--decoder-layerdrop", 0.5, "--encoder-layerdrop", 0.2]
    losses = cli.losses(train(made, "layerdrop", *more, updates=30).stdout)
    assert losses[-1] < losses[0] - 0.5
    path = made.folder / "layerdrop" / "checkpoint_last.pt"
    whole = generate(made, "--score-reference", path=path)
    overrides = "{'encoder_layers_to_keep': '0', 'decoder_layers_to_keep': '0'}"
    pruned = generate(made, "--score-reference", "--model-overrides", overrides, path=path)
    assert cli.best(pruned.stdout) != cli.best(whole.stdout)
    # A pruned layer is one that is dropped every time.
    scores = forced_scores(made, path, references(made), kept=[True, False, False])
    for i, positions in cli.position_scores(pruned.stdout).items():
        assert positions == pytest.approx(scores[i], abs=2e-4)


def forced_scores(made, path, translations, kept=None):
    """log2 probabilities of given translations' words and ends, by teacher forcing."""
    model, task = load_model(path, data=str(made.data))
    if kept is not None:
        model.decoder.draw_layers = lambda: kept
    scores = {}
    for i, pair in enumerate(zip(sources(made), translations)):
        source, target = encode(task, *pair)
        with torch.no_grad():
            net_output = model(source[None], torch.tensor([len(source)]), target.roll(1)[None])
            probs = model.get_normalized_probs(net_output, log_probs=True)[0]
        scores[i] = [probs[t, word].item() / math.log(2) for t, word in enumerate(target)]
    return scores


def encode(task, source, target):
    """A pair of sentences as numbers, each with the end at its end."""
    return (
        task.source_dictionary.encode_line(source, add_if_not_exist=False).long(),
        task.target_dictionary.encode_line(target, add_if_not_exist=False).long(),
    )


# A warm start


@pytest.mark.parametrize("unshared", [False, True], ids=["shared", "unshared"])
def test_start_from_a_transformer(made, transformer, unshared):
    more = ["--finetune-from-model", transformer, "--lr-scheduler", "fixed", "--lr", 0]
    if unshared:
        more.append("--unshared-memory-kv")
    name = "unshared" if unshared else "shared"
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
    assert torch.equal(new["decoder.memory.layer_weights"], torch.zeros(3))
    assert_equal({key: new[key] for key in old}, dict(old))
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


# Generation


def test_generation(made):
    found = cli.best(made.generation)
    assert sorted(found) == list(range(8))
    lengths = {len(text.split()) for _, text in found.values()}
    assert len(lengths) > 1  # or the tests below would not see much
    scores = forced_scores(made, made.checkpoint, [found[i][1] for i in range(8)])
    for i, positions in cli.position_scores(made.generation).items():
        score, text = found[i]
        assert positions == pytest.approx(scores[i], abs=2e-4)
        assert score == pytest.approx(sum(positions) / len(positions), abs=2e-4)
    assert "Generate test with beam=5: BLEU" in cli.last_line(made.generation)


def test_score_reference(made):
    stdout = generate(made, "--score-reference").stdout
    assert {i: text for i, (_, text) in cli.best(stdout).items()} == dict(
        enumerate(references(made))
    )
    scores = forced_scores(made, made.checkpoint, references(made))
    for i, positions in cli.position_scores(stdout).items():
        assert positions == pytest.approx(scores[i], abs=2e-4)


@pytest.mark.parametrize(
    "more",
    [["--batch-size", 1], ["--batch-size", 8], ["--max-tokens", 20, "--batch-size", 100]],
    ids=["1", "8", "tokens"],
)
def test_batches_do_not_matter(made, more):
    got = generate(made, *more)
    assert_same_hypotheses(cli.best(got.stdout), cli.best(made.generation))


def test_prefix(made):
    found = cli.best(generate(made, "--prefix-size", 1).stdout)
    free = cli.best(made.generation)
    wanted = [text.split()[0] for text in references(made)]
    assert [found[i][1].split()[0] for i in range(8)] == wanted
    assert [free[i][1].split()[0] for i in range(8)] != wanted


def test_sampling(made):
    def sample(*more):
        return generate(made, "--sampling", "--beam", 1, *more).stdout

    greedy = cli.best(generate(made, "--beam", 1).stdout)
    assert_same_hypotheses(cli.best(sample("--sampling-topk", 1)), greedy)
    assert_same_hypotheses(cli.best(sample("--sampling-topp", 1e-4)), greedy)
    free = [cli.texts(sample("--sampling-topk", 5, "--seed", seed)) for seed in (1, 1, 2)]
    assert free[0] == free[1] != free[2]


def test_diverse_beams(made):
    def search(groups):
        # In one batch: fairseq's diverse search fails if the test set is several.
        more = ["--batch-size", 8, "--nbest", 5, "--diverse-beam-groups", groups]
        return generate(made, *more).stdout

    alike, diverse = cli.texts(search(1)), cli.texts(search(5))
    assert all(len(found) == 5 for found in (*alike.values(), *diverse.values()))
    assert alike != diverse


def test_no_repeated_ngrams(made):
    more = ["--min-len", 9, "--no-repeat-ngram-size", 2]
    for _, text in cli.best(generate(made, *more).stdout).values():
        words = text.split()
        pairs = list(zip(words, words[1:]))
        assert len(set(pairs)) == len(pairs)


def test_half_precision_generation(made):
    exact = cli.best(generate(made, "--score-reference").stdout)
    half = cli.best(generate(made, "--score-reference", "--fp16").stdout)
    assert_same_hypotheses(half, exact, tolerance=0.02)
    assert half != exact
    assert len(cli.best(generate(made, "--fp16").stdout)) == 8


def test_alignment(made):
    stdout = generate(made, "--print-alignment", "hard").stdout
    assert_same_hypotheses(cli.best(stdout), cli.best(made.generation))
    model, task = load_model(made.checkpoint, data=str(made.data))
    for i, ((pairs,),) in cli.hypotheses(stdout, "A").items():
        source, target = encode(task, sources(made)[i], cli.best(stdout)[i][1])
        with torch.no_grad():
            _, extra = model(source[None], torch.tensor([len(source)]), target.roll(1)[None])
        attn = extra["attn"][0][0]
        # Word t is aligned with what the step that wrote it looked at most, the ends left out.
        assert [tuple(map(int, pair.split("-"))) for pair in pairs.split()] == [
            (attn[t, : len(source) - 1].argmax().item(), t) for t in range(len(target) - 1)
        ]


def test_dropout_at_test_time(made):
    def score(*more):
        return cli.best(generate(made, "--score-reference", *more).stdout)

    plain = score()
    dropped = [score("--retain-dropout", "--seed", seed) for seed in (1, 2)]
    assert plain != dropped[0] != dropped[1]
    modules = ["--retain-dropout", "--retain-dropout-modules", "FeedbackDecoderLayer"]
    assert score(*modules) not in [plain, *dropped]
    assert len(cli.best(generate(made, *modules).stdout)) == 8


def test_ensembles(made, transformer):
    twice = generate(made, path=f"{made.checkpoint}:{made.checkpoint}")
    assert_same_hypotheses(cli.best(twice.stdout), cli.best(made.generation))
    train(made, "second", "--seed", 2, "--unshared-memory-kv", updates=10)
    first = forced_scores(made, made.checkpoint, references(made))
    for other in (made.folder / "second" / "checkpoint_last.pt", transformer):
        second = forced_scores(made, other, references(made))
        path = f"{made.checkpoint}:{other}"
        both = generate(made, "--score-reference", path=path)
        for i, positions in cli.position_scores(both.stdout).items():
            mean = [math.log2((2**p + 2**q) / 2) for p, q in zip(first[i], second[i])]
            assert positions == pytest.approx(mean, abs=3e-4)
        assert len(cli.best(generate(made, path=path).stdout)) == 8


def test_interactive(made):
    flags = cli.generate_flags(made.data, made.checkpoint, "--buffer-size", 4)
    stdin = "".join(line + "\n" for line in sources(made))
    stdout = cli.shell("interactive", *flags, stdin=stdin).stdout
    assert_same_hypotheses(cli.best(stdout), cli.best(made.generation))


@pytest.mark.parametrize("kind", ["ordered", "unordered"])
def test_constraints(made, kind):
    wanted = [("DU", "BE"), ("GA", "BI")]
    stdin = "".join("\t".join((s, *w)) + "\n" for s, w in zip(sources(made), wanted))
    flags = cli.generate_flags(made.data, made.checkpoint, "--constraints", kind)
    flags += ["--buffer-size", 4]
    stdout = cli.run("interactive", *flags, stdin=stdin, log=made.log).stdout
    for i, words in enumerate(wanted):
        text = cli.best(stdout)[i][1].split()
        assert set(words) <= set(text)
        if kind == "ordered":
            assert words[1] in text[text.index(words[0]) :]


def test_from_pretrained(made):
    hub = FeedbackTransformerModel.from_pretrained(
        str(made.checkpoint.parent), made.checkpoint.name, data_name_or_path=str(made.data)
    )
    got = hub.translate(sources(made), beam=5, max_len_b=10)
    assert got == [cli.best(made.generation)[i][1] for i in range(8)]


# Another way to configure


def hydra_train(made, name, *more):
    """A training configured by hydra -> its last checkpoint."""
    save_dir = made.folder / name
    cli.run(
        "hydra_train",
        *(f"hydra.run.dir={save_dir}_run", f"checkpoint.save_dir={save_dir}"),
        *(f"common.user_dir={cli.PACKAGE}", "common.cpu=true", "dataset.num_workers=0"),
        *("task=translation", f"task.data={made.data}"),
        *("dataset.batch_size=8", "dataset.required_batch_size_multiple=1"),
        *("criterion=label_smoothed_cross_entropy", "criterion.label_smoothing=0.1"),
        *("optimizer=adam", "optimization.lr=[0.003]", *more),
        log=made.log,
    )
    return save_dir / "checkpoint_last.pt"


def are_rounded(path, dtype):
    """Whether the weights were of that type in training: fairseq saves them as float32."""
    weights = [value for value in cli.load(path)["model"].values() if value.is_floating_point()]
    return all(torch.equal(value, value.to(dtype).to(value.dtype)) for value in weights)


def test_hydra(made):
    small = dict(encoder_embed_dim=16, encoder_layers=1, decoder_layers=2, memory_span=3)
    model = ["+model._name=feedback_transformer_iwslt_de_en"]
    model += [f"+model.{name}={value}" for name, value in small.items()]
    path = hydra_train(made, "hydra", *model, "optimization.max_update=2")
    model, _ = load_model(path, data=str(made.data))
    assert isinstance(model, FeedbackTransformerModel)
    decoder = model.decoder
    assert (decoder.num_layers, decoder.embed_dim, decoder.memory_span) == (2, 16, 3)
    # What was not given is the architecture's.
    assert (decoder.heads, decoder.ffn_width, decoder.layer_dropout.p) == (4, 1024, 0.3)
    assert model.encoder.layers[0].self_attn.num_heads == 4
    assert model.encoder.layers[0].dropout_module.p == 0.3
    assert len(cli.best(generate(made, path=path).stdout)) == 8


def test_bfloat16(made):
    train(made, "bf16", "--bf16", "--max-update", 40)
    path = made.folder / "bf16" / "checkpoint_last.pt"
    assert are_rounded(path, torch.bfloat16)
    assert not are_rounded(made.checkpoint, torch.bfloat16)
    scores = cli.best(generate(made, "--score-reference", path=path).stdout)
    # An even guess among 24 words costs log2(24) = 4.6 a word.
    assert sum(score for score, _ in scores.values()) / len(scores) > -4
    assert len(cli.best(generate(made, path=path).stdout)) == 8


# Mistakes


def assert_mistake(done, *names):
    """It failed, and the last that it said is one sentence of ours with these names in it."""
    line = cli.last_line(done.stderr)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert line.startswith("error: ")
    for name in names:
        assert str(name) in line
    return line


def left_behind(folder):
    return glob.glob(os.path.join(str(folder), "*.pt*"))


@pytest.mark.parametrize(
    "names, more",
    [
        (["--memory-span -1"], ["--memory-span", -1]),
        (
            ["--decoder-attention-heads 3", "--decoder-embed-dim 16"],
            ["--decoder-attention-heads", 3],
        ),
        (["--dropout 1.5"], ["--dropout", 1.5]),
        (["--quant-noise-pq"], ["--quant-noise-pq", 0.1]),
        (["--cross-self-attention"], ["--cross-self-attention"]),
        (["--base-layers"], ["--base-layers=1"]),
    ],
    ids=lambda value: value[0].split()[0].strip("-"),
)
def test_impossible_options(made, names, more):
    done = train(made, "mistake", *more, check=False)
    line = assert_mistake(done, *names)
    if len(more) == 1 or more[0].startswith("--quant"):
        assert "not supported by feedback_transformer" in line
    assert left_behind(made.folder / "mistake") == []


def test_a_mistake_in_a_process_of_its_own(made):
    flags = cli.train_flags(made.data, made.folder / "mistake", "--memory-span", -1)
    assert_mistake(cli.shell("train", *flags, check=False), "--memory-span -1")


def test_unknown_activation(made):
    done = train(made, "mistake", "--activation-fn", "nonsense", check=False)
    assert done.returncode == 2
    assert "argument --activation-fn: invalid choice: 'nonsense'" in cli.last_line(done.stderr)
    assert left_behind(made.folder / "mistake") == []


def test_checkpoint_cut_in_half(made):
    folder = made.folder / "cut"
    folder.mkdir()
    path = folder / "checkpoint_last.pt"
    half = made.checkpoint.read_bytes()[: made.checkpoint.stat().st_size // 2]
    path.write_bytes(half)
    assert "damaged" in assert_mistake(generate(made, path=path, check=False), path)
    assert "damaged" in assert_mistake(train(made, "cut", check=False), path)
    assert left_behind(folder) == [str(path)]
    assert path.read_bytes() == half


def test_data_with_another_dictionary(made):
    other = cli.make_data(made.folder / "other", words=cli.WORDS[:5])
    sizes = ["dictionary has 24 entries, the data's has 16", "dict.*.txt"]
    flags = cli.generate_flags(other, made.checkpoint)
    assert_mistake(cli.run("generate", *flags, check=False, log=made.log), *sizes)
    shutil.copytree(str(made.checkpoint.parent), str(made.folder / "other" / "save"))
    before = cli.load(made.checkpoint)["model"]
    flags = cli.train_flags(other, made.folder / "other" / "save", updates=200)
    assert_mistake(cli.run("train", *flags, check=False, log=made.log), *sizes)
    after = cli.load(made.folder / "other" / "save" / "checkpoint_last.pt")["model"]
    assert_equal(dict(after), dict(before))


@pytest.mark.parametrize("command", ["generate", "interactive"])
def test_source_too_long(made, command):
    flags = cli.generate_flags(made.data, made.checkpoint, "--max-source-positions", 4)
    flags += ["--buffer-size", 4] if command == "interactive" else []
    stdin = "ba be bi bo bu da\n"
    done = cli.run(command, *flags, stdin=stdin, check=False, log=made.log)
    assert_mistake(done, "is invalid", "max_positions=(4, 1024)", "--skip-invalid-size-inputs")


def test_wrong_user_dir(made):
    """The host's own message, which ends a trace: nothing of ours is loaded."""
    flags = cli.train_flags(made.data, made.folder / "mistake", "--user-dir", "/no/such/folder")
    done = cli.run("train", *flags, check=False, log=made.log)
    assert done.returncode != 0
    assert "/no/such/folder" in cli.last_line(done.stderr)
    assert left_behind(made.folder / "mistake") == []


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
