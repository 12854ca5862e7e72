"""Rows of a table, added to the input."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check_positions
from pyattn._pieces import as_plain, spread
from pyattn.positional import _rows


def add_positions(
    x: Any, table: Any, positions: Any = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Add positions to the input: ``x + table[positions]`` without the array between.

    Parameters
    ----------
    x : array_like, (..., L, D)
        Embeddings of tokens or patches: float32, float64, float16 or bfloat16, of any strides.
    table : array_like, (positions, D)
        Of the dtype of `x`: a learned table, or one that `sinusoidal` or another function made.
    positions : array_like of int, (L,) or what broadcasts to (..., L), optional
        Rows of the table. Default: 0, 1, ..., L - 1.
    out : ndarray, optional
        Where to write, of the shape and dtype of `x`. May be `x` itself; such a call is not
        interrupted by Ctrl-C, so that `x` is never left added to in part.

    Returns
    -------
    ndarray, (..., L, D)
        In the dtype of `x`; `out` if that was given.

    Raises
    ------
    TypeError
        Another dtype, or two; positions that are not integers.
    ValueError
        Shapes that do not fit; positions outside the table.

    Notes
    -----
    Every sum is rounded once: the bits of NumPy's ``x + table[positions]``. Time is that of reading
    and writing memory.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import positional
    >>> x = np.zeros((1, 3, 2), np.float32)
    >>> table = np.arange(8, dtype=np.float32).reshape(4, 2)
    >>> positional.add_positions(x, table, [2, 2, 0])
    array([[[4., 5.],
            [4., 5.],
            [0., 1.]]], dtype=float32)
    """
    function = "add_positions"
    x = _check_positions.elements(function, "x", x, "length, size")
    table = _check_positions.table(function, table, x)
    rows = x.shape[:-1]
    index = _rows.rows_of_table(function, positions, len(table), rows, x)
    aside = out is not None and isinstance(out, np.ndarray) and np.may_share_memory(out, table)
    numbers = as_plain(table.copy() if aside else table)

    # Sequences with the same positions are like heads: each row of the table is read once for all.
    alike = index.ndim == 1 and x.ndim > 2
    wanted = (*rows[:-2], rows[-1]) if alike else rows

    def inner(a: np.ndarray) -> np.ndarray:
        return a if alike else a[..., None, :, :]

    def kernel(a: np.ndarray, b: np.ndarray) -> None:
        _rows.add_kernel(a, b, spread(index, wanted), numbers)

    return _rows.apply(function, x, out, kernel, inner)
