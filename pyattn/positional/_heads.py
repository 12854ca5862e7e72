"""Queries and keys, head by head."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pyattn import _check


def paired(
    function: str, query: np.ndarray, key: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Both with heads and the same leading axes, and whether neither had heads."""
    names, given = ("query", "key"), (query, key)
    two_axes = _check.two_axes(function, names, given)
    query, key = (a[(None,) * (3 - a.ndim)] for a in given)
    shapes = (query.shape, key.shape)
    leading, _ = _check.attention_shapes(function, names, given, shapes, "bhld")
    query, key = (np.broadcast_to(a, leading + a.shape[-3:]) for a in (query, key))
    return query, key, two_axes


def heads(
    query: np.ndarray, key: np.ndarray
) -> Iterator[tuple[tuple[int, ...], np.ndarray, np.ndarray]]:
    """Each head of the queries with its index and its keys."""
    for at in np.ndindex(query.shape[:-2]):
        *batch, head = at
        group = query.shape[-3] // key.shape[-3]
        yield at, query[at], key[(*batch, head // group)]
