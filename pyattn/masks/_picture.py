"""A mask in characters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ROWS, COLUMNS, SAMPLES = 16, 48, 4


def picture(
    at: Callable[[np.ndarray, np.ndarray], np.ndarray], queries: int, keys: int
) -> list[str]:
    """Lines of ``#``, ``.`` and ``+``; looks at a few queries and keys of every character only.
    `at` says who of the queries (n, 1) sees whom of the keys (1, m)."""
    i, rows = _samples(queries, ROWS)
    j, columns = _samples(keys, COLUMNS)
    seen = np.broadcast_to(at(i[:, None], j[None]), (len(i), len(j)))

    def patches(ufunc: np.ufunc) -> np.ndarray:
        return ufunc.reduceat(ufunc.reduceat(seen, rows, axis=0), columns, axis=1)

    characters = np.where(patches(np.logical_or), "+", ".")
    characters[patches(np.logical_and)] = "#"
    return ["".join(row) for row in characters]


def _samples(length: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to look at, and where those of each of at most `most` equal parts begin."""
    parts = min(length, most)
    samples = [
        np.unique(np.linspace(first, last - 1, min(last - first, SAMPLES)).astype(int))
        for first, last in ((n * length // parts, (n + 1) * length // parts) for n in range(parts))
    ]
    return np.concatenate(samples), np.cumsum([0, *map(len, samples[:-1])])
