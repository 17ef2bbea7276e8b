"""--decode-int8 and --bf16 of fairseq's commands."""

import os
from types import SimpleNamespace

import cli
import pytest
from fairseq import checkpoint_utils, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from helpers import needs_current_fairseq

from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel

pytestmark = [pytest.mark.core, needs_current_fairseq]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decode")
    log, data = folder / "log", cli.make_data(folder)
    paths = {}
    for name, arch in (("feedback", "feedback_transformer_tiny"), ("transformer", "transformer_tiny")):
        more = [] if name == "feedback" else ["--decoder-embed-dim", 16, "--decoder-ffn-embed-dim", 24]
        cli.run("train", *cli.train_flags(data, folder / name, *more, arch=arch, updates=40), log=log)
        paths[name] = folder / name / "checkpoint_last.pt"
    text = cli.make_text(folder)
    cli.run("train", *cli.train_lm_flags(text, folder / "lm", updates=3), log=log)
    return SimpleNamespace(folder=folder, log=log, data=data, text=text, lm=folder / "lm/checkpoint_last.pt", **paths)


def generate(made, *more, path=None, check=True):
    return cli.run("generate", *cli.generate_flags(made.data, path or made.feedback, *more), check=check, log=made.log)


@pytest.mark.parametrize("flags", [["--decode-int8"], ["--bf16"], ["--decode-int8", "--bf16"]], ids=" ".join)
def test_translations_are_nearly_the_same(made, flags):
    exact, rounded = cli.best(generate(made).stdout), cli.best(generate(made, *flags).stdout)
    assert exact.keys() == rounded.keys()
    assert exact != rounded  # the option does something
    for i, (score, _) in exact.items():
        assert rounded[i][0] == pytest.approx(score, abs=0.1)
    assert sum(text == rounded[i][1] for i, (_, text) in exact.items()) >= len(exact) - 2


def test_interactive_and_from_pretrained(made):
    with open(made.folder / "raw" / "test.xx") as f:
        source = f.read()
    flags = [*cli.common_flags(made.data), "--path", made.feedback, "--max-len-b", 10, "--decode-int8"]
    stdout = cli.run("interactive", *flags, stdin=source, log=made.log).stdout
    assert cli.best(stdout).keys() == cli.best(generate(made).stdout).keys()
    folder, name = os.path.split(made.feedback)
    model = FeedbackTransformerModel.from_pretrained(folder, name, made.data)
    model.models[0].decode_in_int8()
    texts = [model.translate(line, max_len_b=10) for line in source.splitlines()]
    want = [text for _, text in cli.best(stdout).values()]
    assert sum(a == b for a, b in zip(texts, want)) >= len(want) - 1  # other batches are rounded otherwise


def test_a_shortlist(made):
    raw, listed, output = made.folder / "raw", made.folder / "shortlist", made.folder / "translated"
    texts = ["--source", raw / "train.xx", "--target", raw / "train.yy", "--output", listed]
    cli.run_tool("shortlist", *texts, "--frequent", 1, "--best", 2, log=made.log)
    plain, chosen = (cli.best(generate(made, *more).stdout) for more in ([], ["--shortlist", listed]))
    assert plain.keys() == chosen.keys() and plain != chosen
    may_be = {line.split()[0]: set(line.split()[1:]) for line in listed.read_text().splitlines()}
    with open(raw / "test.xx") as f:
        source = f.read().splitlines()
    whole = set().union(may_be["<s>"], *(may_be.get(word, {word}) for line in source for word in line.split()))
    assert all(set(text.split()) <= whole for _, text in chosen.values())
    flags = ["--path", made.feedback, "--shortlist", made.folder / "nothing", "--input", raw / "test.xx"]
    done = cli.run_tool(
        "translate", *cli.common_flags(made.data), *flags, "--output", output, check=False, log=made.log
    )
    assert done.returncode != 0 and f"{made.folder / 'nothing'} cannot be read" in done.stderr and not output.exists()


def test_a_model_of_fairseqs_own_is_refused(made):
    done = generate(made, "--decode-int8", "--no-feedback-engine", path=made.transformer, check=False)
    assert done.returncode == 1
    assert cli.last_line(done.stderr) == (
        "error: --decode-int8: fairseq's own code decodes this checkpoint (--no-feedback-engine): leave it out"
    )


def test_ensemble_of_both_kinds_without_options(made):
    both = cli.best(generate(made, path=f"{made.feedback}:{made.transformer}").stdout)
    assert both.keys() == cli.best(generate(made).stdout).keys()


def test_a_language_model_in_bfloat16(made):
    flags = [*cli.common_flags(made.text), "--task", "feedback_lm", "--path", made.lm, "--gen-subset", "test"]
    losses = []
    for more in ([], ["--bf16"]):
        done = cli.run("eval_lm", *flags, *more, log=made.log)
        line = next(line for line in (done.stdout + done.stderr).splitlines() if "Loss (base 2)" in line)
        losses.append(float(line.split("Loss (base 2): ")[1].split(",")[0]))
    assert losses[0] != losses[1] == pytest.approx(losses[0], abs=0.1)


@pytest.mark.parametrize("flags", [["--decode-int8"], ["--shortlist", "list"]])
def test_what_is_not_for_scoring(made, flags):
    done = generate(made, *flags, "--score-reference", check=False)
    assert done.returncode == 1
    assert cli.last_line(done.stderr) == (
        f"error: {flags[0]} is for decoding, and --score-reference does not: leave one out"
    )


def test_two_models_of_one_process_are_asked_apart(made):
    """The option belongs to the command line that has it: one read later, or earlier, does not inherit it."""
    rounded, exact = [
        convert_namespace_to_omegaconf(
            options.parse_args_and_arch(
                options.get_generation_parser(),
                [str(flag) for flag in cli.generate_flags(made.data, made.feedback, *flags)],
            )
        )
        for flags in (["--decode-int8"], [])
    ]
    assert rounded.generation.decode_int8 and "decode_int8" not in exact.generation
    models = {}
    for cfg in (exact, rounded, exact):
        found, _, task = checkpoint_utils.load_model_ensemble_and_task([cfg.common_eval.path])
        found[0].prepare_for_inference_(cfg)
        task.build_generator(found, cfg.generation)
        assert found[0].decoder.int8 is found[0].encoder.int8 is (cfg is rounded)
        models[cfg is rounded] = found[0]
    assert models[True].decoder.int8 and not models[False].decoder.int8
    for int8 in (False, True):  # of the same model, as from_pretrained has it
        task.build_generator([models[True]], (rounded if int8 else exact).generation)
        assert models[True].decoder.int8 is models[True].encoder.int8 is int8
    models[True].decode_in_int8()
    task.build_generator([models[True]], exact.generation)
    assert models[True].decoder.int8


def test_what_is_trained_or_scored_is_not_rounded(made, caplog):
    """As --eval-bleu-args may ask for it: the losses of later validations would be of rounded weights."""
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(made.feedback)])
    task.build_generator(models, SimpleNamespace(decode_int8=True))
    assert not models[0].decoder.int8 and "--decode-int8 is left out" in caplog.text
    models[0].prepare_for_inference_(cfg)
    task.build_generator(models, SimpleNamespace(decode_int8=True))
    assert models[0].decoder.int8
    task.build_generator(models, SimpleNamespace(score_reference=True))
    assert not models[0].decoder.int8
