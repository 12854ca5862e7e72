"""The tensors of an encoder among those of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pyattn.models import _check_files
from pyattn.models._safetensors import Tensors

Expected = Iterable[tuple[str, tuple[int, ...]]]


def common_prefix(tensors: Tensors, name: str) -> str:
    """What the names of an encoder begin with that has a tensor `name`.

    "bert." and the like in checkpoints with a head for a task, often nothing.
    """
    path = place(tensors)
    prefixes = sorted(found.removesuffix(name) for found in tensors if found.endswith(name))
    if not prefixes:
        _check_files.no_prefix(path, name, list(tensors))
    if len(prefixes) > 1:
        _check_files.several_prefixes(path, name, prefixes)
    return prefixes[0]


def encoder_tensors(tensors: Tensors, prefix: str, expected: Expected, config: Path) -> Tensors:
    """Those expected, under their names without the prefix; `config` is the file that says so.

    Old checkpoints call weight and bias of a norm gamma and beta, as TensorFlow does.
    """
    names: dict[str, str] = {}
    for name, shape in expected:
        found = _found(prefix + name, tensors)
        if found is None:
            _check_files.tensor_missing(place(tensors), prefix + name, shape)
        entry = tensors.entries[found]
        _check_files.tensor_shape(entry.path, found, entry.shape, shape, config)
        _check_files.tensor_dtype(entry.path, found, entry.dtype, tensors.known)
        names[name] = found
    return tensors.renamed(names)


def only_known(tensors: Tensors, found: Tensors, rooms: Iterable[str]) -> None:
    """No other tensor than those found begins as one of the rooms: it would mean another kind of
    layer, as of quantized weights or of adapters."""
    known = {id(entry) for entry in found.entries.values()}
    others = [name for name, entry in tensors.entries.items() if id(entry) not in known]
    for room in rooms:
        _check_files.no_other_tensors(place(tensors), others, room)


def place(tensors: Tensors) -> Path:
    """What is said to lack a tensor."""
    return tensors.files[0] if len(tensors.files) == 1 else tensors.files[0].parent


def pair(
    module: str, shape: tuple[int, ...], biased: bool = True
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weight and the bias of a linear map or a norm."""
    yield f"{module}.weight", shape
    if biased:
        yield f"{module}.bias", shape[:1]


def _found(name: str, tensors: Tensors) -> str | None:
    old = name.removesuffix("weight") + "gamma"
    if name.endswith("bias"):
        old = name.removesuffix("bias") + "beta"
    return next((n for n in (name, old) if n in tensors), None)
