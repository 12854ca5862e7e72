"""Words the errors of images: patches, windows, neighbourhoods, kernels of convolutions.

Kinds and dtypes raise `TypeError`, shapes and ranges `ValueError`. A message names the function,
the argument, the extents met and the rule.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyattn import _check
from pyattn._check_encodings import floats, positive
from pyattn._check_numbers import grid as grid_extents
from pyattn._check_numbers import is_masked, whole
from pyattn._check_numbers import kernel_fits as axis_fits
from pyattn._check_numbers import shift as less_than_window
from pyattn._check_weights import Weights

# Images and vectors.


def _array(function: str, name: str, value: Any, axes: str, least: int) -> np.ndarray:
    if is_masked(value):
        raise TypeError(
            f"{function}: {name} is a masked array; its mask would be lost: use {name}.filled(0)"
        )
    a = np.asarray(value)
    if a.ndim < least:
        raise ValueError(f"{function}: {name} must be (..., {axes}), got {a.shape}")
    return a


def image(function: str, value: Any) -> np.ndarray:
    return _array(function, "image", value, "height, width, channels", 3)


def vectors(function: str, value: Any) -> np.ndarray:
    return _array(function, "vectors", value, "vectors, numbers", 2)


def patches_divide(function: str, extents: tuple[int, int], patch: tuple[int, ...]) -> None:
    if any(n % p for n, p in zip(extents, patch, strict=True)):
        smaller = tuple(n // p * p for n, p in zip(extents, patch, strict=True))
        cut = f"cut it to {smaller}, or " if all(smaller) else ""
        raise ValueError(
            f"{function}: patches of {patch} do not divide an image of {extents} pixels: "
            f"{cut}pad it to {_next(extents, patch)}"
        )


def _next(extents: tuple[int, ...], parts: tuple[int, ...]) -> tuple[int, ...]:
    """The next larger multiples."""
    return tuple(-(-n // p) * p for n, p in zip(extents, parts, strict=True))


def vectors_fit(
    function: str, shape: tuple[int, ...], grid: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    if shape[-2] != math.prod(grid):
        raise ValueError(
            f"{function}: vectors {shape} has {shape[-2]} vectors, a grid of {grid} needs "
            f"{math.prod(grid)}"
        )
    if shape[-1] % math.prod(patch):
        raise ValueError(
            f"{function}: vectors {shape} has vectors of {shape[-1]} numbers, which are no whole "
            f"channels for the {math.prod(patch)} pixels of a patch of {patch}"
        )


def grid_of(function: str, shape: tuple[int, ...], grid: Any, axes: int) -> tuple[int, ...]:
    """The extents of the pixels: as given, or as the axes of x before its channels."""
    if grid is None:
        if len(shape) < axes + 1:
            raise ValueError(
                f"{function}: x must be (..., {'height, width' if axes == 2 else 'length'}, "
                f"{shape[-1]}), got {shape}: if its pixels are one axis, give grid="
            )
        return shape[-1 - axes : -1]
    extents = grid_extents(function, grid, axes=(axes,))
    if len(shape) < 2 or shape[-2] != math.prod(extents):
        raise ValueError(
            f"{function}: x must be (..., {math.prod(extents)}, {shape[-1]}) for a grid of "
            f"{extents}, got {shape}"
        )
    return extents


# Numbers, one per axis.


def per_axis(function: str, name: str, value: Any, axes: int, low: int) -> tuple[int, ...]:
    """Whole numbers; a single one stands for all axes."""
    return tuple(whole(function, name, v, low) for v in _each(function, name, value, axes))


def flag_per_axis(function: str, name: str, value: Any, axes: int) -> tuple[bool, ...]:
    return tuple(_check.flag(function, name, v) for v in _each(function, name, value, axes))


def _each(function: str, name: str, value: Any, axes: int) -> tuple[Any, ...]:
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(given) != axes:
        raise ValueError(
            f"{function}: {name} must be one value{' or two' * (axes == 2)}, got {value!r}"
        )
    return given


def kernel_size(function: str, value: Any) -> tuple[int, ...]:
    given = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(given) not in (1, 2):
        raise ValueError(
            f"{function}: kernel_size must be one number, (height, width), or (k,) for sequences, "
            f"got {value!r}"
        )
    return tuple(whole(function, "kernel_size", v, 1) for v in given)


def shift(function: str, value: Any, window: tuple[int, ...]) -> tuple[int, ...]:
    found = per_axis(function, "shift", value, len(window), 0)
    for offset, width in zip(found, window, strict=True):
        less_than_window(function, offset, width)
    return found


# Windows and neighbourhoods.


def windows_divide(function: str, grid: tuple[int, ...], window: tuple[int, ...]) -> None:
    if any(w > n for n, w in zip(grid, window, strict=True)):
        within = tuple(min(n, w) for n, w in zip(grid, window, strict=True))
        raise ValueError(
            f"{function}: windows of {window} are larger than an image of {grid} pixels: pad it to "
            f"{_next(grid, window)}, or use a layer with windows of {within} and no shift"
        )
    if any(n % w for n, w in zip(grid, window, strict=True)):
        raise ValueError(
            f"{function}: windows of {window} do not divide an image of {grid} pixels: pad it with "
            f"zeros to {_next(grid, window)}, as Swin does, and cut the result to {grid}"
        )


def odd_kernel(function: str, kernel: tuple[int, ...], causal: tuple[bool, ...]) -> None:
    for size, one_sided in zip(kernel, causal, strict=True):
        if not one_sided:
            axis_fits(function, size, 1, 0)  # no extent yet


def kernel_fits(
    function: str,
    grid: tuple[int, ...],
    kernel: tuple[int, ...],
    dilation: tuple[int, ...],
    causal: tuple[bool, ...],
) -> None:
    for n, size, step, one_sided in zip(grid, kernel, dilation, causal, strict=True):
        if not one_sided:
            axis_fits(function, size, step, n)


# Their tables, as checkpoints have them.


def table_axes(weights: Weights, role: str, axes: str) -> None:
    if weights[role].ndim != axes.count(",") + 1:
        raise ValueError(
            f"{weights.function}: {weights.names[role]} must be ({axes}), got {weights[role].shape}"
        )


def square_window(weights: Weights) -> tuple[int, int]:
    """The window that the table is for."""
    if "swin_table" not in weights.arrays:
        raise ValueError(
            f"{weights.function}: window= is needed: there is no relative_position_bias_table"
        )
    rows = len(weights["swin_table"])
    extent = (math.isqrt(rows) + 1) // 2
    if (2 * extent - 1) ** 2 != rows:
        raise ValueError(
            f"{weights.function}: window= is needed: {weights.called('swin_table')} has {rows} "
            "rows, which are those of no square window"
        )
    return extent, extent


def window_table(weights: Weights, window: tuple[int, ...], heads: int) -> None:
    need = (math.prod(2 * n - 1 for n in window), heads)
    if weights["swin_table"].shape != need:
        raise ValueError(
            f"{weights.function}: {weights.called('swin_table')} must be {need}, a row for each "
            f"distance in windows of {window} and a column per head"
        )


def heads_of_table(weights: Weights) -> int:
    shape = weights["nat_table"].shape
    if len(shape) not in (2, 3) or not all(n % 2 for n in shape[1:]):
        raise ValueError(
            f"{weights.function}: {weights.names['nat_table']} must be (heads, 2 * height - 1, "
            f"2 * width - 1) or (heads, 2 * k - 1), got {shape}"
        )
    return shape[0]


def kernel_of_table(weights: Weights) -> tuple[int, ...]:
    if "nat_table" not in weights.arrays:
        raise ValueError(f"{weights.function}: kernel_size= is needed: there is no rpb")
    return tuple((n + 1) // 2 for n in weights["nat_table"].shape[1:])


def neighborhood_table(weights: Weights, kernel: tuple[int, ...], heads: int) -> None:
    need = (heads, *(2 * k - 1 for k in kernel))
    if weights["nat_table"].shape != need:
        raise ValueError(
            f"{weights.function}: {weights.called('nat_table')} must be {need}, a number for each "
            f"head and offset in a neighbourhood of {kernel}"
        )


# Convolutions.


def conv_kernel(function: str, value: Any) -> np.ndarray:
    a = floats(function, "kernel", value)
    if a.ndim != 4 or 0 in a.shape:
        raise ValueError(
            f"{function}: kernel must be (height, width, C_in, C_out), got {a.shape}: PyTorch's is "
            "weight.transpose(2, 3, 1, 0), a filter for one channel filter[:, :, None, None]"
        )
    if not (a.shape[0] % 2 and a.shape[1] % 2):
        raise ValueError(
            f"{function}: kernel must have odd height and width, or else it has no centre, "
            f"got {a.shape}"
        )
    return a


def conv_bias(function: str, value: Any, kernel: tuple[int, ...]) -> np.ndarray | None:
    if value is None:
        return None
    a = floats(function, "bias", value)
    if a.shape != kernel[-1:]:
        raise ValueError(
            f"{function}: bias must be ({kernel[-1]},) for the C_out of kernel {kernel}, "
            f"got {a.shape}"
        )
    return a


def sharpness(function: str, value: Any) -> float | None:
    return None if value is None else positive(function, "sharpness", value)
