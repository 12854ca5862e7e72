"""Words the errors of image encoders: of their files, and of the images that they are given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pyattn._check_numbers import is_masked
from pyattn.models import _check_files, _check_models
from pyattn.models._errors import BrokenFileError, TensorError, UnsupportedModelError

LARGEST_FLOAT = 10.0  # of an image of 0 to 1, whatever filters and noise have done to it

# Of the files


def patches_of_settings(path: Path, image: tuple[int, int], patch: tuple[int, int]) -> None:
    if patch[0] != patch[1]:
        _check_files.unsupported(path, "patch_size", list(patch), ["squares"])
    if min(image) < patch[0]:
        _check_files.setting(path, "image_size", f"at least a patch of {patch[0]}", list(image))


def deviations(path: Path, std: Sequence[float]) -> None:
    if not all(s > 0 for s in std):
        _check_files.setting(path, "image_std", "numbers above 0", list(std))


def heads_of(path: Path, hidden: int, head_dim: int) -> None:
    if head_dim < 1 or hidden % head_dim:
        raise BrokenFileError(f"{path}: heads of {head_dim} do not divide the size {hidden}")


def sized(path: Path, entries: Mapping[str, Any], name: str, axes: int) -> tuple[int, ...]:
    """The shape of a tensor that tells sizes."""
    if name not in entries:
        raise TensorError(f"{path}: {name} is missing; expected with {axes} axes")
    shape = entries[name].shape
    if len(shape) != axes or 0 in shape:
        raise TensorError(f"{path}: {name} has the shape {shape}, expected {axes} axes")
    return shape


def square(path: Path, name: str, rows: int, found: Mapping[int, int]) -> tuple[int, int]:
    """The first pair of tokens with positions before those of patches, and the side of these."""
    for pair in found.items():
        return pair
    raise TensorError(f"{path}: {name} has {rows} rows, which are those of no square of patches")


def architecture(path: Path, found: str, known: Collection[str]) -> NoReturn:
    raise UnsupportedModelError(
        f"{path}: architecture {found:.120} is not supported; supported: {', '.join(known)}"
    )


# Of an ONNX file


def onnx_model(path: Path, read: Callable[[], Any]) -> Any:
    """What the package `onnx` makes of a file."""
    with path.open("rb") as file:
        start = file.read(64)
    try:
        model = read()
    except (KeyboardInterrupt, MemoryError, OSError):
        raise
    except Exception as error:  # those of protobuf, whose classes differ with its version
        first = str(error).split("\n")[0]
        raise BrokenFileError(
            f"{path}: is not an ONNX file{_check_files.hint(start)}: {first}"
        ) from None
    if not model.graph.node:
        raise BrokenFileError(f"{path}: is not an ONNX file: it has no graph")
    names = [tensor.name for tensor in model.graph.initializer]
    for node in model.graph.node:
        names += [node.op_type, *node.input, *node.output, *(a.name for a in node.attribute)]
    for name in names:
        if not isinstance(name, str):
            raise BrokenFileError(f"{path}: has a name that is not UTF-8, {name!r:.80}")
    return model


def onnx_tensor(path: Path, name: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # of a type that it has not heard of it says KeyError
        raise BrokenFileError(f"{path}: {name}: {type(error).__name__}: {error}") from None


def external(path: Path, name: str) -> NoReturn:
    raise UnsupportedModelError(
        f"{path}: {name} lies in another file; save the model with its weights in one file"
    )


def not_a_vision_transformer(path: Path, why: str) -> NoReturn:
    raise UnsupportedModelError(f"{path}: is not the graph of a vision transformer: {why}")


def one_value(path: Path, what: str, values: Collection[Any]) -> Any:
    """That which all layers have; None is of one that tells nothing that is known."""
    if len(values) != 1 or None in values:
        found = " and ".join(sorted("not known" if v is None else str(v) for v in values))
        not_a_vision_transformer(path, f"{what} is {found or 'not known'}")
    return next(iter(values))


# Of the images


def images(function: str, value: Any) -> Iterable[Any]:
    several = _check_models.several(function, "images", value, "[image]")
    axes = getattr(value, "ndim", 4)
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
        remedy = ": for shades of grey use numpy.stack([image] * 3, axis=-1)" if a.ndim == 2 else ""
        raise ValueError(
            f"{function}: {name} must be (height, width, channels), got {a.shape}{remedy}"
        )
    if a.shape[2] != channels:
        remedy = ""
        if a.shape[0] == channels:
            remedy = ": channels come last, use image.transpose(1, 2, 0)"
        elif a.shape[2] == channels + 1:
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


def one_size(function: str, images: Sequence[np.ndarray]) -> None:
    if not images:
        raise ValueError(f"{function}: there are no images, and so no size of the result")
    for n, other in enumerate(images):
        if other.shape != images[0].shape:
            raise ValueError(
                f"{function}: images must have one size, got {images[0].shape} and, images[{n}], "
                f"{other.shape}: call it for each size, or use encode"
            )
