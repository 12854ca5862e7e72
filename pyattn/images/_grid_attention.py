"""What the layers over images have in common."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyattn import _check, _check_images, _check_layers, _check_multihead, _check_weights
from pyattn._fresh_weights import fresh_weights
from pyattn._out import handed_over
from pyattn.biases import Bias
from pyattn.masks import Mask
from pyattn.multihead import MultiHeadAttention

GRIDS = (
    8  # whose masks and biases a layer keeps, those met last: more sizes than most programs have
)


class GridAttention:
    """Multi-head self-attention over the pixels of a grid, under a mask and a bias that depend on
    the grid alone and are made once for each.

    A layer calls `_set` when it is made, knows the number of `axes` of its grids, 1 or 2, and
    overrides `_terms` and `_geometry`.
    """

    axes: int
    multihead: MultiHeadAttention
    table: np.ndarray | None  # of relative positions

    def _set(self, multihead: MultiHeadAttention, table: np.ndarray | None = None) -> None:
        self.multihead = multihead
        self.table = table
        if table is not None:
            self.table = table.astype(multihead.dtype)
            self.table.flags.writeable = False
        self._kept: dict[tuple[int, ...], tuple[Mask | None, Bias | None]] = {}

    def __call__(
        self,
        x: Any,
        *,
        grid: int | tuple[int, ...] | None = None,
        residual: Any = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Attend from every pixel to those that it sees.

        Parameters
        ----------
        x : array_like, (..., height, width, channels)
            Of the layer's dtype; (..., length, channels) where the layer is for sequences. With
            `grid` (..., pixels, channels), numbered row by row. A slice whose rows do not follow
            each other is copied first.
        grid : int or (height, width), optional
            The extents, if the pixels of `x` are one axis.
        residual : array_like, broadcasts to the shape of the result, optional
            Added to the result.
        out : ndarray, of the shape of the result, optional
            Written and returned. May be `x` or `residual`.

        Returns
        -------
        ndarray
            `x` with other channels.

        Raises
        ------
        TypeError
            Not floating point, another dtype than the layer's.
        ValueError
            Another number of channels, a grid that the layer cannot have or that `x` does not have.
        MemoryError, KeyboardInterrupt
            As `pyattn.attention`. `out` is untouched then, unless Ctrl-C was pressed.
        """
        function = type(self).__name__
        x, grid, leading = self._pixels(function, x, grid)
        shape, dtype = (*x.shape[:-1], self.multihead.out_dim), self.multihead.dtype
        rows = (*leading, math.prod(grid))
        if residual is not None:
            residual = _check_layers.operand(function, "residual", residual, shape, dtype)
            residual = residual.reshape(*rows, shape[-1])
        place = None
        if out is not None:
            _check.out(function, out, shape, dtype)
            place = out.reshape(*rows, shape[-1])
            if not np.may_share_memory(place, out):
                place = None
        mask, bias = self._terms_of(grid)
        x = x.reshape(*rows, x.shape[-1])
        result = self.multihead(x, mask=mask, bias=bias, residual=residual, out=place)
        return out if place is not None else handed_over(result.reshape(shape), out)

    def attention_weights(self, x: Any, *, grid: int | tuple[int, ...] | None = None) -> np.ndarray:
        """What every pixel looks at: all L x L weights, to look at.

        Parameters
        ----------
        x, grid
            As of a call.

        Returns
        -------
        ndarray, (..., num_heads, L, L)
            A row of it, as an image, is ``weights[..., y * width + x, :].reshape(height, width)``.

        Raises
        ------
        TypeError, ValueError, MemoryError, KeyboardInterrupt
            As of a call.

        Examples
        --------
        >>> import numpy as np
        >>> from pyattn import images
        >>> layer = images.NeighborhoodAttention(8, 2, 3, rng=0)
        >>> weights = layer.attention_weights(np.zeros((4, 5, 8), np.float32))
        >>> weights.shape
        (2, 20, 20)
        >>> weights[0, 0].reshape(4, 5).astype(bool).astype(int)
        array([[1, 1, 1, 0, 0],
               [1, 1, 1, 0, 0],
               [1, 1, 1, 0, 0],
               [0, 0, 0, 0, 0]])
        """
        x, grid, leading = self._pixels(f"{type(self).__name__}.attention_weights", x, grid)
        mask, bias = self._terms_of(grid)
        x = x.reshape(*leading, math.prod(grid), x.shape[-1])
        return self.multihead(x, mask=mask, bias=bias, need_weights="per_head")[1]

    def _pixels(
        self, function: str, x: Any, grid: Any
    ) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
        """The array, the extents of the grid, and the axes before it."""
        x = _check_layers.inputs(function, x, self.multihead.embed_dim, self.multihead.dtype)
        extents = _check_images.grid_of(function, x.shape, grid, self.axes)
        return x, extents, x.shape[: -1 - self.axes if grid is None else -2]

    def _terms_of(self, grid: tuple[int, ...]) -> tuple[Mask | None, Bias | None]:
        if 0 in grid:
            return None, None
        found = self._kept.get(grid)
        if found is None:
            found = self._terms(grid)
            # A new dict takes the place of the old one at once, so no lock is needed: of two
            # threads that do this the later one wins, and a grid may be made again.
            self._kept = dict([*self._kept.items(), (grid, found)][-GRIDS:])
        return found

    def _terms(self, grid: tuple[int, ...]) -> tuple[Mask | None, Bias | None]:
        """The mask and the bias of a grid that has pixels."""

    def _geometry(self) -> str:
        """What the pixels see, in words."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.table is not None:
            self.table.flags.writeable = False  # which pickles forget

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._geometry()}, of {self.multihead!r}>"


def fresh_heads(
    function: str,
    embed_dim: Any,
    num_heads: Any,
    head_dim: Any,
    *,
    bias: Any,
    rng: np.random.Generator,
    dtype: Any,
    storage: Any,
) -> MultiHeadAttention:
    """Projections with fresh weights, whose errors name the layer that they are for."""
    embed_dim, heads = _check_multihead.sizes(function, embed_dim, num_heads, None, head_dim)
    bias = _check.flag(function, "bias", bias)
    dtype = _check_layers.dtype(function, dtype)
    weights = fresh_weights(rng, heads, (embed_dim,) * 3, bias, False, dtype)
    weights = _check_weights.by_name(function, weights)
    return MultiHeadAttention._of(weights, heads.num_heads, dtype=dtype, storage=storage)
