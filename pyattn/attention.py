"""Attention: what its arguments mean. How it is computed is in csrc/attention.c."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pyattn import _check, _core
from pyattn._out import handed_over
from pyattn._pieces import as_plain
from pyattn.biases import as_bias, bias_terms
from pyattn.masks import as_mask, mask_grid, mask_terms

__all__ = [
    "attention",
    "attention_topk",
    "attention_varlen",
    "attention_weights",
    "merge_attention",
]


def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    query_start: Any = None,
    key_lengths: Any = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    layout: str = "bhld",
    return_lse: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Exact scaled dot-product attention, ``softmax(scale * query @ key.T) @ value``.

    Options apply in this order: scale, softcap, bias, masks, sinks, softmax. `mask`, `causal`,
    `window` and `key_lengths` hold together: a query may see what all of them allow. What it may
    not see cannot be seen: whatever stands there, NaN too, changes no bit of the result.

    Computed in blocks with a running softmax: no L x S array exists at any time, and scratch memory
    does not grow with the lengths. The bits of a row of the result depend on that row of `query`
    and on the keys and values it may see, on whether a key head has more than 8 query rows in all
    (fewer are summed in another order), and on nothing else: not on the number of threads, the
    other rows, the batch, the strides or the addresses.

    Parameters
    ----------
    query : array_like, (..., H, L, D)
        float16, bfloat16 (any dtype of that name), float32 or float64, any strides. Also (L, D)
        and (H, L, D). With ``layout="blhd"`` (..., L, H, D).
    key : array_like, (..., Hkv, S, D)
        ``H % Hkv == 0``; query head ``h`` reads key head ``h // (H // Hkv)``. With 6 query heads
        and 2 key heads, heads 0, 1, 2 of `query` attend to head 0 of `key`, and 3, 4, 5 to head 1.
        Leading axes broadcast. In query's dtype, or halves under float32 queries.
    value : array_like, (..., Hkv, S, Dv)
        `Dv` need not be `D`.
    mask : bool array_like or structured mask, optional
        True = may attend. An array must broadcast to (..., H, L, S); it is read where it lies, with
        any strides, blocks that hide everything are skipped. See `pyattn.masks` for structured
        ones.
    bias : float array_like or structured bias, optional
        Added to the scores; -inf = may not attend. An array (float16, bfloat16, float32, float64)
        must broadcast to (..., H, L, S) and is read where it lies. See `pyattn.biases`.
    causal : bool, default False
        Query ``i`` may see key ``j`` only if ``j <= i + query_start``.
    query_start : int or (B,) ints, optional
        Where query 0 stands on the key axis; may be negative. Default ``S - L``: the ends are
        aligned, right for decoding and chunked prefill. 0 is the top-left alignment of PyTorch
        and JAX. For L = 2, S = 4::

            default      1 1 1 0        query_start=0    1 0 0 0
                         1 1 1 1                         1 1 0 0

        A row that sees no key is exactly 0, its `lse` -inf.
    window : (left, right), optional
        Query ``i`` may see key ``j`` only if ``-left <= j - (i + query_start) <= right``. The
        query's own position is not counted; None on a side: no limit there. Time is spent on the
        window only.
    key_lengths : int or (B,) ints, optional
        Keys at or past the length are padding: never read, no time spent on them.
    scale : float, optional
        Default ``D ** -0.5``. May be 0 or negative; otherwise a normal number of the dtype.
    softcap : float, optional
        Scores ``s`` become ``softcap * tanh(s / softcap)``.
    sinks : (H,) floats, optional
        One more logit per head that takes weight and adds nothing to the output. A row that sees
        no key then has the sink alone as its softmax denominator: its `lse` is the sink, so that
        partial results still merge.
    layout : {"bhld", "blhd"}
        Order of the axes of query, key, value and out, all without a copy. Of masks, biases and
        `lse` the order is always (..., H, L, S).
    return_lse : bool, default False
        Also return the natural log of each row's softmax denominator.
    out : ndarray, (..., H, L, Dv), optional
        Written and returned. May overlap an input: the result is then computed aside and copied.

    Returns
    -------
    out : ndarray, (..., H, L, Dv)
        In query's dtype; (..., L, H, Dv) with ``layout="blhd"``; (L, Dv) if all inputs have 2 axes.
    lse : ndarray, (..., H, L)
        Only with ``return_lse=True``, in both layouts; (L,) if all inputs have 2 axes. float64 for
        float64, else float32.

    Raises
    ------
    TypeError
        Not floating point, dtypes that do not go together, a masked array.
    ValueError
        Shapes that do not fit together, numbers out of range, an `out` that cannot be written.
        Nothing has been written then.
    MemoryError
        No scratch memory; `out` is untouched.
    KeyboardInterrupt
        Ctrl-C is answered in the middle of a call; `out` is then written in part.

    Notes
    -----
    Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1. Softcap: Gemma 2 (2024),
    section 2. Sinks: Xiao et al. 2023, arXiv 2309.17453. float64 is computed in float64, all else
    in float32; halves are widened where they are used and the result is rounded once. An array
    in foreign byte order is converted first, which is a copy.

    Examples
    --------
    >>> import numpy as np, pyattn
    >>> rng = np.random.default_rng(0)
    >>> q = rng.standard_normal((2, 8, 5, 64), dtype=np.float32)   # batch, heads, queries, size
    >>> k = rng.standard_normal((2, 2, 9, 64), dtype=np.float32)   # 2 key heads for 8 query heads
    >>> v = rng.standard_normal((2, 2, 9, 64), dtype=np.float32)
    >>> pyattn.attention(q, k, v, causal=True, key_lengths=[9, 7]).shape
    (2, 8, 5, 64)
    """
    (q, k, v), leading, two_axes = _operands(
        "attention", layout, ("query", "key", "value"), (query, key, value)
    )
    want_lse = _check.flag("attention", "return_lse", return_lse)
    options = _options(
        "attention", q, k, leading, mask=mask, bias=bias, causal=causal, window=window,
        query_start=query_start, key_lengths=key_lengths, scale=scale, softcap=softcap, sinks=sinks,
        by_grid=True,
    )  # fmt: skip
    shape = (*leading, *q.shape[-3:-1], v.shape[-1])
    given_shape = _given_order(shape, layout, two_axes)
    result = _result("attention", out, given_shape, q.dtype, (q, k, v), options.terms)
    lse = np.empty(shape[:-1], _check.computed(q.dtype)) if want_lse else None
    _attend(q, k, v, _heads_first(result, layout), lse, options)
    result = handed_over(result, out)
    return (result, lse[0] if two_axes else lse) if want_lse else result


def attention_varlen(
    query: Any,
    key: Any,
    value: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any = None,
    *,
    bias: Any = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    return_lse: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Attention over sequences of different lengths, packed one after the other without padding.

    Sequence ``n`` has the queries ``cu_seqlens_q[n] <= i < cu_seqlens_q[n + 1]`` and the keys
    likewise; each result has the bits that `attention` on that sequence alone gives. No time is
    spent on padding, as there is none, and the longest sequences are begun first.

    Parameters
    ----------
    query : array_like, (T, H, D)
    key, value : array_like, (Tk, Hkv, D), (Tk, Hkv, Dv)
        dtypes as of `attention`; any strides.
    cu_seqlens_q : (N + 1,) ints
        Where the sequences begin: 0, then the sums of their lengths up to T.
    cu_seqlens_k : (N + 1,) ints, optional
        The same of the keys. Default: as of the queries.
    bias : ALiBi slopes, optional
        ``pyattn.biases.alibi(slopes)`` with slopes (H,) or (N, H); positions count in each
        sequence.
    causal, window
        As for `attention`. In each sequence the last query stands at the last key.
    scale, softcap, sinks, return_lse
        As for `attention`.
    out : ndarray, (T, H, Dv), optional
        Written and returned.

    Returns
    -------
    out : ndarray, (T, H, Dv)
        In query's dtype. Rows of a sequence without keys are 0.
    lse : ndarray, (H, T)
        Only with ``return_lse=True``.

    Raises
    ------
    TypeError, ValueError, MemoryError, KeyboardInterrupt
        As `attention`.

    Examples
    --------
    >>> import numpy as np, pyattn
    >>> x = np.random.default_rng(0).standard_normal((7, 4, 16))  # lengths 5 and 2
    >>> out = pyattn.attention_varlen(x, x, x, [0, 5, 7], causal=True)
    >>> last = pyattn.attention(x[5:], x[5:], x[5:], causal=True, layout="blhd")
    >>> np.array_equal(out[5:], last)
    True
    """
    function = "attention_varlen"
    given = _check.attention_arrays(function, ("query", "key", "value"), (query, key, value))
    _check.packed(function, given)
    q, k, v = (a.swapaxes(0, 1) for a in given)
    _check.attention_shapes(
        function, ("query", "key", "value"), given, [q.shape, k.shape, v.shape], "blhd"
    )
    offsets = _check.offsets(function, "cu_seqlens_q", cu_seqlens_q, q.shape[1])
    key_offsets = offsets
    if cu_seqlens_k is not None or k.shape[1] != q.shape[1]:
        key_offsets = _check.offsets(function, "cu_seqlens_k", cu_seqlens_k, k.shape[1])
        _check.same_sequences(function, offsets, key_offsets)
    want_lse = _check.flag(function, "return_lse", return_lse)
    options = _options(
        function, q, k, (), sequences=(offsets, key_offsets), bias=bias, causal=causal,
        window=window, scale=scale, softcap=softcap, sinks=sinks,
    )  # fmt: skip
    shape = (*q.shape[:2], v.shape[-1])
    result = _result(
        function, out, (shape[1], shape[0], shape[2]), q.dtype, (q, k, v), options.terms
    )
    lse = np.empty(shape[:-1], _check.computed(q.dtype)) if want_lse else None
    _attend(q, k, v, result.swapaxes(0, 1), lse, options)
    result = handed_over(result, out)
    return (result, lse) if want_lse else result


def attention_weights(
    query: Any,
    key: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    query_start: Any = None,
    key_lengths: Any = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    layout: str = "bhld",
) -> np.ndarray:
    """The attention weights themselves: each row of the softmax, to look at.

    The weights that `attention` gives to the values, from the same kernels. This is the one
    function that makes an L x S array; `attention` never needs it.

    Parameters
    ----------
    query, key, mask, bias, causal, window, query_start, key_lengths, scale, softcap, sinks, layout
        As for `attention`.

    Returns
    -------
    ndarray, (..., H, L, S)
        In query's dtype, in both layouts; (L, S) if both inputs have 2 axes. Rows sum to 1 up to
        rounding, less what a sink takes; a row that may see no key is 0.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As `attention`.

    Examples
    --------
    >>> import numpy as np, pyattn
    >>> x = np.zeros((3, 8), dtype=np.float32)
    >>> pyattn.attention_weights(x, x, causal=True)
    array([[1.        , 0.        , 0.        ],
           [0.5       , 0.5       , 0.        ],
           [0.33333334, 0.33333334, 0.33333334]], dtype=float32)
    """
    (q, k), leading, two_axes = _operands(
        "attention_weights", layout, ("query", "key"), (query, key)
    )
    options = _options(
        "attention_weights", q, k, leading, mask=mask, bias=bias, causal=causal, window=window,
        query_start=query_start, key_lengths=key_lengths, scale=scale, softcap=softcap, sinks=sinks,
    )  # fmt: skip
    weights = np.empty((*leading, *q.shape[-3:-1], k.shape[-2]), q.dtype)
    if weights.size:
        if not q.shape[-1]:
            q, k = _size_one(q), _size_one(k)
        _core.attention(
            as_plain(q), as_plain(k), None, None, as_plain(weights), None, None, *options
        )
    return weights[0] if two_axes else weights


def attention_topk(
    query: Any,
    key: Any,
    k: int,
    *,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    query_start: Any = None,
    key_lengths: Any = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    layout: str = "bhld",
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` keys to which each query attends most, with their weights.

    Found in one pass over the keys: memory is O(L * k), there is no L x S array. The weights have
    the bits of those of `attention_weights`. Made for a `k` of some hundreds at most: time grows
    with its square.

    Parameters
    ----------
    query, key
        As for `attention`.
    k : int
        How many, 1 <= k <= S.
    mask, bias, causal, window, query_start, key_lengths, scale, softcap, sinks, layout
        As for `attention`.

    Returns
    -------
    indices : ndarray of int64, (..., H, L, k)
        Of keys, the strongest first, of equally strong ones the first key first; -1 where a row
        sees fewer than `k` keys whose scores are above -inf. (L, k) if both inputs have 2 axes.
    weights : ndarray, (..., H, L, k)
        In query's dtype; 0 where there is no key. NaN in all of a row that attends to a NaN.

    Raises
    ------
    TypeError, ValueError, MemoryError, KeyboardInterrupt
        As `attention`.

    Examples
    --------
    >>> import numpy as np, pyattn
    >>> q = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> keys = np.array([[5.0, 0.0], [0.0, 0.0], [0.0, 9.0]])
    >>> indices, weights = pyattn.attention_topk(q, keys, 2)
    >>> indices
    array([[0, 1],
           [2, 0]])
    >>> weights.round(3)
    array([[0.945, 0.028],
           [0.997, 0.002]])
    """
    (q, keys), leading, two_axes = _operands(
        "attention_topk", layout, ("query", "key"), (query, key)
    )
    k = _check.count("attention_topk", "k", k, keys.shape[-2])
    options = _options(
        "attention_topk", q, keys, leading, mask=mask, bias=bias, causal=causal, window=window,
        query_start=query_start, key_lengths=key_lengths, scale=scale, softcap=softcap, sinks=sinks,
    )  # fmt: skip
    weights = np.empty((*leading, *q.shape[-3:-1], k), _check.computed(q.dtype))
    indices = np.empty(weights.shape, np.int64)
    if weights.size:
        if not q.shape[-1]:
            q, keys = _size_one(q), _size_one(keys)
        _core.attention(as_plain(q), as_plain(keys), None, None, weights, indices, None, *options)
    weights = weights.astype(q.dtype, copy=False)
    return (indices[0], weights[0]) if two_axes else (indices, weights)


def merge_attention(outs: Sequence[Any], lses: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Merge attention over parts of the keys into attention over all of them.

    Each part is what ``attention(query, key[part], value[part], return_lse=True)`` returned; the
    parts are weighted by ``exp(lse)``, computed so that nothing overflows.

    Parameters
    ----------
    outs : sequence of array_like, each (..., L, Dv)
    lses : sequence of array_like, each (..., L)
        Natural logs, float32 of halves. -inf marks a part in which a row saw no key; its `out` is
        not looked at.

    Returns
    -------
    out : ndarray, (..., L, Dv)
    lse : ndarray, (..., L)
        Both in the dtype of the parts, and computed in that of their `lse`. Rows that saw no key
        in any part: 0 and -inf.

    Raises
    ------
    TypeError, ValueError
        Parts of different shapes, numbers or dtypes, or none at all.

    Examples
    --------
    >>> import numpy as np, pyattn
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = (rng.standard_normal((2, 4, 10, 8)) for _ in range(3))
    >>> parts = [pyattn.attention(q, k[..., s, :], v[..., s, :], return_lse=True)
    ...          for s in (slice(0, 6), slice(6, 10))]
    >>> out, lse = pyattn.merge_attention(*zip(*parts))
    >>> np.allclose(out, pyattn.attention(q, k, v))
    True
    """
    outs, lses = list(outs), list(lses)
    _check.parts("merge_attention", outs, lses)
    outs, lses = _check.merge_arrays("merge_attention", outs, lses)
    _check.merge_shapes("merge_attention", outs, lses)

    top = lses[0]
    for lse in lses[1:]:
        top = np.maximum(top, lse)
    base = np.where(np.isneginf(top), 0, top)
    total = np.zeros_like(base)
    merged = np.zeros(outs[0].shape, lses[0].dtype)
    for o, lse in zip(outs, lses, strict=True):
        weight = np.exp(lse - base)
        total += weight
        seen = ~np.isneginf(lse)[..., None]
        merged += np.where(seen, o.astype(merged.dtype, copy=False), 0) * weight[..., None]
    nothing = total == 0
    merged /= np.where(nothing, 1, total)[..., None]
    with np.errstate(divide="ignore"):
        lse = base + np.log(total)
    return merged.astype(outs[0].dtype, copy=False), lse


def _operands(
    function: str, layout: str, names: tuple[str, ...], given: tuple[Any, ...]
) -> tuple[list[np.ndarray], tuple[int, ...], bool]:
    """The arrays as (*leading, heads, length, size) views that agree, `leading`, and whether all
    had 2 axes."""
    _check.layout(function, layout)
    arrays = _check.attention_arrays(function, names, given)
    views, two_axes = arrays, False
    shapes = [a.shape for a in arrays]
    if layout != "bhld" or min([len(shape) for shape in shapes]) < 3:
        two_axes = _check.two_axes(function, names, arrays)
        views = [_heads_first(a, layout) for a in arrays]
        shapes = [a.shape for a in views]
    leading, broadcast = _check.attention_shapes(function, names, arrays, shapes, layout)
    if broadcast:
        views = [np.broadcast_to(a, leading + a.shape[-3:]) for a in views]
    return views, leading, two_axes


class _Options(NamedTuple):
    """What the options mean, checked; in the order of `_core.attention`."""

    query_start: np.ndarray | None
    key_lengths: np.ndarray | None
    query_offsets: np.ndarray | None
    key_offsets: np.ndarray | None
    grid: tuple[Any, Any] | None  # a mask that is not among the terms
    sinks: np.ndarray | None
    terms: list[tuple[str, int, np.ndarray]]
    left: int  # -1: no limit
    right: int
    scale: float
    softcap: float  # 0: none


def _options(
    function: str,
    q: np.ndarray,
    k: np.ndarray,
    leading: tuple[int, ...],
    *,
    causal: Any,
    window: Any,
    scale: Any,
    softcap: Any,
    sinks: Any,
    mask: Any = None,
    bias: Any = None,
    query_start: Any = None,
    key_lengths: Any = None,
    sequences: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    by_grid: bool = False,
) -> _Options:
    """`q` and `k` are heads first; `sequences` are offsets of packed ones, of queries and keys.
    `by_grid`: whether a mask over a grid may be given as that, if nothing else speaks against it.
    """
    heads, queries, size = q.shape[-3:]
    keys = k.shape[-2]
    computed = _check.computed(q.dtype)
    scale = _check.scale(function, scale, size, computed)
    softcap = 0.0 if softcap is None else _check.softcap(function, softcap, computed)
    left, right = (-1, -1) if window is None else _check.window(function, window)
    if _check.flag(function, "causal", causal):
        right = 0
    if query_start is not None:
        query_start = _check.per_batch(function, "query_start", query_start, leading, None, None)
    if key_lengths is not None:
        key_lengths = _check.per_batch(function, "key_lengths", key_lengths, leading, 0, keys)
    if sinks is not None:
        sinks = _check.sinks(function, sinks, heads, computed)
    terms: list[tuple[str, int, np.ndarray]] = []
    grid = None
    if mask is not None or bias is not None:
        packed = sequences[0] is not None
        batch = leading if sequences[0] is None else (len(sequences[0]) - 1,)
        scores = (*batch, heads, queries, keys)
        if bias is not None:
            terms += bias_terms(function, as_bias(function, bias), scores)
        if mask is not None:
            mask = as_mask(function, mask)
            placed = left >= 0 or right >= 0 or key_lengths is not None
            if by_grid and not placed and all(kind == "table" for kind, _, _ in terms):
                grid = mask_grid(function, mask, scores)
            if grid is None:
                terms += mask_terms(function, mask, scores)
            else:
                query_start = None  # nothing looks at it
        _check.terms(function, terms, packed)
    return _Options(
        query_start, key_lengths, *sequences, grid, sinks, terms, left, right, scale, softcap
    )


def _result(
    function: str,
    out: np.ndarray | None,
    shape: tuple[int, ...],
    dtype: np.dtype,
    inputs: Sequence[np.ndarray],
    terms: Sequence[tuple[str, int, np.ndarray]],
) -> np.ndarray:
    """Where the result is computed: `out`, unless that overlaps an input."""
    if out is None:
        return np.empty(shape, dtype)
    _check.out(function, out, shape, dtype)
    aside = any(np.may_share_memory(out, a) for a in (*inputs, *(a for _, _, a in terms)))
    return np.empty(shape, dtype) if aside else out


def _attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out: np.ndarray,
    lse: np.ndarray | None,
    options: _Options,
) -> None:
    """Heads first; extents may be 0."""
    if 0 in out.shape[:-1] or 0 in k.shape[-3:-1]:  # nothing to compute, or no key to see
        out[...] = 0
        if lse is not None:
            with np.errstate(over="ignore"):  # -1e300 is -inf as a float32, as in the kernel
                lse[...] = -np.inf if options.sinks is None else options.sinks[:, None]
        return
    if not q.shape[-1]:
        q, k = _size_one(q), _size_one(k)
    if not v.shape[-1]:  # nothing to write, but perhaps an lse
        v, out = _size_one(v), np.empty((*out.shape[:-1], 1), q.dtype)
    _core.attention(as_plain(q), as_plain(k), as_plain(v), as_plain(out), None, None, lse, *options)


def _heads_first(a: np.ndarray, layout: str) -> np.ndarray:
    if a.ndim == 2:
        return a[None]
    return a if layout == "bhld" else a.swapaxes(-3, -2)


def _given_order(shape: tuple[int, ...], layout: str, two_axes: bool) -> tuple[int, ...]:
    """The user's order of a heads-first shape."""
    if two_axes:
        return shape[1:]
    if layout == "bhld":
        return shape
    *leading, heads, length, size = shape
    return (*leading, length, heads, size)


def _size_one(a: np.ndarray) -> np.ndarray:
    """For a size of 0: one column of zeros. As a head size it makes every score 0, as none does."""
    return np.broadcast_to(np.zeros((), a.dtype), (*a.shape[:-1], 1))
