"""Sizes and choices of a decoder, and which tensors it therefore has, whatever file says so.

Tensors have the names of Hugging Face's Llama here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pyattn.models import _check_files
from pyattn.models._safetensors import Tensors

WORDS = "model.embed_tokens.weight"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"
LAYER = "model.layers.{}."
QUERY, KEY, VALUE = (f"self_attn.{name}_proj" for name in "qkv")
OUT = "self_attn.o_proj"
GATE, UP, DOWN = "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"
ATTENTION_NORM, MLP_NORM = "input_layernorm", "post_attention_layernorm"
QUERY_NORM, KEY_NORM = "self_attn.q_norm", "self_attn.k_norm"

EMPTY: Mapping[str, str] = MappingProxyType({})

# What a broken file says may be anything; the sizes of tensors are looked at later.
MOST_LAYERS = 1000
LARGEST_HEAD = 4096


@dataclass(frozen=True)
class DecoderConfig:
    """`path` is the file that says so."""

    path: Path
    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    context: int  # how many tokens there are positions for
    eps: float
    activation: str
    tied: bool  # the table of words is the last layer too
    biased: frozenset[str]  # the modules of a layer that have a bias
    head_norms: bool  # queries and keys are normalised head by head
    frequencies: Any  # as of `pyattn.positional.rope`
    interleaved: bool  # what a pair is that they turn
    unturned: frozenset[int] = frozenset()  # layers without positions
    window: int | None = None  # tokens before its own that a token sees
    windowed: frozenset[int] = frozenset()  # layers that have it

    def modules(self) -> dict[str, tuple[int, int]]:
        """The linear maps of a layer, (outputs, inputs)."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            QUERY: (queries, self.hidden),
            KEY: (keys, self.hidden),
            VALUE: (keys, self.hidden),
            OUT: (self.hidden, queries),
            GATE: (self.inner, self.hidden),
            UP: (self.inner, self.hidden),
            DOWN: (self.hidden, self.inner),
        }

    def norms(self) -> dict[str, int]:
        """Those of a layer and their sizes."""
        found = {ATTENTION_NORM: self.hidden, MLP_NORM: self.hidden}
        if self.head_norms:
            found |= {QUERY_NORM: self.head_dim, KEY_NORM: self.head_dim}
        return found

    def expected(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of all tensors that are needed."""
        yield WORDS, (self.vocabulary, self.hidden)
        yield NORM, (self.hidden,)
        if not self.tied:
            yield HEAD, (self.vocabulary, self.hidden)
        for number in range(self.layers):
            start = LAYER.format(number)
            for module, shape in self.modules().items():
                yield f"{start}{module}.weight", shape
                if module in self.biased:
                    yield f"{start}{module}.bias", shape[:1]
            for norm, size in self.norms().items():
                yield f"{start}{norm}.weight", (size,)


def decoder_tensors(
    config: DecoderConfig,
    tensors: Tensors,
    names: Mapping[str, str] = EMPTY,
    layers: str = LAYER.partition("{")[0],
) -> Tensors:
    """The tensors of the decoder, with the shapes expected.

    `names` are those that a file of another form gives them, `layers` is what they begin with in
    the layers: one there that is not expected means another kind of layer, as of quantized weights
    or of adapters.
    """
    path = tensors.files[0] if len(tensors.files) == 1 else tensors.files[0].parent
    found: dict[str, str] = {}
    for name, shape in config.expected():
        stored = names.get(name, name)
        if stored not in tensors:
            _check_files.tensor_missing(path, stored, shape)
        entry = tensors.entries[stored]
        _check_files.tensor_shape(entry.path, stored, entry.shape, shape, config.path)
        _check_files.tensor_dtype(entry.path, stored, entry.dtype, tensors.known)
        found[name] = stored
    _check_files.no_other_tensors(path, set(tensors) - set(found.values()), layers)
    return tensors.renamed(found)
