"""Masks that are given as a table."""

from __future__ import annotations

from typing import Any

from pyattn import _check_numbers, _check_terms
from pyattn._pieces import Repeated
from pyattn.masks._mask import Mask, Primitive, dense_mask


def dense(array: Any) -> Mask:
    """A dense mask, to combine it with structured ones.

    Parameters
    ----------
    array : array_like of bool
        True = may attend. Broadcasts to the scores, (..., H, L, S), as NumPy does it: (L, S),
        (B, 1, 1, S), (S,)... Kept as a reference, with any strides.

    Returns
    -------
    Mask
        Of the array's shape.

    Raises
    ------
    TypeError
        Not bool, or a masked array.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import masks
    >>> masks.dense(np.tri(3, 4, k=1, dtype=bool))
    <mask dense (3, 4)>
    ##..
    ###.
    ####
    """
    return dense_mask("dense", "array", array)


def blocks(
    table: Any,
    block_size: int | tuple[int, int],
    queries: int | None = None,
    keys: int | None = None,
) -> Mask:
    """Block-sparse attention: a table says which blocks of queries see which blocks of keys.

    Query ``i`` sees key ``j`` if ``table[..., i // bq, j // bk]``.

    Parameters
    ----------
    table : array_like of bool, (..., ceil(L / bq), ceil(S / bk))
        Axes before the last two broadcast to the batch and the heads, like those of a dense mask.
        Kept as a reference.
    block_size : int or (int, int)
        bq and bk.
    queries, keys : int, optional
        L and S, by default all that the table covers. The last block may be cut off.

    Returns
    -------
    Mask, (..., L, S)

    Raises
    ------
    TypeError
        A table that is not bool, sizes that are not integers.
    ValueError
        A table with less than two axes, or of another size than L, S and the blocks need.

    Notes
    -----
    Zaheer et al. 2020, "Big Bird", arXiv 2007.14062, and others draw such tables.

    Examples
    --------
    >>> from pyattn import masks
    >>> masks.blocks([[True, False], [True, True]], (2, 3), queries=4, keys=5)
    <mask blocks (4, 5)>
    ###..
    ###..
    #####
    #####
    """
    table = _check_terms.mask_array("blocks", "table", table)
    _check_terms.axes_at_least("blocks", "table", table, "query blocks, key blocks")
    bq, bk = _check_numbers.pair("blocks", "block_size", block_size)
    rows, columns = table.shape[-2:]
    queries, keys = (
        _check_numbers.whole("blocks", name, covered if n is None else n)
        for name, n, covered in (("queries", queries, rows * bq), ("keys", keys, columns * bk))
    )
    _check_terms.block_table("blocks", table, (bq, bk), (queries, keys))
    bq, bk = min(bq, max(queries, 1)), min(bk, max(keys, 1))  # one block may be far too large
    piece = Repeated(table[..., :, None, :, None], (rows, bq, columns, bk))
    return Primitive("blocks", (*table.shape[:-2], queries, keys), (piece,))
