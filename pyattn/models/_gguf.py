"""Reads GGUF files: what they say of a model at once, and a tensor at a time.

A file is a magic number, a version, counts, then so many pairs of a name and a value of any of 13
types, then the name, shape, type and place of every tensor, and the numbers, of which many are in
blocks that share a scale: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

Numbers are widened by the package `gguf`. Its reader is not used: it takes two thirds of the time
in which a small model is loaded, errors do not say what is wrong, and it maps the file into memory:
a mapped file that somebody replaces ends the process.
"""

from __future__ import annotations

import math
import struct
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pyattn.models import _check_files, _check_gguf, _check_models
from pyattn.models._safetensors import FLOATS, Entry, Tensors

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
ALIGNMENT = "general.alignment"
MOST_AXES = 4
LARGEST_START = 64 << 20  # bytes before the numbers; they may take 10 times as many in memory
# Those that `gguf` can widen.
KINDS = (
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
    "Q6_K", "TQ1_0", "TQ2_0", "MXFP4", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S",
    "IQ1_M", "IQ4_NL", "IQ4_XS",
)  # fmt: skip


class GgufTensors(Tensors):
    """The tensors of a file by name, read and widened whenever one is asked for."""

    known = KINDS

    def stored(self, name: str) -> np.ndarray:
        """bfloat16 as its bits; quantized ones widened to float32."""
        path, dtype, shape, start = self.entries[name]
        code, numbers, size = _kinds()[dtype]
        rows, row_bytes = math.prod(shape[:-1]), shape[-1] // numbers * size
        data = np.fromfile(path, np.uint8, rows * row_bytes, offset=start)
        _check_files.data_size(path, data.nbytes, rows * row_bytes)
        if dtype in FLOATS:
            stored = data.view(FLOATS[dtype])
            return stored.astype(stored.dtype.newbyteorder("="), copy=False).reshape(shape)
        with np.errstate(all="ignore"):  # of numbers that are none
            return _package().dequantize(data.reshape(rows, row_bytes), code).reshape(shape)


class Gguf(NamedTuple):
    """What a file says: of Python's numbers and strings, lists of strings and arrays of numbers."""

    path: Path
    metadata: dict[str, Any]
    tensors: GgufTensors

    @classmethod
    def read(cls, path: Path) -> Gguf:
        """Everything about the places of tensors is checked."""
        _check_files.is_file(path, "the model")
        _package()
        with open(path, "rb") as file:
            return _Reader(path, file).all()


class _Reader:
    """Goes through a file from its beginning."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.size = path.stat().st_size
        self.left = min(self.size, LARGEST_START)

    def all(self) -> Gguf:
        start = self.file.read(32)
        _check_gguf.magic(self.path, start, MAGIC)
        self.file.seek(0)
        self.take(len(MAGIC))
        _check_gguf.version(self.path, self.number(4), VERSIONS)
        tensors, pairs = self.number(10), self.number(10)
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            name = self.text()
            _check_gguf.new_name(self.path, name, metadata)
            metadata[name] = self.value(name, self.number(4))
        places: dict[str, tuple[str, tuple[int, ...], int]] = {}
        for _ in range(tensors):
            name = self.text()
            _check_gguf.new_name(self.path, name, places)
            places[name] = self.place(name)
        alignment = metadata.get(ALIGNMENT, 32)
        _check_gguf.alignment(self.path, ALIGNMENT, alignment)
        start = self.file.tell() + -self.file.tell() % alignment
        entries = {name: self.entry(name, place, start) for name, place in places.items()}
        return Gguf(self.path, metadata, GgufTensors(entries, [self.path]))

    def take(self, size: int) -> bytes:
        _check_gguf.left(self.path, size, self.left, self.size, LARGEST_START)
        self.left -= size
        return self.file.read(size)

    def number(self, kind: int) -> Any:
        code = NUMBERS[kind]
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        return self.take(self.number(10)).decode(errors="replace")

    def value(self, name: str, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            _check_gguf.value_type(self.path, name, kind, NUMBERS)
            return self.number(kind)
        kind, count = self.number(4), self.number(10)
        if kind == STRING:
            _check_gguf.left(self.path, 8 * count, self.left, self.size, LARGEST_START)
            return [self.text() for _ in range(count)]
        _check_gguf.value_type(self.path, name, kind, NUMBERS)
        dtype = np.dtype(f"<{NUMBERS[kind]}")
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def place(self, name: str) -> tuple[str, tuple[int, ...], int]:
        """Type, shape and where it begins; the axes of a file are in the order of Fortran."""
        axes = self.number(4)
        _check_gguf.axes(self.path, name, axes, MOST_AXES)
        shape = tuple(self.number(10) for _ in range(axes))[::-1]
        kind = self.number(4)
        return _names().get(kind, f"of the type {kind}"), shape, self.number(10)

    def entry(self, name: str, place: tuple[str, tuple[int, ...], int], start: int) -> Entry:
        dtype, shape, begin = place
        if dtype in KINDS:  # others are not read, so that their size does not matter
            _, numbers, size = _kinds()[dtype]
            _check_gguf.blocks(self.path, name, dtype, shape, numbers)
            end = start + begin + math.prod(shape) // numbers * size
            _check_gguf.inside(self.path, name, end, self.size)
        return Entry(self.path, dtype, shape, start + begin)


def _package() -> Any:
    return _check_models.extra("gguf", "gguf")


@cache
def _names() -> dict[int, str]:
    return {int(code): code.name for code in _package().GGMLQuantizationType}


@cache
def _kinds() -> dict[str, tuple[Any, int, int]]:
    """The package's code of a type, and how many numbers stand in a block of how many bytes."""
    codes = _package().GGMLQuantizationType
    sizes = _package().GGML_QUANT_SIZES
    return {code.name: (code, *sizes[code]) for code in codes}
