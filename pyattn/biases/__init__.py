"""Structured biases: what is added to the scores, without an L x S array.

A bias is a small immutable object for ``pyattn.attention(..., bias=)``. The kernel evaluates it
block by block; the L x S array exists only if asked for, by ``numpy.asarray(bias)``.

=============== =====================================================
`dense`         a float array, to combine it with the others
`alibi`         a slope per head, times the distance
`relative`      a number per head and distance
`relative_grid` a number per head and distance in two dimensions
=============== =====================================================

Biases combine with ``+``, also with float arrays. A bias of -inf hides the key. All but `alibi`
keep a reference to the array they are given and look at it again in every call; NaN in it is passed
on to the scores.

>>> import numpy as np
>>> from pyattn import biases
>>> biases.alibi(biases.alibi_slopes(8)) + np.zeros((5, 9), np.float32)
<bias alibi + dense (8, 5, 9)>
"""

from pyattn.biases._alibi import alibi, alibi_slopes
from pyattn.biases._bias import Bias
from pyattn.biases._bias import as_bias as as_bias  # these two for attention.py
from pyattn.biases._bias import bias_terms as bias_terms
from pyattn.biases._tables import dense, relative, relative_grid

__all__ = ["Bias", "alibi", "alibi_slopes", "dense", "relative", "relative_grid"]
