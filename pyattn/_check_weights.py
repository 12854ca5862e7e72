"""Words the errors of the weights of the multi-head layer, and says how they divide into heads.

Kinds and dtypes raise `TypeError`, shapes and ranges `ValueError`. A message names the function,
the weight, the shapes met and the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pyattn._check_checkpoints import tensor
from pyattn._check_numbers import whole

MATRICES = ("q_weight", "k_weight", "v_weight", "out_weight")
BIASES = ("q_bias", "k_bias", "v_bias", "out_bias")
OTHERS = ("bias_k", "bias_v", "q_norm", "k_norm", "sinks")
NAMES = (*MATRICES, *BIASES, *OTHERS)


@dataclass(frozen=True)
class Weights:
    """The weights of a layer, by role, and what a message calls each."""

    function: str
    arrays: dict[str, np.ndarray]
    names: dict[str, str]

    def __getitem__(self, role: str) -> np.ndarray:
        return self.arrays[role]

    def called(self, role: str) -> str:
        return f"{self.names[role]} {self.arrays[role].shape}"


class Heads(NamedTuple):
    """How rows of weights are divided."""

    num_heads: int
    kv_heads: int
    head_dim: int
    value_dim: int  # of a head


def by_name(function: str, given: Any) -> Weights:
    """Weights by their names, as arrays; those that are None are not there."""
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{function}: weights must be a mapping from names to arrays, "
            f"got {type(given).__name__}"
        )
    for name in given:
        if name not in NAMES:
            raise ValueError(f"{function}: weights has {name!r}: known are {', '.join(NAMES)}")
    found = {name: tensor(function, name, a) for name, a in given.items() if a is not None}
    for name in MATRICES:
        if name not in found:
            raise ValueError(f"{function}: weights has no {name!r}")
    return Weights(function, found, {name: name for name in found})


def heads(
    weights: Weights, num_heads: int | None, kv_heads: int | None, head_dim: int | None
) -> Heads:
    """What the shapes and the numbers that were given agree upon."""
    function, names = weights.function, weights.names
    for role in MATRICES:
        if weights[role].ndim != 2 or not weights[role].size:
            raise ValueError(
                f"{function}: {names[role]} must be (outputs, inputs), got {weights[role].shape}"
            )
    if num_heads is None:
        num_heads = _number_of_heads(weights, head_dim)
    size = _divided(weights, "q_weight", num_heads, "query")
    if head_dim not in (None, size):
        raise ValueError(
            f"{function}: {weights.called('q_weight')} has {num_heads} heads of {size} rows, "
            f"not of head_dim = {head_dim}"
        )
    if len(weights["k_weight"]) % size:
        raise ValueError(
            f"{function}: {weights.called('k_weight')} must have whole heads of {size} rows, "
            f"as {weights.called('q_weight')} has"
        )
    found = len(weights["k_weight"]) // size
    if kv_heads not in (None, found):
        raise ValueError(
            f"{function}: {weights.called('k_weight')} has {found} heads of {size} rows, "
            f"not kv_heads = {kv_heads}"
        )
    grouped(function, num_heads, found)
    value_dim = _divided(weights, "v_weight", found, "value")
    if weights["out_weight"].shape[1] != num_heads * value_dim:
        raise ValueError(
            f"{function}: {weights.called('out_weight')} must have {num_heads * value_dim} columns "
            f"for {num_heads} heads, as {weights.called('v_weight')} has {value_dim} rows in each"
        )
    return Heads(num_heads, found, size, value_dim)


def vectors(weights: Weights, heads: Heads) -> None:
    """Refuse those that do not fit the matrices."""
    for role in ("q", "k", "v", "out"):
        _shape(weights, f"{role}_bias", (len(weights[f"{role}_weight"]),))
    _shape(weights, "q_norm", (heads.head_dim,))
    _shape(weights, "k_norm", (heads.head_dim,))
    _shape(weights, "sinks", (heads.num_heads,))
    there = [role for role in ("bias_k", "bias_v") if role in weights.arrays]
    if len(there) == 1:
        raise ValueError(
            f"{weights.function}: bias_k and bias_v go together, there is only "
            f"{weights.names[there[0]]}"
        )
    for role in there:
        size = heads.kv_heads * (heads.head_dim if role == "bias_k" else heads.value_dim)
        _shape(weights, role, (size,), (1, 1, size))


def thirds(weights: Weights, num_heads: int | None, kv_heads: int | None) -> list[int]:
    """How many rows queries, keys and values have in a tensor of all three."""
    shape, name = weights["qkv_weight"].shape, weights.called("qkv_weight")
    if kv_heads is None:
        parts, what = (1, 1, 1), "three equal parts"
    elif num_heads is None:
        raise ValueError(f"{weights.function}: kv_heads= needs num_heads= too, to divide {name}")
    else:
        parts, what = (num_heads, kv_heads, kv_heads), f"{num_heads} + 2 * {kv_heads} heads"
    if len(shape) != 2 or shape[0] % sum(parts):
        raise ValueError(f"{weights.function}: {name} cannot be divided into {what} of rows")
    return [part * (shape[0] // sum(parts)) for part in parts]


def rows_of_all(weights: Weights) -> list[int]:
    """The same of a bias of all three, by the weights."""
    found = [(*weights[f"{part}_weight"].shape, 0)[0] for part in "qkv"]
    if weights["qkv_bias"].shape != (sum(found),):
        raise ValueError(
            f"{weights.function}: {weights.called('qkv_bias')} must have shape ({sum(found)},)"
        )
    return found


def _number_of_heads(weights: Weights, head_dim: int | None) -> int:
    """From whatever tells it."""
    if "sinks" in weights.arrays:
        return max(weights["sinks"].size, 1)
    sizes = [weights[role].size for role in ("q_norm", "k_norm") if role in weights.arrays]
    size = head_dim or max(sizes, default=0)
    rows = len(weights["q_weight"])
    if not size:
        raise ValueError(
            f"{weights.function}: num_heads= is needed: {weights.called('q_weight')} does not tell "
            "how many heads it has"
        )
    if rows % size:
        raise ValueError(
            f"{weights.function}: {weights.called('q_weight')} cannot be divided into heads of "
            f"{size} rows"
        )
    return rows // size


def grouped(function: str, num_heads: int, kv_heads: int) -> None:
    if num_heads % kv_heads:
        raise ValueError(
            f"{function}: {num_heads} query heads cannot be grouped over {kv_heads} key/value "
            "heads (need num_heads % kv_heads == 0)"
        )


def _divided(weights: Weights, role: str, heads: int, kind: str) -> int:
    if len(weights[role]) % heads:
        raise ValueError(
            f"{weights.function}: {weights.called(role)} cannot be divided into "
            f"{heads} {kind} heads"
        )
    return len(weights[role]) // heads


def _shape(weights: Weights, role: str, *shapes: tuple[int, ...]) -> None:
    if role in weights.arrays and weights[role].shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise ValueError(
            f"{weights.function}: {weights.names[role]} must have shape {wanted}, "
            f"got {weights[role].shape}"
        )


def count(function: str, name: str, value: Any) -> int | None:
    """A number of heads or rows, if it was given."""
    return None if value is None else whole(function, name, value, 1)
