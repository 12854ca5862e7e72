"""What structured masks and biases have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn import _check_terms
from pyattn._pieces import last_two


class Structured:
    """A `shape` that broadcasts to the scores', a `dtype`, and ``at(i, j)``: the dense equivalent
    at queries i (n, 1) and keys j (1, m), which broadcasts to (..., n, m). `kind` and `operators`
    are words for messages."""

    __slots__ = ()
    __array_ufunc__ = None  # in array & mask NumPy leaves it to the mask

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            _check_terms.never_a_view(self.kind)
        dense = np.empty(self.shape, self.dtype)
        if dense.size:
            queries, keys = last_two(self.shape)
            dense[...] = self.at(np.arange(queries)[:, None], np.arange(keys)[None])
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def __bool__(self) -> bool:
        _check_terms.truth(self.kind, self.operators)
