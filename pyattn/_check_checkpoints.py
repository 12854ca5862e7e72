"""Words the errors of checkpoints: tensors that are missing, ambiguous, unknown, or not as wanted.

Kinds and dtypes raise `TypeError`, names and shapes `ValueError`. A message names the function, the
tensor, what was met and the rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pyattn._check_encodings import ANY_FLOAT, choice
from pyattn._check_numbers import is_masked
from pyattn._check_terms import FLOATS

if TYPE_CHECKING:
    from pyattn._checkpoints import Family

    Place = tuple[Family, str]  # a family, and what its names begin with

MOST_NAMES = 4  # in a message


# Names.


def mapping(function: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{function}: tensors must be a mapping from names to arrays, got "
            f"{type(value).__name__}: use safetensors.numpy.load_file, numpy.load, a state_dict()"
        )


def prefix(function: str, value: Any) -> str:
    """With the dot that names go on after."""
    if not isinstance(value, str):
        raise TypeError(f"{function}: prefix must be a string, got {type(value).__name__}")
    return value if not value or value.endswith(".") else f"{value}."


def format(function: str, value: Any, known: Sequence[str]) -> None:
    choice(function, "format", value, ("auto", *known))


def one_place(
    function: str,
    names: Collection[str],
    prefix: str,
    looked: Sequence[Place],
    found: Sequence[Place],
) -> Place:
    """The only one that was found, of those that were looked for."""
    if not found:
        _not_found(function, names, prefix, looked)
    if len(found) > 1:
        met = " and ".join(f"{family.name!r} at {base!r}" for family, base in found)
        raise ValueError(
            f"{function}: several formats have all their tensors under {prefix!r}: {met}: "
            "give format= or a longer prefix"
        )
    return found[0]


def _not_found(
    function: str, names: Collection[str], prefix: str, looked: Sequence[Place]
) -> NoReturn:
    def missing(place: Place) -> list[str]:
        family, base = place
        return [base + name for name in family.required() if base + name not in names]

    def there(place: Place) -> int:
        return len(place[0].required()) - len(missing(place))

    closest = max(looked, key=there)
    family, base = closest
    absent = missing(closest)
    if not absent:
        more = [base + name for name in family.excluded() if base + name in names]
        raise ValueError(
            f"{function}: {_are(more)} there, which format {family.name!r} never has: "
            "give another format="
        )
    if there(closest):
        raise ValueError(
            f"{function}: {_are(absent)} missing of format {family.name!r}; "
            f"most like {absent[0]!r}: {_names(_nearest(absent[0], names))}"
        )
    firsts = dict.fromkeys(f"{family.required()[0]} ({family.name})" for family, _ in looked)
    under = [name for name in names if name.startswith(prefix)]
    there_is = (
        f"there: {_names(under)}" if under else f"most like it: {_names(_nearest(prefix, names))}"
    )
    raise ValueError(
        f"{function}: no attention under {prefix!r}: looked for {', '.join(firsts)}; {there_is}"
    )


def nothing_else(
    function: str, names: Collection[str], rooms: tuple[str, ...], format: str, known: Iterable[str]
) -> None:
    """A tensor that is not known there may be a norm, a scale of quantized weights, an adapter."""
    known = set(known)
    unknown = [name for name in names if name.startswith(rooms) and name not in known]
    if unknown:
        raise ValueError(
            f"{function}: {_are(unknown)} unknown in format {format!r}, and may change the "
            "result: leave out of the mapping what does not"
        )


def _nearest(name: str, names: Collection[str]) -> list[str]:
    """Names like `name`, the most similar first."""
    import difflib  # takes longer to import than it is worth before something is wrong

    closest = sorted(names, key=lambda n: -_common(n, name))[:1000]
    return difflib.get_close_matches(name, closest, n=MOST_NAMES, cutoff=0.0)


def _common(a: str, b: str) -> int:
    """How many characters both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))  # noqa: B905


def _names(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    shown = ", ".join(map(repr, names[:MOST_NAMES])) or "none"
    return f"{shown} and {more} more" if more > 0 else shown


def _are(names: Sequence[str]) -> str:
    return f"{_names(names)} {'is' if len(names) == 1 else 'are'}"


# Tensors.


def tensor(function: str, name: str, value: Any) -> np.ndarray:
    """`value` as a float array: a view of what it is, unread if it is a memory map."""
    if is_masked(value):
        raise TypeError(f"{function}: {name!r} must not be a masked array")
    try:
        a = np.asarray(value)
    except (TypeError, RuntimeError) as error:  # as PyTorch has them
        raise TypeError(
            f"{function}: {name!r} cannot be read as an array ({error}): of a PyTorch tensor give "
            ".detach().float().cpu().numpy()"
        ) from None
    if a.dtype.name not in FLOATS:
        raise TypeError(f"{function}: {name!r} must be {ANY_FLOAT}, got {a.dtype}")
    return a
