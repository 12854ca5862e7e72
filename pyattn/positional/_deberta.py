"""The disentangled attention of DeBERTa: a dense bias, (..., H, L, S)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check, _check_relative
from pyattn._pieces import Toeplitz
from pyattn.positional._heads import heads, paired
from pyattn.positional._relative import EDGE, key_minus_query, log_position


def deberta_buckets(relative_position: Any, bucket_size: int, max_position: int) -> np.ndarray:
    """The signed bucket of each distance in DeBERTa: one each for the small, wider ones above.

    Parameters
    ----------
    relative_position : array_like of int
        Query minus key, ``i - j``: **the other way round than in T5**.
    bucket_size : int
        ``position_buckets`` of the configuration, 256 in the released models; at least 2.
    max_position : int
        ``max_relative_positions`` of the configuration, or ``max_position_embeddings`` where that
        is below 1; 512 in the released models. At least ``bucket_size // 2 + 2``.

    Returns
    -------
    ndarray of int64
        Of the shape of `relative_position`. Distances below `max_position` have buckets within
        ``(-bucket_size, bucket_size)``; beyond they go on growing.

    Raises
    ------
    TypeError
        Distances or sizes that are not integers.
    ValueError
        Sizes out of range.

    Notes
    -----
    He et al. 2021, "DeBERTa", arXiv 2006.03654, and ``make_log_bucket_position`` of its version 2:
    distances up to ``m = bucket_size // 2`` are their own bucket, ``d`` above is in ``m +
    ceil(log(d / m) / log((max_position - 1) / m) * (m - 1))``, with the sign of the distance.

    Examples
    --------
    >>> from pyattn.positional import deberta_buckets
    >>> deberta_buckets([-511, -130, -128, 5, 128, 130, 511], 256, 512)
    array([-255, -130, -128,    5,  128,  130,  255])
    >>> deberta_buckets([140, 200, 300, 400], 256, 512)
    array([137, 169, 207, 233])
    """
    distance = _check_relative.distances("deberta_buckets", relative_position)
    sizes = _check_relative.deberta_buckets("deberta_buckets", bucket_size, max_position)
    return _deberta_buckets(distance, *sizes)


def _deberta_buckets(distance: np.ndarray, bucket_size: int, max_position: int) -> np.ndarray:
    exact = bucket_size // 2
    size = np.abs(distance)
    above = np.ceil(log_position(size, exact, max_position - 1, exact - 1) - EDGE).astype(np.int64)
    return np.where(size <= exact, distance, np.sign(distance) * (exact + above))


def deberta_bias(
    query: Any,
    key: Any,
    pos_key: Any = None,
    pos_query: Any = None,
    *,
    bucket_size: int | None = None,
    max_position: int | None = None,
    scale: float | None = None,
    query_start: int | None = None,
) -> np.ndarray:
    """The disentangled terms of DeBERTa: content to position and position to content.

    With ``row = clip(bucket(i - j) + span, 0, 2 * span - 1)`` this is ``scale * (q_i .
    pos_key[row] + k_j . pos_query[row])``. The call needs the same scale, which is smaller than
    usual for being shared by three terms::

        bias = deberta_bias(q, k, pos_key, pos_query, bucket_size=256, max_position=512)
        pyattn.attention(q, k, v, bias=bias, scale=(3 * D) ** -0.5)     # 2 * D with one term only

    **Where the queries stand**: query ``i`` is at ``i + query_start`` on the key axis, by default
    with ``query_start = S - L``, as in `pyattn.attention`; a call with another `query_start` needs
    the same here.

    Parameters
    ----------
    query : array_like of float32 or float64, (..., H, L, D)
        Or (L, D).
    key : array_like of the same dtype, (..., Hkv, S, D)
        ``H % Hkv == 0``; query head ``h`` reads key head ``h // (H // Hkv)``. Or (S, D).
    pos_key : array_like of the same dtype, (H, 2 * span, D), optional
        The relative embeddings after ``pos_key_proj`` (or ``key_proj``, if they share it), split
        into heads. Or (2 * span, D) for all heads. None: no such term ("c2p").
    pos_query : array_like of the same dtype, (H, 2 * span, D), optional
        Those after ``pos_query_proj`` (or ``query_proj``). None: no such term ("p2c").
    bucket_size, max_position : int, optional
        As of `deberta_buckets`; None, as in version 1: each distance has its own row.
    scale : float, optional
        Default ``(D * (1 + terms)) ** -0.5``, with as many terms as there are tables.
    query_start : int, optional
        The place of query 0 on the key axis. Default ``S - L``.

    Returns
    -------
    ndarray, (..., H, L, S)
        In query's dtype, in which it is computed. (L, S) if `query` and `key` have 2 axes. Another
        L x S numbers are needed meanwhile.

    Raises
    ------
    TypeError
        Not floating point, different dtypes; sizes that are not integers.
    ValueError
        Shapes that do not fit together; neither `pos_key` nor `pos_query`.
    NotImplementedError
        float16 and bfloat16.

    Notes
    -----
    He et al. 2021, "DeBERTa", arXiv 2006.03654, section 3.1. The paper has the bucket of ``j - i``
    in the second term; the code of the models, and this, that of ``i - j`` in both.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import deberta_bias
    >>> query = key = np.ones((3, 1))
    >>> pos_key = np.arange(4.0)[:, None]
    >>> deberta_bias(query, key, pos_key, scale=1.0)
    array([[2., 1., 0.],
           [3., 2., 1.],
           [3., 3., 2.]])
    """
    tables = {"pos_key": pos_key, "pos_query": pos_query}
    tables = {name: table for name, table in tables.items() if table is not None}
    _check_relative.some_term("deberta_bias", list(tables))
    query, key, *arrays = _check.float_arrays(
        "deberta_bias", ["query", "key", *tables], [query, key, *tables.values()]
    )
    tables = dict(zip(tables, arrays, strict=True))
    given = query
    query, key, two_axes = paired("deberta_bias", query, key)
    for name, table in tables.items():
        _check_relative.head_table("deberta_bias", name, table, ["rows"], given)
    span = _check_relative.spans("deberta_bias", list(tables), arrays)
    _check_relative.both_or_none("deberta_bias", bucket_size, max_position)
    if scale is None:
        scale = (max(query.shape[-1], 1) * (1 + len(tables))) ** -0.5
    scale = _check.scale("deberta_bias", scale, query.shape[-1], query.dtype)
    queries, keys = query.shape[-2], key.shape[-2]
    start = _check_relative.start("deberta_bias", query_start, queries, keys)
    distance = -key_minus_query(queries, keys, start)
    if bucket_size is not None:
        sizes = _check_relative.deberta_buckets("deberta_bias", bucket_size, max_position)
        distance = _deberta_buckets(distance, *sizes)

    bias = np.zeros((*query.shape[:-1], keys), query.dtype)
    # The models clamp both terms for themselves, the second as -bucket(j - i) + span. As the
    # buckets are odd this is the same row.
    rows = np.clip(distance + span, 0, 2 * span - 1)
    index = Toeplitz(rows, keys).view()[0, :, 0]  # a view: (L, S) without the memory
    for at, q, k in heads(query, key):
        for name, table in tables.items():
            own = (table if table.ndim == 2 else table[at[-1]]).T
            if name == "pos_key":
                bias[at] += np.take_along_axis(scale * q @ own, index, axis=-1)
            else:
                bias[at] += np.take_along_axis(scale * k @ own, index.T, axis=-1).T
    return bias[0] if two_axes else bias
