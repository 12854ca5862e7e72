"""The norm of a layer."""

from __future__ import annotations

import numpy as np

from pyattn.layers import layer_norm
from pyattn.models._safetensors import Tensors


class Norm:
    """`layer_norm` with the weights of a checkpoint."""

    def __init__(self, eps: float, tensors: Tensors, name: str) -> None:
        self.weight, self.bias = (
            tensors[f"{name}.{kind}"].astype(np.float32) for kind in ("weight", "bias")
        )
        self.eps = eps

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes + self.bias.nbytes

    def __call__(
        self, x: np.ndarray, *, residual: np.ndarray | None = None, out: np.ndarray
    ) -> np.ndarray:
        return layer_norm(x, self.weight, self.bias, eps=self.eps, residual=residual, out=out)
