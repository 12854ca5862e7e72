"""Biases that are given as a table."""

from __future__ import annotations

from typing import Any

from pyattn import _check_numbers, _check_terms
from pyattn._pieces import GridToeplitz, Toeplitz
from pyattn.biases._bias import Bias, Primitive, dense_bias


def dense(array: Any) -> Bias:
    """A dense bias, to add it to structured ones.

    Parameters
    ----------
    array : array_like of float16, bfloat16, float32 or float64
        Added to the scores, to which it broadcasts as NumPy does it: (L, S), (H, L, S), (S,)...
        -inf = may not attend. Kept as a reference, with any strides; only an array in foreign byte
        order is converted.

    Returns
    -------
    Bias
        Of the array's shape.

    Raises
    ------
    TypeError
        Another dtype, or a masked array.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import biases
    >>> biases.dense(np.zeros((8, 5, 5)))
    <bias dense (8, 5, 5)>
    """
    return dense_bias("dense", "array", array)


def relative(table: Any, queries: int, keys: int | None = None) -> Bias:
    """A bias for every distance between key and query, ``table[..., (j - i) + L - 1]``.

    Parameters
    ----------
    table : array_like of float16, bfloat16, float32 or float64, (..., H, L + S - 1)
        Or (L + S - 1,) for all heads. Entry 0 is key 0 for the last query, the last one is the
        last key for query 0. Kept as a reference.
    queries, keys : int
        L and S; `keys` is `queries` by default.

    Returns
    -------
    Bias, (..., H, L, S)

    Raises
    ------
    TypeError
        Another dtype; sizes that are not integers.
    ValueError
        A table of another length.

    Notes
    -----
    Raffel et al. 2020, arXiv 1910.10683, section 2.1, have one number per bucket of distances:
    look up all distances once, ``table[:, buckets]``, and not once per pair.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import biases
    >>> np.asarray(biases.relative([-2.0, -1.0, 0.0, 1.0, 2.0], 3))
    array([[ 0.,  1.,  2.],
           [-1.,  0.,  1.],
           [-2., -1.,  0.]])
    """
    table = _check_terms.bias_array("relative", "table", table)
    queries, keys = _check_numbers.sizes("relative", queries, keys)
    _check_terms.relative_table("relative", table, queries, keys)
    shape = (*table.shape[:-1], queries, keys)
    return Primitive("relative", shape, table.dtype, Toeplitz(table, keys))


def relative_grid(table: Any, grid: tuple[int, int]) -> Bias:
    """A bias for every distance on a grid, query minus key, as in Swin transformers.

    Adds ``table[..., yi - yj + height - 1, xi - xj + width - 1]`` for query pixel ``(yi, xi)`` and
    key pixel ``(yj, xj)``.

    Parameters
    ----------
    table : array_like of float, (..., H, 2 * height - 1, 2 * width - 1)
        float16, bfloat16, float32 or float64. Kept as a reference.
    grid : (height, width)
        The L = S pixels, numbered row by row.

    Returns
    -------
    Bias, (..., H, L, L)

    Raises
    ------
    TypeError
        Another dtype; a grid that is not of integers.
    ValueError
        A table of another size, a grid that has not two axes.

    Notes
    -----
    Liu et al. 2021, "Swin Transformer", section 3.2, arXiv 2103.14030. The parameter
    ``relative_position_bias_table`` of that model, ((2h - 1) * (2w - 1), H), becomes this table
    without a copy: ``.reshape(2 * h - 1, 2 * w - 1, H).transpose(2, 0, 1)``.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import biases
    >>> table = np.arange(15.0).reshape(3, 5)
    >>> bias = biases.relative_grid(table, (2, 3))
    >>> np.asarray(bias)[0]  # what pixel (0, 0) adds for each of the 2 x 3
    array([7., 6., 5., 2., 1., 0.])
    """
    table = _check_terms.bias_array("relative_grid", "table", table)
    extents = _check_numbers.grid("relative_grid", grid, axes=(2,))
    _check_terms.grid_table("relative_grid", table, extents)
    pixels = extents[0] * extents[1]
    shape = (*table.shape[:-2], pixels, pixels)
    return Primitive("relative_grid", shape, table.dtype, GridToeplitz(table))
