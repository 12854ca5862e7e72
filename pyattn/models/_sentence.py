"""What sentence-transformers wrote beside a model: pooling, normalisation, the longest text.

https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyattn.models import _check_files
from pyattn.models._files import OPTIONAL, Settings, read_json
from pyattn.models._pooling import MODES

# The names of modes before version 5.5, in the order in which several are put side by side.
OLD_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
UNLIMITED = 1e30  # what tokenizers have that do not know
MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True)
class SentenceConfig:
    """`transformer` is the directory of the model proper, `longest` counts tokens of a text.

    `files` are those that all this was read from.
    """

    transformer: Path
    pooling: tuple[str, ...]
    normalize: bool
    longest: int
    lower_case: bool
    files: tuple[Path, ...]

    @classmethod
    def read(cls, directory: Path) -> SentenceConfig:
        """Of a directory without modules.json: the mean, not normalised, as that package does."""
        modules = directory / "modules.json"
        places = _modules(modules)
        transformer = directory / places.get("Transformer", "")
        _check_files.is_directory(transformer)
        files, pooling = [modules], ("mean",)
        if "Pooling" in places:
            files.append(directory / places["Pooling"] / "config.json")
            pooling = _pooling(files[-1])
        # The middle of the name is "bert" for all kinds of models now, but was their own once.
        found = sorted(transformer.glob("sentence_*_config.json"))
        settings = Settings.read(found[0], OPTIONAL) if found else Settings(transformer, {})
        tokenizer = Settings.read_optional(transformer / "tokenizer_config.json")
        files += [*found[:1], tokenizer.path]
        return cls(
            transformer,
            pooling,
            normalize="Normalize" in places,
            longest=settings.whole("max_seq_length", 0, low=0)
            or int(tokenizer.positive("model_max_length", UNLIMITED)),
            lower_case=settings.flag("do_lower_case", False),
            files=tuple(path for path in files if path.exists()),
        )


def _modules(path: Path) -> dict[str, str]:
    """The place of each module in the directory, by the name of its class."""
    if not os.path.lexists(path):
        return {}
    places = {}
    for module in read_json(path, OPTIONAL, list):
        settings = Settings(path, module if isinstance(module, dict) else {})
        place = settings.text("path", "")
        _check_files.module_path(path, place)
        places[settings.text("type").rpartition(".")[2]] = place
    if tuple(places) not in (MODULES[:1], MODULES[:2], MODULES):
        _check_files.modules(path, list(places), MODULES)
    return places


def _pooling(path: Path) -> tuple[str, ...]:
    settings = Settings.read(path, "the configuration of the pooling")
    given: Any = settings.values.get("pooling_mode")
    if given is None:
        given = [new for old, new in OLD_NAMES.items() if settings.flag(old, False)] or ["mean"]
    modes = [given] if isinstance(given, str) else given
    known = list(MODES)  # not by hash: in JSON anything may stand there
    if not isinstance(modes, list) or not modes or not all(m in known for m in modes):
        _check_files.unsupported(path, "pooling_mode", given, MODES)
    if len(set(modes)) < len(modes):
        _check_files.setting(path, "pooling_mode", "different modes", given)
    return tuple(modes)
