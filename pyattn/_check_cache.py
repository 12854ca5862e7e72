"""Words the errors of caches of keys and values: their settings, and what is done with them.

Kinds and dtypes raise `TypeError`, shapes and ranges `ValueError`; a cache that another thread is
using, `RuntimeError`. A message names the function, the argument, what was met and the rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from pyattn import _check
from pyattn._check_numbers import is_masked, whole

DTYPES = ("float32", "float16", "bfloat16", "int8")
BLOCK = 64  # keys that the kernel takes at a time: a page holds some of these blocks
AXES = {"bhld": "sequences, heads, length, size", "blhd": "sequences, length, heads, size"}


# Settings.


def dtype(function: str, value: Any) -> str:
    """One of DTYPES."""
    name = value
    if not isinstance(value, str) or value not in DTYPES:
        try:
            name = np.dtype(value).name
        except TypeError:
            name = None
    if value is None or name not in DTYPES:
        raise TypeError(
            f"{function}: dtype must be 'float32', 'float16', 'bfloat16' or 'int8', got {value!r}"
        )
    return name


def page_size(function: str, value: Any) -> int:
    number = whole(function, "page_size", value, 1)
    if number % BLOCK:
        raise ValueError(f"{function}: page_size must be a multiple of {BLOCK}, got {number}")
    return number


def sliding(function: str, window: Any, keep_first: Any) -> tuple[int, int] | None:
    """How many tokens before its own a token sees, and how many first ones; None: all."""
    keep_first = whole(function, "keep_first", keep_first)
    if window is None:
        if keep_first:
            raise ValueError(
                f"{function}: keep_first={keep_first} is for caches with window=: without one "
                "all tokens are kept"
            )
        return None
    return whole(function, "window", window), keep_first


# Which sequences.


def rows(function: str, value: Any, batch: int, distinct: bool) -> list[int]:
    if is_masked(value):
        raise TypeError(f"{function}: rows must not be a masked array")
    a = np.asarray(value)
    if a.dtype.kind not in "iu" and a.size:
        raise TypeError(f"{function}: rows must be integers, got {a.dtype}")
    if a.ndim != 1:
        raise ValueError(f"{function}: rows must have one axis, got {a.shape}")
    numbers = a.tolist()
    met = set()
    for i, b in enumerate(numbers):
        if not 0 <= b < batch:
            raise ValueError(f"{function}: rows[{i}] = {b} is outside [0, {batch}), the sequences")
        if distinct and b in met:
            raise ValueError(f"{function}: rows must be distinct, but {b} stands there twice")
        met.add(b)
    return numbers


def row(function: str, value: Any, batch: int) -> int:
    number = whole(function, "row", value)
    if number >= batch:
        raise ValueError(f"{function}: row = {number} is outside [0, {batch}), the sequences")
    return number


# What is appended.


def tokens(
    function: str,
    key: Any,
    value: Any,
    layout: str,
    count: int,
    heads: int,
    sizes: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of `count` sequences as (sequences, heads, length, size)."""
    _check.layout(function, layout)
    key, value = _floats(function, "key", key), _floats(function, "value", value)
    k = _heads_first(function, "key", key, layout, count, heads, sizes[0])
    v = _heads_first(function, "value", value, layout, count, heads, sizes[1])
    if k.shape[2] != v.shape[2]:
        raise ValueError(
            f"{function}: key and value must have the same length "
            f"(axis {-2 if layout == 'bhld' else -3}): key {key.shape} has {k.shape[2]}, "
            f"value {value.shape} has {v.shape[2]}"
        )
    return k, v


def _heads_first(
    function: str, name: str, a: np.ndarray, layout: str, count: int, heads: int | None, size: int
) -> np.ndarray:
    """`a` as (sequences, heads, length, size), with any number of heads if that is None."""
    x = a.swapaxes(1, 2) if layout == "blhd" and a.ndim == 4 else a
    if (
        a.ndim != 4
        or x.shape[0] != count
        or x.shape[3] != size
        or (heads is not None and x.shape[1] != heads)
    ):
        these = "heads" if heads is None else heads
        middle = f"{these}, length" if layout == "bhld" else f"length, {these}"
        raise ValueError(
            f"{function}: {name} must be ({count}, {middle}, {size}) [{AXES[layout]}], "
            f"got {a.shape}"
        )
    return x


def within_capacity(
    function: str, rows: Iterable[int], starts: Iterable[int], counts: Iterable[int], capacity: int
) -> None:
    for b, start, count in zip(rows, starts, counts, strict=True):
        if start + count > capacity:
            raise ValueError(
                f"{function}: sequence {b} has {start} tokens, {count} more exceed the capacity of "
                f"{capacity}: trim it, or make the cache with a larger capacity"
            )


def _floats(function: str, name: str, value: Any) -> np.ndarray:
    if type(value) is np.ndarray and value.dtype is _check.FLOAT32:  # mostly: be quick
        return value
    (a,) = _check.attention_arrays(function, (name,), (value,))
    if a.dtype == _check.FLOAT64:
        raise TypeError(
            f"{function}: {name} must be float32, float16 or bfloat16, got float64: "
            f"use {name}.astype(numpy.float32)"
        )
    return a


# What attends.


def query(
    function: str, value: Any, layout: str, count: int, kv_heads: int, size: int
) -> np.ndarray:
    """Queries of `count` sequences as (sequences, heads, length, size)."""
    _check.layout(function, layout)
    given = _floats(function, "query", value)
    q = _heads_first(function, "query", given, layout, count, None, size)
    if q.shape[1] % kv_heads:
        raise ValueError(
            f"{function}: {q.shape[1]} query heads cannot be grouped over {kv_heads} key/value "
            f"heads (need H % Hkv == 0): query {given.shape}"
        )
    return q


def too_few_tokens(
    function: str, rows: Sequence[int], lengths: Sequence[int], queries: int
) -> NoReturn:
    """Unless told otherwise, queries stand at the last tokens."""
    fewest = min(lengths)
    raise ValueError(
        f"{function}: {queries} queries stand at the last tokens, but sequence "
        f"{rows[lengths.index(fewest)]} has only {fewest}: append keys and values first, or give "
        "query_start="
    )


def window_decides(function: str, causal: Any, mask: Any, bias: Any, window: Any) -> None:
    """What tokens of a cache with a window see is settled."""
    _check.flag(function, "causal", causal)
    for name, given in (
        ("causal=False", not causal),
        ("mask=", mask is not None),
        ("bias=", bias is not None),
        ("window=", window is not None),
    ):
        if given:
            raise ValueError(
                f"{function}: {name} is not possible for a cache with window=, which keeps only "
                "what that lets see"
            )


def dropped(
    function: str, row: int, start: int, queries: int, left: int, gap: tuple[int, int]
) -> NoReturn:
    raise ValueError(
        f"{function}: the {queries} queries of sequence {row} from position {start} on see {left} "
        f"tokens before their own, but those from {gap[0]} to {gap[1] - 1} have been dropped: "
        "attend before the next append"
    )


# What is taken back.


def trimmed(function: str, value: Any, lengths: Sequence[int]) -> list[int]:
    """The new lengths."""
    wanted = _check.per_batch(function, "lengths", value, (len(lengths),), 0, None).tolist()
    for b, (new, old) in enumerate(zip(wanted, lengths, strict=True)):
        if new > old:
            raise ValueError(
                f"{function}: lengths[{b}] = {new} is more than the {old} tokens of sequence {b}"
            )
    return wanted


def rolled_back(
    function: str, value: Any, rows: Sequence[int], lengths: Sequence[int]
) -> list[int]:
    """The new lengths."""
    counts = _check.per_batch(function, "n", value, (len(rows),), 0, None).tolist()
    for b, n, length in zip(rows, counts, lengths, strict=True):
        if n > length:
            raise ValueError(
                f"{function}: n = {n} is more than the {length} tokens of sequence {b}"
            )
    return [length - n for n, length in zip(counts, lengths, strict=True)]


def cannot_return(function: str, row: int, length: int, gap: tuple[int, int]) -> NoReturn:
    raise ValueError(
        f"{function}: sequence {row} cannot go back to {length} tokens: of those that the last one "
        f"sees, some from {gap[0]} to {gap[1] - 1} have been dropped"
    )


# Threads.


def in_use(function: str) -> NoReturn:
    raise RuntimeError(
        f"{function}: the cache is in use by another call: let threads take turns, or give each a "
        "cache of its own (fork)"
    )
