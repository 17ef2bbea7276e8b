"""fairseq's data is looked at when it is opened: what was cut, or written over, is named."""

import os
import struct
from functools import wraps

import numpy as np
from fairseq.data.indexed_dataset import MMapIndexedDataset, _code_to_dtype, data_file_path, index_file_path

from fairseq_feedback.errors import FeedbackError

MAGIC, HEADER = MMapIndexedDataset.Index._HDR_MAGIC, struct.Struct("<QBQ")  # version, kind of number, how many items
OTHER_KINDS = (b"TNTIDX", b"HUFFIDX")
WIDTHS = {code: np.dtype(kind).itemsize for code, kind in _code_to_dtype.items()}
BLOCK = 1 << 24  # numbers


def checked(load):
    """Of fairseq's function that opens `path`.idx and .bin, or with `combine` also `path`1 and so on."""

    @wraps(load)
    def load_indexed_dataset(path, dictionary=None, *args, **kwargs):
        number = ""
        while os.path.isfile(index_file_path(f"{path}{number}")):
            _check_files(f"{path}{number}")
            number = int(number or 0) + 1
        data = load(path, dictionary, *args, **kwargs)
        for part in getattr(data, "datasets", [data]):
            if isinstance(part, MMapIndexedDataset) and dictionary is not None:
                _check_symbols(part, len(dictionary))
        return data

    return load_indexed_dataset


def _check_files(path) -> None:
    """Two files as long as they should be, whose items follow one another."""
    index, numbers = index_file_path(path), data_file_path(path)
    with open(index, "rb") as f:
        magic = f.read(len(MAGIC))
        if magic.startswith(OTHER_KINDS):
            return
        header = f.read(HEADER.size)
        if magic != MAGIC or len(header) < HEADER.size:
            _refuse(index, "it does not begin as an index")
        version, kind, count = HEADER.unpack(header)
        if version != 1 or kind not in WIDTHS:
            _refuse(index, "it is of no version or kind of number that fairseq has")
        size, expected = os.path.getsize(index), f.tell() + 12 * count
        if size != expected:
            _refuse(index, f"it has {size:,} bytes, and {count:,} items need {expected:,}")
        sizes, begins = np.fromfile(f, np.int32, count), np.fromfile(f, np.int64, count)
    ends = np.cumsum(sizes, dtype=np.int64) * WIDTHS[kind]
    if (sizes < 0).any() or not np.array_equal(begins[1:], ends[:-1]) or begins[:1].any():
        _refuse(index, "its items do not follow one another")
    size, expected = os.path.getsize(numbers), int(ends[-1]) if count else 0
    if size != expected:
        _refuse(numbers, f"it has {size:,} bytes, and its index says {expected:,}")


def _check_symbols(data, known: int) -> None:
    numbers = np.frombuffer(data._bin_buffer, dtype=data._index.dtype)
    for start in range(0, len(numbers), BLOCK):
        block = numbers[start : start + BLOCK]
        worst = block.max() if block.max() >= known else block.min()
        if not 0 <= worst < known:
            _refuse(data_file_path(data._path), f"it has the symbol {worst}, and the dictionary has {known:,}")


def names_its_file(add_from_file):
    """Of fairseq's Dictionary."""

    @wraps(add_from_file)
    def wrapped(self, f):
        if not isinstance(f, str):
            return add_from_file(self, f)
        try:
            return add_from_file(self, f)
        except OSError:
            raise
        except Exception as error:  # fairseq raises this very kind for what is not UTF-8
            said = " ".join(str(error).split())
            raise FeedbackError(f"dictionary {f}: {said.rstrip('.')}. Copy it again from where it was made") from error

    return wrapped


def names_its_codes(init):
    """Of fairseq's SubwordNMTBPE. subword_nmt ends the process at a line that is none."""

    @wraps(init)
    def wrapped(self, cfg):
        try:
            init(self, cfg)
            self.encode("ab")  # the first time it looks at the version
        except (SystemExit, NotImplementedError, AssertionError, IndexError, ValueError) as error:
            if cfg.bpe_codes is None:
                raise
            raise FeedbackError(
                f"--bpe-codes {cfg.bpe_codes}: no codes of subword_nmt, or damaged. Copy them again from where "
                "they were made"
            ) from error

    return wrapped


def _refuse(path, what) -> None:
    raise FeedbackError(f"{path} is damaged, {what}: make it again with fairseq-preprocess, or copy it again")
