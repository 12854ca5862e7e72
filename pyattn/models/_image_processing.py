"""What is done to the numbers of an image before they are multiplied: its scale and its colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyattn.images import to_vectors
from pyattn.models import _check_image_encoder
from pyattn.models._files import Settings
from pyattn.models._image_families import ImageFamily

FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class ImageProcessing:
    """``(image * rescale - mean) / std``, where `rescale` is for whole numbers only: floats are
    taken as rescaled. `size` is height and width of the images that the model was made for."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    rescale: float = 1 / 255
    size: tuple[int, int] | None = None

    @classmethod
    def read(cls, directory: Path, family: ImageFamily, channels: int) -> ImageProcessing:
        """As the file says, or as models of the family usually have it."""
        settings = Settings.read_optional(directory / FILE)
        rescale = settings.positive("rescale_factor", 1 / 255)
        if not settings.flag("do_rescale", True):
            rescale = 1.0
        mean, std = (0.0,) * channels, (1.0,) * channels
        if settings.flag("do_normalize", True):
            usual_mean, usual_std = family.colours(channels)
            mean = settings.numbers("image_mean", channels, usual_mean)
            std = settings.numbers("image_std", channels, usual_std)
        _check_image_encoder.deviations(settings.path, std)
        crop = settings.flag("do_center_crop", False)
        return cls(mean, std, rescale, _size(settings.values.get("crop_size" if crop else "size")))

    def vectors(self, images: Sequence[np.ndarray], patch: int) -> np.ndarray:
        """Images (H, W, C) of one shape and any dtypes as (n, N, patch * patch * C) float32."""
        mean, std = np.array(self.mean), np.array(self.std)
        # As long as the vectors: a loop over three colours takes ten times as long.
        shift, scale, scale_of_whole = (
            np.tile(a.astype(np.float32), patch * patch)
            for a in (mean / std, 1 / std, self.rescale / std)
        )
        height, width, _ = images[0].shape
        shape = len(images), height // patch * (width // patch), len(shift)
        vectors = np.empty(shape, np.float32)
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
