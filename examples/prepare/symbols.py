"""Bytes as symbols: a part of a file as lines of numbers, for a language model of bytes.

    python examples/prepare/symbols.py enwik8 --from 0 --to 90000000 >train

Every byte is a word: its number. A line feed has no word; it ends the line, and fairseq's end-of-line symbol stands for
it. So each byte is one symbol, and bits per symbol are bits per byte. A part that does not end in a line feed has one
symbol more than bytes, its end.
"""

from lines import positive, stdout

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import Parser, run

BLOCK = 1 << 20
WORDS = [f"{byte} " for byte in range(256)]
WORDS[ord("\n")] = "\n"


def number(text):
    return 0 if text == "0" else positive(text)


def main():
    parser = Parser(__doc__)
    parser.add_argument("file")
    parser.add_argument("--from", dest="start", type=number, default=0, metavar="N", help="first byte (%(default)s)")
    parser.add_argument("--to", dest="end", type=positive, required=True, metavar="N", help="byte after the last one")
    args = parser.parse_args()
    out = stdout()
    left = args.end - args.start
    block = b""
    with open(args.file, "rb") as f:
        f.seek(args.start)
        while left > 0:
            block = f.read(min(left, BLOCK))
            if not block:
                raise FeedbackError(f"{args.file} ends {left:,} bytes before --to {args.end:,}")
            left -= len(block)
            out.write("".join([WORDS[byte] for byte in block]))
    if not block.endswith(b"\n"):
        out.write("\n")


if __name__ == "__main__":
    run(main)
