"""Options of a search that no search can obey, and disks that cannot be written."""

import argparse
import subprocess
import sys

import cli
import pytest
from test_cli_mistakes import assert_mistake
from trained import generate, load_model

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.generation import limits

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(beam=0), "--beam 0: give at least 1"),
        (dict(beam=-1), "--beam -1: give at least 1"),
        (dict(nbest=0), "--nbest 0: give at least 1"),
        (dict(beam=2, nbest=3), "--nbest 3 is more than --beam 2: a search has no more hypotheses than that"),
        (dict(lenpen=float("nan")), "--lenpen nan: give a number"),
        (dict(lenpen=-11), "--lenpen -11: give a number from -10 to 10"),
        (dict(unkpen=-1e30), "--unkpen -1e+30: give at least -1000"),
        (dict(unkpen=float("inf")), "--unkpen inf: give a number"),
        (dict(temperature=0.0), "--temperature 0.0: give more than 0"),
        (dict(temperature=float("nan")), "--temperature nan: give a number"),
        (dict(min_len=-1), "--min-len -1: give at least 0"),
        (dict(max_len_a=-0.5), "--max-len-a -0.5: give at least 0"),
        (dict(no_repeat_ngram_size=-2), "--no-repeat-ngram-size -2: give at least 0"),
        (dict(prefix_size=-1), "--prefix-size -1: give at least 0"),
        (dict(diverse_beam_groups=2), "--diverse-beam-groups 2: --beam 5 must be a multiple of it"),
        (dict(sampling=True, sampling_topk=0), "--sampling-topk 0: give at least 1"),
        (dict(sampling=True, sampling_topp=1.5), "--sampling-topp 1.5: give more than 0, and 1 at most"),
        (dict(sampling_topk=3), "--sampling-topk 3: it needs --sampling"),
        (dict(sampling=True, match_source_len=True), "--sampling and --match-source-len: give one of them"),
        (
            dict(diversity_rate=0.5, diverse_beam_groups=5),
            "--diverse-beam-groups and --diversity-rate: give one of them",
        ),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_what_no_search_can_obey(options, sentence):
    with pytest.raises(FeedbackError) as caught:
        limits.check(argparse.Namespace(**options))
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(sampling=True, sampling_topk=10), "--sampling-topk 10: the vocabulary has 9 words"),
        (dict(beam=5, diversity_rate=0.5), "--diversity-rate with --beam 5: of 9 words at most half go on from a beam"),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_what_no_search_can_obey_with_few_words(options, sentence):
    with pytest.raises(FeedbackError) as caught:
        limits.check(argparse.Namespace(**options), vocabulary=9)
    assert str(caught.value) == sentence
    limits.check(argparse.Namespace(**options), vocabulary=10)


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(beam=1, nbest=1, lenpen=-0.5, unkpen=-3, temperature=0.1, min_len=0, max_len_b=0),
        dict(beam=4, nbest=4, diverse_beam_groups=2, diverse_beam_strength=0.5, diversity_rate=-1),
        dict(sampling=True, beam=5, sampling_topk=10, sampling_topp=-1.0),  # one of five, as from_pretrained draws it
        dict(sampling=True, sampling_topp=1.0, beam=3, nbest=3),
        dict(prefix_size=3, match_source_len=False, constraints=None),
    ],
    ids=str,
)
def test_what_a_search_can_obey(options):
    limits.check(argparse.Namespace(**options))


def test_commands(made):
    line = assert_mistake(generate(made, "--beam", 2, "--nbest", 5, check=False))
    assert line == "error: --nbest 5 is more than --beam 2: a search has no more hypotheses than that"
    line = assert_mistake(generate(made, "--sampling", "--beam", 2, check=False))
    assert line == "error: --sampling with --nbest 1 and --beam 2: they must be equal"


def test_a_search_from_python(made):
    model, task = load_model(made.checkpoint)
    with pytest.raises(FeedbackError, match="^--beam 0: give at least 1$"):
        task.build_generator([model], argparse.Namespace(beam=0))


def test_translate(made):
    flags = [*cli.common_flags(made.data), "--path", made.checkpoint, "--lenpen", "nan"]
    flags += ["--input", made.folder / "raw" / "test.xx", "--output", made.folder / "nan.yy"]
    done = cli.start_tool("translate", *flags, log=made.log).wait(check=False)
    assert_mistake(done, "--lenpen nan: give a number")
    assert not list(made.folder.glob("nan.yy*"))


def test_output_to_a_full_disk(made):
    command = [sys.executable, "-m", "fairseq_cli.generate", *map(str, cli.generate_flags(made.data, made.checkpoint))]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=cli.ROOT, timeout=300)
    assert_mistake(done, "No space left on device")


def test_a_folder_in_the_place_of_a_checkpoint(made):
    line = assert_mistake(generate(made, path=made.checkpoint.parent, check=False))
    assert line == f"error: checkpoint {made.checkpoint.parent} is a folder: give a file in it"
