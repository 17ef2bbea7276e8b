"""The quickstart's table: scores, speed and size of its two models, with samples.

    python examples/quickstart/report.py quickstart-run

Reads what fairseq-generate and fairseq-train printed; writes report.json beside it.
"""

import json
import os
import re
import shlex
import sys

import sacrebleu

SYSTEMS = [("feedback", "feedback transformer"), ("transformer", "standard transformer")]


def main():
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        sys.exit("usage: python examples/quickstart/report.py FOLDER-OF-THE-RUN")
    out = sys.argv[1]
    references = read_lines(os.path.join(out, "text", "test.de"))
    sources = read_lines(os.path.join(out, "text", "test.en"))
    report, translations = [], {}
    for name, title in SYSTEMS:
        generated = read_lines(os.path.join(out, f"test-{name}.txt"))
        translations[name] = hypotheses(generated, len(references), name)
        report.append(
            {
                "system": title,
                "BLEU": bleu(translations[name], references),
                # corpus.py: every second test sentence holds a pair of words that training has not seen together
                "BLEU, new pairs": bleu(translations[name][1::2], references[1::2]),
                "chrF": round(sacrebleu.corpus_chrf(translations[name], [references]).score, 1),
                "exact %": round(exact(translations[name], references), 1),
                "decoding words/s": words_per_second(generated, translations[name]),
                "training words/s": training_speed(os.path.join(out, f"train-{name}.log")),
                "parameters": parameters(os.path.join(out, f"train-{name}.log")),
            }
        )
    write_json(os.path.join(out, "report.json"), report)
    print()
    print_table(report)
    print()
    print_samples(sources, references, translations)
    print("\nTranslate your own sentence (words of the corpus, punctuation set off):\n")
    print(
        f"  echo 'The old woman often sees a small dog .' | {command('fairseq-interactive')} "
        f"{shlex.quote(out)}/data --user-dir {shlex.quote(package())} "
        f"--path {shlex.quote(out)}/feedback/checkpoint_best.pt --beam 5 "
        f"--bpe subword_nmt --bpe-codes {shlex.quote(out)}/codes"
    )


def command(name):
    """A command of the environment that runs this, by a path that works where this was called."""
    return shlex.quote(os.path.relpath(os.path.join(os.path.dirname(sys.executable), name)))


def package():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.path.relpath(os.path.join(root, "fairseq_feedback"))


def read_lines(path):
    if not os.path.isfile(path):
        sys.exit(f"error: {path} is missing: run bash scripts/quickstart.sh to the end")
    with open(path, encoding="utf-8") as f:
        return f.read().splitlines()


def hypotheses(generated, count, name):
    """The D- lines of fairseq-generate in the order of the test set."""
    found = {}
    for line in generated:
        if line.startswith("D-"):
            number, _, text = line[2:].split("\t", 2)
            found[int(number)] = text
    if sorted(found) != list(range(count)):
        sys.exit(f"error: test-{name}.txt has {len(found)} translations, expected {count}")
    return [found[i] for i in range(count)]


def bleu(hyps, references):
    return round(sacrebleu.corpus_bleu(hyps, [references], force=True).score, 1)


def exact(hyps, references):
    return 100.0 * sum(h == r for h, r in zip(hyps, references)) / len(references)


def words_per_second(generated, hyps):
    """Words of the translations (not subword units) by fairseq-generate's own clock."""
    for line in generated:
        match = re.search(r"Translated [\d,]+ sentences \([\d,]+ tokens\) in ([0-9.]+)s", line)
        if match:
            return round(sum(len(h.split()) for h in hyps) / float(match.group(1)))
    sys.exit("error: fairseq-generate did not print its speed")


def training_speed(log):
    """Median of the words/s that fairseq-train printed."""
    speeds = sorted(float(s) for line in read_lines(log) for s in re.findall(r"train_inner.* wps=([0-9.]+)", line))
    return round(speeds[len(speeds) // 2]) if speeds else None


def parameters(log):
    for line in read_lines(log):
        match = re.search(r"num\. shared model params: ([0-9,]+)", line)
        if match:
            return int(match.group(1).replace(",", ""))
    return None


def write_json(path, report):
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(report, f, indent=1)
        f.write("\n")
    os.replace(path + ".part", path)


def print_table(report):
    columns = list(report[0])
    rows = [columns] + [[cell(row[c]) for c in columns] for row in report]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for n, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        print("| " + " | ".join(cells) + " |")
        if n == 0:
            print("|-" + "-|-".join("-" * w for w in widths) + "-|")


def cell(value):
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


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
    main()
