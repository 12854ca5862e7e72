"""Attention to what is near, as in the Neighborhood Attention Transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyattn import _check, _check_images, _check_multihead, _check_weights, _checkpoints, masks
from pyattn.biases import Bias
from pyattn.images._grid_attention import GridAttention, fresh_heads
from pyattn.images._offsets import offset_bias
from pyattn.masks import Mask
from pyattn.multihead import MultiHeadAttention

__all__ = ["NeighborhoodAttention"]


class NeighborhoodAttention(GridAttention):
    """Each pixel attends to the kernel_size x kernel_size pixels around it.

    At the border of the image the neighbourhood is shifted inside, so that all pixels see equally
    many. Along one axis, with ``kernel_size=(k,)``, this is the truncated self-attention of speech
    models. A layer does not change once it is made, can be called by several threads at a time,
    and pickles.

    Parameters
    ----------
    embed_dim : int
        Channels of a pixel.
    num_heads : int
    kernel_size : int, (height, width) or (k,)
        Odd; along a causal axis any number. One number stands for both axes of images; ``(k,)`` is
        for sequences.
    dilation : int or one per axis, default 1
        See every `dilation`-th pixel only, counted from the own one.
    causal : bool or one per axis, default False
        See the own place and the ``kernel_size - 1`` steps before it, fewer at the border.
        ``(True, False)``: rows above and the own row.
    head_dim : int, optional
        Default ``embed_dim // num_heads``.
    relative_bias : bool, default True
        Whether there is a number per head and offset that is added to the score.
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
    axes : int
        2, or 1 for sequences.
    kernel_size, dilation : tuple of int
    causal : tuple of bool
    table : ndarray or None
        What is added to the scores, (num_heads, 2 * height - 1, 2 * width - 1) or (num_heads, 2 * k
        - 1), key minus query in steps of the dilation: ``rpb`` in checkpoints. Read-only.

    Raises
    ------
    TypeError, ValueError
        Sizes that are not positive whole numbers, or do not fit together; an even kernel along an
        axis that is not causal; an unknown dtype.

    Notes
    -----
    Hassani et al. 2023, "Neighborhood Attention Transformer", arXiv 2204.07143; with dilation,
    Hassani and Shi 2022, arXiv 2209.15001; along one axis, Povey et al. 2018, "A Time-Restricted
    Self-Attention Layer for ASR". One call of `pyattn.attention` with ``mask=masks.neighborhood``;
    without projections that is all there is to write.

    Mask and bias are made once for each size of image; the bias takes about
    ``4 * num_heads * height * width`` numbers of the image's height and width.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import images
    >>> layer = images.NeighborhoodAttention(64, 2, 7, dilation=2, rng=0)
    >>> layer(np.zeros((1, 20, 24, 64), np.float32)).shape
    (1, 20, 24, 64)
    >>> audio = images.NeighborhoodAttention(64, 2, (31,), causal=True, rng=0)
    >>> audio(np.zeros((1, 500, 64), np.float32)).shape
    (1, 500, 64)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        kernel_size: int | tuple[int, ...],
        *,
        dilation: int | tuple[int, ...] = 1,
        causal: bool | tuple[bool, ...] = False,
        head_dim: int | None = None,
        relative_bias: bool = True,
        bias: bool = True,
        rng: Any = None,
        dtype: Any = np.float32,
        storage: str | None = None,
    ) -> None:
        function = "NeighborhoodAttention"
        rng = _check_multihead.seed(function, rng)
        kernel = _check_images.kernel_size(function, kernel_size)
        multihead = fresh_heads(
            function, embed_dim, num_heads, head_dim,
            bias=bias, rng=rng, dtype=dtype, storage=storage,
        )  # fmt: skip
        table = None
        if _check.flag(function, "relative_bias", relative_bias):
            table = rng.normal(0, 0.02, (multihead.num_heads, *(2 * k - 1 for k in kernel)))
        self._place(function, multihead, kernel, dilation, causal, table)

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Any],
        prefix: str = "",
        *,
        kernel_size: int | tuple[int, ...] | None = None,
        dilation: int | tuple[int, ...] = 1,
        causal: bool | tuple[bool, ...] = False,
        num_heads: int | None = None,
        format: str = "auto",
        dtype: Any = None,
        storage: str | None = None,
    ) -> NeighborhoodAttention:
        """The layer with the weights of one layer of a checkpoint.

        Parameters
        ----------
        tensors : mapping of str to array_like
            All tensors of the checkpoint, of which those are read that are needed.
        prefix : str
            What the names of the layer begin with, as "levels.0.blocks.1" in the authors' files
            and "encoder.levels.0.layers.1" on Hugging Face.
        kernel_size : int, (height, width) or (k,), optional
            Needed without a table. Default: the one that the table is for.
        dilation, causal
            As of the class; tensors do not tell them.
        num_heads : int, optional
            Needed without a table, which has a part per head.
        format : str
            As of `pyattn.MultiHeadAttention.from_tensors`: "timm" (the authors' own names are
            those), "bert" (Hugging Face).
        dtype, storage
            As of `pyattn.MultiHeadAttention.from_weights`.

        Returns
        -------
        NeighborhoodAttention

        Raises
        ------
        TypeError, ValueError
            As of `pyattn.MultiHeadAttention.from_tensors`; a table that does not fit the kernel or
            the heads.

        Examples
        --------
        >>> import numpy as np
        >>> from pyattn import images
        >>> tensors = {
        ...     "attn.qkv.weight": np.zeros((96, 32)),
        ...     "attn.proj.weight": np.zeros((32, 32)),
        ...     "attn.rpb": np.zeros((2, 13, 13)),
        ... }
        >>> images.NeighborhoodAttention.from_tensors(tensors).kernel_size
        (7, 7)
        """
        function = "NeighborhoodAttention.from_tensors"
        num_heads = _check_weights.count(function, "num_heads", num_heads)
        weights = _checkpoints.read(function, tensors, prefix, format, table="nat_table").weights
        table = weights.arrays.get("nat_table")
        if table is not None:
            num_heads = num_heads or _check_images.heads_of_table(weights)
        if kernel_size is None:
            kernel = _check_images.kernel_of_table(weights)
        else:
            kernel = _check_images.kernel_size(function, kernel_size)
        layer = cls.__new__(cls)
        multihead = MultiHeadAttention._of(weights, num_heads, dtype=dtype, storage=storage)
        if table is not None:
            _check_images.neighborhood_table(weights, kernel, multihead.num_heads)
        layer._place(function, multihead, kernel, dilation, causal, table)
        return layer

    def _place(
        self,
        function: str,
        multihead: MultiHeadAttention,
        kernel: tuple[int, ...],
        dilation: Any,
        causal: Any,
        table: np.ndarray | None,
    ) -> None:
        self.axes, self.kernel_size = len(kernel), kernel
        self.dilation = _check_images.per_axis(function, "dilation", dilation, self.axes, 1)
        self.causal = _check_images.flag_per_axis(function, "causal", causal, self.axes)
        _check_images.odd_kernel(function, kernel, self.causal)
        self._set(multihead, table)

    def _terms(self, grid: tuple[int, ...]) -> tuple[Mask, Bias | None]:
        _check_images.kernel_fits(
            "NeighborhoodAttention", grid, self.kernel_size, self.dilation, self.causal
        )
        mask = masks.neighborhood(
            grid, self.kernel_size, dilation=self.dilation, causal=self.causal
        )
        return mask, None if self.table is None else offset_bias(self.table, grid, self.dilation)

    def _geometry(self) -> str:
        kinds = [
            (True, f"kernel {self.kernel_size}"),
            (max(self.dilation) > 1, f"dilation {self.dilation}"),
            (any(self.causal), f"causal {self.causal}"),
        ]
        return ", ".join(text for there, text in kinds if there)
