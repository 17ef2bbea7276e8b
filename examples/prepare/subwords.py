"""Subword units: learn them from text, then apply them to it.

    python examples/prepare/subwords.py learn --kind subword-nmt --size 10000 --codes codes train.de train.en
    python examples/prepare/subwords.py apply --kind subword-nmt --codes codes <train.de >train.bpe.de

subword-nmt: --size is the number of merges, and fairseq-generate wants --remove-bpe. sentencepiece (a package to
install): --size is the number of units, and fairseq-generate wants --remove-bpe sentencepiece. Words named by --keep
stay whole.
"""

import collections
import io
import os

from lines import add_workers, chunks, in_processes, positive, read, stdout, write

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import must_be_file
from fairseq_feedback.tools.program import Parser, run

KINDS = ("subword-nmt", "sentencepiece")
_apply, _longest = None, None  # of this process


def main():
    parser = Parser(__doc__)
    parser.add_argument("action", choices=("learn", "apply"))
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="(%(default)s)")
    parser.add_argument("--size", type=positive, metavar="N", help="how many units to learn")
    parser.add_argument("--codes", required=True, metavar="FILE", help="what was learned")
    parser.add_argument("--keep", action="append", default=[], metavar="WORD", help="a word that is never split")
    parser.add_argument("--longest", type=positive, metavar="N", help="apply: cut lines of more units")
    parser.add_argument("files", nargs="*", metavar="FILE", help="text to learn from")
    add_workers(parser)
    args = parser.parse_intermixed_args()
    if args.action == "learn":
        if not args.size or not args.files:
            raise FeedbackError("learn: give --size and the files to learn from")
        learn(args)
    else:
        must_be_file(args.codes, "--codes")
        out = stdout()
        settings = (args.kind, args.codes, args.keep, args.longest)
        for part in in_processes(apply, chunks(read("-")), args.workers, start, settings):
            write(part, out)


def count_words(lines):
    return collections.Counter(word for line in lines for word in line.split())


def learn(args):
    words = collections.Counter()
    for path in args.files:
        for part in in_processes(count_words, chunks(read(path)), args.workers):
            words.update(part)
    for word in args.keep:
        words.pop(word, None)
    if not words:
        raise FeedbackError(f"there are no words in {' '.join(args.files)}")
    partial = args.codes + ".part"
    if args.kind == "subword-nmt":
        from subword_nmt.learn_bpe import learn_bpe

        table = io.StringIO("".join(f"{word} {count}\n" for word, count in sorted(words.items())))
        words.clear()
        with open(partial, "w", encoding="utf-8", newline="\n") as out:
            learn_bpe(table, out, args.size, is_dict=True)
    else:
        trainer = sentencepiece().SentencePieceTrainer
        table = (f"{word}\t{count}\n" for word, count in sorted(words.items()))
        with open(args.codes + ".words", "w", encoding="utf-8") as out:
            out.writelines(table)
        trainer.train(
            input=args.codes + ".words",
            input_format="tsv",
            model_prefix=partial,
            model_type="bpe",
            vocab_size=args.size,
            hard_vocab_limit=False,
            user_defined_symbols=args.keep,
            num_threads=args.workers,
            minloglevel=1,
        )
        os.remove(args.codes + ".words")
        os.remove(partial + ".vocab")
        os.replace(partial + ".model", partial)
    os.replace(partial, args.codes)
    print(f"learned from {len(args.files)} files: {args.codes}")


def sentencepiece():
    try:
        import sentencepiece
    except ImportError:
        raise FeedbackError("--kind sentencepiece needs the package sentencepiece: pip install sentencepiece") from None
    return sentencepiece


def start(kind, codes, keep, longest):
    global _apply, _longest
    _longest = longest
    if kind == "subword-nmt":
        from subword_nmt.apply_bpe import BPE

        with open(codes, encoding="utf-8", newline="\n") as f:
            _apply = BPE(f, glossaries=keep or None).process_line
    else:
        processor = sentencepiece().SentencePieceProcessor(model_file=codes)
        _apply = lambda line: " ".join(processor.encode(line, out_type=str))  # noqa: E731


def apply(lines):
    units = (_apply(line.rstrip("\n")) for line in lines)
    return list(units) if _longest is None else [" ".join(line.split(" ")[:_longest]) for line in units]


if __name__ == "__main__":
    run(main)
