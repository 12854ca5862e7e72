"""Relative position encodings that depend on the queries: Shaw, Transformer-XL.

Their biases are dense, (..., H, L, S): one number per pair and head is what they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check, _check_numbers, _check_relative
from pyattn._pieces import Toeplitz
from pyattn.positional._relative import key_minus_query


def shaw_bias(
    query: Any,
    table: Any,
    keys: int,
    *,
    left: int | None = None,
    scale: float | None = None,
    query_start: int | None = None,
) -> np.ndarray:
    """Relative keys of Shaw et al.: ``scale * q_i . table[clip(j - i, -left, right) + left]``.

    **Where the queries stand**: query ``i`` is at ``i + query_start`` on the key axis, by default
    with ``query_start = S - L``, as in `pyattn.attention`; a call with another `query_start` needs
    the same here.

    Parameters
    ----------
    query : array_like of float32 or float64, (..., H, L, D)
        Or (L, D).
    table : array_like of the same dtype, (left + 1 + right, D)
        A key for every offset from ``-left`` to ``right``; farther ones are clipped. Or one table
        per head, (H, left + 1 + right, D).
    keys : int
        S.
    left : int, optional
        By default half of the table, so that it is symmetric.
    scale : float, optional
        That of the call; default ``D ** -0.5``.
    query_start : int, optional
        The place of query 0 on the key axis. Default ``S - L``.

    Returns
    -------
    ndarray, (..., H, L, S)
        In query's dtype, in which it is computed. (L, S) if `query` has 2 axes.

    Raises
    ------
    TypeError
        Not floating point, different dtypes; sizes that are not integers.
    ValueError
        Shapes that do not fit together.
    NotImplementedError
        float16 and bfloat16.

    See Also
    --------
    shaw_values : the other half, relative values

    Notes
    -----
    Shaw et al. 2018, "Self-Attention with Relative Position Representations", arXiv 1803.02155,
    equation 4. wav2vec2-BERT clips differently on both sides: ``left_max_position_embeddings``.
    No array of L x S x D is made: each query meets each offset once.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import shaw_bias
    >>> query, table = np.array([[1.0], [2.0]]), np.array([[-1.0], [0.0], [1.0]])
    >>> shaw_bias(query, table, 4)  # queries at positions 2 and 3
    array([[-1., -1.,  0.,  1.],
           [-2., -2., -2.,  0.]])
    """
    query, table = _check.float_arrays("shaw_bias", ("query", "table"), (query, table))
    _check.two_axes("shaw_bias", ("query",), (query,))
    _check_relative.head_table("shaw_bias", "table", table, ["offsets"], query)
    _check_relative.rows_at_least("shaw_bias", "table", table.shape, 1)
    keys = _check_numbers.whole("shaw_bias", "keys", keys)
    left = _check_relative.left("shaw_bias", left, table.shape)
    scale = _check.scale("shaw_bias", scale, query.shape[-1], query.dtype)
    queries = query.shape[-2]
    start = _check_relative.start("shaw_bias", query_start, queries, keys)

    per_offset = query @ table.swapaxes(-1, -2)
    per_offset *= scale
    offsets = np.clip(key_minus_query(queries, keys, start) + left, 0, table.shape[-2] - 1)
    index = Toeplitz(offsets, keys).view()[0, :, 0]  # a view: (L, S) without the memory
    return np.take_along_axis(per_offset, index[(None,) * (query.ndim - 2)], axis=-1)


def shaw_values(
    weights: Any, table: Any, *, left: int | None = None, query_start: int | None = None
) -> np.ndarray:
    """Relative values of Shaw et al.: ``sum_j weights[i, j] * table[clip(j - i) + left]``.

    To be added to the output of attention::

        bias = shaw_bias(q, relative_keys, S)
        out = pyattn.attention(q, k, v, bias=bias)
        out += shaw_values(pyattn.attention_weights(q, k, bias=bias), relative_values)

    Parameters
    ----------
    weights : array_like of float32 or float64, (..., H, L, S)
        From `pyattn.attention_weights`. Or (L, S).
    table : array_like of the same dtype, (left + 1 + right, D)
        A value for every offset from ``-left`` to ``right``; farther ones are clipped. Or one table
        per head, (H, left + 1 + right, D).
    left : int, optional
        By default half of the table, so that it is symmetric.
    query_start : int, optional
        As of the call. Default ``S - L``.

    Returns
    -------
    ndarray, (..., H, L, D)
        In weights' dtype.

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
    Shaw et al. 2018, arXiv 1803.02155, equation 3. The weights of each offset are summed first, in
    float64; no array of L x S x D is made.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import shaw_values
    >>> weights = np.array([[0.25, 0.75, 0.0], [0.5, 0.25, 0.25]])
    >>> shaw_values(weights, np.array([[-1.0], [0.0], [1.0]]))  # queries at positions 1 and 2
    array([[-0.25],
           [-0.75]])
    """
    weights, table = _check.float_arrays("shaw_values", ("weights", "table"), (weights, table))
    _check_relative.weights_table("shaw_values", weights, table)
    _check_relative.rows_at_least("shaw_values", "table", table.shape, 1)
    left = _check_relative.left("shaw_values", left, table.shape)
    queries, keys = weights.shape[-2:]
    start = _check_relative.start("shaw_values", query_start, queries, keys)
    rows = table.shape[-2]
    summed = np.zeros((*weights.shape[:-1], rows), weights.dtype)
    for i in range(queries if keys else 0):
        # The keys of one offset lie side by side, those of the clipped ones too.
        ends = np.clip([-i - start + left, keys - 1 - i - start + left], 0, rows - 1)
        edges = np.arange(ends[0], ends[1] + 1) - left + i + start
        edges[0] = 0
        summed[..., i, ends[0] : ends[1] + 1] = np.add.reduceat(
            weights[..., i, :], edges, axis=-1, dtype=np.float64
        )
    return summed @ table


def transformer_xl_bias(
    query: Any, relative_keys: Any, v_bias: Any, *, scale: float | None = None
) -> np.ndarray:
    """The position term of Transformer-XL and XLNet: ``scale * (q_i + v) . r[(j - i) + L - 1]``.

    The other term, ``scale * (q_i + u) . k_j``, is that of the call::

        bias = transformer_xl_bias(q, r, v_bias)            # of q itself
        pyattn.attention(q + u_bias[:, None], k, v, bias=bias, causal=True)

    Parameters
    ----------
    query : array_like of float32 or float64, (..., H, L, D)
        Or (L, D).
    relative_keys : array_like of the same dtype, (H, L + S - 1, D)
        Or (L + S - 1, D) for all heads. In the order of `pyattn.biases.relative`: entry 0 is key 0
        for the last query, the last entry is the last key for query 0. With the ends aligned they
        are projected encodings of the distances ``numpy.arange(S - 1, -L, -1)``, query minus key:
        the encodings of Transformer-XL, ``S - 1`` down to 0, and then ``L - 1`` more of later keys,
        which in causal attention may be anything; those of XLNet without the first.
    v_bias : array_like of the same dtype, (H, D)
        Or (D,) for all heads. ``r_r_bias`` in the code of both models, and u is ``r_w_bias``.
    scale : float, optional
        That of the call; default ``D ** -0.5``.

    Returns
    -------
    ndarray, (..., H, L, S)
        In query's dtype, in which it is computed. A read-only view of an array of L x (L + S - 1)
        per head, in which a row begins one element before the end of a row's stride: nothing is
        shifted or copied. (L, S) if `query` has 2 axes.

    Raises
    ------
    TypeError
        Not floating point, different dtypes.
    ValueError
        Shapes that do not fit together.
    NotImplementedError
        float16 and bfloat16.

    Notes
    -----
    Dai et al. 2019, "Transformer-XL", arXiv 1901.02860, section 3.3 and appendix B.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import transformer_xl_bias
    >>> r = np.array([[2.0], [1.0], [0.0], [-1.0]])  # of the distances 2, 1, 0, -1
    >>> transformer_xl_bias(np.array([[0.0], [9.0]]), r, np.array([1.0]))
    array([[ 1.,  0., -1.],
           [20., 10.,  0.]])
    """
    names = ("query", "relative_keys", "v_bias")
    given = (query, relative_keys, v_bias)
    query, relative_keys, v_bias = _check.float_arrays("transformer_xl_bias", names, given)
    _check.two_axes("transformer_xl_bias", ("query",), (query,))
    for name, table, axes in ((names[1], relative_keys, ["distances"]), (names[2], v_bias, [])):
        _check_relative.head_table("transformer_xl_bias", name, table, axes, query)
    queries, size = query.shape[-2:]
    _check_relative.rows_at_least("transformer_xl_bias", names[1], relative_keys.shape, queries)
    scale = _check.scale("transformer_xl_bias", scale, size, query.dtype)

    if v_bias.ndim == 2:
        v_bias = v_bias[:, None]
    every = (query + v_bias) * scale @ relative_keys.swapaxes(-1, -2)
    keys = every.shape[-1] - queries + 1
    *leading, row, step = every.strides
    return np.lib.stride_tricks.as_strided(
        every[..., queries - 1 :],
        (*query.shape[:-1], keys),
        (*leading, row - step, step),
        writeable=False,
    )
