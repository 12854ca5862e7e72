"""Words the errors of the command line: one line each, without a traceback."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn


class CommandError(Exception):
    """The command cannot go on; the message is all that the user sees."""


def whole(text: str) -> int:
    """An option that is a whole number of at least 1."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def number(text: str) -> float:
    """An option that is a number; its range is the model's business."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def seed(text: str) -> int:
    """An option that is a whole number of at least 0."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def system_needs_chat(system: str | None, chat: bool) -> None:
    if system is not None and not chat:
        raise CommandError("--system is for chats: use --chat too")


def prompt(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CommandError(f"standard input is not UTF-8: {error.reason}") from None


def accepted(call: Callable[[], Any]) -> Any:
    """What the model makes of the options, which it may refuse."""
    try:
        return call()
    except ValueError as error:
        raise CommandError(str(error)) from None


def output(name: Path, written: Sequence[Path], read: Mapping[str, os.stat_result]) -> None:
    """The output can be put there, and none of the files `written` for it is one of those `read`,
    which would be gone then."""
    if name.is_dir():
        raise CommandError(f"{name}: is a directory: --output must be a file")
    if name.exists() and not name.is_file():
        raise CommandError(f"{name}: is no regular file, which --output must be")
    if not written[0].parent.is_dir():
        raise CommandError(f"{name}: there is no folder {written[0].parent}")
    for path in filter(Path.exists, written):
        for what, status in read.items():
            if os.path.samestat(path.stat(), status):
                raise CommandError(f"{path}: is {what}, which --output {name} would destroy")


def line(name: str, number: int, raw: bytes) -> str:
    """A line of the input, without its end."""
    try:
        return raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise CommandError(f"{name}, line {number}: is not UTF-8: {error.reason}") from None


def field(name: str, number: int, text: str, field: str) -> str:
    """The text in a line of JSON."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{name}, line {number}: is not JSON: {error}") from None
    if not isinstance(value, dict) or field not in value:
        raise CommandError(f"{name}, line {number}: has no field {field!r}: choose with --field")
    if not isinstance(value[field], str):
        found = type(value[field]).__name__
        raise CommandError(f"{name}, line {number}: {field!r} is not a string but {found}")
    return value[field]


def same_input(name: str, partial: Path, same: bool) -> None:
    if not same:
        raise CommandError(
            f"{partial} was begun with another input: what it has read of {name} has changed. "
            "--restart begins anew"
        )


def same_job(partial: Path, found: dict[str, Any], job: dict[str, Any]) -> None:
    for name, value in job.items():
        if found.get(name) != value:
            raise CommandError(
                f"{partial} was begun with another {name} ({found.get(name)}, now {value}). "
                "--restart begins anew"
            )


def state(path: Path, text: bytes) -> dict[str, Any]:
    """What a run has left behind of itself, as `Partial.save` writes it."""
    kinds = {"rows": int, "bytes": int, "sha256": str, "full": int, "job": dict}
    try:
        value = json.loads(text)
        fits = all(type(value[name]) is kind for name, kind in kinds.items())
        fits = fits and min(value[name] for name in ("rows", "bytes", "full")) >= 0
    except (ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise CommandError(f"{path}: is not the state of a run. --restart begins anew")
    return value


def size(partial: Path, size: int, expected: int) -> None:
    if size < expected:
        raise CommandError(
            f"{partial}: has {size} bytes, {expected} were written. --restart begins anew"
        )


def locked(partial: Path) -> NoReturn:
    raise CommandError(f"{partial}: another process is writing it")
