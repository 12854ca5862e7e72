"""The tensors of a checkpoint as layers, and how their weights are kept."""

from __future__ import annotations

import numpy as np

from pyattn.layers import Linear
from pyattn.models import _check_generator
from pyattn.models._decoder_config import WORDS, DecoderConfig
from pyattn.models._safetensors import Tensors

# "auto": as the file has them. Halves of quantized weights: float16 has 3 bits more than bfloat16.
KEPT = {"F32": None, "F64": None, "F16": "float16", "BF16": "bfloat16"}
KEPT_QUANTIZED = "float16"


class Weights:
    """Tensors are read one at a time, so that hardly any memory is taken beyond that of the
    layers."""

    def __init__(self, config: DecoderConfig, tensors: Tensors, storage: str | None) -> None:
        self.config, self.tensors, self.storage = config, tensors, storage

    def kept(self, name: str) -> str | None:
        if self.storage != "auto":
            return self.storage
        return KEPT.get(self.tensors.entries[name].dtype, KEPT_QUANTIZED)

    def words(self) -> np.ndarray:
        """As the file has them, bfloat16 as its bits; blocks and doubles as `kept` says."""
        words = self.tensors.stored(WORDS)
        if words.dtype.itemsize == 2:
            return words
        quantized = self.tensors.entries[WORDS].dtype not in KEPT
        half = quantized and self.kept(WORDS) == "float16"
        return words.astype(np.float16 if half else np.float32, copy=False)

    def linear(self, name: str, activation: str | None = None) -> Linear:
        weight, bias = f"{name}.weight", f"{name}.bias"
        return _check_generator.fits(
            self.tensors.entries[weight].path,
            weight,
            lambda: Linear(
                self.tensors[weight],
                self.tensors[bias] if bias in self.tensors else None,
                activation=activation,
                dtype=np.float32,
                storage=self.kept(weight),
            ),
        )

    def norm(self, name: str) -> np.ndarray | None:
        weight = f"{name}.weight"
        return self.tensors[weight].astype(np.float32) if weight in self.tensors else None
