"""The sentences of IWSLT's and WMT's marked-up text, one a line.

    python examples/prepare/markup.py tags train.tags.de-en.de >train.de
    python examples/prepare/markup.py segments dev2010.de.xml tst2010.de.xml >test.de

tags: IWSLT's training text. Lines with <url>, <talkid> or <keywords> are dropped; of <title> and <description> only the
tags are. segments: the text of every <seg id="...">, in XML and SGML, of several files one after the other. Entities
such as &amp; become their characters.
"""

import re
from xml.sax.saxutils import unescape

from lines import clean, read, write

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import Parser, run

DROPPED = ("<url>", "<talkid>", "<keywords>")
TAGS = re.compile("</?(?:title|description)>")
SEGMENT = re.compile(r"<seg\s+id\s*=\s*\"?\d+\"?\s*>(.*?)</seg>", re.IGNORECASE)
QUOTES = {"&quot;": '"', "&apos;": "'"}
OPEN = re.compile(r"<seg\b", re.IGNORECASE)


def main():
    parser = Parser(__doc__)
    parser.add_argument("kind", choices=("tags", "segments"))
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--straight-apostrophes", action="store_true", help="write ’ as '")
    args = parser.parse_args()
    for path in args.files:
        sentences = tagged(path) if args.kind == "tags" else segments(path)
        if args.straight_apostrophes:
            sentences = (line.replace("’", "'") for line in sentences)
        write(sentences)


def tagged(path):
    for line in read(path):
        if not any(tag in line for tag in DROPPED):
            yield clean(unescape(TAGS.sub("", line), QUOTES))


def segments(path):
    """A <seg> may go over several lines; it may also be empty."""
    found, unfinished = 0, ""
    for line in read(path):
        unfinished += line.rstrip("\n") + " "
        if OPEN.search(unfinished) and "</seg>" not in unfinished.lower():
            continue
        for match in SEGMENT.finditer(unfinished):
            found += 1
            yield clean(unescape(match.group(1), QUOTES))
        unfinished = ""
    if unfinished.strip():
        raise FeedbackError(f"{path} ends within a <seg>: it is cut short")
    if not found:
        raise FeedbackError(f"{path} has no <seg id=...>: it is not the file that was expected")


if __name__ == "__main__":
    run(main)
