"""What a GGUF file says of a decoder of Llama's kind, and under which names it has its tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn._check_numbers import LARGEST
from pyattn.models import _check_files, _check_generator, _check_gguf
from pyattn.models._decoder_config import (
    ATTENTION_NORM,
    DOWN,
    GATE,
    HEAD,
    KEY,
    KEY_NORM,
    LARGEST_HEAD,
    LAYER,
    MLP_NORM,
    MOST_LAYERS,
    NORM,
    OUT,
    QUERY,
    QUERY_NORM,
    UP,
    VALUE,
    WORDS,
    DecoderConfig,
)
from pyattn.models._files import Settings
from pyattn.models._gguf import Gguf
from pyattn.models._safetensors import Tensors
from pyattn.positional import rope_frequencies

ARCHITECTURE = "general.architecture"
# Llama's rows of queries and keys have been put in another order, so that pairs are neighbours.
INTERLEAVED = {"llama": True, "qwen2": False, "qwen3": False}
SCALINGS = ("none", "linear")
BLOCK = "blk.{}."
FACTORS = "rope_freqs.weight"
MODULES = {
    QUERY: "attn_q",
    KEY: "attn_k",
    VALUE: "attn_v",
    OUT: "attn_output",
    GATE: "ffn_gate",
    UP: "ffn_up",
    DOWN: "ffn_down",
    ATTENTION_NORM: "attn_norm",
    MLP_NORM: "ffn_norm",
    QUERY_NORM: "attn_q_norm",
    KEY_NORM: "attn_k_norm",
}
OTHERS = {WORDS: "token_embd.weight", NORM: "output_norm.weight", HEAD: "output.weight"}


def stored_names(config: DecoderConfig) -> dict[str, str]:
    """The file's name of each tensor that a decoder may have."""
    names = dict(OTHERS)
    for number in range(config.layers):
        start, block = LAYER.format(number), BLOCK.format(number)
        for module, stored in MODULES.items():
            for kind in ("weight", "bias"):
                names[f"{start}{module}.{kind}"] = f"{block}{stored}.{kind}"
    return names


def gguf_config(file: Gguf) -> DecoderConfig:
    settings = Settings(file.path, file.metadata)
    kind = settings.text(ARCHITECTURE)
    if kind not in INTERLEAVED:
        _check_files.unsupported(file.path, ARCHITECTURE, kind, INTERLEAVED)
    if settings.whole(f"{kind}.expert_count", 0, low=0):
        _check_files.unsupported(file.path, f"{kind}.expert_count", "above 0", [0])
    hidden = settings.whole(f"{kind}.embedding_length")
    heads = settings.whole(f"{kind}.attention.head_count")
    kv_heads = settings.whole(f"{kind}.attention.head_count_kv", heads)
    _check_generator.groups(file.path, heads, kv_heads)
    head_dim = settings.whole(f"{kind}.attention.key_length", 0, low=0)
    if not head_dim:
        _check_files.heads_divide(file.path, hidden, heads)
        head_dim = hidden // heads
    _check_generator.at_most(file.path, f"{kind}.attention.key_length", head_dim, LARGEST_HEAD)
    layers = settings.whole(f"{kind}.block_count")
    _check_generator.at_most(file.path, f"{kind}.block_count", layers, MOST_LAYERS)
    window = settings.whole(f"{kind}.attention.sliding_window", 0, low=0)
    _check_generator.at_most(file.path, f"{kind}.attention.sliding_window", window, LARGEST)
    tensors, words = file.tensors, OTHERS[WORDS]
    if words not in tensors:
        _check_files.tensor_missing(file.path, words, ("tokens", hidden))
    return DecoderConfig(
        file.path,
        kind,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        inner=settings.whole(f"{kind}.feed_forward_length"),
        vocabulary=tensors.entries[words].shape[0],
        context=settings.whole(f"{kind}.context_length"),
        eps=settings.positive(f"{kind}.attention.layer_norm_rms_epsilon", 1e-6),
        activation="silu",
        tied=OTHERS[HEAD] not in tensors,
        biased=frozenset(m for m, name in MODULES.items() if f"blk.0.{name}.bias" in tensors),
        head_norms=f"blk.0.{MODULES[QUERY_NORM]}.weight" in tensors,
        frequencies=_frequencies(settings, kind, head_dim, tensors),
        interleaved=INTERLEAVED[kind],
        window=window - 1 if window else None,
        windowed=frozenset(range(layers)) if window else frozenset(),
    )


def _frequencies(settings: Settings, kind: str, head_dim: int, tensors: Tensors) -> Any:
    """A file has either a factor for all, or in a tensor one for each pair, as of Llama 3."""
    path = settings.path
    scaling = settings.text(f"{kind}.rope.scaling.type", "linear")
    if scaling not in SCALINGS:
        _check_files.unsupported(path, f"{kind}.rope.scaling.type", scaling, SCALINGS)
    factor = 1.0
    if scaling == "linear":
        earlier = settings.positive(f"{kind}.rope.scale_linear", factor)  # its name in old files
        factor = settings.positive(f"{kind}.rope.scaling.factor", earlier)
    theta = settings.positive(f"{kind}.rope.freq_base", 10000.0)
    turned = settings.whole(f"{kind}.rope.dimension_count", head_dim)
    _check_generator.at_most(path, f"{kind}.rope.dimension_count", turned, head_dim)

    scaled = {"rope_type": "linear", "factor": factor}
    found = _check_generator.rope(path, lambda: rope_frequencies(turned, theta, scaling=scaled))
    if FACTORS not in tensors:
        return found
    entry = tensors.entries[FACTORS]
    _check_files.tensor_shape(path, FACTORS, entry.shape, (len(found),), path)
    _check_files.tensor_dtype(path, FACTORS, entry.dtype, tensors.known)
    factors = tensors[FACTORS].astype(np.float64)
    _check_gguf.factors(path, FACTORS, factors)
    return found.inv_freq / factors
