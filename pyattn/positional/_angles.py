"""Sines and cosines of position * frequency, right to the last places at any position.

In float64 the product of a position near 2**24 and a frequency is off by some 1e-9 before any sine
is taken, which is many units in the last place wherever the sine is small. So a frequency is kept
as turns per position, ``frequency / (2 pi)``, of which only the fraction counts for a whole
position: as a whole number of 2**-128 turns, computed once with 60 digits. Its product with a whole
position, modulo 1, is exact arithmetic on unsigned integers; what is left is an angle within an
eighth of a turn, for which sine and cosine of float64 are right to about 2 ulp.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

import numpy as np

PRECISE = Context(prec=60)  # of all arithmetic on frequencies
TWO_PI = Decimal("6.28318530717958647692528676655900576839433879875021164194988918")
MOST = 2**32  # positions are smaller in size
BLOCK = 1 << 16  # angles at a time: their parts stay in the caches


@dataclass(frozen=True, eq=False, slots=True)
class Turns:
    """Frequencies, in turns per position."""

    high: np.ndarray  # (n,) uint64: the fraction in units of 2**-64
    low: np.ndarray  # (n,) uint64: what comes after, in units of 2**-128
    near: np.ndarray  # (n,) float64: with whole turns

    @classmethod
    def of(cls, frequencies: Iterable[Decimal]) -> Turns:
        """Of frequencies in radians per position."""
        with localcontext(PRECISE):
            turns = [f / TWO_PI for f in frequencies]
            fixed = [int((t % 1) * 2**128) % 2**128 for t in turns]
        return cls(
            np.array([f >> 64 for f in fixed], np.uint64),
            np.array([f % 2**64 for f in fixed], np.uint64),
            np.array([float(t) for t in turns]),
        )


def sines_cosines(positions: np.ndarray, turns: Turns) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of every position times every frequency.

    Parameters
    ----------
    positions : ndarray of int64 or float64
        Smaller than 2**32 in size. The part after the point is good for 53 bits.

    Returns
    -------
    sine, cosine : ndarray of float64, positions.shape + (n,)
    """
    flat = positions.reshape(-1, 1)
    sine = np.empty((len(flat), len(turns.near)))
    cosine = np.empty_like(sine)
    rows = max(1, BLOCK // max(1, len(turns.near)))
    for at in range(0, len(flat), rows):
        part = slice(at, at + rows)
        _fill(sine[part], cosine[part], flat[part], turns)
    shape = (*positions.shape, len(turns.near))
    return sine.reshape(shape), cosine.reshape(shape)


def _fill(sine: np.ndarray, cosine: np.ndarray, positions: np.ndarray, turns: Turns) -> None:
    size = np.abs(positions)
    whole = np.floor(size).astype(np.uint64)  # < 2**32, so no product below overflows
    word = np.uint64(32)
    carried = whole * (turns.low & np.uint64(2**32 - 1)) >> word
    high = whole * turns.high + (whole * (turns.low >> word) + carried >> word)
    low = whole * turns.low
    if positions.dtype.kind == "f":
        more_high, more_low = _fraction((size - np.floor(size)) * turns.near)
        low += more_low
        high += more_high + (low < more_low)
    # To the nearest quarter of a turn, and what remains.
    high += np.uint64(1 << 61)
    quarter = high >> np.uint64(62)
    rest = (high & np.uint64(2**62 - 1)).astype(np.int64) - (1 << 61)
    angle = (rest * 2.0**-64 + low * 2.0**-128) * float(TWO_PI)
    s, c = np.sin(angle), np.cos(angle)
    odd = (quarter & np.uint64(1)).astype(bool)
    sine[...] = np.where(odd, c, s)
    cosine[...] = np.where(odd, s, c)
    backwards = (quarter >= 2) != (positions < 0)
    np.negative(sine, out=sine, where=backwards)
    np.negative(cosine, out=cosine, where=odd != (quarter >= 2))


def _fraction(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns, without the whole ones, as the two parts of a fixed-point number."""
    shifted = (turns - np.floor(turns)) * 2.0**64
    shifted[shifted == 2.0**64] = 0  # a little below 0, rounded
    high = np.floor(shifted)
    return high.astype(np.uint64), ((shifted - high) * 2.0**64).astype(np.uint64)
