"""Contextual position encoding: a dense bias, (..., H, L, S)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check, _check_relative
from pyattn.positional._heads import heads, paired


def cope_bias(
    query: Any,
    key: Any,
    table: Any,
    *,
    scale: float | None = None,
    query_start: int | None = None,
) -> np.ndarray:
    """CoPE, contextual position encoding: positions that count the keys which a query picks.

    The gate of a pair is ``g[i, j] = sigmoid(scale * q_i . k_j)``; key ``j`` stands at ``p = g[i,
    j] + ... + g[i, i]``, at most ``positions - 1``; and the bias is ``q_i . table[p]``, between
    whole numbers interpolated, and not scaled. It is made for causal attention::

        pyattn.attention(q, k, v, bias=cope_bias(q, k, table), causal=True)

    It cannot be evaluated inside the kernel: the place of a key depends on the scores of all keys
    after it, so that no block of keys can be finished before the whole row of scores is known.

    **Where the queries stand**: query ``i`` is at ``i + query_start`` on the key axis, by default
    with ``query_start = S - L``, as in `pyattn.attention`; a call with another `query_start` needs
    the same here.

    Parameters
    ----------
    query : array_like of float32 or float64, (..., H, L, D)
        Or (L, D).
    key : array_like of the same dtype, (..., Hkv, S, D)
        ``H % Hkv == 0``; query head ``h`` reads key head ``h // (H // Hkv)``. Or (S, D).
    table : array_like of the same dtype, (positions, D)
        The embeddings of the positions 0, 1, ...: the paper's ``pos_emb[0].T``. Or one table per
        head, (H, positions, D).
    scale : float, optional
        That of the call; default ``D ** -0.5``.
    query_start : int, optional
        The place of query 0 on the key axis. Default ``S - L``.

    Returns
    -------
    ndarray, (..., H, L, S)
        In query's dtype; scores are computed in it, gates and positions in float64. Later keys,
        which causal attention hides, have position 0. (L, S) if `query` and `key` have 2 axes.

    Raises
    ------
    TypeError
        Not floating point, different dtypes; sizes that are not integers.
    ValueError
        Shapes that do not fit together.
    NotImplementedError
        float16 and bfloat16.

    Notes
    -----
    Golovneva et al. 2024, "Contextual Position Encoding", arXiv 2405.18719, section 4 and the code
    in the appendix.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import cope_bias
    >>> query, key = np.ones((1, 1)), np.zeros((3, 1))  # all gates are a half
    >>> cope_bias(query, key, np.array([[0.0], [10.0], [20.0]]))
    array([[15., 10.,  5.]])
    """
    names = ("query", "key", "table")
    query, key, table = _check.float_arrays("cope_bias", names, (query, key, table))
    given = query
    query, key, two_axes = paired("cope_bias", query, key)
    _check_relative.head_table("cope_bias", "table", table, ["positions"], given)
    _check_relative.rows_at_least("cope_bias", "table", table.shape, 1)
    scale = _check.scale("cope_bias", scale, query.shape[-1], query.dtype)
    queries, keys = query.shape[-2], key.shape[-2]
    start = _check_relative.start("cope_bias", query_start, queries, keys)

    bias = np.empty((*query.shape[:-1], keys), query.dtype)
    for at, q, k in heads(query, key):
        bias[at] = scale * q @ k.T
    whole = query @ table.swapaxes(-1, -2)  # the bias at whole positions
    last = table.shape[-2] - 1
    for i in range(queries):  # row by row: float64 takes no memory to speak of
        row, seen = whole[..., i, :], min(max(i + start + 1, 0), keys)
        # The sigmoid, in a form that cannot overflow.
        gates = 0.5 + 0.5 * np.tanh(bias[..., i, :seen].astype(np.float64) / 2)
        position = np.minimum(np.cumsum(gates[..., ::-1], axis=-1)[..., ::-1], last)
        below = np.nan_to_num(position).astype(np.intp)  # NaN stays in `part`
        part = position - below
        low = np.take_along_axis(row, below, axis=-1)
        high = np.take_along_axis(row, np.minimum(below + 1, last), axis=-1)
        bias[..., i, :seen] = (1 - part) * low + part * high
        bias[..., i, seen:] = row[..., :1]
    return bias[0] if two_axes else bias
