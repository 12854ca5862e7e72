"""Attention: what its arguments mean. How it is computed is in csrc/attention.c."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyattn import _check, _core

__all__ = ["attention", "attention_weights", "merge_attention"]


def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    causal: bool = False,
    query_start: Any = None,
    key_lengths: Any = None,
    scale: float | None = None,
    layout: str = "bhld",
    return_lse: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Exact scaled dot-product attention, ``softmax(scale * query @ key.T) @ value``.

    Computed in blocks with a running softmax: no L x S array exists at any time, and scratch memory
    does not grow with the lengths. The bits of a row of the result depend on that row of `query`
    and on the keys and values it may see, and on nothing else: not on the number of threads, the
    other rows, the batch, the strides or the addresses.

    Parameters
    ----------
    query : array_like, (..., H, L, D)
        float32 or float64, any strides. Also (L, D) and (H, L, D). With ``layout="blhd"``
        (..., L, H, D).
    key : array_like, (..., Hkv, S, D)
        ``H % Hkv == 0``; query head ``h`` reads key head ``h // (H // Hkv)``. With 6 query heads
        and 2 key heads, heads 0, 1, 2 of `query` attend to head 0 of `key`, and 3, 4, 5 to head 1.
        Leading axes broadcast.
    value : array_like, (..., Hkv, S, Dv)
        `Dv` need not be `D`.
    causal : bool, default False
        Query ``i`` may see key ``j`` only if ``j <= i + query_start``.
    query_start : int or (B,) ints, optional
        Where query 0 stands on the key axis; may be negative. Default ``S - L``: the ends are
        aligned, right for decoding and chunked prefill. 0 is the top-left alignment of PyTorch
        and JAX. For L = 2, S = 4::

            default      1 1 1 0        query_start=0    1 0 0 0
                         1 1 1 1                         1 1 0 0

        A row that sees no key is exactly 0, its `lse` -inf.
    key_lengths : int or (B,) ints, optional
        Keys at or past the length are padding: never read, no time spent on them.
    scale : float, optional
        Default ``D ** -0.5``. May be 0 or negative; otherwise a normal number of the dtype.
    layout : {"bhld", "blhd"}
        Order of the axes of all arrays, `out` included; both without a copy.
    return_lse : bool, default False
        Also return the natural log of each row's softmax denominator.
    out : ndarray, (..., H, L, Dv), optional
        Written and returned. May overlap an input: the result is then computed aside and copied.

    Returns
    -------
    out : ndarray, (..., H, L, Dv)
        In query's dtype; (..., L, H, Dv) with ``layout="blhd"``; (L, Dv) if all inputs have 2 axes.
    lse : ndarray, (..., H, L)
        Only with ``return_lse=True``, in both layouts; (L,) if all inputs have 2 axes.

    Raises
    ------
    TypeError
        Not floating point, different dtypes, a masked array.
    ValueError
        Shapes that do not fit together, numbers out of range, an `out` that cannot be written.
        Nothing has been written then.
    NotImplementedError
        float16 and bfloat16.
    MemoryError
        No scratch memory; `out` is untouched.
    KeyboardInterrupt
        Ctrl-C is answered in the middle of a call; `out` is then written in part.

    Notes
    -----
    Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1. float64 is computed in float64.
    An array in foreign byte order is converted first, which is a copy.

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
    scale = _check.scale("attention", scale, q.shape[-1], q.dtype)
    causal = _check.flag("attention", "causal", causal)
    want_lse = _check.flag("attention", "return_lse", return_lse)
    start, lengths = _positions("attention", query_start, key_lengths, leading, k.shape[-2])

    shape = (*leading, *q.shape[-3:-1], v.shape[-1])
    given_shape = _given_order(shape, layout, two_axes)
    if out is None:
        result = np.empty(given_shape, q.dtype)
    else:
        _check.out("attention", out, given_shape, q.dtype)
        aside = any(np.may_share_memory(out, a) for a in (q, k, v))
        result = np.empty(given_shape, q.dtype) if aside else out
    lse = np.empty(shape[:-1], q.dtype) if want_lse else None

    if 0 in shape[:-1] or 0 in k.shape[-3:-1]:  # nothing to compute, or no key to see
        result[...] = 0
        if lse is not None:
            lse[...] = -np.inf
    else:
        view = _heads_first(result, layout)
        if not q.shape[-1]:
            q, k = _size_one(q), _size_one(k)
        if not v.shape[-1]:  # nothing to write, but perhaps an lse
            v, view = _size_one(v), np.empty((*shape[:-1], 1), q.dtype)
        _core.attention(q, k, v, view, None, lse, start, lengths, causal, scale)

    if out is not None and result is not out:
        out[...] = result
        result = out
    return (result, lse[0] if two_axes else lse) if want_lse else result


def attention_weights(
    query: Any,
    key: Any,
    *,
    causal: bool = False,
    query_start: Any = None,
    key_lengths: Any = None,
    scale: float | None = None,
    layout: str = "bhld",
) -> np.ndarray:
    """The attention weights themselves: each row of the softmax, to look at.

    The weights that `attention` gives to the values, from the same kernels. This is the one
    function that makes an L x S array; `attention` never needs it.

    Parameters
    ----------
    query, key, causal, query_start, key_lengths, scale, layout
        As for `attention`.

    Returns
    -------
    ndarray, (..., H, L, S)
        In query's dtype, in both layouts; (L, S) if both inputs have 2 axes. Rows sum to 1 up to
        rounding; a row that may see no key is 0.

    Raises
    ------
    TypeError, ValueError, NotImplementedError, MemoryError
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
    scale = _check.scale("attention_weights", scale, q.shape[-1], q.dtype)
    causal = _check.flag("attention_weights", "causal", causal)
    start, lengths = _positions("attention_weights", query_start, key_lengths, leading, k.shape[-2])
    weights = np.empty((*leading, *q.shape[-3:-1], k.shape[-2]), q.dtype)
    if weights.size:
        if not q.shape[-1]:
            q, k = _size_one(q), _size_one(k)
        _core.attention(q, k, None, None, weights, None, start, lengths, causal, scale)
    return weights[0] if two_axes else weights


def merge_attention(outs: Sequence[Any], lses: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Merge attention over parts of the keys into attention over all of them.

    Each part is what ``attention(query, key[part], value[part], return_lse=True)`` returned; the
    parts are weighted by ``exp(lse)``, computed so that nothing overflows.

    Parameters
    ----------
    outs : sequence of array_like, each (..., L, Dv)
    lses : sequence of array_like, each (..., L)
        Natural logs. -inf marks a part in which a row saw no key; its `out` is not looked at.

    Returns
    -------
    out : ndarray, (..., L, Dv)
    lse : ndarray, (..., L)
        Both in the dtype of the parts. Rows that saw no key in any part: 0 and -inf.

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
    names = [f"outs[{i}]" for i in range(len(outs))] + [f"lses[{i}]" for i in range(len(lses))]
    _check.parts("merge_attention", outs, lses)
    arrays = _check.float_arrays("merge_attention", names, outs + lses)
    outs, lses = arrays[: len(outs)], arrays[len(outs) :]
    _check.merge_shapes("merge_attention", outs, lses)

    top = lses[0]
    for lse in lses[1:]:
        top = np.maximum(top, lse)
    base = np.where(np.isneginf(top), 0, top)
    total = np.zeros_like(base)
    merged = np.zeros_like(outs[0])
    for o, lse in zip(outs, lses, strict=True):
        weight = np.exp(lse - base)
        total += weight
        seen = ~np.isneginf(lse)[..., None]
        merged += np.where(seen, o, 0) * weight[..., None]
    nothing = total == 0
    merged /= np.where(nothing, 1, total)[..., None]
    with np.errstate(divide="ignore"):
        lse = base + np.log(total)
    return merged, lse


def _operands(
    function: str, layout: str, names: tuple[str, ...], given: tuple[Any, ...]
) -> tuple[list[np.ndarray], tuple[int, ...], bool]:
    """The arrays as (*leading, heads, length, size) views that agree, `leading`, and whether all
    had 2 axes."""
    _check.layout(function, layout)
    arrays = _check.float_arrays(function, names, given)
    two_axes = _check.two_axes(function, names, arrays)
    views = [_heads_first(a, layout) for a in arrays]
    shapes = [a.shape for a in views]
    leading, broadcast = _check.attention_shapes(function, names, arrays, shapes, layout)
    if broadcast:
        views = [np.broadcast_to(a, leading + a.shape[-3:]) for a in views]
    return views, leading, two_axes


def _positions(
    function: str, query_start: Any, key_lengths: Any, leading: tuple[int, ...], keys: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """`query_start` and `key_lengths` as arrays, one number per batch element; None stays None."""
    start = lengths = None
    if query_start is not None:
        start = _check.per_batch(function, "query_start", query_start, leading, None, None)
    if key_lengths is not None:
        lengths = _check.per_batch(function, "key_lengths", key_lengths, leading, 0, keys)
    return start, lengths


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
