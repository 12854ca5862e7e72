"""Words the errors of linear attention. Kinds and dtypes raise `TypeError`, shapes, ranges and
options that exclude each other `ValueError`."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyattn._check import whole_number
from pyattn._check_encodings import floats

FEATURE_MAPS = ("identity", "elu", "relu")  # in the order of pa_feature
LONGEST_CHUNK = 64  # PA_KEY_BLOCK


def feature_map(function: str, value: Any) -> str:
    if value is None:
        return "identity"
    if not isinstance(value, str) or value not in FEATURE_MAPS:
        raise ValueError(
            f"{function}: feature_map must be 'elu', 'relu', 'identity' or None, got {value!r}: "
            "apply another map to query and key beforehand"
        )
    return value


def chunk_size(function: str, value: Any) -> int:
    number = whole_number(function, "chunk_size", value)
    if not 1 <= number <= LONGEST_CHUNK:
        raise ValueError(
            f"{function}: chunk_size must be within [1, {LONGEST_CHUNK}], got {number}"
        )
    return number


def order(function: str, causal: bool, query: np.ndarray, key: np.ndarray, **gates: Any) -> None:
    """`query` and `key` are heads first; `gates` by name, None where there are none."""
    if causal and query.shape[-2] != key.shape[-2]:
        raise ValueError(
            f"{function}: with causal=True query and key must have the same length, got "
            f"{query.shape[-2]} queries and {key.shape[-2]} keys: hand earlier keys over as state="
        )
    for name, gate in gates.items():
        if gate is not None and not causal:
            raise ValueError(
                f"{function}: {name}= needs causal=True: without an order of the tokens nothing "
                "comes before another"
            )


def delta_rule(function: str, feature: str, normalize: bool) -> None:
    if feature != "identity":
        raise ValueError(
            f"{function}: beta= (the delta rule) needs feature_map='identity', got {feature!r}"
        )
    if normalize:
        raise ValueError(f"{function}: beta= (the delta rule) is never normalised: normalize=False")


def gate(function: str, name: str, value: Any, key: np.ndarray, most: int) -> np.ndarray:
    """A float array with at most `most` of the axes of `key`, which is the user's."""
    a = floats(function, name, float(value) if type(value) is int else value)
    if a.ndim > most or 1 < a.ndim < key.ndim - 1:
        raise _gate_error(function, name, a, key, most)
    return a


def gate_shape(
    function: str, name: str, a: np.ndarray, given: np.ndarray, key: np.ndarray, most: int
) -> np.ndarray:
    """`a` broadcast to `shape` of key; `given` is what the user gave, for the message."""
    shape = key.shape if a.ndim == key.ndim else key.shape[:-1]
    try:
        return np.broadcast_to(a, shape)
    except ValueError:
        raise _gate_error(function, name, given, key, most) from None


def _gate_error(function: str, name: str, a: np.ndarray, key: np.ndarray, most: int) -> ValueError:
    kinds = "a number, one per key head, or of the shape of key without its last axis"
    if most == key.ndim:
        kinds += ", or with it"
    return ValueError(f"{function}: {name} must be {kinds}: {name} {a.shape}, key {key.shape}")


def state(function: str, value: Any, shape: tuple[int, ...], normalize: bool) -> np.ndarray:
    """A float array that broadcasts to `shape`."""
    a = floats(function, "state", value)
    try:
        if a.shape[-3:] == shape[-3:]:
            return np.broadcast_to(a, shape)
    except ValueError:
        pass
    what = "[..., key heads, D, Dv"
    what += " + 1: the last column sums the keys]" if normalize else "]"
    raise ValueError(f"{function}: state must have shape {shape} {what}, got {a.shape}")
