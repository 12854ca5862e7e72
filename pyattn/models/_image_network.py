"""The image encoder without what is around it: from patches to what the layers make of them."""

from __future__ import annotations

import numpy as np

from pyattn.models._image_config import ImageConfig
from pyattn.models._image_layer import ImageLayer
from pyattn.models._norm import Norm
from pyattn.models._patch_embeddings import PatchEmbeddings
from pyattn.models._safetensors import Tensors


class ImageNetwork:
    """The weights of an image encoder."""

    def __init__(self, config: ImageConfig, tensors: Tensors, storage: str | None) -> None:
        self.inner = config.inner
        self.embeddings = PatchEmbeddings(config, tensors, storage)
        self.layers = [ImageLayer(config, tensors, n, storage) for n in range(config.layers)]
        self.norm = Norm(config.eps, tensors, config.family.norm)

    @property
    def nbytes(self) -> int:
        parts = [self.embeddings, *self.layers, self.norm]
        return sum(part.nbytes for part in parts)

    def __call__(self, vectors: np.ndarray, grid: tuple[int, int], out: np.ndarray) -> np.ndarray:
        """The last layer's states of images, normalised.

        Parameters
        ----------
        vectors : ndarray of float32, (n, N, patch * patch * C)
        grid : (height, width)
            Of the N patches.
        out : ndarray of float32, (n, T, E)
            T tokens, the patches and those before them.
        """
        return self.norm(self.states(vectors, grid, len(self.layers)), out=out)

    def states(self, vectors: np.ndarray, grid: tuple[int, int], layers: int) -> np.ndarray:
        """What the first `layers` make of images, (n, T, E)."""
        x = self.embeddings(vectors, grid)
        normed = np.empty_like(x)
        inner = np.empty((*x.shape[:-1], self.inner), np.float32)
        for layer in self.layers[:layers]:
            layer(x, normed, inner)
        return x
