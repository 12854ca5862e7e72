"""Structured biases: what is added to the scores, without an L x S array.

A bias is a small immutable object for ``pyattn.attention(..., bias=)``. The kernel evaluates it
block by block; the L x S array exists only if asked for, by ``numpy.asarray(bias)``.

=============== =====================================================
`dense`         a float array, to combine it with the others
`alibi`         a slope per head, times the distance
`relative`      a number per head and distance
`relative_grid` a number per head and distance in two dimensions
=============== =====================================================

Biases combine with ``+``, also with float arrays. A bias of -inf hides the key. All but `alibi`
keep a reference to the array they are given and look at it again in every call; NaN in it is passed
on to the scores.

>>> import numpy as np
>>> from pyattn import biases
>>> biases.alibi(biases.alibi_slopes(8)) + np.zeros((5, 9), np.float32)
<bias alibi + dense (8, 5, 9)>
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyattn import _check_terms
from pyattn.masks import (
    Shape,
    Structured,
    Table,
    Tabular,
    Term,
    Toeplitz,
    dense_piece,
    last_two,
)

__all__ = ["Bias", "alibi", "alibi_slopes", "dense", "relative", "relative_grid"]


# Pieces: see masks.py.


@dataclass(frozen=True, eq=False, slots=True)
class GridToeplitz(Tabular):
    """An entry for every distance on a grid, query minus key:
    ``plane[..., yi - yj + height - 1, xi - xj + width - 1]``."""

    plane: np.ndarray  # (..., 2 * height - 1, 2 * width - 1)

    def view(self) -> np.ndarray:
        # Window (yi, xi) is plane[yi : yi + height, xi : xi + width]; key 0 is at its far end.
        extents = tuple((n + 1) // 2 for n in self.plane.shape[-2:])
        windows = np.lib.stride_tricks.sliding_window_view(self.plane, extents, axis=(-2, -1))
        return windows[..., ::-1, ::-1]


@dataclass(frozen=True, eq=False, slots=True)
class Slopes:
    """-slope * distance, for one slope per head."""

    slopes: np.ndarray  # (..., H), float64
    start: int | None  # where query 0 stands on the key axis, if the sizes are known

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return self.slopes[..., None, None] * -np.abs(j - i - self.start)

    def term(self, own: Shape, scores: tuple[int, ...]) -> Term:
        return "slopes", np.broadcast_to(self.slopes, scores[:-2])


class Bias(Structured):
    """A structured bias; made by the functions of this module.

    Immutable; pickles; combines with other biases and with float arrays by ``+``, up to 8 of them.

    Attributes
    ----------
    shape : tuple of int or None
        Broadcasts to the shape of the scores, (..., H, L, S). None: any extent.
    dtype : numpy.dtype
        That of the array; float64 for a sum and for `alibi`.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import biases
    >>> bias = biases.relative(np.arange(4.0), 2, 3) + np.array([0, 0, -np.inf])
    >>> np.asarray(bias)
    array([[  1.,   2., -inf],
           [  0.,   1., -inf]])
    """

    __slots__ = ()
    kind, operators = "bias", "+"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        for part in self.parts():
            if None in part.shape:
                _check_terms.sizes_unknown(part.shape)
        return Structured.__array__(self, dtype, copy)

    def __add__(self, other: Any) -> Bias:
        return _sum(self, as_bias("bias + array", other, "array"))

    def __radd__(self, other: Any) -> Bias:
        return _sum(as_bias("array + bias", other, "array"), self)

    def parts(self) -> list[Primitive]:
        """The primitive biases whose sum this is."""

    def __repr__(self) -> str:
        return f"<bias {' + '.join(p.name for p in self.parts())} {self.shape}>"


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Primitive(Bias):
    """One piece, under the name of the function that made it."""

    name: str
    shape: Shape
    dtype: np.dtype
    piece: Table | Toeplitz | GridToeplitz | Slopes

    def parts(self) -> list[Primitive]:
        return [self]

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        queries, keys = last_two(self.shape)
        # One stands for all.
        return self.piece.at(i * 0 if queries == 1 else i, j * 0 if keys == 1 else j)

    def terms(self, scores_shape: tuple[int, ...]) -> list[Term]:
        """The piece, broadcast for a call with scores of that shape: all extents >= 1."""
        return [self.piece.term(self.shape, scores_shape)]


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Sum(Bias):
    shape: Shape
    dtype: np.dtype
    items: tuple[Primitive, ...]

    def parts(self) -> list[Primitive]:
        return list(self.items)

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        total = np.zeros((), self.dtype)
        for part in self.items:
            total = total + part.at(i, j)
        return total


def _sum(a: Bias, b: Bias) -> Bias:
    shape = _check_terms.common_shape("bias + bias", a.shape, b.shape)
    items = (*a.parts(), *b.parts())
    _check_terms.parts("bias + bias", len(items))
    return Sum(shape, np.dtype(np.float64), items)


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
    return _dense(_check_terms.bias_array("dense", "array", array))


def _dense(array: np.ndarray) -> Primitive:
    return Primitive("dense", array.shape, array.dtype, dense_piece(array))


def alibi(slopes: Any, queries: int | None = None, keys: int | None = None) -> Bias:
    """ALiBi, attention with linear biases: the further away a key, the less it counts.

    Adds ``-slopes[h] * abs(j - (i + query_start))``, with the `query_start` of the call.

    Parameters
    ----------
    slopes : array_like of float, (H,) or (B, H)
        As of `alibi_slopes`. Finite, at most 1e30 in size; may be negative.
    queries, keys : int, optional
        L and S, needed for ``numpy.asarray(bias)`` only, which takes ``query_start = S - L``.
        Without them the bias fits any call. `keys` is `queries` by default.

    Returns
    -------
    Bias, (B, H, L, S)
        (H, L, S) if `slopes` has one axis; L and S are None if not given.

    Raises
    ------
    TypeError
        Not numbers.
    ValueError
        Slopes without an axis, infinite, nan or too large; `keys` without `queries`.

    Notes
    -----
    Press et al. 2022, "Train Short, Test Long", arXiv 2108.12409. There all keys are earlier than
    the query; here later ones, if they may be seen, count less with distance as well.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import biases
    >>> biases.alibi([0.5, 0.25])
    <bias alibi (2, None, None)>
    >>> np.asarray(biases.alibi([0.5, 0.25], 2, 3))[1]
    array([[-0.25,  0.  , -0.25],
           [-0.5 , -0.25,  0.  ]])
    """
    slopes = _check_terms.slopes("alibi", slopes)
    queries, keys = _check_terms.optional_sizes("alibi", queries, keys)
    start = None if queries is None else keys - queries
    shape = (*slopes.shape, queries, keys)
    return Primitive("alibi", shape, np.dtype(np.float64), Slopes(slopes, start))


def alibi_slopes(heads: int) -> np.ndarray:
    """The slopes of ALiBi: a geometric sequence.

    Parameters
    ----------
    heads : int
        H. For a power of two ``2 ** (-8 / H)``, its square, its cube, ... Otherwise those of the
        next lower power of two, and then every other one of twice that power.

    Returns
    -------
    ndarray, (H,)
        float64.

    Raises
    ------
    TypeError, ValueError
        Not an integer, negative.

    Notes
    -----
    Press et al. 2022, section 3, arXiv 2108.12409; for other numbers of heads their code, which
    all models follow.

    Examples
    --------
    >>> from pyattn import biases
    >>> biases.alibi_slopes(4)
    array([0.25      , 0.0625    , 0.015625  , 0.00390625])
    >>> biases.alibi_slopes(6)[4:]
    array([0.5  , 0.125])
    """
    heads = _check_terms.size("alibi_slopes", "heads", heads)
    power = 1 << max(heads.bit_length() - 1, 0)
    whole = np.arange(1, power + 1) * (8 / power)
    between = np.arange(1, 2 * (heads - power) + 1, 2) * (4 / power)
    return np.exp2(-np.concatenate([whole, between]))[:heads]


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
    queries, keys = _check_terms.sizes("relative", queries, keys)
    _check_terms.relative_table("relative", table, queries, keys)
    shape = (*table.shape[:-1], queries, keys)
    return Primitive("relative", shape, table.dtype, Toeplitz(table, queries, keys))


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
    extents = _check_terms.grid("relative_grid", grid, axes=(2,))
    _check_terms.grid_table("relative_grid", table, extents)
    pixels = extents[0] * extents[1]
    shape = (*table.shape[:-2], pixels, pixels)
    return Primitive("relative_grid", shape, table.dtype, GridToeplitz(table))


# The way into a call.


def as_bias(function: str, value: Any, name: str = "bias") -> Bias | None:
    """What a user gave as `bias`: a `Bias`, or a float array as one; None stays None."""
    if value is None or isinstance(value, Bias):
        return value
    if isinstance(value, Structured):
        _check_terms.not_a_bias(function, name)
    return _dense(_check_terms.bias_array(function, name, value))


def bias_terms(
    function: str, bias: Bias | None, scores_shape: tuple[int, ...]
) -> list[tuple[str, int, np.ndarray]]:
    """The bias for a call with scores of that shape (..., H, L, S), all extents >= 1.

    Returns
    -------
    list of (kind, -1, array)
        All are added. Nothing is copied.
    """
    if bias is None:
        return []
    _check_terms.broadcasts(function, "bias", bias.shape, scores_shape)
    found = []
    for part in bias.parts():
        # A distance is not that of another query: one ALiBi row cannot stand for all.
        alone = isinstance(part.piece, Slopes)
        _check_terms.broadcasts(function, "bias", part.shape, scores_shape, exact=alone)
        found += [(kind, -1, array) for kind, array in part.terms(scores_shape)]
    return found
