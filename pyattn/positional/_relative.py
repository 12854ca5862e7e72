"""Relative position biases with a table of the distances: T5, Swin."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check, _check_numbers, _check_relative
from pyattn.biases import Bias, relative, relative_grid

# A bucket's edge that is a whole number comes out on the one side of it or on the other, by 1e-13,
# as the logarithm of the platform happens to round; 1e-9 decides for all. So these are the buckets
# of exact arithmetic, and those of the models too: the float32 computation of T5 in PyTorch agrees
# for all distances up to 100,000 in 25 settings (num_buckets, max_distance), (32, 128), (64, 128),
# (32, 256) and (320, 800) among them, and up to max_distance in 1743 settings. That of DeBERTa
# agrees for all distances that its table tells apart; of those beyond, a few are one bucket off.
EDGE = 1e-9


def t5_buckets(
    relative_position: Any,
    *,
    bidirectional: bool = True,
    num_buckets: int = 32,
    max_distance: int = 128,
) -> np.ndarray:
    """The bucket of each distance in T5: one each for the small, wider and wider ones above.

    Parameters
    ----------
    relative_position : array_like of int
        Key minus query, ``j - i``.
    bidirectional : bool, default True
        Half of the buckets for later keys, as in encoders. If False, as in decoders, all later
        keys are in bucket 0.
    num_buckets : int, default 32
        At least 4, or 2 if not bidirectional.
    max_distance : int, default 128
        Distances from here on share the last bucket; so do somewhat smaller ones.

    Returns
    -------
    ndarray of int64
        Of the shape of `relative_position`, within [0, num_buckets).

    Raises
    ------
    TypeError
        Distances or sizes that are not integers.
    ValueError
        Too few buckets; a `max_distance` within those that have a bucket of their own.

    Notes
    -----
    Raffel et al. 2020, arXiv 1910.10683, section 2.1, and the code of the models: of ``n`` buckets
    for one direction the first ``m = n // 2`` are the distances below ``m``; distance ``d`` is in
    ``m + floor(log(d / m) / log(max_distance / m) * (n - m))``, at most ``n - 1``.

    Examples
    --------
    >>> from pyattn.positional import t5_buckets
    >>> t5_buckets([-200, -20, -2, 0, 2, 20, 200])
    array([15, 10,  2,  0, 18, 26, 31])
    >>> t5_buckets([-200, -20, -2, 0, 2], bidirectional=False)
    array([31, 17,  2,  0,  0])
    """
    distance = _check_relative.distances("t5_buckets", relative_position)
    bidirectional = _check.flag("t5_buckets", "bidirectional", bidirectional)
    num_buckets, max_distance = _check_relative.t5_buckets(
        "t5_buckets", "num_buckets", num_buckets, max_distance, bidirectional
    )
    return _t5_buckets(distance, bidirectional, num_buckets, max_distance)


def _t5_buckets(
    distance: np.ndarray, bidirectional: bool, num_buckets: int, max_distance: int
) -> np.ndarray:
    first = 0
    if bidirectional:
        num_buckets //= 2
        first = np.where(distance > 0, num_buckets, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = num_buckets // 2
    steps = num_buckets - exact
    above = np.floor(log_position(distance, exact, max_distance, steps) + EDGE).astype(np.int64)
    return first + np.where(distance < exact, distance, exact + np.minimum(above, steps - 1))


def log_position(distance: np.ndarray, low: int, high: float, steps: int) -> np.ndarray:
    """From 0 at `low` to `steps` at `high`, in equal ratios; 0 below `low`."""
    return np.log(np.maximum(distance, low) / low) / np.log(high / low) * steps


def t5_bias(
    weight: Any,
    queries: int,
    keys: int | None = None,
    *,
    bidirectional: bool = True,
    max_distance: int = 128,
    query_start: int | None = None,
) -> Bias:
    """The relative position bias of T5: a number per head and bucket of distances.

    **Where the queries stand**: query ``i`` is at ``i + query_start`` on the key axis, by default
    with ``query_start = S - L``, so that the ends are aligned, right for decoding. This is the
    default of `pyattn.attention` as well; a call with another `query_start` needs the same here.

    T5 does not scale its scores: call ``pyattn.attention(q, k, v, bias=bias, scale=1.0)``.

    Parameters
    ----------
    weight : array_like of float16, bfloat16, float32 or float64, (num_buckets, H)
        As in a checkpoint, ``relative_attention_bias.weight``.
    queries, keys : int
        L and S; `keys` is `queries` by default.
    bidirectional : bool, default True
        True in encoders, False in decoders.
    max_distance : int, default 128
        As of `t5_buckets`.
    query_start : int, optional
        The place of query 0 on the key axis. Default ``S - L``.

    Returns
    -------
    Bias, (H, L, S)
        Of the weight's dtype. It holds (H, L + S - 1) numbers, one per distance.

    Raises
    ------
    TypeError
        Another dtype; sizes that are not integers.
    ValueError
        A weight that has not two axes, or too few buckets.

    Notes
    -----
    Raffel et al. 2020, arXiv 1910.10683, section 2.1. WavLM uses it with 320 buckets up to 800.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import t5_bias
    >>> weight = np.arange(8.0).reshape(8, 1)
    >>> np.asarray(t5_bias(weight, 2, 4))[0]  # queries at positions 2 and 3
    array([[2., 1., 0., 5.],
           [2., 2., 1., 0.]])
    """
    weight = _check_relative.floats("t5_bias", "weight", weight, ["buckets", "heads"])
    queries, keys = _check_numbers.sizes("t5_bias", queries, keys)
    bidirectional = _check.flag("t5_bias", "bidirectional", bidirectional)
    num_buckets, max_distance = _check_relative.t5_buckets(
        "t5_bias", "weight.shape[0]", len(weight), max_distance, bidirectional
    )
    start = _check_relative.start("t5_bias", query_start, queries, keys)
    distance = key_minus_query(queries, keys, start)
    buckets = _t5_buckets(distance, bidirectional, num_buckets, max_distance)
    return relative(np.take(weight.T, buckets, axis=1), queries, keys)


def key_minus_query(queries: int, keys: int, start: int) -> np.ndarray:
    """The distances in the order of `relative`: those of the last query, then the others' last."""
    return np.arange(max(queries + keys - 1, 0)) - (queries - 1 + start)


def swin_bias(table: Any, window: int | tuple[int, int]) -> Bias:
    """The relative position bias of Swin transformers, from the parameter of a checkpoint.

    Parameters
    ----------
    table : array_like of float, ((2 * height - 1) * (2 * width - 1), H)
        ``relative_position_bias_table``: float16, bfloat16, float32 or float64. Kept as a
        reference.
    window : int or (height, width)
        The L = S pixels of a window, numbered row by row.

    Returns
    -------
    Bias, (H, L, L)

    Raises
    ------
    TypeError
        Another dtype; a window that is not of integers.
    ValueError
        A table of another size.

    Notes
    -----
    Liu et al. 2021, "Swin Transformer", arXiv 2103.14030, section 3.2. Shifted windows need a mask
    as well, such as `pyattn.masks.segments` of the regions of each window, where the authors' code
    adds -100.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import swin_bias
    >>> table = np.arange(15.0).reshape(15, 1)
    >>> bias = swin_bias(table, (2, 3))
    >>> np.asarray(bias)[0, 0]  # what pixel (0, 0) adds for each of the 2 x 3
    array([7., 6., 5., 2., 1., 0.])
    """
    table = _check_relative.floats("swin_bias", "table", table, ["distances", "heads"])
    height, width = _check_numbers.pair("swin_bias", "window", window)
    down, across = 2 * height - 1, 2 * width - 1
    _check_relative.swin_rows("swin_bias", down * across, table.shape, (height, width))
    # Splitting one axis is a view, whatever its stride.
    plane = table.reshape(down, across, table.shape[1]).transpose(2, 0, 1)
    return relative_grid(plane, (height, width))
