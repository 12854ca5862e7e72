"""What structured masks and biases are made of: pieces, each of which is one term for the kernel.

A term is an array of one of four kinds. Its first axes are the batch and the heads of the call,
(..., H), with strides of 0 where the mask or bias has none of its own. By kind:

"table"   (..., H, Lo, Li, So, Si)
          The entry of query i and key j is [i // Li, i % Li, j // Si, j % Si], for which
          Lo * Li >= L and So * Si >= S. bool: whether j is seen. float16, float32, float64, or the
          bits of a bfloat16 as uint16: what is added to the score.
"span"    (..., H, L, 2), int64
          Query i sees the keys [i, 0] <= j < [i, 1]. The last axis is contiguous.
"match"   (..., H, L + S), int32
          Query i sees the keys j with [j + L] == [i]. All heads have the same; the last axis is
          contiguous.
"slopes"  (..., H), float64
          -slope * |j - (i + query_start)| is added to the score.

A piece has

kind               that of its term
term(own, scores)  the term of a call whose scores have the shape `scores`, (..., H, L, S), to which
                   `own`, the shape of the mask or bias, broadcasts. Of a call without any scores
                   just the kind counts.
at(i, j)           what it says of queries i (n, 1) and keys j (1, m), as (..., n, m)
first()            of masks: the piece of the first batch element and head
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Shape = tuple[int | None, ...]  # None: any extent will do


class Tabular:
    """A piece that looks the pair up; `view` gives the table, (..., Lo, Li, So, Si)."""

    __slots__ = ()
    kind = "table"

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        view = self.view()
        _, inner_q, _, inner_k = view.shape[-4:]
        return view[..., i // inner_q, i % inner_q, j // inner_k, j % inner_k]

    def term(self, own: Shape, scores: tuple[int, ...]) -> np.ndarray:
        view = as_plain(self.view())
        extents = view.shape[-4:]
        queries, keys = last_two(own)
        if queries == 1:  # one query stands for all
            view, extents = view[..., :1, :1, :, :], (1, scores[-2], *extents[2:])
        if keys == 1:
            view, extents = view[..., :1, :1], (*extents[:2], 1, scores[-1])
        return spread(view, scores[:-2] + extents)


@dataclass(frozen=True, eq=False, slots=True)
class Table(Tabular):
    """A table as it is."""

    array: np.ndarray

    @classmethod
    def dense(cls, array: np.ndarray) -> Table:
        """Of any array that broadcasts to (..., L, S)."""
        if array.ndim < 2:
            array = np.atleast_2d(array)
        return cls(array[..., None, :, None, :])

    def view(self) -> np.ndarray:
        return self.array

    def first(self) -> Table:
        return Table(of_first(self.array, 4))


@dataclass(frozen=True, eq=False, slots=True)
class Repeated(Tabular):
    """A table with axes of 1 that are repeated to `extents`, (Lo, Li, So, Si). Kept apart, for in a
    pickle a broadcast array takes its full size."""

    array: np.ndarray
    extents: tuple[int, int, int, int]

    def view(self) -> np.ndarray:
        return np.broadcast_to(self.array, self.array.shape[:-4] + self.extents)

    def first(self) -> Repeated:
        return Repeated(of_first(self.array, 4), self.extents)


@dataclass(frozen=True, eq=False, slots=True)
class Toeplitz(Tabular):
    """An entry for every distance: ``line[..., (j - i) + L - 1]``, for L queries and S keys."""

    line: np.ndarray
    keys: int

    def view(self) -> np.ndarray:
        # Query i has line[L - 1 - i :][:S]: one step down the rows is one back along the line. Not
        # a sliding_window_view, which takes 7 us more and refuses L = 0.
        queries = self.line.shape[-1] - self.keys + 1
        *leading, step = self.line.strides
        return np.lib.stride_tricks.as_strided(
            self.line[..., queries - 1 :],
            (*self.line.shape[:-1], 1, queries, 1, self.keys),
            (*leading, 0, -step, 0, step),
            writeable=False,
        )

    def first(self) -> Toeplitz:
        return Toeplitz(of_first(self.line, 1), self.keys)


@dataclass(frozen=True, eq=False, slots=True)
class GridToeplitz(Tabular):
    """An entry for every distance on a grid, query minus key:
    ``plane[..., yi - yj + height - 1, xi - xj + width - 1]``."""

    plane: np.ndarray  # (..., 2 * height - 1, 2 * width - 1)

    def view(self) -> np.ndarray:
        # Window (yi, xi) is plane[yi : yi + height, xi : xi + width]; key 0 is at its far end.
        extents = tuple((n + 1) // 2 for n in self.plane.shape[-2:])
        windows = np.lib.stride_tricks.sliding_window_view(self.plane, extents, axis=(-2, -1))
        return windows[..., ::-1, ::-1]


@dataclass(frozen=True, eq=False, slots=True)
class Span:
    """Query i sees the keys bounds[..., i, 0] <= j < bounds[..., i, 1]."""

    bounds: np.ndarray  # (..., L, 2), int64
    kind = "span"

    @classmethod
    def unless_all(cls, bounds: np.ndarray, keys: int) -> tuple[Span, ...]:
        """The span of the bounds cut to [0, S]; none if it hides nothing."""
        bounds = np.ascontiguousarray(np.clip(bounds, 0, keys))
        everything = (bounds[..., 0] == 0) & (bounds[..., 1] == keys)
        return () if everything.all() else (cls(bounds),)

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return (self.bounds[..., i, 0] <= j) & (j < self.bounds[..., i, 1])

    def first(self) -> Span:
        return Span(of_first(self.bounds, 2))

    def term(self, own: Shape, scores: tuple[int, ...]) -> np.ndarray:
        one_key = last_two(own)[1] == 1  # which stands for all: [0, 1) for [0, S)
        bounds = self.bounds * scores[-1] if one_key else self.bounds
        return spread(bounds, (*scores[:-1], 2))


@dataclass(frozen=True, eq=False, slots=True)
class Match:
    """A query sees the keys with its id."""

    queries: np.ndarray  # (..., L), int32
    keys: np.ndarray  # (..., S), int32
    kind = "match"

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return self.queries[..., i] == self.keys[..., j]

    def first(self) -> Match:
        return Match(of_first(self.queries, 1), of_first(self.keys, 1))

    def term(self, own: Shape, scores: tuple[int, ...]) -> np.ndarray:
        # Copied side by side, once for all heads.
        leading = np.broadcast_shapes(self.queries.shape[:-1], self.keys.shape[:-1])
        ids = np.empty((*leading, scores[-2] + scores[-1]), np.int32)  # C order, whatever theirs
        ids[..., : scores[-2]], ids[..., scores[-2] :] = self.queries, self.keys
        return spread(ids, (*scores[:-2], ids.shape[-1]))


@dataclass(frozen=True, eq=False, slots=True)
class Slopes:
    """-slope * distance, for one slope per head."""

    slopes: np.ndarray  # (..., H), float64
    start: int | None  # where query 0 stands on the key axis, if the sizes are known
    kind = "slopes"

    def at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return self.slopes[..., None, None] * -np.abs(j - i - self.start)

    def term(self, own: Shape, scores: tuple[int, ...]) -> np.ndarray:
        return spread(self.slopes, scores[:-2])


def last_two(shape: Shape) -> Shape:
    return (1, 1, *shape)[-2:]


def places(own: Shape, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where to look in a mask or bias of the shape `own`: one query or key stands for all."""
    queries, keys = last_two(own)
    return i * 0 if queries == 1 else i, j * 0 if keys == 1 else j


def of_first(array: np.ndarray, own: int) -> np.ndarray:
    """The part of the first batch element and head; the last `own` axes are not theirs."""
    return array[(0,) * (array.ndim - own)]


def as_plain(array: np.ndarray) -> np.ndarray:
    """bfloat16, which is not NumPy's own, as the 16 bits as which C knows it."""
    return array.view(np.uint16) if array.dtype.kind == "V" else array


def spread(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What `numpy.broadcast_to` does, without the checks that take half its time: 1 us per term."""
    flags = ["multi_index", "zerosize_ok"]
    views = np.nditer(array, flags, [["readonly"]], itershape=shape, order="C").itviews
    return views[0]
