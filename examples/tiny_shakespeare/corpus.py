"""Tiny Shakespeare, a character a symbol, in three parts.

    python examples/tiny_shakespeare/corpus.py --data input.txt --out FOLDER

Writes train.txt, valid.txt and test.txt: 90, 5 and 5 % of the text, cut between paragraphs. A line of these files is a
paragraph. A space is written "▁", as fairseq's --bpe characters has it, and the end of a line "⏎"; the second one, at
the end of a paragraph, is the end of fairseq's sentence. So there are as many symbols as characters.
"""

import os
import urllib.error
import urllib.request

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import whole
from fairseq_feedback.tools.program import Parser, run

URLS = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",)
CHARACTERS = 1_115_394


def main():
    parser = Parser(__doc__)
    parser.add_argument("--data", help="the text, input.txt of char-rnn (default: download it)")
    parser.add_argument("--out", required=True, help="folder for the three files")
    parser.add_argument("--expect", type=int, default=CHARACTERS, help="characters the text must have (%(default)s)")
    args = parser.parse_args()
    text = read(args.data) if args.data else download()
    if len(text) != args.expect:
        raise FeedbackError(
            f"the text has {len(text):,} characters, expected {args.expect:,}: is it the file, and whole?"
        )
    for name, part in zip(("train", "valid", "test"), split(text)):
        path = os.path.join(args.out, name + ".txt")
        with whole(path) as f:
            f.writelines(symbols(paragraph) + "\n" for paragraph in paragraphs(part))
        print(f"{path}: {len(part):,} characters")


def read(path, option="--data"):
    try:
        with open(path, encoding="utf-8", newline="") as f:
            return clean(f.read())
    except (OSError, UnicodeDecodeError) as error:
        raise FeedbackError(f"{option} {path}: {error}") from error


def download(option="--data"):
    for url in URLS:
        print(f"downloading {url}")
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                return clean(response.read().decode("utf-8"))
        except (urllib.error.URLError, OSError, UnicodeDecodeError) as error:
            print(f"  failed: {error}")
    raise FeedbackError(f"the text could not be downloaded. Get it from {URLS[0]} and give it with {option}")


def clean(text):
    text = text.replace("\r\n", "\n")
    return text if text.endswith("\n") else text + "\n"


def split(text):
    try:
        first = text.index("\n\n", int(0.9 * len(text))) + 2
        second = text.index("\n\n", int(0.95 * len(text))) + 2
    except ValueError:
        raise FeedbackError("the text has no empty lines in its last tenth: is it the right file, and whole?") from None
    return text[:first], text[first:second], text[second:]


def paragraphs(part):
    """Each without its last line end, which is fairseq's end of a sentence."""
    found = part.split("\n\n")
    return [paragraph + "\n" for paragraph in found[:-1]] + ([found[-1][:-1]] if found[-1] else [])


def symbols(paragraph):
    return " ".join(paragraph.replace(" ", "\u2581").replace("\n", "\u23ce"))


if __name__ == "__main__":
    run(main)
