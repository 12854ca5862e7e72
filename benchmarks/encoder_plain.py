"""BERT as one writes it in NumPy: products by BLAS, the rest in place."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.encoder_inputs import Model


class PlainModel:
    """From ids (B, L) and lengths (B,) to the states of the last layer, (B, L, hidden)."""

    def __init__(self, model: Model) -> None:
        self.model, self.w = model, dict(model.weights)
        for n in range(model.layers):  # one product instead of three
            for kind in ("weight", "bias"):
                self.w[f"encoder.layer.{n}.qkv.{kind}"] = model.joined(n, kind)

    def __call__(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        hidden = np.arange(ids.shape[1]) >= lengths[:, None]
        x = self.w["embeddings.word_embeddings.weight"][ids]
        x += self.w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x += self.w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm("embeddings", x)
        for n in range(self.model.layers):
            layer = f"encoder.layer.{n}."
            y = self.attention(self.linear(f"{layer}qkv", x), hidden)
            y = self.linear(f"{layer}attention.output.dense", y)
            x = self.norm(f"{layer}attention.output", x + y)
            y = gelu(self.linear(f"{layer}intermediate.dense", x))
            x = self.norm(f"{layer}output", x + self.linear(f"{layer}output.dense", y))
        return x

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        y = x.reshape(-1, x.shape[-1]) @ self.w[f"{name}.weight"].T
        y += self.w[f"{name}.bias"]
        return y.reshape(*x.shape[:-1], -1)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(self.model.eps))
        x *= self.w[f"{name}.LayerNorm.weight"]
        x += self.w[f"{name}.LayerNorm.bias"]
        return x

    def attention(self, qkv: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        batch, length = hidden.shape
        q, k, v = np.moveaxis(qkv.reshape(batch, length, 3, self.model.heads, -1), (2, 3), (0, 2))
        q = q * np.float32(q.shape[-1] ** -0.5)
        out = np.empty((batch, length, self.model.hidden), np.float32)
        for b in range(batch):
            s = q[b] @ k[b].swapaxes(-1, -2)
            s[:, :, hidden[b]] = -np.inf
            s -= s.max(axis=-1, keepdims=True)
            np.exp(s, out=s)
            s /= s.sum(axis=-1, keepdims=True)
            out[b].reshape(length, self.model.heads, -1)[...] = (s @ v[b]).swapaxes(0, 1)
        return out


def gelu(x: np.ndarray) -> np.ndarray:
    """x * Phi(x) = x / 2 * (1 + erf(x / sqrt(2))), the exact GELU, in place.

    NumPy has no erf. For z >= 0 Abramowitz & Stegun 7.1.26 is erf(z) = 1 - t * poly(t) * exp(-z**2)
    with t = 1 / (1 + p * z), off by at most 1.5e-7. In GELU the 1 drops out, and with it the sign:
    x * Phi(x) = max(x, 0) - |x| / 2 * t * poly(t) * exp(-x**2 / 2).
    """
    p = 0.3275911 / math.sqrt(2)
    a = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    flat = x.reshape(-1)
    for start in range(0, flat.size, 16384):  # a part stays in the L2 cache for all these passes
        part = flat[start : start + 16384]
        size = np.abs(part)
        t = 1 / (1 + p * size)
        poly = a[0] * t
        for c in a[1:]:
            poly += c
            poly *= t
        poly *= np.exp(-0.5 * size * size)
        poly *= 0.5 * size
        np.maximum(part, 0, out=part)
        part -= poly
    return x
