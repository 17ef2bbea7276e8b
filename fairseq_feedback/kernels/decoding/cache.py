"""Keys and values of the memory while decoding: allocated ahead, written in place, not moved when beams are reordered.

The beams of a sentence keep their slots together. A beam that goes on from another one's past does not copy it, but
remembers whose it was: `origin`. Attention runs over the slots of all beams of the sentence and hides the others'.
Nobody announces how many beams there are. A search begins by letting several rows go on from the same one, sentence by
sentence: from that order on these rows are together.

A cache is the dictionary that fairseq keeps as incremental state:

    keys, values   (G, R, H, capacity * beams, D): beams = B / R rows share a sentence; slot by slot, in it beam by beam
    origin         (B, capacity) which beam's memory is the row's own at each slot; None with one beam
    progress       two numbers on the CPU: steps done, and slots that are not in the buffers: zeros, and forgotten ones
    zero_*         key and value (G, H, D) of a zero slot, where those before the first step are not in the buffers
    left_pad       (B) or None
    cross_*        the encoder's part, see CrossMemory; cross_padding may be None
"""

from typing import Dict, List, Optional

import torch
from torch import Tensor

from ..visible import first_visible
from ..weights import CrossMemory, Seen, Settings, Zeros

Cache = Dict[str, Optional[Tensor]]


def start(
    keys: Tensor,  # (G, B, H, N, D) of the slots before the first step
    values: Tensor,
    left_pad: Optional[Tensor],
    cross: Optional[CrossMemory],
    zeros: Optional[Zeros] = None,  # stand before those
    capacity: int = 32,  # slots to begin with
) -> Cache:
    slots = keys.size(3)
    cache: Cache = {
        "keys": _enlarged(keys, slots, capacity),
        "values": _enlarged(values, slots, capacity),
        "origin": None,
        "progress": torch.zeros(2, dtype=torch.long),
        "left_pad": left_pad,
    }
    if zeros is not None:
        cache["zero_key"], cache["zero_value"] = zeros.key, zeros.value
        _get(cache, "progress")[1] = zeros.count
    if cross is not None:
        cache["cross_keys"] = cross.keys
        cache["cross_values"] = cross.values
        cache["cross_padding"] = cross.padding
    return cache


def beams_together(cache: Cache) -> int:
    origin = cache["origin"]
    return 1 if origin is None else origin.size(0) // _get(cache, "keys").size(1)


def steps_done(cache: Cache) -> int:
    return int(_get(cache, "progress")[0])


def cross_memory(cache: Cache) -> Optional[CrossMemory]:
    if "cross_keys" not in cache:
        return None
    return CrossMemory(_get(cache, "cross_keys"), _get(cache, "cross_values"), cache["cross_padding"])


def seen(cache: Cache, settings: Settings) -> Seen:
    """By the next step."""
    forgotten = int(_get(cache, "progress")[1])
    last = settings.init_slots + steps_done(cache)
    first = first_visible(last + int(settings.sees_itself), settings.span)
    zeros: Optional[Zeros] = None
    if "zero_key" in cache and first < settings.init_slots:
        zeros = Zeros(_get(cache, "zero_key"), _get(cache, "zero_value"), settings.init_slots - first)
    here, end = max(first - forgotten, 0), last - forgotten
    origin, beams = cache["origin"], beams_together(cache)
    return Seen(
        _get(cache, "keys")[:, :, :, here * beams : end * beams],
        _get(cache, "values")[:, :, :, here * beams : end * beams],
        first,
        zeros,
        None if origin is None else origin[:, here:end],
        cache["left_pad"],
        cross_memory(cache),
    )


def append(cache: Cache, k: Tensor, v: Tensor, settings: Settings) -> None:
    """Write the memory of the step just done. k, v: (G, B, H, 1, D)."""
    beams = beams_together(cache)
    if beams > 1 and k.dtype == torch.float16:  # a beam that overflows must not spoil those it stands with
        k, v = torch.nan_to_num(k), torch.nan_to_num(v)
    end = _filled(cache, settings)
    if end * beams == _get(cache, "keys").size(3):
        end = _make_room(cache, end, settings)
    _get(cache, "keys")[:, :, :, end * beams : (end + 1) * beams] = _together(k, beams)
    _get(cache, "values")[:, :, :, end * beams : (end + 1) * beams] = _together(v, beams)
    origin = cache["origin"]
    if origin is not None:
        origin[:, end] = _own(origin.size(0), beams, origin)
    _get(cache, "progress")[0] += 1


def reorder(cache: Cache, order: Tensor, settings: Settings) -> None:
    """Give every row the past of row order[i]; there may be fewer rows, or more, than before."""
    beams = beams_together(cache)
    rows = beams * _get(cache, "keys").size(1)
    if torch.equal(order, torch.arange(rows, device=order.device)):
        return
    each = copies(order) if beams == 1 else 1
    _move(cache, order[::each], settings)
    if each > 1:
        _spread(cache, each, settings)


def copies(order: Tensor) -> int:
    """How many rows in turn go on from the same one: n of one, n of another, and so on; 1 = they do not."""
    if order.size(0) < 2:
        return 1
    each = int((order == order[0]).sum())
    if order.size(0) % each == 0 and torch.equal(order, order[::each].repeat_interleave(each)):
        return each
    return 1


def _move(cache: Cache, order: Tensor, settings: Settings) -> None:
    beams = beams_together(cache)
    rows = beams * _get(cache, "keys").size(1)
    if beams > 1 and not _stay_together(order, beams):
        _part(cache, settings)
        beams = 1
    sentence = _sentences(order, beams)
    _select(cache, sentence, _filled(cache, settings) * beams)
    for name in ["origin", "left_pad"]:
        tensor = cache[name]
        if tensor is not None:
            cache[name] = tensor.index_select(0, order)
    if "cross_keys" in cache:
        beams = rows // _get(cache, "cross_keys").size(1)
        if beams > 1 and not _stay_together(order, beams):
            sentence = torch.div(order, beams, rounding_mode="floor")  # each row gets a copy
        else:
            sentence = _sentences(order, beams)
        _select_cross(cache, sentence)


def _filled(cache: Cache, settings: Settings) -> int:
    """Slots of the buffers that hold something."""
    progress = _get(cache, "progress")
    return settings.init_slots + int(progress[0]) - int(progress[1])


def _own(rows: int, beams: int, like: Tensor) -> Tensor:
    """Each row's number in its sentence, (B)."""
    return torch.arange(rows, device=like.device).remainder(beams)


def _together(x: Tensor, beams: int) -> Tensor:
    """(G, B, H, 1, D) -> (G, R, H, beams, D)."""
    if beams == 1:
        return x
    g, rows, heads, _, width = x.shape
    return x.reshape(g, rows // beams, beams, heads, width).transpose(2, 3)


def _spread(cache: Cache, beams: int, settings: Settings) -> None:
    """Each row becomes several that stand together; what is common to them stays the first one's."""
    filled = _filled(cache, settings)
    keys = _get(cache, "keys")
    rows, capacity = keys.size(1), keys.size(3)
    for name in ["keys", "values"]:
        buffer = _get(cache, name)
        shape: List[int] = list(buffer.shape)
        shape[3] *= beams
        spread = buffer.new_zeros(shape)
        spread[:, :, :, : filled * beams : beams] = buffer[:, :, :, :filled]
        cache[name] = spread
    cache["origin"] = torch.zeros([rows * beams, capacity], dtype=torch.long, device=keys.device)
    left_pad = cache["left_pad"]
    if left_pad is not None:
        cache["left_pad"] = left_pad.repeat_interleave(beams)


def _part(cache: Cache, settings: Settings) -> None:
    """Beams of one sentence go to different ones: each row gets slots of its own."""
    origin, beams, filled = _get(cache, "origin"), beams_together(cache), _filled(cache, settings)
    row = torch.arange(origin.size(0), device=origin.device)
    sentence = torch.div(row, beams, rounding_mode="floor")
    slot = torch.arange(filled, device=origin.device) * beams + origin[:, :filled]  # (B, M)
    for name in ["keys", "values"]:
        buffer = _get(cache, name)
        # Indexed together, rows and slots come first: (B, M, G, H, D).
        own = buffer.permute(1, 3, 0, 2, 4)[sentence.unsqueeze(1), slot]
        own = own.permute(2, 0, 3, 1, 4).contiguous()
        cache[name] = _enlarged(own, filled, buffer.size(3) // beams)
    cache["origin"] = None


def _stay_together(order: Tensor, beams: int) -> bool:
    """Whether rows that share a sentence share it afterwards."""
    if order.size(0) % beams != 0:
        return False
    sentence = torch.div(order, beams, rounding_mode="floor").view(-1, beams)
    return bool((sentence == sentence[:, :1]).all())


def _sentences(order: Tensor, beams: int) -> Tensor:
    return torch.div(order[::beams], beams, rounding_mode="floor")


def _is_unchanged(sentence: Tensor, count: int) -> bool:
    return torch.equal(sentence, torch.arange(count, device=sentence.device))


def _select(cache: Cache, sentence: Tensor, filled: int) -> None:
    count = _get(cache, "keys").size(1)
    if _is_unchanged(sentence, count):
        return
    for name in ["keys", "values"]:
        buffer = _get(cache, name)
        moved = buffer[:, :, :, :filled].index_select(1, sentence)
        if sentence.size(0) > count:
            cache[name] = _enlarged(moved, filled, buffer.size(3))
        else:
            buffer = buffer[:, : sentence.size(0)]
            buffer[:, :, :, :filled] = moved
            cache[name] = buffer


def _select_cross(cache: Cache, sentence: Tensor) -> None:
    if _is_unchanged(sentence, _get(cache, "cross_keys").size(1)):
        return
    for name in ["cross_keys", "cross_values"]:
        cache[name] = _get(cache, name).index_select(1, sentence)
    padding = cache["cross_padding"]
    if padding is not None:
        cache["cross_padding"] = padding.index_select(0, sentence)


def _make_room(cache: Cache, end: int, settings: Settings) -> int:
    """Forget what lies before the span. The buffer doubles until it holds that and a quarter more, and then stays."""
    beams = beams_together(cache)
    live = end - first_visible(end, settings.span)
    capacity = 2 * end
    if settings.span > 0:
        capacity = min(capacity, settings.span + max(16, settings.span // 4))
    for name in ["keys", "values"]:
        kept = _get(cache, name)[:, :, :, (end - live) * beams :]
        cache[name] = _enlarged(kept, live * beams, capacity * beams)
    origin = cache["origin"]
    if origin is not None:
        kept = origin[:, end - live :]
        cache["origin"] = torch.cat([kept, kept.new_zeros([kept.size(0), max(capacity - live, 0)])], dim=1)
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
