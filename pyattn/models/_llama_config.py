"""What config.json says of a decoder of Llama's kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyattn._check_numbers import LARGEST
from pyattn.models import _check_files, _check_generator
from pyattn.models._decoder_config import (
    DOWN,
    GATE,
    KEY,
    LARGEST_HEAD,
    MOST_LAYERS,
    OUT,
    QUERY,
    UP,
    VALUE,
    DecoderConfig,
)
from pyattn.models._families import ACTIVATIONS
from pyattn.models._files import Settings
from pyattn.positional import rope_from_config

ORIGINAL = "original_max_position_embeddings"
SLIDING = "sliding_attention"
LAYER_TYPES = ("full_attention", SLIDING)


@dataclass(frozen=True)
class Family:
    """In what a `model_type` differs from Llama, as configurations have it that do not say."""

    biased: frozenset[str] = frozenset()  # always, whatever attention_bias says
    head_norms: bool = False
    head_dim: int | None = None
    tied: bool = False
    window: int | None = None  # None: never
    asked: bool = False  # a window only with use_sliding_window
    unturned: bool = False  # some layers have no positions


FAMILIES = {
    "llama": Family(),
    "mistral": Family(window=4096),
    "qwen2": Family(biased=frozenset({QUERY, KEY, VALUE}), window=4096, asked=True),
    "qwen3": Family(head_norms=True, head_dim=128, window=4096, asked=True),
    "smollm3": Family(tied=True, unturned=True),
}


def read_config(directory: Path) -> DecoderConfig:
    settings = Settings.read(directory / "config.json", "the configuration of the model")
    path, model_type = settings.path, settings.text("model_type")
    if model_type not in FAMILIES:
        _check_files.unsupported(path, "model_type", model_type, FAMILIES)
    if settings.values.get("quantization_config") is not None:
        _check_files.unsupported(path, "quantization_config", "...", ["none"])
    family = FAMILIES[model_type]
    activation = settings.text("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        _check_files.unsupported(path, "hidden_act", activation, ACTIVATIONS)
    hidden, heads = settings.whole("hidden_size"), settings.whole("num_attention_heads")
    head_dim = settings.whole("head_dim", family.head_dim or 0, low=0)
    if not head_dim:
        _check_files.heads_divide(path, hidden, heads)
        head_dim = hidden // heads
    _check_generator.at_most(path, "head_dim", head_dim, LARGEST_HEAD)
    kv_heads = settings.whole("num_key_value_heads", heads)
    _check_generator.groups(path, heads, kv_heads)
    layers = settings.whole("num_hidden_layers")
    _check_generator.at_most(path, "num_hidden_layers", layers, MOST_LAYERS)
    window = settings.whole("sliding_window", family.window or 1)
    _check_generator.at_most(path, "sliding_window", window, LARGEST)
    return DecoderConfig(
        path,
        model_type,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        inner=settings.whole("intermediate_size"),
        vocabulary=settings.whole("vocab_size"),
        context=_context(settings),
        eps=settings.positive("rms_norm_eps", 1e-6),
        activation=ACTIVATIONS[activation],
        tied=settings.flag("tie_word_embeddings", family.tied),
        biased=family.biased | _biased(settings),
        head_norms=family.head_norms,
        frequencies=_frequencies(settings, head_dim),
        interleaved=False,
        unturned=_unturned(settings, layers) if family.unturned else frozenset(),
        window=window - 1,
        windowed=_windowed(settings, family, layers),
    )


def _biased(settings: Settings) -> frozenset[str]:
    attention = {QUERY, KEY, VALUE, OUT} if settings.flag("attention_bias", False) else set()
    return frozenset(attention | ({GATE, UP, DOWN} if settings.flag("mlp_bias", False) else set()))


def _context(settings: Settings) -> int:
    """LongRoPE turns by other frequencies once a text is longer than those of the training, which
    does not go together with keys that have been turned already."""
    context = settings.whole("max_position_embeddings")
    for name in ("rope_scaling", "rope_parameters"):
        scaling = settings.values.get(name)
        if isinstance(scaling, dict) and "longrope" in (
            scaling.get("rope_type"),
            scaling.get("type"),
        ):
            given = Settings(settings.path, {ORIGINAL: settings.values.get(ORIGINAL)} | scaling)
            return min(context, given.whole(ORIGINAL, context))
    return context


def _frequencies(settings: Settings, head_dim: int) -> Any:
    config = settings.values | {"head_dim": head_dim}

    return _check_generator.rope(settings.path, lambda: rope_from_config(config))


def _unturned(settings: Settings, layers: int) -> frozenset[int]:
    every = settings.whole("no_rope_layer_interval", 4)
    turned = settings.values.get("no_rope_layers")  # 1: has positions
    if turned is None:
        return frozenset(range(every - 1, layers, every))
    _check_generator.per_layer(settings.path, "no_rope_layers", turned, layers)
    return frozenset(n for n, flag in enumerate(turned) if not flag)


def _windowed(settings: Settings, family: Family, layers: int) -> frozenset[int]:
    if family.unturned and settings.flag("use_sliding_window", False):
        _check_files.unsupported(settings.path, "use_sliding_window", True, [False])
    used = settings.flag("use_sliding_window", not family.asked)
    given = settings.values.get("sliding_window", family.window)
    if not used or given is None or family.window is None:
        return frozenset()
    types = settings.values.get("layer_types")
    if types is not None:
        _check_generator.per_layer(settings.path, "layer_types", types, layers)
        for kind in types:
            if kind not in LAYER_TYPES:
                _check_files.unsupported(settings.path, "layer_types", kind, LAYER_TYPES)
        return frozenset(n for n, kind in enumerate(types) if kind == SLIDING)
    first = settings.whole("max_window_layers", 28, low=0) if family.asked else 0
    return frozenset(range(first, layers))
