"""Biases that depend on where a pixel stands as seen from another."""

from __future__ import annotations

import numpy as np

from pyattn.biases import Bias, relative, relative_grid


def offset_bias(
    table: np.ndarray, grid: tuple[int, ...], steps: tuple[int, ...], fill: float = 0.0
) -> Bias:
    """The bias over a grid of one or two axes that a small table of offsets stands for.

    The table is (heads, an odd number per axis). Its middle is for the query's own pixel, an entry
    further on in an axis for a key that is `steps` further on there. All other offsets get `fill`.
    """
    wide = np.full((len(table), *(2 * n - 1 for n in grid)), fill, table.dtype)
    inner, own = [slice(None)], [slice(None)]
    for n, size, step in zip(grid, table.shape[1:], steps, strict=True):
        reach = min(size // 2, (n - 1) // step)  # further offsets lie outside of the image
        inner.append(slice(n - 1 - reach * step, n + reach * step, step))
        own.append(slice(size // 2 - reach, size // 2 + reach + 1))
    wide[tuple(inner)] = table[tuple(own)]
    if len(grid) == 1:
        return relative(wide, grid[0])
    # relative_grid takes query minus key. It is handed the same memory from its other end, so that
    # what the kernel reads from one key to the next lies one behind the other.
    return relative_grid(wide[:, ::-1, ::-1], grid)
