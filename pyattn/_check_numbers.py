"""Words the errors of the numbers that masks and biases are made of: sizes, windows, grids.

Kinds raise `TypeError`, numbers out of range and wrong counts of them `ValueError`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

LARGEST = 2**62  # sums of a few sizes stay within int64


def is_masked(value: Any) -> bool:
    """Whether it is a masked array. The first look at numpy.ma imports it, for 45 ms, so plain
    arrays go past."""
    return type(value) is not np.ndarray and isinstance(value, np.ma.MaskedArray)


def whole(function: str, name: str, value: Any, low: int = 0) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{function}: {name} must be an integer, got bool")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{function}: {name} must be an integer, got {type(value).__name__}"
        ) from None
    if number < low:
        raise ValueError(f"{function}: {name} must be at least {low}, got {number}")
    if number > LARGEST:
        raise ValueError(f"{function}: {name} must be at most {LARGEST}, got {number}")
    return number


def entry(name: str, at: Sequence[int]) -> str:
    """The name of an entry of an array, or of the array if it is a single number."""
    return f"{name}[{', '.join(str(int(i)) for i in at)}]" if len(at) else name


def sizes(function: str, queries: Any, keys: Any) -> tuple[int, int]:
    """`queries` and `keys`, which is `queries` where it is None."""
    queries = whole(function, "queries", queries)
    return queries, queries if keys is None else whole(function, "keys", keys)


def optional_sizes(function: str, queries: Any, keys: Any) -> tuple[int | None, int | None]:
    """As `sizes`, or None twice."""
    if queries is not None:
        return sizes(function, queries, keys)
    if keys is not None:
        raise ValueError(f"{function}: keys= needs queries= too")
    return None, None


def window(function: str, value: Any) -> tuple[int | None, int | None]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(
            f"{function}: window must be (left, right), two numbers or None, got {value!r}"
        )
    left, right = (
        None if v is None else whole(function, f"window[{n}]", v) for n, v in enumerate(value)
    )
    return left, right


def grid(function: str, value: Any, axes: tuple[int, ...] = (1, 2)) -> tuple[int, ...]:
    """The extents of a grid of as many axes as `axes` has it."""
    extents = _several(value)
    if len(extents) not in axes:
        want = "W, (W,) or (height, width)" if 1 in axes else "(height, width)"
        raise ValueError(f"{function}: grid must be {want}, got {value!r}")
    return tuple(whole(function, "grid", n) for n in extents)


def per_axis(
    function: str, name: str, value: Any, extents: tuple[int, ...], low: int
) -> tuple[int, ...]:
    """Whole numbers, one per axis of the grid; a single one stands for all."""
    return tuple(whole(function, name, v, low) for v in _each(function, name, value, extents))


def flag_per_axis(
    function: str, name: str, value: Any, extents: tuple[int, ...]
) -> tuple[bool, ...]:
    given = _each(function, name, value, extents)
    for v in given:
        if not isinstance(v, (bool, np.bool_)):
            raise TypeError(f"{function}: {name} must be True or False, got {type(v).__name__}")
    return tuple(bool(v) for v in given)


def pair(function: str, name: str, value: Any) -> tuple[int, ...]:
    """Numbers >= 1 for the queries and for the keys; a single one stands for both."""
    given = _several(value)
    if len(given) not in (1, 2):
        raise ValueError(f"{function}: {name} must be one number or two, got {value!r}")
    return tuple(whole(function, name, v, 1) for v in (given[0], given[-1]))


def kernel_fits(function: str, kernel: int, dilation: int, extent: int) -> None:
    if kernel % 2 == 0:
        raise ValueError(
            f"{function}: kernel_size must be odd, or else it has no centre, got {kernel}"
        )
    if extent and kernel * dilation > extent:
        raise ValueError(
            f"{function}: kernel_size * dilation ({kernel} * {dilation}) exceeds "
            f"the extent {extent} of the grid"
        )


def shift(function: str, value: int, window: int) -> None:
    if value >= window:
        raise ValueError(f"{function}: shift must be less than the window ({window}), got {value}")


def _several(value: Any) -> tuple[Any, ...]:
    """The numbers of a tuple, list or array, or the one number that was given instead."""
    return tuple(value) if isinstance(value, (tuple, list)) or np.ndim(value) else (value,)


def _each(function: str, name: str, value: Any, extents: tuple[int, ...]) -> tuple[Any, ...]:
    given = _several(value)
    if len(given) not in (1, len(extents)):
        raise ValueError(
            f"{function}: {name} must be one number or one per axis of the grid {extents}, "
            f"got {value!r}"
        )
    return given if len(given) == len(extents) else given * len(extents)
