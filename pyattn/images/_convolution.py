"""A convolution as self-attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check_images, _check_layers, masks
from pyattn.biases import Bias
from pyattn.images._grid_attention import GridAttention
from pyattn.images._offsets import offset_bias
from pyattn.masks import Mask
from pyattn.multihead import MultiHeadAttention

__all__ = ["attention_as_conv"]


def attention_as_conv(
    kernel: Any, bias: Any = None, *, sharpness: float | None = None, dtype: Any = None
) -> ConvolutionalAttention:
    """The multi-head self-attention layer that computes a given convolution.

    One head for each position of the kernel. Queries and keys are 0, so the scores are the relative
    bias alone: 0 for the pixel at that head's offset and -inf for all others. Each head so fetches
    one neighbour of every pixel, and the projection of the output multiplies it with the kernel's
    matrix for that position. What a CNN is told by its architecture, these heads are told by
    their bias; attention in general may choose by content instead.

    Parameters
    ----------
    kernel : array_like of float, (height, width, C_in, C_out)
        Odd extents. The order of channels-last frameworks; of PyTorch's weights (C_out, C_in,
        height, width) give ``weight.transpose(2, 3, 1, 0)``, a filter for one channel is
        ``filter[:, :, None, None]``.
    bias : array_like of float, (C_out,), optional
        Added to every pixel of the result.
    sharpness : float, optional
        Instead of -inf, subtract so much times the squared distance from the head's offset, as the
        paper does: the larger it is, the closer the result to the convolution. All pixels see each
        other then. Default: infinitely sharp, which is the convolution itself.
    dtype : float32 or float64, optional
        Of inputs and results. Default: float64 if `kernel` is, else float32.

    Returns
    -------
    layer
        ``layer(image)``, of (..., H, W, C_in), is the convolution, (..., H, W, C_out), in the sense
        of CNNs, which is a cross-correlation: ``sum over a, b of image[y + a - height // 2, x + b -
        width // 2] @ kernel[a, b]``, with zeros around the image. `layer.attention_weights(image)`
        are its weights, (..., height * width, L, L), and `layer.multihead` has its projections.

    Raises
    ------
    TypeError
        A kernel that is not of floats.
    ValueError
        A kernel that has not four axes, or an even extent, or no channels; a bias of another
        length; a sharpness that is not positive and finite.

    Notes
    -----
    Cordonnier et al. 2020, "On the Relationship between Self-Attention and Convolutional Layers",
    arXiv 1911.03584, theorem 1. All heads share one key head, whose values are the pixels
    themselves. An offset that leads out of the image leaves a head without any key, and a row
    that may see no key is exactly 0: the padding with zeros. With a finite sharpness a mask per
    head and query says the same.

    The heads hold ``height * width * C_in`` numbers per pixel while the layer computes, and the
    bias ``4 * height * width``. The bias hides all but a neighbourhood; so that no time is spent on
    it, `masks.neighborhood` does as well, where the kernel is not larger than the image.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import images
    >>> sobel = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    >>> layer = images.attention_as_conv(sobel[:, :, None, None])
    >>> layer
    <ConvolutionalAttention kernel (3, 3), of <MultiHeadAttention 1 -> 9 heads of 1 -> 1, 1 key heads, float64>>
    >>> edge = np.repeat([[0.0, 0.0, 1.0, 1.0]], 3, axis=0)
    >>> layer(edge[:, :, None])[:, :, 0]
    array([[ 0.,  3.,  3., -3.],
           [ 0.,  4.,  4., -4.],
           [ 0.,  3.,  3., -3.]])
    """  # noqa: E501 (what repr prints)
    function = "attention_as_conv"
    kernel = _check_images.conv_kernel(function, kernel)
    sharpness = _check_images.sharpness(function, sharpness)
    bias = _check_images.conv_bias(function, bias, kernel.shape)
    if dtype is None and kernel.dtype == np.float64:
        dtype = kernel.dtype
    elif dtype is not None:
        dtype = _check_layers.dtype(function, dtype)
    height, width, inputs, outputs = kernel.shape
    heads = height * width
    nothing = np.zeros((heads, inputs), kernel.dtype)
    weights = {
        "q_weight": nothing,
        "k_weight": nothing[:1],
        "v_weight": np.eye(inputs, dtype=kernel.dtype),
        "out_weight": kernel.reshape(heads * inputs, outputs).T,
        "out_bias": bias,
    }
    multihead = MultiHeadAttention.from_weights(weights, heads, dtype=dtype)
    return ConvolutionalAttention(multihead, (height, width), sharpness)


class ConvolutionalAttention(GridAttention):
    """What `attention_as_conv` makes."""

    axes = 2

    def __init__(
        self, multihead: MultiHeadAttention, kernel_size: tuple[int, int], sharpness: float | None
    ) -> None:
        self.kernel_size, self.sharpness = kernel_size, sharpness
        self._set(multihead)

    def _terms(self, grid: tuple[int, ...]) -> tuple[Mask | None, Bias]:
        if self.sharpness is not None:
            return self._inside(grid), self._soft(grid, self.sharpness)
        heads = self.multihead.num_heads
        table = np.full((heads, heads), -np.inf, self.multihead.dtype)
        np.fill_diagonal(table, 0)
        bias = offset_bias(table.reshape(heads, *self.kernel_size), grid, (1, 1), fill=-np.inf)
        fits = all(k <= n for k, n in zip(self.kernel_size, grid, strict=True))
        return masks.neighborhood(grid, self.kernel_size) if fits else None, bias

    def _offsets(self) -> tuple[np.ndarray, np.ndarray]:
        """How far down and across each head looks, (heads, 1, 1) each."""
        height, width = self.kernel_size
        down, across = np.indices((height, width)).reshape(2, -1, 1, 1)
        return down - height // 2, across - width // 2

    def _soft(self, grid: tuple[int, ...], sharpness: float) -> Bias:
        down, across = self._offsets()
        y, x = np.ogrid[tuple(slice(1 - n, n) for n in grid)]
        squared = (y - down) ** 2 + (x - across) ** 2
        with np.errstate(over="ignore"):  # infinitely sharp is what that means
            table = (-sharpness * squared).astype(self.multihead.dtype)
        return offset_bias(table, grid, (1, 1))

    def _inside(self, grid: tuple[int, ...]) -> Mask:
        """Per head, the queries for which the pixel that it looks for is in the image."""
        down, across = self._offsets()
        y, x = np.ogrid[tuple(slice(n) for n in grid)]
        rows = (0 <= y + down) & (y + down < grid[0])
        columns = (0 <= x + across) & (x + across < grid[1])
        return masks.dense((rows & columns).reshape(self.multihead.num_heads, -1, 1))

    def _geometry(self) -> str:
        soft = "" if self.sharpness is None else f", sharpness {self.sharpness}"
        return f"kernel {self.kernel_size}{soft}"
