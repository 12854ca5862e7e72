"""Fixed positions made of sines and cosines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyattn import _check, _check_encodings, _check_numbers, _check_positions
from pyattn.positional._angles import Turns, sines_cosines
from pyattn.positional._frequencies import geometric, powers

ORDERS = ("interleaved", "concat", "concat_cos_first")


def sinusoidal(
    positions: Any,
    dim: int,
    *,
    base: float = 10000.0,
    order: str = "interleaved",
    denominator: str = "d",
    dtype: Any = np.float32,
) -> np.ndarray:
    """Sinusoidal positions of the Transformer, in any of the orders in use.

    Parameters
    ----------
    positions : int, or array_like of int or float
        How many, from 0 on; or the positions themselves, of any shape, smaller than 2**32 in size:
        those of RoBERTa-like models begin with 2, relative ones are negative, time steps of
        diffusion models need not be whole.
    dim : int
        D, the size of the encoding.
    base : float, default 10000.0
    order : {"interleaved", "concat", "concat_cos_first"}
        "interleaved": sin, cos, sin, cos, ..., as in the paper. "concat": all sines, then all
        cosines, as in tensor2tensor, fairseq, Marian, Whisper. "concat_cos_first": all cosines,
        then all sines, as for the time steps of diffusion models.
    denominator : {"d", "half-1"}
        Number i of n frequencies is ``base ** (-2 i / D)``, as in the paper, Marian and most
        diffusion models; or ``base ** (-i / (n - 1))``, as in tensor2tensor, fairseq and Whisper.
    dtype : dtype, default float32

    Returns
    -------
    ndarray, positions.shape + (D,)
        Right to 0.5 ulp of float32 (2 ulp of float64) at any position. If D is odd, the last of an
        interleaved encoding is a sine, and that of the others 0, as in fairseq.

    Raises
    ------
    TypeError
        A size that is not an integer; another dtype.
    ValueError
        An unknown order; positions that are not finite or too large; a base that is not positive.

    Notes
    -----
    Vaswani et al. 2017, "Attention Is All You Need", section 3.5, arXiv 1706.03762.

    Examples
    --------
    >>> from pyattn import positional
    >>> positional.sinusoidal(3, 4).round(3)
    array([[ 0.   ,  1.   ,  0.   ,  1.   ],
           [ 0.841,  0.54 ,  0.01 ,  1.   ],
           [ 0.909, -0.416,  0.02 ,  1.   ]], dtype=float32)
    """
    function = "sinusoidal"
    if isinstance(positions, (int, np.integer)) and not isinstance(positions, bool):
        positions = np.arange(_check_numbers.whole(function, "positions", positions))
    places = _check_positions.positions(function, positions)
    dim = _check_positions.size(function, "dim", dim)
    base = _check_positions.base(function, "base", base)
    _check_encodings.choice(function, "order", order, ORDERS)
    _check_encodings.choice(function, "denominator", denominator, ("d", "half-1"))
    dtype = _check_encodings.dtype(function, dtype)
    count = (dim + 1) // 2 if order == "interleaved" else dim // 2
    below = dim if denominator == "d" else 2 * (count - 1)
    exponents = [(2 * i, max(below, 1)) for i in range(count)]  # of a single frequency: 0
    sines, cosines = sines_cosines(places, Turns.of(powers(base, exponents)))
    return _ordered(sines, cosines, dim, order, dtype)


def _ordered(
    sines: np.ndarray, cosines: np.ndarray, dim: int, order: str, dtype: np.dtype
) -> np.ndarray:
    out = np.zeros((*sines.shape[:-1], dim), dtype)
    half = dim // 2
    if order == "interleaved":
        out[..., 0::2], out[..., 1::2] = sines, cosines[..., :half]
    else:
        first, second = (sines, cosines) if order == "concat" else (cosines, sines)
        out[..., :half], out[..., half : 2 * half] = first, second
    return out


def sinusoidal_2d(
    grid: tuple[int, int],
    dim: int,
    *,
    convention: str,
    base: float = 10000.0,
    normalize: bool = True,
    mask: Any = None,
    dtype: Any = np.float32,
) -> np.ndarray:
    """Sinusoidal positions on a grid, half of the numbers for each axis, as in MAE or DETR.

    Parameters
    ----------
    grid : (height, width)
        The pixels or patches, numbered row by row.
    dim : int
        D, a multiple of 4.
    convention : {"mae", "detr"}
        "mae": columns (x) in the first half, rows (y) in the second, counted from 0; in each all
        sines, then all cosines. "detr": rows in the first half, columns in the second, counted
        from 1; in each sin, cos, sin, cos, ...
    base : float, default 10000.0
    normalize : bool, default True
        "detr" only: positions are divided by the last one (plus 1e-6) and multiplied by 2 pi.
    mask : array_like of bool, (..., height, width), optional
        "detr" only: which pixels are there, where images of different sizes are padded. Only these
        are counted. (The mask of DETR's code says which are not.)
    dtype : dtype, default float32

    Returns
    -------
    ndarray, (height * width, D), or (..., height * width, D) with a mask

    Raises
    ------
    TypeError
        Sizes that are not integers; a mask that is not of bools.
    ValueError
        A `dim` that is not a multiple of 4; an unknown convention; a mask for "mae".

    Notes
    -----
    He et al. 2021, "Masked Autoencoders", arXiv 2111.06377, and its `util/pos_embed.py`; Carion et
    al. 2020, "End-to-End Object Detection with Transformers", arXiv 2005.12872, and its
    `models/position_encoding.py`.

    Examples
    --------
    >>> from pyattn import positional
    >>> positional.sinusoidal_2d((2, 2), 4, convention="mae").round(2)  # sin x, cos x, sin y, cos y
    array([[0.  , 1.  , 0.  , 1.  ],
           [0.84, 0.54, 0.  , 1.  ],
           [0.  , 1.  , 0.84, 0.54],
           [0.84, 0.54, 0.84, 0.54]], dtype=float32)
    """
    function = "sinusoidal_2d"
    grid = _check_encodings.grid(function, "grid", grid)
    dim = _check_positions.multiple(function, "dim", dim, 4)
    base = _check_positions.base(function, "base", base)
    _check_encodings.choice(function, "convention", convention, ("mae", "detr"))
    dtype = _check_encodings.dtype(function, dtype)
    normalize = _check.flag(function, "normalize", normalize)
    if convention == "mae":
        _check_positions.no_mask(function, mask)
        down, across = np.indices(grid)
        halves, order = (across, down), "concat"
    else:
        there = np.ones(grid, bool) if mask is None else _check_positions.mask(function, mask, grid)
        counts = [there.cumsum(axis, dtype=np.float64) for axis in (-2, -1)]
        if normalize and there.size:
            counts = [
                n / (n.take([-1], axis) + 1e-6) * (2 * math.pi)
                for n, axis in zip(counts, (-2, -1), strict=True)
            ]
        halves, order = counts, "interleaved"
    turns = Turns.of(geometric(base, dim // 2))
    parts = [_ordered(*sines_cosines(n, turns), dim // 2, order, dtype) for n in halves]
    joined = np.concatenate(parts, axis=-1)
    return joined.reshape(*joined.shape[:-3], grid[0] * grid[1], dim)
