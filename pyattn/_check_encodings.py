"""Words the errors of the encodings that are made of trained weights: tables, networks, cells.

Kinds and dtypes raise `TypeError`, shapes and ranges `ValueError`, and so does an equation that
cannot be solved. A message names the function, the argument, what was met and the rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from pyattn._check import real
from pyattn._check_numbers import is_masked, whole
from pyattn._check_terms import FLOATS

ANY_FLOAT = "float16, bfloat16, float32 or float64"


# Arrays and numbers.


def floats(function: str, name: str, value: Any, axes: str | None = None) -> np.ndarray:
    """`value` as a float array in native byte order; `axes` names those that it must have."""
    if is_masked(value):
        raise TypeError(f"{function}: {name} must not be a masked array")
    a = np.asarray(value)
    if a.dtype.name not in FLOATS:
        # Of strings, objects or complex numbers a cast would make something that was not meant.
        remedy = f": use {name}.astype(numpy.float32)" if a.dtype.kind in "iuf" else ""
        raise TypeError(f"{function}: {name} must be {ANY_FLOAT}, got {a.dtype}{remedy}")
    if axes is not None and a.ndim != axes.count(",") + 1:
        axes = axes if "," in axes else f"{axes},"
        raise ValueError(f"{function}: {name} must be ({axes}), got {a.shape}")
    return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))


def weights(function: str, name: str, value: Any, axes: str) -> np.ndarray:
    """As `floats`, but float64."""
    return floats(function, name, value, axes).astype(np.float64)


def dtype(function: str, value: Any) -> np.dtype:
    try:
        found = None if value is None else np.dtype(value)
    except TypeError:
        found = None
    if found is None or found.name not in FLOATS:
        raise TypeError(f"{function}: dtype must be {ANY_FLOAT}, got {value!r}")
    return found.newbyteorder("=")


def choice(function: str, name: str, value: Any, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        *most, last = map(repr, allowed)
        raise ValueError(f"{function}: {name} must be {', '.join(most)} or {last}, got {value!r}")


def positive(function: str, name: str, value: Any) -> float:
    number = real(function, name, value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{function}: {name} must be positive and finite, got {number}")
    return number


def finite(function: str, name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{function}: {name} must be finite")


# Learned tables.


def grid(function: str, name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{function}: {name} must be (height, width), got {value!r}")
    height, width = (whole(function, f"{name}[{n}]", v) for n, v in enumerate(value))
    return height, width


def offset(function: str, value: Any) -> float:
    number = real(function, "offset", value)
    if not 0 <= number < 1:  # else the scale would be that of another extent
        raise ValueError(f"{function}: offset must be within [0, 1), got {number}")
    return number


def rows_after(function: str, table: np.ndarray, prefix: int) -> int:
    """The number of positions in a table that begins with `prefix` rows of another kind."""
    if len(table) < prefix:
        raise ValueError(
            f"{function}: table {table.shape} has {len(table)} rows, fewer than prefix = {prefix}"
        )
    return len(table) - prefix


def rows_of_grid(function: str, table: np.ndarray, prefix: int, extents: tuple[int, int]) -> None:
    need = prefix + math.prod(extents)
    if len(table) != need:
        raise ValueError(
            f"{function}: table {table.shape} has {len(table)} rows, prefix = {prefix} and "
            f"grid {extents} need prefix + height * width = {need}"
        )


def not_from_nothing(function: str, old: tuple[int, ...], new: tuple[int, ...]) -> None:
    if math.prod(new) and not math.prod(old):
        was, to = ("x".join(map(str, extents)) for extents in (old, new))
        raise ValueError(f"{function}: {was} positions cannot be resampled to {to}")


# Differential equations.


def layers(
    function: str, value: Any, size: int
) -> list[tuple[np.ndarray, np.ndarray | None, np.ndarray]]:
    """The layers of a network from `size` numbers and tau to `size` numbers, in float64.

    Returns
    -------
    list of (weight, tau's column of it or None, bias)
    """
    if not isinstance(value, (tuple, list)):
        raise TypeError(
            f"{function}: layers must be a list of (weight, bias) or a function of tau and p, "
            f"got {type(value).__name__}"
        )
    if not value:
        raise ValueError(f"{function}: layers must be at least one (weight, bias)")
    found, width = [], size
    for n, pair in enumerate(value):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"{function}: layers[{n}] must be (weight, bias), got {type(pair).__name__}"
            )
        weight = weights(function, f"layers[{n}][0]", pair[0], "outputs, inputs")
        if weight.shape[1] not in (width, width + 1):
            raise ValueError(
                f"{function}: layers[{n}][0] {weight.shape} must have {width + 1} columns, "
                f"for {'p' if n == 0 else f'the outputs of layers[{n - 1}]'} and tau, or {width} "
                "without tau"
            )
        tau = weight[:, width] if weight.shape[1] > width else None
        bias = vector(function, f"layers[{n}][1]", pair[1], len(weight), f"layers[{n}][0]")
        found.append((weight[:, :width], tau, bias))
        width = len(weight)
    if width != size:
        raise ValueError(
            f"{function}: layers[{len(value) - 1}][0] must have {size} rows, as many as start has "
            f"entries, got {width}"
        )
    return found


def vector(function: str, name: str, value: Any, rows: int, weight: str) -> np.ndarray:
    """A bias of that many entries, as float64; None is 0."""
    if value is None:
        return np.zeros(rows)
    bias = weights(function, name, value, "outputs")
    if len(bias) != rows:
        raise ValueError(
            f"{function}: {name} must have shape ({rows},), as {weight} has {rows} rows, "
            f"got {bias.shape}"
        )
    return bias


def derivative(function: str, value: Any, size: int) -> np.ndarray:
    """What the user's function returned, as a float64 array of its own."""
    a = np.asarray(value)
    if a.dtype.kind not in "fiu" and a.dtype.name not in FLOATS:
        raise TypeError(f"{function}: layers(tau, p) must return real numbers, got {a.dtype}")
    if a.shape != (size,):
        raise ValueError(
            f"{function}: layers(tau, p) must return the shape of p, ({size},), got {a.shape}"
        )
    return a.astype(np.float64)


def diverges(function: str, position: int, tau: float) -> NoReturn:
    raise ValueError(
        f"{function}: the solution diverges or jumps between positions {position - 1} and "
        f"{position}: no step from tau = {tau:.17g} is small enough"
    )


def too_many_steps(function: str, position: int, tau: float, most: int) -> NoReturn:
    raise ValueError(
        f"{function}: more than {most} steps between positions {position - 1} and {position}, "
        f"now at tau = {tau:.17g}: increase rtol and atol or decrease step"
    )


# Recurrent cells.


def cell_weights(
    function: str, given: Sequence[Any], gates: int
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, np.ndarray]:
    """weight_ih (None if it is), weight_hh and both biases, as float64."""
    weight_ih, weight_hh, bias_ih, bias_hh = given
    hidden = weights(function, "weight_hh", weight_hh, "gates * D, D")
    rows, size = hidden.shape
    if rows != gates * size:
        raise ValueError(
            f"{function}: weight_hh must be (gates * D, D) with {gates} "
            f"{'gates' if gates > 1 else 'gate'}, got {hidden.shape}"
        )
    if weight_ih is not None:
        weight_ih = weights(function, "weight_ih", weight_ih, "gates * D, E")
        if len(weight_ih) != rows:
            raise ValueError(
                f"{function}: weight_ih and weight_hh must have as many rows: "
                f"weight_ih {weight_ih.shape}, weight_hh {hidden.shape}"
            )
    biases = (
        vector(function, name, value, rows, "weight_hh")
        for name, value in (("bias_ih", bias_ih), ("bias_hh", bias_hh))
    )
    return weight_ih, hidden, *biases


def inputs_fit(function: str, inputs: np.ndarray, weight_ih: np.ndarray | None) -> None:
    if inputs.ndim < 2:
        raise ValueError(
            f"{function}: inputs must be a length or (..., length, size), got {inputs.shape}"
        )
    if weight_ih is None:
        raise ValueError(f"{function}: weight_ih is needed for inputs {inputs.shape}")
    if weight_ih.shape[1] != inputs.shape[-1]:
        raise ValueError(
            f"{function}: weight_ih must have as many columns as inputs: "
            f"weight_ih {weight_ih.shape}, inputs {inputs.shape}"
        )


def states(function: str, value: Any, names: Sequence[str], shape: tuple[int, ...]) -> list[Any]:
    """One float64 array of that shape per name; None is 0."""
    if value is None:
        return [np.zeros(shape) for _ in names]
    if len(names) > 1:
        if not isinstance(value, (tuple, list)) or len(value) != len(names):
            raise TypeError(
                f"{function}: start must be ({', '.join(names)}), got {type(value).__name__}"
            )
    else:
        value = [value]
    found = []
    for name, one in zip(names, value, strict=True):
        a = floats(function, name, one)
        try:
            fits = a.shape[-1:] == shape[-1:] and np.broadcast_shapes(a.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{function}: {name} {a.shape} does not broadcast to {shape}")
        found.append(np.broadcast_to(a, shape).astype(np.float64))
    return found
