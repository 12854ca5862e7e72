"""A layer of an image encoder: a norm, attention, sum; a norm, two linear maps, sum."""

from __future__ import annotations

from collections import ChainMap
from functools import partial

import numpy as np

from pyattn.layers import Linear
from pyattn.models import _check_files
from pyattn.models._image_config import ImageConfig
from pyattn.models._norm import Norm
from pyattn.models._safetensors import Tensors
from pyattn.multihead import MultiHeadAttention


class ImageLayer:
    """The layer `number` of a model.

    What DINOv2 multiplies the results of both parts with, number by number (LayerScale, Touvron et
    al. 2021, arXiv 2103.17239), is multiplied into their last weights once and for all.
    """

    def __init__(
        self, config: ImageConfig, tensors: Tensors, number: int, storage: str | None
    ) -> None:
        family, start = config.family, config.layer(number)
        expand, contract = (start + name for name in config.linears)
        scales = [start + name for name in family.scales or ()] or [None, None]
        linear = partial(Linear, dtype=np.float32, storage=storage)

        self.attention_norm = Norm(config.eps, tensors, start + family.attention_norm)
        scaled = _scaled(tensors, start + family.output, scales[0])
        self.attention = MultiHeadAttention.from_tensors(
            ChainMap(scaled, tensors),
            start,
            format=family.attention,
            num_heads=config.heads,
            dtype=np.float32,
            storage=storage,
        )
        self.mlp_norm = Norm(config.eps, tensors, start + family.mlp_norm)
        weight, bias = tensors[f"{expand}.weight"], tensors[f"{expand}.bias"]
        self.gate = None
        if config.gated:  # SwiGLU: Shazeer 2020, arXiv 2002.05202
            self.gate = linear(weight[: config.inner], bias[: config.inner], activation="silu")
            self.expand = linear(weight[config.inner :], bias[config.inner :])
        else:
            self.expand = linear(weight, bias, activation=config.activation)
        self.contract = linear(*_scaled(tensors, contract, scales[1]).values())

    @property
    def nbytes(self) -> int:
        parts = [self.attention_norm, self.attention, self.mlp_norm, self.expand, self.contract]
        return sum(part.nbytes for part in [*parts, *([self.gate] if self.gate else [])])

    def __call__(self, x: np.ndarray, normed: np.ndarray, inner: np.ndarray) -> None:
        """Of images (n, T, E). The result takes the place of `x`; `normed` (n, T, E) and `inner`
        (n, T, F) are room for what is between."""
        self.attention_norm(x, out=normed)
        self.attention(normed, residual=x, out=x)
        self.mlp_norm(x, out=normed)
        if self.gate is None:
            self.expand(normed, out=inner)
        else:
            self.gate(normed, out=inner)
            self.expand(normed, gate=inner, out=inner)
        self.contract(inner, residual=x, out=x)

    def weights_of_first(self, x: np.ndarray) -> np.ndarray:
        """How the first token of one image (T, E) attends to all: (H, T)."""
        normed = self.attention_norm(x, out=np.empty_like(x))
        return self.attention(normed[:1], normed, need_weights="per_head")[1][:, 0]


def _scaled(tensors: Tensors, module: str, scale: str | None) -> dict[str, np.ndarray]:
    """Weight and bias of a module, multiplied with the scale of its results if there is one."""
    found = {name: tensors[name] for name in (f"{module}.weight", f"{module}.bias")}
    if scale is None:
        return found
    factors = tensors[scale].astype(np.float64)
    for name, array in found.items():
        found[name] = (array.T * factors).T
        _check_files.within_float32(tensors.entries[name].path, f"{name} * {scale}", found[name])
    return found
