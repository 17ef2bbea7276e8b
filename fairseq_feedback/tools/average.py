"""Average the weights of several checkpoints of one training run into one checkpoint.

    fairseq-feedback average --inputs checkpoints --num-epoch-checkpoints 10 --output averaged.pt

The options are those of the script that fairseq has in its repository and not in its wheel. Sums are kept in float32
(float64 for float64), whatever the checkpoints hold; each checkpoint goes through torch's safe loader.
"""

import os
import re

from fairseq_feedback.checkpoints.verify import damage
from fairseq_feedback.errors import FeedbackError
from fairseq_feedback.tools.files import whole
from fairseq_feedback.tools.program import quiet


def add_arguments(parser):
    parser.add_argument("--inputs", required=True, nargs="+", help="checkpoint files, or one folder of checkpoints")
    parser.add_argument("--output", required=True, help="file to write")
    last = parser.add_mutually_exclusive_group()
    last.add_argument(
        "--num-epoch-checkpoints", type=int, metavar="N", help="the last N of checkpoint1.pt, checkpoint2.pt, ..."
    )
    last.add_argument(
        "--num-update-checkpoints", type=int, metavar="N", help="the last N of checkpoint_EPOCH_UPDATES.pt"
    )
    parser.add_argument(
        "--checkpoint-upper-bound", type=int, metavar="N", help="leave out those after this epoch or update"
    )


def main(args):
    quiet()
    paths = select(args)
    print(f"averaging {len(paths)} checkpoints:", flush=True)
    state = average(paths)
    save(state, args.output)
    print(f"written: {args.output}")


def select(args):
    """The files to average, as the options say."""
    by_number = args.num_epoch_checkpoints is not None or args.num_update_checkpoints is not None
    if not by_number:
        if args.checkpoint_upper_bound is not None:
            raise FeedbackError("--checkpoint-upper-bound needs --num-epoch-checkpoints or --num-update-checkpoints")
        paths = args.inputs
    else:
        paths = numbered(args)
    for path in paths:
        if not os.path.isfile(path):
            raise FeedbackError(
                f"--inputs {path} is not a file: name checkpoint files, or a folder together with "
                "--num-epoch-checkpoints or --num-update-checkpoints"
            )
    return paths


def numbered(args):
    if len(args.inputs) != 1 or not os.path.isdir(args.inputs[0]):
        raise FeedbackError(f"--inputs {' '.join(args.inputs)}: give one folder of checkpoints")
    folder = args.inputs[0]
    if args.num_epoch_checkpoints is not None:
        flag, wanted, pattern = "--num-epoch-checkpoints", args.num_epoch_checkpoints, r"checkpoint(\d+)\.pt"
    else:
        flag, wanted, pattern = (
            "--num-update-checkpoints",
            args.num_update_checkpoints,
            r"checkpoint_\d+_(\d+)\.pt",
        )
    if wanted < 1:
        raise FeedbackError(f"{flag} {wanted}: give at least 1")
    found = []
    bound = float("inf") if args.checkpoint_upper_bound is None else args.checkpoint_upper_bound
    for name in os.listdir(folder):
        match = re.fullmatch(pattern, name)
        if match and int(match.group(1)) <= bound:
            found.append((int(match.group(1)), os.path.join(folder, name)))
    if len(found) < wanted:
        raise FeedbackError(f"{flag} {wanted}: {folder} has only {len(found)} such checkpoints")
    return [path for _, path in sorted(found)[-wanted:]]


def average(paths):
    """The last checkpoint's state with averaged weights and without what belongs to training on."""
    import torch
    from fairseq import checkpoint_utils

    import fairseq_feedback.plugin  # noqa: F401  the safe loader

    sums = {}
    dtypes = {}
    for path in paths:
        print(f"  {path}", flush=True)
        state = checkpoint_utils.load_checkpoint_to_cpu(path)
        weights = state["model"]
        if sums and set(weights) != set(sums):
            odd = sorted(set(weights) ^ set(sums))[0]
            raise FeedbackError(f"{path} and {paths[0]} are of different models: {odd} is in one only")
        for name, tensor in weights.items():
            if name in sums and tensor.shape != sums[name].shape:
                raise FeedbackError(f"{path} and {paths[0]} are of different models: {name} has another shape")
            dtypes[name] = tensor.dtype
            wide = tensor.double() if tensor.dtype == torch.float64 else tensor.float()
            sums[name] = sums[name] + wide if name in sums else wide
    state["model"] = {name: (s / len(paths)).to(dtypes[name]) for name, s in sums.items()}
    state["last_optimizer_state"] = None
    extra = state.get("extra_state", {})
    extra.get("train_iterator", {}).pop("memory", None)  # of a language model in mid-epoch
    for name in ("val_loss", "best"):  # of the last one alone
        extra.pop(name, None)
    return state


def save(state, path):
    import torch
    from omegaconf import OmegaConf

    from fairseq_feedback.checkpoints import saving

    if OmegaConf.is_config(state.get("cfg")):
        state["cfg"] = OmegaConf.to_container(state["cfg"], resolve=False, enum_to_str=True)
    with whole(path, "wb", damage) as f, saving.said_by_the_disk(path):
        torch.save(state, f)
