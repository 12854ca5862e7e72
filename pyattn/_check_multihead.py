"""Words the errors of the multi-head layer: its settings, and what it is called with.

Kinds and dtypes raise `TypeError`, shapes and ranges `ValueError`. A message names the function,
the argument, the shapes met and the rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyattn import _check
from pyattn._check_encodings import positive
from pyattn._check_numbers import whole
from pyattn._check_weights import Heads, count, grouped

if TYPE_CHECKING:
    from pyattn._turning import Places


# Settings.


def sizes(
    function: str, embed_dim: Any, num_heads: Any, kv_heads: Any, head_dim: Any
) -> tuple[int, Heads]:
    """Of a layer with fresh weights."""
    embed_dim = whole(function, "embed_dim", embed_dim, 1)
    num_heads = whole(function, "num_heads", num_heads, 1)
    kv_heads = count(function, "kv_heads", kv_heads) or num_heads
    head_dim = count(function, "head_dim", head_dim)
    grouped(function, num_heads, kv_heads)
    if head_dim is None and embed_dim % num_heads:
        raise ValueError(
            f"{function}: embed_dim {embed_dim} is not a multiple of num_heads {num_heads}: "
            "give head_dim="
        )
    head_dim = head_dim or embed_dim // num_heads
    return embed_dim, Heads(num_heads, kv_heads, head_dim, head_dim)


def seed(function: str, value: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(value)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{function}: rng must be None, a seed of at least 0 or a Generator, got {value!r}"
        ) from None


def norm_eps(function: str, value: Any) -> float:
    return positive(function, "norm_eps", value)


def interleaved(function: str, rope: Any, value: Any) -> bool | None:
    if rope is None and value is not None:
        raise ValueError(f"{function}: interleaved= belongs to rope=, which is not given")
    if rope is not None and value is None:
        raise ValueError(
            f"{function}: rope= needs interleaved=, since a wrong one would not be noticed: False "
            "for half-split pairs (most on Hugging Face), True for neighbours (GPT-J, GGUF files "
            "of Llama's kind)"
        )
    return None if value is None else _check.flag(function, "interleaved", value)


def turned(function: str, pairs: int, head_dim: int) -> None:
    if 2 * pairs > head_dim:
        raise ValueError(
            f"{function}: rope turns {2 * pairs} numbers of a head, which has {head_dim}"
        )


# Calls.


def inputs(
    function: str, query: Any, key: Any, value: Any, sizes: tuple[int, int, int], dtype: np.dtype
) -> list[np.ndarray]:
    """Query, key and value as arrays (..., length, size), the same array where they are the same
    object; `sizes` are those that the layer takes."""
    if key is None and value is not None:
        raise ValueError(f"{function}: value= needs key= too")
    names = ("query", "query" if key is None else "key", "value")
    if value is None:
        names = (*names[:2], names[1])
    key = query if key is None else key
    objects = (query, key, key if value is None else value)
    arrays = _check.float_arrays(function, ("query", "key", "value"), objects)
    for n in (1, 2):
        arrays[n] = next(a for a, x in zip(arrays, objects, strict=True) if x is objects[n])
    if arrays[0].dtype != dtype:
        raise TypeError(
            f"{function}: query is {arrays[0].dtype}, but the layer {dtype}: "
            f"use query.astype(numpy.{dtype})"
        )
    for role, name, a, size in zip(("query", "key", "value"), names, arrays, sizes, strict=True):
        if a.ndim < 2 or a.shape[-1] != size:
            which = role if role == name else f"{role} (which is {name})"
            raise ValueError(f"{function}: {which} must be (..., length, {size}), got {a.shape}")
    return arrays


def leading(function: str, inputs: Sequence[np.ndarray]) -> tuple[int, ...]:
    """The batch axes of the result."""
    query, key, value = (a.shape for a in inputs)
    if key[-2] != value[-2]:
        raise ValueError(
            f"{function}: key and value must have the same length (axis -2): "
            f"key {key} has {key[-2]}, value {value} has {value[-2]}"
        )
    if query[:-2] == key[:-2] == value[:-2]:
        return query[:-2]
    try:
        return np.broadcast_shapes(query[:-2], key[:-2], value[:-2])
    except (ValueError, RuntimeError):  # the latter: more axes than NumPy broadcasts
        raise ValueError(
            f"{function}: leading axes do not broadcast: query {query}, key {key}, value {value}"
        ) from None


def packed(
    function: str, inputs: Sequence[np.ndarray], cu_seqlens: Any, cu_seqlens_k: Any
) -> tuple[np.ndarray, np.ndarray] | None:
    """Where packed sequences begin, of queries and of keys; None if they are not packed."""
    if cu_seqlens is None:
        if cu_seqlens_k is not None:
            raise ValueError(f"{function}: cu_seqlens_k= needs cu_seqlens= too")
        return None
    for name, a in zip(("query", "key", "value"), inputs, strict=True):
        if a.ndim != 2:
            raise ValueError(
                f"{function}: {name} must be (tokens, size) with cu_seqlens=, got {a.shape}"
            )
    queries = _check.offsets(function, "cu_seqlens", cu_seqlens, len(inputs[0]))
    if cu_seqlens_k is None and len(inputs[1]) == len(inputs[0]):
        return queries, queries
    keys = _check.offsets(function, "cu_seqlens_k", cu_seqlens_k, len(inputs[1]))
    if len(queries) != len(keys):
        raise ValueError(
            f"{function}: cu_seqlens and cu_seqlens_k must have the same length: "
            f"{len(queries)} and {len(keys)}"
        )
    return queries, keys


def need_weights(function: str, value: Any) -> None:
    if value is not False and not (isinstance(value, str) and value in ("average", "per_head")):
        raise ValueError(
            f"{function}: need_weights must be False, 'average' or 'per_head', got {value!r}"
        )


def not_packed(function: str, options: Mapping[str, Any]) -> None:
    """Options that packed sequences cannot have: each has its own L x S."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise ValueError(
                f"{function}: {name}= is not possible with cu_seqlens=: "
                "call with one sequence at a time, or with padded ones"
            )


def no_positions(function: str, places: Places) -> None:
    for name in ("positions", "key_positions"):
        if getattr(places, name) is not None:
            raise ValueError(f"{function}: {name}= is for layers with rope=, this one has none")
