"""Tables of learned positions, resampled to other lengths and grids."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pyattn import _check, _check_encodings, _check_numbers


def resample_1d(
    table: Any, length: int, *, prefix: int = 0, method: str = "linear", antialias: bool = False
) -> np.ndarray:
    """A learned table for another number of positions, by interpolation along the positions.

    Parameters
    ----------
    table : array_like of float, (prefix + N, D)
        float16, bfloat16, float32 or float64; a row per position.
    length : int
        The new number of positions.
    prefix : int
        Rows at the beginning, as of class tokens, that are kept as they are.
    method : {"linear", "bicubic"}
        "bicubic" is what images get, along one axis.
    antialias : bool
        Whether to average over the positions that a new one stands for, when there are fewer.

    Returns
    -------
    ndarray, (prefix + length, D)
        A new array of the table's dtype, computed in float64. The same bits if `length` is N.

    Raises
    ------
    TypeError
        Another dtype; sizes that are not integers.
    ValueError
        A table that has not two axes, or fewer rows than `prefix`, or no position; an unknown
        method.

    See Also
    --------
    resample_2d : for grids, and for the formulas.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import positional
    >>> positional.resample_1d(np.array([[0.0], [1.0]]), 4).T
    array([[0.  , 0.25, 0.75, 1.  ]])
    """
    function = "resample_1d"
    table = _check_encodings.floats(function, "table", table, "positions, channels")
    length = _check_numbers.whole(function, "length", length)
    prefix = _check_numbers.whole(function, "prefix", prefix)
    _check_encodings.choice(function, "method", method, ("linear", "bicubic"))
    antialias = _check.flag(function, "antialias", antialias)
    positions = _check_encodings.rows_after(function, table, prefix)
    _check_encodings.not_from_nothing(function, (positions,), (length,))
    return _resampled(table, prefix, (positions, 1), (length, 1), method, antialias)


def resample_2d(
    table: Any,
    grid: tuple[int, int],
    new_grid: tuple[int, int],
    *,
    prefix: int = 1,
    method: str = "bicubic",
    antialias: bool = False,
    offset: float = 0.0,
) -> np.ndarray:
    """A learned table for another grid of patches, by interpolation of images.

    Parameters
    ----------
    table : array_like of float, (prefix + height * width, D)
        float16, bfloat16, float32 or float64; a row per patch, patches row by row.
    grid, new_grid : (height, width)
        The patches that the table is for, and those that are wanted.
    prefix : int
        Rows at the beginning, as of class tokens and registers, that are kept as they are.
    method : {"bicubic", "bilinear"}
    antialias : bool
        Whether to average over the patches that a new one stands for, when there are fewer. Also
        changes the bicubic kernel.
    offset : float
        Added to the new extents in the scale, within [0, 1). 0.1 for weights of DINOv2.

    Returns
    -------
    ndarray, (prefix + new_height * new_width, D)
        A new array of the table's dtype, computed in float64. The same bits if the grids are the
        same, with an offset as well.

    Raises
    ------
    TypeError
        Another dtype; sizes that are not integers.
    ValueError
        A table that does not fit the grid, or that has no patch; a grid that has not two axes; an
        unknown method; an offset out of range.

    Notes
    -----
    New patch i is at ``x = scale * (i + 0.5)`` on the axis on which old patch j is at ``j + 0.5``,
    with ``scale = extent / (new_extent + offset)``: ``interpolate(align_corners=False)`` of
    PyTorch. Old patches count by a kernel of ``abs(x - j - 0.5)``, the triangle or the cubic
    convolution of Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing", IEEE
    TASSP 29 (6), with ``a = -0.75``. The outermost patches continue beyond the border.

    With `antialias` the kernel, of ``a = -0.5``, is as much wider as there are fewer patches, and
    ends at the border; the weights are normalised.

    Vision transformers (Dosovitskiy et al. 2021, section 3.2, arXiv 2010.11929) differ in this:
    most are resampled as here by default; timm's models have ``antialias=True``; DINOv2 (Oquab et
    al. 2023, arXiv 2304.07193) has ``offset=0.1``, and with registers ``antialias=True`` and no
    offset.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import positional
    >>> table = np.zeros((1 + 14 * 14, 768), np.float32)
    >>> positional.resample_2d(table, (14, 14), (24, 32)).shape
    (769, 768)
    >>> ramp = np.arange(4.0)[:, None]
    >>> positional.resample_2d(ramp, (1, 4), (1, 2), prefix=0, method="bilinear").T
    array([[0.5, 2.5]])
    """
    function = "resample_2d"
    table = _check_encodings.floats(function, "table", table, "positions, channels")
    old = _check_encodings.grid(function, "grid", grid)
    new = _check_encodings.grid(function, "new_grid", new_grid)
    prefix = _check_numbers.whole(function, "prefix", prefix)
    _check_encodings.choice(function, "method", method, ("bicubic", "bilinear"))
    antialias = _check.flag(function, "antialias", antialias)
    offset = _check_encodings.offset(function, offset)
    _check_encodings.rows_of_grid(function, table, prefix, old)
    _check_encodings.not_from_nothing(function, old, new)
    return _resampled(table, prefix, old, new, method, antialias, offset)


def _resampled(
    table: np.ndarray,
    prefix: int,
    old: tuple[int, int],
    new: tuple[int, int],
    method: str,
    antialias: bool,
    offset: float = 0.0,
) -> np.ndarray:
    result = np.empty((prefix + math.prod(new), table.shape[1]), table.dtype)
    result[:prefix] = table[:prefix]
    patches = result[prefix:]
    if new == old:  # DINOv2 does nothing then either, whatever the offset
        patches[...] = table[prefix:]
    elif patches.size:
        down, across = (
            _weights(n, m, method, antialias, offset) for n, m in zip(old, new, strict=True)
        )
        image = table[prefix:].astype(np.float64).reshape(*old, -1)
        patches[...] = (across @ np.tensordot(down, image, 1)).reshape(patches.shape)
    return result


def _weights(
    extent: int, new_extent: int, method: str, antialias: bool, offset: float
) -> np.ndarray:
    """How much every old position counts for every new one, (new_extent, extent)."""
    kernel = _kernel(method, antialias)
    if extent == new_extent and (antialias or kernel is _triangle):
        offset = 0.0  # of all methods of PyTorch only plain bicubic moves such an axis
    scale = extent / (new_extent + offset)
    centre = scale * (np.arange(new_extent)[:, None] + 0.5) - 0.5
    if antialias:
        weights = kernel(np.abs(np.arange(extent) - centre) / max(scale, 1.0))
        return weights / weights.sum(axis=1, keepdims=True)
    # The four that may be within reach; those beyond the border are the outermost once more.
    near = np.floor(centre) + np.arange(-1, 3)
    weights = np.zeros((new_extent, extent))
    at = np.arange(new_extent)[:, None], np.clip(near, 0, extent - 1).astype(np.intp)
    np.add.at(weights, at, kernel(np.abs(near - centre)))
    return weights


def _kernel(method: str, antialias: bool) -> Callable[[np.ndarray], np.ndarray]:
    if method != "bicubic":
        return _triangle
    # PyTorch took the two constants over from different sources, OpenCV and Pillow.
    return partial(_cubic, a=-0.5 if antialias else -0.75)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))
