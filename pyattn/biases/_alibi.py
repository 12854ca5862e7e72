"""Biases in proportion to the distance."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check_numbers, _check_terms
from pyattn._pieces import Slopes
from pyattn.biases._bias import Bias, Primitive


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
    queries, keys = _check_numbers.optional_sizes("alibi", queries, keys)
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
    heads = _check_numbers.whole("alibi_slopes", "heads", heads)
    power = 1 << max(heads.bit_length() - 1, 0)
    whole = np.arange(1, power + 1) * (8 / power)
    between = np.arange(1, 2 * (heads - power) + 1, 2) * (4 / power)
    return np.exp2(-np.concatenate([whole, between]))[:heads]
