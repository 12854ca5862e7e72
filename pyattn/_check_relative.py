"""Words the errors of relative position encodings: their sizes, tables and small networks.

Kinds and dtypes raise `TypeError`, shapes and ranges `ValueError`. A message names the function,
the argument, what was met and the rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyattn._check import real
from pyattn._check_numbers import LARGEST, entry, whole
from pyattn._check_terms import bias_array, integers

KINDS = ("log", "power")


# Distances and buckets.


def start(function: str, value: Any, queries: int, keys: int) -> int:
    """Where query 0 stands on the key axis; None is ``keys - queries``."""
    return keys - queries if value is None else whole(function, "query_start", value, -LARGEST)


def distances(function: str, value: Any) -> np.ndarray:
    """Distances of any sign, as int64."""
    a = integers(function, "relative_position", value)
    outside = np.argwhere((a < -LARGEST) | (a > LARGEST))
    if len(outside):
        at = tuple(outside[0])
        where = entry("relative_position", at)
        raise ValueError(f"{function}: {where} = {a[at]} is outside [{-LARGEST}, {LARGEST}]")
    return a.astype(np.int64, copy=False)


def t5_buckets(
    function: str, name: str, count: Any, max_distance: Any, bidirectional: bool
) -> tuple[int, int]:
    """The number of buckets and the largest distance; `name` is that of the former."""
    count = whole(function, name, count, 4 if bidirectional else 2)
    max_distance = whole(function, "max_distance", max_distance)
    exact = count // 4 if bidirectional else count // 2
    if max_distance <= exact:
        raise ValueError(
            f"{function}: max_distance must exceed {exact}, as many distances have a bucket of "
            f"their own, got {max_distance}"
        )
    return count, max_distance


def deberta_buckets(function: str, bucket_size: Any, max_position: Any) -> tuple[int, int]:
    bucket_size = whole(function, "bucket_size", bucket_size, 2)
    max_position = whole(function, "max_position", max_position)
    if max_position < bucket_size // 2 + 2:
        raise ValueError(
            f"{function}: max_position must be at least bucket_size // 2 + 2 = "
            f"{bucket_size // 2 + 2}, got {max_position}"
        )
    return bucket_size, max_position


def both_or_none(function: str, bucket_size: Any, max_position: Any) -> None:
    if (bucket_size is None) != (max_position is None):
        raise ValueError(f"{function}: bucket_size and max_position are needed together, or none")


# Parameters of structured biases.


def floats(function: str, name: str, value: Any, axes: Sequence[str]) -> np.ndarray:
    """A float array with as many axes as `axes` names."""
    a = bias_array(function, name, value)
    if a.ndim != len(axes):
        raise ValueError(f"{function}: {name} must be {_shape(axes)}, got {a.shape}")
    return a


def per_head(function: str, names: Sequence[str], given: Sequence[Any]) -> list[np.ndarray]:
    """Float arrays with one entry per head, as float64."""
    arrays = [floats(function, n, v, ["heads"]) for n, v in zip(names, given, strict=True)]
    if len({a.shape for a in arrays}) > 1:
        met = ", ".join(f"{n} {a.shape}" for n, a in zip(names, arrays, strict=True))
        raise ValueError(f"{function}: one entry per head is needed of each: {met}")
    return [a.astype(np.float64) for a in arrays]


def kerple_kind(function: str, value: Any) -> None:
    if value not in KINDS:
        raise ValueError(f"{function}: kind must be 'log' or 'power', got {value!r}")


def swin_rows(function: str, rows: int, shape: tuple[int, ...], window: tuple[int, ...]) -> None:
    if shape[0] != rows:
        raise ValueError(
            f"{function}: table {shape} has {shape[0]} rows, a window of {window} needs "
            f"(2 * height - 1) * (2 * width - 1) = {rows}"
        )


def linear(
    function: str, names: Sequence[str], weight: Any, bias: Any, inputs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (outputs, inputs) and bias (outputs,) of one layer; without a bias, zeros."""
    weight = bias_array(function, names[0], weight)
    if weight.ndim != 2 or weight.shape[1] != inputs:
        raise ValueError(
            f"{function}: {names[0]} must be (outputs, {inputs}), {inputs} being what the layer "
            f"is given, got {weight.shape}"
        )
    if bias is None:
        return weight, np.zeros(len(weight), weight.dtype)
    bias = bias_array(function, names[1], bias)
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{function}: {names[1]} must be ({len(weight)},), one per row of {names[0]}, "
            f"got {bias.shape}"
        )
    return weight, bias


def linear_layers(function: str, layers: Any, inputs: int) -> list[tuple[np.ndarray, np.ndarray]]:
    if not isinstance(layers, (tuple, list)):
        raise TypeError(
            f"{function}: layers must be a list of (weight, bias), got {type(layers).__name__}"
        )
    if not layers:
        raise ValueError(f"{function}: at least one layer is needed")
    checked = []
    for n, layer in enumerate(layers):
        if not isinstance(layer, (tuple, list)) or len(layer) != 2:
            raise ValueError(f"{function}: layers[{n}] must be (weight, bias), bias may be None")
        names = (f"layers[{n}][0]", f"layers[{n}][1]")
        checked.append(linear(function, names, *layer, inputs))
        inputs = len(checked[-1][0])
    return checked


def finite(function: str, name: str, value: Any, positive: bool = False) -> float:
    number = real(function, name, value)
    if not math.isfinite(number) or (positive and number <= 0):
        rule = "finite and above 0" if positive else "finite"
        raise ValueError(f"{function}: {name} must be {rule}, got {number}")
    return number


# Tables that meet queries and keys.


def head_table(
    function: str, name: str, table: np.ndarray, axes: Sequence[str], query: np.ndarray
) -> None:
    """A table for all heads of `query`, with the axes `axes` and the head size, or for each."""
    *heads, _, size = query.shape[-3:]
    n = len(axes) + 1
    if table.shape[-1:] == (size,) and (
        table.ndim == n or (table.ndim == n + 1 and [table.shape[0]] == heads)
    ):
        return
    rules = [_shape([*axes, str(size)])]
    rules += [_shape([str(heads[0]), *axes, str(size)])] if heads else []
    raise ValueError(
        f"{function}: {name} must be {' or '.join(rules)}: query {query.shape}, "
        f"{name} {table.shape}"
    )


def rows_at_least(function: str, name: str, shape: tuple[int, ...], low: int) -> None:
    if shape[-2] < low:
        rows = "rows" if low > 1 else "row"
        raise ValueError(f"{function}: {name} needs at least {low} {rows} (axis -2), got {shape}")


def left(function: str, value: Any, table: tuple[int, ...]) -> int:
    """How many offsets of the table are to the left; None is half of them."""
    rows = table[-2]
    if value is None:
        if rows % 2 == 0:
            raise ValueError(
                f"{function}: table {table} has {rows} rows, an even number: give left=, the "
                "number of offsets below 0"
            )
        return rows // 2
    value = whole(function, "left", value)
    if value >= rows:
        raise ValueError(
            f"{function}: left must be less than the rows of table {table}, {rows}, got {value}"
        )
    return value


def weights_table(function: str, weights: np.ndarray, table: np.ndarray) -> None:
    if weights.ndim < 2:
        raise ValueError(
            f"{function}: weights needs at least 2 axes (queries, keys), got {weights.shape}"
        )
    heads = list(weights.shape[-3:-2])
    if table.ndim == 2 or (table.ndim == 3 and [table.shape[0]] == heads):
        return
    rules = [_shape(["offsets", "size"])]
    rules += [_shape([str(heads[0]), "offsets", "size"])] if heads else []
    raise ValueError(
        f"{function}: table must be {' or '.join(rules)}: weights {weights.shape}, "
        f"table {table.shape}"
    )


def spans(function: str, names: Sequence[str], tables: Sequence[np.ndarray]) -> int:
    """Half the number of rows of the tables."""
    rows = {t.shape[-2] for t in tables}
    met = ", ".join(f"{n} {t.shape}" for n, t in zip(names, tables, strict=True))
    if len(rows) > 1 or rows == {0} or max(rows) % 2:
        raise ValueError(
            f"{function}: the number of rows (axis -2), 2 * span, must be even and the same of "
            f"all: {met}"
        )
    return rows.pop() // 2


def some_term(function: str, names: Sequence[str]) -> None:
    if not names:
        raise ValueError(f"{function}: pos_key, pos_query or both are needed")


def _shape(axes: Sequence[str]) -> str:
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
