"""What `rope` and `add_positions` share: arrays as the kernels take them, and where results go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pyattn import _check, _core

Kernel = Callable[[np.ndarray, np.ndarray], None]

rope_kernel, add_kernel = _core.rope, _core.add_positions


def plain(a: np.ndarray) -> np.ndarray:
    """bfloat16, which is not NumPy's own, as the 16 bits as which C knows it."""
    return a.view(np.uint16) if a.dtype.isbuiltin == 2 else a


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
        kernel(inner(plain(x)), inner(plain(result)))
    if out is not None and result is not out:
        out[...] = result
        return out
    return result


def same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Of arrays of the same shape and dtype."""
    return a.strides == b.strides and a.ctypes.data == b.ctypes.data
