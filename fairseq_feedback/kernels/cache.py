"""Keys and values of the memory while decoding: allocated ahead, written in place, moved only as far as filled.

A cache is the dictionary that fairseq keeps as incremental state:

    keys, values   (G, B, H, capacity, D)
    progress       two numbers on the CPU: steps done, and slots forgotten from the front of the buffers
    left_pad       (B) or None
    cross_*        the encoder's part, see CrossMemory; cross_padding may be None
"""

from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from .reference import first_visible
from .weights import CrossMemory, Settings

Cache = Dict[str, Optional[Tensor]]


def start(
    keys: Tensor,  # (G, B, H, N, D) of the slots before the first step
    values: Tensor,
    left_pad: Optional[Tensor],
    cross: Optional[CrossMemory],
    capacity: int = 32,  # slots to begin with
) -> Cache:
    cache: Cache = {
        "keys": _enlarged(keys, keys.size(3), capacity),
        "values": _enlarged(values, keys.size(3), capacity),
        "progress": torch.zeros(2, dtype=torch.long),
        "left_pad": left_pad,
    }
    if cross is not None:
        cache["cross_keys"] = cross.keys
        cache["cross_values"] = cross.values
        cache["cross_padding"] = cross.padding
    return cache


def steps_done(cache: Cache) -> int:
    return int(_get(cache, "progress")[0])


def cross_memory(cache: Cache) -> Optional[CrossMemory]:
    if "cross_keys" not in cache:
        return None
    return CrossMemory(
        _get(cache, "cross_keys"), _get(cache, "cross_values"), cache["cross_padding"]
    )


def visible(cache: Cache, settings: Settings) -> Tuple[Tensor, Tensor, int, int]:
    """What the next step sees: keys and values (G, B, H, M, D), and the numbers of the first and the last + 1 slot."""
    forgotten = int(_get(cache, "progress")[1])
    last = settings.init_slots + steps_done(cache)
    first = first_visible(last, settings.span)
    return (
        _get(cache, "keys")[:, :, :, first - forgotten : last - forgotten],
        _get(cache, "values")[:, :, :, first - forgotten : last - forgotten],
        first,
        last,
    )


def append(cache: Cache, k: Tensor, v: Tensor, settings: Settings) -> None:
    """Write the memory of the step just done. k, v: (G, B, H, 1, D)."""
    end = _filled(cache, settings)
    if end == _get(cache, "keys").size(3):
        end = _make_room(cache, end, settings)
    _get(cache, "keys")[:, :, :, end : end + 1] = k
    _get(cache, "values")[:, :, :, end : end + 1] = v
    _get(cache, "progress")[0] += 1


def reorder(cache: Cache, order: Tensor, settings: Settings) -> None:
    """Give every row the past of row order[i]; there may be fewer rows, or more, than before."""
    filled = _filled(cache, settings)
    rows = _get(cache, "keys").size(1)
    for name in ["keys", "values"]:
        buffer = _get(cache, name)
        moved = buffer[:, :, :, :filled].index_select(1, order)
        if order.size(0) > rows:
            cache[name] = _enlarged(moved, filled, buffer.size(3))
        else:
            buffer = buffer[:, : order.size(0)]
            buffer[:, :, :, :filled] = moved
            cache[name] = buffer
    left_pad = cache["left_pad"]
    if left_pad is not None:
        cache["left_pad"] = left_pad.index_select(0, order)
    if "cross_keys" in cache:
        _reorder_cross(cache, order, rows)


def _filled(cache: Cache, settings: Settings) -> int:
    """Slots of the buffers that hold something."""
    progress = _get(cache, "progress")
    return settings.init_slots + int(progress[0]) - int(progress[1])


def _reorder_cross(cache: Cache, order: Tensor, rows: int) -> None:
    beams = rows // _get(cache, "cross_keys").size(1)
    sentence = torch.div(order, beams, rounding_mode="floor")
    if order.size(0) == rows:
        unchanged = torch.div(torch.arange(rows, device=order.device), beams, rounding_mode="floor")
        if torch.equal(sentence, unchanged):  # the usual case: no sentence has ended
            return
    if beams > 1 and order.size(0) % beams == 0:
        groups = sentence.view(-1, beams)
        if bool((groups == groups[:, :1]).all()):  # else beams part, and each row gets a copy
            sentence = groups[:, 0]
    cache["cross_keys"] = _get(cache, "cross_keys").index_select(1, sentence)
    cache["cross_values"] = _get(cache, "cross_values").index_select(1, sentence)
    padding = cache["cross_padding"]
    if padding is not None:
        cache["cross_padding"] = padding.index_select(0, sentence)


def _make_room(cache: Cache, end: int, settings: Settings) -> int:
    """Forget what lies before the span. The buffer doubles until it holds that and a quarter more, and then stays."""
    live = end - first_visible(end, settings.span)
    capacity = 2 * end
    if settings.span > 0:
        capacity = min(capacity, settings.span + max(16, settings.span // 4))
    for name in ["keys", "values"]:
        cache[name] = _enlarged(_get(cache, name)[:, :, :, end - live :], live, capacity)
    _get(cache, "progress")[1] += end - live
    return live


def _enlarged(filled: Tensor, slots: int, capacity: int) -> Tensor:
    """A buffer for at least `capacity` slots that begins with these."""
    shape: List[int] = list(filled.shape)
    shape[3] = max(capacity, slots)
    buffer = filled.new_empty(shape)
    buffer[:, :, :, :slots] = filled
    return buffer


def _get(cache: Cache, name: str) -> Tensor:
    tensor = cache[name]
    assert tensor is not None
    return tensor
