"""Words the errors of decoders, of their files and of what a `TextGenerator` is asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pyattn import _check
from pyattn._check_numbers import whole
from pyattn.models import _check_files
from pyattn.models._errors import (
    BrokenFileError,
    ModelError,
    TensorError,
    UnsupportedModelError,
)

# Of the files


def groups(path: Path, heads: int, kv_heads: int) -> None:
    if heads % kv_heads:
        raise BrokenFileError(f"{path}: {heads} heads cannot share {kv_heads} heads of keys evenly")


def at_most(path: Path, name: str, value: int, most: int) -> None:
    if value > most:
        _check_files.setting(path, name, f"at most {most}", value)


def per_layer(path: Path, name: str, value: Any, layers: int) -> None:
    if not isinstance(value, list) or len(value) != layers:
        _check_files.setting(path, name, f"a list of {layers} entries, one per layer", value)


def rope(path: Path, make: Callable[[], Any]) -> Any:
    """The frequencies that a configuration asks for."""
    try:
        return make()
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UnsupportedModelError(f"{path}: its positions: {error}") from None


def fits(path: Path, name: str, make: Callable[[], Any]) -> Any:
    """A layer whose weights may not fit into halves, as those of a broken file."""
    try:
        return make()
    except ValueError as error:
        raise TensorError(f"{path}: {name}: {error}") from None


def tokenizer(path: Path, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except BaseException as error:  # also a panic of the library's Rust, which is no Exception
        _check_files.tokenizer(path, error, b"")


def token(path: Path, name: str, value: Any, tokens: int) -> int:
    if type(value) is not int or not 0 <= value < tokens:
        _check_files.setting(path, name, f"a token, within [0, {tokens})", value)
    return value


def tokens(path: Path, name: str, value: Any, tokens: int) -> frozenset[int]:
    """None, one or several."""
    several = value if isinstance(value, list) else [] if value is None else [value]
    return frozenset(token(path, name, one, tokens) for one in several)


def utf8(path: Path) -> str:
    _check_files.json_size(path, path.stat().st_size)
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise BrokenFileError(f"{path}: is not UTF-8: {error.reason}") from None


def template_text(path: Path, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        _check_files.setting(path, "chat_template", "a string", value)


# Of the chat template

PROGRAM_ERRORS = (
    ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def template(function: str, path: Path, source: str | None) -> None:
    if source is None:
        raise UnsupportedModelError(
            f"{path}: has no chat template: {function} is for models that were trained on chats"
        )


def rendered(path: Path, render: Callable[[], str], kind: type[Exception]) -> str:
    """What a template makes, which may fail in any way that a program can."""
    try:
        return render()
    except RefusedError:
        raise
    except (kind, *PROGRAM_ERRORS) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BrokenFileError(f"{path}: its chat template cannot be used: {reason}") from None


class RefusedError(ValueError):
    """A template does not take such messages."""


def refused(function: str, path: Path, message: Any) -> NoReturn:
    raise RefusedError(f"{function}: the chat template of {path} says: {message}")


# Of calls


def messages(function: str, value: Any) -> list[Mapping[str, str]]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise TypeError(
            f"{function}: messages must be a list of "
            "{'role': 'user', 'content': 'text'}, "
            f"got {type(value).__name__}"
        )
    if not value:
        raise ValueError(f"{function}: messages must have at least one message")
    for n, message in enumerate(value):
        if not isinstance(message, Mapping):
            raise TypeError(
                f"{function}: messages[{n}] must be a dict, got {type(message).__name__}"
            )
        for name in ("role", "content"):
            if not isinstance(message.get(name), str):
                raise TypeError(
                    f"{function}: messages[{n}][{name!r}] must be a string, "
                    f"got {type(message.get(name)).__name__}"
                )
    return list(value)


def storage(function: str, value: Any, known: Collection[str | None]) -> None:
    if (value is not None and not isinstance(value, str)) or value not in known:
        names = ", ".join(map(repr, known))
        raise ValueError(f"{function}: storage must be one of {names}, got {value!r}")


def temperature(function: str, value: Any) -> float:
    number = _check.real(function, "temperature", value)
    if not 0 <= number < np.inf:
        raise ValueError(f"{function}: temperature must be finite and at least 0, got {number}")
    return number


def top_k(function: str, value: Any) -> int | None:
    return None if value is None else whole(function, "top_k", value, 1)


def top_p(function: str, value: Any) -> float | None:
    if value is None:
        return None
    number = _check.real(function, "top_p", value)
    if not 0 < number <= 1:
        raise ValueError(f"{function}: top_p must be within (0, 1], got {number}")
    return number


def seed(function: str, value: Any) -> int | None:
    return None if value is None else whole(function, "seed", value)


def stops(function: str, value: Any) -> tuple[str, ...]:
    """One string or several, none of them empty."""
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, (tuple, list)) or not all(isinstance(s, str) for s in several):
        raise TypeError(
            f"{function}: stop must be a string or a list of them, got {type(value).__name__}"
        )
    if not all(several):
        raise ValueError(f"{function}: stop must not have an empty string: it is everywhere")
    return tuple(several)


def room(function: str, name: str, tokens: int, most: int | None, context: int) -> int:
    """How many tokens may follow a prompt."""
    if not tokens:
        raise ValueError(
            f"{function}: {name} has no tokens, and this model has none that begins a text: "
            "there is nothing to go on from"
        )
    left = context - tokens
    if left < (most or 0) or left < 0:
        asked = "" if most is None else f" and max_tokens is {most}"
        remedy = "shorten it" if left <= 0 else f"shorten it, or use max_tokens={left}"
        raise ValueError(
            f"{function}: {name} has {tokens} tokens{asked}, "
            f"the model's context has {context}: {remedy}"
        )
    return left if most is None else most


def within_vocabulary(function: str, ids: np.ndarray, rows: int) -> None:
    for at in np.flatnonzero((ids < 0) | (ids >= rows))[:1]:
        raise ValueError(
            f"{function}: ids has the token {ids[at]} at {at}, outside the vocabulary [0, {rows})"
        )


def numbers(path: Path, largest: float) -> None:
    """Of logits."""
    if not np.isfinite(largest):
        raise ModelError(f"{path}: its logits are not finite: the weights are broken, or too large")


def not_made_directly() -> NoReturn:
    raise TypeError("TextGenerator: use TextGenerator.from_pretrained(directory) or (file.gguf)")
