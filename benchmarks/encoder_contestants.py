"""Who takes part in the suite `encoder`. Each takes the model and returns ways, by name, to make
the embeddings of a batch of texts; of several, the fastest one runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks import encoder_graph
from benchmarks.encoder_inputs import Model, Tokens, padded
from benchmarks.encoder_plain import PlainModel
from pyattn import reference
from pyattn.models import TextEncoder

Encode = Callable[[Tokens], np.ndarray]  # texts to (texts, hidden)
States = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (B, L) ids and lengths to (B, L, hidden)


def pooled(states: States, tokens: Tokens) -> np.ndarray:
    """The mean over the tokens of each text, scaled to length 1; of one padded batch."""
    ids, lengths = padded(tokens)
    is_token = np.arange(ids.shape[1]) < lengths[:, None]
    sums = (is_token.astype(np.float32)[:, None, :] @ states(ids, lengths))[:, 0]
    return sums / np.linalg.norm(sums, axis=-1, keepdims=True)  # the number of tokens cancels


def exact(model: Model, ids: list[int]) -> np.ndarray:
    """The embedding of one text in float64, of the slow twins."""
    weights = model.weights

    def linear(name: str, x: np.ndarray, **options: object) -> np.ndarray:
        return reference.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        name += ".LayerNorm"
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return reference.layer_norm(x, weight, bias, eps=model.eps)

    def heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(ids), model.heads, -1)

    x = weights["embeddings.word_embeddings.weight"][ids].astype(np.float64)
    x += weights["embeddings.position_embeddings.weight"][: len(ids)]
    x += weights["embeddings.token_type_embeddings.weight"][0]
    x = norm("embeddings", x)
    for n in range(model.layers):
        layer = f"encoder.layer.{n}."
        q, k, v = (
            heads(linear(f"{layer}attention.self.{part}", x)) for part in ("query", "key", "value")
        )
        attended = reference.attention(q, k, v, layout="blhd").reshape(x.shape)
        attended = linear(f"{layer}attention.output.dense", attended, residual=x)
        x = norm(f"{layer}attention.output", attended)
        inner = linear(f"{layer}intermediate.dense", x, activation="gelu")
        x = norm(f"{layer}output", linear(f"{layer}output.dense", inner, residual=x))
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def run_pyattn(model: Model, threads: int) -> dict[str, Encode]:
    encoder = TextEncoder.from_pretrained(model.directory)
    return {"": partial(encoder.encode_tokens, pooling="mean", normalize=True)}


def run_numpy(model: Model, threads: int) -> dict[str, Encode]:
    return {"": partial(pooled, PlainModel(model))}


def run_torch(model: Model, threads: int) -> dict[str, Encode]:
    """Its own encoder, by its fused and its other path, with and without nested tensors in place of
    padding; and the model of transformers if that can be imported."""
    from benchmarks import encoder_torch

    return {
        name: partial(pooled, states) for name, states in encoder_torch.ways(model, threads).items()
    }


def run_onnxruntime(model: Model, threads: int) -> dict[str, Encode]:
    """Graphs of its fused operators, with each of its two for attention."""
    return {
        name: partial(pooled, encoder_graph.states(model, name, threads))
        for name in encoder_graph.ATTENTIONS
    }


CONTESTANTS: dict[str, Callable[[Model, int], dict[str, Encode]]] = {
    "pyattn": run_pyattn,
    "numpy": run_numpy,
    "torch": run_torch,
    "onnxruntime": run_onnxruntime,
}
