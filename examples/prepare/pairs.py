"""Drop pairs of sentences that are too short, too long or too unlike in length, as Moses's clean-corpus-n.perl does.

    python examples/prepare/pairs.py --min 1 --max 80 --ratio 9 tokens.en tokens.de clean.en clean.de

Both sides of a pair must have --min to --max words, and neither more than --ratio times as many as the other.
"""

from itertools import zip_longest

from lines import positive, read

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import whole
from fairseq_feedback.tools.program import Parser, run


def main():
    parser = Parser(__doc__)
    parser.add_argument("--min", type=positive, default=1, metavar="N", help="fewest words (%(default)s)")
    parser.add_argument("--max", type=positive, required=True, metavar="N", help="most words")
    parser.add_argument("--ratio", type=float, default=9.0, metavar="X", help="largest ratio of lengths (%(default)s)")
    parser.add_argument("sources", nargs=2, metavar="IN", help="the two sides")
    parser.add_argument("targets", nargs=2, metavar="OUT", help="the two sides, clean")
    args = parser.parse_args()
    pairs = kept = 0
    with whole(args.targets[0]) as left, whole(args.targets[1]) as right:
        for a, b in zip_longest(*map(read, args.sources)):
            if a is None or b is None:
                raise FeedbackError(f"{args.sources[0]} and {args.sources[1]} have not equally many lines")
            pairs += 1
            if fits(len(a.split()), len(b.split()), args):
                kept += 1
                left.write(a)
                right.write(b)
    print(f"{pairs:,} pairs, {pairs - kept:,} dropped, {kept:,} kept")


def fits(a, b, args):
    return args.min <= min(a, b) and max(a, b) <= args.max and max(a, b) <= args.ratio * min(a, b)


if __name__ == "__main__":
    run(main)
