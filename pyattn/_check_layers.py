"""Words the errors of the layers around attention: linear layers and norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyattn import _check
from pyattn._check_encodings import ANY_FLOAT
from pyattn._check_numbers import is_masked
from pyattn._check_terms import FLOATS

STORAGES = ("float16", "bfloat16")
# Dtypes all of whose numbers fit, and from which number on others are rounded to infinity.
FITS = {"float16": {"float16"}, "bfloat16": {"float16", "bfloat16"}}
FITS |= {"float32": {*FLOATS} - {"float64"}, "float64": {*FLOATS}}
INFINITE_FROM = {"float16": 65520.0, "bfloat16": 2.0**128 - 2.0**119}
INFINITE_FROM |= {"float32": 2.0**128 - 2.0**103}
MOST_LAYERS = 8  # PA_MAX_LAYERS


def weight(function: str, value: Any) -> np.ndarray:
    """(outputs, inputs) of any float dtype, in native byte order; not copied unless it is not."""
    a = _floats(function, "weight", value)
    if a.ndim != 2 or 0 in a.shape:
        raise ValueError(
            f"{function}: weight must be (outputs, inputs), both at least 1, got {a.shape}"
        )
    return a


def vector(function: str, name: str, value: Any, length: int, dtype: np.dtype) -> np.ndarray:
    """Contiguous, aligned numbers of that dtype, one per output or channel."""
    if type(value) is np.ndarray and value.dtype is dtype and value.shape == (length,):
        if value.flags.c_contiguous and value.flags.aligned:
            return value  # as almost always; the long way takes longer than the norm of a row
    a = _floats(function, name, value)
    if a.shape != (length,):
        raise ValueError(f"{function}: {name} must have shape ({length},), got {a.shape}")
    return np.require(a, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def _floats(function: str, name: str, value: Any) -> np.ndarray:
    if is_masked(value):
        raise TypeError(f"{function}: {name} must not be a masked array")
    a = np.asarray(value)
    if a.dtype.name not in FLOATS:
        raise TypeError(f"{function}: {name} must be {ANY_FLOAT}, got {a.dtype}")
    return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))


def dtype(function: str, value: Any) -> np.dtype:
    try:
        wanted = np.dtype(value)
    except TypeError:
        wanted = None
    if wanted is None or wanted not in (_check.FLOAT32, _check.FLOAT64):  # NumPy's None is float64
        raise TypeError(f"{function}: dtype must be float32 or float64, got {value!r}")
    return wanted


def storage(function: str, value: Any, weight: np.ndarray, dtype: np.dtype) -> None:
    """None or a half, in which no weight becomes infinite."""
    if value is not None and (not isinstance(value, str) or value not in STORAGES):
        raise ValueError(
            f"{function}: storage must be None, 'float16' or 'bfloat16', got {value!r}"
        )
    if value is not None and dtype != _check.FLOAT32:
        raise ValueError(
            f"{function}: storage {value!r} is for float32 layers, this one is {dtype}: "
            "use dtype=numpy.float32"
        )
    kept = dtype.name if value is None else value
    if weight.dtype.name in FITS[kept]:
        return
    limit = INFINITE_FROM[kept]
    for start in range(0, len(weight), 64):  # so that no copy of all is made
        size = np.abs(weight[start : start + 64].astype(np.float64, copy=False))
        largest = float(np.max(size, initial=0, where=np.isfinite(size)))
        if largest >= limit:
            remedy = "dtype='float64'" if kept == "float32" else "another storage"
            raise ValueError(
                f"{function}: a weight of {largest:.6g} does not fit into {kept}: use {remedy}"
            )


def activation(function: str, value: Any, known: Sequence[str | None]) -> None:
    if (value is not None and not isinstance(value, str)) or value not in known:
        names = ", ".join(repr(k) for k in known)
        raise ValueError(f"{function}: activation must be one of {names}, got {value!r}")


def inputs(function: str, x: Any, inputs: int, dtype: np.dtype) -> np.ndarray:
    if type(x) is np.ndarray and x.dtype is dtype and x.ndim and x.shape[-1] == inputs:
        return x  # of a single row, all else here takes as long as the kernel
    (a,) = _check.float_arrays(function, ("x",), (x,))
    if a.dtype != dtype:
        raise TypeError(
            f"{function}: x is {a.dtype}, the layer computes in {dtype}: "
            f"use x.astype(numpy.{dtype})"
        )
    if a.ndim < 1 or a.shape[-1] != inputs:
        raise ValueError(f"{function}: x must be (..., {inputs}), got {a.shape}")
    return a


def operand(
    function: str, name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """What is combined with a result of that shape, as a view of that shape."""
    (a,) = _check.float_arrays(function, (name,), (value,))
    if a.dtype != dtype:
        raise TypeError(f"{function}: {name} is {a.dtype}, the result is {dtype}")
    if a.shape == shape:
        return a
    try:
        return np.broadcast_to(a, shape)
    except ValueError:
        raise ValueError(
            f"{function}: {name} {a.shape} does not broadcast to the result {shape}"
        ) from None


def several(function: str, name: str, value: Any) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        raise TypeError(
            f"{function}: {name} must be a sequence, got {type(value).__name__}"
        ) from None


def layers(function: str, layers: Sequence[Any], kind: type, outs: Any) -> None:
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise ValueError(f"{function}: 1 to {MOST_LAYERS} layers are possible, got {len(layers)}")
    for i, layer in enumerate(layers):
        if not isinstance(layer, kind):
            raise TypeError(f"{function}: layers[{i}] must be a Linear, got {type(layer).__name__}")
        if (layer.inputs, layer.dtype) != (layers[0].inputs, layers[0].dtype):
            raise ValueError(
                f"{function}: all layers must have the inputs and dtype of the first: "
                f"layers[0] {layers[0].inputs} {layers[0].dtype}, "
                f"layers[{i}] {layer.inputs} {layer.dtype}"
            )
    if outs is not None and len(outs) != len(layers):
        raise ValueError(f"{function}: {len(layers)} layers but {len(outs)} outs")


def heads_out(
    function: str, name: str, out: Any, rows: tuple[int, ...], outputs: int, dtype: np.dtype
) -> bool:
    """Whether `out` is (heads, *rows, size); else it must be (*rows, outputs)."""
    shape = getattr(out, "shape", ())
    heads = len(shape) == len(rows) + 2 and shape[0] * shape[-1] == outputs
    expected = (shape[0], *rows, shape[-1]) if heads else (*rows, outputs)
    _check.out(function, out, expected, dtype, name)
    return heads


def apart(
    function: str,
    n: int,
    out: np.ndarray,
    plane: np.ndarray,
    x: np.ndarray,
    earlier: Sequence[np.ndarray],
) -> None:
    """outs[n] must be written where it lies, while `x` is read."""
    if out.size and not np.may_share_memory(out, plane):
        raise ValueError(
            f"{function}: outs[{n}] has leading axes that are no grid of rows: shape {out.shape}, "
            f"strides {out.strides}"
        )
    if np.may_share_memory(out, x):
        raise ValueError(f"{function}: outs[{n}] overlaps x")
    for m, other in enumerate(earlier):
        if _share_memory(out, other):
            raise ValueError(f"{function}: outs[{n}] overlaps outs[{m}]")


def _share_memory(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=100_000)
    except np.exceptions.TooHardError:  # strides that nobody has
        return True


def channels(function: str, x: Any) -> np.ndarray:
    (a,) = _check.float_arrays(function, ("x",), (x,))
    if a.ndim < 1 or a.shape[-1] == 0:
        raise ValueError(f"{function}: x must have at least one channel (axis -1), got {a.shape}")
    return a


def eps(function: str, value: Any) -> float:
    number = _check.real(function, "eps", value)
    if not (0 <= number and math.isfinite(number)):
        raise ValueError(f"{function}: eps must be finite and at least 0, got {number}")
    return number
