"""What goes into the first layer: words and positions, added and normalised."""

from __future__ import annotations

import numpy as np

from pyattn.models._config import Config
from pyattn.models._families import NORM, POSITIONS, TYPES, WORDS
from pyattn.models._norm import Norm
from pyattn.models._safetensors import Tensors, widened


class Embeddings:
    """The tables of a model. Words stay in the dtype of the file and are widened as they are used.

    All tokens are of segment 0, whose row is added to every position once and for all.
    """

    def __init__(self, config: Config, tensors: Tensors) -> None:
        words = tensors.stored(WORDS)
        self.words = words.astype(np.float32) if words.dtype == np.float64 else words
        self.padding = config.padding
        positions = tensors[POSITIONS][config.padding or 0 :].astype(np.float64)
        if config.types:
            positions += tensors[TYPES][0]
        self.positions = positions.astype(np.float32)
        self.norm = Norm(config.eps, tensors, NORM)

    @property
    def nbytes(self) -> int:
        return self.words.nbytes + self.positions.nbytes + self.norm.nbytes

    def __call__(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Of texts packed one after the other: (T, E) float32."""
        x = widened(self.words.take(ids, axis=0)).astype(np.float32, copy=False)
        positions = self.positions.take(self._places(ids, offsets), axis=0)
        return self.norm(x, residual=positions, out=x)

    def _places(self, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """The row of `positions` of each token.

        With a `padding`, whose own row comes first, only other tokens are counted, as in RoBERTa:
        one that stands in the text itself is passed over.
        """
        lengths = np.diff(offsets)
        if self.padding is None:
            return np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)
        counts = ids != self.padding
        seen = np.concatenate([[0], np.cumsum(counts)])
        return (seen[1:] - np.repeat(seen[offsets[:-1]], lengths)) * counts
