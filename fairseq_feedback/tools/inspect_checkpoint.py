"""What is in a checkpoint: options, parameters, the learned mix of layers in the memory, and what attention reads.

    fairseq-feedback inspect checkpoints/checkpoint_best.pt --plot mix.png
    fairseq-feedback inspect checkpoints/checkpoint_best.pt --data data-bin --bpe subword_nmt --bpe-codes codes \\
        --text 'The old woman sees a dog .' --plot attention.png

The first works for any model of fairseq, as far as that has such parts. With --text, the picture shows what each step
reads of the memory, and of the source: for --target, or the model's own translation; for a language model, the text's.
Of a folder that `export` has written it says whether its files are whole.
"""

import os

from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools import checkpoint_facts as facts
from fairseq_feedback.tools import exported, pictures
from fairseq_feedback.tools.files import must_be_file
from fairseq_feedback.tools.program import quiet
from fairseq_feedback.tools.table import markdown

BAR = 40


def add_arguments(parser):
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="or the folder of an export")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the mix and the spans, or with --text the attention: .png, .svg or .pdf"
    )
    sentence = parser.add_argument_group("a sentence, as for fairseq-interactive")
    sentence.add_argument("--text", metavar="TEXT", help="show what the model reads when it translates, or reads, this")
    sentence.add_argument("--target", metavar="TEXT", help="the translation, if not the model's own (beam 5)")
    sentence.add_argument("--data", metavar="DATA-BIN", help="the folder of the dictionaries")
    for name in ("--source-lang", "--target-lang"):
        sentence.add_argument(name, metavar="LANG", help="if the data does not tell")
    sentence.add_argument("--tokenizer", metavar="NAME", help="moses, nltk or space")
    sentence.add_argument("--bpe", metavar="NAME", help="subword_nmt, sentencepiece, characters, …")
    sentence.add_argument("--bpe-codes", metavar="FILE", help="for --bpe subword_nmt or fastbpe")
    sentence.add_argument("--sentencepiece-model", metavar="FILE", help="for --bpe sentencepiece")


def main(args):
    quiet()
    if os.path.isdir(args.checkpoint):
        print(report_of_export(args.checkpoint))
        return
    check(args)
    from fairseq import checkpoint_utils

    import fairseq_feedback.plugin  # noqa: F401

    state = checkpoint_utils.load_checkpoint_to_cpu(args.checkpoint)
    weights = state["model"]
    print(report(args.checkpoint, state))
    if args.plot is None:
        return
    if not facts.has_memory(weights, facts.plain(state["cfg"].get("model"))):
        raise FeedbackError(f"{args.checkpoint} is a model without feedback memory: leave --plot and --text out")
    if facts.mix(weights) is None and args.text is None:
        raise FeedbackError(f"{args.checkpoint} has learned no mix of layers to draw: leave --plot out, or give --text")
    if args.text is None:
        draw(args.plot, facts.mix(weights), facts.spans(weights))
    else:
        from fairseq_feedback.tools import attention_picture

        print("\n" + attention_picture.draw(args, facts.plain(state["cfg"].get("task"))))
    print(f"\n{args.plot}")


def report_of_export(folder):
    config = exported.read(folder)
    whole = f"{len(config.pop('files'))} files, all as they were exported"
    return columns([("export", folder), *((name, str(value)) for name, value in config.items()), ("files", whole)])


def check(args):
    must_be_file(args.checkpoint, mend="give the file of a checkpoint")
    if args.plot is not None:
        pictures.check("--plot", args.plot)
    if args.text is None:
        for name in ("target", "data", "source_lang", "target_lang", "tokenizer", "bpe"):
            if getattr(args, name) is not None:
                raise FeedbackError(f"--{name.replace('_', '-')} needs --text, the sentence to look at")
    else:
        for name in ("data", "plot"):
            if getattr(args, name) is None:
                raise FeedbackError(f"--text needs --{name}")
    for name, bpes in {"bpe_codes": ("subword_nmt", "fastbpe"), "sentencepiece_model": ("sentencepiece",)}.items():
        flag, path = "--" + name.replace("_", "-"), getattr(args, name)
        if (path is not None) != (args.bpe in bpes):
            raise FeedbackError(f"{flag} and --bpe {' or '.join(bpes)} go together: give both or none")
        if path is not None:
            must_be_file(path, flag)


def report(path, state):
    weights, cfg = state["model"], state.get("cfg") or {}
    model, mix, spans = facts.plain(cfg.get("model")), facts.mix(weights), facts.spans(weights)
    blocks = [
        columns([(name, text) for name, text in summary(path, state, cfg, model) if text]),
        options(facts.changed_options(model)),
        table(*facts.parts(weights)),
    ]
    if mix is not None:
        bars = [(name, f"{share:.3f}  {bar(share, max(mix))}") for name, share in zip(layers(mix), mix)]
        blocks.append("mix of layers in the memory\n" + columns(bars, "  "))
    if spans is not None:
        rows = [
            (f"layer {i}", f"{min(heads):,.1f}, {sum(heads) / len(heads):,.1f}, {max(heads):,.1f}")
            for i, heads in enumerate(spans, 1)
        ]
        blocks.append("learned spans in steps: shortest, mean and longest of a layer's heads\n" + columns(rows, "  "))
    return "\n\n".join(blocks)


def summary(path, state, cfg, model):
    """[(what, text)]"""
    from fairseq_feedback.models.options import vocabulary

    weights = state["model"]
    dtypes = sorted({str(w.dtype)[len("torch.") :] for name, w in weights.items() if facts.is_parameter(name)})
    optimizer = "with" if state.get("last_optimizer_state") else "without"
    size = f"{os.path.getsize(path) / 1e6:,.1f} MB, {' and '.join(dtypes)}, {optimizer} the optimizer's state"
    task = facts.plain(cfg.get("task"))
    languages = [task.get(side + "_lang") for side in ("source", "target")]
    sizes = [f"{size:,}" for size in (vocabulary(weights, side) for side in ("encoder", "decoder")) if size]
    metric = facts.plain(cfg.get("checkpoint")).get("best_checkpoint_metric", "loss")
    return [
        ("checkpoint", f"{path}, {size}"),
        ("architecture", model.get("_name") or model.get("arch")),
        ("task", task.get("_name", "") + (f" from {languages[0]} to {languages[1]}" if all(languages) else "")),
        ("vocabulary", " source, ".join(sizes) + " target" * (len(sizes) == 2)),
        ("training", ", ".join(training(state, metric))),
    ]


def training(state, metric):
    """Updates, epoch, score."""
    extra = state.get("extra_state") or {}
    history = state.get("optimizer_history") or [{}]
    if "num_updates" in history[-1]:
        yield f"{history[-1]['num_updates']:,} updates"
    iterator = extra.get("train_iterator") or {}
    if "epoch" in iterator:
        done = iterator["epoch"] - 1  # at an epoch's end the next one is written down
        yield f"in epoch {done + 1}" if iterator.get("iterations_in_epoch") else f"{done} epochs"
    if extra.get("val_loss") is not None:
        best = extra.get("best", extra["val_loss"])
        yield f"{metric} {extra['val_loss']:g}" + (" (the best)" if best == extra["val_loss"] else f" (best {best:g})")


def options(changed):
    if changed is None:
        return "its architecture is not known here, so its options are not compared"
    if not changed:
        return "all options are as the architecture has them"
    rows = []
    for name, value, default in changed:
        flag = "--" + name.replace("_", "-")
        rows.append((flag, "") if value is True and not default else (flag, f"{value}  ({default})"))
    return "options, where the architecture has others\n" + columns(rows, "  ")


def table(counts, shared):
    total = sum(counts.values())
    rows = [(part, count, f"{100 * count / total:.1f}%") for part, count in counts.items()]
    text = markdown(["part", "parameters", "share"], [*rows, ("all", total, "")])
    if shared:
        text += "\n\n" + "\n".join(f"{name} is {other}" for name, other in shared.items())
    return text


def layers(mix):
    return ["embedding"] + [f"layer {i}" for i in range(1, len(mix))]


def bar(value, longest):
    return "█" * max(1, round(BAR * value / longest))


def columns(rows, indent=""):
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{indent}{name:<{width}}  {text}".rstrip() for name, text in rows)


def draw(path, mix, spans):
    def content(figure):
        grid = figure.subplots(1, 1 if spans is None else 2, squeeze=False)[0]
        bars = grid[0].barh(layers(mix), mix, color=pictures.COLORS[0], height=0.7)
        grid[0].bar_label(bars, fmt="%.3f", padding=3)
        grid[0].set_title("mix of layers in the memory")
        grid[0].margins(x=0.15)
        if spans is not None:
            names = layers([0, *spans])[1:]
            grid[1].barh(names, [sum(s) / len(s) for s in spans], color=pictures.COLORS[0], height=0.7)
            for name, heads in zip(names, spans):
                grid[1].plot(heads, [name] * len(heads), "o", color=pictures.COLORS[1], markersize=4, clip_on=False)
            grid[1].set_title("learned spans: mean (bar), and of each head (dots)")
            grid[1].set_xlabel("steps")
            grid[1].set_xlim(left=0)
        for axes in grid:
            axes.tick_params(axis="y", length=0)

    pictures.draw(path, 5 if spans is None else 9, 0.8 + 0.3 * len(mix), content)
