"""What goes into the first layer of an image encoder: patches, tokens before them, positions."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from pyattn.layers import Linear
from pyattn.models._image_config import ImageConfig
from pyattn.models._safetensors import Tensors
from pyattn.positional import resample_2d


class PatchEmbeddings:
    """The first layer of a checkpoint is a convolution whose kernels lie side by side: a linear map
    of the patches. Its weights are put in the order of `pyattn.images.to_vectors` once."""

    def __init__(self, config: ImageConfig, tensors: Tensors, storage: str | None) -> None:
        family, self.grid = config.family, config.grid
        kernels = tensors[f"{family.patches}.weight"]
        self.projection = Linear(
            kernels.transpose(0, 2, 3, 1).reshape(config.hidden, -1),
            tensors[f"{family.patches}.bias"],
            dtype=np.float32,
            storage=storage,
        )
        positions = tensors[family.positions][0].astype(np.float64)
        names = [*family.tokens, *([family.registers] if config.registers else [])]
        tokens = np.concatenate([tensors[name][0].astype(np.float64) for name in names])
        tokens[: config.placed] += positions[: config.placed]
        self.tokens = tokens.astype(np.float32)
        self.positions = positions[config.placed :].astype(np.float32)
        self.antialias = family.antialias
        self._last = self.grid, self.positions

    @property
    def nbytes(self) -> int:
        return self.projection.nbytes + self.tokens.nbytes + self.positions.nbytes

    def __getstate__(self) -> dict[str, Any]:
        """Without the positions of the last image, which may be many more than the model's."""
        return self.__dict__ | {"_last": (self.grid, self.positions)}

    def __call__(self, vectors: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """Of images whose patches are (n, N, patch * patch * C), N on the grid: (n, T, E)."""
        first = len(self.tokens)
        x = np.empty((len(vectors), first + prod(grid), self.tokens.shape[1]), np.float32)
        x[:, :first] = self.tokens
        self.projection(vectors, residual=self._resampled(grid), out=x[:, first:])
        return x

    def _resampled(self, grid: tuple[int, int]) -> np.ndarray:
        """The positions of another grid. That of the last call is kept, for images often have the
        same size; pairs are replaced whole, so threads do not disturb each other."""
        last, positions = self._last
        if grid != last:
            positions = resample_2d(
                self.positions, self.grid, grid, prefix=0, antialias=self.antialias
            )
            self._last = grid, positions
        return positions
