"""What the tasks compute: a block of queries with a chunk of keys, and two such results as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyattn.attention import attention, merge_attention

Pair = tuple[np.ndarray, np.ndarray]  # out and lse, as `attention` returns them


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all blocks of a call. `window` says what `causal` does as well."""

    window: tuple[int | None, int | None]
    scale: float
    softcap: float | None
    layout: str


@dataclass(frozen=True, slots=True)
class Part:
    """One block of queries with one chunk of keys. Positions and lengths count from its first key.

    Called as a task of the graph with the arrays, of which `mask` and `bias` may be None.
    """

    rules: Rules
    query_start: Any
    key_lengths: Any
    sinks: np.ndarray | None

    def __call__(self, query: Any, key: Any, value: Any, mask: Any, bias: Any) -> Pair:
        return attention(
            *(query, key, value),
            mask=mask,
            bias=bias,
            window=self.rules.window,
            query_start=self.query_start,
            key_lengths=self.key_lengths,
            scale=self.rules.scale,
            softcap=self.rules.softcap,
            sinks=self.sinks,
            layout=self.rules.layout,
            return_lse=True,
        )


@dataclass(frozen=True, slots=True)
class Nothing:
    """A block of queries that sees no key, or has no rows: what `attention` over 0 keys gives."""

    out_shape: tuple[int, ...]
    lse_shape: tuple[int, ...]
    dtype: np.dtype
    sinks: np.ndarray | None

    def __call__(self) -> Pair:
        lse = np.full(self.lse_shape, -np.inf, self.dtype)
        if self.sinks is not None:
            lse[...] = self.sinks[:, None]
        return np.zeros(self.out_shape, self.dtype), lse


def merged(layout: str, first: Pair, second: Pair) -> Pair:
    """Results over two runs of keys as that over both."""
    outs, lses = zip(first, second, strict=True)
    by_heads = layout == "blhd" and outs[0].ndim > 2  # then lse has two axes in another order
    if by_heads:
        lses = tuple(lse.swapaxes(-1, -2) for lse in lses)
    out, lse = merge_attention(outs, lses)
    return out, lse.swapaxes(-1, -2) if by_heads else lse
