"""Binary data and dictionaries that were cut, or written over."""

import os
import shutil

import cli
import numpy as np
import pytest
from fairseq.data import Dictionary, data_utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cli_mistakes import assert_mistake
from trained import generate

from fairseq_feedback.errors import FeedbackError

pytestmark = pytest.mark.core

NAME = "test.xx-yy.xx"


@pytest.fixture
def copy(made, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(made.data, folder)
    return folder


def load(folder):
    words = Dictionary.load(str(folder / "dict.xx.txt"))
    return data_utils.load_indexed_dataset(str(folder / NAME), words)


def cut(path, size):
    with open(path, "r+b") as f:
        f.truncate(size if size >= 0 else os.path.getsize(path) + size)


def write(path, place, content):
    with open(path, "r+b") as f:
        f.seek(place)
        f.write(content)


@pytest.mark.parametrize(
    "suffix, damage, sentence",
    [
        ("bin", lambda p: cut(p, -8), "it has "),
        ("bin", lambda p: cut(p, 0), "it has 0 bytes, and its index says "),
        ("bin", lambda p: write(p, 4, b"\xff\x7f\x00\x00"), "it has the symbol 32767, and the dictionary has 24"),
        ("idx", lambda p: cut(p, -8), "it has "),
        ("idx", lambda p: cut(p, 20), "it does not begin as an index"),
        ("idx", lambda p: cut(p, 0), "it does not begin as an index"),
        ("idx", lambda p: write(p, 0, b"X"), "it does not begin as an index"),
        ("idx", lambda p: write(p, 26, b"\x63"), "its items do not follow one another"),
        ("idx", lambda p: write(p, 18, b"\x63"), "it has "),
    ],
)
def test_damage_is_named(copy, suffix, damage, sentence):
    path = copy / f"{NAME}.{suffix}"
    damage(path)
    with pytest.raises(FeedbackError) as caught:
        load(copy)
    assert str(caught.value).startswith(f"{path} is damaged, {sentence}")
    assert str(caught.value).endswith(": make it again with fairseq-preprocess, or copy it again")


def test_a_second_part_is_looked_at(copy):
    for suffix in ("bin", "idx"):
        shutil.copy(copy / f"{NAME}.{suffix}", copy / f"{NAME}1.{suffix}")
    words = Dictionary.load(str(copy / "dict.xx.txt"))
    assert len(data_utils.load_indexed_dataset(str(copy / NAME), words, combine=True)) == 16
    cut(copy / f"{NAME}1.bin", -4)
    with pytest.raises(FeedbackError, match=f"{NAME}1.bin is damaged"):
        data_utils.load_indexed_dataset(str(copy / NAME), words, combine=True)


def test_commands(copy, made):
    def said(*names):
        flags = cli.generate_flags(copy, made.checkpoint)
        return assert_mistake(cli.run("generate", *flags, check=False, log=made.log), *names)

    with open(copy / "dict.xx.txt", "a") as f:
        f.write("a b c\n")
    said(f"dictionary {copy / 'dict.xx.txt'}: Incorrect dictionary format", "Copy it again")
    shutil.copy(os.path.join(made.data, "dict.xx.txt"), copy)
    write(copy / "dict.yy.txt", 0, b"\xff")
    said(f"dictionary {copy / 'dict.yy.txt'}: Incorrect encoding detected")
    shutil.copy(os.path.join(made.data, "dict.yy.txt"), copy)
    cut(copy / f"{NAME}.bin", -4)
    said(f"{NAME}.bin is damaged")
    assert "Traceback" not in generate(made).stderr


WHERE = st.tuples(st.sampled_from(["bin", "idx"]), st.integers(0, 10**6), st.integers(0, 255), st.booleans())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(WHERE, min_size=1, max_size=3))
def test_any_damage_is_named_or_leaves_known_symbols(made, tmp_path, changes):
    for suffix in ("bin", "idx"):
        shutil.copy(os.path.join(made.data, f"{NAME}.{suffix}"), tmp_path)
    shutil.copy(os.path.join(made.data, "dict.xx.txt"), tmp_path)
    for suffix, place, value, is_cut in changes:
        path = tmp_path / f"{NAME}.{suffix}"
        place %= os.path.getsize(path) or 1
        cut(path, place) if is_cut else write(path, place, bytes([value]))
    try:
        data = load(tmp_path)
    except FeedbackError as error:
        assert NAME in str(error)
    else:
        symbols = np.concatenate([data[i].numpy() for i in range(len(data))]) if len(data) else np.zeros(0)
        assert ((0 <= symbols) & (symbols < 24)).all()
