"""Turn a checkpoint of transformer-sequential, the code of the paper's authors, into one for fairseq.

    fairseq-feedback import --checkpoint theirs.pt --vocabulary symbols.txt \\
        --dict imported/dict.txt --output imported/model.pt
    fairseq-preprocess --only-source --srcdict imported/dict.txt --testpref test.txt --destdir data
    fairseq-eval-lm data --user-dir fairseq_feedback --task feedback_lm --path imported/model.pt

The model must have been trained with their --feedback, with or without --pre-norm. With it their code norms the memory
that comes from the block before twice, which is not in the paper's equations: from the second block on their scores
differ from ours, by 0.05 to 0.08 where it was measured. The state of the optimizer is left behind: train on with
--finetune-from-model and the options that are printed.

Their checkpoint does not hold the vocabulary, so give it: a text file (UTF-8), one symbol a line, in the order of their
numbers. Their code saves it beside the data, in corpus.pt. In the folder of that code, this writes the file:

    python -c "import torch; c = torch.load('DATA/corpus.pt', weights_only=False); \\
        print(*c.dictionary.idx2word, sep='\\n')" > symbols.txt

A symbol cannot have white space in it. Write a space as \u2581, as fairseq's --bpe characters does; write a line feed
as a word, and name that word in --eos.

fairseq's dictionary begins with <s>, <pad>, </s> and <unk>. The symbol of --eos becomes </s>; <s>, </s> and <unk> of
their vocabulary stay what they are. Those of the four that it lacks get embeddings of zero and an output bias of
-10000: their probability is 0, and that of all others is what it was. fairseq-preprocess ends every line with </s>. If
their text had a symbol there (<eos> with --data-eos; the number of a line feed in a text of bytes), break lines there;
otherwise put all text in one line. fairseq also predicts the first symbol of a text, from </s>; their code does not.
"""

import os

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.program import quiet


def add_arguments(parser):
    parser.add_argument("--checkpoint", required=True, help="file that transformer-sequential saved")
    parser.add_argument("--vocabulary", required=True, help="text file, one symbol a line, by number")
    parser.add_argument("--dict", required=True, help="the dict.txt to write")
    parser.add_argument("--output", required=True, help="checkpoint to write")
    parser.add_argument("--eos", metavar="SYMBOL", help="what ends a line (default: <eos>, if the vocabulary has it)")
    parser.add_argument(
        "--adaptive-span-ramp", type=int, metavar="N", help="their --adapt-span-len (default: as saved, or else 32)"
    )
    parser.add_argument(
        "--dropout", type=float, metavar="P", help="their --dropout, to train on with (default: as saved, or else 0.2)"
    )


def main(args):
    quiet()
    if os.path.basename(args.dict) != "dict.txt":
        raise FeedbackError(f"--dict {args.dict}: name the file dict.txt, which is what fairseq looks for")
    from fairseq_feedback.tools.transformer_sequential import bring_over

    flags = bring_over(args)
    print(f"options: {' '.join(flags)}\nwritten: {args.dict}, {args.output}")
