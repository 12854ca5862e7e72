"""Images: a picture is a set of vectors, and self-attention works on it.

======================= ==========================================================
`to_vectors`            an image as a sequence of pixels or patches, and
`from_vectors`          back; views where that can be
`WindowAttention`       Swin: windows, shifted ones, a relative table
`NeighborhoodAttention` NAT: the k x k pixels around each; along one axis too
`attention_as_conv`     the self-attention that is a given convolution
======================= ==========================================================

An image is (..., height, width, channels); its pixels, or patches, are numbered row by row. The
layers are `pyattn.MultiHeadAttention` with a structured mask and bias (`pyattn.masks`,
`pyattn.biases`): nothing is gathered, rolled or padded, and there is no L x S array. All pixels
with all pixels is `pyattn.MultiHeadAttention` itself, on ``to_vectors(image)``. docs/images.md has
more.
"""

from pyattn.images._convolution import attention_as_conv
from pyattn.images._neighborhoods import NeighborhoodAttention
from pyattn.images._vectors import from_vectors, to_vectors
from pyattn.images._windows import WindowAttention

__all__ = [
    "NeighborhoodAttention",
    "WindowAttention",
    "attention_as_conv",
    "from_vectors",
    "to_vectors",
]
