"""Which kernel computes a run: the fastest that can, or the one that --feedback-kernel names."""

import logging
from typing import Optional, Set, Tuple

from torch import Tensor

from .. import reference
from ..weights import Inputs
from . import bptt, segments

logger = logging.getLogger(__name__)


def run(
    inputs: Inputs, wanted: str, by_segments: bool, said: Set[str]
) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
    """wanted: auto, bptt or reference; said: what the log has been told, once a model."""
    name, reason = wanted, ""
    if name != "reference":
        reason = bptt.unsupported(inputs)
        name = "bptt" if reason is None else "reference"
    words = f"feedback kernel: {name}" + (f", because {reason}" if reason else "")
    if words not in said:
        said.add(words)
        asked_for_more = wanted == "bptt" and name != "bptt"
        logger.log(logging.WARNING if asked_for_more else logging.INFO, words)
    kernel = bptt.run if name == "bptt" else reference.run
    return segments.run(kernel, inputs) if by_segments else kernel(inputs)
