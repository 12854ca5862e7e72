"""Words the errors of the arrays that masks and biases are made of, and of combining these.

Kinds and dtypes raise `TypeError`, shapes and ranges `ValueError`. A message names the function,
the argument, what was met and the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from pyattn._check_numbers import entry, is_masked, whole
from pyattn._pieces import Shape

FLOATS = ("float16", "bfloat16", "float32", "float64")
BOOL, NUMPY_FLOATS = np.dtype(bool), {np.dtype(name) for name in FLOATS if name != "bfloat16"}
MOST_CLAUSES, MOST_PRIMITIVES, MOST_PARTS = 16, 24, 8
MOST_AXES = 60
LARGEST_SLOPE = 1e30  # times any distance: still far from the end of float64


# Arrays.


def mask_array(function: str, name: str, value: Any) -> np.ndarray:
    """A dense mask: `value` as a bool array, a view of it if it is one."""
    if type(value) is np.ndarray and value.dtype is BOOL:  # in nearly every call: be quick
        return value
    _not_masked(function, name, value, "False")
    a = np.asarray(value)
    if a.dtype == BOOL:
        return a
    message = f"{function}: {name} must be boolean (True = may attend), got {a.dtype}: "
    if _is_float(a.dtype):
        raise TypeError(message + "use bias=")
    # Of strings or objects a cast would make something, but not what was meant.
    raise TypeError(message + f"use {name}.astype(bool)" if a.dtype.kind in "iu" else message[:-2])


def bias_array(function: str, name: str, value: Any) -> np.ndarray:
    """A dense bias: `value` as a float array; a copy only if its byte order was foreign."""
    if type(value) is np.ndarray and value.dtype in NUMPY_FLOATS:  # in nearly every call: be quick
        return value
    _not_masked(function, name, value, "-numpy.inf")
    a = np.asarray(value)
    if not a.dtype.isnative:
        a = a.astype(a.dtype.newbyteorder("="))
    if _is_float(a.dtype):
        return a
    message = f"{function}: {name} must be float16, bfloat16, float32 or float64, got {a.dtype}: "
    if a.dtype == BOOL:
        raise TypeError(message + "use mask=")
    raise TypeError(message + f"use {name}.astype(numpy.float32)")


def not_too_many_axes(function: str, name: str, axes: int) -> None:
    """NumPy's arrays have at most 64 axes; a table has three more than its array."""
    if axes > MOST_AXES:
        raise ValueError(
            f"{function}: {name} with {axes} axes does not broadcast: "
            f"at most {MOST_AXES} are possible"
        )


def other_kind(function: str, name: str, kind: str) -> NoReturn:
    raise TypeError(f"{function}: {name} is a structured {kind}: use {kind}=")


def axes_at_least(function: str, name: str, array: np.ndarray, axes: str) -> None:
    """`axes` names those that are needed, as in "query blocks, key blocks"."""
    least = axes.count(",") + 1
    if array.ndim < least:
        raise ValueError(
            f"{function}: {name} needs at least {least} {'axes' if least > 1 else 'axis'} "
            f"({axes}), got {array.shape}"
        )


def integers(function: str, name: str, value: Any) -> np.ndarray:
    """`value` as an integer array of any type, in native byte order."""
    if is_masked(value):
        raise TypeError(f"{function}: {name} must not be a masked array")
    a = np.asarray(value)
    if a.dtype.kind not in "iu":
        raise TypeError(f"{function}: {name} must be integers, got {a.dtype}")
    return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))


def ids(function: str, query_ids: Any, key_ids: Any) -> tuple[np.ndarray, np.ndarray]:
    queries = integers(function, "query_ids", query_ids)
    keys = queries if key_ids is None else integers(function, "key_ids", key_ids)
    axes_at_least(function, "query_ids", queries, "queries")
    axes_at_least(function, "key_ids", keys, "keys")
    try:
        np.broadcast_shapes(queries.shape[:-1], keys.shape[:-1])
    except ValueError:
        raise ValueError(
            f"{function}: leading axes do not broadcast: "
            f"query_ids {queries.shape}, key_ids {keys.shape}"
        ) from None
    return queries, keys


def cu_seqlens(function: str, name: str, value: Any) -> np.ndarray:
    """Ends of packed sequences, after a 0, as int64."""
    a = integers(function, name, value)
    if a.ndim != 1 or not a.size:
        raise ValueError(
            f"{function}: {name} must have one axis of n + 1 entries, the first 0, got {a.shape}"
        )
    if a[0] != 0:
        raise ValueError(f"{function}: {name} must start at 0: element 0 is {a[0]}")
    # Compared, not subtracted: unsigned numbers would wrap around.
    falls = np.flatnonzero(a[1:] < a[:-1])
    if len(falls):
        n = int(falls[0])
        raise ValueError(
            f"{function}: {name} must be non-decreasing: "
            f"element {n + 1} ({a[n + 1]}) < element {n} ({a[n]})"
        )
    whole(function, f"{name}[-1]", a[-1])
    return a.astype(np.int64)


def lengths(function: str, name: str, value: Any, most: int) -> np.ndarray:
    """Whole numbers within [0, most], as int64."""
    a = integers(function, name, value)
    outside = np.argwhere((a < 0) | (a > most))
    if len(outside):
        at = tuple(outside[0])
        raise ValueError(f"{function}: {entry(name, at)} = {a[at]} is outside [0, {most}]")
    return a.astype(np.int64)


def slopes(function: str, value: Any) -> np.ndarray:
    """ALiBi's slopes, one per head, as float64."""
    if is_masked(value):
        raise TypeError(f"{function}: slopes must not be a masked array")
    a = np.asarray(value)
    if not (_is_float(a.dtype) or a.dtype.kind in "iu"):
        raise TypeError(f"{function}: slopes must be real numbers, got {a.dtype}")
    axes_at_least(function, "slopes", a, "heads")
    a = a.astype(np.float64)  # a copy: what has been checked stays so
    wrong = np.argwhere(~(np.abs(a) <= LARGEST_SLOPE))
    if len(wrong):
        at = tuple(wrong[0])
        raise ValueError(
            f"{function}: {entry('slopes', at)} = {a[at]} must be finite "
            f"and at most {LARGEST_SLOPE:.0e} in size"
        )
    return a


# Tables and the sizes they must have.


def relative_table(function: str, table: np.ndarray, queries: int, keys: int) -> None:
    axes_at_least(function, "table", table, "distances")
    need = max(queries + keys - 1, 0)
    if table.shape[-1] != need:
        raise ValueError(
            f"{function}: table {table.shape} has {table.shape[-1]} entries along its last axis, "
            f"{queries} queries and {keys} keys need L + S - 1 = {need}"
        )


def grid_table(function: str, table: np.ndarray, extents: tuple[int, ...]) -> None:
    axes_at_least(function, "table", table, "distances down, distances across")
    need = tuple(max(2 * n - 1, 0) for n in extents)
    if table.shape[-2:] != need:
        raise ValueError(
            f"{function}: the last axes of table {table.shape} must be {need}, "
            f"2 * extent - 1 of the grid {extents}"
        )


def block_table(
    function: str, table: np.ndarray, block: tuple[int, ...], sizes: tuple[int, int]
) -> None:
    need = tuple(-(-n // b) for n, b in zip(sizes, block, strict=True))
    if table.shape[-2:] != need:
        raise ValueError(
            f"{function}: {sizes[0]} queries and {sizes[1]} keys in blocks of {block} need a table "
            f"of {need} blocks, got {table.shape}"
        )


# Combining, and the way into a call.


def broadcasts(function: str, name: str, shape: Shape, scores: tuple[int, ...]) -> None:
    """Refuse a shape that does not broadcast to the scores'."""
    if len(shape) > len(scores):
        _misfit(function, name, shape, scores)
    for own, n in zip(shape, scores[-len(shape) :]):  # noqa: B905 (no axes: nothing to compare)
        if own != n and own != 1 and own is not None:
            _misfit(function, name, shape, scores)


def same_sizes(function: str, name: str, shape: Shape, scores: tuple[int, ...]) -> None:
    """Refuse an L or S of 1 too, if it had to be stretched."""
    for own, n in zip(shape[-2:], scores[-2:], strict=True):
        if own != n and own is not None:
            _misfit(function, name, shape, scores)


def _misfit(function: str, name: str, shape: Shape, scores: tuple[int, ...]) -> NoReturn:
    axes = "batch" if len(scores) == 4 else "..."
    raise ValueError(
        f"{function}: {name} {shape} does not broadcast to the scores "
        f"{scores} [{axes}, heads, queries, keys]"
    )


def common_shape(function: str, a: Shape, b: Shape) -> Shape:
    """The shape of `a` and `b` combined."""
    axes = max(len(a), len(b))
    pairs = zip((1,) * (axes - len(a)) + a, (1,) * (axes - len(b)) + b, strict=True)
    shape = []
    for m, n in pairs:
        if m != n and None not in (m, n) and 1 not in (m, n):
            raise ValueError(f"{function}: shapes {a} and {b} do not broadcast")
        larger = n if m in (1, None) else m
        # Any extent will do for both, or for one while the other is 1: still open.
        shape.append(None if None in (m, n) and larger in (1, None) else larger)
    return tuple(shape)


def clauses(function: str, lists: Sequence[Sequence[Any]]) -> None:
    primitives = sum(map(len, lists))
    if len(lists) > MOST_CLAUSES or primitives > MOST_PRIMITIVES:
        raise ValueError(
            f"{function}: as an OR of ANDs this mask has {len(lists)} clauses of {primitives} "
            f"masks in all, at most {MOST_CLAUSES} and {MOST_PRIMITIVES} are possible: "
            "make some of it dense with numpy.asarray(mask)"
        )


def parts(function: str, count: int) -> None:
    if count > MOST_PARTS:
        raise ValueError(
            f"{function}: this bias has {count} parts, at most {MOST_PARTS} are possible: "
            "make some of it dense with numpy.asarray(bias)"
        )


def truth(kind: str, operators: str) -> NoReturn:
    raise ValueError(f"the truth value of a {kind} is ambiguous: combine with {operators}")


def never_a_view(kind: str) -> NoReturn:
    raise ValueError(f"a {kind} has no dense array to give without a copy")


def sizes_unknown(shape: Shape) -> NoReturn:
    raise ValueError(f"alibi: shape {shape} has no sizes yet: give queries= and keys=")


def _not_masked(function: str, name: str, value: Any, hidden: str) -> None:
    if is_masked(value):
        raise TypeError(
            f"{function}: {name} is a masked array; its mask would be ignored: "
            f"use {name}.filled({hidden})"
        )


def _is_float(dtype: np.dtype) -> bool:
    return dtype.name in FLOATS
