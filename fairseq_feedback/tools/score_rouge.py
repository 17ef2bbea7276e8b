"""ROUGE-1, ROUGE-2 and ROUGE-Lsum of summaries, by the package rouge-score.

    fairseq-feedback score rouge --generated generate-test.txt --references test.target
    fairseq-feedback score rouge --hypotheses hyp.txt --references ref.txt

A summary is one line. Its sentences are separated by the word that --separator names. ROUGE-Lsum compares sentence by
sentence and is what papers call ROUGE-L; over the whole text as one sentence it would be several points lower.
The scores are the mean F1 of all summaries.
"""

import multiprocessing

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import generated
from fairseq_feedback.tools.extras import need
from fairseq_feedback.tools.files import read_lines, write_json
from fairseq_feedback.tools.program import at_least_one
from fairseq_feedback.tools.score_bleu import compare_counts

KINDS = ("rouge1", "rouge2", "rougeLsum")
SEPARATOR = "<S_SEP>"
CHUNK = 64  # summaries that a process takes at once


def add_arguments(parser):
    parser.add_argument("--generated", metavar="FILE", help="output of fairseq-generate, made with --remove-bpe")
    parser.add_argument("--hypotheses", metavar="FILE", help="summaries, one a line")
    parser.add_argument("--references", metavar="FILE", required=True, help="references, one a line")
    parser.add_argument("--separator", default=SEPARATOR, help="the word between sentences (%(default)s)")
    parser.add_argument("--no-stemmer", action="store_true", help="compare words as they are, not their Porter stems")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the scores there, too")


def main(args):
    if bool(args.generated) == bool(args.hypotheses):
        raise FeedbackError("give either --generated or --hypotheses")
    at_least_one(args, "workers")
    references = read_lines(args.references)
    if args.generated:
        hypotheses = generated.read(args.generated, "H", len(references))
    else:
        hypotheses = read_lines(args.hypotheses)
    compare_counts(hypotheses, references, args.generated or args.hypotheses, args.references)
    scores = score(hypotheses, references, args.separator, not args.no_stemmer, args.workers)
    for kind in KINDS:
        print(f"{kind:<9} {scores[kind]:6.2f}")
    print(scores["settings"])
    if args.json:
        write_json(args.json, scores)


def score(hypotheses, references, separator=SEPARATOR, stemmer=True, workers=1):
    """{kind: mean F1 in percent}, with the settings that belong to it."""
    need("recipes", "rouge_score")
    pairs = [(sentences(r, separator), sentences(h, separator)) for h, r in zip(hypotheses, references)]
    if workers > 1:
        with multiprocessing.Pool(workers, _start, (stemmer,)) as pool:
            each = pool.map(_score, pairs, CHUNK)
    else:
        _start(stemmer)
        each = [_score(pair) for pair in pairs]
    scores = {kind: 100 * sum(one[i] for one in each) / len(each) for i, kind in enumerate(KINDS)}
    scores["sentences_per_summary"] = sum(h.count("\n") + 1 for _, h in pairs) / len(pairs)
    scores["settings"] = (
        f"rouge-score, mean F1 of {len(pairs)} summaries, sentences split at {separator} "
        f"({scores['sentences_per_summary']:.1f} a summary), stemmer {'on' if stemmer else 'off'}"
    )
    return scores


def sentences(summary, separator):
    """One sentence a line, as ROUGE-Lsum wants them."""
    found, words = [], []
    for word in summary.split() + [separator]:
        if word != separator:
            words.append(word)
        elif words:
            found.append(" ".join(words))
            words = []
    return "\n".join(found)


_scorer = None  # of this process


def _start(stemmer):
    global _scorer
    from rouge_score.rouge_scorer import RougeScorer

    _scorer = RougeScorer(KINDS, use_stemmer=stemmer)


def _score(pair):
    found = _scorer.score(*pair)
    return [found[kind].fmeasure for kind in KINDS]
