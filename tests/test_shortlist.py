"""--shortlist, and the tool that makes one."""

from types import SimpleNamespace

import pytest
import torch
from generation import generate, make_ending_model, make_sample, sentences
from helpers import make_dictionary

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.generation import commands
from fairseq_feedback.generation.generator import FeedbackGenerator
from fairseq_feedback.generation.shortlist import Shortlist
from fairseq_feedback.tools import command

pytestmark = pytest.mark.core


@pytest.fixture
def words():
    return make_dictionary()


def task_of(words):
    return SimpleNamespace(source_dictionary=words, target_dictionary=words)


def write(path, words, of, always=3):
    """of: for each word of the source, how many of the target's: those before it; always: how many for all."""
    symbols = words.symbols[words.nspecial :]
    lines = [["<s>", *symbols[:always]]] + [[s, *symbols[max(0, i - of + 1) : i + 1]] for i, s in enumerate(symbols)]
    path.write_text("\n".join(" ".join(line) for line in lines) + "\n", encoding="utf-8")
    return str(path)


def shortened(models, words, path, **options):
    made = FeedbackGenerator(models, words, beam_size=3, max_len_b=12, **options)
    commands.shorten(made, SimpleNamespace(shortlist=path), task_of(words))
    return made


def test_all_words_are_no_restriction(words, tmp_path):
    path = write(tmp_path / "list", words, of=1, always=len(words))
    model, sample = make_ending_model(words), make_sample(words, rows=6, source=30)
    generator = shortened([model], words, path)
    assert generator.shortlist.choose(sample["net_input"]["src_tokens"]).tolist() == list(range(len(words)))
    for got, want in zip(generator.generate([model], sample), generate(model, words, sample)):
        assert [h["tokens"].tolist() for h in got] == [h["tokens"].tolist() for h in want]
        torch.testing.assert_close([h["score"] for h in got], [h["score"] for h in want])


@pytest.mark.parametrize("int8", [False, True])
def test_scores_are_those_of_the_chosen(words, tmp_path, int8):
    path = write(tmp_path / "list", words, of=2)
    model = make_ending_model(words)
    if int8:
        model.float().decode_in_int8()
    generator = shortened([model], words, path)
    for source in sentences(make_sample(words, rows=3)):
        chosen = generator.shortlist.choose(source)
        assert words.nspecial + 3 <= len(chosen) < len(words)
        assert chosen[: words.nspecial].tolist() == list(range(words.nspecial))
        sample = {
            "id": torch.tensor([0]),
            "net_input": {"src_tokens": source, "src_lengths": torch.tensor([source.size(1)])},
        }
        (hypotheses,) = generator.generate([model], sample)
        for hypothesis in hypotheses:
            tokens = hypothesis["tokens"]
            assert torch.isin(tokens, chosen).all()
            prev = torch.cat([torch.tensor([words.eos()]), tokens[:-1]])[None]
            with torch.no_grad():
                scores, _ = model(source, torch.tensor([source.size(1)]), prev)
            lprobs = scores[0][:, chosen].log_softmax(dim=-1)
            want = lprobs[torch.arange(len(tokens)), torch.searchsorted(chosen, tokens)]
            torch.testing.assert_close(
                hypothesis["positional_scores"].double(), want.double(), rtol=0, atol=0.1 if int8 else 1e-4
            )


def test_a_name_may_stay_as_it_is(words, tmp_path):
    path = tmp_path / "list"
    symbols = words.symbols[words.nspecial :]
    path.write_text(f"<s> {symbols[0]}\n{symbols[1]} {symbols[2]}\n")
    numbers = [words.nspecial + i for i in (1, 5)]
    chosen = Shortlist(str(path), words, words).choose(torch.tensor([numbers]))
    assert chosen.tolist() == [*range(words.nspecial), *(words.nspecial + i for i in (0, 2, 5))]


def test_too_few_words_are_no_shortlist(words, tmp_path):
    path = tmp_path / "list"
    path.write_text(f"<s> {words[words.nspecial]}\n{words[words.nspecial + 1]} {words[words.nspecial]}\n")
    model = make_ending_model(words)
    generator = shortened([model], words, str(path))
    source = torch.tensor([[words.nspecial + 1, words.eos()]])
    sample = {"id": torch.tensor([0]), "net_input": {"src_tokens": source, "src_lengths": torch.tensor([2])}}
    (got,), (want,) = generator.generate([model], sample), generate(model, words, sample)
    assert [h["tokens"].tolist() for h in got] == [h["tokens"].tolist() for h in want]


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "cannot be read: No such file"),
        ("", "no line of <s>, or none of words"),
        ("<s> {0}\n", "no line of <s>, or none of words"),
        ("{0} {1}\n", "no line of <s>, or none of words"),
        ("<s> {0}\nstrange {0}\n", "no line of <s>, or none of words of the dictionary"),
    ],
)
def test_bad_files(words, tmp_path, content, said):
    path = tmp_path / "list"
    if content is not None:
        path.write_text(content.format(*words.symbols[words.nspecial :]))
    with pytest.raises(FeedbackError, match="list.*" + said):
        Shortlist(str(path), words, words)


def test_words_that_a_cut_dictionary_lacks_are_left_out(words, tmp_path):
    path = tmp_path / "list"
    path.write_text("<s> {0} rare\n{1} {0} strange\nodd {0}\n".format(*words.symbols[words.nspecial :]))
    first = words.nspecial
    known = Shortlist(str(path), words, words)
    assert known.choose(torch.tensor([first + 1])).tolist() == list(range(first + 1))
    assert list(known.of) == [first + 1]


def test_what_needs_all_words_is_refused(words, tmp_path):
    path = write(tmp_path / "list", words, of=2)
    model = make_ending_model(words)
    with pytest.raises(FeedbackError, match="--shortlist does not go with several models: leave it out"):
        shortened([model, model], words, path)
    for name, value in (("prefix_size", 1), ("no_repeat_ngram_size", 2)):
        options = SimpleNamespace(shortlist=path, **{name: value})
        with pytest.raises(FeedbackError, match="--shortlist does not go with --" + name.replace("_", "-")):
            commands.shorten(FeedbackGenerator([model], words), options, task_of(words))
    sample = make_sample(words)
    with pytest.raises(FeedbackError, match="words that are prescribed or forbidden"):
        shortened([model], words, path).generate([model], sample, prefix_tokens=torch.full((4, 1), words.nspecial))
    adaptive = make_ending_model(words, "adaptive_softmax")
    with pytest.raises(FeedbackError, match="an adaptive softmax"):
        shortened([adaptive], words, path)


def test_tool(tmp_path, capsys):
    pairs = [
        ("der hund", "the dog"),
        ("der mann", "the man"),
        ("ein hund", "a dog"),
        ("ein mann", "a man"),
        ("", ""),
    ] * 3
    for side, name in enumerate(("de", "en")):
        (tmp_path / name).write_text("".join(pair[side] + "\n" for pair in pairs))
    files = ["--source", tmp_path / "de", "--target", tmp_path / "en", "--output", tmp_path / "list"]
    command.main(["shortlist", *files, "--best", 1, "--frequent", 2])
    lines = (tmp_path / "list").read_text().splitlines()
    assert sorted(lines[1:]) == ["der the", "ein a", "hund dog", "mann man"]
    assert lines[0].startswith("<s> ") and len(lines[0].split()) == 3
    assert "15 of 15 lines, 48 pairs of words" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content, more, said",
    [
        ("a\n", [], "they must be equal"),
        ("\n\n", [], "no line has words on both sides"),
        ("a\nb\n", ["--best", 0], "--best 0: give at least 1"),
    ],
)
def test_mistakes_of_the_tool(tmp_path, content, more, said):
    (tmp_path / "a").write_text("a\nb\n")
    (tmp_path / "b").write_text(content)
    files = ["--source", tmp_path / "a", "--target", tmp_path / "b", "--output", tmp_path / "list"]
    with pytest.raises(SystemExit, match=said):
        command.main(["shortlist", *files, *more])
    assert not (tmp_path / "list").exists()
