"""Which kernel computes a run: the fastest that can, or the one that --feedback-kernel names."""

import logging
from typing import Optional, Set, Tuple

from torch import Tensor

from .. import reference
from ..weights import Inputs
from . import bptt, parallel, segments

logger = logging.getLogger(__name__)

KERNELS = {"reference": reference, "bptt": bptt, "parallel": parallel}


def run(inputs: Inputs, wanted: str, by_segments: bool, said: Set[str]) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """wanted: auto, bptt or reference; said: what the log has been told, once a model.

    Where no step waits for another there is no loop to make fast, so bptt is another kernel's name for all at once.
    """
    name, reason = wanted, ""
    if name != "reference":
        name = "parallel" if inputs.settings.sees_itself else "bptt"
        reason = KERNELS[name].unsupported(inputs)
        name = name if reason is None else "reference"
    words = f"feedback kernel: {name}" + (f", because {reason}" if reason else "")
    if words not in said:
        said.add(words)
        asked_for_more = wanted == "bptt" and name == "reference"
        logger.log(logging.WARNING if asked_for_more else logging.INFO, words)
    kernel = KERNELS[name].run
    return segments.run(kernel, inputs) if by_segments else kernel(inputs)
