"""Words what is wrong with the files of a model: raises `ModelError` and its kind.

A message begins with the file, then says what was expected, what was found, and the remedy if there
is one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pyattn.models._errors import (
    BrokenFileError,
    MissingFileError,
    TensorError,
    UnsupportedModelError,
)

LARGEST_JSON = 4 << 20  # bytes. As Python objects they may take 20 times as many.


def is_directory(path: Path) -> None:
    try:
        if path.is_dir():
            return
        found = path.exists()
    except OSError as error:  # of a name that is too long
        raise MissingFileError(f"{path}: {error.strerror}") from None
    if found:
        raise MissingFileError(f"{path}: is a file; the model's directory is needed")
    raise MissingFileError(
        f"{path}: there is no such directory. Models are not downloaded: fetch one first, "
        "for example with `hf download NAME --local-dir DIRECTORY`"
    )


def is_file(path: Path, what: str, remedy: str = "") -> None:
    try:
        if path.is_file():
            return
        found = path.exists()
    except OSError as error:  # of a name that is too long
        raise MissingFileError(f"{path}: {error.strerror}") from None
    if found:
        raise MissingFileError(f"{path}: is not a file")
    raise MissingFileError(f"{path}: {what} is missing{remedy and f' ({remedy})'}")


def no_weights(directory: Path, names: Sequence[str], pickles: Sequence[Path]) -> NoReturn:
    if pickles:
        raise MissingFileError(
            f"{directory}: has {pickles[0].name}, but no {names[0]}. Pickles can run any code and "
            "are never read: convert the model once where you trust it, with "
            "transformers.AutoModel.from_pretrained(...).save_pretrained(...)"
        )
    raise MissingFileError(f"{directory}: has no weights, neither {' nor '.join(names)}")


def json_size(path: Path, size: int) -> None:
    if size > LARGEST_JSON:
        raise BrokenFileError(f"{path}: has {size} bytes of JSON, at most {LARGEST_JSON} are read")


def parsed_json(path: Path, text: bytes, kind: type = dict, what: str = "") -> Any:
    """The object or list that `text`, (a part of) the file, is."""
    name = f"{path}: {what}" if what else f"{path}:"
    try:
        value = json.loads(text)
    except RecursionError:
        raise BrokenFileError(f"{name} is nested too deeply") from None
    except ValueError as error:
        raise BrokenFileError(f"{name} is not JSON{hint(text)}: {error}") from None
    if not isinstance(value, kind):
        expected = "a list" if kind is list else "an object"
        raise BrokenFileError(f"{name} must be {expected}, got {_short(value)}")
    return value


def hint(start: bytes) -> str:
    """What a file with such a beginning is likely to be instead."""
    if start.startswith(b"version https://git-lfs"):
        return " but a pointer to Git LFS (run `git lfs pull`)"
    if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04"):
        return " but looks like a pickle, which is never read"
    return ""


def header_length(path: Path, length: int, size: int, start: bytes) -> None:
    """`length` is what the file says of its header, `size` what there is of the file."""
    if size < 8:
        raise BrokenFileError(f"{path}: has {size} bytes, too few for a safetensors file")
    if length > size - 8:
        what = f"is not a safetensors file{hint(start)}" if hint(start) else "is cut off"
        raise BrokenFileError(
            f"{path}: {what}: its header should have {length} bytes, the file has {size}"
        )
    if length > LARGEST_JSON:
        raise BrokenFileError(
            f"{path}: has a header of {length} bytes, at most {LARGEST_JSON} are read"
        )


def entry(path: Path, name: str, why: str) -> NoReturn:
    raise BrokenFileError(f"{path}: {_name(name)}: {why}")


def layout(path: Path, name: str, start: int, expected: int) -> None:
    if start != expected:
        how = "overlaps with the one before" if start < expected else "leaves a gap"
        raise BrokenFileError(
            f"{path}: {_name(name)} {how}: "
            f"its data begins at {start}, that before it ends at {expected}"
        )


def data_size(path: Path, size: int, expected: int) -> None:
    if size != expected:
        how = "is cut off" if size < expected else "has more than its tensors"
        raise BrokenFileError(f"{path}: {how}: {expected} bytes of data expected, found {size}")


def shard_name(path: Path, tensor: str, name: Any) -> None:
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
        raise BrokenFileError(f"{path}: weight_map: {tensor} is in {name!r}, which names no file")


def module_path(path: Path, place: str) -> None:
    """A module lies inside the model's directory."""
    if Path(place).is_absolute() or ".." in Path(place).parts:
        raise BrokenFileError(f"{path}: the path {_short(place)} leads out of the directory")


def setting(path: Path, name: str, rule: str, value: Any) -> NoReturn:
    raise BrokenFileError(f"{path}: {name} must be {rule}, got {_short(value)}")


def setting_missing(path: Path, name: str) -> NoReturn:
    raise BrokenFileError(f"{path}: {name} is missing")


def unsupported(path: Path, name: str, value: Any, supported: Collection[Any]) -> NoReturn:
    known = ", ".join(str(v) for v in supported)
    raise UnsupportedModelError(
        f"{path}: {name} {_short(value)} is not supported; supported: {known}"
    )


def modules(path: Path, found: Sequence[str], supported: Sequence[str]) -> NoReturn:
    raise UnsupportedModelError(
        f"{path}: the modules {', '.join(found) or 'none'} are not supported; "
        f"supported: {', '.join(supported)}, or the first of these"
    )


def heads_divide(path: Path, size: int, heads: int) -> None:
    if size % heads:
        raise BrokenFileError(f"{path}: {heads} heads do not divide the hidden size {size}")


def no_prefix(path: Path, name: str, found: Sequence[str]) -> NoReturn:
    some = ", ".join(map(_name, found[:3])) + (", ..." if len(found) > 3 else "")
    raise TensorError(f"{path}: {name} is missing; its tensors are {some or 'none'}")


def several_prefixes(path: Path, name: str, prefixes: Sequence[str]) -> NoReturn:
    raise UnsupportedModelError(
        f"{path}: has {len(prefixes)} encoders, {name} stands in it with the prefixes "
        f"{', '.join(map(_short, prefixes[:3]))}"
    )


def tensor_missing(path: Path, name: str, shape: tuple[int, ...]) -> NoReturn:
    raise TensorError(f"{path}: {name} is missing; expected with the shape {shape}")


def tensor_shape(
    path: Path, name: str, found: tuple[int, ...], expected: tuple[int, ...], config: Path
) -> None:
    if found != expected:
        raise TensorError(
            f"{path}: {name} has the shape {found}, expected {expected} by {config.name}"
        )


def tensor_dtype(path: Path, name: str, dtype: str, known: Collection[str]) -> None:
    if dtype not in known:
        raise TensorError(f"{path}: {name} is {dtype}, expected one of {', '.join(known)}")


def within_float32(path: Path, name: str, array: np.ndarray) -> None:
    """What is computed in float32 must be finite there; NaN and infinity are left as they are."""
    if array.dtype != np.float64:
        return
    largest = np.finfo(np.float32).max.item()
    if (np.isfinite(array) & (np.abs(array) > largest)).any():
        raise TensorError(f"{path}: {_name(name)} has numbers that are too large for float32")


def no_other_tensors(path: Path, names: Collection[str], begin: str) -> None:
    """None of `names` begins so: it would have a meaning that is not computed."""
    others = sorted(n for n in names if n.startswith(begin) and not n.endswith(".inv_freq"))
    if others:
        raise UnsupportedModelError(
            f"{path}: has tensors ({len(others)}) that such a model does not have: "
            f"{', '.join(map(_name, others[:3]))}{', ...' if len(others) > 3 else ''}"
        )


def tokenizer(path: Path, error: BaseException, start: bytes) -> NoReturn:
    if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError, OSError)):
        raise error
    raise BrokenFileError(f"{path}: is no tokenizer{hint(start)}: {error}") from None


def vocabulary(path: Path, tokens: int, rows: int) -> None:
    if tokens > rows:
        raise TensorError(
            f"{path}: has {tokens} tokens, the model's table of word embeddings {rows} rows"
        )


def room_for_text(path: Path, tokens: int, special: int) -> None:
    if tokens <= special:
        raise UnsupportedModelError(
            f"{path}: a text has at most {tokens} tokens, {special} of which are special: "
            "nothing is left for words"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _name(tensor: str) -> str:
    """That of a tensor, which may be any text."""
    return tensor if tensor.isprintable() and len(tensor) <= 80 else _short(tensor)
