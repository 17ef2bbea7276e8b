"""The corpus of the quickstart: its splits, its held-out pairs, and the German of its grammar."""

import hashlib
import importlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "quickstart"
FILES = ["train.en", "train.de", "valid.en", "valid.de", "test.en", "test.de"]
COUNTS = {"train": 6000, "valid": 200, "test": 200}


def load(name):
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


vocabulary, grammar, corpus = load("vocabulary"), load("grammar"), load("corpus")


def arguments(out, counts=None, seed=1):
    counts = counts or {"train": 1500, "valid": 30, "test": 30}
    flags = [word for name, count in counts.items() for word in ("--" + name, str(count))]
    return ["--out", str(out), "--seed", str(seed)] + flags


def digest(folder):
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in FILES)).hexdigest()


@pytest.fixture(scope="module")
def splits():
    return corpus.generate(1, COUNTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "new" / "folder"
    corpus.main(arguments(out))
    return out


def test_same_seed_same_bytes(folder, tmp_path):
    corpus.main(arguments(tmp_path / "again"))
    assert digest(tmp_path / "again") == digest(folder)
    environment = dict(os.environ, PYTHONHASHSEED="77", PYTHONPATH=str(FOLDER.parent.parent))
    subprocess.run(
        [sys.executable, str(FOLDER / "corpus.py")] + arguments(tmp_path / "other"),
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    assert digest(tmp_path / "other") == digest(folder)
    corpus.main(arguments(tmp_path / "seed", seed=2))
    assert digest(tmp_path / "seed") != digest(folder)


def test_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    for name in FILES:
        lines = (folder / name).read_text(encoding="utf-8").split("\n")
        assert lines.pop() == ""
        assert len(lines) == (1500 if name.startswith("train") else 30)
        for line in lines:
            assert line == " ".join(line.split()) and line.endswith(" .")
            assert line[0] == line[0].upper() and " , ," not in line and " , ." not in line


def test_summary(tmp_path, capsys):
    corpus.main(arguments(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train: 1500 sentences"
    assert sum(line.endswith(" .") for line in lines) == 10  # five pairs


def test_counts_and_lengths(splits):
    assert {name: len(rows) for name, rows in splits.items()} == COUNTS
    words = [len(row[side].split()) for row in splits["train"] for side in (0, 1)]
    assert max(words) <= 45 and min(words) <= 5
    assert 11 <= sum(words) / len(words) <= 15


def test_nothing_occurs_twice(splits):
    for side in (0, 1):
        sentences = [row[side] for rows in splits.values() for row in rows]
        assert len(set(sentences)) == len(sentences)


def test_held_out_pairs(splits):
    def held(row):
        return any(corpus.held_out(pair) for pair in row[2])

    assert not any(held(row) for name in ("train", "valid") for row in splits[name])
    assert sum(map(held, splits["test"])) == COUNTS["test"] // 2
    pairs = {pair for seed in range(20) for row in sentences(seed, 100) for pair in row[2]}
    assert 0.07 < sum(map(corpus.held_out, pairs)) / len(pairs) < 0.13


def test_held_out_pairs_are_in_the_words(splits):
    """Each pair that a sentence lists shows in its German: nothing is listed that is not said."""
    for row in splits["test"]:
        for kind, word, noun in row[2]:
            entry = vocabulary.NOUN[noun]
            forms = {entry.form(plural, case) for plural in (False, True) for case in "NADG"}
            assert forms & set(row[1].split()), (row, noun)
            if kind == "adjective":
                assert word in row[0].lower().split()


def test_test_words_are_known(splits):
    for side in (0, 1):
        known = {word for row in splits["train"] for word in row[side].split()}
        assert len(known) > 300
        assert {word for row in splits["test"] for word in row[side].split()} <= known


def test_depths(splits):
    assert {row[3] for row in splits["train"]} == {0, 1, 2, 3}


def sentences(seed, count):
    speaker = grammar.Speaker(random.Random(seed).random)
    rows = []
    for _ in range(count):
        english, german = speaker.sentence()
        rows.append((english, german, frozenset(speaker.pairs)))
    return rows


PHRASES = [  # determiner, adjective, noun, plural; nominative, accusative, dative, genitive
    ("the", "old", "man", False, "der alte Mann", "den alten Mann", "dem alten Mann", "des alten Mannes"),
    (
        "a",
        "small",
        "dog",
        False,
        "ein kleiner Hund",
        "einen kleinen Hund",
        "einem kleinen Hund",
        "eines kleinen Hundes",
    ),
    ("a", "red", "flower", False, "eine rote Blume", "eine rote Blume", "einer roten Blume", "einer roten Blume"),
    ("my", "new", "book", False, "mein neues Buch", "mein neues Buch", "meinem neuen Buch", "meines neuen Buches"),
    ("", "cold", "water", False, "kaltes Wasser", "kaltes Wasser", "kaltem Wasser", "kalten Wassers"),
    ("", "hot", "milk", False, "heiße Milch", "heiße Milch", "heißer Milch", "heißer Milch"),
    ("", "hot", "tea", False, "heißer Tee", "heißen Tee", "heißem Tee", "heißen Tees"),
    (
        "these",
        "expensive",
        "car",
        True,
        "diese teuren Autos",
        "diese teuren Autos",
        "diesen teuren Autos",
        "dieser teuren Autos",
    ),
    (
        "many",
        "tired",
        "child",
        True,
        "viele müde Kinder",
        "viele müde Kinder",
        "vielen müden Kindern",
        "vieler müder Kinder",
    ),
    (
        "no",
        "old",
        "house",
        True,
        "keine alten Häuser",
        "keine alten Häuser",
        "keinen alten Häusern",
        "keiner alten Häuser",
    ),
    (
        "our",
        "dark",
        "forest",
        False,
        "unser dunkler Wald",
        "unseren dunklen Wald",
        "unserem dunklen Wald",
        "unseres dunklen Waldes",
    ),
    ("every", "young", "woman", False, "jede junge Frau", "jede junge Frau", "jeder jungen Frau", "jeder jungen Frau"),
    (
        "all",
        "long",
        "journey",
        True,
        "alle langen Reisen",
        "alle langen Reisen",
        "allen langen Reisen",
        "aller langen Reisen",
    ),
    ("the", None, "girl", True, "die Mädchen", "die Mädchen", "den Mädchen", "der Mädchen"),
]


@pytest.mark.parametrize("row", PHRASES, ids=lambda row: row[4])
def test_noun_phrase(row):
    adjective = {entry[0]: entry for entry in vocabulary.ADJECTIVES}.get(row[1])
    found = [grammar.german_phrase(row[0], adjective, vocabulary.NOUN[row[2]], row[3], case) for case in "NADG"]
    assert found == list(row[4:])


def test_number_before_an_adjective():
    old, book = vocabulary.ADJECTIVES[0], vocabulary.NOUN["book"]
    assert grammar.german_phrase("", old, book, True, "D", "zwei") == "zwei alten Büchern"
    assert grammar.german_phrase("", old, book, False, "D", "Annas") == "Annas altem Buch"
    assert grammar.german_phrase("", old, book, True, "N", "deren") == "deren alte Bücher"


def test_numbers():
    expected = {
        1: ("one", "eins"),
        16: ("sixteen", "sechzehn"),
        17: ("seventeen", "siebzehn"),
        21: ("twenty-one", "einundzwanzig"),
        30: ("thirty", "dreißig"),
        66: ("sixty-six", "sechsundsechzig"),
        77: ("seventy-seven", "siebenundsiebzig"),
    }
    assert {n: vocabulary.number(n) for n in expected} == expected


def test_clock():
    assert grammar.clock(1, "") == ("at one o'clock", "um ein Uhr")
    assert grammar.clock(12, "half past") == ("at half past twelve", "um halb eins")
    assert grammar.clock(1, "quarter to") == ("at a quarter to one", "um Viertel vor eins")


def test_relative_pronouns():
    table = {key: row.split() for key, row in grammar.RELATIVE.items()}
    assert table == {
        "m": ["der", "den", "dem", "dessen"],
        "f": ["die", "die", "der", "deren"],
        "n": ["das", "das", "dem", "dessen"],
        "p": ["die", "die", "denen", "deren"],
    }


VERBS = [  # ich, er, wir, infinitive, participle, auxiliary
    ("see", "sehe", "sieht", "sehen", "sehen", "gesehen", "hat"),
    ("open", "mache", "macht", "machen", "aufmachen", "aufgemacht", "hat"),
    ("invite", "lade", "lädt", "laden", "einladen", "eingeladen", "hat"),
    ("fall asleep", "schlafe", "schläft", "schlafen", "einschlafen", "eingeschlafen", "ist"),
    ("visit", "besuche", "besucht", "besuchen", "besuchen", "besucht", "hat"),
    ("repair", "repariere", "repariert", "reparieren", "reparieren", "repariert", "hat"),
    ("feed", "füttere", "füttert", "füttern", "füttern", "gefüttert", "hat"),
    ("wait for", "warte", "wartet", "warten", "warten", "gewartet", "hat"),
    ("go", "gehe", "geht", "gehen", "gehen", "gegangen", "ist"),
]


@pytest.mark.parametrize("row", VERBS, ids=lambda row: row[0])
def test_verb(row):
    verb = {verb.en: verb for verb in vocabulary.VERBS}[row[0]]
    assert verb.german + (verb.infinitive, verb.de_participle, verb.auxiliary[1]) == row[1:]


def test_know_is_wissen_before_a_clause_and_kennen_with_a_noun():
    forms = {verb.frame: verb.german for verb in vocabulary.VERBS if verb.en == "know"}
    assert forms == {"a": ("kenne", "kennt", "kennen"), "c": ("weiß", "weiß", "wissen")}


def test_verb_endings():
    for verb in vocabulary.VERBS:
        assert verb.german[1].endswith("t") or verb.german[1] == "weiß"
        assert verb.de_participle.endswith(("t", "en")), verb.en


def a_clause(name, tense, place=None, time=None):
    """ "The man VERB the window" with the parts in the order that a speaker would draw them."""
    verb = {verb.en: verb for verb in vocabulary.VERBS}[name]
    speaker = grammar.Speaker(lambda: 0.0)
    man = grammar.Phrase("the man", "the man", {"N": "der Mann"}, vocabulary.NOUN["man"])
    words, finite, end = speaker.verb_group(verb, man, tense, "")
    nothing = ("", "")
    return grammar.Clause(
        verb,
        ["the man", words, "the window"],
        place or nothing,
        time or nothing,
        "der Mann",
        [[(time or nothing)[1]], ["das Fenster"]],
        (finite, end),
        nothing,
    )


def test_separable_verb():
    now = ("now", "jetzt")
    clause = a_clause("open", "present")
    assert clause.verb_second().split() == "der Mann macht das Fenster auf".split()
    clause = a_clause("open", "present", time=now)
    assert clause.verb_second("time").split() == "jetzt macht der Mann das Fenster auf".split()
    assert clause.verb_last().split() == "der Mann jetzt das Fenster aufmacht".split()
    assert clause.english("time").split() == "now the man opens the window".split()


def test_perfect_and_modal():
    clause = a_clause("open", "past")
    assert clause.english().split() == "the man opened the window".split()
    assert clause.verb_second().split() == "der Mann hat das Fenster aufgemacht".split()
    assert clause.verb_last().split() == "der Mann das Fenster aufgemacht hat".split()
    clause = a_clause("open", "modal")
    assert clause.verb_second().split() == "der Mann kann das Fenster aufmachen".split()
    assert clause.verb_last().split() == "der Mann das Fenster aufmachen kann".split()


@pytest.mark.parametrize(
    "role, german",
    [
        ("N", "die Kinder , die das Fenster aufgemacht hat ,"),
        ("A", "die Kinder , die der Mann das Fenster aufgemacht hat ,"),
        ("D", "die Kinder , denen der Mann das Fenster aufgemacht hat ,"),
        ("G", "die Kinder , deren Frau das Fenster aufgemacht hat ,"),
    ],
)
def test_relative_clause(role, german):
    """The pronoun of each role; the clause itself is always the same one."""
    speaker = grammar.Speaker(lambda: 0.5)
    speaker.tense, inner, asked = "past", a_clause("open", "past"), []
    inner.subject = "der Mann" if role in "AD" else ""

    def clause(level, tenses, role, head, subject):
        asked.append((level, role, subject is None))
        return inner

    def pick(items):
        return role if items == "NAPDG" else items[1]

    def common(noun, level, determiners, before):
        assert before == "deren"
        return grammar.Phrase("wife", "wife", {"N": before + " Frau"}, vocabulary.NOUN["woman"])

    speaker.clause, speaker.pick, speaker.common = clause, pick, common
    cases = dict.fromkeys("NADG", "die Kinder")
    phrase = grammar.Phrase("the children", "the children", cases, vocabulary.NOUN["child"], True)
    speaker.add_relative(phrase, 1)
    assert " ".join(phrase.german["N"].split()) == german and phrase.relative
    assert asked == [(1, role, role in "AD")]


def test_dates():
    speaker = grammar.Speaker(lambda: 0.5)
    chosen = iter(["date", ("May", "Mai")])
    speaker.pick = lambda items: next(chosen)
    assert speaker.time("past") == ("on 15 May 1970", "am 15. Mai 1970")


def test_contractions():
    garden = grammar.Phrase("", "", {"D": "dem kleinen Garten", "A": "den kleinen Garten"})
    assert garden.after("in", "D") == "im kleinen Garten"
    assert garden.after("in", "A") == "in den kleinen Garten"
    garden.relative = True
    assert garden.after("in", "D") == "in dem kleinen Garten"


def test_tidy():
    words = "der Mann , der schläft , , ist alt ,"
    assert grammar.tidy(words) == "Der Mann , der schläft , ist alt ."


def said(stop, capsys):
    """What the user reads: Python prints a code that is a text."""
    return capsys.readouterr().err + (f"{stop.value.code}\n" if isinstance(stop.value.code, str) else "")


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--train", "0"], "--train"),
        (["--valid", "-3"], "--valid"),
        (["--test", "many"], "--test"),
        (["--train", "9999999999"], "--train"),
        (["--seed", "x"], "--seed"),
        (["--train", "1", "--valid", "1", "--test", "40"], "--test"),
    ],
)
def test_bad_argument(flags, told, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        corpus.main(["--out", str(tmp_path / "out")] + flags)
    message = said(stop, capsys)
    assert stop.value.code != 0 and told in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_out_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        corpus.main(arguments(tmp_path / "out"))
    assert stop.value.code != 0 and "--out" in said(stop, capsys)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corpus.os, "replace", full)
    with pytest.raises(SystemExit) as stop:
        corpus.main(arguments(tmp_path))
    assert "--out" in said(stop, capsys) and list(tmp_path.iterdir()) == []
