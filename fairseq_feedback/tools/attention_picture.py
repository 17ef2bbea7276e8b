"""A sentence, and a picture of what each step, layer and head reads of the memory, and of the source."""

import math
import os
from typing import List, NamedTuple, Optional

import numpy as np

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import pictures

BEAM = 5
LONGEST_LABEL = 14
WIDEST = 15  # inches


class Reading(NamedTuple):
    """Arrays of one sentence. A step is named by the word it writes."""

    words: List[str]  # T
    source: Optional[List[str]]  # S
    memory: np.ndarray  # (L, H, T, 1 + T): the zero slots together, then the memory of each step
    cross: Optional[np.ndarray]  # (L, T, S), the mean of the heads
    zero_slots: int


def draw(args, task_options):
    """Write the picture -> a text that says of what."""
    reading = read(args, task_options)
    _draw(args.plot, reading)
    lines = [f"text    {' '.join(reading.words)}"]
    if reading.source is not None:
        how = "as given" if args.target else f"the model's own, beam {BEAM}"
        lines = [f"source  {' '.join(reading.source)}", f"target  {' '.join(reading.words)}  ({how})"]
    return "\n".join(lines)


def read(args, task_options):
    import torch
    from fairseq import checkpoint_utils

    encode = _encoder(args)
    overrides = {"data": args.data, "eval_bleu": False, **_languages(args, task_options)}
    models, _, task = checkpoint_utils.load_model_ensemble_and_task([args.checkpoint], arg_overrides=overrides)
    model = models[0].eval()
    with torch.no_grad():
        text = encode("--text", args.text)
        source, encoded, eos = None, None, task.target_dictionary.eos()
        if hasattr(model, "encoder"):
            source = _tokens(task.source_dictionary, text)
            if args.target is not None:
                written = encode("--target", args.target)
                target = _tokens(task.target_dictionary, written)
                words = written.split() + ["</s>"]
            else:
                target = _translate(task, model, source)
                words = [task.target_dictionary[i] for i in target]
            lengths = torch.tensor([len(source)])
            encoded = model.encoder(source[None], src_lengths=lengths)
        elif args.target is not None:
            raise FeedbackError("--target is for models that translate: leave it out")
        else:
            words = text.split()
            target = _tokens(task.target_dictionary, text)[:-1]
        maps = model.decoder.attention_maps(torch.cat([target.new_tensor([eos]), target[:-1]])[None], encoded)
    zeros = maps.memory.size(3) - len(target)
    memory = torch.cat([maps.memory[..., :zeros].sum(dim=3, keepdim=True), maps.memory[..., zeros:]], dim=3)
    cross = None if maps.source is None else maps.source.mean(dim=1).float().numpy()
    source_words = None if source is None else [*text.split(), "</s>"]
    return Reading(words, source_words, memory.float().numpy(), cross, zeros)


def _encoder(args):
    """A function (flag, text) -> its tokens, by --tokenizer and --bpe."""
    from argparse import Namespace

    from fairseq.data import encoders

    for flag, name, known in (
        ("--tokenizer", args.tokenizer, encoders.TOKENIZER_REGISTRY),
        ("--bpe", args.bpe, encoders.BPE_REGISTRY),
    ):
        if name is not None and name not in known:
            raise FeedbackError(f"{flag} {name}: give one of {', '.join(sorted(known))}")
    given = Namespace(**{name: value for name, value in vars(args).items() if value is not None})
    steps = [encoders.build_tokenizer(given), encoders.build_bpe(given)]

    def encode(flag, text):
        for step in steps:
            text = text if step is None else step.encode(text)
        if not text.split():
            raise FeedbackError(f"{flag} is empty: give a sentence")
        return text

    return encode


def _languages(args, task_options):
    from fairseq.data import data_utils

    if not os.path.isdir(args.data):
        raise FeedbackError(f"--data {args.data} is missing: give the folder that fairseq-preprocess made")
    if "source_lang" not in task_options:
        return {}
    known = [getattr(args, name) or task_options[name] for name in ("source_lang", "target_lang")]
    if None in known:
        known = [given or inferred for given, inferred in zip(known, data_utils.infer_language_pair(args.data))]
    if None in known:
        raise FeedbackError(f"--data {args.data} does not tell the languages: give --source-lang and --target-lang")
    return {"source_lang": known[0], "target_lang": known[1]}


def _tokens(dictionary, text):
    return dictionary.encode_line(text, add_if_not_exist=False).long()


def _translate(task, model, source):
    import torch
    from fairseq.dataclass.configs import GenerationConfig
    from omegaconf import OmegaConf

    generator = task.build_generator([model], OmegaConf.structured(GenerationConfig(beam=BEAM)))
    sample = {"net_input": {"src_tokens": source[None], "src_lengths": torch.tensor([len(source)])}}
    return task.inference_step(generator, [model], sample)[0][0]["tokens"].long()


def _draw(path, reading):
    layers, heads, steps, _ = reading.memory.shape
    size = min(max(1.3, 0.14 * steps), max(1.3, WIDEST / heads))
    margin = 1.0  # of the words
    below = 0 if reading.cross is None else max(1.6, 0.14 * steps) + margin + 0.3
    width = max(5, heads * (size + 0.1) + margin + 0.8)
    above = layers * (size + 0.2) + margin + 0.3

    def content(figure):
        upper, lower = (figure, None) if not below else figure.subfigures(2, 1, height_ratios=[above, below])
        _draw_memory(upper, reading, size)
        if lower is not None:
            _draw_cross(lower, reading, width)

    pictures.draw(path, width, above + below, content)


def _draw_memory(figure, reading, size):
    layers, heads, steps, _ = reading.memory.shape
    grid = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    # No step sees its own memory, or a later one. Where no slot stands before the first, it does see its own.
    columns = slice(0, steps) if reading.zero_slots else slice(1, None)
    for layer, head in np.ndindex(layers, heads):
        seen = reading.memory[layer, head, :, columns]
        image = _heat(grid[layer, head], seen, reading.memory.max(), f"layer {layer + 1}, head {head + 1}")
        if reading.zero_slots:
            grid[layer, head].axvline(0.5, color=pictures.COLORS[1], linewidth=0.8)  # behind the zero slots
    for axes in grid[-1]:
        _name(axes.xaxis, ["start", *reading.words][columns], size)
    for axes in grid[:, 0]:
        _name(axes.yaxis, reading.words, size)
    slots = f"{reading.zero_slots} zero slot{'s' * (reading.zero_slots > 1)}"
    what = f"the memory of earlier steps (start: {slots})" if reading.zero_slots else "itself and earlier steps"
    title = f"Each row, the step that writes this word, reads\n{what}"
    _explain(figure, grid, image, title)


def _draw_cross(figure, reading, width):
    grid = figure.subplots(1, len(reading.cross), squeeze=False, sharey=True)[0]
    for layer, axes in enumerate(grid):
        image = _heat(axes, reading.cross[layer], reading.cross.max(), f"layer {layer + 1}")
        _name(axes.xaxis, reading.source, (width - 2) / len(grid))
    _name(grid[0].yaxis, reading.words, 0.14 * len(reading.words))
    _explain(figure, grid, image, "What it reads of the source, the mean of the heads")


def _heat(axes, shares, brightest, title):
    from matplotlib.colors import PowerNorm

    axes.set_title(title, fontsize=8)
    axes.tick_params(length=0)
    scale = PowerNorm(0.5, 0, brightest)  # beside the first step, which reads zero slots alone, others would fade
    return axes.imshow(shares, cmap="Blues", norm=scale, aspect="auto")


def _explain(figure, grid, image, title):
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    bar = figure.colorbar(image, ax=grid, fraction=0.02, pad=0.01, label="share of attention")
    bar.ax.tick_params(labelsize=7)


def _name(axis, words, size):
    """Label the cells of an axis, `size` inches long; every second, third, … where the words would overlap."""
    step = math.ceil(0.1 * len(words) / size)
    shown = range(0, len(words), step)
    short = [w if len(w) <= LONGEST_LABEL else w[: LONGEST_LABEL - 1] + "…" for w in words]
    axis.set_ticks(list(shown), [short[i].replace("$", r"\$") for i in shown], fontsize=7)
    if axis.axis_name == "x":
        axis.axes.tick_params(axis="x", labelrotation=90)
