"""The language model of the suite `decode`: read by the package gguf, apart from pyattn's loader,
and computed by the slow twins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyattn import reference
from pyattn.positional import rope_frequencies

PARTS = {  # of a layer: the names of GGUF and of Hugging Face
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
WORDS, NORM = "model.embed_tokens.weight", "model.norm.weight"


@dataclass(frozen=True, eq=False)
class Model:
    """A Llama whose last layer is the table of words. Weights are float32 under the names of
    Hugging Face, queries and keys in its order, where pairs are halves apart."""

    weights: dict[str, np.ndarray]
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    eps: float
    theta: float
    context: int

    @classmethod
    def read(cls, file: Path) -> Model:
        from gguf import GGUFReader, dequantize

        reader = GGUFReader(file)

        def said(name: str) -> float:
            return reader.fields[f"llama.{name}"].contents()

        heads, kv_heads = said("attention.head_count"), said("attention.head_count_kv")
        weights = {}
        for tensor in reader.tensors:
            weight = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
            *layer, part, _ = tensor.name.split(".")
            if part in ("attn_q", "attn_k"):
                weight = halves_apart(weight, heads if part == "attn_q" else kv_heads)
            if layer:
                weights[f"model.layers.{layer[1]}.{PARTS[part]}.weight"] = weight
            else:
                weights[WORDS if part == "token_embd" else NORM] = weight
        return cls(
            weights,
            layers=said("block_count"),
            hidden=said("embedding_length"),
            inner=said("feed_forward_length"),
            heads=heads,
            kv_heads=kv_heads,
            eps=said("attention.layer_norm_rms_epsilon"),
            theta=said("rope.freq_base"),
            context=said("context_length"),
        )

    @property
    def vocabulary(self) -> int:
        return len(self.weights[WORDS])

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def per_token(self) -> int:
        """Weights that a token meets, those of the last layer too."""
        return sum(w.size for name, w in self.weights.items() if w.ndim > 1)

    def flops(self, tokens: int) -> float:
        """Of reading so many; logits of the last one only."""
        words = self.weights[WORDS].size
        pairs = tokens * (tokens + 1) / 2
        attention = 4.0 * self.layers * self.hidden * pairs
        return 2.0 * ((self.per_token - words) * tokens + words) + attention

    def cache_numbers(self, tokens: int) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim * tokens

    def exact(self, ids: np.ndarray) -> np.ndarray:
        """Logits after these tokens in float64, (vocabulary,)."""
        frequencies = rope_frequencies(self.head_dim, theta=self.theta)
        x = self.weights[WORDS][ids].astype(np.float64)

        def linear(name: str, x: np.ndarray, **options: np.ndarray) -> np.ndarray:
            return reference.linear(x, self.weights[f"{name}.weight"], **options)

        def norm(name: str, x: np.ndarray) -> np.ndarray:
            return reference.rms_norm(x, self.weights[name], eps=self.eps)

        def heads(x: np.ndarray) -> np.ndarray:
            return x.reshape(len(ids), -1, self.head_dim).swapaxes(0, 1)

        for n in range(self.layers):
            layer = f"model.layers.{n}."
            y = norm(f"{layer}input_layernorm.weight", x)
            q, k, v = (heads(linear(f"{layer}self_attn.{part}_proj", y)) for part in "qkv")
            q, k = (reference.rope(a, None, frequencies, interleaved=False) for a in (q, k))
            attended = reference.attention(q, k, v, causal=True).swapaxes(0, 1)
            x = linear(f"{layer}self_attn.o_proj", attended.reshape(x.shape), residual=x)
            y = norm(f"{layer}post_attention_layernorm.weight", x)
            gate = linear(f"{layer}mlp.gate_proj", y, activation="silu")
            y = linear(f"{layer}mlp.up_proj", y, gate=gate)
            x = linear(f"{layer}mlp.down_proj", y, residual=x)
        return reference.linear(norm(NORM, x[-1]), self.weights[WORDS])


def halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """From neighbours as pairs, which is how GGUF has the rows of a Llama's queries and keys."""
    rows, inputs = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, inputs).swapaxes(1, 2).reshape(weight.shape)
