"""The largest entries of long rows."""

import math
from typing import Tuple

import torch
from torch import Tensor


def top(x: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """torch.topk of each row, several times as fast on a CPU: values and places (N, k), the largest first.

    The k largest lie in those k groups of a row that have the largest maxima. A group is a column of the row written
    as a matrix, so that the maxima are those of contiguous vectors.
    """
    rows, width = x.shape
    members = math.isqrt(width // k)
    groups = width // members if members > 0 else 0
    if x.device.type != "cpu" or groups < k:
        return x.topk(k, dim=1)
    matrix = x[:, : members * groups].view(rows, members, groups)
    best = matrix.amax(dim=1).topk(k, dim=1)[1]
    places = best.unsqueeze(1) + groups * torch.arange(members).unsqueeze(1)  # N x members x k
    places = places.view(rows, -1)
    rest = torch.arange(members * groups, width).expand(rows, -1)
    places = torch.cat([places, rest], dim=1)
    values, chosen = x.gather(1, places).topk(k, dim=1)
    return values, places.gather(1, chosen)
