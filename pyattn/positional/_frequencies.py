"""The frequencies of rotary position embeddings, and what makes them: scalings, axes, decay.

Computed with 60 digits, since at position 2**24 the last bit of a float64 frequency shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from pyattn import _check, _check_encodings, _check_numbers, _check_positions
from pyattn.positional._angles import PRECISE, Turns


@dataclass(frozen=True, eq=False, slots=True)
class RopeFrequencies:
    """What `rope` turns by; made by the functions of `pyattn.positional`, never directly.

    Immutable; pickles. Pair i of a head is turned by ``inv_freq[i]`` radians per position.

    Attributes
    ----------
    inv_freq : ndarray of float64, (pairs,)
        Inverse frequencies, rounded. `rope` computes with more digits.
    attention_factor : float
        Multiplies cosines and sines, and so the scores with its square.
    axes : ndarray of int64, (pairs,)
        Which of several positions turns each pair. 0 where there is but one.
    axis_count : int
        How many positions each token has.
    decay : ndarray of float64, (pairs,)
        log2 of what the numbers of each pair are multiplied by per position: xPos. 0: nothing.
    """

    inv_freq: np.ndarray
    attention_factor: float
    axes: np.ndarray
    axis_count: int
    decay: np.ndarray
    turns: Turns = field(repr=False)

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.inv_freq)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, tuple(getattr(self, f.name) for f in fields(self))


def _restored(*values: Any) -> RopeFrequencies:
    """From a pickle, in which arrays forget that they are read-only."""
    return RopeFrequencies(*(_fixed(v) if isinstance(v, np.ndarray) else v for v in values))


def frequencies_of(exact: Iterable[Decimal], attention_factor: float = 1.0) -> RopeFrequencies:
    """Of inverse frequencies in radians per position."""
    exact = list(exact)
    zeros = np.zeros(len(exact))
    return RopeFrequencies(
        _fixed(np.array([float(f) for f in exact])),
        float(attention_factor),
        _fixed(zeros.astype(np.int64)),
        1,
        _fixed(zeros),
        Turns.of(exact),
    )


def _fixed(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _on_axes(frequencies: RopeFrequencies, axes: np.ndarray, count: int) -> RopeFrequencies:
    return replace(frequencies, axes=_fixed(axes), axis_count=count)


def powers(base: float, exponents: Iterable[Any]) -> list[Decimal]:
    """``base ** -e`` for exponents as fractions (numerator, denominator)."""
    with localcontext(PRECISE):
        logarithm = Decimal(base).ln()
        return [(-logarithm * n / d).exp() for n, d in exponents]


def geometric(base: float, size: int) -> list[Decimal]:
    """``base ** (-2 i / size)`` for the pairs of `size` numbers."""
    return powers(base, [(2 * i, size) for i in range(size // 2)])


def rope_sections(
    frequencies: RopeFrequencies, sections: Sequence[int], *, interleaved: bool = False
) -> RopeFrequencies:
    """Share out the pairs to several positions per token: M-RoPE of Qwen-VL.

    Parameters
    ----------
    frequencies : RopeFrequencies
    sections : sequence of int
        ``mrope_section``: how many pairs each axis (time, height, width) has; their sum is the
        number of pairs.
    interleaved : bool, default False
        False, as in Qwen2-VL: the first `sections[0]` pairs are those of axis 0, and so on. True,
        as in Qwen3-VL: every third pair from the second on is axis 1's and from the third on axis
        2's, as many as it has; all others are axis 0's. Has nothing to do with `rope`'s
        `interleaved`, which says what a pair is.

    Returns
    -------
    RopeFrequencies
        `rope` then takes positions (axes, ..., L).

    Raises
    ------
    TypeError, ValueError
        Sections that are not whole numbers or have another sum; frequencies that have axes already.

    Notes
    -----
    Wang et al. 2024, "Qwen2-VL", section 2.1, arXiv 2409.12191; Qwen3-VL's model code.

    Examples
    --------
    >>> from pyattn import positional
    >>> frequencies = positional.rope_frequencies(16)
    >>> positional.rope_sections(frequencies, [2, 3, 3]).axes
    array([0, 0, 1, 1, 1, 2, 2, 2])
    >>> positional.rope_sections(frequencies, [4, 2, 2], interleaved=True).axes
    array([0, 1, 2, 0, 1, 2, 0, 0])
    """
    function = "rope_sections"
    frequencies = _check_positions.frequencies(function, frequencies, RopeFrequencies)
    _check_positions.one_axis(function, frequencies.axis_count)
    sections = _check_positions.sections(function, sections, len(frequencies))
    if not _check.flag(function, "interleaved", interleaved):
        axes = np.repeat(np.arange(len(sections)), sections)
    else:
        _check_positions.interleaved_sections(function, sections)
        axes = np.zeros(len(frequencies), np.int64)
        for axis, count in enumerate(sections[1:], 1):
            axes[axis : len(sections) * count : len(sections)] = axis
    return _on_axes(frequencies, axes, len(sections))


def rope_axial(head_dim: int, theta: float = 10000.0, *, axes: int = 2) -> RopeFrequencies:
    """Frequencies for grids: each axis turns an equal share of the pairs, with all frequencies.

    Parameters
    ----------
    head_dim : int
        D, a multiple of ``2 * axes``.
    theta : float, default 10000.0
        Pair i of an axis has the inverse frequency ``theta ** (-2 i / (head_dim / axes))``.
    axes : int, default 2

    Returns
    -------
    RopeFrequencies
        The first pairs are those of axis 0, the rows. `rope` takes positions (axes, ..., L), such
        as those of `grid_positions`.

    Raises
    ------
    TypeError, ValueError
        A size that is not a multiple of ``2 * axes``; a theta that is not positive, or 1.

    Notes
    -----
    With pixel numbers and ``interleaved=True`` these are timm's `build_rotary_pos_embed` for
    language-like frequencies; with ``grid_positions(grid, convention="dinov3")``, a `theta` of 100
    and ``interleaved=False`` those of DINOv3 (Siméoni et al. 2025, arXiv 2508.10104). Tokens that
    are no pixels (class token, registers) are not turned: leave them out by a slice, or give them
    position 0, which changes nothing.

    Examples
    --------
    >>> from pyattn import positional
    >>> frequencies = positional.rope_axial(8)
    >>> frequencies.inv_freq
    array([1.  , 0.01, 1.  , 0.01])
    >>> frequencies.axes
    array([0, 0, 1, 1])
    """
    function = "rope_axial"
    axes = _check_numbers.whole(function, "axes", axes, 1)
    head_dim = _check_positions.multiple(function, "head_dim", head_dim, 2 * axes)
    theta = _check_positions.base(function, "theta", theta)
    one = geometric(theta, head_dim // axes)
    return _on_axes(frequencies_of(one * axes), np.repeat(np.arange(axes), len(one)), axes)


def grid_positions(grid: tuple[int, int], *, convention: str = "pixel") -> np.ndarray:
    """The positions of the pixels of a grid, row by row.

    Parameters
    ----------
    grid : (height, width)
    convention : {"pixel", "dinov3"}
        "pixel": numbers of rows and columns, from 0 on. "dinov3": centres of pixels, from -1 to 1
        along each axis, times 2 pi: there a frequency is one per side of the image.

    Returns
    -------
    ndarray, (2, height * width)
        Rows, then columns. int64, or float64 for "dinov3".

    Raises
    ------
    TypeError, ValueError
        A grid that is not two whole numbers; an unknown convention.

    Examples
    --------
    >>> from pyattn import positional
    >>> positional.grid_positions((2, 3))
    array([[0, 0, 0, 1, 1, 1],
           [0, 1, 2, 0, 1, 2]])
    """
    height, width = _check_encodings.grid("grid_positions", "grid", grid)
    _check_encodings.choice("grid_positions", "convention", convention, ("pixel", "dinov3"))
    places = np.indices((height, width)).reshape(2, -1)
    if convention == "pixel":
        return places
    extents = np.array([[height], [width]])
    return (2 * places + 1 - extents) / np.maximum(extents, 1) * (2 * math.pi)


def xpos_frequencies(
    head_dim: int, theta: float = 10000.0, *, keys: bool = False, scale_base: float = 512.0
) -> RopeFrequencies:
    """Frequencies of xPos: rotary positions whose product decays with the distance.

    Queries are multiplied by ``zeta_i ** (p / scale_base)`` and keys by its inverse, with ``zeta_i
    = (2 i / head_dim + 0.4) / 1.4``, so that the score of pair i has the factor ``zeta_i ** ((p -
    q) / scale_base)``.

    Parameters
    ----------
    head_dim : int
        D, even.
    theta : float, default 10000.0
    keys : bool, default False
        False: for queries. True: for keys.
    scale_base : float, default 512.0
        Positions after which the decay is `zeta`.

    Returns
    -------
    RopeFrequencies
        For `rope`. The factors leave the range of float32 some 35,000 positions away from 0, so
        subtract the same number from the positions of queries and keys: only differences count.

    Raises
    ------
    TypeError, ValueError
        An odd size; numbers that are not positive.

    Notes
    -----
    Sun et al. 2022, "A Length-Extrapolatable Transformer", section 3.2, arXiv 2212.10554.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import positional
    >>> q, k = np.ones((1, 4)), np.ones((1, 4))
    >>> near, far = (positional.rope(q, p, positional.xpos_frequencies(4), interleaved=False)
    ...     @ positional.rope(k, 0, positional.xpos_frequencies(4, keys=True), interleaved=False).T
    ...     for p in (0, 628))
    >>> (far / near).round(2)
    array([[0.39]])
    """
    function = "xpos_frequencies"
    head_dim = _check_positions.multiple(function, "head_dim", head_dim, 2)
    theta = _check_positions.base(function, "theta", theta)
    scale_base = _check_encodings.positive(function, "scale_base", scale_base)
    keys = _check.flag(function, "keys", keys)
    zeta = (np.arange(0, head_dim, 2) / head_dim + 0.4) / 1.4
    decay = np.log2(zeta) / (-scale_base if keys else scale_base)
    return replace(frequencies_of(geometric(theta, head_dim)), decay=_fixed(decay))
