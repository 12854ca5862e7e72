"""Reads safetensors files, a tensor at a time.

A file is the length of its header in 8 bytes, the header, which is a JSON object with dtype, shape
and place of each tensor, and the numbers, one tensor after the other without gaps:
https://huggingface.co/docs/safetensors/index#format

It is read here rather than by the package of that name because an error must name its tensor, every
shape is looked at before any number is read, and NumPy has no bfloat16. Nothing is mapped into
memory: a mapped file that somebody replaces ends the process.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from pyattn.models import _check_files

FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}  # bfloat16 as its bits
OTHERS = {"BOOL": 1, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2}
OTHERS |= {"I32": 4, "U32": 4, "I64": 8, "U64": 8, "C64": 8}
BYTES = OTHERS | {name: np.dtype(code).itemsize for name, code in FLOATS.items()}
MOST_AXES = 64  # as many as NumPy knows
EMPTY: Mapping[str, Path] = MappingProxyType({})


class Entry(NamedTuple):
    """Where a tensor lies: `start` counts from the beginning of the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of some files by name, read from the disk whenever one is asked for.

    bfloat16 comes widened to float32, which is exact.
    """

    known: Collection[str] = FLOATS  # dtypes that can be read

    def __init__(self, entries: Mapping[str, Entry], files: Sequence[Path]) -> None:
        self.entries = entries
        self.files = files

    @classmethod
    def of_files(cls, files: Sequence[Path], places: Mapping[str, Path] = EMPTY) -> Tensors:
        """Where `places` has a name, only the tensor in that file counts."""
        entries = {
            name: entry
            for path in files
            for name, entry in read_header(path).items()
            if places.get(name, path) == path
        }
        return cls(entries, files)

    def renamed(self, names: Mapping[str, str]) -> Tensors:
        """Those under the new names that are the keys of `names`."""
        return type(self)({new: self.entries[old] for new, old in names.items()}, self.files)

    def __getitem__(self, name: str) -> np.ndarray:
        array = widened(self.stored(name))
        _check_files.within_float32(self.entries[name].path, name, array)
        return array

    def __contains__(self, name: object) -> bool:  # that of Mapping reads the tensor
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def stored(self, name: str) -> np.ndarray:
        """As on the disk: bfloat16 as its bits, uint16."""
        entry = self.entries[name]
        code, count = np.dtype(FLOATS[entry.dtype]), math.prod(entry.shape)
        array = np.fromfile(entry.path, code, count, offset=entry.start)
        _check_files.data_size(entry.path, array.nbytes, count * code.itemsize)
        return array.astype(code.newbyteorder("="), copy=False).reshape(entry.shape)


def widened(array: np.ndarray) -> np.ndarray:
    """float32 of the bits of bfloat16; other arrays as they are."""
    if array.dtype != np.uint16:
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors in a file; everything about their places is checked."""
    _check_files.is_file(path, "a file of weights")
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        _check_files.header_length(path, length, size, start + file.read(32))
        file.seek(8)
        header = _check_files.parsed_json(path, file.read(length), what="the header")
    header.pop("__metadata__", None)
    places = sorted(
        (*_place(path, name, value), name, value["dtype"], tuple(value["shape"]))
        for name, value in header.items()
    )
    entries, expected = {}, 0
    for begin, end, name, dtype, shape in places:
        _check_files.layout(path, name, begin, expected)
        entries[name] = Entry(path, dtype, shape, 8 + length + begin)
        expected = end
    _check_files.data_size(path, size - 8 - length, expected)
    return entries


def _place(path: Path, name: str, value: Any) -> tuple[int, int]:
    """Begin and end of a tensor's data, if its entry makes sense."""
    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
        _check_files.entry(path, name, "has no dtype")
    shape, place = value.get("shape"), value.get("data_offsets")
    if not _all_whole(shape) or len(shape) > MOST_AXES:
        _check_files.entry(path, name, "its shape must be a list of few whole numbers")
    if not _all_whole(place) or len(place) != 2 or place[1] < place[0]:
        _check_files.entry(path, name, "its data_offsets must be two whole numbers, begin and end")
    begin, end = place
    each = BYTES.get(value["dtype"])  # others are not read, so that their size does not matter
    if each is not None and end - begin != math.prod(shape) * each:
        _check_files.entry(
            path,
            name,
            f"{value['dtype']} of the shape {tuple(shape)} takes {math.prod(shape) * each} bytes, "
            f"but it is said to have {end - begin}",
        )
    return begin, end


def _all_whole(value: Any) -> bool:
    """Numbers that a file can have of anything: others would not even fit into a message."""
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 2**63 for v in value)
