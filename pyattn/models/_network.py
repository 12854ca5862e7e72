"""The encoder without what is around it: from numbers of tokens to what the layers make of them."""

from __future__ import annotations

import numpy as np

from pyattn.models._config import Config
from pyattn.models._embeddings import Embeddings
from pyattn.models._layer import Layer
from pyattn.models._safetensors import Tensors


class Network:
    """The weights of an encoder. Tensors are read one at a time, so that hardly any memory is taken
    beyond that of the weights themselves."""

    def __init__(self, config: Config, tensors: Tensors, storage: str | None) -> None:
        self.hidden, self.inner, self.longest = config.hidden, config.inner, config.longest
        self.embeddings = Embeddings(config, tensors)
        self.layers = [Layer(config, tensors, n, storage) for n in range(config.layers)]

    @property
    def vocabulary(self) -> int:
        return len(self.embeddings.words)

    @property
    def nbytes(self) -> int:
        return self.embeddings.nbytes + sum(layer.nbytes for layer in self.layers)

    def __call__(
        self, ids: np.ndarray, offsets: np.ndarray, layers: int | None = None
    ) -> np.ndarray:
        """Of texts packed one after the other, after the first `layers` (all by default).

        Parameters
        ----------
        ids : ndarray of int64, (T,)
            Within the vocabulary.
        offsets : ndarray of int64, (texts + 1,)
            Where the texts begin, and the end of the last. None is longer than `longest`.

        Returns
        -------
        ndarray of float32, (T, hidden)
        """
        x = self.embeddings(ids, offsets)
        attended = np.empty_like(x)
        inner = np.empty((len(x), self.inner), np.float32)
        for layer in self.layers[:layers]:
            layer(x, offsets, attended, inner)
        return x
