"""Words the errors of wrong arguments to an encoder, and of packages that are not there."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from pyattn._check_numbers import whole


def extra(name: str, extra: str = "models") -> ModuleType:
    """A package of the extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"pyattn.models needs the package {name}: pip install 'pyattn[{extra}]'", name=name
        ) from error


def several(function: str, name: str, value: Any, for_one: str = "[text]") -> Iterable[Any]:
    """Anything that can be iterated but one text, whose characters nobody means, and what gives
    its keys. `for_one` is what there is for one text."""
    kind = type(value).__name__
    if isinstance(value, (str, bytes)):
        raise TypeError(
            f"{function}: {name} must be a list or another iterable of them, "
            f"got one {kind}: use {for_one}"
        )
    if isinstance(value, Mapping) or hasattr(value, "columns"):  # the latter is a DataFrame
        raise TypeError(
            f"{function}: {name} must be a list or another iterable of them, "
            f"got {kind}, which gives its keys: use its values"
        )
    if not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{function}: {name} must be an iterable, got {kind}")
    return value


def text(function: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{function}: {name} must be a string, got {type(value).__name__}")
    return value


def token_ids(function: str, name: str, value: Any, longest: int) -> np.ndarray:
    """The numbers of the tokens of one text; how large they may be, `within_vocabulary` knows."""
    try:
        ids = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{function}: {name} must have one axis: {error}") from None
    if ids.ndim != 1:
        raise ValueError(f"{function}: {name} must have one axis, got {ids.shape}")
    if len(ids) and ids.dtype.kind not in "iu":
        raise TypeError(f"{function}: {name} must be integers, got {ids.dtype}")
    if len(ids) > longest:
        raise ValueError(
            f"{function}: {name} has {len(ids)} tokens, the model has positions for {longest}"
        )
    return ids


def within_vocabulary(
    function: str, name: str, first: int, batch: list[np.ndarray], rows: int
) -> None:
    """Of texts, the first of which has the number `first`."""
    for number, ids in enumerate(batch, first):
        for at in np.flatnonzero((ids < 0) | (ids >= rows))[:1]:
            raise ValueError(
                f"{function}: {name}[{number}] has the token {ids[at]} at {at}, "
                f"outside the vocabulary [0, {rows})"
            )


def budget(function: str, value: Any) -> int:
    return whole(function, "batch_tokens", value, 1)


def pooling(function: str, value: Any, modes: Collection[str]) -> tuple[str, ...]:
    """One mode or several."""
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, (tuple, list)) or not all(isinstance(m, str) for m in given):
        raise TypeError(
            f"{function}: pooling must be a string or a tuple of them, got {type(value).__name__}"
        )
    if not given or not all(m in modes for m in given):
        raise ValueError(f"{function}: pooling must be of {', '.join(modes)}, got {value!r}")
    return tuple(given)


def progress(function: str, value: Any) -> None:
    if not isinstance(value, bool) and not callable(value):
        raise TypeError(
            f"{function}: progress must be True, False or a function of the number of texts done, "
            f"got {type(value).__name__}"
        )


def index(function: str, name: str, value: Any, count: int) -> int:
    """Of one of `count`; -1 is the last."""
    number = whole(function, name, value, -count)
    if number >= count:
        raise ValueError(f"{function}: {name} = {number} is outside [-{count}, {count})")
    return number % count


def not_made_directly(name: str, argument: str) -> NoReturn:
    raise TypeError(f"{name}: use {name}.from_pretrained({argument})")
