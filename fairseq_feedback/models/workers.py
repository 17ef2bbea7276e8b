"""What several data-parallel workers need that one does not."""

import copy
import os
from datetime import timedelta
from functools import wraps

import torch
from fairseq.modules import LayerDropModuleList

from fairseq_feedback.errors import FeedbackError


def check(args, model) -> None:
    """Refuse LayerDrop where torch would wait for the gradients of dropped layers. `args`: the distributed options."""
    waits = str(args.ddp_backend) in ("c10d", "pytorch_ddp") and not args.find_unused_parameters
    drops = [m.p for m in model.modules() if isinstance(m, LayerDropModuleList)]
    drops.append(getattr(getattr(model, "decoder", None), "decoder_layerdrop", 0))  # of ours, which has a plain list
    if waits and max(drops) > 0:
        raise FeedbackError(
            "--encoder-layerdrop and --decoder-layerdrop leave layers out of an update, so several workers need "
            "--find-unused-parameters (or --ddp-backend legacy_ddp)"
        )


def with_a_limit(args, group):
    """Of --heartbeat-timeout, for gloo: fairseq's signal does not reach a process that waits for another one.

    -> the options, without a limit that gloo has now.
    """
    if args.heartbeat_timeout <= 0 or torch.distributed.get_backend(group) != "gloo":
        return args
    torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=args.heartbeat_timeout), group)
    args = copy.copy(args)
    args.heartbeat_timeout = -1
    return args


def refuse_to_train_alone(options) -> None:
    """Processes that torchrun has started, each of which fairseq would train by itself, into one folder."""
    processes = int(os.environ.get("WORLD_SIZE") or 1)
    if processes > 1 and options.distributed_world_size == 1 and options.distributed_init_method is None:
        raise FeedbackError(
            f"{processes} processes were started, and each would train alone: give --distributed-world-size {processes}"
            + ("" if torch.cuda.is_available() else " --distributed-backend gloo --ddp-backend legacy_ddp")
        )


def without_a_gpu(launch_init):
    """Of fairseq's function for processes of torchrun, which gives each a GPU."""

    @wraps(launch_init)
    def wrapped(cfg):
        if torch.cuda.is_available():
            return launch_init(cfg)
        cfg.distributed_init_method = "env://"
        cfg.distributed_world_size, cfg.distributed_rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
        cfg.device_id, cfg.distributed_no_spawn = 0, True

    return wrapped
