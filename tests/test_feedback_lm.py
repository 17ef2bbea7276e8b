"""The task feedback_lm: the commands that train, evaluate and sample language models."""

import os
import re
import shutil
from types import SimpleNamespace

import cli
import pytest
import torch

from fairseq_feedback.models.feedback_transformer_lm import FeedbackLanguageModel

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    data = cli.make_text(folder)
    flags = cli.train_lm_flags(data, folder / "checkpoints", updates=40)
    training = cli.run("train", *flags, log=folder / "log").stdout
    checkpoint = folder / "checkpoints" / "checkpoint_last.pt"
    return SimpleNamespace(folder=folder, data=data, log=folder / "log", training=training, checkpoint=checkpoint)


def train(made, name, *more, check=True, **flags):
    flags = cli.train_lm_flags(made.data, made.folder / name, *more, **flags)
    return cli.run("train", *flags, check=check, log=made.log)


def load(made, name):
    return cli.load(made.folder / name / "checkpoint_last.pt")


def eval_lm(made, *more, path=None, check=True):
    flags = [*cli.common_flags(made.data), "--task", "feedback_lm", "--path", path or made.checkpoint, *more]
    return cli.run("eval_lm", *flags, check=check, log=made.log)


def loss_of(done):
    return float(re.search(r"Loss \(base 2\): ([\d.]+)", done.stdout + done.stderr)[1])


def interactive(made, prompt, *more, path=None, check=True):
    flags = [*cli.common_flags(made.data), "--task", "feedback_lm", "--path", path or made.checkpoint, *more]
    return cli.run("interactive", *flags, stdin=prompt, check=check, log=made.log)


def tokens_in(made, split="test"):
    with open(os.path.join(made.folder, "text-raw", split + ".xx")) as f:
        return sum(len(line.split()) + 1 for line in f)


def test_training_learns_and_counts_every_token(made):
    losses = cli.losses(made.training)
    assert losses[-1] < losses[0]
    epoch = cli.logged(made.training, "train")[0]
    inner = [s for s in cli.logged(made.training, "train_inner") if float(s["epoch"]) == 1]
    assert sum(float(s["wpb"]) for s in inner) == tokens_in(made, "train")
    assert float(epoch["train_loss"]) > 0
    valid = cli.logged(made.training, "valid")[-1]
    # "ba be": as many characters as letters and spaces; a word is a token.
    assert float(valid["valid_bits_per_char"]) < float(valid["valid_loss"])
    assert valid["valid_bits_per_byte"] == valid["valid_bits_per_char"]


@pytest.fixture(scope="module")
def loss_by_blocks_of_4(made):
    return loss_of(eval_lm(made, "--tokens-per-sample", 4))


@pytest.mark.parametrize("length", [1, 3, 7, 1000])
def test_the_same_perplexity_for_any_block_length(made, loss_by_blocks_of_4, length):
    done = eval_lm(made, "--tokens-per-sample", length)
    assert loss_of(done) == loss_by_blocks_of_4
    tokens = tokens_in(made)
    assert f"{tokens} tokens in 1 streams" in done.stdout + done.stderr
    assert f"Evaluated {tokens} tokens" in done.stdout + done.stderr
    assert "bits per character" in done.stdout + done.stderr


def valid_loss(made, path, *more):
    """Of the test set, by fairseq-validate."""
    flags = [*cli.common_flags(made.data), "--task", "feedback_lm", "--path", path, "--valid-subset", "test", *more]
    stdout = cli.run("validate", *flags, "--batch-size", 1, "--tokens-per-sample", 3, log=made.log).stdout
    (line,) = [line for line in stdout.splitlines() if "| test |" in line and "| loss" in line]
    assert "bits_per_char" in line
    return float(line.split("| loss ")[1].split(" |")[0])


def test_validate_and_eval_lm_agree(made):
    expected = loss_of(eval_lm(made))
    assert valid_loss(made, made.checkpoint) == pytest.approx(expected, abs=6e-4)
    assert valid_loss(made, made.checkpoint, "--max-tokens", 60) == pytest.approx(expected, abs=6e-4)


def test_several_streams_know_less(made):
    one = loss_of(eval_lm(made, "--tokens-per-sample", 3))
    several = loss_of(eval_lm(made, "--tokens-per-sample", 3, "--batch-size", 5))
    assert one != several and several == pytest.approx(one, abs=0.2)


@pytest.mark.parametrize("saved", [True, False], ids=["saved", "replayed"])
def test_resumed_in_mid_epoch(made, saved):
    """With the memory in the checkpoint, to the bit; without, from a memory that is close."""
    name = f"resumed-{saved}"
    more = ["--save-memory-mb", 64 if saved else 0]
    whole = train(made, f"whole-{saved}", *more, updates=8)
    first = train(made, name, *more, updates=4)
    resumed = train(made, name, *more, updates=8)
    assert ("is not saved: more than --save-memory-mb 0" in first.stdout + first.stderr) != saved
    said = resumed.stdout + resumed.stderr
    assert ("the carried memory of 4 streams is that of the checkpoint" in said) == saved
    assert ("rebuilt by replaying the 10 tokens before" in said) != saved
    tolerance = 0 if saved else 0.1
    assert cli.losses(resumed.stdout) == pytest.approx(cli.losses(whole.stdout)[4:], abs=tolerance)
    if saved:
        expected, got = load(made, f"whole-{saved}")["model"], load(made, name)["model"]
        for key in expected:
            assert torch.equal(got[key], expected[key]), key
    state = load(made, name)
    assert bool(state["extra_state"]["train_iterator"]["memory"]) == saved
    if saved:  # an average of checkpoints has none
        del state["extra_state"]["train_iterator"]["memory"]
        (made.folder / "without").mkdir()
        torch.save(state, made.folder / "without" / "checkpoint_last.pt")
        done = train(made, "without", *more, updates=9)
        assert "rebuilt by replaying the 10 tokens before" in done.stdout + done.stderr


def test_resuming_with_other_streams_in_mid_epoch_is_refused(made):
    train(made, "streams", updates=3)
    done = train(made, "streams", "--batch-size", 3, updates=6, check=False)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "--reset-dataloader" in cli.last_line(done.stderr) and "4 streams" in done.stderr
    train(made, "streams", "--batch-size", 2, "--update-freq", 2, updates=6)  # the same streams


def test_short_blocks_first(made):
    more = ["--bptt-warmup-epochs", 1, "--tokens-per-sample", 6, "--max-epoch", 2]
    done = train(made, "warmup", *more, updates=1000)
    tokens = [float(stats["wpb"]) for stats in cli.logged(done.stdout, "train_inner")]
    change = tokens.index(24.0)  # 4 streams
    assert set(tokens[: change - 1]) == {12.0} and set(tokens[change:-1]) == {24.0}
    assert sum(tokens[:change]) == sum(tokens[change:]) == tokens_in(made, "train")


def test_validation_and_epochs_leave_the_memory_of_training_alone(made):
    """Validating in mid-epoch changes nothing; an epoch begins without the memory of the one before."""
    more = ["--lr", 1e-12, "--attention-dropout", 0, "--activation-dropout", 0, "--max-epoch", 2]
    plain = cli.losses(train(made, "plain", *more, updates=1000).stdout)
    flags = ["--validate-interval-updates", 2, "--batch-size-valid", 2, "--valid-subset", "valid,train"]
    done = train(made, "validating", *more, *flags, updates=1000)
    assert cli.losses(done.stdout) == plain
    half = len(plain) // 2
    assert plain[:half] == plain[half:], "the weights hardly move, so both epochs are the same"


@pytest.mark.parametrize(
    "more",
    [["--bf16"], ["--num-workers", 1], ["--checkpoint-activations"], ["--update-freq", "2,1"], ["--max-tokens", 10]],
    ids=lambda more: more[0],
)
def test_trains_with(made, more):
    name = "with" + str(more[0])
    losses = cli.losses(train(made, name, *more, "--max-epoch", 1, updates=30).stdout)
    assert losses[-1] < losses[0]
    resumed = train(made, name, *more, updates=len(losses) + 3).stdout
    assert len(cli.losses(resumed)) == 3


def test_mid_epoch_of_another_task_is_refused(made):
    train(made, "other", "--task", "language_modeling", updates=2)
    done = train(made, "other", updates=4, check=False)
    assert done.returncode != 0 and "--reset-dataloader" in cli.last_line(done.stderr)
    assert len(cli.losses(train(made, "other", "--reset-dataloader", updates=4).stdout)) == 2


def test_a_pruned_model_keeps_its_spans(made):
    more = ["--adaptive-span", "--adaptive-span-start", 3, "--adaptive-span-ramp", 2, "--decoder-layerdrop", 0.3]
    train(made, "pruned", *more, updates=4)
    path = made.folder / "pruned" / "checkpoint_last.pt"
    done = eval_lm(made, "--model-overrides", "{'decoder_layers_to_keep': '1'}", path=path)
    assert loss_of(done) > 0


def test_hub_interface(made):
    model = FeedbackLanguageModel.from_pretrained(str(made.folder / "checkpoints"), "checkpoint_last.pt", made.data)
    text = model.sample("ba be", beam=2, max_len_b=9)
    assert text.startswith("ba be")
    assert len(model.score("ba be bi")["positional_scores"]) == 3


def test_learned_spans_are_logged_and_held_down(made):
    more = ["--adaptive-span", "--adaptive-span-ramp", 2, "--adaptive-span-start", 4, "--lr", 0.003]
    spans = {}
    for weight in (0, 0.5):
        done = train(made, f"spans-{weight}", *more, "--adaptive-span-loss", weight, updates=20)
        stats = cli.logged(done.stdout, "train_inner")
        spans[weight] = float(stats[-1]["span_mean"])
        assert 0 <= spans[weight] <= float(stats[-1]["span_longest"]) <= 6
    assert spans[0.5] < spans[0] - 0.1
    state = load(made, "spans-0.5")
    assert state["model"]["decoder.memory.adaptive_span.ratios"].shape == (2, 2)
    eval_lm(made, path=made.folder / "spans-0.5" / "checkpoint_last.pt")


@pytest.mark.parametrize("tied", [pytest.param(False, marks=pytest.mark.slow), True])
def test_adaptive_input_and_softmax(made, tied):
    more = ["--adaptive-input", "--adaptive-softmax-cutoff", "8,14", "--adaptive-softmax-factor", 2]
    more += ["--adaptive-input-factor", 2] + (["--tie-adaptive-weights", "--tie-adaptive-proj"] if tied else [])
    name = f"adaptive-{tied}"
    done = train(made, name, *more, updates=30)
    losses = cli.losses(done.stdout)
    assert losses[-1] < losses[0]
    path = made.folder / name / "checkpoint_last.pt"
    evaluated = [loss_of(eval_lm(made, "--tokens-per-sample", n, path=path)) for n in (2, 100)]
    assert evaluated[0] == pytest.approx(evaluated[1], abs=2e-4)
    assert "H-0" in interactive(made, "ba be\n", "--beam", 2, "--max-len-b", 8, path=path).stdout
    assert valid_loss(made, path) == pytest.approx(evaluated[0], abs=6e-4)
    # fairseq's adaptive_loss leaves out the second word of every band but the first.
    stock = ["--criterion", "adaptive_loss", "--ddp-backend", "legacy_ddp"]
    stock = cli.losses(train(made, name + "-stock", *more, *stock).stdout)
    assert 0 < stock[0] < losses[0] - 0.05
    half = cli.losses(train(made, name + "-half", *more, "--bf16").stdout)
    assert half == pytest.approx(losses[:6], rel=0.01)


def test_the_tasks_of_fairseq_work_too(made):
    more = ["--task", "language_modeling", "--criterion", "cross_entropy", "--sample-break-mode", "none"]
    losses = cli.losses(train(made, "stock", *more, updates=20).stdout)
    assert losses[-1] < losses[0]
    flags = ["--task", "language_modeling", "--tokens-per-sample", 6]
    path = made.folder / "stock" / "checkpoint_last.pt"
    assert loss_of(eval_lm(made, *flags, path=path)) > 0
    assert loss_of(eval_lm(made, *flags, "--context-window", 3, path=path)) > 0


def test_a_transformer_trains_on_the_same_streams(made):
    flags = [f for f in cli.train_lm_flags(made.data, made.folder / "xfmr", updates=10)]
    start = flags.index("--memory-span")
    del flags[start : start + 2]
    flags += ["--arch", "transformer_lm"]
    losses = cli.losses(cli.run("train", *flags, log=made.log).stdout)
    assert losses[-1] < losses[0]
    path = made.folder / "xfmr" / "checkpoint_last.pt"
    assert loss_of(eval_lm(made, "--tokens-per-sample", 5, path=path)) > 0


def test_states_of_every_layer_are_carried(made):
    """By a model that is a transformer: to the bit over a stop in mid-epoch, and whatever the block."""
    more = ["--memory-composition", "own", "--unshared-memory-kv"]
    whole = cli.losses(train(made, "own", *more, updates=6).stdout)
    train(made, "own-resumed", *more, updates=3)
    assert cli.losses(train(made, "own-resumed", *more, updates=6).stdout) == whole[3:]
    path = made.folder / "own" / "checkpoint_last.pt"
    losses = {loss_of(eval_lm(made, "--tokens-per-sample", length, path=path)) for length in (2, 1000)}
    assert len(losses) == 1
    train(made, "absolute", *more, "--positions", "sinusoidal", updates=3)
    assert load(made, "absolute")["extra_state"]["train_iterator"]["memory"] == {}


def test_learned_positions_are_as_many_as_in_training(made):
    """Whatever the blocks of the evaluation."""
    train(made, "learned", "--positions", "learned", "--task", "language_modeling", "--tokens-per-sample", 8, updates=2)
    path = made.folder / "learned" / "checkpoint_last.pt"
    for more in (["--context-window", 2], []):
        done = eval_lm(made, "--task", "language_modeling", *more, "--tokens-per-sample", 6, path=path)
        assert loss_of(done) > 0


def test_more_learned_positions_than_a_block_has(made):
    more = ["--task", "language_modeling", "--positions", "learned", "--tokens-per-sample", 8]
    train(made, "longer", *more, "--max-target-positions", 20, updates=2)
    path = made.folder / "longer" / "checkpoint_last.pt"
    assert cli.load(path)["model"]["decoder.embed_positions.weight"].size(0) == 20 + 2
    assert loss_of(eval_lm(made, "--task", "language_modeling", "--tokens-per-sample", 20, path=path)) > 0


# ---------------------------------------------------------------- generation


def test_interactive_goes_on_from_a_prompt_longer_than_the_span(made):
    prompt = " ".join(["ba be bi bo"] * 5)  # the span is 6
    done = interactive(made, prompt + "\nbu\n", "--beam", 3, "--max-len-b", 30)
    found = cli.texts(done.stdout)
    assert found[0][0].startswith(prompt) and found[1][0].startswith("bu")
    short = interactive(made, prompt + "\n", "--max-len-b", 10, check=False)
    assert "a prompt has 20 symbols, and the text with it ends at 10" in cli.last_line(short.stderr)
    sampled = interactive(
        made, prompt + "\n", "--beam", 1, "--sampling", "--sampling-topk", 5, "--max-len-b", 40, "--min-len", 40
    )
    assert len(cli.texts(sampled.stdout)[0][0].split()) == 40


def test_generate_takes_lines_as_prompts(made):
    flags = [*cli.common_flags(made.data), "--task", "feedback_lm", "--path", made.checkpoint, "--batch-size", 4]
    flags += ["--beam", 2, "--max-len-b", 12, "--prefix-size", 2, "--gen-subset", "test"]
    done = cli.run("generate", *flags, "--sample-break-mode", "eos", log=made.log)
    with open(made.folder / "text-raw" / "test.xx") as f:
        lines = f.read().splitlines()
    found = cli.texts(done.stdout)
    assert len(found) == len(lines)
    for i, line in enumerate(lines):
        assert found[i][0].split()[:2] == line.split()[:2]
    refused = cli.run("generate", *flags, check=False, log=made.log)
    assert refused.returncode != 0 and "--sample-break-mode eos" in cli.last_line(refused.stderr)


def test_batched_generation_equals_single(made):
    prompts = "ba\nbe bi bo bu da\nde di\n"
    flags = ["--beam", 3, "--max-len-b", 12]
    single = cli.best(interactive(made, prompts, *flags).stdout)
    batched = cli.best(interactive(made, prompts, *flags, "--buffer-size", 3, "--batch-size", 3).stdout)
    assert len(single) == 3
    for i, (score, text) in single.items():
        assert batched[i][1] == text and batched[i][0] == pytest.approx(score, abs=2e-4)


def test_characters_read_as_text(tmp_path):
    raw, data = tmp_path / "raw", tmp_path / "data"
    os.makedirs(raw)
    text = ["to be or not to be\n", "that is the question\n"] * 6
    with open(raw / "text", "w") as f:
        f.writelines(" ".join(line.strip().replace(" ", "▁")) + "\n" for line in text)
    flags = ["--only-source", "--destdir", data, "--trainpref", raw / "text", "--validpref", raw / "text"]
    cli.run("preprocess", *flags, log=tmp_path / "log")
    checkpoint = tmp_path / "c" / "checkpoint_last.pt"
    made = SimpleNamespace(folder=tmp_path, data=data, log=tmp_path / "log", checkpoint=checkpoint)
    train(made, "c", "--tokens-per-sample", 20, "--symbols", "characters", updates=30)
    flags = ["--bpe", "characters", "--beam", 1, "--max-len-b", 30]
    found = cli.hypotheses(interactive(made, "to be or\n", *flags).stdout, "D")[0][0][1]
    assert found.startswith("to be or") and "▁" not in found
    done = eval_lm(made, "--symbols", "characters", "--gen-subset", "valid")
    assert "bits per character are 1.000000 × the loss of a token" in done.stdout + done.stderr
    refused = interactive(made, "XYZ\n", *flags, check=False)
    assert "no symbol of the prompt is in the dictionary" in cli.last_line(refused.stderr)
    warned = interactive(made, "to Xe\n", *flags)
    assert "not in the dictionary: number 4 of the prompt's symbols" in warned.stdout + warned.stderr


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "more, said",
    [
        (["--batch-size", 400], "Give a smaller --batch-size"),
        (["--memory-span", 0], "--memory-span 0: give at least one step"),
        (["--positions", "learned"], "--positions learned: the last block of a stream may be longer"),
        (["--random-offset", "--sample-break-mode", "eos"], "--random-offset is of streams"),
        (["--tokens-per-sample", 0], "--tokens-per-sample 0: give at least one token"),
        (["--bptt-warmup-epochs", -1], "--bptt-warmup-epochs -1: give 0 or more"),
        (["--add-bos-token"], "--add-bos-token does not go with streams"),
        (["--shorten-method", "truncate"], "--shorten-method does not go with streams"),
        (["--adaptive-span-loss", 0.1], "--adaptive-span-loss needs a model with --adaptive-span"),
        (["--train-subset", "nothing"], "no such split"),
    ],
)
def test_mistakes_are_one_sentence(made, more, said):
    done = train(made, "mistakes", *more, check=False)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert said in cli.last_line(done.stderr) and cli.last_line(done.stderr).startswith("error: ")


def test_mistakes_of_data_and_evaluation(made, tmp_path):
    done = eval_lm(made, "--context-window", 3, check=False)
    assert done.returncode != 0 and "--context-window 3: leave it out" in cli.last_line(done.stderr)
    empty = tmp_path / "empty"
    empty.write_text("")
    flags = ["--only-source", "--destdir", tmp_path / "data", "--trainpref", empty]
    flags += ["--validpref", made.folder / "text-raw" / "valid.xx", "--srcdict", os.path.join(made.data, "dict.txt")]
    cli.run("preprocess", *flags, log=made.log)
    flags = cli.train_lm_flags(tmp_path / "data", tmp_path / "c", "--disable-validation")
    lacking = cli.run("train", *flags, check=False, log=made.log)
    assert lacking.returncode != 0 and "the split is empty" in cli.last_line(lacking.stderr)
    shutil.rmtree(tmp_path / "data")
    lacking = cli.run("train", *flags, check=False, log=made.log)
    assert "no dict.txt in that folder" in cli.last_line(lacking.stderr)
