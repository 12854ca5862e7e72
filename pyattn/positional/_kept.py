"""Tables that are kept for later calls: those used last, up to a number of bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

BYTES = 256 << 20  # a table of 131,072 positions for heads of 128 is half of it
TABLES = 256

# The most recently used comes last. No lock, which a fork could leave locked: every line is atomic,
# and whoever finds a table missing that another thread is just moving makes it once more.
_tables: dict[Hashable, np.ndarray] = {}


def kept(key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The table of that key, made if it is not there. A larger one than fits is not kept."""
    table = _tables.pop(key, None)
    if table is not None:
        _tables[key] = table
        return table
    table = make()
    table.flags.writeable = False
    if table.nbytes <= BYTES:
        _tables[key] = table
        _drop_oldest()
    return table


def _drop_oldest() -> None:
    tables = list(_tables.items())
    bytes_left = sum(table.nbytes for _, table in tables)
    for n, (key, table) in enumerate(tables):
        if bytes_left <= BYTES and len(tables) - n <= TABLES:
            return
        _tables.pop(key, None)
        bytes_left -= table.nbytes
