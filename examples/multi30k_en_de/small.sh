#!/usr/bin/env bash
# Usage: bash examples/multi30k_en_de/small.sh [OPTION...]
#
# A small model that translates captions of pictures, from nothing: prepares Multi30k, trains 4 encoder layers and 1
# feedback decoder layer with the recipe's settings, scores it, and says how to translate with it. 50 minutes to
# two hours on 2 cores. A run that was stopped goes on where it was.
set -euo pipefail

# shellcheck source=examples/common.sh
source "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../common.sh"

OUT=$FEEDBACK_ROOT/runs/multi30k_small
ARCHIVES=
UPDATES=10500
GPUS=
EXPECTED=
FURTHER_HELP="further flags of fairseq-train"
option --data DIR ARCHIVES folder "use the archives in this folder instead of downloading them"
option --expected FILE EXPECTED file "counts and checksums of other data, in the format of examples/multi30k_en_de/expected.txt"
option --out DIR OUT path "where everything is written (runs/multi30k_small, in the repository)"
option --max-update N UPDATES number "updates ($UPDATES)"
option --gpus N GPUS count "GPUs of this machine (all; without one, the CPU)"
read_options "$@"
cd -- "$FEEDBACK_ROOT"

recipe=examples/multi30k_en_de
run bash $recipe/prepare.sh --out "$OUT/data" ${ARCHIVES:+--data "$ARCHIVES"} ${EXPECTED:+--expected "$EXPECTED"}
run bash $recipe/train.sh --decoder-layers 1 --data "$OUT/data/bin" --out "$OUT" --max-update "$UPDATES" \
    ${GPUS:+--gpus "$GPUS"} -- "${FURTHER[@]}"
average=10
(($(find "$OUT/checkpoints" -name 'checkpoint[0-9]*.pt' | wc -l) >= average)) || average=0 # too few epochs: the best one
model=$OUT/eval/averaged-$average.pt
((average > 0)) || model=$OUT/checkpoints/checkpoint_best.pt
run bash $recipe/eval.sh --run "$OUT" --data "$OUT/data/bin" --average "$average"

cat <<END

Try it, in lower case (a dog runs on the beach .):
  fairseq-feedback translate -i "$OUT/data/bin" --path "$model" --beam 5 \\
      --tokenizer moses --source-lang en --target-lang de --bpe subword_nmt --bpe-codes "$OUT/data/bpe/codes"
A file: --input captions.en --output captions.de instead of -i. fairseq-feedback is a command of .venv:
  source .venv/bin/activate
END
