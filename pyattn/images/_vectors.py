"""An image as a sequence of vectors, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check_images, _check_numbers


def to_vectors(image: Any, patch: int | tuple[int, int] = 1) -> np.ndarray:
    """The patches of an image as a sequence of vectors, row by row.

    Parameters
    ----------
    image : array_like, (..., H, W, C)
        Of any dtype.
    patch : int or (height, width), default 1
        The pixels of a patch, which must divide the image. 1: each pixel is a vector.

    Returns
    -------
    ndarray, (..., N, height * width * C)
        ``N = (H // height) * (W // width)``. Within a vector the order is row, column, channel. Of
        an image in C order it is a view of the same memory for pixels, for patches of one row,
        ``(1, width)``, and for strips of whole rows, ``(height, W)``. The numbers of all other
        patches lie in several places, so the result is a copy; as it is of a slice whose rows do
        not follow each other.

    Raises
    ------
    TypeError
        A masked array; a patch that is not of integers.
    ValueError
        Fewer than three axes; patches that do not divide the image.

    Notes
    -----
    Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1, arXiv 2010.11929. Their
    first layer, a convolution with weights (D, C, height, width) in checkpoints, is
    ``pyattn.layers.Linear(weight.transpose(0, 2, 3, 1).reshape(D, -1), bias)`` of these vectors.

    Examples
    --------
    An image of 5 x 10 pixels in three colours is 50 vectors of 3 numbers:

    >>> import numpy as np
    >>> from pyattn import images
    >>> image = np.arange(5 * 10 * 3).reshape(5, 10, 3)
    >>> vectors = images.to_vectors(image)
    >>> vectors.shape, np.shares_memory(vectors, image)
    ((50, 3), True)
    >>> vectors[12]  # row 1, column 2
    array([36, 37, 38])
    >>> images.to_vectors(image, (5, 2)).shape
    (5, 30)
    """
    function = "to_vectors"
    image = _check_images.image(function, image)
    down, across = _check_images.per_axis(function, "patch", patch, 2, 1)
    *leading, height, width, channels = image.shape
    _check_images.patches_divide(function, (height, width), (down, across))
    rows, columns = height // down, width // across
    cut = image.reshape(*leading, rows, down, columns, across, channels).swapaxes(-4, -3)
    return cut.reshape(*leading, rows * columns, down * across * channels)


def from_vectors(
    vectors: Any, grid: tuple[int, int], patch: int | tuple[int, int] = 1
) -> np.ndarray:
    """The image of which these are the patches: the inverse of `to_vectors`.

    Parameters
    ----------
    vectors : array_like, (..., N, height * width * C)
        Of any dtype.
    grid : (rows, columns)
        How many patches there are down and across; their product is N.
    patch : int or (height, width), default 1
        The pixels of a patch.

    Returns
    -------
    ndarray, (..., rows * height, columns * width, C)
        A view of the same memory for the patches of which `to_vectors` makes views.

    Raises
    ------
    TypeError
        A masked array; a grid or patch that is not of integers.
    ValueError
        Fewer than two axes; another number of vectors than the grid has; vectors whose numbers are
        not as many for each pixel of a patch.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import images
    >>> image = np.arange(4 * 6 * 3).reshape(4, 6, 3)
    >>> vectors = images.to_vectors(image, 2)
    >>> np.array_equal(images.from_vectors(vectors, (2, 3), 2), image)
    True
    """
    function = "from_vectors"
    vectors = _check_images.vectors(function, vectors)
    rows, columns = _check_numbers.grid(function, grid, axes=(2,))
    down, across = _check_images.per_axis(function, "patch", patch, 2, 1)
    *leading, _, size = vectors.shape
    _check_images.vectors_fit(function, vectors.shape, (rows, columns), (down, across))
    channels = size // (down * across)
    cut = vectors.reshape(*leading, rows, columns, down, across, channels).swapaxes(-4, -3)
    return cut.reshape(*leading, rows * down, columns * across, channels)
