"""Sizes and choices of an image encoder, and which tensors it therefore has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from pyattn.models import _check_files, _check_image_encoder
from pyattn.models._encoder_tensors import pair
from pyattn.models._families import ACTIVATIONS
from pyattn.models._files import Settings
from pyattn.models._image_families import FAMILIES, ImageFamily


@dataclass(frozen=True)
class ImageConfig:
    """`path` is the file that says so."""

    path: Path
    model_type: str
    family: ImageFamily
    hidden: int
    layers: int
    heads: int
    inner: int
    gated: bool  # SwiGLU
    channels: int
    patch: int
    grid: tuple[int, int]  # the patches that there are positions for
    registers: int
    placed: int  # how many of the tokens before the patches have a position
    biased: bool  # queries, keys and values
    activation: str
    eps: float

    @classmethod
    def read(cls, settings: Settings) -> ImageConfig:
        """What config.json of Hugging Face's form says."""
        path, model_type = settings.path, settings.text("model_type")
        if model_type not in FAMILIES:
            _check_files.unsupported(path, "model_type", model_type, FAMILIES)
        family = FAMILIES[model_type]
        activation = settings.text("hidden_act", "gelu")
        if activation not in ACTIVATIONS:
            _check_files.unsupported(path, "hidden_act", activation, ACTIVATIONS)
        hidden, heads = settings.whole("hidden_size"), settings.whole("num_attention_heads")
        _check_files.heads_divide(path, hidden, heads)
        gated = family.inner is None and settings.flag("use_swiglu_ffn", False)
        image, patch = settings.pair("image_size"), settings.pair("patch_size")
        _check_image_encoder.patches_of_settings(path, image, patch)
        eps = settings.positive("layer_norm_eps", family.eps)
        _check_image_encoder.epsilon(path, "layer_norm_eps", eps)
        return cls(
            path,
            model_type,
            family,
            hidden,
            settings.whole("num_hidden_layers"),
            heads,
            _inner(settings, family, hidden, gated),
            gated,
            channels=settings.whole("num_channels", 3),
            patch=patch[0],
            grid=(image[0] // patch[0], image[1] // patch[0]),
            registers=settings.whole("num_register_tokens", 4) if family.registers else 0,
            placed=len(family.tokens),
            biased=settings.flag("qkv_bias", True),
            activation=ACTIVATIONS[activation],
            eps=eps,
        )

    @property
    def prefix(self) -> int:
        """How many tokens stand before the patches."""
        return len(self.family.tokens) + self.registers

    @property
    def linears(self) -> tuple[str, str]:
        """The two maps of a layer after its attention."""
        family = self.family
        return family.gated if self.gated else (family.expand, family.contract)

    def layer(self, number: int) -> str:
        """What the names of the tensors of a layer begin with."""
        return self.family.layer.format(number)

    def expected(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of all tensors that are needed."""
        hidden, inner, family = self.hidden, self.inner, self.family
        yield from pair(family.patches, (hidden, self.channels, self.patch, self.patch))
        yield family.positions, (1, self.placed + prod(self.grid), hidden)
        for token in family.tokens:
            yield token, (1, 1, hidden)
        if self.registers:
            yield family.registers, (1, self.registers, hidden)
        expand, contract = self.linears
        for number in range(self.layers):
            start = self.layer(number)
            yield from pair(start + family.attention_norm, (hidden,))
            for projection, times in family.projections.items():
                yield from pair(start + projection, (times * hidden, hidden), self.biased)
            yield from pair(start + family.output, (hidden, hidden))
            yield from pair(start + family.mlp_norm, (hidden,))
            yield from pair(start + expand, (inner * (1 + self.gated), hidden))
            yield from pair(start + contract, (hidden, inner))
            for scale in family.scales or ():
                yield start + scale, (hidden,)
        yield from pair(family.norm, (hidden,))


def _inner(settings: Settings, family: ImageFamily, hidden: int, gated: bool) -> int:
    if family.inner is not None:
        return settings.whole(family.inner)
    ratio = settings.positive("mlp_ratio", 4)
    inner = _check_image_encoder.inner_size(settings.path, hidden, ratio)
    # SwiGLU has three maps for two: two thirds of each, in steps of 8.
    return (int(inner * 2 / 3) + 7) // 8 * 8 if gated else inner
