"""Export a translation model, ours or fairseq's transformer, for onnxruntime. That serves it without torch and fairseq.

    fairseq-feedback export --path checkpoints/checkpoint_best.pt --data data-bin --output exported
    python examples/onnx/translate.py exported --beam 5 --remove-bpe < sentences.bpe

The folder gets encoder.onnx, decoder_step.onnx (one step of the decoder, with its memory in and out), the two
dictionaries and config.json; examples/onnx/README.md says what goes in and comes out. Before the files get their names,
onnxruntime runs them on sentences of several lengths, with padding and with beams, and every step's log-probabilities
are compared with those of torch under teacher forcing.
"""

import argparse
import ast
import os
import shutil
import tempfile

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import exported
from fairseq_feedback.tools.extras import need
from fairseq_feedback.tools.files import must_be_file, write_json
from fairseq_feedback.tools.program import quiet


def add_arguments(parser):
    parser.add_argument("--path", required=True, metavar="FILE", help="the checkpoint")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="fairseq's binary data: its dictionaries")
    parser.add_argument("--source-lang", metavar="LANG", help="if neither the checkpoint nor the data's files tell")
    parser.add_argument("--target-lang", metavar="LANG", help="likewise")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument("--model-overrides", type=overrides, default={}, metavar="DICT",
                        help="as of fairseq-generate, to prune layers")  # fmt: skip
    parser.add_argument("--tolerance", type=float, default=1e-3, metavar="X",
                        help="largest difference from torch to accept (%(default)s)")  # fmt: skip


def main(args):
    quiet()
    if not args.tolerance > 0:
        raise FeedbackError(f"--tolerance {args.tolerance:g}: give a positive number")
    need("onnx", "onnx", "onnxruntime")
    import fairseq_feedback.plugin  # noqa: F401
    from fairseq_feedback.tools.onnx_comparison import compare

    changes = {name: getattr(args, name) for name in ("source_lang", "target_lang") if getattr(args, name)}
    model, cfg, task = load(args.path, args.data, {**args.model_overrides, **changes})
    parameters = f"{sum(p.numel() for p in model.parameters()):,} parameters"
    print(f"{args.path}: {cfg.model._name}, {task.cfg.source_lang} to {task.cfg.target_lang}, {parameters}")
    output = os.path.abspath(args.output)
    if os.path.exists(output) and not os.path.isdir(output):
        raise FeedbackError(f"--output {args.output} is not a folder")
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


def load(path, data, changes):
    """(model, configuration, task) of a checkpoint."""
    from fairseq import checkpoint_utils
    from fairseq.data.data_utils import infer_language_pair
    from fairseq.models import ARCH_MODEL_REGISTRY
    from fairseq.models.transformer import TransformerModel

    from fairseq_feedback.models import serving, stock
    from fairseq_feedback.models.feedback_transformer import FeedbackTransformerModel

    must_be_file(path, "--path")
    if not os.path.isdir(data):
        raise FeedbackError(f"--data {data} is not a folder")
    changes = {**changes, "data": data, "checkpoint_activations": False}  # which wraps layers, for training only
    state = checkpoint_utils.load_checkpoint_to_cpu(path, changes)
    cfg = state.get("cfg")
    if cfg is None or cfg.get("model") is None:
        raise FeedbackError(f"--path {path} does not say what model it is of")
    name = getattr(cfg.model, "_name", None) or getattr(cfg.model, "arch", None)
    if ARCH_MODEL_REGISTRY.get(name) not in (FeedbackTransformerModel, TransformerModel):
        raise FeedbackError(f"--path {path} is of the architecture {name}: only feedback_transformer, fairseq's "
                            "transformer and their variants for translation are exported")  # fmt: skip
    if cfg.task._name != "translation":
        raise FeedbackError(f"--path {path} is of the task {cfg.task._name}: only translation is exported")
    if not (cfg.task.source_lang and cfg.task.target_lang) and not all(infer_language_pair(data)):
        raise FeedbackError(f"--data {data}: its files do not tell the languages: give --source-lang and --target-lang")
    (model,), cfg, task = checkpoint_utils.load_model_ensemble_and_task([path], state=state)
    if type(model) is TransformerModel:
        try:
            model = stock.engine(model)
        except stock.DoesNotFit as error:
            raise FeedbackError(f"--path {path} is not exported: {error}") from None
    serving.check(model)
    return model, cfg, task


def write(model, task, folder):
    """All files of an export."""
    from fairseq_feedback.models import serving

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
        "init_slots": serving.init_slots(decoder),
        "memory_span": decoder.memory_span,
        "files": exported.checksums(folder),
    }
    write_json(os.path.join(folder, exported.CONFIG), config)


def move(part, output):
    """Give the files their names; config.json last, so that a folder which has it is whole."""
    os.makedirs(output, exist_ok=True)
    for name in sorted(os.listdir(part), key=lambda name: (name == exported.CONFIG, name)):
        path = os.path.join(output, name)
        os.replace(os.path.join(part, name), path)
        print(f"written: {path}, {os.path.getsize(path):,} bytes")
