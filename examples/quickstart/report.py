"""The quickstart's table: scores, speed and size of its two models, with samples.

    python examples/quickstart/report.py quickstart-run

Reads what fairseq-generate and fairseq-train printed; writes report.json beside it.
"""

import os
import shlex
import sys

import sacrebleu

from examples import report
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import generated
from fairseq_feedback.tools.files import read_lines, write_json
from fairseq_feedback.tools.program import Parser, run

SYSTEMS = [("feedback", "feedback transformer"), ("transformer", "standard transformer")]
AGAIN = "run bash scripts/quickstart.sh to the end"


def main():
    parser = Parser(__doc__)
    parser.add_argument("out", metavar="FOLDER", help="of the run")
    out = parser.parse_args().out
    sources, references = (lines(out, "text", f"test.{language}") for language in ("en", "de"))
    translations = {name: hypotheses(out, name, len(references)) for name, _ in SYSTEMS}
    rows = [row(out, name, title, translations[name], references) for name, title in SYSTEMS]
    write_json(os.path.join(out, "report.json"), rows)
    print("\n" + report.table(rows) + "\n")
    print_samples(sources, references, translations)
    print("\nTranslate sentences of your own (words of the corpus: The old woman often sees a small dog .):\n")
    print(
        f"  {translate()} -i {shlex.quote(out)}/data --path {shlex.quote(out)}/feedback/checkpoint_best.pt "
        f"--bpe subword_nmt --bpe-codes {shlex.quote(out)}/codes"
    )
    print("\nA file: --input FILE --output FILE instead of -i.")


def row(out, name, title, translated, references):
    log = os.path.join(out, f"train-{name}.log")
    return {
        "system": title,
        "BLEU": bleu(translated, references),
        # corpus.py: every second test sentence holds a pair of words that training has not seen together
        "BLEU, new pairs": bleu(translated[1::2], references[1::2]),
        "chrF": round(sacrebleu.corpus_chrf(translated, [references]).score, 1),
        "exact %": round(100 * sum(map(str.__eq__, translated, references)) / len(references), 1),
        "decoding words/s": report.words_per_second(os.path.join(out, f"test-{name}.txt"), "D"),
        "training words/s": report.training_speed(log),
        "parameters": report.parameters(log, AGAIN),
    }


def translate():
    """The command of the environment that runs this, by a path that works where this was called."""
    installed = os.path.join(os.path.dirname(sys.executable), "fairseq-feedback")
    if os.path.exists(installed):
        return shlex.quote(os.path.relpath(installed)) + " translate"
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path, python = shlex.quote(os.path.relpath(root)), shlex.quote(sys.executable)
    return f"PYTHONPATH={path} {python} -m fairseq_feedback translate"


def lines(*names):
    path = os.path.join(*names)
    if not os.path.isfile(path):
        raise FeedbackError(f"{path} is missing: {AGAIN}")
    return read_lines(path)


def hypotheses(out, name, count):
    """Translations of the test set, in its order."""
    lines(out, f"test-{name}.txt")
    return generated.read(os.path.join(out, f"test-{name}.txt"), "D", count)


def bleu(translated, references):
    return round(sacrebleu.corpus_bleu(translated, [references], force=True).score, 1)


def print_samples(sources, references, translations):
    """Three test sentences of growing length, spread over the set."""
    order = sorted(range(len(sources)), key=lambda i: (len(sources[i].split()), i))
    for i in (order[len(order) // 4], order[len(order) // 2], order[9 * len(order) // 10]):
        print(f"  English      {sources[i]}")
        print(f"  German       {references[i]}")
        for name, _ in SYSTEMS:
            print(f"  {name:<12} {translations[name][i]}")
        print()


if __name__ == "__main__":
    run(main)
