"""BLEU of translations: tokenized, as fairseq's authors print it; BLEU and chrF of detokenized text, by sacrebleu.

    fairseq-feedback score bleu --generated generate-test.txt
    fairseq-feedback score bleu --hypotheses hyp.tok.de --references ref.tok.de --compound-split
    fairseq-feedback score bleu --generated generate-test.txt --detokenize de --raw-references test.de

Tokenized BLEU compares the words as they are, without smoothing, as multi-bleu.perl and fairseq do. It depends on the
tokenizer, so compare it only with scores of the same protocol. (fairseq compares hashes of n-grams, of which a few
collide: it can print a hundredth more.) With --detokenize, sacrebleu's BLEU and chrF follow, each with its signature;
these can be compared between papers.

From the output of fairseq-generate, hypotheses are the H- lines and references the T- lines. Run fairseq-generate
with --remove-bpe and without --bpe and --tokenizer; otherwise T- lines are not tokenized like the H- lines.
"""

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import generated
from fairseq_feedback.tools.extras import need
from fairseq_feedback.tools.files import read_lines, write_json
from fairseq_feedback.tools.split_compounds import split_all


def add_arguments(parser):
    parser.add_argument("--generated", metavar="FILE", help="output of fairseq-generate")
    parser.add_argument("--hypotheses", metavar="FILE", help="tokenized translations, one a line")
    parser.add_argument("--references", metavar="FILE", help="tokenized references, one a line; with --generated they"
                        " replace the T- lines, in which rare words are <unk>")  # fmt: skip
    parser.add_argument(
        "--compound-split", action="store_true", help="split compounds at hyphens before tokenized BLEU"
    )
    parser.add_argument(
        "--detokenize", metavar="LANG", help="also detokenize for this language, and score by sacrebleu"
    )
    parser.add_argument("--lowercase", action="store_true", help="let sacrebleu ignore case")
    parser.add_argument("--raw-references", metavar="FILE", help="references that were never tokenized, for sacrebleu;"
                        " otherwise the tokenized ones are detokenized too")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the scores there, too")


def main(args):
    check(args)
    hypotheses, references = texts(args)
    scores = {"sentences": len(references), "compound_split": args.compound_split}
    scores["tokenized"] = tokenized(hypotheses, references, args.compound_split)
    print(f"tokenized{', compounds split' if args.compound_split else ''}: {scores['tokenized']['line']}")
    if args.detokenize:
        raw = args.raw_references and read_lines(args.raw_references)
        scores["detokenized"] = detokenized(hypotheses, references, raw, args.detokenize, args.lowercase)
        print(f"detokenized: {scores['detokenized']['line']}")
        print(f"detokenized: {scores['detokenized']['chrf_line']}")
    if args.json:
        write_json(args.json, scores)


def check(args):
    if bool(args.generated) == bool(args.hypotheses):
        raise FeedbackError("give either --generated or --hypotheses")
    if args.hypotheses and not args.references:
        raise FeedbackError("--hypotheses needs --references")
    if (args.raw_references or args.lowercase) and not args.detokenize:
        raise FeedbackError("--raw-references and --lowercase need --detokenize LANG")


def texts(args):
    """(hypotheses, references), equally many."""
    references = args.references and read_lines(args.references)
    if args.generated:
        hypotheses = generated.read(args.generated, "H", None if references is None else len(references))
        references = references or generated.read(args.generated, "T", len(hypotheses))
    else:
        hypotheses = read_lines(args.hypotheses)
    compare_counts(hypotheses, references, args.generated or args.hypotheses, args.references)
    return hypotheses, references


def compare_counts(hypotheses, references, here, there):
    if not references:
        raise FeedbackError(f"{there} is empty: there is nothing to score")
    if len(hypotheses) != len(references):
        raise FeedbackError(f"{here} has {len(hypotheses)} lines, {there} has {len(references)}")


def tokenized(hypotheses, references, compound_split=False):
    """The score, and the line that fairseq prints for it."""
    from sacrebleu.metrics import BLEU

    if compound_split:
        hypotheses = split_all(hypotheses, "the hypotheses")
        references = split_all(references, "the references")
    bleu = BLEU(tokenize="none", smooth_method="none", force=True).corpus_score(hypotheses, [references])
    parts = "/".join(f"{p:.1f}" for p in bleu.precisions)
    return {
        "score": bleu.score,
        "line": f"BLEU4 = {bleu.score:.2f}, {parts} (BP={bleu.bp:.3f}, ratio={bleu.sys_len / bleu.ref_len:.3f}, "
        f"syslen={bleu.sys_len}, reflen={bleu.ref_len})",
    }


def detokenized(hypotheses, references, raw, language, lowercase=False):
    """BLEU and chrF of detokenized hypotheses against raw references, or against detokenized ones."""
    need("recipes", "sacremoses")
    from sacrebleu.metrics import BLEU, CHRF
    from sacremoses import MosesDetokenizer

    detokenizer = MosesDetokenizer(lang=language)
    hypotheses = [detokenizer.detokenize(line.split()) for line in hypotheses]
    if raw is None:
        raw = [detokenizer.detokenize(line.split()) for line in references]
    if len(raw) != len(references):
        raise FeedbackError(f"--raw-references has {len(raw)} lines, the tokenized references are {len(references)}")
    found = {}
    for name, metric in (
        ("", BLEU(trg_lang=language, lowercase=lowercase)),
        ("chrf_", CHRF(lowercase=lowercase)),
    ):
        score, signature = metric.corpus_score(hypotheses, [raw]), str(metric.get_signature())
        found[f"{name}score"], found[f"{name}signature"] = score.score, signature
        found[f"{name}line"] = score.format(signature=signature)
    return found
