"""What config.json says of an encoder, and which tensors it therefore has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyattn.models import _check_files
from pyattn.models._encoder_tensors import pair
from pyattn.models._families import (
    ACTIVATIONS,
    FAMILIES,
    NORM,
    POSITIONS,
    RELATIVE,
    TYPES,
    WORDS,
    Family,
)
from pyattn.models._files import Settings


@dataclass(frozen=True)
class Config:
    """Sizes and choices of an encoder."""

    path: Path
    model_type: str
    family: Family
    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int  # 0: no table of segments
    buckets: int  # of relative position biases, 0: none
    padding: int | None  # the token after which positions are counted, None: from 0
    activation: str
    eps: float

    @classmethod
    def read(cls, directory: Path) -> Config:
        settings = Settings.read(directory / "config.json", "the configuration of the model")
        path, model_type = settings.path, settings.text("model_type")
        if model_type not in FAMILIES:
            _check_files.unsupported(path, "model_type", model_type, FAMILIES)
        family = FAMILIES[model_type]

        def whole(name: str) -> int:
            return settings.whole(family.settings.get(name, name))

        absolute = settings.text("position_embedding_type", "absolute")
        if absolute != "absolute":
            _check_files.unsupported(path, "position_embedding_type", absolute, ["absolute"])
        if settings.flag("is_decoder", False):
            _check_files.unsupported(path, "is_decoder", True, [False])
        activation = settings.text(family.settings.get("hidden_act", "hidden_act"), "gelu")
        if activation not in ACTIVATIONS:
            _check_files.unsupported(path, "activation", activation, ACTIVATIONS)
        config = cls(
            path,
            model_type,
            family,
            hidden=whole("hidden_size"),
            layers=whole("num_hidden_layers"),
            heads=whole("num_attention_heads"),
            inner=whole("intermediate_size"),
            vocabulary=whole("vocab_size"),
            positions=whole("max_position_embeddings"),
            types=settings.whole("type_vocab_size", 2, low=0) if family.types else 0,
            buckets=settings.whole("relative_attention_num_buckets", 32) if family.relative else 0,
            padding=settings.whole("pad_token_id", 1, low=0)
            if family.positions_after_padding
            else None,
            activation=ACTIVATIONS[activation],
            eps=settings.positive("layer_norm_eps", 1e-12),
        )
        _check_files.heads_divide(path, config.hidden, config.heads)
        return config

    @property
    def longest(self) -> int:
        """How many tokens of a text there are positions for."""
        return self.positions - (0 if self.padding is None else self.padding + 1)

    def layer(self, number: int) -> str:
        """What the names of the tensors of a layer begin with."""
        return self.family.layer.format(number)

    def expected(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of all tensors that are needed."""
        hidden, inner, family = self.hidden, self.inner, self.family
        yield WORDS, (self.vocabulary, hidden)
        yield POSITIONS, (self.positions, hidden)
        if self.types:
            yield TYPES, (self.types, hidden)
        yield from pair(NORM, (hidden,))
        if self.buckets:
            yield RELATIVE, (self.buckets, self.heads)
        for number in range(self.layers):
            start = self.layer(number)
            for projection in family.projections:
                yield from pair(start + projection, (hidden, hidden))
            yield from pair(start + family.attention_norm, (hidden,))
            yield from pair(start + family.expand, (inner, hidden))
            yield from pair(start + family.contract, (hidden, inner))
            yield from pair(start + family.output_norm, (hidden,))
