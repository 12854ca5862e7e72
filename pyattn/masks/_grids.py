"""Masks over the pixels of an image, row by row.

One pixel sees another if a rule along each axis says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check_numbers
from pyattn._pieces import Match, Repeated, Span
from pyattn.masks._mask import Axis, Grid, Mask, Primitive


def _axis(first: np.ndarray, last: np.ndarray, step: int) -> Axis:
    spans = np.stack([first, last], axis=-1).astype(np.int64)
    spans.flags.writeable = False
    return Axis(spans, step)


def _separable(name: str, extents: tuple[int, ...], axes: list[Axis]) -> Mask:
    """The mask of a grid of one or two axes.

    A hull of each pixel's keys, a table for the places within a row, and ids if rows are skipped.
    These say it all: a key within the hull that is in a permitted place of its row cannot be in
    a row above the first or below the last. Hence no table of rows, of which there may be many.

    Besides the axes themselves, for calls that can go by them. A mask that is all hull needs none,
    and one by which each pixel sees itself alone would be made of as many patches as pixels.
    """
    shown = [axis for axis, n in zip(axes, extents, strict=True) if n != 1]
    trivial = _axis(np.zeros(1), np.ones(1), 1)
    down, across = [*shown, trivial, trivial][:2]  # a single axis is a column
    height, width = len(down.spans), len(across.spans)

    first = (down.spans[:, None, 0] * width + across.spans[:, 0]).ravel()
    last = ((down.spans[:, None, 1] - 1) * width + across.spans[:, 1]).ravel()
    pieces: tuple[Any, ...] = Span.unless_all(np.stack([first, last], axis=-1), height * width)
    hull = len(pieces)
    table = _table(across)
    if not table.all():
        pieces += (Repeated(table[None, :, None, :], (height, width, height, width)),)
    if down.step > 1:
        rows = np.repeat(np.arange(height, dtype=np.int32) % down.step, width)
        pieces += (Match(rows, rows),)
    alone = all((np.diff(axis.spans) == 1).all() for axis in (down, across))
    grid = Grid(down, across) if len(pieces) > hull and not alone else None
    return Primitive(name, (height * width,) * 2, pieces, grid)


def _table(axis: Axis) -> np.ndarray:
    """Which places see which, (n, n)."""
    place = np.arange(len(axis.spans))
    inside = (axis.spans[:, :1] <= place) & (place < axis.spans[:, 1:])
    return inside & ((place - place[:, None]) % axis.step == 0)


def neighborhood(
    grid: int | tuple[int, ...],
    kernel_size: int | tuple[int, ...],
    *,
    dilation: int | tuple[int, ...] = 1,
    causal: bool | tuple[bool, ...] = False,
) -> Mask:
    """Neighborhood attention: each pixel sees the kernel_size x kernel_size pixels around it.

    At the border of the image the window is shifted inside, so that all pixels see equally many.

    Parameters
    ----------
    grid : int, (W,) or (height, width)
        The L = S pixels, numbered row by row.
    kernel_size : int or one per axis
        Odd. Along a causal axis any number.
    dilation : int or one per axis, default 1
        See every `dilation`-th pixel only, counted from the own one; at the border the window is
        shifted inside by that step. ``kernel_size * dilation`` must not exceed the extent.
    causal : bool or one per axis, default False
        See the own place and the ``kernel_size - 1`` steps before it, fewer at the border.

    Returns
    -------
    Mask, (L, L)

    Raises
    ------
    TypeError
        Not integers; `causal` not bool.
    ValueError
        More than two axes, an even kernel, one that does not fit the grid.

    Notes
    -----
    Hassani et al. 2023, "Neighborhood Attention Transformer", arXiv 2204.07143; with dilation,
    Hassani and Shi 2022, arXiv 2209.15001. Takes two numbers per pixel and width x width bytes.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.neighborhood((3, 4), (1, 3))
    <mask neighborhood (12, 12)>
    ###.........
    ###.........
    .###........
    .###........
    ....###.....
    ....###.....
    .....###....
    .....###....
    ........###.
    ........###.
    .........###
    .........###
    """
    name = "neighborhood"
    extents = _check_numbers.grid(name, grid)
    kernels = _check_numbers.per_axis(name, "kernel_size", kernel_size, extents, 1)
    steps = _check_numbers.per_axis(name, "dilation", dilation, extents, 1)
    causals = _check_numbers.flag_per_axis(name, "causal", causal, extents)
    axes = []
    for n, kernel, step, one_sided in zip(extents, kernels, steps, causals, strict=True):
        if not one_sided:
            _check_numbers.kernel_fits(name, kernel, step, n)
        axes.append((_earlier if one_sided else _around)(n, min(kernel, n + 1), min(step, n + 1)))
    return _separable(name, extents, axes)


def _around(extent: int, kernel: int, step: int) -> Axis:
    """`kernel` places around each, all of the same remainder by `step`, shifted inside."""
    place = np.arange(extent)
    remainder, n = place % step, place // step  # n-th of the places of that remainder
    count = (extent - remainder + step - 1) // step
    n = np.clip(n - kernel // 2, 0, count - kernel)
    return _axis(remainder + step * n, remainder + step * (n + kernel - 1) + 1, step)


def _earlier(extent: int, kernel: int, step: int) -> Axis:
    """Each place and the `kernel` - 1 before it, in steps."""
    place = np.arange(extent)
    n = np.minimum(kernel - 1, place // step)  # so many steps are there before it
    return _axis(place - step * n, place + 1, step)


def grid_windows(
    grid: int | tuple[int, ...],
    window: int | tuple[int, ...],
    shift: int | tuple[int, ...] = 0,
) -> Mask:
    """The windows of a Swin transformer: each pixel sees those in the same window.

    Parameters
    ----------
    grid : int, (W,) or (height, width)
        The L = S pixels, numbered row by row.
    window : int or one per axis
        Extents of a window. Those at the border are cut off if they do not fit.
    shift : int or one per axis, default 0
        Less than the window. The windows begin here instead of at 0, and what comes before is a
        smaller window of its own: [0, shift), [shift, shift + window), ...

    Returns
    -------
    Mask, (L, L)

    Raises
    ------
    TypeError
        Not integers.
    ValueError
        More than two axes, an empty window, a shift that is negative or not less than the window.

    Notes
    -----
    Liu et al. 2021, "Swin Transformer", section 3.2, arXiv 2103.14030. There the image is rolled
    by -shift, cut into windows, and a mask parts what came around the border from the rest; the
    windows which that leaves are these, without rolling.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.grid_windows(5, 2, shift=1)
    <mask grid_windows (5, 5)>
    #....
    .##..
    .##..
    ...##
    ...##
    """
    name = "grid_windows"
    extents = _check_numbers.grid(name, grid)
    windows = _check_numbers.per_axis(name, "window", window, extents, 1)
    shifts = _check_numbers.per_axis(name, "shift", shift, extents, 0)
    axes = []
    for n, width, offset in zip(extents, windows, shifts, strict=True):
        _check_numbers.shift(name, offset, width)
        axes.append(_windows(n, width, offset))
    return _separable(name, extents, axes)


def _windows(extent: int, width: int, shift: int) -> Axis:
    first = (np.arange(extent) - shift) // width * width + shift
    return _axis(np.maximum(first, 0), np.minimum(first + width, extent), 1)
