"""Where arrays are cut: chunks are the sizes of the pieces of one axis, as dask has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

Chunks = tuple[int, ...]


def edges(chunks: Chunks) -> tuple[int, ...]:
    """Where the chunks begin, and the end of the last."""
    return (0, *accumulate(chunks))


def between(cuts: Iterable[int]) -> Chunks:
    """The chunks that have these edges; none of them is empty unless the axis is."""
    return tuple(b - a for a, b in pairwise(sorted(set(cuts)))) or (0,)


def slices(chunks: Chunks) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(edges(chunks))]


def common(several: Sequence[Chunks]) -> Chunks:
    """Chunks that are cut wherever one of `several` is. An extent of 1 broadcasts: it has no say
    beside others."""
    having_a_say = [chunks for chunks in several if sum(chunks) != 1] or several
    return between(cut for chunks in having_a_say for cut in edges(chunks))


def heads(query: Chunks, key: Chunks, group: int) -> tuple[Chunks, Chunks, list[int]]:
    """Chunks of query heads, each of which needs one chunk of key heads and all of it.

    A chunk of query heads holds whole groups, or is part of one group: what is neither is cut where
    its groups begin. `key` is cut where groups of different chunks begin. `group` is H // Hkv.

    Returns
    -------
    query, key : Chunks
    which : list of int
        The chunk of key heads for each chunk of query heads.
    """
    if not group:
        return query, key, [0] * len(query)
    cuts = set(edges(query)) | {group * cut for cut in edges(key)}
    for first, end in pairwise(sorted(cuts)):
        whole = first % group == 0 and end % group == 0
        if not whole and first // group != (end - 1) // group:
            cuts.update(range(-(-first // group) * group, end, group))
    query = between(cuts)
    key = between([cut // group for cut in edges(query)] + [sum(key)])
    starts = edges(key)
    return query, key, [starts.index(first // group) for first in edges(query)[:-1]]


def arranged(layout: str, axes: int, by_head: Sequence[Any], size: Any) -> tuple[Any, ...]:
    """One thing per axis of an array with so many `axes`, in its own order.

    `by_head` are those of (*leading, heads, length), `size` that of the last axis.
    """
    *leading, heads, length = by_head
    if axes == 2:
        return length, size
    order = (heads, length) if layout == "bhld" else (length, heads)
    return (*leading, *order, size)[-axes:]
