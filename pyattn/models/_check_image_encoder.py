"""Words the errors of image encoders: of their files, and of the images that they are given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pyattn._check_numbers import is_masked
from pyattn.models import _check_files, _check_models
from pyattn.models._errors import BrokenFileError, TensorError, UnsupportedModelError

LARGEST_FLOAT = 10.0  # of an image of 0 to 1, whatever filters and noise have done to it
LARGEST_FLOAT32 = np.finfo(np.float32).max.item()
LARGEST_SIZE = 2**31  # of vectors: no model has nearly as many numbers for a token

# Of the files


def patches_of_settings(path: Path, image: tuple[int, int], patch: tuple[int, int]) -> None:
    if patch[0] != patch[1]:
        _check_files.unsupported(path, "patch_size", list(patch), ["squares"])
    if min(image) < patch[0]:
        _check_files.setting(path, "image_size", f"at least a patch of {patch[0]}", list(image))


def not_flipped(path: Path, flipped: bool) -> None:
    if flipped:
        _check_files.unsupported(path, "do_flip_channel_order", True, [False])


def no_colours(path: Path, name: str) -> NoReturn:
    raise BrokenFileError(
        f"{path}: {name} is missing; if you know it: from_pretrained(path, mean=[...], std=[...])"
    )


def scales(path: Path, name: str, std: Sequence[float], numbers: Iterable[np.ndarray]) -> None:
    """`numbers` are those, in float32, that images are multiplied with, and what is subtracted."""
    if not all(s > 0 for s in std):
        _check_files.setting(path, name, "numbers above 0", list(std))
    if not all(np.isfinite(each).all() for each in numbers):
        raise BrokenFileError(
            f"{path}: mean, std or rescale_factor lead to numbers that are too large for float32; "
            f"std is {list(std)!r:.80}"
        )


def given_colours(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """`mean` or `std` as an argument."""
    function = "from_pretrained"
    try:
        a = np.asarray(value)
    except ValueError:  # lists of different lengths
        a = np.empty((), object)
    if a.dtype.kind not in "iuf":
        raise TypeError(f"{function}: {name} must be a list of numbers, got {value!r:.80}")
    if a.shape != (channels,):
        raise ValueError(
            f"{function}: {name} must be {channels} numbers, one of each channel, got {a.shape}"
        )
    if not np.isfinite(a).all() or (name == "std" and not (a > 0).all()):
        rule = "finite and above 0" if name == "std" else "finite"
        raise ValueError(f"{function}: {name} must be {rule}, got {value!r:.80}")
    return tuple(map(float, a))


def epsilon(path: Path, name: str, value: float) -> None:
    if not 0 < value <= LARGEST_FLOAT32:
        _check_files.setting(path, name, "a float32 above 0", value)


def inner_size(path: Path, hidden: int, ratio: float) -> int:
    """Of the linear maps of a layer."""
    if hidden > LARGEST_SIZE:
        _check_files.setting(path, "hidden_size", f"at most {LARGEST_SIZE}", hidden)
    if not 1 <= hidden * ratio <= LARGEST_SIZE:
        rule = f"a number that makes 1 to {LARGEST_SIZE} of the hidden size {hidden}"
        _check_files.setting(path, "mlp_ratio", rule, ratio)
    return int(hidden * ratio)


def heads_of(path: Path, hidden: int, head_dim: int) -> None:
    if head_dim < 1 or hidden % head_dim:
        raise BrokenFileError(f"{path}: heads of {head_dim} do not divide the size {hidden}")


def sized(path: Path, entries: Mapping[str, Any], name: str, axes: int) -> tuple[int, ...]:
    """The shape of a tensor that tells sizes."""
    if name not in entries:
        raise TensorError(f"{path}: {name} is missing; expected with {axes} axes")
    shape = entries[name].shape
    if len(shape) != axes or min(shape) < 1:
        raise TensorError(f"{path}: {name} has the shape {shape}, expected {axes} axes")
    return shape


def grid_of(
    path: Path, name: str, rows: int, found: Sequence[tuple[int, tuple[int, int]]]
) -> tuple[int, tuple[int, int]]:
    """The first pair of tokens with positions before those of patches, and the grid of these."""
    for pair in found:
        return pair
    raise TensorError(f"{path}: {name} has {rows} rows, which are those of no square of patches")


def architecture(path: Path, found: str, known: Collection[str]) -> NoReturn:
    raise UnsupportedModelError(
        f"{path}: architecture {found:.120} is not supported; supported: {', '.join(known)}"
    )


# Of the images


def images(function: str, value: Any) -> Iterable[Any]:
    several = _check_models.several(function, "images", value, "[image]")
    axes = getattr(value, "ndim", 4)
    if axes == 1 and value.dtype == object:  # an array or a pandas.Series of images
        return several
    if axes != 4:
        shape = tuple(value.shape)
        remedy = ": use images[None] for one image" if axes == 3 else ""
        raise ValueError(
            f"{function}: images must be (n, height, width, channels) or a list of images, "
            f"got {shape}{remedy}"
        )
    return several


def image(
    function: str, name: str, value: Any, channels: int, patch: int, size: tuple[int, int]
) -> np.ndarray:
    """One image (H, W, C) whose patches are whole; `size` is that of the model's own images."""
    if is_masked(value):
        raise TypeError(f"{function}: {name} must not be a masked array")
    try:
        a = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{function}: {name} is not an image: {error}") from None
    if a.dtype != np.uint8 and a.dtype.kind != "f":
        raise TypeError(
            f"{function}: {name} must be uint8 (0 to 255) or floating point (0 to 1), got {a.dtype}"
        )
    if a.ndim != 3:
        remedy = _of_pillow(value, channels)
        if a.ndim == 2 and not remedy:
            grey = "image[..., None]" if channels == 1 else "numpy.stack([image] * 3, axis=-1)"
            remedy = f": for shades of grey use {grey}"
        elif a.ndim == 4:
            remedy = ": these are several images, take them out of the inner list"
        raise ValueError(
            f"{function}: {name} must be (height, width, channels), got {a.shape}{remedy}"
        )
    if a.shape[2] != channels:
        remedy = _of_pillow(value, channels)
        if not remedy and a.shape[0] == channels:
            remedy = ": channels come last, use image.transpose(1, 2, 0)"
        elif not remedy and a.shape[2] == channels + 1:
            remedy = f": without transparency it is image[..., :{channels}]"
        raise ValueError(
            f"{function}: {name} {a.shape} has {a.shape[2]} channels, "
            f"the model takes {channels}{remedy}"
        )
    if 0 in a.shape or a.shape[0] % patch or a.shape[1] % patch:
        raise ValueError(
            f"{function}: {name} {a.shape}: height and width must be multiples of {patch}, and not "
            f"0; the model was made for {size[0]} x {size[1]}: resize the image, for example with "
            f"Pillow's Image.resize(({size[1]}, {size[0]}))"
        )
    largest = 0 if a.dtype == np.uint8 else max(a.max(), -a.min())
    if largest > LARGEST_FLOAT:
        raise ValueError(
            f"{function}: {name} has numbers as large as {largest:g}: floats are 0 to 1; "
            "divide them, or use image.astype(numpy.uint8) if they are 0 to 255"
        )
    return a


def _of_pillow(image: Any, channels: int) -> str:
    """What to do with an image of the package Pillow whose numbers are not colours or shades."""
    mode = {1: "L", 3: "RGB"}.get(channels)
    if mode is None or getattr(image, "mode", mode) == mode or not hasattr(image, "convert"):
        return ""
    return f": its mode is {image.mode}, use image.convert({mode!r})"


def one_size(function: str, images: Sequence[np.ndarray]) -> None:
    if not images:
        raise ValueError(f"{function}: there are no images, and so no size of the result")
    for n, other in enumerate(images):
        if other.shape != images[0].shape:
            raise ValueError(
                f"{function}: images must have one size, got {images[0].shape} and, images[{n}], "
                f"{other.shape}: call it for each size, or use encode"
            )
