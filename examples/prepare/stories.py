"""CNN-DailyMail: from the archives of stories to articles and summaries, one a line.

    python examples/prepare/stories.py collect cnn_stories.tgz dailymail_stories.tgz --to stories
    python examples/prepare/stories.py split --stories stories --urls all_train.txt --workers 4 \\
        --words 400 --drop-empty --article train.source --summary train.target

collect: all stories in one file, with an index. split: the stories of a list of addresses, in its order; a story's name
is the SHA-1 of its address. Text is tokenized by sacremoses. Articles keep their first --words words, before any
subword units. The sentences of a summary are separated by the word <S_SEP>. A line without punctuation at its end gets
a full stop. An empty article is an empty line, or with --drop-empty no line.
"""

import hashlib
import os

import moses
from archive import files_of, with_sentences
from lines import add_workers, chunks, clean, in_processes, positive, read

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import whole
from fairseq_feedback.tools.program import Parser, run

SEPARATOR = "<S_SEP>"
ENDS = (".", "!", "?", "...", "'", "`", '"', "\u2019", "\u201d", ")")
CHUNK = 200  # stories that a process takes at once


def main():
    parser = Parser(__doc__)
    actions = parser.add_subparsers(dest="action", required=True, parser_class=Parser)
    action = actions.add_parser("collect", description="All stories in one file, with an index.")
    action.add_argument("archives", nargs="+", metavar="ARCHIVE")
    action.add_argument("--to", required=True, metavar="FOLDER")
    action = actions.add_parser("split", description="Articles and summaries of a list of addresses.")
    action.add_argument("--stories", required=True, metavar="FOLDER", help="what collect has made")
    action.add_argument("--urls", required=True, metavar="FILE", help="addresses, one a line")
    action.add_argument("--article", required=True, metavar="FILE", help="where to write articles")
    action.add_argument("--summary", required=True, metavar="FILE", help="where to write summaries")
    action.add_argument("--words", type=positive, default=400, metavar="N", help="words of an article (%(default)s)")
    action.add_argument("--drop-empty", action="store_true", help="leave out stories without an article")
    add_workers(action)
    args = parser.parse_args()
    collect(args) if args.action == "collect" else split(args)


def collect(args):
    """<folder>/text: one story after the other; <folder>/index: name, first byte and number of bytes of each."""
    os.makedirs(args.to, exist_ok=True)
    offset = 0
    with whole(os.path.join(args.to, "text"), "wb") as text, whole(os.path.join(args.to, "index")) as index:
        for path in args.archives:
            count, offset = with_sentences(path, lambda path, at=offset: collect_one(path, text, index, at))
            print(os.path.basename(path), count)


def collect_one(path, text, index, offset):
    count = 0
    for name, f in files_of(path):
        name, extension = os.path.splitext(os.path.basename(name))
        if extension == ".story" and not name.startswith(".") and "\n" not in name:
            story = f.read()
            index.write(f"{name} {offset} {len(story)}\n")
            text.write(story)
            offset += len(story)
            count += 1
    return count, offset


def split(args):
    index = {}
    for line in read(os.path.join(args.stories, "index")):
        name, offset, length = line.rsplit(" ", 2)
        index[name] = int(offset), int(length)
    places = (place_of(url, index, args.urls) for url in map(clean, read(args.urls)) if url)
    stories = os.path.join(args.stories, "text")
    total = empty = 0
    with whole(args.article) as articles, whole(args.summary) as summaries:
        settings = (stories, args.words)
        for part in in_processes(texts_of, chunks(places, CHUNK), args.workers, start, settings):
            for article, summary in part:
                total += 1
                empty += not article
                if article or not args.drop_empty:
                    articles.write(article + "\n")
                    summaries.write(summary + "\n")
    print(f"{total} stories, {empty} with an empty article{', left out' if args.drop_empty else ''}")


def place_of(url, index, urls):
    name = hashlib.sha1(url.encode("utf-8")).hexdigest()
    if name not in index:
        raise FeedbackError(f"the archives have no {name}.story, which {urls} names as {url}")
    return index[name]


_stories, _words = None, None  # of this process


def start(path, words):
    global _stories, _words
    _stories, _words = open(path, "rb"), words
    moses.start("en", False, False)


def texts_of(places):
    """(article, summary) of each story."""
    found = []
    for offset, length in places:
        _stories.seek(offset)
        article, summary = parse(_stories.read(length).decode("utf-8", errors="replace"))
        words = " ".join(map(moses.tokenize, article)).split()[:_words]
        found.append((" ".join(words), f" {SEPARATOR} ".join(map(moses.tokenize, summary))))
    return found


def parse(story):
    """(lines of the article, sentences of the summary): every line after the first @highlight is of the summary."""
    article, summary, into_summary = [], [], False
    for line in map(clean, story.split("\n")):
        if line.startswith("@highlight"):
            into_summary = True
        elif line:
            line = line.replace(SEPARATOR, "")
            (summary if into_summary else article).append(line if line.endswith(ENDS) else line + " .")
    return article, summary


if __name__ == "__main__":
    run(main)
