"""What `rope` and `add_positions` share: arrays as the kernels take them, and where results go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyattn import _check, _check_positions, _core
from pyattn._out import handed_over
from pyattn._pieces import as_plain

Kernel = Callable[[np.ndarray, np.ndarray], None]

rope_kernel, add_kernel = _core.rope, _core.add_positions


def rows_of_table(
    function: str, positions: Any, length: int, rows: tuple[int, ...], x: np.ndarray
) -> np.ndarray:
    """Which row of a table of that length goes with each row of x; None: one after the other."""
    if positions is None:
        _check_positions.length_within(function, rows[-1], length)
        return np.arange(rows[-1])
    index = _check_positions.indices(function, positions, length)
    _check_positions.broadcasts(function, index.shape, rows, x.shape)
    return index


def apply(
    function: str,
    x: np.ndarray,
    out: Any,
    kernel: Kernel,
    inner: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """The result of ``kernel(x, out)``, on views that `inner` makes of both, (..., heads, rows,
    cols). `out` may be `x` itself; if it overlaps otherwise, by way of a temporary."""
    if out is None:
        result = np.empty(x.shape, x.dtype)
    else:
        _check.out(function, out, x.shape, x.dtype)
        aside = np.may_share_memory(x, out) and not same_place(x, out)
        result = np.empty(x.shape, x.dtype) if aside else out
    if x.size:
        kernel(inner(as_plain(x)), inner(as_plain(result)))
    return handed_over(result, out)


def same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Of arrays of the same shape and dtype."""
    return a.strides == b.strides and a.ctypes.data == b.ctypes.data
