"""Rotary position embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

from pyattn import _check, _check_numbers, _check_positions
from pyattn._pieces import spread
from pyattn.positional import _rows
from pyattn.positional._angles import Turns, sines_cosines
from pyattn.positional._frequencies import RopeFrequencies, frequencies_of
from pyattn.positional._kept import kept

MADE_ROWS = 4096  # of a table, at a time
KEPT_ROWS = 64  # tables begin and end at multiples: the next tokens find theirs as well


@dataclass(frozen=True, eq=False, slots=True)
class RopeTable:
    """Cosines and sines of positions 0, 1, ..., for `rope`; made by `rope_table`, never directly.

    Attributes
    ----------
    cosines, sines : ndarray of float64, (positions, pairs)
        Views of one array.
    """

    numbers: np.ndarray  # (positions, 2 * pairs), C-contiguous

    def __post_init__(self) -> None:
        self.numbers.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        return RopeTable, (self.numbers,)  # anew: in a pickle arrays forget that they are read-only

    @property
    def cosines(self) -> np.ndarray:
        return self.numbers[:, : self.numbers.shape[1] // 2]

    @property
    def sines(self) -> np.ndarray:
        return self.numbers[:, self.numbers.shape[1] // 2 :]

    def __len__(self) -> int:
        """The number of positions."""
        return len(self.numbers)

    def __repr__(self) -> str:
        positions, numbers = self.numbers.shape
        return f"<RopeTable of {positions} positions, {numbers // 2} pairs>"


def rope_table(
    frequencies: Any = None, length: int | None = None, *, cosines: Any = None, sines: Any = None
) -> RopeTable:
    """A table of cosines and sines, to compute them once and for all, or to bring one's own.

    `rope` keeps the tables of its last calls by itself, up to 256 MB in all; a table of one's own
    is for larger ones, and for positions that must not go beyond it.

    Parameters
    ----------
    frequencies : RopeFrequencies or array_like of float, (pairs,)
        As of `rope`, of one axis.
    length : int
        How many positions, from 0 on.
    cosines, sines : array_like of float, (positions, pairs), optional
        Instead of the first two: a table that is there already, as of ONNX (`cos_cache`,
        `sin_cache`). From Hugging Face's (positions, 2 * pairs), in which all stand twice, take
        ``[:, :pairs]``.

    Returns
    -------
    RopeTable
        float64, whatever was given.

    Raises
    ------
    TypeError, ValueError
        Shapes that differ; frequencies of several axes; both or none of the two ways.

    Examples
    --------
    >>> from pyattn import positional
    >>> positional.rope_table(positional.rope_frequencies(64), 4096)
    <RopeTable of 4096 positions, 32 pairs>
    """
    function = "rope_table"
    _check_positions.one_way(function, frequencies, length, cosines, sines)
    if cosines is not None:
        return RopeTable(np.concatenate(_check_positions.table_pair(function, cosines, sines), 1))
    found = _frequencies(function, frequencies)
    _check_positions.one_axis(function, found.axis_count)
    length = _check_numbers.whole(function, "length", length)
    _check_positions.positions(function, max(length - 1, 0))
    return RopeTable(_table(found, np.dtype(np.float64), np.arange(length)))


def rope(
    x: Any,
    positions: Any,
    frequencies: Any,
    *,
    interleaved: bool,
    layout: str = "bhld",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Rotary position embeddings: turn pairs of numbers by angles proportional to the position.

    For pair (a, b) of a row at position p and inverse frequency f it computes ``(a cos(p f) - b
    sin(p f), a sin(p f) + b cos(p f))``. Apply it to queries and keys: the score of two rows then
    depends on the difference of their positions only.

    Parameters
    ----------
    x : array_like, (..., H, L, D)
        Queries or keys, of any strides: float32, float64, float16 or bfloat16. (H, L, D) and (L,
        D) work too.
    positions : array_like of int or float, (L,) or what broadcasts to (..., L); or None
        Smaller than 2**32 in size, of any sign; one row per sequence, (B, L), where they differ.
        None: 0, 1, ..., L - 1. Frequencies of n > 1 axes take n positions per row, (n, ..., L).
    frequencies : RopeFrequencies, RopeTable or array_like of float, (pairs,)
        Of `rope_frequencies` and its relatives, or inverse frequencies as they are; or a table,
        in which positions are rows. If they are fewer than D / 2 pairs, only the first ``2 *
        pairs`` numbers of a head are turned.
    interleaved : bool
        What a pair is; there is no default, because a wrong one is not noticed. False: (i, i +
        pairs), "half-split", as in Llama, Qwen, Gemma, GPT-NeoX and most on Hugging Face. True: (2
        i, 2 i + 1), as in the paper, GPT-J, DeepSeek, and Llama's own and GGUF weights (of GGUF
        files those of Llama's kind only: Qwen's and Gemma's are half-split).
    layout : {"bhld", "blhd"}
        "blhd" means (..., L, H, D).
    out : ndarray, optional
        Where to write, of the shape and dtype of `x`. May be `x` itself; such a call is not
        interrupted by Ctrl-C, so that `x` is never left turned in part.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` if that was given.

    Raises
    ------
    TypeError
        Another dtype; positions that are not numbers, or not integers for a table.
    ValueError
        More pairs than there are; positions that do not broadcast, are not finite, or outside the
        table.

    Notes
    -----
    Su et al. 2021, "RoFormer", arXiv 2104.09864, section 3.2. Angles are right to some 1e-16 at any
    position. float32 is computed in double, so every number is right to 0.5 ulp unless a and b all
    but cancel; float16 and bfloat16 are computed in float32. Time is that of reading and writing
    memory, once there is a table of the positions, which takes about 5 us for each. Tables are kept
    for later calls, up to 256 MB in all. Results do not depend on threads, layout or strides.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import positional
    >>> frequencies = positional.rope_frequencies(64, 10000.0)
    >>> q, k = np.ones((2, 1, 8, 5, 64), np.float32)
    >>> q = positional.rope(q, None, frequencies, interleaved=False)
    >>> k = positional.rope(k, np.arange(5), frequencies, interleaved=False, out=k)
    >>> scores = q @ k.swapaxes(-1, -2)
    >>> bool(np.allclose(scores[0, 0, 2, 1], scores[0, 0, 4, 3]))  # one apart, both
    True
    """
    function = "rope"
    x = _check_positions.elements(function, "x", x, "length, size")
    _check.layout(function, layout)
    interleaved = _check.flag(function, "interleaved", interleaved)
    heads_first = x.ndim > 2 and layout == "blhd"
    rows = (*x.shape[:-3], x.shape[-3 if heads_first else -2])
    if isinstance(frequencies, RopeTable):
        pairs = frequencies.numbers.shape[1] // 2
        table, index = _rows_of_table(function, frequencies, positions, rows, x)
    else:
        found = _frequencies(function, frequencies)
        pairs = len(found)
        table, index = _rows_of_frequencies(function, found, positions, rows, x)
    _check_positions.rotated(function, pairs, x.shape)

    def inner(a: np.ndarray) -> np.ndarray:
        return a[None] if a.ndim == 2 else a.swapaxes(-3, -2) if heads_first else a

    def kernel(a: np.ndarray, b: np.ndarray) -> None:
        _rows.rope_kernel(a, b, spread(index, rows), table, interleaved)

    return _rows.apply(function, x, out, kernel, inner)


def _frequencies(function: str, value: Any) -> RopeFrequencies:
    if isinstance(value, RopeFrequencies):
        return value
    given = _check_positions.inverse_frequencies(function, value)
    return _given_frequencies(given.tobytes())


@lru_cache(maxsize=16)
def _given_frequencies(numbers: bytes) -> RopeFrequencies:
    """The same object for the same numbers, so that its tables are found again."""
    return frequencies_of(Decimal(float(f)) for f in np.frombuffer(numbers))


def _computed(x: np.ndarray) -> np.dtype:
    """The type in which the kernel computes, and the table is."""
    return np.dtype(np.float32 if x.dtype.itemsize == 2 else np.float64)


def _rows_of_table(
    function: str, table: RopeTable, positions: Any, rows: tuple[int, ...], x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    index = _rows.rows_of_table(function, positions, len(table), rows, x)
    if _computed(x) == np.float64:
        return table.numbers, index
    return kept((table, "float32"), lambda: table.numbers.astype(np.float32)), index


def _numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)


def _rows_of_frequencies(
    function: str,
    frequencies: RopeFrequencies,
    positions: Any,
    rows: tuple[int, ...],
    x: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """A table with a row for each position that is needed, and which one each row of x needs."""
    axes, dtype = frequencies.axis_count, _computed(x)
    if positions is None:
        _check_positions.several_axes(function, None, axes)
        return _range_table(frequencies, dtype, 0, rows[-1]), np.arange(rows[-1])
    places = _check_positions.positions(function, positions)
    _check_positions.several_axes(function, places.shape, axes)
    own = places.shape if axes == 1 else places.shape[1:]
    _check_positions.broadcasts(function, own, rows, x.shape)
    if axes == 1 and places.size and places.dtype.kind == "i":
        low, high = int(places.min()), int(places.max()) + 1
        if high - low <= places.size:  # of neighbours each one once
            low -= low % KEPT_ROWS
            return _range_table(frequencies, dtype, low, high + -high % KEPT_ROWS), places - low
    return _any_table(frequencies, dtype, places), _numbered(own)


def _range_table(frequencies: RopeFrequencies, dtype: np.dtype, low: int, high: int) -> np.ndarray:
    def make() -> np.ndarray:
        return _table(frequencies, dtype, np.arange(low, high))

    return kept((frequencies, dtype, low, high), make)


def _any_table(frequencies: RopeFrequencies, dtype: np.dtype, places: np.ndarray) -> np.ndarray:
    def make() -> np.ndarray:
        return _table(frequencies, dtype, places)

    return kept((frequencies, dtype, places.dtype, places.shape, places.tobytes()), make)


def _table(frequencies: RopeFrequencies, dtype: np.dtype, places: np.ndarray) -> np.ndarray:
    """Cosines, then sines, (positions, 2 * pairs), of positions of any shape."""
    by_axis = places.reshape(frequencies.axis_count, -1)
    table = np.empty((by_axis.shape[1], 2 * len(frequencies)), dtype)
    for at in range(0, len(table), MADE_ROWS):  # so that what lies between does not grow
        part = slice(at, at + MADE_ROWS)
        for axis in range(frequencies.axis_count):
            _fill(table[part], frequencies, axis, by_axis[axis, part])
    return table


def _fill(table: np.ndarray, frequencies: RopeFrequencies, axis: int, places: np.ndarray) -> None:
    """Those numbers that one axis turns."""
    pairs, turns = len(frequencies), frequencies.turns
    own = np.flatnonzero(frequencies.axes == axis)
    sines, cosines = sines_cosines(places, Turns(turns.high[own], turns.low[own], turns.near[own]))
    scale = frequencies.attention_factor
    if frequencies.decay.any():
        scale = scale * np.exp2(places[:, None] * frequencies.decay[own])
    table[:, own], table[:, pairs + own] = cosines * scale, sines * scale
