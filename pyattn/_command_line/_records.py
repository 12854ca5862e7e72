"""The input of a run, text by text, with the bytes that each was read from."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO, NamedTuple

from pyattn._command_line import _check_command_line

PIECE = 1 << 20


class Record(NamedTuple):
    """`raw` begins where that of the record before ends."""

    raw: bytes
    text: str


class Prefix:
    """How much of the input has been read, and what it was. Immutable."""

    def __init__(self, length: int = 0, digest: Any = None) -> None:
        self.length = length
        self._digest = digest or hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def followed_by(self, raw: bytes) -> Prefix:
        digest = self._digest.copy()
        digest.update(raw)
        return Prefix(self.length + len(raw), digest)


def opened(name: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb")


def skipped(file: BinaryIO, length: int) -> tuple[Prefix, int, bool]:
    """Read the first `length` bytes: what they were, their lines, and whether records end there."""
    prefix, lines, last = Prefix(), 0, b"\n"
    while prefix.length < length:
        piece = file.read(min(PIECE, length - prefix.length))
        if not piece:
            break
        prefix, lines, last = prefix.followed_by(piece), lines + piece.count(b"\n"), piece[-1:]
    return prefix, lines, last == b"\n" or not file.peek(1)  # type: ignore[attr-defined]


def records(file: BinaryIO, name: str, field: str | None, lines: int) -> Iterator[Record]:
    """Of each line the text, or of one of JSON that in a field; `lines` have been read before.

    Only a line feed ends a line, which may have a carriage return before it. Empty lines are empty
    texts, but nothing between lines of JSON.
    """
    raw = []
    for number, line in enumerate(file, lines + 1):
        raw.append(line)
        text = _check_command_line.line(name, number, line)
        if number == 1:
            text = text.removeprefix("\ufeff")
        if field is not None:
            if not text.strip():
                continue
            text = _check_command_line.field(name, number, text, field)
        yield Record(b"".join(raw), text)
        raw = []
