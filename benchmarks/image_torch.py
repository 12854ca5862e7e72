"""Attention over pixels in PyTorch: with a dense mask, with a window for each pixel, in tiles.

PyTorch is imported by the calls that need it, since it may not be there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.image_cases import Axis, Case, Inputs
from benchmarks.measuring import Call

MASKED = 1 << 26  # pairs that a dense mask may have
PIECES = (1 << 19, 1 << 22)  # numbers of the windows that are gathered at a time
ALL_AT_ONCE = 1 << 27  # numbers, half a GiB
TILES = {1: [(1, 64), (1, 128), (1, 256)], 2: [(8, 8), (16, 16)]}  # by the axes of the grid


def run_torch(case: Case, x: Inputs, threads: int) -> list[Call]:
    """With a mask of bools, and with one that is added."""
    import torch

    torch.set_num_threads(threads)
    attend = torch.nn.functional.scaled_dot_product_attention
    q, k, v = (torch.from_numpy(a) for a in (x.q, x.k, x.v))
    if case.pixels**2 > MASKED:
        return []
    dense = [None]
    if case.kernel:
        down, across = (
            a.sees(np.arange(a.extent)[:, None], np.arange(a.extent)) for a in case.plane
        )
        mask = down[:, None, :, None] & across[None, :, None, :]
        mask = torch.from_numpy(mask.reshape(case.pixels, case.pixels))
        dense = [mask, torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)]

    def with_mask(mask: Any) -> Call:
        def call() -> np.ndarray:
            with torch.inference_mode():
                return attend(q, k, v, attn_mask=mask).numpy()

        return call

    return [with_mask(mask) for mask in dense]


class Grids:
    """Pixels as grids without dilation: one for every head, and for every remainder by it."""

    def __init__(self, case: Case) -> None:
        self.steps = [axis.dilation for axis in case.plane]
        self.axes = [Axis(a.extent // a.dilation, a.kernel, 1, a.causal) for a in case.plane]
        self.heads, self.size = case.heads, case.size

    def of(self, x: np.ndarray) -> Any:
        """(1, heads, pixels, size) as (grids, height, width, size)."""
        import torch

        (down, across), (y, x_) = self.axes, self.steps
        x = torch.from_numpy(x).view(self.heads, down.extent, y, across.extent, x_, self.size)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, down.extent, across.extent, self.size)

    def back(self, x: Any) -> np.ndarray:
        (down, across), (y, x_) = self.axes, self.steps
        x = x.view(self.heads, y, x_, down.extent, across.extent, self.size)
        return x.permute(0, 3, 1, 4, 2, 5).reshape(1, self.heads, -1, self.size).numpy()


def run_unfold(case: Case, x: Inputs, threads: int) -> list[Call]:
    """A window of keys for each pixel: for all at once, as `unfold` shows them, or row by row of a
    window for some pixels at a time."""
    import torch

    if not case.kernel:
        return []
    torch.set_num_threads(threads)
    grids = Grids(case)
    down, across = grids.axes
    firsts = [torch.from_numpy(axis.first) for axis in grids.axes]
    rows, columns = (axis.first[:, None] + np.arange(axis.kernel) for axis in grids.axes)
    numbers = rows[:, None, :, None] * across.extent + columns[None, :, None, :]
    numbers = torch.from_numpy(numbers.reshape(down.extent * across.extent, -1))
    pixels, kernel = numbers.shape
    added = torch.zeros(pixels, 1, kernel)
    if case.causal:
        shown = (rows <= down.last[:, None])[:, None, :, None]
        shown = shown & (columns <= across.last[:, None])[None, :, None, :]
        added.masked_fill_(~torch.from_numpy(shown.reshape(added.shape)), -torch.inf)

    def unfolded(a: Any, some: slice) -> Any:
        """(grids, pixels, kernel, size)."""
        a = a.unfold(1, down.kernel, 1).unfold(2, across.kernel, 1)
        return a[:, firsts[0][:, None], firsts[1]].flatten(1, 2).flatten(3).transpose(-1, -2)

    def gathered(a: Any, some: slice) -> Any:
        a = a.flatten(1, 2).index_select(1, numbers[some].flatten())
        return a.unflatten(1, (-1, kernel))

    def with_windows(windows: Callable[[Any, slice], Any], count: int) -> Call:
        pieces = [slice(n, n + count) for n in range(0, pixels, count)]

        def call() -> np.ndarray:
            with torch.inference_mode():
                q, k, v = (grids.of(a) for a in (x.q, x.k, x.v))
                q = q.flatten(1, 2)[:, :, None] * case.size**-0.5
                out = torch.empty_like(q)
                for some in pieces:
                    scores = q[:, some] @ windows(k, some).transpose(-1, -2) + added[some]
                    out[:, some] = scores.softmax(dim=-1) @ windows(v, some)
                return grids.back(out)

        return call

    each = case.heads * case.size * kernel
    calls = [with_windows(gathered, max(1, piece // each)) for piece in PIECES]
    if each * case.pixels < ALL_AT_ONCE:
        calls.append(with_windows(unfolded, pixels))
    return calls


def run_tiles(case: Case, x: Inputs, threads: int) -> list[Call]:
    """Tiles of pixels, each with all keys that any of its pixels sees, and a mask: more products,
    but large ones. Vaswani et al. 2021, HaloNet, arXiv 2103.12731."""
    import torch

    if not case.kernel:
        return []
    torch.set_num_threads(threads)
    attend = torch.nn.functional.scaled_dot_product_attention
    grids = Grids(case)

    def tiled(tile: tuple[int, int]) -> Call:
        keys, tables = [], []
        for axis, n in zip(grids.axes, tile, strict=True):
            extent = n + axis.kernel - 1
            first = np.minimum(axis.first[::n], axis.extent - extent)
            keys.append(first[:, None] + np.arange(extent))  # (tiles, extent)
            queries = np.arange(axis.extent).reshape(-1, n)
            tables.append(axis.sees(queries[:, :, None], keys[-1][:, None, :]))
        # Tiles down and across, then their queries, then their keys.
        shown = tables[0][:, None, :, None, :, None] & tables[1][None, :, None, :, None, :]
        tiles = shown.shape[0] * shown.shape[1]
        shown = torch.from_numpy(shown.reshape(tiles, 1, tile[0] * tile[1], -1))
        mask = torch.zeros(shown.shape).masked_fill(~shown, -torch.inf)
        y, x_ = (torch.from_numpy(a) for a in keys)

        def with_halo(a: Any) -> Any:
            a = a[:, y[:, None, :, None], x_[None, :, None, :]]
            return a.flatten(3, 4).flatten(1, 2).transpose(0, 1)  # (tiles, grids, keys, size)

        def call() -> np.ndarray:
            with torch.inference_mode():
                q, k, v = (grids.of(a) for a in (x.q, x.k, x.v))
                n = len(q)
                q = q.view(n, len(y), tile[0], len(x_), tile[1], case.size)
                q = q.permute(1, 3, 0, 2, 4, 5).reshape(tiles, n, -1, case.size)
                out = attend(q, with_halo(k), with_halo(v), attn_mask=mask)
                out = out.view(len(y), len(x_), n, *tile, case.size)
                return grids.back(out.permute(2, 0, 3, 1, 4, 5).reshape(n, -1, case.size))

        return call

    return [
        tiled(tile)
        for tile in TILES[len(case.grid)]
        if all(n + a.kernel <= a.extent + 1 for n, a in zip(tile, grids.axes, strict=True))
    ]
