"""Turns wrong arguments into good messages; the only place that words them.

Kinds and dtypes raise `TypeError`, shapes and ranges `ValueError`, what is planned but not there
`NotImplementedError`. A message names the function, the argument, the shapes met and the rule.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from pyattn._check_numbers import entry, is_masked

FLOAT16, FLOAT32, FLOAT64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
LAYOUTS = ("bhld", "blhd")
MOST_TERMS = 32  # PA_MAX_TERMS


def float_arrays(function: str, names: Sequence[str], given: Sequence[Any]) -> list[np.ndarray]:
    """`given` as arrays of one dtype, float32 or float64, in native byte order."""
    arrays = [
        x
        if type(x) is np.ndarray and (x.dtype is FLOAT32 or x.dtype is FLOAT64)
        else _float_array(function, name, x)
        for name, x in zip(names, given)  # noqa: B905 (equally long, and this is a hot path)
    ]
    first = arrays[0].dtype
    for a in arrays:
        if a.dtype is not first and a.dtype != first:
            met = ", ".join(f"{name} {a.dtype}" for name, a in zip(names, arrays, strict=True))
            raise TypeError(f"{function}: {_and(names)} must have the same dtype: {met}")
    return arrays


def attention_arrays(function: str, names: Sequence[str], given: Sequence[Any]) -> list[np.ndarray]:
    """`given`, the query first, as arrays in native byte order: of one floating type, or float32
    queries over halves."""
    for x in given:
        if type(x) is not np.ndarray or x.dtype is not FLOAT32:
            break
    else:  # what there is most of, and this is a hot path
        return list(given)
    arrays = [_any_float_array(function, name, x) for name, x in zip(names, given, strict=True)]
    query, *others = [a.dtype for a in arrays]
    for dtype in others:
        if dtype is query and dtype is others[0]:
            continue
        if dtype != others[0] or (dtype != query and (query != FLOAT32 or not is_half(dtype))):
            met = ", ".join(f"{name} {a.dtype}" for name, a in zip(names, arrays, strict=True))
            raise TypeError(
                f"{function}: {_and(names)} must have the same dtype, or query float32 and the "
                f"others one of float16 and bfloat16: {met}"
            )
    return arrays


def is_half(dtype: np.dtype) -> bool:
    return dtype == FLOAT16 or dtype.name == "bfloat16"


def computed(dtype: np.dtype) -> np.dtype:
    """The type in which numbers of a type are computed with."""
    return FLOAT64 if dtype == FLOAT64 else FLOAT32


def _any_float_array(function: str, name: str, x: Any) -> np.ndarray:
    """A copy only if the byte order was foreign."""
    a = _native_array(function, name, x)
    if a.dtype == FLOAT32 or a.dtype == FLOAT64 or is_half(a.dtype):
        return a
    raise TypeError(
        f"{function}: {name} must be float16, bfloat16, float32 or float64, got {a.dtype}: "
        f"use {name}.astype(numpy.float32)"
    )


def _native_array(function: str, name: str, x: Any) -> np.ndarray:
    if is_masked(x):
        raise TypeError(
            f"{function}: {name} is a masked array; its mask would be ignored. "
            "Fill it (x.filled(0)) and hide keys with key_lengths"
        )
    a = np.asarray(x)
    return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))


def _float_array(function: str, name: str, x: Any) -> np.ndarray:
    """A copy only if the byte order was foreign."""
    a = _native_array(function, name, x)
    if a.dtype == FLOAT32 or a.dtype == FLOAT64:
        return a
    if is_half(a.dtype):
        raise NotImplementedError(
            f"{function}: {name} is {a.dtype}; half precision is not supported here: "
            f"use {name}.astype(numpy.float32)"
        )
    raise TypeError(
        f"{function}: {name} must be float32 or float64, got {a.dtype}: "
        f"use {name}.astype(numpy.float32)"
    )


def layout(function: str, value: Any) -> None:
    if value not in LAYOUTS:
        raise ValueError(
            f"{function}: layout must be 'bhld' (..., heads, length, size) or "
            f"'blhd' (..., length, heads, size), got {value!r}"
        )


def two_axes(function: str, names: Sequence[str], arrays: Sequence[np.ndarray]) -> bool:
    """Whether all arrays have just 2 axes; fewer are refused."""
    ndims = [a.ndim for a in arrays]
    if min(ndims) < 2:
        i = ndims.index(min(ndims))
        raise ValueError(
            f"{function}: {names[i]} needs at least 2 axes (length, size), got {arrays[i].shape}"
        )
    return max(ndims) == 2


def attention_shapes(
    function: str,
    names: Sequence[str],
    given: Sequence[np.ndarray],
    shapes: Sequence[tuple[int, ...]],
    layout: str,
) -> tuple[tuple[int, ...], bool]:
    """Refuse what does not fit together; return the common leading extents, and whether some array
    must be broadcast to them.

    `names` are query, key and perhaps value; `given` the user's arrays, for the message;
    `shapes` theirs as (..., heads, length, size) with at least 3 axes.
    """
    query, key = shapes[0], shapes[1]
    if query[-1] != key[-1]:
        _mismatch(function, names[:2], given[:2], "head size", -1, layout)
    if len(shapes) > 2:
        value = shapes[2]
        if value[-2] != key[-2]:
            _mismatch(function, names[1:], given[1:], "length", -2, layout)
        if value[-3] != key[-3]:
            _mismatch(function, names[1:], given[1:], "number of heads", -3, layout)
    heads, kv_heads = query[-3], key[-3]
    if heads and (not kv_heads or heads % kv_heads):
        raise ValueError(
            f"{function}: {heads} query heads cannot be grouped over {kv_heads} key/value heads "
            f"(need H % Hkv == 0): query {given[0].shape}, key {given[1].shape}"
        )
    leading = query[:-3]
    if key[:-3] == leading and (len(shapes) == 2 or shapes[2][:-3] == leading):
        return leading, False
    try:
        return np.broadcast_shapes(*(shape[:-3] for shape in shapes)), True
    except (ValueError, RuntimeError):  # the latter: more axes than NumPy broadcasts
        met = ", ".join(f"{name} {a.shape}" for name, a in zip(names, given, strict=True))
        raise ValueError(f"{function}: leading axes do not broadcast: {met}") from None


def scale(function: str, value: Any, head_size: int, dtype: np.dtype) -> float:
    """The scale as a float; None is ``head_size ** -0.5``."""
    if value is None:
        return head_size**-0.5 if head_size else 1.0
    number = real(function, "scale", value)
    if not math.isfinite(number):
        raise ValueError(f"{function}: scale must be finite, got {number}")
    # In the kernel scores are in units of log2: see docs/numerics.md.
    limits = np.finfo(dtype)
    if abs(number) * 1.4427 > float(limits.max):
        raise ValueError(f"{function}: scale {number} is too large for {dtype}")
    if number and abs(number) < float(limits.tiny):
        raise ValueError(f"{function}: scale {number} is too small for {dtype}")
    return number


def softcap(function: str, value: Any, dtype: np.dtype) -> float:
    """The cap as a float."""
    number = real(function, "softcap", value)
    limits = np.finfo(dtype)
    low, high = float(limits.tiny), float(limits.max) / 2
    if not low <= number <= high:
        raise ValueError(
            f"{function}: softcap must be positive and within [{low:.2g}, {high:.2g}] for {dtype}, "
            f"got {number}"
        )
    return number


def window(function: str, value: Any) -> tuple[int, int]:
    """(left, right); -1: no limit."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(
            f"{function}: window must be a pair (left, right), None on a side for no limit, "
            f"got {value!r}"
        )
    left, right = (
        _window_side(function, name, side)
        for name, side in zip(("left", "right"), value, strict=True)
    )
    return left, right


def _window_side(function: str, name: str, value: Any) -> int:
    if value is None:
        return -1
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"{function}: window's {name} side must be a whole number or None, "
            f"got {type(value).__name__}"
        )
    if number < 0:
        raise ValueError(
            f"{function}: window's {name} side must be at least 0, got {number}: "
            "use None for no limit"
        )
    return min(number, np.iinfo(np.int64).max // 4)


def sinks(function: str, value: Any, heads: int, dtype: np.dtype) -> np.ndarray:
    """One logit per head, as float64."""
    if is_masked(value):
        raise TypeError(f"{function}: sinks must not be a masked array")
    a = np.asarray(value)
    if a.dtype.kind != "f" and a.dtype.name != "bfloat16":
        raise TypeError(f"{function}: sinks must be floats, got {a.dtype}")
    if a.shape != (heads,):
        raise ValueError(f"{function}: sinks must have shape ({heads},), one per head: {a.shape}")
    a = np.array(a, np.float64, order="C")
    high = float(np.finfo(dtype).max) / 2
    if not (a <= high).all():
        raise ValueError(
            f"{function}: sinks must be finite, at most {high:.2g} for {dtype}, or -inf (no sink), "
            f"got {a[~(a <= high)][0]}"
        )
    return a


def whole_number(function: str, name: str, value: Any) -> int:
    try:
        if not isinstance(value, (bool, np.bool_)):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{function}: {name} must be a whole number, got {type(value).__name__}")


def count(function: str, name: str, value: Any, high: int) -> int:
    """A whole number from 1 to `high`."""
    number = whole_number(function, name, value)
    if not 1 <= number <= high:
        raise ValueError(
            f"{function}: {name} = {number} is outside [1, {high}], the keys there are"
        )
    return number


def packed(function: str, arrays: Sequence[np.ndarray]) -> None:
    for name, a in zip(("query", "key", "value"), arrays, strict=True):
        if a.ndim != 3:
            raise ValueError(f"{function}: {name} must be (tokens, heads, size), got {a.shape}")


def offsets(function: str, name: str, value: Any, total: int) -> np.ndarray:
    """Starts of packed sequences and the end of the last, as int64."""
    if value is None:
        raise ValueError(f"{function}: {name} is needed: query and key have different lengths")
    if is_masked(value):
        raise TypeError(f"{function}: {name} must not be a masked array")
    a = np.asarray(value)
    if a.dtype.kind not in "iu":
        raise TypeError(f"{function}: {name} must be integers, got {a.dtype}")
    if a.ndim != 1 or len(a) < 1:
        raise ValueError(f"{function}: {name} must have shape (sequences + 1,), got {a.shape}")
    if a[0] != 0:
        raise ValueError(f"{function}: {name} must begin with 0, got {a[0]}")
    for i in np.flatnonzero(a[1:] < a[:-1])[:1]:
        raise ValueError(
            f"{function}: {name} must be non-decreasing: "
            f"element {i + 1} ({a[i + 1]}) < element {i} ({a[i]})"
        )
    if a[-1] != total:
        raise ValueError(f"{function}: {name} must end with the {total} tokens there are: {a[-1]}")
    return np.array(a, np.int64, order="C")


def same_sequences(function: str, queries: np.ndarray, keys: np.ndarray) -> None:
    if len(queries) != len(keys):
        raise ValueError(
            f"{function}: cu_seqlens_q and cu_seqlens_k must have the same length: "
            f"{len(queries)} and {len(keys)}"
        )


def terms(function: str, terms: Sequence[tuple[str, int, np.ndarray]], packed: bool) -> None:
    if len(terms) > MOST_TERMS:
        raise ValueError(
            f"{function}: mask and bias have {len(terms)} parts together, at most {MOST_TERMS} are "
            "possible: make some of them dense with numpy.asarray"
        )
    if packed and any(kind != "slopes" for kind, _, _ in terms):
        raise TypeError(
            f"{function}: of packed sequences bias can only be pyattn.biases.alibi(slopes)"
        )


def flag(function: str, name: str, value: Any) -> bool:
    if value is True or value is False or isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{function}: {name} must be True or False, got {type(value).__name__}")


def per_batch(
    function: str,
    name: str,
    value: Any,
    leading: tuple[int, ...],
    low: int | None,
    high: int | None,
) -> np.ndarray:
    """Whole numbers, one per batch element, as a fresh C-contiguous int64 array."""
    if is_masked(value):
        raise TypeError(f"{function}: {name} must not be a masked array")
    a = np.asarray(value)
    if a.dtype.kind not in "iu":
        raise TypeError(f"{function}: {name} must be integers, got {a.dtype}")
    try:
        spread = np.broadcast_to(a, leading)
    except ValueError:
        raise ValueError(
            f"{function}: {name} {a.shape} does not broadcast to the batch {leading}"
        ) from None
    # In the array's own type: a cast first could turn a large number into a legal one.
    bounds = np.iinfo(np.int64)
    low, high = bounds.min // 4 if low is None else low, bounds.max // 4 if high is None else high
    outside = np.argwhere((spread < low) | (spread > high))
    if len(outside):
        at = tuple(outside[0])
        where = entry(name, at)
        raise ValueError(f"{function}: {where} = {spread[at]} is outside [{low}, {high}]")
    return np.array(spread, dtype=np.int64, order="C")


def out(
    function: str, array: Any, shape: tuple[int, ...], dtype: np.dtype, name: str = "out"
) -> None:
    if not isinstance(array, np.ndarray) or is_masked(array):
        raise TypeError(f"{function}: {name} must be a NumPy array, got {type(array).__name__}")
    if array.shape != shape:
        raise ValueError(f"{function}: {name} must have shape {shape}, got {array.shape}")
    if array.dtype != dtype or not array.dtype.isnative:
        raise ValueError(f"{function}: {name} must have dtype {dtype}, got {array.dtype}")
    if not array.flags.writeable:
        raise ValueError(f"{function}: {name} is read-only")
    if overlaps_itself(array):
        raise ValueError(
            f"{function}: {name} overlaps itself: shape {array.shape}, strides {array.strides}"
        )


def overlaps_itself(array: np.ndarray) -> bool:
    """Whether two elements may share memory: each axis must step over all that finer axes span."""
    if array.flags.c_contiguous or array.size == 0:
        return False
    span = array.itemsize
    steps = sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    for step, extent in steps:
        if step < span:
            return True
        span += step * (extent - 1)
    return False


def parts(function: str, outs: Sequence[Any], lses: Sequence[Any]) -> None:
    if len(outs) != len(lses):
        raise ValueError(f"{function}: {len(outs)} outs but {len(lses)} lses")
    if not outs:
        raise ValueError(f"{function}: at least one part is needed")


def merge_arrays(
    function: str, outs: Sequence[Any], lses: Sequence[Any]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Both as arrays: `outs` of one floating type, `lses` of the type that it is computed in."""
    names = [f"outs[{i}]" for i in range(len(outs))], [f"lses[{i}]" for i in range(len(lses))]
    outs = [_any_float_array(function, n, x) for n, x in zip(names[0], outs, strict=True)]
    lses = [_float_array(function, n, x) for n, x in zip(names[1], lses, strict=True)]
    dtype = outs[0].dtype
    for wanted, some in ((dtype, zip(names[0], outs)), (computed(dtype), zip(names[1], lses))):  # noqa: B905
        for name, a in some:
            if a.dtype != wanted:
                raise TypeError(
                    f"{function}: all outs must have the same dtype, and lses theirs, or float32 "
                    f"for halves: outs[0] {dtype}, {name} {a.dtype}"
                )
    return outs, lses


def merge_shapes(function: str, outs: Sequence[np.ndarray], lses: Sequence[np.ndarray]) -> None:
    for i, (o, lse) in enumerate(zip(outs, lses, strict=True)):
        if o.shape != outs[0].shape:
            raise ValueError(
                f"{function}: all outs must have the same shape: "
                f"outs[0] {outs[0].shape}, outs[{i}] {o.shape}"
            )
        if o.ndim < 1 or lse.shape != o.shape[:-1]:
            raise ValueError(
                f"{function}: lses[{i}] must have the shape of outs[{i}] without its last axis: "
                f"out {o.shape}, lse {lse.shape}"
            )


def real(function: str, name: str, value: Any) -> float:
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError(f"{function}: {name} must be a real number, got {type(value).__name__}")
    try:
        return float(operator.index(value))
    except TypeError:
        pass
    except OverflowError:
        raise ValueError(f"{function}: {name} is too large for a float") from None
    if isinstance(value, (float, np.floating)) or (
        isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind == "f"
    ):
        return float(value)
    raise TypeError(f"{function}: {name} must be a real number, got {type(value).__name__}")


def _mismatch(
    function: str,
    names: Sequence[str],
    given: Sequence[np.ndarray],
    what: str,
    axis: int,
    layout: str,
) -> NoReturn:
    """`axis` is that of the heads-first order; people are told that of their own."""

    def extent(a: np.ndarray) -> int:
        return a.shape[own] if a.ndim >= 3 else (1, *a.shape)[axis]

    own = {-1: -1, -2: -3, -3: -2}[axis] if layout == "blhd" else axis
    (a, b), (x, y) = names, given
    raise ValueError(
        f"{function}: {a} and {b} must have the same {what} (axis {own}): "
        f"{a} {x.shape} has {extent(x)}, {b} {y.shape} has {extent(y)}"
    )


def _and(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
