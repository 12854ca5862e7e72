"""What a cache with a window keeps of a sequence, and where that lies.

Of a long sequence two runs of whole pages are there: `kept` ones with its first tokens, and the
recent ones. Those between them, `dropped` many, are gone. What is there is for the kernel one
shorter sequence: keys have *places*, and behind the gap these are less than the positions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pyattn._pieces import spread


class Sliding(NamedTuple):
    """A token at position p sees positions p - left, ..., p, and of 0, ..., first - 1 those up to
    p."""

    left: int
    first: int
    page_size: int

    @property
    def kept(self) -> int:
        """How many pages hold the first tokens."""
        return -(-self.first // self.page_size)

    def droppable(self, start: int) -> int:
        """How many pages nobody needs who stands at most a page before `start`. One more token is
        needed of him who then asks again for the last token."""
        needed = start - self.page_size - 1 - self.left
        return max(needed // self.page_size - self.kept, 0)

    def gap(self, dropped: int) -> tuple[int, int]:
        """The positions that are gone: from the first up to the second, which is not."""
        return self.kept * self.page_size, (self.kept + dropped) * self.page_size

    def bars(self, dropped: int, length: int) -> bool:
        """Whether a sequence cannot be cut to that length: its last token sees what is gone."""
        return length > self.gap(dropped)[0] and self.lost(dropped, length - 1, 1)

    def still_dropped(self, dropped: int, length: int) -> int:
        """Of a sequence that is cut to that length: in front of the gap there is none any more."""
        return dropped if length > self.gap(dropped)[0] else 0

    def lost(self, dropped: int, start: int, queries: int) -> bool:
        """Whether some of the queries at start, start + 1, ... would see what is gone."""
        low, high = self.gap(dropped)
        # Before the gap a query sees nothing of it, behind it the first one sees most.
        worst = max(start, low)
        return low < high and worst < start + queries and worst - self.left < high

    def shift(self, dropped: int, start: int) -> int:
        """Position less place of queries from position `start` on, none of which sees what is gone;
        so they stand on one side of it, all of them."""
        low, high = self.gap(dropped)
        return high - low if start >= low else 0

    def hides(self, last: int) -> bool:
        """Whether a query at the place `last` sees fewer than all keys up to its own."""
        return last - self.left > self.first

    def terms(
        self, places: np.ndarray, scores: tuple[int, ...]
    ) -> list[tuple[str, int, np.ndarray]]:
        """The terms (see pyattn/_pieces.py) of queries that begin at `places`, (B,), and scores
        (B, H, L, S): a key is one of the first, or of the recent ones."""
        batch, _, queries, keys = scores
        ends = places[:, None, None] + np.arange(1, queries + 1)
        bounds = np.zeros((2, batch, 1, queries, 2), np.int64)
        np.minimum(ends, self.first, out=bounds[0, ..., 1])
        np.subtract(ends, self.left + 1, out=bounds[1, ..., 0])
        bounds[1, ..., 1] = ends
        np.clip(bounds, 0, keys, out=bounds)
        return [
            ("span", clause, spread(own, (*scores[:3], 2))) for clause, own in enumerate(bounds)
        ]
