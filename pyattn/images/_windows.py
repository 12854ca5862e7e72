"""Attention within windows, as in Swin transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyattn import _check_images, _check_multihead, _check_weights, _checkpoints, masks
from pyattn.biases import Bias
from pyattn.images._grid_attention import GridAttention, fresh_heads
from pyattn.images._offsets import offset_bias
from pyattn.masks import Mask
from pyattn.multihead import MultiHeadAttention

__all__ = ["WindowAttention"]


class WindowAttention(GridAttention):
    """The attention layer of Swin transformers: each pixel attends to those in its window.

    Made with fresh weights, or with those of a checkpoint by `from_tensors`. A layer does not
    change once it is made, can be called by several threads at a time, and pickles.

    Parameters
    ----------
    embed_dim : int
        Channels of a pixel.
    num_heads : int
    window : int or (height, width)
        The pixels of a window. Windows must divide the image.
    shift : int or (down, across), default 0
        Less than the window. Half of it in every other layer of Swin, so that pixels which a
        window's border parts are together in the next layer.
    head_dim : int, optional
        Default ``embed_dim // num_heads``.
    bias : bool, default True
        Whether the projections have biases; they begin as zeros.
    rng : None, int or numpy.random.Generator
        What the weights are drawn from: those of the projections as of
        `pyattn.MultiHeadAttention`, the table's with a standard deviation of 0.02.
    dtype : float32 or float64
        Of weights, inputs and results.
    storage : {None, "bfloat16", "float16"}
        How weights are kept, as of `pyattn.layers.Linear`.

    Attributes
    ----------
    multihead : MultiHeadAttention
        The projections, with their weights.
    window, shift : (int, int)
    table : ndarray or None
        What is added to the scores for each distance within a window, ((2 * height - 1) * (2 *
        width - 1), num_heads), query minus key: ``relative_position_bias_table``. Read-only.

    Raises
    ------
    TypeError, ValueError
        Sizes that are not positive whole numbers, or do not fit together; a shift that is not less
        than the window; an unknown dtype.

    Notes
    -----
    Liu et al. 2021, "Swin Transformer", arXiv 2103.14030, sections 3.2 and 3.3. There an image is
    rolled by ``-shift``, cut into windows, and a mask parts what came around the border. The same
    pixels see each other if the windows begin at `shift` and are cut off at the border, so here
    nothing is rolled or cut: it is one call of `pyattn.attention` with
    ``mask=masks.grid_windows(grid, window, shift)``. The authors' mask adds -100, this one hides.

    Mask and bias are made once for each size of image; the bias takes about
    ``4 * num_heads * height * width`` numbers of the image's height and width.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import images
    >>> layer = images.WindowAttention(96, 3, 7, shift=3, rng=0)
    >>> layer
    <WindowAttention windows (7, 7), shift (3, 3), of <MultiHeadAttention 96 -> 3 heads of 32 -> 96, float32>>
    >>> image = np.random.default_rng(1).standard_normal((1, 28, 28, 96), dtype=np.float32)
    >>> layer(image).shape
    (1, 28, 28, 96)
    >>> layer(images.to_vectors(image), grid=(28, 28)).shape
    (1, 784, 96)
    """  # noqa: E501 (what repr prints)

    axes = 2

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        window: int | tuple[int, int],
        *,
        shift: int | tuple[int, int] = 0,
        head_dim: int | None = None,
        bias: bool = True,
        rng: Any = None,
        dtype: Any = np.float32,
        storage: str | None = None,
    ) -> None:
        function = "WindowAttention"
        rng = _check_multihead.seed(function, rng)
        window = _check_images.per_axis(function, "window", window, 2, 1)
        multihead = fresh_heads(
            function, embed_dim, num_heads, head_dim,
            bias=bias, rng=rng, dtype=dtype, storage=storage,
        )  # fmt: skip
        distances = (2 * window[0] - 1) * (2 * window[1] - 1)
        table = rng.normal(0, 0.02, (distances, multihead.num_heads))
        self._place(function, multihead, window, shift, table)

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Any],
        prefix: str = "",
        *,
        window: int | tuple[int, int] | None = None,
        shift: int | tuple[int, int] = 0,
        num_heads: int | None = None,
        format: str = "auto",
        dtype: Any = None,
        storage: str | None = None,
    ) -> WindowAttention:
        """The layer with the weights of one layer of a checkpoint.

        Parameters
        ----------
        tensors : mapping of str to array_like
            All tensors of the checkpoint, of which those are read that are needed.
        prefix : str
            What the names of the layer begin with, as "layers.0.blocks.1" in timm and
            "encoder.layers.0.blocks.1" on Hugging Face.
        window : int or (height, width), optional
            Needed without a table. Default: the square window that the table is for.
        shift : int or (down, across), default 0
            Tensors do not tell it.
        num_heads : int, optional
            Needed without a table, which has a column per head.
        format : str
            As of `pyattn.MultiHeadAttention.from_tensors`: "timm" (and the authors' own), "bert"
            (Hugging Face).
        dtype, storage
            As of `pyattn.MultiHeadAttention.from_weights`.

        Returns
        -------
        WindowAttention

        Raises
        ------
        TypeError, ValueError
            As of `pyattn.MultiHeadAttention.from_tensors`; a table that does not fit the window or
            the heads. Swin v2 is refused: it has tensors that are not known here.

        Examples
        --------
        >>> import numpy as np
        >>> from pyattn import images
        >>> tensors = {
        ...     "attn.qkv.weight": np.zeros((96, 32)),
        ...     "attn.proj.weight": np.zeros((32, 32)),
        ...     "attn.relative_position_bias_table": np.zeros((169, 2)),
        ... }
        >>> images.WindowAttention.from_tensors(tensors, shift=3)
        <WindowAttention windows (7, 7), shift (3, 3), of <MultiHeadAttention 32 -> 2 heads of 16 -> 32, float64>>
        """  # noqa: E501 (what repr prints)
        function = "WindowAttention.from_tensors"
        num_heads = _check_weights.count(function, "num_heads", num_heads)
        weights = _checkpoints.read(function, tensors, prefix, format, table="swin_table").weights
        table = weights.arrays.get("swin_table")
        if table is not None:
            _check_images.table_axes(weights, "swin_table", "distances, heads")
            num_heads = num_heads or table.shape[1]
        if window is None:
            window = _check_images.square_window(weights)
        else:
            window = _check_images.per_axis(function, "window", window, 2, 1)
        layer = cls.__new__(cls)
        multihead = MultiHeadAttention._of(weights, num_heads, dtype=dtype, storage=storage)
        if table is not None:
            _check_images.window_table(weights, window, multihead.num_heads)
        layer._place(function, multihead, window, shift, table)
        return layer

    def _place(
        self,
        function: str,
        multihead: MultiHeadAttention,
        window: tuple[int, ...],
        shift: Any,
        table: np.ndarray | None,
    ) -> None:
        self.window, self.shift = window, _check_images.shift(function, shift, window)
        self._set(multihead, table)

    def _terms(self, grid: tuple[int, ...]) -> tuple[Mask, Bias | None]:
        _check_images.windows_divide("WindowAttention", grid, self.window)
        mask = masks.grid_windows(grid, self.window, self.shift)
        if self.table is None:
            return mask, None
        distances = (2 * n - 1 for n in self.window)
        by_distance = self.table.T.reshape(self.multihead.num_heads, *distances)
        return mask, offset_bias(by_distance[:, ::-1, ::-1], grid, (1, 1))

    def _geometry(self) -> str:
        return f"windows {self.window}, shift {self.shift}"
