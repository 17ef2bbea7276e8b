#!/usr/bin/env python3
"""Export a translation model for onnxruntime: the encoder, and one step of the decoder with its memory in and out.

    python scripts/export_onnx.py --path checkpoints/checkpoint_best.pt --data data-bin --output exported
    python examples/onnx/translate.py exported --beam 5 --remove-bpe < sentences.bpe

The folder gets encoder.onnx, decoder_step.onnx, the two dictionaries and config.json; examples/onnx/README.md says what
goes in and comes out. Before the files get their names, onnxruntime runs them on sentences of several lengths, with
padding and with beams, and every step's log-probabilities are compared with those of torch under teacher forcing.
Needs the packages onnx and onnxruntime: pip install '.[onnx]'.
"""

import argparse
import ast
import logging
import os
import shutil
import sys
import tempfile

import numpy as np

logging.basicConfig(level=logging.WARNING, format="%(message)s")  # before fairseq does, which would say more
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import fairseq_feedback  # noqa: E402, F401, I001  before fairseq: it silences a warning of that
import torch  # noqa: E402
from fairseq import checkpoint_utils  # noqa: E402
from fairseq.data.data_utils import infer_language_pair  # noqa: E402
from fairseq.models import ARCH_MODEL_REGISTRY  # noqa: E402
from tool import Parser, Problem, run, write_json  # noqa: E402

from fairseq_feedback.errors import FeedbackError  # noqa: E402
from fairseq_feedback.models import serving  # noqa: E402
from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel  # noqa: E402

# Lengths of the sentences in a batch, on which side they are padded, and beams.
BATCHES = [([1], "left", 1), ([2, 9, 5], "left", 1), ([17, 3], "right", 4), ([30, 30, 12, 1], "left", 2)]
STEPS = 12


def main():
    parser = Parser(__doc__)
    parser.add_argument("--path", required=True, metavar="FILE", help="the checkpoint")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="fairseq's binary data: its dictionaries")
    parser.add_argument("--source-lang", metavar="LANG", help="if neither the checkpoint nor the data's files tell")
    parser.add_argument("--target-lang", metavar="LANG", help="likewise")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument("--model-overrides", type=overrides, default={}, metavar="DICT",
                        help="as of fairseq-generate, to prune layers")  # fmt: skip
    parser.add_argument("--tolerance", type=float, default=1e-3, metavar="X",
                        help="largest difference from torch to accept (%(default)s)")  # fmt: skip
    args = parser.parse_args()
    if not args.tolerance > 0:
        raise Problem(f"--tolerance {args.tolerance:g}: give a positive number")
    need_packages()
    changes = {name: getattr(args, name) for name in ("source_lang", "target_lang") if getattr(args, name)}
    model, cfg, task = load(args.path, args.data, {**args.model_overrides, **changes})
    parameters = f"{sum(p.numel() for p in model.parameters()):,} parameters"
    print(f"{args.path}: {cfg.model._name}, {task.cfg.source_lang} to {task.cfg.target_lang}, {parameters}")
    output = os.path.abspath(args.output)
    if os.path.exists(output) and not os.path.isdir(output):
        raise Problem(f"--output {args.output} is not a folder")
    os.makedirs(os.path.dirname(output), exist_ok=True)
    part = tempfile.mkdtemp(".part", os.path.basename(output) + ".", os.path.dirname(output))
    try:
        print("exporting", flush=True)
        write(model, task, part)
        compare(model, part, args.tolerance)
        move(part, args.output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"translate: python examples/onnx/translate.py {args.output} --beam 5 < SENTENCES")


def overrides(text):
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text} is not a dictionary of options, such as {{'decoder_layers': 2}}")
    return found


def need_packages():
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise Problem(f"{error}: pip install '.[onnx]' in the folder of this repository") from error


def load(path, data, changes):
    """(model, configuration, task) of a checkpoint."""
    if not os.path.isfile(path):
        raise Problem(f"--path {path} is missing")
    if not os.path.isdir(data):
        raise Problem(f"--data {data} is not a folder")
    changes = {**changes, "data": data, "checkpoint_activations": False}  # which wraps layers, for training only
    state = checkpoint_utils.load_checkpoint_to_cpu(path, changes)
    cfg = state.get("cfg")
    if cfg is None or cfg.get("model") is None:
        raise Problem(f"--path {path} does not say what model it is of")
    name = getattr(cfg.model, "_name", None) or getattr(cfg.model, "arch", None)
    if ARCH_MODEL_REGISTRY.get(name) is not FeedbackTransformerModel:
        raise Problem(f"--path {path} is of the architecture {name}: only feedback_transformer and its variants for"
                      " translation are exported")  # fmt: skip
    if cfg.task._name != "translation":
        raise Problem(f"--path {path} is of the task {cfg.task._name}: only translation is exported")
    if not (cfg.task.source_lang and cfg.task.target_lang) and not all(infer_language_pair(data)):
        raise Problem(f"--data {data}: its files do not tell the languages, so give --source-lang and --target-lang")
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task([path], state=state)
    serving.check(model)
    return model, cfg, task


def write(model, task, folder):
    """All files of an export."""
    serving.export(model, os.path.join(folder, "encoder.onnx"), os.path.join(folder, "decoder_step.onnx"))
    source, target = task.source_dictionary, task.target_dictionary
    for language, dictionary in ((task.cfg.source_lang, source), (task.cfg.target_lang, target)):
        dictionary.save(os.path.join(folder, f"dict.{language}.txt"))
    decoder = model.decoder
    config = {
        "source_lang": task.cfg.source_lang,
        "target_lang": task.cfg.target_lang,
        "bos": target.bos(),
        "pad": target.pad(),
        "eos": target.eos(),
        "unk": target.unk(),
        "vocabulary": len(target),
        "max_source_positions": model.encoder.max_positions(),
        "max_target_positions": decoder.max_positions(),
        # The shapes of the memory (groups, rows, heads, slots, head_width) and of the cross keys, which have layers.
        "layers": decoder.num_layers,
        "heads": decoder.heads,
        "head_width": decoder.embed_dim // decoder.heads,
        "groups": 1 if decoder.memory.k_proj is not None else decoder.num_layers,
        "init_slots": decoder.memory_init_slots,
        "memory_span": decoder.memory_span,
    }
    write_json(os.path.join(folder, "config.json"), config)


def compare(model, folder, tolerance):
    """Run the files by onnxruntime, and torch beside it; a Problem if they differ."""
    import onnxruntime

    names = ("encoder.onnx", "decoder_step.onnx")
    encoder, step = (
        onnxruntime.InferenceSession(os.path.join(folder, name), providers=["CPUExecutionProvider"]) for name in names
    )
    print(f"comparing onnxruntime {onnxruntime.__version__} with torch {torch.__version__} and teacher forcing:")
    span = model.decoder.memory_span
    steps = min(model.decoder.max_positions(), min(span, 60) + STEPS if span > 0 else STEPS)
    random = torch.Generator().manual_seed(1)
    for lengths, side, beams in BATCHES:
        lengths = [min(length, model.encoder.max_positions()) for length in lengths]
        source, target = sample(model, lengths, side, len(lengths) * beams, steps, random)
        difference = largest_difference(model, encoder, step, source, target)
        print(f"  lengths {', '.join(map(str, lengths))}, padded on the {side}; beams: {beams}; steps: {steps}; "
              f"log-probabilities differ by at most {difference:.1e}")  # fmt: skip
        if not difference <= tolerance:
            raise Problem(f"onnxruntime and torch differ by {difference:.1e}, more than --tolerance {tolerance:g}: "
                          "nothing was written")  # fmt: skip


def sample(model, lengths, side, rows, steps, random):
    """Sentences of random words (R, S), and what the decoder is given (B, T)."""
    words, eos = model.encoder.dictionary, model.decoder.dictionary.eos()
    source = torch.full((len(lengths), max(lengths)), words.pad())
    for row, length in enumerate(lengths):
        sentence = torch.randint(words.nspecial, len(words), (length,), generator=random)
        sentence[-1] = words.eos()
        first = max(lengths) - length if side == "left" else 0
        source[row, first : first + length] = sentence
    target = torch.randint(words.nspecial, len(model.decoder.dictionary), (rows, steps), generator=random)
    target[:, 0] = eos
    return source, target


def largest_difference(model, encoder, step, source, target):
    """Of any log-probability of any step."""
    beams = len(target) // len(source)
    with torch.no_grad():
        scores = model(source.repeat_interleave(beams, dim=0), None, target)
        expected = model.get_normalized_probs(scores, log_probs=True).numpy()
    *cross, keys, values = encoder.run(None, {"source_tokens": source.numpy()})
    inputs = dict(zip(serving.SOURCE, cross), candidates=np.array(1))
    keys, values = keys.repeat(beams, axis=1), values.repeat(beams, axis=1)
    wanted, outputs = [i.name for i in step.get_inputs()], ["log_probs"] + serving.NEW_MEMORY
    worst = 0.0
    for t in range(target.size(1)):
        inputs.update(tokens=target[:, t].numpy(), step=np.array(t), memory_keys=keys, memory_values=values)
        log_probs, keys, values = step.run(outputs, {name: inputs[name] for name in wanted})
        # numpy's maximum hands on what is not a number.
        worst = float(np.maximum(worst, np.abs(log_probs - expected[:, t]).max()))
    return worst


def move(part, output):
    """Give the files their names; config.json last, so that a folder which has it is whole."""
    os.makedirs(output, exist_ok=True)
    for name in sorted(os.listdir(part), key=lambda name: (name == "config.json", name)):
        path = os.path.join(output, name)
        os.replace(os.path.join(part, name), path)
        print(f"written: {path}, {os.path.getsize(path):,} bytes")


if __name__ == "__main__":
    try:
        run(main)
    except FeedbackError as error:
        sys.exit(f"error: {error}")
