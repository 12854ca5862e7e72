"""Where the queries and keys of a layer stand, and turning them by it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyattn import _check, _check_multihead, _check_positions
from pyattn.positional import RopeFrequencies, RopeTable, rope

Offsets = tuple[np.ndarray, np.ndarray]  # of packed sequences: of queries, of keys


def frequencies(function: str, value: Any, head_dim: int) -> Any:
    """As `rope` takes them."""
    if value is None:
        return None
    if isinstance(value, RopeTable):
        pairs = value.cosines.shape[1]
    else:
        if not isinstance(value, RopeFrequencies):
            value = _check_positions.inverse_frequencies(function, value)
        pairs = len(value)
    _check_multihead.turned(function, pairs, head_dim)
    return value


class Places(NamedTuple):
    """What a call says about where its rows stand."""

    positions: Any
    key_positions: Any
    query_start: Any
    offsets: Offsets | None


def turn(
    function: str,
    q: np.ndarray,
    k: np.ndarray,
    frequencies: Any,
    interleaved: bool,
    places: Places,
    same: bool,
) -> None:
    """Queries (..., L, H, D) and keys, in place; `same`: keys stand where queries do."""
    positions, key_positions, query_start, offsets = places
    if same and key_positions is None:
        key_positions = positions
    if positions is None or key_positions is None:
        _check_positions.several_axes(function, None, getattr(frequencies, "axis_count", 1))
        if query_start is not None:
            query_start = _check.per_batch(
                function, "query_start", query_start, q.shape[:-3], None, None
            )
        of_queries, of_keys = _counted(q.shape[-3], k.shape[-3], query_start, offsets)
        positions = of_queries if positions is None else positions
        key_positions = of_keys if key_positions is None else key_positions
    for x, where in ((q, positions), (k, key_positions)):
        rope(x, where, frequencies, interleaved=interleaved, layout="blhd", out=x)


def _counted(
    queries: int, keys: int, query_start: np.ndarray | None, offsets: Offsets | None
) -> tuple[np.ndarray, np.ndarray]:
    """Where queries and keys stand by default: with the ends aligned, in each sequence."""
    if offsets is None:
        start = keys - queries if query_start is None else query_start[..., None]
        return start + np.arange(queries), np.arange(keys)
    counts = [np.diff(ends) for ends in offsets]
    begins = offsets[0][:-1] - (counts[1] - counts[0]), offsets[1][:-1]
    of_queries, of_keys = (
        np.arange(ends[-1]) - np.repeat(begin, count)
        for ends, begin, count in zip(offsets, begins, counts, strict=True)
    )
    return of_queries, of_keys
