"""The files of a model: where they are, and the settings in the JSON ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyattn.models import _check_files

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
OPTIONAL = "what this link leads to"  # only a link can be there without its file
LARGEST = 1e300  # in JSON an integer may be larger than any float


class Settings:
    """The values of a JSON file, checked as they are asked for."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self.values = values

    @classmethod
    def read(cls, path: Path, what: str) -> Settings:
        return cls(path, read_json(path, what))

    @classmethod
    def read_optional(cls, path: Path) -> Settings:
        """Without any values if there is no such file."""
        return cls.read(path, OPTIONAL) if os.path.lexists(path) else cls(path, {})

    def whole(self, name: str, default: int | None = None, low: int = 1) -> int:
        value = self._get(name, default)
        if type(value) is not int or value < low:
            _check_files.setting(self.path, name, f"a whole number of at least {low}", value)
        return value

    def positive(self, name: str, default: float) -> float:
        value = self._get(name, default)
        if type(value) not in (int, float) or not 0 < value <= LARGEST:
            _check_files.setting(self.path, name, "a number above 0", value)
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._get(name, default)
        if type(value) is not bool:
            _check_files.setting(self.path, name, "true or false", value)
        return value

    def pair(self, name: str) -> tuple[int, int]:
        """Height and width: one number stands for both."""
        value = self._get(name, None)
        both = tuple(value) if isinstance(value, list) else (value, value)
        if len(both) != 2 or not all(type(v) is int and v > 0 for v in both):
            _check_files.setting(self.path, name, "a whole number above 0, or two of them", value)
        return both

    def numbers(self, name: str, count: int, default: Sequence[float] | None) -> tuple[float, ...]:
        value = self._get(name, default)
        if not isinstance(value, (list, tuple)) or len(value) != count:
            _check_files.setting(self.path, name, f"a list of {count} numbers", value)
        if not all(type(v) in (int, float) and abs(v) <= LARGEST for v in value):
            _check_files.setting(self.path, name, "a list of finite numbers", value)
        return tuple(map(float, value))

    def part(self, name: str) -> Settings:
        """An object in the file, or nothing."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            _check_files.setting(self.path, name, "an object", value)
        return Settings(self.path, value)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            _check_files.setting(self.path, name, "a string", value)
        return value

    def _get(self, name: str, default: Any) -> Any:
        """The default also stands for null, which some writers put for "not set"."""
        value = self.values.get(name)
        if value is None:
            if default is None:
                _check_files.setting_missing(self.path, name)
            return default
        return value


def read_json(path: Path, what: str, kind: type = dict) -> Any:
    """The object or list in a file; `what` says in an error what the file is."""
    _check_files.is_file(path, what)
    _check_files.json_size(path, path.stat().st_size)
    return _check_files.parsed_json(path, path.read_bytes(), kind)


class Weights(NamedTuple):
    """The safetensors `files` of a model. Of several, `index` names the place of each tensor."""

    files: list[Path]
    index: Path | None
    places: dict[str, Path]


def find_weights(directory: Path) -> Weights:
    """One file, or the shards that the index names."""
    if (directory / WEIGHTS).is_file():
        return Weights([directory / WEIGHTS], None, {})
    if not (directory / INDEX).is_file():
        pickles = [p for pattern in ("*.bin", "*.pt", "*.pth") for p in directory.glob(pattern)]
        _check_files.no_weights(directory, (WEIGHTS, INDEX), sorted(pickles))
    index = Settings.read(directory / INDEX, "the index of the weights")
    shards = index.values.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        _check_files.setting(index.path, "weight_map", "an object that names files", shards)
    for tensor, name in shards.items():
        _check_files.shard_name(index.path, tensor, name)
    places = {tensor: directory / name for tensor, name in shards.items()}
    files = sorted(set(places.values()))
    for file in files:
        _check_files.is_file(file, f"a part of the weights, named in {INDEX},")
    return Weights(files, index.path, places)
