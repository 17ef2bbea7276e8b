#!/usr/bin/env python3
"""Translate with an exported feedback transformer. Needs numpy and onnxruntime, not torch or fairseq.

    fairseq-feedback export --path checkpoints/checkpoint_best.pt --data data-bin --output exported
    python examples/onnx/translate.py exported --beam 5 --remove-bpe < sentences.bpe > translations.txt

Reads sentences as the model was trained on them (tokenized, cut by BPE), one a line, and prints one translation for
each. The search is that of fairseq-generate, with the same names and defaults of options; --beam 1 is greedy.
"""

import argparse
import hashlib
import json
import os
import sys
import time

import numpy as np
import onnxruntime

NEXT = ["best_log_probs", "best_tokens", "new_memory_keys", "new_memory_values"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]  # stand before the words of every dictionary of fairseq


class Translator:
    """An exported model, and the search for its best translations."""

    def __init__(self, folder, threads=0):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            self.config = json.load(f)
        if "files" not in self.config:
            raise ValueError(f"{folder} has no checksums of its files: export it again")
        for name, wanted in self.config["files"].items():
            if checksum(os.path.join(folder, name)) != wanted:
                raise ValueError(f"{os.path.join(folder, name)} is not what was exported: copy the folder again")
        self.encoder = session(os.path.join(folder, "encoder.onnx"), threads)
        self.step = session(os.path.join(folder, "decoder_step.onnx"), threads)
        self.step_inputs = [i.name for i in self.step.get_inputs()]  # all, but `step` if there are no positions
        source, self.words = (
            read_dictionary(os.path.join(folder, f"dict.{self.config[side]}.txt"))
            for side in ("source_lang", "target_lang")
        )
        self.numbers = {word: number for number, word in enumerate(source)}

    def translate(self, lines, batch_size=32, **options):
        """A translation for each line. Lines of similar length share a batch."""
        c = self.config
        sources = [[self.numbers.get(word, c["unk"]) for word in line.split()] + [c["eos"]] for line in lines]
        for number, source in enumerate(sources, start=1):
            if len(source) > c["max_source_positions"]:
                most = c["max_source_positions"] - 1
                raise ValueError(f"line {number} has {len(source) - 1} words, the model reads at most {most}")
        translations = [""] * len(lines)
        order = sorted(range(len(lines)), key=lambda i: -len(sources[i]))
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            tokens = np.full((len(batch), len(sources[batch[0]])), c["pad"], dtype=np.int64)
            for row, i in enumerate(batch):
                tokens[row, tokens.shape[1] - len(sources[i]) :] = sources[i]
            for i, hypotheses in zip(batch, self.search(tokens, **options)):
                _, best = hypotheses[0]
                translations[i] = " ".join(self.words[token] for token in best if token != c["bos"])
        return translations

    def search(self, sources, beam=5, lenpen=1.0, min_len=1, max_len_a=0.0, max_len_b=200):
        """sources (R, S) -> for each its hypotheses: [(score, tokens without the end), ...], best first."""
        c = self.config
        eos, vocabulary = c["eos"], len(self.words)
        if not 1 <= beam < vocabulary // 2:
            raise ValueError(f"--beam {beam}: give a number from 1 to {vocabulary // 2 - 1}")
        longest = min(int(max_len_a * sources.shape[1] + max_len_b), c["max_target_positions"] - 1)
        if min_len > longest:
            raise ValueError(f"--min-len {min_len}: the longest translation is {longest}")
        cross_keys, cross_values, padding, keys, values = self.encoder.run(None, {"source_tokens": sources})
        # The beams of a sentence are neighbours: rows 0 .. beam - 1 are of the first. They share its cross keys.
        keys, values = keys.repeat(beam, axis=1), values.repeat(beam, axis=1)
        found = [[] for _ in sources]
        open_ = np.arange(len(sources))  # sentences that still are searched
        tokens = np.full((len(sources), beam, 1), eos, dtype=np.int64)
        scores = np.full((len(sources), beam), -np.inf, dtype=np.float32)
        scores[:, 0] = 0.0  # all beams begin alike: the first one only
        for t in range(longest + 1):
            inputs = dict(tokens=tokens[:, :, -1].ravel(), step=np.array(t), candidates=np.array(2 * beam + 2))
            inputs.update(memory_keys=keys, memory_values=values)
            inputs.update(cross_keys=cross_keys, cross_values=cross_values, source_padding=padding)
            inputs = {name: inputs[name] for name in self.step_inputs}
            if t < longest:  # two more candidates than needed: padding and the end may be among them
                log_probs, word, keys, values = self.step.run(NEXT, inputs)
                log_probs[word == c["pad"]] = -np.inf
                if t < min_len:
                    log_probs[word == eos] = -np.inf
            else:
                log_probs = self.step.run(["log_probs"], inputs)[0][:, [eos]]
                word = np.full(log_probs.shape, eos)

            # The best 2 * beam continuations: at most half of them end, so that enough are left to go on with.
            totals = (scores.reshape(-1, 1) + log_probs).reshape(len(open_), -1)
            best = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beam]
            total, parent, word = take(totals, best), best // word.shape[1], take(word.reshape(totals.shape), best)
            ends = (word == eos) & (total > -np.inf)
            for row, rank in zip(*np.nonzero(ends[:, :beam])):
                hypotheses = found[open_[row]]
                if len(hypotheses) < beam:
                    score = total[row, rank] / (t + 1) ** lenpen
                    hypotheses.append((float(score), tokens[row, parent[row, rank], 1:].tolist()))

            stay = np.array([len(found[i]) < beam for i in open_])
            if t == longest or not stay.any():
                break
            going_on = np.argsort(ends, axis=1, kind="stable")[:, :beam]  # the best that do not end
            parent, word = take(parent, going_on)[stay], take(word, going_on)[stay]
            scores = take(total, going_on)[stay]
            tokens = np.concatenate([tokens[stay][np.arange(len(parent))[:, None], parent], word[:, :, None]], axis=2)
            # Give every row of the memory its parent's past: a `take` along the axis of rows is all there is to it.
            rows = (np.nonzero(stay)[0][:, None] * beam + parent).ravel()
            if not np.array_equal(rows, np.arange(keys.shape[1])):
                keys, values = keys.take(rows, axis=1), values.take(rows, axis=1)
            if not stay.all():
                open_, padding = open_[stay], padding[stay]
                cross_keys, cross_values = cross_keys[:, stay], cross_values[:, stay]
        return [sorted(hypotheses, key=lambda h: -h[0]) for hypotheses in found]


def checksum(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0: as many as there are cores
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def take(of, where):
    return np.take_along_axis(of, where, axis=1)


def read_dictionary(path):
    with open(path, encoding="utf-8", newline="\n") as f:
        return SPECIAL + [line.rsplit(" ", 1)[0] for line in f]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what `fairseq-feedback export` has written")
    parser.add_argument("--input", metavar="FILE", help="sentences, one a line (default: standard input)")
    parser.add_argument("--beam", type=int, default=5, metavar="N", help="hypotheses that are kept (%(default)s)")
    parser.add_argument("--lenpen", type=float, default=1.0, metavar="X", help="above 1: longer ones (%(default)s)")
    parser.add_argument("--min-len", type=int, default=1, metavar="N", help="shortest translation (%(default)s)")
    parser.add_argument("--max-len-a", type=float, default=0.0, metavar="A", help="longest: A times the source ...")
    parser.add_argument("--max-len-b", type=int, default=200, metavar="B", help="... plus B (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="sentences at once (%(default)s)")
    parser.add_argument("--remove-bpe", nargs="?", const="@@ ", metavar="MARK", help="join words cut by BPE (@@ )")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of onnxruntime (default: all cores)")
    args = parser.parse_args()
    names = ("beam", "lenpen", "min_len", "max_len_a", "max_len_b", "batch_size")
    sys.stdout.reconfigure(encoding="utf-8")
    try:
        if args.batch_size < 1:
            raise ValueError(f"--batch-size {args.batch_size}: give at least 1")
        translator = Translator(args.folder, args.threads)
        with open(args.input or 0, encoding="utf-8", newline="\n") as f:
            lines = f.read().split("\n")
        lines = lines if lines[-1] else lines[:-1]
        start = time.time()
        translations = translator.translate(lines, **{name: getattr(args, name) for name in names})
        seconds = time.time() - start
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for text in translations:
        print((text + " ").replace(args.remove_bpe, "").rstrip() if args.remove_bpe else text)
    print(f"{len(lines):,} sentences in {seconds:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
