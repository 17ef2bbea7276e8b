"""Find the words that each word of the source may become, for --shortlist of fairseq-generate and translate.

    fairseq-feedback shortlist --source train.bpe.de --target train.bpe.en --output shortlist.txt

Both texts are the training text as fairseq-preprocess reads it, line by line translations of each other. A lexical
model (IBM's first) learns from them which word becomes which; the most probable ones are written.
"""

import numpy as np

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import read_lines, whole
from fairseq_feedback.tools.program import at_least_one, quiet

ROUNDS = 5  # of expectation and maximization
MOST_PAIRS = 40_000_000  # of words; they take 1.5 GB


def add_arguments(parser):
    parser.add_argument("--source", required=True, metavar="FILE", help="text to learn from, in pieces of words")
    parser.add_argument("--target", required=True, metavar="FILE", help="its translation")
    parser.add_argument("--output", required=True, metavar="FILE", help="the shortlist to write")
    parser.add_argument("--best", type=int, default=50, metavar="N", help="words for each of the source (%(default)s)")
    parser.add_argument("--frequent", type=int, default=200, metavar="N", help="words for all sentences (%(default)s)")


def main(args):
    quiet()
    from fairseq_feedback.generation.shortlist import ALWAYS

    at_least_one(args, "best", "frequent")
    source, target = read_lines(args.source), read_lines(args.target)
    if len(source) != len(target):
        raise FeedbackError(
            f"{args.source} has {len(source):,} lines, {args.target} {len(target):,}: they must be equal"
        )
    sources, source_words = numbered(source)
    targets, target_words = numbered(target)
    pairs, groups, used = pairs_of_words(sources, targets, len(target_words))
    if not len(pairs):
        raise FeedbackError(f"--source {args.source}: no line has words on both sides")
    print(f"{used:,} of {len(source):,} lines, {len(pairs):,} pairs of words", flush=True)
    keys, probabilities = learn(pairs, groups, len(target_words))
    counts = np.bincount(np.concatenate(targets), minlength=len(target_words))
    frequent = np.argsort(-counts, kind="stable")[: args.frequent]
    with whole(args.output) as f:
        print(ALWAYS, *(target_words[i] for i in frequent), file=f)
        for word, best in best_of(keys, probabilities, len(target_words), args.best):
            print(source_words[word], *(target_words[i] for i in best), file=f)
    print(f"written: {args.output}")


def numbered(lines):
    """-> a row of numbers for each line, the words."""
    numbers = {}
    rows = [
        np.array([numbers.setdefault(word, len(numbers)) for word in line.split()], dtype=np.int64) for line in lines
    ]
    return rows, list(numbers)


def pairs_of_words(sources, targets, target_size):
    """Each word of a sentence with each of its translation, as one number -> these, and which word of the target, in
    the order of the text, each is of; and how many sentences, for there may be too many."""
    pairs, groups, used, made, positions = [], [], 0, 0, 0
    for source, target in zip(sources, targets):
        if made > MOST_PAIRS:
            break
        pairs.append((target[:, None] + target_size * source).ravel())
        groups.append(np.repeat(np.arange(positions, positions + len(target)), len(source)))
        used, made, positions = used + 1, made + len(pairs[-1]), positions + len(target)
    return np.concatenate(pairs or [[]]), np.concatenate(groups or [[]]), used


def learn(pairs, groups, target_size):
    """-> the different pairs, and the probability of each one's target word given the source's."""
    keys, of = np.unique(pairs, return_inverse=True)
    probabilities = np.ones(len(keys))
    for round in range(ROUNDS):
        share = probabilities[of]
        share /= np.bincount(groups, share)[groups]  # which word of the sentence it comes from
        counts = np.bincount(of, share)
        probabilities = counts / np.bincount(keys // target_size, counts)[keys // target_size]
        print(f"round {round + 1} of {ROUNDS}", flush=True)
    return keys, probabilities


def best_of(keys, probabilities, target_size, best):
    """Each word of the source with its most probable translations."""
    order = np.lexsort((-probabilities, keys // target_size))
    words, starts = np.unique((keys // target_size)[order], return_index=True)
    for word, part in zip(words, np.split((keys % target_size)[order], starts[1:])):
        yield word, part[:best]
