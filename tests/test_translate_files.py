"""Files of a translation: shards, what is written over or made by others meanwhile."""

from unittest.mock import Mock

import cli
import pytest
from translation import translated

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.translation.output import ResumableOutput
from fairseq_feedback.tools.translation.translator import Shard


def test_bytes_that_are_not_utf8(translating, work):
    a, b = translating.lines[:2]
    work.write([a, a + " \ufffd \ufffd", b])
    expected = work.result()
    work.input.write_bytes(f"{a}\n{a} ".encode() + b"\xff \xe2\x82\n" + b.encode())
    work.run("--errors", "replace")
    assert work.output.read_bytes() == expected
    work.output.unlink()
    assert "Mend it, or give --errors replace" in work.refused()


@pytest.mark.parametrize("lines, chunk_lines, of", [(80, 7, 3), (5, 2, 7), (0, 3, 2), (16, 4, 4)])
def test_lines_of_shards(lines, chunk_lines, of):
    found = [Shard(k, of).lines(lines, chunk_lines) for k in range(1, of + 1)]
    assert found[0][0] == 0 and found[-1][1] == lines
    for (first, end), (after, _) in zip(found, found[1:]):
        assert first <= end == after and (end % chunk_lines == 0 or end == lines)


def test_shards_are_parts_of_the_whole(translating, work):
    """Also where the translations are drawn."""
    flags = ("--chunk-lines", 9, "--sampling", "--beam", 1)
    expected = work.result(*flags)
    parts = []
    for k in (1, 2, 3):
        parts.append(work.folder / f"part{k}")
        work.run(*flags, "--shard", f"{k}/3", "--output", parts[-1])
    assert [len(translated(part.read_bytes())) for part in parts] == [9, 18, 13]
    assert b"".join(part.read_bytes() for part in parts) == expected


def stopped(translating, work, lines=6):
    """A run that has done that many lines, and cannot go on."""
    work.write([*translating.lines[:lines], "ba " * 1100, *translating.lines[lines:12]])
    work.refused("--chunk-lines", 2)
    return "--chunk-lines", 2, "--skip-invalid-size-inputs-valid-test"


@pytest.mark.parametrize(
    "part, change",
    [
        ("part", lambda text: bytes([text[0] ^ 1]) + text[1:]),
        ("state", lambda text: text.replace(b'"output_bytes": ', b'"output_bytes": 0')),
        ("state", lambda text: text.replace(b'"lines": 6', b'"lines": "6"')),
        ("state", lambda text: text.replace(b'"lines": 6', b'"lines": -6')),
        ("state", lambda text: b"[]"),
        ("state", lambda text: b"{}"),
        ("state", lambda text: b'{"work": 3, "done": {}, "sha256": ""}'),
        ("state", lambda text: text.replace(b'"work": {', b'"work": [1], "more": {')),
    ],
)
def test_what_was_written_over_is_not_continued(translating, work, part, change):
    flags = stopped(translating, work)
    path = getattr(work, part)
    before = path.read_bytes()
    assert change(before) != before
    path.write_bytes(change(before))
    kept = work.part.read_bytes()
    message = work.refused(*flags)
    assert "out.part" in message and "delete" in message
    assert work.part.read_bytes() == kept and not work.output.exists()


def test_a_text_that_changed_meanwhile(translating, work):
    """To another one of the same length."""
    work.write(translating.lines * 20)
    started = work.start("--chunk-lines", 20, "--batch-size", 1)
    work.wait_for_lines(40, started)
    text = work.input.read_bytes()
    work.input.write_bytes(text[:-3] + b"xy\n")
    done = started.wait(check=False)
    assert done.returncode == 1 and "in was changed while it was read: delete" in cli.last_line(done.stderr)
    assert not work.output.exists()


def test_nobodys_file_is_written_over(translating, work):
    work.write(translating.lines * 20)
    started = work.start("--chunk-lines", 20, "--batch-size", 1)
    work.wait_for_lines(40, started)
    work.output.write_text("of someone else")
    message = cli.last_line(started.wait(check=False).stderr)
    assert message.endswith(
        f"{work.output} was made by someone else meanwhile: the translation is whole in {work.part}"
    )
    assert work.output.read_text() == "of someone else"
    assert len(translated(work.part.read_bytes())) == 20 * len(translating.lines)


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_system_without_links(tmp_path, monkeypatch, taken):
    monkeypatch.setattr("os.link", Mock(side_effect=PermissionError))
    output = ResumableOutput(str(tmp_path / "out"), {})
    output.file.write(b"whole\n")
    output.file.flush()
    if taken:
        (tmp_path / "out").write_text("of someone else")
        with pytest.raises(FeedbackError, match="was made by someone else meanwhile"):
            output.finish()
        assert (tmp_path / "out").read_text() == "of someone else" and (tmp_path / "out.part").exists()
    else:
        output.finish()
        assert (tmp_path / "out").read_bytes() == b"whole\n" and len(list(tmp_path.iterdir())) == 1


def test_links_are_not_followed(work):
    other = work.folder / "other"
    other.write_text("of someone else")
    work.part.symlink_to(other)
    assert "out.part is a link, and what it points to is not written" in work.refused()
    work.part.unlink()
    work.output.symlink_to(work.folder / "nowhere")
    assert "out exists already" in work.refused()
    assert other.read_text() == "of someone else" and not (work.folder / "nowhere").exists()
