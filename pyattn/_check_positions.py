"""Words the errors of rotary, sinusoidal and added positions.

Kinds and dtypes raise `TypeError`, shapes and ranges `ValueError`. A message names the function,
the argument, what was met and the rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from pyattn._check_encodings import floats, positive
from pyattn._check_numbers import entry, is_masked, whole
from pyattn._check_terms import FLOATS, NUMPY_FLOATS, not_too_many_axes

LARGEST_POSITION = 2**32
LARGEST_SIZE = 2**24


# Arrays.


def elements(function: str, name: str, value: Any, axes: str) -> np.ndarray:
    """`value` as a float array in native byte order, with at least the axes that `axes` names."""
    if type(value) is np.ndarray and value.dtype in NUMPY_FLOATS:  # in nearly every call: be quick
        a = value
    else:
        a = floats(function, name, value)
    least = axes.count(",") + 1
    if a.ndim < least:
        raise ValueError(f"{function}: {name} needs at least {least} axes ({axes}), got {a.shape}")
    not_too_many_axes(function, name, a.ndim)
    return a


def table(function: str, value: Any, x: np.ndarray) -> np.ndarray:
    """A table of rows to be added to those of x."""
    a = elements(function, "table", value, "positions, size")
    if a.dtype != x.dtype:
        raise TypeError(
            f"{function}: x and table must have the same dtype: x {x.dtype}, table {a.dtype}"
        )
    if a.ndim != 2 or a.shape[1] != x.shape[-1]:
        raise ValueError(
            f"{function}: table must be (positions, {x.shape[-1]}) for x {x.shape}, got {a.shape}"
        )
    return a


def positions(function: str, value: Any) -> np.ndarray:
    """Positions of any shape, as int64 or float64, finite and of a size that angles are made for.

    Always an array of its own: nobody may change what has been checked.
    """
    if is_masked(value):
        raise TypeError(f"{function}: positions must not be a masked array")
    a = np.asarray(value)
    if a.dtype.kind not in "iuf" and a.dtype.name != "bfloat16":
        raise TypeError(f"{function}: positions must be real numbers, got {a.dtype}")
    a = a.astype(a.dtype if a.dtype.kind in "iu" else np.float64, order="C")
    # Before the cast, which could turn a large number into a legal one; nan is not within either.
    if a.size and not (a.min() > -LARGEST_POSITION and a.max() < LARGEST_POSITION):
        within = (a > -LARGEST_POSITION) & (a < LARGEST_POSITION)
        at = tuple(np.argwhere(~within)[0])
        raise ValueError(
            f"{function}: {entry('positions', at)} = {a[at]} is outside (-2**32, 2**32)"
        )
    return a if a.dtype.kind == "f" else a.astype(np.int64)


def indices(function: str, value: Any, rows: int) -> np.ndarray:
    """Whole positions within a table of that many rows, as an int64 array of its own."""
    if is_masked(value):
        raise TypeError(f"{function}: positions must not be a masked array")
    a = np.array(value, order="C")  # before looking: nobody may change what has been checked
    if a.dtype.kind not in "iu" and a.size:
        raise TypeError(f"{function}: positions in a table must be integers, got {a.dtype}")
    if a.size and not (a.min() >= 0 and a.max() < rows):
        at = tuple(np.argwhere((a < 0) | (a >= rows))[0])
        raise ValueError(
            f"{function}: {entry('positions', at)} = {a[at]} is outside [0, {rows}) "
            "covered by the table"
        )
    return a.astype(np.int64)


def length_within(function: str, length: int, rows: int) -> None:
    if length > rows:
        raise ValueError(
            f"{function}: x has {length} positions, the table covers [0, {rows}): "
            "give positions, or a longer table"
        )


def several_axes(function: str, shape: tuple[int, ...] | None, axes: int) -> None:
    """The first axis of positions on several axes counts these."""
    if axes > 1 and shape is None:
        raise ValueError(
            f"{function}: positions are needed: these frequencies turn with {axes} of them each"
        )
    if axes > 1 and (not shape or shape[0] != axes):
        raise ValueError(
            f"{function}: these frequencies turn with {axes} positions each: positions must be "
            f"({axes}, ..., length), got {shape}"
        )


def broadcasts(
    function: str, shape: tuple[int, ...], wanted: tuple[int, ...], x: tuple[int, ...]
) -> None:
    """Of the positions, without an axis that counts several of them, to (..., length)."""
    if shape == wanted or not shape:
        return
    try:
        fits = np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{function}: positions {shape} do not broadcast to {wanted} [..., length] of x {x}"
        )


# Sizes and frequencies.


def rotated(function: str, pairs: int, x: tuple[int, ...]) -> None:
    if 2 * pairs > x[-1]:
        raise ValueError(
            f"{function}: {pairs} frequencies turn {2 * pairs} numbers, but x {x} has {x[-1]} "
            "in a head"
        )


def size(function: str, name: str, value: Any) -> int:
    """Of an encoding: every number of it is computed with many digits first."""
    number = whole(function, name, value)
    if number > LARGEST_SIZE:
        raise ValueError(f"{function}: {name} must be at most {LARGEST_SIZE}, got {number}")
    return number


def multiple(function: str, name: str, value: Any, of: int) -> int:
    """A size >= `of` that is divided by it."""
    number = size(function, name, whole(function, name, value, of))
    if number % of:
        raise ValueError(f"{function}: {name} must be a multiple of {of}, got {number}")
    return number


def frequencies(function: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(
            f"{function}: frequencies must be those of pyattn.positional.rope_frequencies, "
            f"got {type(value).__name__}"
        )
    return value


def not_falling(function: str, low_name: str, low: Any, high_name: str, high: Any) -> None:
    if low > high:
        raise ValueError(
            f"{function}: {low_name} must not be above {high_name}, got {low} and {high}"
        )


def rotary_size(function: str, head_dim: int, part: float) -> int:
    """How many numbers of a head are turned."""
    size = int(head_dim * part)
    if size < 2 or size % 2:
        raise ValueError(
            f"{function}: the numbers that are turned must come in pairs: "
            f"int(head_dim {head_dim} * partial_rotary_factor {part:g}) = {size}"
        )
    return size


def base(function: str, name: str, value: Any) -> float:
    number = positive(function, name, value)
    if not 1e-9 <= number <= 1e30 or number == 1:
        raise ValueError(f"{function}: {name} must be within [1e-9, 1e30], and not 1, got {number}")
    return number


def inverse_frequencies(function: str, value: Any) -> np.ndarray:
    """(pairs,) of any float type, as float64."""
    if is_masked(value):
        raise TypeError(f"{function}: frequencies must not be a masked array")
    a = np.asarray(value)
    if a.dtype.name not in FLOATS:
        raise TypeError(
            f"{function}: frequencies must be of pyattn.positional.rope_frequencies, a RopeTable "
            f"or an array of floats, got {type(value).__name__} of {a.dtype}"
        )
    if a.ndim != 1 or not a.size:
        raise ValueError(f"{function}: frequencies must be (pairs,), got {a.shape}")
    a = a.astype(np.float64)
    for at in np.flatnonzero(~(np.abs(a) < LARGEST_POSITION))[:1]:
        raise ValueError(f"{function}: frequencies[{at}] = {a[at]} is outside (-2**32, 2**32)")
    return a


def sections(function: str, value: Any, pairs: int) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) and np.ndim(value) != 1:
        raise TypeError(f"{function}: sections must be a list of integers, got {value!r}")
    found = tuple(whole(function, f"sections[{n}]", v) for n, v in enumerate(value))
    if sum(found) != pairs:
        raise ValueError(
            f"{function}: sections {list(found)} have {sum(found)} pairs, "
            f"the frequencies have {pairs}"
        )
    return found


def interleaved_sections(function: str, sections: Sequence[int]) -> None:
    """Of n axes, axis k > 0 takes the pairs k, k + n, k + 2 n, ...; all must be there."""
    axes, pairs = len(sections), sum(sections)
    for axis, count in enumerate(sections[1:], 1):
        last = axes * (count - 1) + axis
        if count and last >= pairs:
            raise ValueError(
                f"{function}: sections {list(sections)} cannot be interleaved: the last pair of "
                f"axis {axis} would be {last}, there are {pairs}"
            )


def one_axis(function: str, axes: int) -> None:
    if axes > 1:
        raise ValueError(f"{function}: these frequencies have {axes} axes already")


def table_pair(function: str, cosines: Any, sines: Any) -> tuple[np.ndarray, np.ndarray]:
    """(positions, pairs) both, as float64."""
    pair = [
        elements(function, name, a, "positions, pairs").astype(np.float64)
        for name, a in (("cosines", cosines), ("sines", sines))
    ]
    if pair[0].ndim != 2 or pair[0].shape != pair[1].shape or not pair[0].shape[1]:
        raise ValueError(
            f"{function}: cosines and sines must both be (positions, pairs): "
            f"{pair[0].shape} and {pair[1].shape}"
        )
    return pair[0], pair[1]


# Configurations.


def mapping(function: str, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{function}: {name} must be a dict as in a checkpoint's configuration, "
            f"got {type(value).__name__}"
        )
    return value


def known_keys(function: str, given: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(str(key) for key in given if key not in known)
    if unknown:
        raise ValueError(
            f"{function}: scaling has the unknown entries {', '.join(unknown)}, which may change "
            "the result: leave them out if they do not"
        )


def scaling_type(
    function: str, given: Mapping[str, Any], known: Mapping[str, Any], old: Mapping[str, str]
) -> str:
    """The name of a scaling, of which `old` has other names."""
    names = [given[key] for key in ("rope_type", "type") if given.get(key) is not None]
    found = {old.get(n, n) if isinstance(n, str) else str(n) for n in names}
    if len(found) != 1:
        what = "no rope_type" if not found else f"both {' and '.join(sorted(map(repr, found)))}"
        raise ValueError(f"{function}: scaling has {what}: known are {', '.join([*known, *old])}")
    (name,) = found
    if name not in known:
        raise ValueError(
            f"{function}: rope_type {name!r} is unknown: known are {', '.join([*known, *old])}"
        )
    return name


def part(function: str, value: Any) -> float:
    number = positive(function, "partial_rotary_factor", value)
    if number > 1:
        raise ValueError(f"{function}: partial_rotary_factor must be within (0, 1], got {number}")
    return number


def some_pairs(function: str, pairs: int) -> int:
    if not pairs:
        raise ValueError(f"{function}: partial_rotary_factor is so small that no pair is turned")
    return pairs


def above_one(function: str, name: str, value: float) -> None:
    if not value > 1:
        raise ValueError(f"{function}: {name} must be above 1, got {value:g}")


def head_size(function: str, width: Any, heads: Any, has_text: bool) -> int:
    if width is None or heads is None:
        raise ValueError(
            f"{function}: the configuration has no head_dim, or hidden_size and heads"
            + (': give its "text_config"' if has_text else "")
        )
    return whole(function, "hidden_size", width) // whole(function, "num_attention_heads", heads, 1)


def at_most(function: str, name: str, value: int, other_name: str, other: int) -> None:
    if value > other:
        raise ValueError(f"{function}: {name} {value} is more than {other_name} {other}")


def rotary_config(function: str, config: Mapping[str, Any]) -> None:
    """Refuse configurations that say that positions are not rotary, or not as known here."""
    kind = "alibi" if config.get("alibi") else config.get("position_embedding_type", "rope")
    if kind not in ("rope", "rotary"):
        raise ValueError(f"{function}: the positions of this configuration are not rotary: {kind}")
    if config.get("rope_ratio", 1) != 1:
        raise ValueError(f"{function}: rope_ratio is unknown: use rope_frequencies")


def needed(function: str, kind: str, name: str, value: Any, where: str = "scaling") -> Any:
    if value is None:
        raise ValueError(f"{function}: rope_type {kind!r} needs {name} (in {where})")
    return value


def factors(function: str, name: str, value: Any, pairs: int) -> np.ndarray:
    a = np.asarray(value)
    if a.dtype.kind not in "iuf" or a.shape != (pairs,):
        raise ValueError(
            f"{function}: {name} must have {pairs} numbers, one per pair, "
            f"got {a.shape} of {a.dtype}"
        )
    for at in np.flatnonzero(~(np.isfinite(a) & (a > 0)))[:1]:
        raise ValueError(f"{function}: {name}[{at}] = {a[at]} must be positive and finite")
    return a.astype(np.float64)


def several_layer_types(function: str, found: Sequence[str], wanted: Any) -> NoReturn:
    asked = "give layer_type=" if wanted is None else f"there is no layer_type {wanted!r}"
    raise ValueError(
        f"{function}: the layer types of this configuration have frequencies of their own "
        f"({', '.join(map(repr, found))}): {asked}"
    )


# Sinusoids.


def mask(function: str, value: Any, grid: tuple[int, int]) -> np.ndarray:
    a = np.asarray(value)
    if a.dtype != bool:
        raise TypeError(f"{function}: mask must be boolean (True = a pixel), got {a.dtype}")
    if a.ndim < 2 or a.shape[-2:] != grid:
        raise ValueError(f"{function}: mask must be (..., {grid[0]}, {grid[1]}), got {a.shape}")
    return a


def no_mask(function: str, mask: Any) -> None:
    if mask is not None:
        raise ValueError(f"{function}: the convention 'mae' does not count by a mask: use 'detr'")


def one_way(function: str, frequencies: Any, length: Any, cosines: Any, sines: Any) -> None:
    computed, given = (frequencies, length), (cosines, sines)
    if [x is None for x in (*computed, *given)].count(True) != 2 or (
        any(x is None for x in computed) and any(x is None for x in given)
    ):
        raise ValueError(f"{function}: give frequencies and length, or cosines= and sines=")
