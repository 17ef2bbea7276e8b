"""Moses tokenization of standard input, by sacremoses.

    python examples/prepare/moses.py --language de --workers 4 <text.de >tokens.de

As tokenizer.perl does without -a: hyphens stay in their words, so that splitting compounds when scoring means
something. &, |, <, >, ', " and brackets are escaped as Moses does (--no-escape leaves them).
"""

import re

from lines import add_workers, chunks, clean, in_processes, read, stdout, write

from fairseq_feedback.tools.program import Parser, run

# tokenizer.perl takes the dot off the last word even of abbreviations, "e.V." for one; sacremoses does not.
LAST_DOT = re.compile(r"([^\s.])\.$")

_tokenizer = None  # of this process


def start(language, escape, lowercase):
    global _tokenizer
    from sacremoses import MosesTokenizer

    moses = MosesTokenizer(lang=language)

    def tokenizer(line):
        # Once more clean(): sacremoses gives back some characters that count as spaces elsewhere.
        text = clean(moses.tokenize(clean(line), aggressive_dash_splits=False, return_str=True, escape=escape))
        text = LAST_DOT.sub(r"\1 .", text)
        return text.lower() if lowercase else text

    _tokenizer = tokenizer


def tokenize(line):
    """A line as words with one space between them; call start() first."""
    return _tokenizer(line)


def tokenize_all(lines):
    return list(map(tokenize, lines))


def main():
    parser = Parser(__doc__)
    parser.add_argument(
        "--language", required=True, metavar="LANG", help="en, de, ...: which abbreviations keep their dot"
    )
    parser.add_argument("--lowercase", action="store_true", help="write everything in lower case")
    parser.add_argument("--no-escape", action="store_true", help="do not escape &, |, <, >, ', \" and brackets")
    add_workers(parser)
    args = parser.parse_args()
    settings = (args.language, not args.no_escape, args.lowercase)
    out = stdout()
    for part in in_processes(tokenize_all, chunks(read("-")), args.workers, start, settings):
        write(part, out)


if __name__ == "__main__":
    run(main)
