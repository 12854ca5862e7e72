"""The part of a structured mask or bias that belongs to a block of the scores, structured again.

A block is `where`: slices of the axes of the scores, (..., H, L, S). What has an extent of 1 on
an axis stands for all of it, there too.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from pyattn._pieces import GridToeplitz, Match, Repeated, Slopes, Span, Table, Toeplitz, last_two
from pyattn.biases import Bias
from pyattn.biases._bias import Primitive as PrimitiveBias
from pyattn.biases._bias import Sum
from pyattn.masks import Mask
from pyattn.masks._mask import Combined
from pyattn.masks._mask import Primitive as PrimitiveMask

Where = tuple[slice, ...]


def cut_mask(mask: Mask, where: Where) -> Mask:
    # Clauses share masks, and are known to by identity.
    parts = {p: _cut_primitive(p, where) for clause in mask.clauses() for p in clause}
    if isinstance(mask, PrimitiveMask):
        return parts[mask]
    lists = tuple(tuple(parts[p] for p in clause) for clause in mask.clauses())
    return Combined(_cut_shape(mask.shape, where), lists)


def cut_bias(bias: Bias, where: Where) -> Bias:
    parts = tuple(
        PrimitiveBias(
            part.name,
            _cut_shape(part.shape, where),
            part.dtype,
            _cut_piece(part, part.piece, where),
        )
        for part in bias.parts()
    )
    return parts[0] if len(parts) == 1 else Sum(_cut_shape(bias.shape, where), bias.dtype, parts)


def hides_all(mask: Mask, where: Where) -> bool:
    """Whether the block is hidden for sure: in each clause a span of keys ends before it or begins
    after it. Tables are not read."""
    return all(_hides_all(clause, where) for clause in mask.clauses())


def _hides_all(clause: tuple[PrimitiveMask, ...], where: Where) -> bool:
    for primitive in clause:
        rows, keys = _own(primitive.shape, where)
        for piece in primitive.pieces:
            if isinstance(piece, Span):
                bounds = _leading(piece.bounds, 2, where)[..., rows, :]
                if not _overlap(bounds, keys).any():
                    return True
    return False


def _overlap(bounds: np.ndarray, keys: slice) -> np.ndarray:
    return np.maximum(bounds[..., 0], keys.start) < np.minimum(bounds[..., 1], keys.stop)


def _cut_primitive(mask: PrimitiveMask, where: Where) -> PrimitiveMask:
    pieces = tuple(_cut_piece(mask, piece, where) for piece in mask.pieces)
    shape = _cut_shape(mask.shape, where)
    return PrimitiveMask(mask.name, shape, pieces, mask.grid if shape == mask.shape else None)


def _cut_piece(owner: PrimitiveMask | PrimitiveBias, piece: Any, where: Where) -> Any:
    return _cut(piece, where, *_own(owner.shape, where))


@singledispatch
def _cut(piece: GridToeplitz, where: Where, rows: slice, keys: slice) -> Any:
    """Of a `GridToeplitz`; the other pieces below. What has no simple block is looked up for it."""
    return _dense(GridToeplitz(_leading(piece.plane, 2, where)), rows, keys)


@_cut.register
def _(piece: Repeated, where: Where, rows: slice, keys: slice) -> Table:
    return _dense(Repeated(_leading(piece.array, 4, where), piece.extents), rows, keys)


def _dense(piece: GridToeplitz | Repeated, rows: slice, keys: slice) -> Table:
    i, j = (np.arange(part.start, part.stop) for part in (rows, keys))
    return Table.dense(piece.at(i[:, None], j[None]))


@_cut.register
def _(piece: Table, where: Where, rows: slice, keys: slice) -> Table:
    return Table(_leading(piece.array, 4, where)[..., :, rows, :, keys])


@_cut.register
def _(piece: Toeplitz, where: Where, rows: slice, keys: slice) -> Toeplitz:
    queries = piece.line.shape[-1] - piece.keys + 1
    nearest, farthest = keys.start - (rows.stop - 1), keys.stop - 1 - rows.start
    line = piece.line[..., nearest + queries - 1 : farthest + queries]
    return Toeplitz(_leading(line, 1, where), keys.stop - keys.start)


@_cut.register
def _(piece: Span, where: Where, rows: slice, keys: slice) -> Span:
    bounds = _leading(piece.bounds, 2, where)[..., rows, :] - keys.start
    return Span(np.clip(bounds, 0, keys.stop - keys.start))


@_cut.register
def _(piece: Match, where: Where, rows: slice, keys: slice) -> Match:
    queries, others = (_leading(ids, 1, where) for ids in (piece.queries, piece.keys))
    return Match(queries[..., rows], others[..., keys])


@_cut.register
def _(piece: Slopes, where: Where, rows: slice, keys: slice) -> Slopes:
    return Slopes(_leading(piece.slopes, 0, where), None)  # the call knows where its queries stand


def _own(shape: tuple[int | None, ...], where: Where) -> tuple[slice, slice]:
    """The rows and keys of the block, for a mask or bias of that shape."""
    rows, keys = (
        slice(0, 1) if n == 1 else part for n, part in zip(last_two(shape), where[-2:], strict=True)
    )
    return rows, keys


def _leading(array: np.ndarray, own: int, where: Where) -> np.ndarray:
    """The part for the batch and heads of the block; the last `own` axes stay."""
    axes = array.ndim - own
    here = where[len(where) - 2 - axes : len(where) - 2]
    extents = array.shape[:axes]
    return array[
        tuple(slice(None) if n == 1 else part for n, part in zip(extents, here, strict=True))
    ]


def _cut_shape(shape: tuple[int | None, ...], where: Where) -> tuple[int | None, ...]:
    return tuple(
        n if n in (1, None) else part.stop - part.start
        for n, part in zip(shape, where[len(where) - len(shape) :], strict=True)
    )
