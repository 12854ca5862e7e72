"""A layer of a decoder, of several sequences at once: attention, then a gated linear map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pyattn.cache import KVCache
from pyattn.layers import Linear, rms_norm
from pyattn.models._decoder_config import (
    ATTENTION_NORM,
    DOWN,
    GATE,
    KEY,
    KEY_NORM,
    LAYER,
    MLP_NORM,
    OUT,
    QUERY,
    QUERY_NORM,
    UP,
    VALUE,
    DecoderConfig,
)
from pyattn.models._decoder_weights import Weights
from pyattn.positional import rope


class Run(NamedTuple):
    """Sequences of the caches with equally many new tokens, which are those of the slice."""

    count: int
    rows: np.ndarray | None  # None: all there are
    tokens: slice

    def heads(self, x: np.ndarray) -> np.ndarray:
        """Of (heads, all tokens, size) the view (count, heads, length, size)."""
        part = x[:, self.tokens]
        return part.reshape(len(x), self.count, -1, x.shape[2]).swapaxes(0, 1)


def runs(rows: np.ndarray, lengths: Sequence[int], sequences: int) -> list[Run]:
    """Of neighbours that are equally long; `sequences` is how many the caches have."""
    lengths = np.asarray(lengths)
    first = np.flatnonzero(np.diff(lengths, prepend=-1))
    ends = np.append(0, np.cumsum(lengths))
    found = []
    for a, b in zip(first, [*first[1:], len(lengths)], strict=True):
        everyone = np.array_equal(rows[a:b], np.arange(sequences))
        chosen = None if everyone else rows[a:b]  # which costs a check in each layer
        found.append(Run(int(b - a), chosen, slice(int(ends[a]), int(ends[b]))))
    return found


class Space:
    """Room for what is between the linear maps of a layer, for so many tokens at once."""

    def __init__(self, config: DecoderConfig, tokens: int) -> None:
        def room(*shape: int) -> np.ndarray:
            return np.empty(shape, np.float32)

        self.normed = room(tokens, config.hidden)
        self.turned = room(config.heads + config.kv_heads, tokens, config.head_dim)
        self.queries, self.keys = self.turned[: config.heads], self.turned[config.heads :]
        self.values = room(config.kv_heads, tokens, config.head_dim)
        self.attended = room(tokens, config.heads, config.head_dim)
        self.inner = room(tokens, config.inner)


class DecoderLayer:
    """Attends to what is in a cache; before each of its two parts stands a norm."""

    def __init__(self, weights: Weights, number: int) -> None:
        config, start = weights.config, LAYER.format(number)
        self.eps, self.interleaved = config.eps, config.interleaved
        self.frequencies = None if number in config.unturned else config.frequencies
        self.attention_norm = weights.norm(start + ATTENTION_NORM)
        self.projections = [weights.linear(start + name) for name in (QUERY, KEY, VALUE)]
        self.query_norm = weights.norm(start + QUERY_NORM)
        self.key_norm = weights.norm(start + KEY_NORM)
        self.out = weights.linear(start + OUT)
        self.mlp_norm = weights.norm(start + MLP_NORM)
        self.gate = weights.linear(start + GATE, config.activation)
        self.up, self.down = weights.linear(start + UP), weights.linear(start + DOWN)

    @property
    def nbytes(self) -> int:
        norms = (self.attention_norm, self.query_norm, self.key_norm, self.mlp_norm)
        linears = (*self.projections, self.out, self.gate, self.up, self.down)
        return sum(part.nbytes for part in (*norms, *linears) if part is not None)

    def __call__(
        self,
        x: np.ndarray,
        positions: np.ndarray,
        runs: Sequence[Run],
        cache: KVCache,
        space: Space,
    ) -> None:
        """Of the tokens (T, E) of all runs; the result takes the place of `x`."""
        rms_norm(x, self.attention_norm, eps=self.eps, out=space.normed)
        queries, keys, values = space.queries, space.keys, space.values
        Linear.many(self.projections, space.normed, [queries, keys, values])
        for heads, norm in ((queries, self.query_norm), (keys, self.key_norm)):
            if norm is not None:
                rms_norm(heads, norm, eps=self.eps, out=heads)
        if self.frequencies is not None:
            heads, frequencies = space.turned, self.frequencies
            rope(heads, positions, frequencies, interleaved=self.interleaved, out=heads)
        attended = space.attended.swapaxes(0, 1)
        for run in runs:
            cache.append(run.heads(keys), run.heads(values), rows=run.rows)
            cache.attend(run.heads(queries), rows=run.rows, out=run.heads(attended))
        self.out(space.attended.reshape(len(x), -1), residual=x, out=x)
        rms_norm(x, self.mlp_norm, eps=self.eps, out=space.normed)
        self.gate(space.normed, out=space.inner)
        self.up(space.normed, gate=space.inner, out=space.inner)
        self.down(space.inner, residual=x, out=x)
