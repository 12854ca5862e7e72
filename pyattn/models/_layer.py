"""A layer of an encoder: attention, then two linear maps; after each the sum and its norm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pyattn.biases import Bias
from pyattn.layers import Linear
from pyattn.models._config import Config
from pyattn.models._families import RELATIVE
from pyattn.models._norm import Norm
from pyattn.models._safetensors import Tensors
from pyattn.multihead import MultiHeadAttention
from pyattn.positional import t5_bias


class Layer:
    """The layer `number` of a model."""

    def __init__(self, config: Config, tensors: Tensors, number: int, storage: str | None) -> None:
        start, family = config.layer(number), config.family

        def linear(name: str, activation: str | None = None) -> Linear:
            weight, bias = tensors[f"{start}{name}.weight"], tensors[f"{start}{name}.bias"]
            return Linear(weight, bias, activation=activation, dtype=np.float32, storage=storage)

        self.attention = MultiHeadAttention.from_tensors(
            tensors,
            start,
            format=family.attention,
            num_heads=config.heads,
            dtype=np.float32,
            storage=storage,
        )
        # One table for all layers in the file.
        self.relative = tensors[RELATIVE].astype(np.float32) if config.buckets else None
        self.attention_norm = Norm(config.eps, tensors, start + family.attention_norm)
        self.expand = linear(family.expand, config.activation)
        self.contract = linear(family.contract)
        self.output_norm = Norm(config.eps, tensors, start + family.output_norm)

    @property
    def nbytes(self) -> int:
        parts = (self.attention, self.attention_norm, self.expand, self.contract, self.output_norm)
        return sum(part.nbytes for part in parts)

    def __call__(
        self, x: np.ndarray, offsets: np.ndarray, attended: np.ndarray, inner: np.ndarray
    ) -> None:
        """Of texts packed one after the other, (T, E). The result takes the place of `x`;
        `attended` (T, E) and `inner` (T, F) are room for what is between."""
        self._attend(x, offsets, attended)
        self.attention_norm(attended, out=attended)
        self.expand(attended, out=inner)
        self.contract(inner, residual=attended, out=x)
        self.output_norm(x, out=x)

    def weights(self, x: np.ndarray) -> np.ndarray:
        """The attention weights of one text (n, E): (H, n, n)."""
        bias = self._bias(len(x))
        return self.attention(x, bias=bias, need_weights="per_head")[1]

    def _attend(self, x: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
        if self.relative is None:
            self.attention(x, cu_seqlens=offsets, residual=x, out=out)
            return
        # A bias is for one length: texts of the same length that stand side by side go together.
        for begin, end, length in runs(offsets):
            shape = (-1, length, x.shape[1])
            part, place = x[begin:end].reshape(shape), out[begin:end].reshape(shape)
            self.attention(part, bias=self._bias(length), residual=part, out=place)

    def _bias(self, length: int) -> Bias | None:
        return None if self.relative is None else t5_bias(self.relative, length)


def runs(offsets: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Begin, end and common length of consecutive texts that are equally long, and not empty."""
    lengths = np.diff(offsets)
    first = np.flatnonzero(np.diff(lengths, prepend=-1))
    for a, b in zip(first, [*first[1:], len(lengths)], strict=True):
        if lengths[a]:
            yield int(offsets[a]), int(offsets[b]), int(lengths[a])
