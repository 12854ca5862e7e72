"""Words the errors of ONNX files: of those that are broken, and of graphs that are not known."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pyattn.models import _check_files
from pyattn.models._errors import BrokenFileError, UnsupportedModelError


def parsed(path: Path, read: Callable[[], Any]) -> Any:
    """What the package `onnx` makes of a file."""
    with path.open("rb") as file:
        start = file.read(64)
    try:
        model = read()
    except (KeyboardInterrupt, MemoryError, OSError):
        raise
    except Exception as error:  # those of protobuf, whose classes differ with its version
        first = str(error).split("\n")[0]
        raise BrokenFileError(
            f"{path}: is not an ONNX file{_check_files.hint(start)}: {first}"
        ) from None
    if not model.graph.node:
        raise BrokenFileError(f"{path}: is not an ONNX file: it has no graph")
    names = [tensor.name for tensor in model.graph.initializer]
    for node in model.graph.node:
        names += [node.op_type, *node.input, *node.output, *(a.name for a in node.attribute)]
    for name in names:
        if not isinstance(name, str):
            raise BrokenFileError(f"{path}: has a name that is not UTF-8, {name!r:.80}")
    return model


def tensor(path: Path, name: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:  # of a type that it has not heard of it says KeyError
        first = str(error).split("\n")[0]
        raise BrokenFileError(f"{path}: {name}: {type(error).__name__}: {first}") from None


def extents(path: Path, name: str, shape: Collection[int]) -> None:
    if any(extent < 0 for extent in shape):
        raise BrokenFileError(f"{path}: {name} has the shape {tuple(shape)}")


def external(path: Path, name: str) -> NoReturn:
    raise UnsupportedModelError(
        f"{path}: {name} lies in another file; save the model with its weights in one file"
    )


def not_a_vision_transformer(path: Path, why: str) -> NoReturn:
    raise UnsupportedModelError(f"{path}: is not the graph of a vision transformer: {why}")


def one_value(path: Path, what: str, values: Collection[Any]) -> Any:
    """That which all layers have; None is of one that tells nothing that is known."""
    if len(values) != 1 or None in values:
        found = " and ".join(sorted("not known" if v is None else str(v) for v in values))
        not_a_vision_transformer(path, f"{what} is {found or 'not known'}")
    return next(iter(values))
