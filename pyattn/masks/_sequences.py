"""Masks over tokens in a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check_numbers, _check_terms
from pyattn._pieces import Match, Span, Toeplitz
from pyattn.masks._mask import Mask, Primitive


def segments(query_ids: Any, key_ids: Any = None) -> Mask:
    """Packed sequences: a query sees the keys that have its id.

    Parameters
    ----------
    query_ids : array_like of int, (..., L)
        Any numbers, in any order. Axes before the last are batch axes.
    key_ids : array_like of int, (..., S), optional
        Default `query_ids`. Leading axes broadcast.

    Returns
    -------
    Mask, (..., 1, L, S)
        (L, S) if both have one axis.

    Raises
    ------
    TypeError
        Not integers.
    ValueError
        No axis, or leading axes that do not broadcast.

    Notes
    -----
    If the keys of every id are neighbours, as in packed sequences and their padding, each query
    has a first and a last key, and the kernel skips the blocks between. Otherwise it compares ids.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.segments([1, 1, 2, 2, 2, 0])
    <mask segments (6, 6)>
    ##....
    ##....
    ..###.
    ..###.
    ..###.
    .....#
    """
    q, k = _common_ids(*_check_terms.ids("segments", query_ids, key_ids))
    leading = np.broadcast_shapes(q.shape[:-1], k.shape[:-1])
    queries, keys = q.shape[-1], k.shape[-1]
    shape = _batch_shape(leading, queries, keys)
    each_q, each_k = np.broadcast_to(q, (*leading, queries)), np.broadcast_to(k, (*leading, keys))
    bounds = np.empty((*leading, queries, 2), np.int64)
    # One after the other, to give up at the first where a span cannot say it.
    if all(_same_id_bounds(each_q[b], each_k[b], bounds[b]) for b in np.ndindex(leading)):
        return Primitive("segments", shape, Span.unless_all(_with_heads(bounds, 2), keys))
    return Primitive("segments", shape, (Match(*(_with_heads(x, 1) for x in _int32_ids(q, k))),))


def _common_ids(q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the same int64, equal where they were equal."""
    if all(not x.size or x.max() <= np.iinfo(np.int64).max for x in (q, k)):
        return q.astype(np.int64), k.astype(np.int64)
    # NumPy has no integer type for both -1 and 2**64 - 1, Python has.
    return _ranks(q.astype(object), k.astype(object))


def _int32_ids(q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    limits = np.iinfo(np.int32)
    if any(x.size and (x.min() < limits.min or x.max() > limits.max) for x in (q, k)):
        q, k = _ranks(q, k)
    return q.astype(np.int32), k.astype(np.int32)


def _ranks(q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every id replaced by its place among all the different ones."""
    both = np.concatenate([q.ravel(), k.ravel()])
    ranks = np.unique(both, return_inverse=True)[1].ravel()
    return ranks[: q.size].reshape(q.shape), ranks[q.size :].reshape(k.shape)


def _same_id_bounds(q: np.ndarray, k: np.ndarray, bounds: np.ndarray) -> bool:
    """Write the first and last + 1 of the keys (S,) with each query's id (L,) to `bounds` (L, 2);
    or return False if the keys of some id are not neighbours."""
    order = np.argsort(k, kind="stable")
    in_order = k[order]
    if np.count_nonzero(k[1:] != k[:-1]) != np.count_nonzero(in_order[1:] != in_order[:-1]):
        return False
    first = np.searchsorted(in_order, q, "left")
    count = np.searchsorted(in_order, q, "right") - first
    bounds[...] = 0
    some = count > 0
    bounds[some, 0] = order[first[some]]
    bounds[:, 1] = bounds[:, 0] + count
    return True


def documents(cu_seqlens: Any) -> Mask:
    """Packed documents: each token sees its own document.

    Parameters
    ----------
    cu_seqlens : array_like of int, (n + 1,)
        0 and then the end of each of n documents, non-decreasing; the last is L = S.

    Returns
    -------
    Mask, (L, L)

    Raises
    ------
    TypeError
        Not integers.
    ValueError
        Not one axis, not starting at 0, or decreasing.

    See Also
    --------
    segments : the same from an id per token.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.documents([0, 2, 5])
    <mask documents (5, 5)>
    ##...
    ##...
    ..###
    ..###
    ..###
    """
    ends = _check_terms.cu_seqlens("documents", "cu_seqlens", cu_seqlens)
    total = int(ends[-1])
    bounds = np.stack([np.repeat(x, np.diff(ends)) for x in (ends[:-1], ends[1:])], axis=-1)
    return Primitive("documents", (total, total), Span.unless_all(bounds, total))


def prefix_lm(prefix_lengths: Any, queries: int, keys: int | None = None) -> Mask:
    """A prefix that every query sees, and causal attention after it.

    Query ``i`` sees the keys ``j < prefix_length`` and ``j <= i + S - L``.

    Parameters
    ----------
    prefix_lengths : int or array_like of int, (B,)
        Within [0, S].
    queries, keys : int
        L and S; `keys` is `queries` by default. The ends are aligned.

    Returns
    -------
    Mask, (B, 1, L, S)
        (L, S) for a single length.

    Raises
    ------
    TypeError
        Not integers.
    ValueError
        A length outside [0, S], a negative size.

    Notes
    -----
    Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.2.1,
    arXiv 1910.10683.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.prefix_lm(3, 5)
    <mask prefix_lm (5, 5)>
    ###..
    ###..
    ###..
    ####.
    #####
    """
    queries, keys = _check_numbers.sizes("prefix_lm", queries, keys)
    prefix = _check_terms.lengths("prefix_lm", "prefix_lengths", prefix_lengths, keys)
    last = np.maximum(prefix[..., None], np.arange(queries) + (keys - queries + 1))
    bounds = np.stack([np.zeros_like(last), last], axis=-1)
    pieces = Span.unless_all(_with_heads(bounds, 2), keys)
    return Primitive("prefix_lm", _batch_shape(prefix.shape, queries, keys), pieces)


def dilated(
    queries: int,
    keys: int | None = None,
    *,
    window: tuple[int | None, int | None] = (None, None),
    dilation: int = 1,
) -> Mask:
    """A sliding window over every `dilation`-th key, counted from the query's own position.

    Query ``i`` stands at ``p = i + S - L`` and sees the keys ``p + n * dilation`` for
    ``-left <= n <= right``.

    Parameters
    ----------
    queries, keys : int
        L and S; `keys` is `queries` by default. The ends are aligned.
    window : (int or None, int or None)
        left and right, inclusive, in steps of `dilation`; the query's own position is not counted.
        None: unlimited.
    dilation : int, default 1

    Returns
    -------
    Mask, (L, S)

    Raises
    ------
    TypeError
        Not integers.
    ValueError
        A negative size or window, a `dilation` below 1, a `window` that is not a pair.

    Notes
    -----
    Beltagy et al. 2020, "Longformer", section 3.1, arXiv 2004.05150; unlimited, the strided
    pattern of Child et al. 2019, arXiv 1904.10509. Takes L + S bytes and two numbers per query.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.dilated(7, window=(2, 0), dilation=2)
    <mask dilated (7, 7)>
    #......
    .#.....
    #.#....
    .#.#...
    #.#.#..
    .#.#.#.
    ..#.#.#
    """
    queries, keys = _check_numbers.sizes("dilated", queries, keys)
    left, right = _check_numbers.window("dilated", window)
    # No two positions are further apart: larger numbers say the same and might overflow.
    farthest = queries + keys + 1
    step = min(_check_numbers.whole("dilated", "dilation", dilation, 1), farthest)
    left, right = (farthest if n is None else min(n, farthest) for n in (left, right))
    own = np.arange(queries) + (keys - queries)
    bounds = np.stack([own - left * step, own + right * step + 1], axis=-1)
    pieces = Span.unless_all(bounds, keys)
    if step > 1:
        distances = np.arange(max(queries + keys - 1, 0)) - (keys - 1)  # j - (i + S - L)
        pieces += (Toeplitz(distances % step == 0, keys),)
    return Primitive("dilated", (queries, keys), pieces)


def _with_heads(array: np.ndarray, own: int) -> np.ndarray:
    """An axis of 1 for the heads before the last `own` axes, unless there is no batch axis."""
    return np.expand_dims(array, -own - 1) if array.ndim > own else array


def _batch_shape(leading: tuple[int, ...], queries: int, keys: int) -> tuple[int, ...]:
    return (*leading, 1, queries, keys) if leading else (queries, keys)
