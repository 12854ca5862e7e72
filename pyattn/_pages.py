"""The pages of a cache, and the sequences that are made of them.

A page has room for the keys and values of `page_size` tokens that follow each other. Sequences may
share pages. Nobody writes to a page that several hold: who wants to makes a copy first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from pyattn import _core

PLAIN_DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),  # its bits
    "int8": np.dtype(np.int8),
}


class Page(_core.Page):
    """A page that knows how many sequences hold it.

    `holders` has an entry for each. It is a list because append and pop are atomic: caches that
    share pages may be in use by several threads. A sole holder stays the only one until he shares
    the page himself. An entry too many costs a copy; there must never be one too few.
    """

    __slots__ = ("holders",)

    def __init__(self, *arrays: np.ndarray) -> None:
        self.holders: list[None] = []

    def arrays(self) -> list[np.ndarray]:
        """Keys and values, and of int8 the scales of both."""
        arrays = [self.keys, self.values, self.key_scales, self.value_scales]
        return [a for a in arrays if a is not None]

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, tuple(self.arrays())


def _unpickled(*arrays: np.ndarray) -> Page:
    """Buffers that came beside a pickle may be read-only."""
    return Page(*(np.require(a, requirements="CW") for a in arrays))


def hold(pages: Iterable[Page]) -> None:
    for page in pages:
        page.holders.append(None)


def let_go(pages: Iterable[Page]) -> None:
    for page in pages:
        page.holders.pop()


class PageFormat(NamedTuple):
    """What all pages of a cache have in common."""

    kv_heads: int
    page_size: int
    head_dim: int
    value_dim: int
    dtype: np.dtype  # one of PLAIN_DTYPES

    def new_page(self) -> Page:
        # Zeros, so that what nobody has written yet may be pickled.
        shape = self.kv_heads, self.page_size
        arrays = [np.zeros((*shape, size), self.dtype) for size in (self.head_dim, self.value_dim)]
        if self.dtype == np.int8:
            arrays += [np.zeros(shape, np.float32) for _ in range(2)]
        return Page(*arrays)


class PagedSequence(NamedTuple):
    """A sequence as it is at one moment; its list of pages never changes, a longer or shorter
    sequence has another. What makes one also tells which pages of the old one are not in it.
    """

    pages: list[Page] = []  # noqa: RUF012 (never changed)
    dropped: int = 0  # pages that are missing behind the first ones, see _sliding.py
    length: int = 0  # tokens, those of missing pages counted

    def grown(self, count: int, page_format: PageFormat) -> tuple[PagedSequence, list[Page]]:
        """With room for more tokens, in pages that this sequence alone holds."""
        end = self.length + count
        number, row = divmod(self.length, page_format.page_size)
        number -= self.dropped
        needed = -(-end // page_format.page_size) - self.dropped
        replaced = self.pages[number:] if row and len(self.pages[number].holders) > 1 else []
        if not replaced and needed == len(self.pages):
            return PagedSequence(self.pages, self.dropped, end), []
        fresh = [Page(*(a.copy() for a in page.arrays())) for page in replaced]
        kept = self.pages[:number] if replaced else self.pages
        fresh += [page_format.new_page() for _ in range(needed - len(kept) - len(fresh))]
        hold(fresh)
        return PagedSequence(kept + fresh, self.dropped, end), replaced

    def write(self, start: int, keys: np.ndarray, values: np.ndarray, page_size: int) -> None:
        """Store tokens, (heads, n, size), from position `start` on."""
        count, done = keys.shape[1], 0
        while done < count:
            number, row = divmod(start + done, page_size)
            upto = min(done + page_size - row, count)
            part = slice(done, upto)
            _core.store(self.pages[number - self.dropped], row, keys[:, part], values[:, part])
            done = upto

    def shortened(
        self, length: int, dropped: int, page_size: int
    ) -> tuple[PagedSequence, list[Page]]:
        count = -(-length // page_size) - dropped
        return PagedSequence(self.pages[:count], dropped, length), self.pages[count:]

    def without(self, first: int, count: int) -> tuple[PagedSequence, list[Page]]:
        """Without the `count` pages from number `first` on."""
        end = first + count
        pages = self.pages[:first] + self.pages[end:]
        return self._replace(pages=pages, dropped=self.dropped + count), self.pages[first:end]


def widened(numbers: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    """Rows of a page as float32."""
    if numbers.dtype == np.uint16:
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    wide = numbers.astype(np.float32)
    return wide if scales is None else wide * scales[..., None]
