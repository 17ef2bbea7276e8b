"""The commands of examples/prepare, and the downloads of examples/preparing.sh."""

import http.server
import os
import random
import subprocess
import sys
import threading

import pytest
import raw_corpora

from examples.prepare import archive
from fairseq_feedback.errors import FeedbackError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PREPARE = os.path.join(ROOT, "examples", "prepare")
ENVIRONMENT = {**os.environ, "PYTHONPATH": ROOT}


def tool(name, *args, stdin=b"", check=True):
    done = subprocess.run(
        [sys.executable, os.path.join(PREPARE, name), *map(str, args)],
        input=stdin if isinstance(stdin, bytes) else stdin.encode("utf-8"),
        capture_output=True,
        env=ENVIRONMENT,
    )
    assert not check or done.returncode == 0, done.stderr.decode()
    return done


def out(name, *args, stdin=b""):
    return tool(name, *args, stdin=stdin).stdout.decode("utf-8")


def refused(name, *args, stdin=b""):
    done = tool(name, *args, stdin=stdin, check=False)
    error = done.stderr.decode()
    assert done.returncode in (1, 2) and error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_lines():
    text = "\ufeffa\r\n  b\0c \u2028 d\x85\u00a0e \n\n\x0bf\x0c\n"
    assert out("lines.py", stdin=text) == "a\nb c d e\n\nf\n"
    assert out("lines.py", "--keep-spaces", stdin=" = A = \r\n \n") == " = A =  \n \n"
    assert "standard input is not UTF-8 text" in refused("lines.py", stdin=b"\xff\n")


def test_a_full_disk_is_a_sentence():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, os.path.join(PREPARE, "lines.py")],
            input=b"a\n",
            stdout=full,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
    assert done.returncode == 1 and done.stderr == b"error: No space left on device\n"


def test_archives(tmp_path):
    raw_corpora.tar(tmp_path / "a.tgz", {"x/one.txt": b"1\n", "y/one.txt": b"2\n", "two.txt": b"3\n"})
    raw_corpora.zipped(tmp_path / "a.zip", {"x/": b"", "x/one.txt": os.urandom(9999)})
    tool("archive.py", "take", tmp_path / "a.tgz", "--to", tmp_path / "new", "y/one.txt", "two.txt")
    assert (tmp_path / "new" / "one.txt").read_text() == "2\n"
    tool("archive.py", "take", tmp_path / "a.zip", "one.txt", "--to", tmp_path / "new")
    assert (tmp_path / "new" / "one.txt").stat().st_size == 9999
    assert "has no x/two.txt" in refused(
        "archive.py", "take", tmp_path / "a.tgz", "x/two.txt", "--to", tmp_path / "new"
    )
    for name in ("a.tgz", "a.zip"):
        tool("archive.py", "test", tmp_path / name)
        os.truncate(tmp_path / name, os.path.getsize(tmp_path / name) // 2)
        for action in (["test"], ["take", "one.txt", "--to", tmp_path / "new"]):
            assert "is cut short" in refused("archive.py", action[0], tmp_path / name, *action[1:])
    (tmp_path / "page.tgz").write_text("<html>Quota exceeded</html>")
    assert "not an archive" in refused("archive.py", "test", tmp_path / "page.tgz")
    assert "is missing" in refused("archive.py", "test", tmp_path / "none.tgz")


@pytest.mark.parametrize("name", ["a.tgz", "a.zip"])
def test_flipped_bits_of_an_archive(name, tmp_path):
    """Each is found, or does no harm; and what is not whole leaves no file."""
    content = bytes(random.Random(0).choices(b"abcdef\n", k=3000))
    make = raw_corpora.tar if name == "a.tgz" else raw_corpora.zipped
    make(tmp_path / name, {"x/one.txt": content, "z": b"last"})
    whole = (tmp_path / name).read_bytes()
    found = 0
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        folder = tmp_path / f"new{place}"
        try:
            archive.with_sentences(tmp_path / name, lambda path, to=folder: archive.take(path, ["one.txt"], to))
        except FeedbackError:
            found += 1
            assert os.listdir(folder) == []
        else:
            assert (folder / "one.txt").read_bytes() == content
    assert found > 45


def test_an_archive_with_a_password(tmp_path):
    raw_corpora.zipped(tmp_path / "a.zip", {"one.txt": b"1"})
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    for action in (["test"], ["take", "one.txt", "--to", tmp_path / "new"]):
        assert "a.zip needs a password: unpack it" in refused("archive.py", action[0], tmp_path / "a.zip", *action[1:])


def test_markup(tmp_path):
    (tmp_path / "tags").write_text(
        "<url>http://a</url>\n<talkid>1</talkid>\n<keywords>k</keywords>\n<title>A  title</title>\n"
        "<description>D &amp; d</description>\n It’s.\r\n\n"
    )
    assert out("markup.py", "tags", tmp_path / "tags") == "A title\nD & d\nIt’s.\n\n"
    (tmp_path / "sgm").write_text(
        '<seg id="1"> a &lt;b&gt; </seg> <seg id="2"></seg>\r\n<hl>no</hl>\n<SEG ID = 3>over\ntwo lines</SEG>\n'
    )
    assert out("markup.py", "segments", tmp_path / "sgm") == "a <b>\n\nover two lines\n"
    (tmp_path / "one").write_text('<seg id="1">it’s</seg>\n')
    both = out("markup.py", "segments", "--straight-apostrophes", tmp_path / "one", tmp_path / "one")
    assert both == "it's\nit's\n"
    (tmp_path / "one").write_text('<seg id="1">cut')
    assert "ends within a <seg>" in refused("markup.py", "segments", tmp_path / "one")
    (tmp_path / "one").write_text("<html>\n")
    assert "has no <seg id=...>" in refused("markup.py", "segments", tmp_path / "one")


def test_moses_as_tokenizer_perl_does():
    """The right sides are what tokenizer.perl prints."""
    for language, text, tokens in (
        ("en", "Mr. Hume's well-known cat, isn't it?", "Mr. Hume &apos;s well-known cat , isn &apos;t it ?"),
        ("en", "in the U.S.", "in the U.S ."),
        ("de", "Der Zwei-Wege-Verkehr am 3. Mai (usw.).", "Der Zwei-Wege-Verkehr am 3. Mai ( usw. ) ."),
        ("de", "Sie wohnt beim LUG e.V.", "Sie wohnt beim LUG e.V ."),
        ("de", 'Er sagte: "Ja & nein" ...', "Er sagte : &quot; Ja &amp; nein &quot; ..."),
    ):
        assert out("moses.py", "--language", language, stdin=text + "\n") == tokens + "\n"
    assert out("moses.py", "--language", "en", "--lowercase", "--no-escape", stdin="It's & SO\n\n") == "it 's & so\n\n"


def test_the_output_does_not_depend_on_the_number_of_processes():
    text = "".join(f"Sentence {i}, that is a-b.\n" for i in range(5000))
    one = out("moses.py", "--language", "en", stdin=text)
    assert one.count("\n") == 5000 and one == out("moses.py", "--language", "en", "--workers", 3, stdin=text)
    assert "give" not in refused("moses.py", "--language", "en", "--workers", 0)


def test_pairs(tmp_path):
    pairs = [("a b", "c"), ("", "c"), ("a", ""), ("a b c d", "c"), ("a b c", "c"), ("a " * 6, "b " * 6), ("x", "y")]
    for side, name in enumerate("ab"):
        (tmp_path / name).write_text("".join(pair[side] + "\n" for pair in pairs))
    files = [tmp_path / name for name in ("a", "b", "a.out", "b.out")]
    printed = out("pairs.py", "--max", 5, "--ratio", 3, *files)
    assert printed == "7 pairs, 4 dropped, 3 kept\n"
    assert files[2].read_text() == "a b\na b c\nx\n" and files[3].read_text() == "c\nc\ny\n"
    (tmp_path / "b").write_text("one line\n")
    assert "have not equally many lines" in refused("pairs.py", "--max", 5, *files)
    assert not (tmp_path / "a.out.part").exists() or "three" not in (tmp_path / "a.out").read_text()


def test_subword_nmt_is_subword_nmt(tmp_path):
    """The same codes and the same text as its own commands give."""
    text = tmp_path / "text"
    text.write_text("".join(f"{a} {b} lower lowest newer wider\n" for a, b in raw_corpora.WORDS * 3), encoding="utf-8")
    mine, theirs = tmp_path / "codes", tmp_path / "theirs"
    tool("subwords.py", "learn", "--size", 60, "--codes", mine, text, "--workers", 2)
    command = [sys.executable, "-m"]
    subprocess.run(
        [*command, "subword_nmt.learn_bpe", "-s", "60", "-i", text, "-o", theirs], check=True, capture_output=True
    )
    assert mine.read_bytes() == theirs.read_bytes()
    subprocess.run(
        [*command, "subword_nmt.apply_bpe", "-c", theirs, "-i", text, "-o", tmp_path / "t"],
        check=True,
        capture_output=True,
    )
    got = out("subwords.py", "apply", "--codes", mine, stdin=text.read_bytes())
    assert got == (tmp_path / "t").read_text(encoding="utf-8") and "@@ " in got
    assert got.replace("@@ ", "") == text.read_text(encoding="utf-8")


def test_words_that_are_kept_whole(tmp_path):
    text = tmp_path / "text"
    text.write_text("a <S_SEP> b <S_SEP> c\n" * 9 + "low lower lowest\n" * 9)
    tool("subwords.py", "learn", "--size", 20, "--codes", tmp_path / "codes", "--keep", "<S_SEP>", text)
    assert "S_" not in (tmp_path / "codes").read_text()
    printed = out("subwords.py", "apply", "--codes", tmp_path / "codes", "--keep", "<S_SEP>", stdin="a <S_SEP> b\n")
    assert printed == "a <S_SEP> b\n"
    assert "is missing" in refused("subwords.py", "apply", "--codes", tmp_path / "none")
    (tmp_path / "empty").write_text("")
    assert "no words" in refused("subwords.py", "learn", "--size", 9, "--codes", tmp_path / "c", tmp_path / "empty")


def test_lines_longer_than_models_read_are_cut(tmp_path):
    text = tmp_path / "text"
    text.write_text("low lower\n" * 9)
    tool("subwords.py", "learn", "--size", 3, "--codes", tmp_path / "codes", text)
    flags = ("subwords.py", "apply", "--codes", tmp_path / "codes", "--workers", 2)
    whole = out(*flags, stdin="lower lowest\nlow\n\n").splitlines()
    cut = out(*flags, "--longest", 3, stdin="lower lowest\nlow\n\n").splitlines()
    assert len(whole[0].split()) > 3 and cut == [" ".join(whole[0].split()[:3]), *whole[1:]]


def test_counts(tmp_path):
    expected, log = tmp_path / "expected.txt", tmp_path / "log"
    expected.write_text("# valid 1\nvalid 2\nvalid 3\ntrain 100 within 5%\ntrain.tokens unknown\ndict 56 remembered\n")

    def said(*args):
        return tool("expected.py", expected, *args).stderr.decode()

    assert said("count", "valid", 2) == "== valid: 2, as expected\n"
    assert "train: expected 100, found 105. The difference is small" in said("count", "train", 105)
    assert "expected 100 within 5%, found 94." in refused("expected.py", expected, "count", "train", 94)
    assert said("count", "train.tokens", 7) == "== train.tokens: 7\n"
    assert f"{expected} has no count for test. This data has 1." in refused("expected.py", expected, "count", "test", 1)
    start = "2026-01-01 | INFO | fairseq_cli.preprocess | [None] "
    lines = [f"{start}/x/{name}: 2 sents, 9 tokens, 0.0% replaced" for name in ("valid", "valid", "train")]
    log.write_text("\n".join([start + "Dictionary: 48 types", *lines]))
    flags = ("expected.py", expected, "preprocessed", log, "--summary", tmp_path / "summary")
    assert "did not print its counts" in refused(*flags)
    log.write_text(log.read_text().replace("x/valid", "x/test", 1))
    expected.write_text("dict 48\n" + "".join(f"{split} 2\n{split}.tokens 9\n" for split in ("train", "valid", "test")))
    assert said(*flags[2:]).count("as expected") == 7
    assert (tmp_path / "summary").read_text().splitlines()[:2] == [
        "[None] Dictionary: 48 types",
        "[None] test: 2 sents, 9 tokens, 0.0% replaced",
    ]


def test_sentencepiece(tmp_path):
    text = tmp_path / "text"
    text.write_text("".join(f"{a} {b} <S_SEP> lower\n" for a, b in raw_corpora.WORDS * 3), encoding="utf-8")
    flags = ["--kind", "sentencepiece", "--codes", tmp_path / "model", "--keep", "<S_SEP>"]
    tool("subwords.py", "learn", *flags, "--size", 80, text)
    printed = out("subwords.py", "apply", *flags, stdin="the lower Haus <S_SEP> water\n")
    assert (
        "<S_SEP>" in printed.split()
        and printed.replace(" ", "").replace("\u2581", " ").strip() == "the lower Haus <S_SEP> water"
    )
    assert sorted(os.listdir(tmp_path)) == ["model", "text"]


def test_symbols(tmp_path):
    (tmp_path / "bytes").write_bytes(b"a\0\n\n\xffb\r\n")
    assert out("symbols.py", tmp_path / "bytes", "--to", 8) == "97 0 \n\n255 98 13 \n"
    assert out("symbols.py", tmp_path / "bytes", "--from", 1, "--to", 6) == "0 \n\n255 98 \n"
    assert "ends 2 bytes before --to 10" in refused("symbols.py", tmp_path / "bytes", "--to", 10)


def test_stories(tmp_path):
    raw_corpora.cnn_dm(str(tmp_path))
    stories = tmp_path / "cnn_stories.tgz"
    raw_corpora.tar(tmp_path / "odd.tgz", {"a name with spaces.story": b"text"})
    tool("stories.py", "collect", tmp_path / "odd.tgz", stories, "--to", tmp_path / "stories")
    flags = ["split", "--stories", tmp_path / "stories", "--article", tmp_path / "a", "--summary", tmp_path / "s"]
    assert "which " in refused("stories.py", *flags, "--urls", tmp_path / "all_train.txt")  # the other archive's
    urls = [url for url in (tmp_path / "all_train.txt").read_text().split() if ".cnn." in url]
    (tmp_path / "urls").write_text("\n".join(reversed(urls)) + "\n")
    printed = out("stories.py", *flags, "--urls", tmp_path / "urls", "--words", 5)
    assert printed == f"{len(urls)} stories, 1 with an empty article\n"
    articles, summaries = (tmp_path / "a").read_text().split("\n"), (tmp_path / "s").read_text().split("\n")
    assert articles[0] == "" and summaries[0] == "An article that is empty ."
    assert articles[1] == "Sentence 0 has exactly seven"
    printed = out("stories.py", *flags, "--urls", tmp_path / "urls", "--drop-empty", "--workers", 2)
    assert "left out" in printed and (tmp_path / "s").read_text().split("\n") == summaries[1:]
    os.truncate(stories, os.path.getsize(stories) // 2)
    assert "is cut short" in refused("stories.py", "collect", stories, "--to", tmp_path / "stories")


# --- downloads ---


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, from the byte that is asked for. /gone/ is not there; /page/ answers with a page."""

    asked = []

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Range"), self.headers.get("User-Agent")))
        with open(os.path.join(self.directory, os.path.basename(self.path)), "rb") as f:
            content = f.read()
        start = 0
        if self.path.startswith("/gone/"):
            return self.send_error(404)
        if self.path.startswith("/page/"):
            content = b"<html>Quota exceeded</html>"
        elif self.path.startswith("/range/") and self.headers.get("Range"):
            start = int(self.headers["Range"][len("bytes=") :].rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    Handler.asked = []
    folder = tmp_path / "served"
    folder.mkdir()
    raw_corpora.tar(folder / "a.tgz", {"one.txt": os.urandom(50000)})

    def handler(*args):
        return Handler(*args, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def download(tmp_path, *urls, md5=None, path=None):
    """archive a.tgz URL... of examples/preparing.sh"""
    served = tmp_path / "served" / "a.tgz"
    (tmp_path / "expected.txt").write_text(f"a.tgz md5 {md5 or raw_corpora.md5(served)}\n" if md5 != "" else "")
    (tmp_path / "out" / "logs").mkdir(parents=True, exist_ok=True)
    code = 'set -euo pipefail; source "$1"; OUT=$2; EXPECTED=$3; FEEDBACK_PYTHON=$4; shift 4; archive a.tgz "$@"'
    names = [os.path.join(ROOT, "examples/preparing.sh"), tmp_path / "out", tmp_path / "expected.txt", sys.executable]
    return subprocess.run(
        ["bash", "-c", code + "; echo $ARCHIVE", "prepare.sh", *map(str, names), *urls],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path or os.environ["PATH"], "no_proxy": "127.0.0.1"},
    )


def downloaded(tmp_path):
    return (tmp_path / "out/downloads/a.tgz").read_bytes() == (tmp_path / "served/a.tgz").read_bytes()


def test_the_next_address_is_tried(server, tmp_path):
    done = download(tmp_path, f"{server}/gone/a.tgz", f"{server}/page/a.tgz", f"{server}/a.tgz")
    assert done.returncode == 0, done.stderr
    assert "404" in done.stderr and "27 bytes. Trying another address" in done.stderr.replace("\n", "")
    assert downloaded(tmp_path) and done.stdout.strip() == str(tmp_path / "out/downloads/a.tgz")
    count = len(Handler.asked)
    assert download(tmp_path, f"{server}/a.tgz").returncode == 0 and len(Handler.asked) == count


@pytest.mark.parametrize("where", ["range", "whole"])  # with a server that can go on, and one that cannot
def test_a_download_goes_on(server, tmp_path, where):
    (tmp_path / "out/downloads").mkdir(parents=True)
    (tmp_path / "out/downloads/a.tgz.part").write_bytes((tmp_path / "served/a.tgz").read_bytes()[:20000])
    done = download(tmp_path, f"{server}/{where}/a.tgz")
    assert done.returncode == 0 and downloaded(tmp_path), done.stderr
    assert Handler.asked[0][1] == "bytes=20000-" and Handler.asked[0][2] == "Mozilla/5.0"
    assert not (tmp_path / "out/downloads/a.tgz.part").exists()


def test_no_address_works(server, tmp_path):
    done = download(tmp_path, f"{server}/gone/a.tgz", f"{server}/page/a.tgz")
    assert done.returncode == 1
    assert "error: a.tgz could not be downloaded, from 2 addresses" in done.stderr
    assert "give its folder by --data" in done.stderr
    assert os.listdir(tmp_path / "out/downloads") == []


def test_without_a_checksum_an_archive_is_read_to_its_end(server, tmp_path):
    served = tmp_path / "served/a.tgz"
    os.truncate(served, 30000)
    done = download(tmp_path, f"{server}/a.tgz", md5="")
    assert done.returncode == 1 and "is cut short" in done.stderr


def test_wget_does_too(server, tmp_path):
    """With a PATH that has all but curl."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in "bash wget awk md5sum cut stat mkdir mv rm tail dirname readlink basename".split():
        path = subprocess.run(["which", name], capture_output=True, text=True).stdout.strip()
        if path:
            os.symlink(path, tools / name)
    if not (tools / "wget").exists():
        pytest.skip("wget is not here")
    (tmp_path / "out/downloads").mkdir(parents=True)
    (tmp_path / "out/downloads/a.tgz.part").write_bytes((tmp_path / "served/a.tgz").read_bytes()[:20000])
    done = download(tmp_path, f"{server}/gone/a.tgz", f"{server}/range/a.tgz", path=str(tools))
    assert done.returncode == 0 and downloaded(tmp_path), done.stderr
