"""Structured masks: who may attend to whom, said in a few numbers instead of an L x S array.

A mask is a small immutable object for ``pyattn.attention(..., mask=)``. The kernel evaluates it
block by block; the L x S array exists only if asked for, by ``numpy.asarray(mask)``.

=============== =====================================================
`dense`         a bool array, to combine it with the others
`segments`      packed sequences, told by an id for every token
`documents`     packed sequences, told by their ends
`prefix_lm`     a prefix seen by all, causal after it
`dilated`       every n-th key of a sliding window
`blocks`        a table of blocks
`neighborhood`  the pixels around a pixel
`grid_windows`  the pixels in the same window of an image
=============== =====================================================

Masks combine with ``&`` and ``|``, also with bool arrays; with `causal`, `window` and
`key_lengths` of the call they combine as ``&``. Axes before the last two, if there are any, are
those of the batch and the heads, and broadcast as NumPy's do.

`dense` and `blocks` keep a reference to the array they are given and look at it again in every
call; all others work out what they need when they are made.

>>> import numpy as np
>>> from pyattn import masks
>>> masks.documents([0, 2, 5]) & np.tri(5, dtype=bool)
<mask documents & dense (5, 5)>
#....
##...
..#..
..##.
..###

The picture is at most 16 rows of 48 characters: ``#`` may attend, ``.`` may not, ``+`` is a patch
of both, judged by a few samples of it. Of several batch elements and heads it shows the first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from pyattn import _check_terms

__all__ = [
    "Mask",
    "blocks",
    "dense",
    "dilated",
    "documents",
    "grid_windows",
    "neighborhood",
    "prefix_lm",
    "segments",
]

# What the kernel is told: ("table" | "span" | "match" | "slopes", array).
Term = tuple[str, np.ndarray]
Shape = tuple[int | None, ...]

PICTURE_ROWS, PICTURE_COLUMNS, PICTURE_SAMPLES = 16, 48, 4


# Pieces: the four things that the kernel can evaluate; a mask is an AND of some of them.
#
# `own` is the shape of the mask or bias that the piece belongs to, `scores` that of the call,
# (..., H, L, S): `own` broadcasts to it. `at` evaluates a piece at queries i (n, 1) and keys
# j (1, m), as (..., n, m). `first` is the piece of the first batch element and head.


class Tabular:
    """A piece that looks the pair up in a table: `view` gives it as (..., Lo, Li, So, Si), where
    query i is [i // Li, i % Li], and keys likewise."""

    __slots__ = ()

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        view = self.view()
        _, inner_q, _, inner_k = view.shape[-4:]
        return view[..., i // inner_q, i % inner_q, j // inner_k, j % inner_k]

    def term(self, own: Shape, scores: tuple[int, ...]) -> Term:
        view = self.view()
        if view.dtype.name == "bfloat16":  # which C knows as 16 bits
            view = view.view(np.uint16)
        queries, keys = last_two(own)
        if queries == 1:  # one query stands for all
            view = view[..., :1, :1, :, :]
        if keys == 1:
            view = view[..., :1, :1]
        outer_q, inner_q, outer_k, inner_k = view.shape[-4:]
        extents = (
            *(outer_q, scores[-2] if queries == 1 else inner_q),
            *(outer_k, scores[-1] if keys == 1 else inner_k),
        )
        return "table", np.broadcast_to(view, scores[:-2] + extents)


@dataclass(frozen=True, eq=False, slots=True)
class Table(Tabular):
    """Axes of 1 in `array` are repeated to `extents` = (Lo, Li, So, Si)."""

    array: np.ndarray
    extents: tuple[int, int, int, int]

    def view(self) -> np.ndarray:
        if self.array.shape[-4:] == self.extents:
            return self.array
        return np.broadcast_to(self.array, self.array.shape[:-4] + self.extents)

    def first(self) -> Table:
        return replace(self, array=of_first(self.array, 4))


@dataclass(frozen=True, eq=False, slots=True)
class Toeplitz(Tabular):
    """An entry for every distance: ``line[..., (j - i) + L - 1]``, for L queries and S keys."""

    line: np.ndarray
    queries: int
    keys: int

    def view(self) -> np.ndarray:
        # Row r of the windows is line[r : r + S], and query i has r = L - 1 - i.
        windows = np.lib.stride_tricks.sliding_window_view(self.line, self.keys, axis=-1)
        return windows[..., None, ::-1, None, :]

    def first(self) -> Toeplitz:
        return replace(self, line=of_first(self.line, 1))


@dataclass(frozen=True, eq=False, slots=True)
class Span:
    """Query i sees the keys bounds[..., i, 0] <= j < bounds[..., i, 1]."""

    bounds: np.ndarray  # (..., L, 2), int64

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return (self.bounds[..., i, 0] <= j) & (j < self.bounds[..., i, 1])

    def first(self) -> Span:
        return Span(of_first(self.bounds, 2))

    def term(self, own: Shape, scores: tuple[int, ...]) -> Term:
        bounds = self.bounds
        queries, keys = last_two(own)
        if keys == 1:  # one key stands for all
            bounds = bounds * scores[-1]
        if queries == 1:
            bounds = np.repeat(bounds, scores[-2], axis=-2)
        return "span", np.broadcast_to(bounds, (*scores[:-1], 2))


@dataclass(frozen=True, eq=False, slots=True)
class Match:
    """A query sees the keys with its id."""

    queries: np.ndarray  # (..., L), int32
    keys: np.ndarray  # (..., S), int32

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return self.queries[..., i] == self.keys[..., j]

    def first(self) -> Match:
        return Match(of_first(self.queries, 1), of_first(self.keys, 1))

    def term(self, own: Shape, scores: tuple[int, ...]) -> Term:
        leading = np.broadcast_shapes(self.queries.shape[:-1], self.keys.shape[:-1])
        both = [
            np.broadcast_to(ids, (*leading, length))
            for ids, length in zip((self.queries, self.keys), scores[-2:], strict=True)
        ]
        ids = np.concatenate(both, axis=-1)
        return "match", np.broadcast_to(ids, scores[:-2] + ids.shape[-1:])


def of_first(array: np.ndarray, own: int) -> np.ndarray:
    """The part of the first batch element and head; the last `own` axes are not theirs."""
    return array[(0,) * (array.ndim - own)]


def last_two(shape: Shape) -> Shape:
    return (1, 1, *shape)[-2:]


def dense_piece(array: np.ndarray) -> Table:
    a = np.atleast_2d(array)
    return Table(a[..., None, :, None, :], (1, a.shape[-2], 1, a.shape[-1]))


# Masks.


class Structured:
    """What masks and biases have in common: a `shape` that broadcasts to the scores', a `dtype`,
    and ``at(i, j)``: the dense equivalent at queries i (n, 1) and keys j (1, m), which broadcasts
    to (..., n, m)."""

    __slots__ = ()
    __array_ufunc__ = None  # in array & mask NumPy leaves it to the mask

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            _check_terms.never_a_view(self.kind)
        dense = np.empty(self.shape, self.dtype)
        if dense.size:
            queries, keys = last_two(self.shape)
            dense[...] = self.at(np.arange(queries)[:, None], np.arange(keys)[None])
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def __bool__(self) -> bool:
        _check_terms.truth(self.kind, self.operators)


class Mask(Structured):
    """A structured mask; made by the functions of this module.

    Immutable; pickles; combines with other masks and with bool arrays by ``&`` and ``|``; can be
    used again for every call with the same L and S.

    Attributes
    ----------
    shape : tuple of int
        Broadcasts to the shape of the scores, (..., H, L, S). (L, S) if the mask is the same for
        all batch elements and heads.
    dtype : numpy.dtype
        bool.

    Notes
    -----
    Internally a mask is an OR of ANDs of the masks that the functions made. It may have at most
    16 clauses, of 24 masks in all; combining more is a ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import masks
    >>> mask = masks.documents([0, 3, 4]) | np.eye(4, k=1, dtype=bool)
    >>> mask.shape
    (4, 4)
    >>> np.asarray(mask).astype(int)
    array([[1, 1, 1, 0],
           [1, 1, 1, 0],
           [1, 1, 1, 1],
           [0, 0, 0, 1]])
    """

    __slots__ = ()
    kind, operators = "mask", "& and |"
    dtype = np.dtype(bool)

    def __and__(self, other: Any) -> Mask:
        return _and(self, as_mask("mask & array", other, "array"))

    def __rand__(self, other: Any) -> Mask:
        return _and(as_mask("array & mask", other, "array"), self)

    def __or__(self, other: Any) -> Mask:
        return _or(self, as_mask("mask | array", other, "array"))

    def __ror__(self, other: Any) -> Mask:
        return _or(as_mask("array | mask", other, "array"), self)

    def clauses(self) -> list[list[Primitive]]:
        """The primitive masks whose OR of ANDs this mask is."""

    def __repr__(self) -> str:
        names = " | ".join(" & ".join(p.name for p in clause) for clause in self.clauses())
        head = f"<mask {names} {self.shape}>"
        return head if 0 in self.shape else "\n".join([head, *_picture(self)])


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Primitive(Mask):
    """An AND of pieces, under the name of the function that made it."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Table | Toeplitz | Span | Match, ...]

    def clauses(self) -> list[list[Primitive]]:
        return [[self]]

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        queries, keys = last_two(self.shape)
        i, j = i if queries > 1 else i * 0, j if keys > 1 else j * 0  # one stands for all
        seen = np.ones((i.shape[0], j.shape[1]), bool)
        for piece in self.pieces:
            seen = seen & piece.at(i, j)
        return seen

    def first(self) -> Primitive:
        pieces = tuple(piece.first() for piece in self.pieces)
        return Primitive(self.name, last_two(self.shape), pieces)

    def terms(self, scores_shape: tuple[int, ...]) -> list[Term]:
        """The pieces, broadcast for a call with scores of that shape: all extents >= 1."""
        return [piece.term(self.shape, scores_shape) for piece in self.pieces]


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Combined(Mask):
    """An OR over clauses of an AND over the masks of a clause."""

    shape: tuple[int, ...]
    lists: tuple[tuple[Primitive, ...], ...]

    def clauses(self) -> list[list[Primitive]]:
        return [list(clause) for clause in self.lists]

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        seen = np.False_
        for clause in self.lists:
            both = np.True_
            for primitive in clause:
                both = both & primitive.at(i, j)
            seen = seen | both
        return seen

    def first(self) -> Combined:
        lists = tuple(tuple(p.first() for p in clause) for clause in self.lists)
        return Combined(last_two(self.shape), lists)


def _and(a: Mask, b: Mask) -> Mask:
    return _combined("&", a, b, [x + y for x, y in product(a.clauses(), b.clauses())])


def _or(a: Mask, b: Mask) -> Mask:
    return _combined("|", a, b, a.clauses() + b.clauses())


def _combined(operator: str, a: Mask, b: Mask, lists: list[list[Primitive]]) -> Mask:
    shape = _check_terms.common_shape(f"mask {operator} mask", a.shape, b.shape)
    lists = _simplest(lists)
    _check_terms.clauses(f"mask {operator} mask", lists)
    return Combined(shape, tuple(tuple(clause) for clause in lists))


def _simplest(lists: list[list[Primitive]]) -> list[list[Primitive]]:
    """Without a mask twice in a clause, and without clauses that hide more than another: of
    a | (a & b) only a stays."""
    lists = [list({id(p): p for p in clause}.values()) for clause in lists]
    sets = [frozenset(map(id, clause)) for clause in lists]
    return [
        clause
        for n, clause in enumerate(lists)
        if not any(s < sets[n] or (s == sets[n] and m < n) for m, s in enumerate(sets))
    ]


def _picture(mask: Mask) -> list[str]:
    """Lines of ``#``, ``.`` and ``+``; looks at a few queries and keys of every character only."""
    queries, keys = last_two(mask.shape)
    i, rows = _samples(queries, PICTURE_ROWS)
    j, columns = _samples(keys, PICTURE_COLUMNS)
    seen = np.broadcast_to(mask.first().at(i[:, None], j[None]), (len(i), len(j)))

    def patches(ufunc: np.ufunc) -> np.ndarray:
        return ufunc.reduceat(ufunc.reduceat(seen, rows, axis=0), columns, axis=1)

    characters = np.where(patches(np.logical_or), "+", ".")
    characters[patches(np.logical_and)] = "#"
    return ["".join(row) for row in characters]


def _samples(length: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to look at, and where those of each of at most `most` equal parts begin."""
    parts = min(length, most)
    samples = [
        np.unique(np.linspace(first, last - 1, min(last - first, PICTURE_SAMPLES)).astype(int))
        for first, last in ((n * length // parts, (n + 1) * length // parts) for n in range(parts))
    ]
    return np.concatenate(samples), np.cumsum([0, *map(len, samples[:-1])])


# What the functions below are made of.


def _span(bounds: np.ndarray, keys: int) -> tuple[Span, ...]:
    """A span of the bounds (..., L, 2) cut to [0, S]; none if that hides nothing."""
    bounds = np.clip(bounds, 0, keys)
    everything = (bounds[..., 0] == 0) & (bounds[..., 1] == keys)
    return () if everything.all() else (Span(bounds),)


def _with_heads(array: np.ndarray, own: int) -> np.ndarray:
    """An axis of 1 for the heads before the last `own` axes, unless there is no batch axis."""
    return np.expand_dims(array, -own - 1) if array.ndim > own else array


def _batch_shape(leading: tuple[int, ...], queries: int, keys: int) -> tuple[int, ...]:
    return (*leading, 1, queries, keys) if leading else (queries, keys)


def dense(array: Any) -> Mask:
    """A dense mask, to combine it with structured ones.

    Parameters
    ----------
    array : array_like of bool
        True = may attend. Broadcasts to the scores, (..., H, L, S), as NumPy does it: (L, S),
        (B, 1, 1, S), (S,)... Kept as a reference, with any strides.

    Returns
    -------
    Mask
        Of the array's shape.

    Raises
    ------
    TypeError
        Not bool, or a masked array.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import masks
    >>> masks.dense(np.tri(3, 4, k=1, dtype=bool))
    <mask dense (3, 4)>
    ##..
    ###.
    ####
    """
    return _dense(_check_terms.mask_array("dense", "array", array))


def _dense(array: np.ndarray) -> Primitive:
    return Primitive("dense", array.shape, (dense_piece(array),))


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
    shape = _batch_shape(leading, q.shape[-1], k.shape[-1])
    bounds = np.empty((*leading, q.shape[-1], 2), np.int64)
    rows = np.broadcast_to(q, leading + q.shape[-1:]), np.broadcast_to(k, leading + k.shape[-1:])
    # In the order of the batch, and given up at the first row where a span cannot say it.
    if all(_same_id_bounds(rows[0][b], rows[1][b], bounds[b]) for b in np.ndindex(leading)):
        return Primitive("segments", shape, _span(_with_heads(bounds, 2), k.shape[-1]))
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
    return Primitive("documents", (total, total), _span(bounds, total))


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
    queries, keys = _check_terms.sizes("prefix_lm", queries, keys)
    prefix = _check_terms.lengths("prefix_lm", "prefix_lengths", prefix_lengths, keys)
    last = np.maximum(prefix[..., None], np.arange(queries) + (keys - queries + 1))
    bounds = np.stack([np.zeros_like(last), last], axis=-1)
    pieces = _span(_with_heads(bounds, 2), keys)
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
    queries, keys = _check_terms.sizes("dilated", queries, keys)
    left, right = _check_terms.window("dilated", window)
    # No two positions are further apart: larger numbers say the same and might overflow.
    farthest = queries + keys + 1
    step = min(_check_terms.one_step("dilated", "dilation", dilation), farthest)
    left, right = (farthest if n is None else min(n, farthest) for n in (left, right))
    own = np.arange(queries) + (keys - queries)
    bounds = np.stack([own - left * step, own + right * step + 1], axis=-1)
    pieces = _span(bounds, keys)
    if step > 1:
        distances = np.arange(max(queries + keys - 1, 0)) - (keys - 1)  # j - (i + S - L)
        pieces += (Toeplitz(distances % step == 0, queries, keys),)
    return Primitive("dilated", (queries, keys), pieces)


def blocks(
    table: Any,
    block_size: int | tuple[int, int],
    queries: int | None = None,
    keys: int | None = None,
) -> Mask:
    """Block-sparse attention: a table says which blocks of queries see which blocks of keys.

    Query ``i`` sees key ``j`` if ``table[..., i // bq, j // bk]``.

    Parameters
    ----------
    table : array_like of bool, (..., ceil(L / bq), ceil(S / bk))
        Axes before the last two broadcast to the batch and the heads, like those of a dense mask.
        Kept as a reference.
    block_size : int or (int, int)
        bq and bk.
    queries, keys : int, optional
        L and S, by default all that the table covers. The last block may be cut off.

    Returns
    -------
    Mask, (..., L, S)

    Raises
    ------
    TypeError
        A table that is not bool, sizes that are not integers.
    ValueError
        A table with less than two axes, or of another size than L, S and the blocks need.

    Notes
    -----
    Zaheer et al. 2020, "Big Bird", arXiv 2007.14062, and others draw such tables.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.blocks([[True, False], [True, True]], (2, 3), queries=4, keys=5)
    <mask blocks (4, 5)>
    ###..
    ###..
    #####
    #####
    """
    table = _check_terms.mask_array("blocks", "table", table)
    _check_terms.axes_at_least("blocks", "table", table, "query blocks, key blocks")
    bq, bk = _check_terms.pair("blocks", "block_size", block_size)
    rows, columns = table.shape[-2:]
    queries, keys = (
        covered if n is None else _check_terms.size("blocks", name, n)
        for name, n, covered in (("queries", queries, rows * bq), ("keys", keys, columns * bk))
    )
    _check_terms.block_table("blocks", table, (bq, bk), (queries, keys))
    piece = Table(table[..., :, None, :, None], (rows, bq, columns, bk))
    return Primitive("blocks", (*table.shape[:-2], queries, keys), (piece,))


# Grids: the pixels of an image, row by row. A pixel sees another if the rules of both axes say so.


@dataclass(frozen=True, eq=False)
class _Axis:
    """Of n places, x sees every `step`-th of first[x] <= y < last[x], one of which is x itself."""

    first: np.ndarray  # (n,)
    last: np.ndarray  # (n,)
    step: int

    @classmethod
    def everything(cls, extent: int) -> _Axis:
        return cls(np.zeros(extent, np.int64), np.full(extent, extent), 1)

    def table(self) -> np.ndarray:
        place = np.arange(len(self.first))
        inside = (self.first[:, None] <= place) & (place < self.last[:, None])
        return inside & ((place - place[:, None]) % self.step == 0)


def _separable(name: str, extents: tuple[int, ...], axes: list[_Axis]) -> Mask:
    """The mask of a grid of one or two axes.

    A hull of each pixel's keys, a table for the places within a row, and ids if rows are skipped.
    These say it all: a key within the hull that is in a permitted place of its row cannot be in
    a row above the first or below the last. Hence no table of rows, of which there may be many.
    """
    shown = [axis for axis, n in zip(axes, extents, strict=True) if n != 1]
    trivial = _Axis.everything(1)
    down, across = [*shown, trivial, trivial][:2]  # a single axis is a column
    height, width = len(down.first), len(across.first)

    first = (down.first[:, None] * width + across.first).ravel()
    last = ((down.last[:, None] - 1) * width + across.last).ravel()
    pieces: tuple[Any, ...] = _span(np.stack([first, last], axis=-1), height * width)
    table = across.table()
    if not table.all():
        pieces += (Table(table[None, :, None, :], (height, width, height, width)),)
    if down.step > 1:
        rows = np.repeat(np.arange(height, dtype=np.int32) % down.step, width)
        pieces += (Match(rows, rows),)
    return Primitive(name, (height * width,) * 2, pieces)


def neighborhood(
    grid: int | tuple[int, ...],
    kernel_size: int | tuple[int, ...],
    *,
    dilation: int | tuple[int, ...] = 1,
    causal: bool | tuple[bool, ...] = False,
) -> Mask:
    """Neighborhood attention: each pixel sees the kernel_size x kernel_size pixels around it.

    At the border of the image the window is shifted inside, so that all pixels see equally many.

    Parameters
    ----------
    grid : int, (W,) or (height, width)
        The L = S pixels, numbered row by row.
    kernel_size : int or one per axis
        Odd. Along a causal axis any number.
    dilation : int or one per axis, default 1
        See every `dilation`-th pixel only, counted from the own one; at the border the window is
        shifted inside by that step. ``kernel_size * dilation`` must not exceed the extent.
    causal : bool or one per axis, default False
        See the own place and the ``kernel_size - 1`` steps before it, fewer at the border.

    Returns
    -------
    Mask, (L, L)

    Raises
    ------
    TypeError
        Not integers; `causal` not bool.
    ValueError
        More than two axes, an even kernel, one that does not fit the grid.

    Notes
    -----
    Hassani et al. 2023, "Neighborhood Attention Transformer", arXiv 2204.07143; with dilation,
    Hassani and Shi 2022, arXiv 2209.15001. Takes two numbers per pixel and width x width bytes.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.neighborhood((3, 4), (1, 3))
    <mask neighborhood (12, 12)>
    ###.........
    ###.........
    .###........
    .###........
    ....###.....
    ....###.....
    .....###....
    .....###....
    ........###.
    ........###.
    .........###
    .........###
    """
    name = "neighborhood"
    extents = _check_terms.grid(name, grid)
    kernels = _check_terms.per_axis(name, "kernel_size", kernel_size, extents, 1)
    steps = _check_terms.per_axis(name, "dilation", dilation, extents, 1)
    causals = _check_terms.flag_per_axis(name, "causal", causal, extents)
    axes = []
    for n, kernel, step, one_sided in zip(extents, kernels, steps, causals, strict=True):
        if not one_sided:
            _check_terms.kernel_fits(name, kernel, step, n)
        axes.append((_earlier if one_sided else _around)(n, min(kernel, n + 1), min(step, n + 1)))
    return _separable(name, extents, axes)


def _around(extent: int, kernel: int, step: int) -> _Axis:
    """`kernel` places around each, all of the same remainder by `step`, shifted inside."""
    place = np.arange(extent)
    remainder, n = place % step, place // step  # n-th of the places of that remainder
    count = (extent - remainder + step - 1) // step
    n = np.clip(n - kernel // 2, 0, count - kernel)
    return _Axis(remainder + step * n, remainder + step * (n + kernel - 1) + 1, step)


def _earlier(extent: int, kernel: int, step: int) -> _Axis:
    """Each place and the `kernel` - 1 before it, in steps."""
    place = np.arange(extent)
    return _Axis(np.maximum(place - step * (kernel - 1), 0), place + 1, step)


def grid_windows(
    grid: int | tuple[int, ...],
    window: int | tuple[int, ...],
    shift: int | tuple[int, ...] = 0,
) -> Mask:
    """The windows of a Swin transformer: each pixel sees those in the same window.

    Parameters
    ----------
    grid : int, (W,) or (height, width)
        The L = S pixels, numbered row by row.
    window : int or one per axis
        Extents of a window. Those at the border are cut off if they do not fit.
    shift : int or one per axis, default 0
        Less than the window. The windows begin here instead of at 0, and what comes before is a
        smaller window of its own: [0, shift), [shift, shift + window), ...

    Returns
    -------
    Mask, (L, L)

    Raises
    ------
    TypeError
        Not integers.
    ValueError
        More than two axes, an empty window, a shift that is negative or not less than the window.

    Notes
    -----
    Liu et al. 2021, "Swin Transformer", section 3.2, arXiv 2103.14030. There the image is rolled
    by -shift, cut into windows, and a mask parts what came around the border from the rest; the
    windows which that leaves are these, without rolling.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.grid_windows(5, 2, shift=1)
    <mask grid_windows (5, 5)>
    #....
    .##..
    .##..
    ...##
    ...##
    """
    name = "grid_windows"
    extents = _check_terms.grid(name, grid)
    windows = _check_terms.per_axis(name, "window", window, extents, 1)
    shifts = _check_terms.per_axis(name, "shift", shift, extents, 0)
    axes = []
    for n, width, offset in zip(extents, windows, shifts, strict=True):
        _check_terms.shift(name, offset, width)
        axes.append(_windows(n, width, offset))
    return _separable(name, extents, axes)


def _windows(extent: int, width: int, shift: int) -> _Axis:
    first = (np.arange(extent) - shift) // width * width + shift
    return _Axis(np.maximum(first, 0), np.minimum(first + width, extent), 1)


# The way into a call.


def as_mask(function: str, value: Any, name: str = "mask") -> Mask | None:
    """What a user gave as `mask`: a `Mask`, or a bool array as one; None stays None."""
    if value is None or isinstance(value, Mask):
        return value
    if isinstance(value, Structured):
        _check_terms.not_a_mask(function, name)
    return _dense(_check_terms.mask_array(function, name, value))


def mask_terms(
    function: str, mask: Mask | None, scores_shape: tuple[int, ...]
) -> list[tuple[str, int, np.ndarray]]:
    """The mask for a call with scores of that shape (..., H, L, S), all extents >= 1.

    Returns
    -------
    list of (kind, clause, array)
        A key is seen if all terms of clause -1 allow it, and, if there are other clauses, all
        terms of one of these: 0, 1, ... Nothing is copied but the ids of "match".
    """
    if mask is None:
        return []
    _check_terms.broadcasts(function, "mask", mask.shape, scores_shape)
    clauses = mask.clauses()
    terms = {id(p): p.terms(scores_shape) for clause in clauses for p in clause}
    common = set.intersection(*({id(p) for p in clause} for clause in clauses))
    found = [(kind, -1, a) for p in clauses[0] if id(p) in common for kind, a in terms[id(p)]]
    rest = [[t for p in c if id(p) not in common for t in terms[id(p)]] for c in clauses]
    if all(rest):  # else there is a clause that all satisfy, which is so if there is just one
        found += [(kind, n, a) for n, clause in enumerate(rest) for kind, a in clause]
    return found
