"""Structured masks: who may attend to whom, said in a few numbers instead of an L x S array.

A mask is a small immutable object for ``pyattn.attention(..., mask=)``. The kernel evaluates it
block by block; the L x S array exists only if asked for, by ``numpy.asarray(mask)``.

=============== =====================================================
`dense`         a bool array, to combine it with the others
`segments`      packed sequences, told by an id for every token
`documents`     packed sequences, told by their ends
`prefix_lm`     a prefix seen by all, causal after it
`dilated`       every n-th key of a sliding window
`blocks`        a table of blocks
`neighborhood`  the pixels around a pixel
`grid_windows`  the pixels in the same window of an image
=============== =====================================================

Masks combine with ``&`` and ``|``, also with bool arrays; with `causal`, `window` and
`key_lengths` of the call they combine as ``&``. Axes before the last two, if there are any, are
those of the batch and the heads, and broadcast as NumPy's do.

`dense` and `blocks` keep a reference to the array they are given and look at it again in every
call; all others work out what they need when they are made.

>>> import numpy as np
>>> from pyattn import masks
>>> masks.documents([0, 2, 5]) & np.tri(5, dtype=bool)
<mask documents & dense (5, 5)>
#....
##...
..#..
..##.
..###

The picture is at most 16 rows of 48 characters: ``#`` may attend, ``.`` may not, ``+`` is a patch
of both, judged by a few samples of it. Of several batch elements and heads it shows the first.
"""

from pyattn.masks._grids import grid_windows, neighborhood
from pyattn.masks._mask import Mask
from pyattn.masks._mask import as_mask as as_mask  # these three for attention.py
from pyattn.masks._mask import mask_grid as mask_grid
from pyattn.masks._mask import mask_terms as mask_terms
from pyattn.masks._sequences import dilated, documents, prefix_lm, segments
from pyattn.masks._tables import blocks, dense

__all__ = [
    "Mask",
    "blocks",
    "dense",
    "dilated",
    "documents",
    "grid_windows",
    "neighborhood",
    "prefix_lm",
    "segments",
]
