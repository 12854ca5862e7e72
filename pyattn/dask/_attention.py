"""`pyattn.dask.attention`: what its arguments mean, and how the arrays are cut. The graph of it is
in _graph.py."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize

from pyattn import _check, _check_dask
from pyattn._structured import Structured
from pyattn.attention import _operands, _Options, _options
from pyattn.dask._chunks import Chunks, arranged, common, heads
from pyattn.dask._graph import results
from pyattn.dask._plan import Axes, Plan
from pyattn.dask._tasks import Rules

FUNCTION = "dask.attention"


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
) -> da.Array | tuple[da.Array, da.Array]:
    """`pyattn.attention` of chunked arrays, lazily: batch, heads, queries and keys may be chunked.

    Every block of queries attends to every chunk of keys that it may see, in a task of its own;
    what `causal`, `window`, `key_lengths` or the spans of a structured mask hide altogether is no
    task. The partial results over the chunks of keys are merged by `pyattn.merge_attention` in a
    tree of pairs, in the order of the keys.

    Parameters
    ----------
    query : dask array or array_like, (..., H, L, D)
        float32 or float64. Other layouts as for `pyattn.attention`.
    key, value : dask array or array_like, (..., Hkv, S, D), (..., Hkv, S, Dv)
        Head sizes become one chunk. All other axes are cut where one of the arrays is, those of
        heads also where groups begin, so that each block reads one chunk of keys and values. What
        is no dask array is cut likewise; better not to put large arrays into a graph.
    mask : dask array, array_like of bool or structured mask, optional
        Arrays are cut like the scores, (..., H, L, S). A structured mask goes to each worker once
        and is cut there.
    bias : dask array, array_like of float or structured bias, optional
        The same.
    causal, window, scale, softcap, layout
        As for `pyattn.attention`.
    query_start, key_lengths : int or (B,) ints, optional
    sinks : (H,) floats, optional
        As for `pyattn.attention`, not lazy.
    return_lse : bool, default False
        Also return the natural log of each row's softmax denominator.

    Returns
    -------
    out : dask array, (..., H, L, Dv)
        As of `pyattn.attention`, in the chunks of the queries.
    lse : dask array, (..., H, L)
        Only with ``return_lse=True``.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `pyattn.attention`, and at once; for chunks of unknown sizes, and for what is lazy and
        should not be.

    Notes
    -----
    A row that sees keys of one chunk has the bits of `pyattn.attention` of the whole; one that sees
    several differs by the rounding of the merges. Either way bits depend on the chunks of keys (of
    queries too, with sinks, or where a chunk has so few of them that `pyattn.attention` sums in
    another order, 8 rows per key head) and on nothing else: not on the scheduler, the number of
    workers, or one that was lost.
    Milakov and Gimelshein 2018, "Online normalizer calculation for softmax", arXiv 1805.02867,
    section 3.1, is the merge.

    Examples
    --------
    >>> import dask.array as da, numpy as np, pyattn, pyattn.dask
    >>> x = np.random.default_rng(0).standard_normal((2, 4, 100, 16))
    >>> chunked = da.from_array(x, chunks=(1, 4, 30, 16))
    >>> out = pyattn.dask.attention(chunked, chunked, chunked, causal=True)
    >>> out.chunks[2]
    (30, 30, 30, 10)
    >>> np.allclose(out.compute(), pyattn.attention(x, x, x, causal=True))
    True
    """
    for name, x in (
        ("causal", causal), ("window", window), ("query_start", query_start),
        ("key_lengths", key_lengths), ("scale", scale), ("softcap", softcap), ("sinks", sinks),
    ):  # fmt: skip
        _check_dask.concrete(FUNCTION, name, dask.is_dask_collection(x))
    given = {"query": query, "key": key, "value": value}
    (q, k, _v), leading, _ = _operands(
        FUNCTION, layout, tuple(given), tuple(_stand_in(*item) for item in given.items())
    )
    want_lse = _check.flag(FUNCTION, "return_lse", return_lse)
    options = _options(
        FUNCTION, q, k, leading, mask=_stand_in("mask", mask), bias=_stand_in("bias", bias),
        causal=causal, window=window, query_start=query_start, key_lengths=key_lengths,
        scale=scale, softcap=softcap, sinks=sinks,
    )  # fmt: skip
    if options.query_start is None:
        start = np.full(leading, k.shape[-2] - q.shape[-2])
        options = options._replace(query_start=start)
    plan = _plan([_native(x) for x in given.values()], mask, bias, options, layout)
    out, lse = results(plan, tokenize(plan))
    return (out, lse) if want_lse else out


def _stand_in(name: str, x: Any) -> Any:
    """Of a dask array one of its shape and dtype without memory, for checks that expect NumPy's."""
    if not isinstance(x, da.Array):
        return x
    _check_dask.known_chunks(FUNCTION, name, x.shape)
    if isinstance(x._meta, np.ma.MaskedArray):
        return x._meta  # will be refused for what it is
    return np.broadcast_to(np.zeros((), x.dtype.newbyteorder("=")), x.shape)


def _native(x: Any) -> da.Array | np.ndarray:
    x = x if isinstance(x, da.Array) else np.asarray(x)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _plan(
    arrays: list[da.Array | np.ndarray], mask: Any, bias: Any, options: _Options, layout: str
) -> Plan:
    """The call with its arrays cut so that each block finds what it needs in one chunk."""
    query, key, value = by_head = [_chunks_by_head(x, layout) for x in arrays]
    of_keys = [common(axis) for axis in zip(key[-2:], value[-2:], strict=True)]
    group = sum(query[-2]) // sum(of_keys[0]) if sum(of_keys[0]) else 0
    query_heads, key_heads, which = heads(query[-2], of_keys[0], group)
    axes = Axes(_leading(by_head), query_heads, common(query[-1:]), of_keys[1])
    of_keys = *axes.leading, key_heads, axes.keys
    cut = [
        _cut(x, arranged(layout, x.ndim, chunks, (x.shape[-1],)))
        for x, chunks in zip(arrays, (axes.all()[:-1], of_keys, of_keys), strict=True)
    ]
    rules = Rules(
        window=tuple(None if n < 0 else n for n in (options.left, options.right)),
        scale=options.scale,
        softcap=options.softcap or None,
        layout=layout,
    )
    terms = [_cut(x, axes.all()) for x in (mask, bias)]
    starts, lengths, sinks = options.query_start, options.key_lengths, options.sinks
    return Plan(axes, *cut, which, *terms, starts, lengths, sinks, rules)


def _chunks_by_head(x: da.Array | np.ndarray, layout: str) -> tuple[Chunks, ...]:
    """The chunks of (*leading, heads, length)."""
    *chunks, _ = x.chunks if isinstance(x, da.Array) else ((n,) for n in x.shape)
    if len(chunks) == 1:
        return ((1,), *chunks)
    if layout == "blhd":
        chunks[-2:] = reversed(chunks[-2:])
    return tuple(chunks)


def _leading(by_head: list[tuple[Chunks, ...]]) -> tuple[Chunks, ...]:
    """The common chunks of the axes of the batch, of which some arrays may lack the first."""
    axes = max(map(len, by_head))
    filled = [((1,),) * (axes - len(chunks)) + chunks for chunks in by_head]
    return tuple(common(several) for several in list(zip(*filled, strict=True))[:-2])


def _cut(x: Any, chunks: tuple[Chunks, ...]) -> Any:
    """An array in the last of these chunks; extents of 1 stay."""
    if x is None or isinstance(x, Structured):
        return x
    x = x if isinstance(x, da.Array) else np.asarray(x)
    own = chunks[len(chunks) - x.ndim :]
    own = tuple((1,) if n == 1 else c for n, c in zip(x.shape, own, strict=True))
    return x.rechunk(own) if isinstance(x, da.Array) else da.from_array(x, chunks=own)
