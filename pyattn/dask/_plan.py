"""A call whose arguments agree and whose arrays are cut, and what each of its tasks needs of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from pyattn.biases import Bias
from pyattn.dask._chunks import Chunks, arranged, edges, slices
from pyattn.dask._cut import Where, hides_all
from pyattn.dask._tasks import Nothing, Part, Rules
from pyattn.masks import Mask

Block = tuple[int, ...]  # of queries, by the numbers of its chunks: (*leading, heads, rows)


class Axes(NamedTuple):
    """The chunks of the axes of the scores; `leading` are those of the batch."""

    leading: tuple[Chunks, ...]
    heads: Chunks
    rows: Chunks
    keys: Chunks

    def all(self) -> tuple[Chunks, ...]:
        return (*self.leading, self.heads, self.rows, self.keys)


@dataclass(frozen=True, eq=False)
class Plan:
    """The arrays are cut along `axes`; one that broadcasts along an axis is one chunk there."""

    axes: Axes
    query: da.Array
    key: da.Array
    value: da.Array
    key_heads: list[int]  # the chunk of key heads for each chunk of query heads
    mask: da.Array | Mask | None
    bias: da.Array | Bias | None
    query_start: np.ndarray  # (*leading,), of the whole call
    key_lengths: np.ndarray | None  # the same
    sinks: np.ndarray | None  # (H,)
    rules: Rules

    def blocks(self) -> Iterator[Block]:
        return np.ndindex(*map(len, self.axes.all()[:-1]))

    def arranged_out(self, by_head: Sequence[Any], size: Any) -> tuple[Any, ...]:
        """One thing per axis of the result, given those of (*leading, heads, rows) and of Dv."""
        return arranged(self.rules.layout, self._most_axes, by_head, size)

    def arranged_lse(self, by_head: Sequence[Any], size: Any) -> tuple[Any, ...]:
        """The same of the log-sum-exp, which has no `size`."""
        return tuple(by_head) if self._most_axes > 2 else self.arranged_out(by_head, size)[:-1]

    @property
    def _most_axes(self) -> int:
        return max(self.query.ndim, self.key.ndim, self.value.ndim)

    @cached_property
    def _slices(self) -> list[list[slice]]:
        return [slices(chunks) for chunks in self.axes.all()]

    def where(self, place: Sequence[int]) -> Where:
        """The block of the scores at (*leading, heads, rows, keys), the last of which may lack."""
        return tuple(cuts[n] for cuts, n in zip(self._slices, place))  # noqa: B905

    def keys_seen(self, block: Block) -> list[int]:
        """The chunks of keys of which a row of the block may see something."""
        *batch, heads, rows = self.where(block)
        starts = self.query_start[tuple(batch)]
        if not starts.size or heads.start == heads.stop or rows.start == rows.stop:
            return []
        cuts, (left, right) = edges(self.axes.keys), self.rules.window
        first, end = 0, cuts[-1]
        if left is not None:
            first = max(first, rows.start + int(starts.min()) - left)
        if right is not None:
            end = min(end, rows.stop + int(starts.max()) + right)
        if self.key_lengths is not None:
            end = min(end, int(self.key_lengths[tuple(batch)].max()))
        if first >= end:
            return []
        seen = range(bisect_right(cuts, first) - 1, bisect_left(cuts, end))
        if not isinstance(self.mask, Mask):
            return list(seen)
        return [n for n in seen if not hides_all(self.mask, self.where((*block, n)))]

    def part(self, block: Block, keys: int, *, with_sinks: bool) -> Part:
        """What there is to do with one chunk of keys."""
        *batch, heads, rows, here = self.where((*block, keys))
        lengths = self.key_lengths
        if lengths is not None:
            lengths = np.clip(lengths[tuple(batch)] - here.start, 0, here.stop - here.start)
        return Part(
            self.rules,
            query_start=self.query_start[tuple(batch)] + (rows.start - here.start),
            key_lengths=lengths,
            sinks=self.sinks[heads] if with_sinks and self.sinks is not None else None,
        )

    def nothing(self, block: Block) -> Nothing:
        """The result of a block that sees no keys."""
        where = self.where(block)
        sizes = [part.stop - part.start for part in where]
        size = self.value.shape[-1]
        return Nothing(
            self.arranged_out(sizes, size),
            self.arranged_lse(sizes, size),
            self.query.dtype,
            None if self.sinks is None else self.sinks[where[-2]],
        )
