"""What is done to the numbers of an image before they are multiplied: its scale and its colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyattn.images import to_vectors
from pyattn.models import _check_image_encoder
from pyattn.models._files import Settings
from pyattn.models._image_families import ImageFamily

FILE = "preprocessor_config.json"
FLIPPED = "do_flip_channel_order"


class Colours(NamedTuple):
    """Mean and deviation of each channel as the caller knows them, or None."""

    mean: Any = None
    std: Any = None


UNKNOWN = Colours()


@dataclass(frozen=True)
class ImageProcessing:
    """``(image * rescale - mean) / std`` of whole numbers to 255. Floats to 1 are taken as
    ``255 * image``. `size` is height and width of the images that the model was made for."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale: float = 1 / 255
    size: tuple[int, int] | None = None

    @classmethod
    def told(
        cls,
        settings: Settings,
        names: Sequence[str],
        size: tuple[int, int] | None,
        family: ImageFamily,
        channels: int,
        colours: Colours,
        rescale: float = 1 / 255,
    ) -> ImageProcessing:
        """With the colours given, else those that the settings have by these names, else those
        that the family usually has."""
        found = []
        for kind, name, given, usual in zip(
            Colours._fields, names, colours, family.colours(channels), strict=True
        ):
            if given is not None:
                found.append(_check_image_encoder.given_colours(kind, given, channels))
            else:
                if settings.values.get(name) is None and usual is None:
                    _check_image_encoder.no_colours(settings.path, name)
                found.append(settings.numbers(name, channels, usual))
        made = cls(*found, rescale, size)
        _check_image_encoder.scales(settings.path, names[1], made.std, made.numbers())
        return made

    @classmethod
    def read(
        cls, directory: Path, family: ImageFamily, channels: int, colours: Colours
    ) -> ImageProcessing:
        """As a file of Hugging Face's form says, or as models of the family usually have it."""
        settings = Settings.read_optional(directory / FILE)
        _check_image_encoder.not_flipped(settings.path, settings.flag(FLIPPED, False))
        rescale = settings.positive("rescale_factor", 1 / 255)
        if not settings.flag("do_rescale", True):
            rescale = 1.0
        if not settings.flag("do_normalize", True):
            usual = (0.0,) * channels, (1.0,) * channels
            pairs = zip(colours, usual, strict=True)
            colours = Colours(*(none if own is None else own for own, none in pairs))
        crop = settings.flag("do_center_crop", False)
        size = _size(settings.values.get("crop_size" if crop else "size"))
        return cls.told(
            settings, ("image_mean", "image_std"), size, family, channels, colours, rescale
        )

    def numbers(self) -> list[np.ndarray]:
        """What is subtracted, and what floats and whole numbers are multiplied with before."""
        mean, std = np.array(self.mean), np.array(self.std)
        with np.errstate(all="ignore"):  # `told` looks at them
            numbers = mean / std, 255 * self.rescale / std, self.rescale / std
            return [a.astype(np.float32) for a in numbers]

    def vectors(self, images: Sequence[np.ndarray], patch: int) -> np.ndarray:
        """Images (H, W, C) of one shape and any dtypes as (n, N, patch * patch * C) float32."""
        # As long as the vectors: a loop over three colours takes ten times as long.
        shift, scale, scale_of_whole = (np.tile(a, patch * patch) for a in self.numbers())
        height, width, _ = images[0].shape
        shape = len(images), height // patch * (width // patch), len(shift)
        vectors = np.empty(shape, np.float32)
        with np.errstate(all="ignore"):  # of tiny numbers, NaN and infinity: as IEEE 754 has it
            for image, own in zip(images, vectors, strict=True):
                whole = image.dtype == np.uint8
                np.multiply(to_vectors(image, patch), scale_of_whole if whole else scale, out=own)
            vectors -= shift
        return vectors


def _size(value: Any) -> tuple[int, int] | None:
    """Of both sides, where the file has them: the shorter one alone is no size of an image."""
    sides = (value, value)
    if isinstance(value, dict):
        sides = value.get("height"), value.get("width")
    return sides if all(type(side) is int and side > 0 for side in sides) else None
