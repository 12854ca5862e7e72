"""Weights of a layer that has not been trained."""

from __future__ import annotations

import math

import numpy as np

from pyattn._check_weights import Heads


def fresh_weights(
    rng: np.random.Generator,
    heads: Heads,
    sizes: tuple[int, int, int],
    bias: bool,
    add_bias_kv: bool,
    dtype: np.dtype,
) -> dict[str, np.ndarray]:
    """Drawn from the distributions of `torch.nn.MultiheadAttention`."""
    width, narrow = heads.num_heads * heads.head_dim, heads.kv_heads * heads.head_dim
    rows = {"q": width, "k": narrow, "v": narrow}
    shared = len(set(sizes)) == 1  # PyTorch then has one matrix of all three
    weights = {}

    def uniform(name: str, outputs: int, inputs: int, bound: float) -> None:
        weights[f"{name}_weight"] = rng.uniform(-bound, bound, (outputs, inputs)).astype(dtype)
        if bias:
            weights[f"{name}_bias"] = np.zeros(outputs, dtype)

    for (name, outputs), inputs in zip(rows.items(), sizes, strict=True):
        fan_out = sum(rows.values()) if shared else outputs
        uniform(name, outputs, inputs, math.sqrt(6 / (inputs + fan_out)))
    uniform("out", sizes[0], width, 1 / math.sqrt(width))
    if add_bias_kv:
        for name in ("bias_k", "bias_v"):
            weights[name] = (rng.standard_normal(narrow) / math.sqrt(narrow)).astype(dtype)
    return weights
