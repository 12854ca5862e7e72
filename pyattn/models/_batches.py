"""Groups of consecutive texts that are computed together, and their results as one array."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def batches(
    items: Iterable[Item], budget: int, tokens: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """Lists of as many of the next items as have at most `budget` tokens together.

    An item of more is a batch of its own. One item is read ahead, no more.

    Examples
    --------
    >>> list(batches(["one", "two", "three", "six"], 6, tokens=len))
    [['one', 'two'], ['three'], ['six']]
    """
    batch: list[Item] = []
    total = 0
    for item in items:
        size = max(tokens(item), 1)  # so that a batch of texts without tokens has an end
        if batch and total + size > budget:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def gathered(blocks: Iterable[np.ndarray], width: int) -> np.ndarray:
    """Blocks (k, width) of float32 one below the other, without a moment at which all are there
    twice: the array grows in place."""
    rows, done = np.empty((0, width), np.float32), 0
    for block in blocks:
        end = done + len(block)
        if end > len(rows):
            rows.resize((max(end, len(rows) + len(rows) // 8), width), refcheck=False)
        rows[done:end] = block
        done = end
    rows.resize((done, width), refcheck=False)
    return rows
