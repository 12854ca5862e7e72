"""The decoder without what is around it: from numbers of tokens to logits of the next ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyattn.cache import KVCache
from pyattn.layers import rms_norm
from pyattn.models._decoder_config import HEAD, NORM, WORDS, DecoderConfig
from pyattn.models._decoder_layer import DecoderLayer, Space, runs
from pyattn.models._decoder_weights import Weights
from pyattn.models._safetensors import Tensors, widened


class Decoder:
    """The weights of a decoder. It does not change: what has been read is in the caches."""

    def __init__(self, config: DecoderConfig, tensors: Tensors, storage: str | None) -> None:
        weights = Weights(config, tensors, storage)
        self.config = config
        self.words = weights.words()
        self.layers = [DecoderLayer(weights, number) for number in range(config.layers)]
        self.norm = weights.norm(NORM.removesuffix(".weight"))
        self.head = weights.linear((WORDS if config.tied else HEAD).removesuffix(".weight"))

    @property
    def nbytes(self) -> int:
        layers = sum(layer.nbytes for layer in self.layers)
        return self.words.nbytes + layers + self.norm.nbytes + self.head.nbytes

    def caches(self, sequences: int, dtype: str) -> list[KVCache]:
        """Empty ones, of each layer, for so many sequences."""
        config = self.config
        return [
            KVCache(
                sequences,
                config.kv_heads,
                config.head_dim,
                dtype=dtype,
                window=config.window if number in config.windowed else None,
            )
            for number in range(config.layers)
        ]

    def read(
        self, ids: np.ndarray, rows: np.ndarray, lengths: Sequence[int], caches: Sequence[KVCache]
    ) -> np.ndarray:
        """Go on with the sequences `rows` of the caches by so many tokens each.

        Parameters
        ----------
        ids : ndarray of int64, (T,)
            The new tokens of one sequence after those of the other, within the vocabulary.
        rows : ndarray of int64, (n,)
        lengths : sequence of int, (n,)
            At least 1; their sum is T.
        caches : sequence of KVCache
            One per layer.

        Returns
        -------
        ndarray of float32, (T, hidden)
            Of which `logits` makes those of the tokens that follow.
        """
        x = widened(self.words.take(ids, axis=0)).astype(np.float32, copy=False)
        before = caches[0].lengths[rows]  # the same in all layers
        positions = np.concatenate(
            [np.arange(at, at + more) for at, more in zip(before, lengths, strict=True)]
        )
        space = Space(self.config, len(x))
        several = runs(rows, lengths, caches[0].batch)
        for layer, cache in zip(self.layers, caches, strict=True):
            layer(x, positions, several, cache, space)
        return rms_norm(x, self.norm, eps=self.config.eps, out=x)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """(n, vocabulary) of float32, of rows (n, hidden) that `read` has made."""
        return self.head(x)
