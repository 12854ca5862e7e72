"""The mask: a primitive one, or an OR of ANDs of these. And how a call takes it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from pyattn import _check_terms
from pyattn._pieces import Match, Repeated, Span, Table, Toeplitz, last_two, places
from pyattn._structured import Structured
from pyattn.masks._picture import picture


class Mask(Structured):
    """A structured mask; made by the functions of `pyattn.masks`.

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

    def clauses(self) -> tuple[tuple[Primitive, ...], ...]:
        """The primitive masks whose OR of ANDs this mask is."""

    def first(self) -> Mask:
        """The mask (L, S) of the first batch element and head."""

    def __repr__(self) -> str:
        names = " | ".join(" & ".join(p.name for p in clause) for clause in self.clauses())
        head = f"<mask {names} {self.shape}>"
        if 0 in self.shape:
            return head
        return "\n".join([head, *picture(self.first().at, *last_two(self.shape))])


class Axis(NamedTuple):
    """Place x of n sees every `step`-th of spans[x, 0] <= y < spans[x, 1], from the first on, one
    of which is x itself."""

    spans: np.ndarray  # (n, 2), int64
    step: int


class Grid(NamedTuple):
    """L = S pixels, line by line: one sees another if its line and its column do."""

    lines: Axis
    columns: Axis


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Primitive(Mask):
    """An AND of pieces, perhaps of none, under the name of the function that made it."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Table | Repeated | Toeplitz | Span | Match, ...]
    grid: Grid | None = None  # what the pieces say, if it is a matter of lines and columns

    def clauses(self) -> tuple[tuple[Primitive, ...], ...]:
        return ((self,),)

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        i, j = places(self.shape, i, j)
        seen = np.ones((i.shape[0], j.shape[1]), bool)
        for piece in self.pieces:
            seen = seen & piece.at(i, j)
        return seen

    def first(self) -> Primitive:
        pieces = tuple(piece.first() for piece in self.pieces)
        return Primitive(self.name, last_two(self.shape), pieces)

    def terms(self, scores: tuple[int, ...]) -> list[tuple[str, int, np.ndarray]]:
        return [(p.kind, -1, p.term(self.shape, scores)) for p in self.pieces]


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Combined(Mask):
    """An OR over clauses of an AND over the masks of a clause."""

    shape: tuple[int, ...]
    lists: tuple[tuple[Primitive, ...], ...]

    def clauses(self) -> tuple[tuple[Primitive, ...], ...]:
        return self.lists

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

    def terms(self, scores: tuple[int, ...]) -> list[tuple[str, int, np.ndarray]]:
        common = set.intersection(*map(set, self.lists))
        own = {p: p.terms(scores) for clause in self.lists for p in clause}  # once each: some copy
        found = [term for p in self.lists[0] if p in common for term in own[p]]
        rest = [[t for p in c if p not in common for t in own[p]] for c in self.lists]
        if all(rest):  # else there is a clause that all satisfy, which is so if there is just one
            found += [(kind, n, a) for n, clause in enumerate(rest) for kind, _, a in clause]
        return found


def _and(a: Mask, b: Mask) -> Mask:
    return _combined("&", a, b, [x + y for x, y in product(a.clauses(), b.clauses())])


def _or(a: Mask, b: Mask) -> Mask:
    return _combined("|", a, b, [*a.clauses(), *b.clauses()])


def _combined(operator: str, a: Mask, b: Mask, lists: list[tuple[Primitive, ...]]) -> Mask:
    shape = _check_terms.common_shape(f"mask {operator} mask", a.shape, b.shape)
    lists = _simplest(lists)
    _check_terms.clauses(f"mask {operator} mask", lists)
    return Combined(shape, tuple(lists))


def _simplest(lists: list[tuple[Primitive, ...]]) -> list[tuple[Primitive, ...]]:
    """Without a mask twice in a clause, and without clauses that hide more than another: of
    a | (a & b) only a stays."""
    lists = [tuple(dict.fromkeys(clause)) for clause in lists]
    sets = [frozenset(clause) for clause in lists]
    return [
        clause
        for n, clause in enumerate(lists)
        if not any(s < sets[n] or (s == sets[n] and m < n) for m, s in enumerate(sets))
    ]


def as_mask(function: str, value: Any, name: str = "mask") -> Mask:
    """What a user gave as `mask`: a `Mask`, or a bool array as one."""
    if isinstance(value, Mask):
        return value
    if isinstance(value, Structured):
        _check_terms.other_kind(function, name, value.kind)
    return dense_mask(function, name, value)


def dense_mask(function: str, name: str, value: Any) -> Mask:
    array = _check_terms.mask_array(function, name, value)
    _check_terms.not_too_many_axes(function, name, array.ndim)
    return Primitive("dense", array.shape, (Table.dense(array),))


def mask_terms(
    function: str, mask: Mask, scores: tuple[int, ...]
) -> list[tuple[str, int, np.ndarray]]:
    """The mask for a call with scores of that shape, (..., H, L, S).

    Returns
    -------
    list of (kind, clause, array)
        The terms of pyattn/_pieces.py. A key is seen if all of clause -1 allow it, and, if there
        are other clauses, all of one of these: 0, 1, ... Nothing is copied but the ids of "match".
    """
    _fits(function, mask, scores)
    return mask.terms(scores)


def mask_grid(function: str, mask: Mask, scores: tuple[int, ...]) -> Grid | None:
    """The grid of which each pixel sees a rectangle, if that is all the mask says; for a call with
    scores of that shape."""
    _fits(function, mask, scores)
    clauses = mask.clauses()
    return clauses[0][0].grid if len(clauses) == len(clauses[0]) == 1 else None


def _fits(function: str, mask: Mask, scores: tuple[int, ...]) -> None:
    _check_terms.not_too_many_axes(function, "query", len(scores))
    _check_terms.broadcasts(function, "mask", mask.shape, scores)
