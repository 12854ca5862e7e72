"""Words what is wrong with a GGUF file: raises `ModelError` and its kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyattn.models import _check_files
from pyattn.models._errors import BrokenFileError, UnsupportedModelError


def magic(path: Path, start: bytes, expected: bytes) -> None:
    if not start.startswith(expected):
        raise BrokenFileError(f"{path}: is not a GGUF file{_check_files.hint(start)}")


def version(path: Path, found: int, supported: Collection[int]) -> None:
    if found not in supported:
        raise UnsupportedModelError(
            f"{path}: version {found} of GGUF is not supported, nor are big-endian files; "
            f"supported: {', '.join(map(str, supported))}"
        )


def left(path: Path, size: int, left: int, file_size: int, largest: int) -> None:
    """There are `size` more bytes."""
    if size <= left:
        return
    if file_size > largest:
        raise BrokenFileError(
            f"{path}: says more than {largest} bytes about itself, or its sizes are wrong"
        )
    raise BrokenFileError(f"{path}: is cut off: {size} more bytes expected, found {left}")


def new_name(path: Path, name: str, names: Collection[str]) -> None:
    if name in names:
        _check_files.entry(path, name, "stands there twice")


def value_type(path: Path, name: str, kind: int, known: Collection[int]) -> None:
    if kind not in known:
        _check_files.entry(path, name, f"has a value of the unknown type {kind}")


def axes(path: Path, name: str, axes: int, most: int) -> None:
    if not 1 <= axes <= most:
        _check_files.entry(path, name, f"has {axes} axes, 1 to {most} are possible")


def alignment(path: Path, name: str, value: Any) -> None:
    if type(value) is not int or not 1 <= value <= 1 << 20:
        _check_files.setting(path, name, "a number of bytes", value)


def blocks(path: Path, name: str, dtype: str, shape: tuple[int, ...], numbers: int) -> None:
    if shape[-1] % numbers:
        _check_files.entry(
            path, name, f"{dtype} of the shape {shape}: rows must be multiples of {numbers}"
        )


def inside(path: Path, name: str, end: int, size: int) -> None:
    if end > size:
        _check_files.entry(path, name, f"is cut off: it ends at {end}, the file at {size}")


def texts(path: Path, name: str, values: Mapping[str, Any]) -> list[str]:
    value = values.get(name)
    if value is None:
        _check_files.setting_missing(path, name)
    if not isinstance(value, list):
        _check_files.setting(path, name, "a list of strings", value)
    return value


def types_of_tokens(path: Path, name: str, value: Any, tokens: int) -> None:
    if getattr(value, "shape", None) != (tokens,) or value.dtype.kind not in "iu":
        _check_files.setting(path, name, f"a list of {tokens} numbers, one per token", value)


def merge(path: Path, name: str, merge: str, pair: bool) -> None:
    if not pair:
        raise BrokenFileError(f"{path}: {name}: {merge!r:.80} is not a pair of tokens")


def factors(path: Path, name: str, factors: np.ndarray) -> None:
    if not (np.isfinite(factors) & (factors > 0)).all():
        _check_files.entry(path, name, "has factors that are not positive numbers")
