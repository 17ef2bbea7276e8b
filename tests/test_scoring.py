"""The tools that score, against hand-worked cases and the reference tools."""

import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
import torch
from fairseq.scoring import bleu

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEXT = """Der Zwei-Wege-Verkehr auf der Brücke wird im Mai wieder freigegeben , sagte der Sprecher .
Niemand weiß , wie viele Menschen an diesem Tag in der Stadt waren .
Es war einmal ein König , der hatte eine Tochter , die war sehr schön .
In einem Interview sagte Bloom jedoch , dass er und Kerr sich noch immer lieben .
Die Wohl-bekannte Sängerin trat gestern zum letzten Mal auf .
Ja ."""


def tool(name, *args, stdin="", check=True):
    done = subprocess.run(
        [sys.executable, "-m", "fairseq_feedback", *name.split(), *map(str, args)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def refused(name, *args, stdin=""):
    """The one sentence that a tool ends with."""
    done = tool(name, *args, stdin=stdin, check=False)
    assert done.returncode in (1, 2) and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture
def texts(tmp_path):
    """Files of references, and of hypotheses with words left out and exchanged."""
    rng = random.Random(0)
    references = (TEXT + "\n") * 20
    hypotheses = []
    for line in references.splitlines():
        words = [word for word in line.split() if rng.random() > 0.15] or ["Nein"]
        if len(words) > 3:
            i = rng.randrange(len(words) - 1)
            words[i : i + 2] = reversed(words[i : i + 2])
        hypotheses.append(" ".join(words) + "\n")
    (tmp_path / "ref").write_text(references, encoding="utf-8")
    (tmp_path / "hyp").write_text("".join(hypotheses), encoding="utf-8")
    return tmp_path


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def fairseqs_line(hypotheses, references):
    """What fairseq's own scorer prints."""
    numbers = {}

    def encode(line):
        return torch.IntTensor([numbers.setdefault(word, len(numbers) + 4) for word in line.split()] + [2])

    scorer = bleu.Scorer(bleu.BleuConfig(pad=1, eos=2, unk=3))
    for hypothesis, reference in zip(hypotheses, references):
        scorer.add(encode(reference), encode(hypothesis))
    return scorer.result_string()


@pytest.mark.parametrize("split", [False, True])
def test_tokenized_bleu_is_fairseqs(texts, split):
    flags = ["--compound-split"] if split else []
    printed = tool("score bleu", "--hypotheses", texts / "hyp", "--references", texts / "ref", *flags).stdout
    hypotheses, references = lines(texts / "hyp"), lines(texts / "ref")
    if split:
        hypotheses, references = (
            tool("split-compounds", stdin="\n".join(t)).stdout.splitlines() for t in (hypotheses, references)
        )
    assert printed == f"tokenized{', compounds split' * split}: {fairseqs_line(hypotheses, references)}\n"


def test_detokenized_bleu_is_sacrebleus(texts):
    from sacremoses import MosesDetokenizer

    flags = ("--hypotheses", texts / "hyp", "--references", texts / "ref", "--detokenize", "de")
    printed = tool("score bleu", *flags, "--json", texts / "new" / "scores.json").stdout
    for name in ("hyp", "ref"):
        text = [MosesDetokenizer(lang="de").detokenize(line.split()) + "\n" for line in lines(texts / name)]
        (texts / f"{name}.raw").write_text("".join(text), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", texts / "ref.raw", "-i", texts / "hyp.raw", "-w", "2", "-f", "json"]
    command += ["-m", "bleu", "chrf"]
    printed_by_it = subprocess.run(list(map(str, command)), capture_output=True, check=True).stdout
    theirs, chrf = json.loads(printed_by_it)
    ours = json.loads((texts / "new" / "scores.json").read_text())["detokenized"]
    assert round(ours["score"], 2) == theirs["score"] and ours["signature"] == theirs["signature"]
    assert round(ours["chrf_score"], 2) == chrf["score"] and ours["chrf_signature"] == chrf["signature"]
    assert f"detokenized: BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{theirs['version']} = " in printed
    given = tool("score bleu", *flags, "--raw-references", texts / "ref.raw").stdout
    assert given == printed
    assert "|case:lc|" in tool("score bleu", *flags, "--lowercase").stdout


def generated(path, hypotheses, references, order=None, more=""):
    """A file as fairseq-generate writes it."""
    order = order or reversed(range(len(references)))
    text = [
        f"S-{i}\tsource\nT-{i}\t{references[i]}\nH-{i}\t-0.5\t{hypotheses[i]}\nD-{i}\t-0.5\tx\nP-{i}\t-1\n"
        for i in order
    ]
    path.write_text("log\n" + "".join(text) + more, encoding="utf-8")


def test_the_output_of_fairseq_generate(texts):
    hypotheses, references = lines(texts / "hyp"), lines(texts / "ref")
    generated(texts / "gen", hypotheses, references, more="H-0\t-9\tthe second best is not looked at\n")
    plain = tool("score bleu", "--hypotheses", texts / "hyp", "--references", texts / "ref").stdout
    assert tool("score bleu", "--generated", texts / "gen").stdout == plain
    unknown = [line.replace("König", "<<unk>>") for line in references]
    generated(texts / "gen", hypotheses, unknown)
    assert tool("score bleu", "--generated", texts / "gen").stdout != plain
    assert tool("score bleu", "--generated", texts / "gen", "--references", texts / "ref").stdout == plain


def test_never_a_score_of_something_incomplete(texts):
    hypotheses, references = lines(texts / "hyp"), lines(texts / "ref")
    generated(texts / "gen", hypotheses, references, order=[i for i in range(len(references)) if i != 7])
    assert "119 sentences, expected 120: fairseq-generate was stopped" in refused(
        "score bleu", "--generated", texts / "gen"
    )
    generated(texts / "gen", hypotheses, references, order=range(112))  # as without --required-batch-size-multiple 1
    assert "112 sentences, expected 120" in refused(
        "score bleu", "--generated", texts / "gen", "--references", texts / "ref"
    )
    (texts / "gen").write_text("Traceback\n")
    assert "has no H- lines" in refused("score bleu", "--generated", texts / "gen")
    (texts / "short").write_text("a\n")
    assert "has 120 lines, " in refused("score bleu", "--hypotheses", texts / "hyp", "--references", texts / "short")
    (texts / "empty").write_text("")
    assert "is empty" in refused("score bleu", "--hypotheses", texts / "empty", "--references", texts / "empty")
    assert "is missing" in refused("score rouge", "--hypotheses", texts / "none", "--references", texts / "ref")
    assert "give either --generated or --hypotheses" in refused("score bleu", "--references", texts / "ref")
    assert "See: fairseq-feedback score bleu --help" in refused("score bleu", "--hypothesis")


def test_unicode_line_breaks_end_no_line(texts):
    (texts / "a").write_text("one\u2028two\x85three\x0bfour five\n", encoding="utf-8")
    printed = tool("score bleu", "--hypotheses", texts / "a", "--references", texts / "a").stdout
    assert "BLEU4 = 100.00" in printed and "syslen=5" in printed


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Zwei-Wege-Verkehr .", "Zwei ##AT##-##AT## Wege ##AT##-##AT## Verkehr ."),
        ("ein - Strich", "ein - Strich"),  # between spaces: a word already
        ("Haus- und Hof", "Haus- und Hof"),  # nothing after it
        ("-5 Grad", "-5 Grad"),
        ("a-b-c", "a ##AT##-##AT## b-c"),  # the oddity of the protocol's substitution
        ("2010-2012", "2010 ##AT##-##AT## 2012"),
        ("Ende--Anfang", "Ende ##AT##-##AT## -Anfang"),  # the second hyphen counts as a character
        ("größer-Über", "größer ##AT##-##AT## Über"),
        ("", ""),
    ],
)
def test_compound_split_by_hand(text, expected):
    assert tool("split-compounds", stdin=text + "\n").stdout == expected + "\n"


def test_compound_split_refuses_aggressive_tokenization(texts):
    assert "line 2, has @-@" in refused("split-compounds", stdin="a\nZwei @-@ Wege\n")
    assert "a text is not UTF-8" in refused("split-compounds", stdin="\udcff\n")
    (texts / "bad").write_text("Zwei @-@ Wege\n")
    flags = ("--hypotheses", texts / "bad", "--references", texts / "bad", "--compound-split")
    assert "the hypotheses, line 1, has @-@" in refused("score bleu", *flags)


def f1(matches, reference, hypothesis):
    return 100 * 2 * matches / (reference + hypothesis)


def rouge(tmp_path, hypotheses, references, *flags):
    for name, text in (("h", hypotheses), ("r", references)):
        (tmp_path / name).write_text("\n".join(text) + "\n", encoding="utf-8")
    flags = ["--hypotheses", tmp_path / "h", "--references", tmp_path / "r", "--json", tmp_path / "j", *flags]
    done = tool("score rouge", *flags)
    return json.loads((tmp_path / "j").read_text()), done.stdout


def test_rouge_by_hand(tmp_path):
    # Unigrams: the, cat, sat of 4 and 3 words; bigrams: the cat, cat sat of 3 and 2.
    scores, printed = rouge(tmp_path, ["the cat sat"], ["The cat sat down"])
    assert scores["rouge1"] == pytest.approx(f1(3, 4, 3)) and scores["rouge2"] == pytest.approx(f1(2, 3, 2))
    assert f"rouge1    {f1(3, 4, 3):6.2f}" in printed and "1 summaries" in printed and "stemmer on" in printed


def test_rouge_lsum_goes_by_sentences(tmp_path):
    """The sentences are the other way round: nothing is lost by sentences, half of it is over the whole text."""
    scores, printed = rouge(tmp_path, ["a b c <S_SEP> d e f"], ["d e f <S_SEP> a b c"])
    assert scores["rougeLsum"] == pytest.approx(100)
    assert "sentences split at <S_SEP> (2.0 a summary)" in printed
    scores, _ = rouge(tmp_path, ["a b c <S_SEP> d e f"], ["d e f <S_SEP> a b c"], "--separator", "<q>")
    assert scores["rougeLsum"] < 60 and scores["sentences_per_summary"] == 1


def test_the_stemmer_is_an_option(tmp_path):
    pair = ["she walked home"], ["she walking home"]
    assert rouge(tmp_path, *pair)[0]["rouge1"] == pytest.approx(100)
    scores, printed = rouge(tmp_path, *pair, "--no-stemmer")
    assert scores["rouge1"] == pytest.approx(f1(2, 3, 3)) and "stemmer off" in printed


def test_rouge_of_many_by_several_processes(texts):
    flags = ("--hypotheses", texts / "hyp", "--references", texts / "ref")
    assert tool("score rouge", *flags, "--workers", 2).stdout == tool("score rouge", *flags).stdout
    # ROUGE-1 once more, counted here.
    total = 0
    for hypothesis, reference in zip(lines(texts / "hyp"), lines(texts / "ref")):
        h, r = (
            Counter("".join(c if c.isascii() and c.isalnum() else " " for c in t.lower()).split())
            for t in (hypothesis, reference)
        )
        total += f1(sum((h & r).values()), sum(r.values()), sum(h.values()))
    assert rouge(texts, lines(texts / "hyp"), lines(texts / "ref"), "--no-stemmer")[0]["rouge1"] == pytest.approx(
        total / 120
    )


def test_tuning_refuses(tmp_path):
    flags = ("data-bin", "--out", tmp_path / "out", "--lenpen", 1, "--path")
    assert "--path /nowhere is missing" in refused("tune", *flags, "/nowhere")
    assert "/nowhere is missing" in refused("tune", *flags, __file__, "--references", "/nowhere")
    assert "--metric: invalid choice: 'meteor'" in refused("tune", *flags, __file__, "--metric", "meteor")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["score bleu", "score rouge", "split-compounds", "tune"])
def test_help(name):
    printed = tool(name, "--help").stdout
    assert f"    fairseq-feedback {name} " in printed
