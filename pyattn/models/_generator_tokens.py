"""Prompts to numbers of tokens and back, and the tokens that begin and end a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyattn.models import _check_generator
from pyattn.models._files import Settings
from pyattn.models._gguf import Gguf
from pyattn.models._gguf_tokenizer import gguf_begin, gguf_ends, gguf_special, gguf_tokenizer
from pyattn.models._tokenizer import find_tokenizer, read_tokenizer, unicode_text

Special = dict[str, str]


class GeneratorTokens:
    """`begin` are the tokens before every text, `ends` those after which an answer is over."""

    def __init__(
        self, path: Path, tokenizer: Any, begin: Sequence[int], ends: frozenset[int]
    ) -> None:
        self.path, self._tokenizer, self.begin, self.ends = path, tokenizer, list(begin), ends

    @property
    def vocabulary(self) -> int:
        """One more than the largest number of a token."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def ids(self, text: str) -> list[int]:
        """A text that begins with `begin` already, as chat templates write it, is left so."""
        ids = self._tokenizer.encode(unicode_text(text), add_special_tokens=False).ids
        return ids if ids[: len(self.begin)] == self.begin else self.begin + ids

    def text(self, ids: Sequence[int], special: bool = False) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=not special)


def directory_tokens(directory: Path) -> tuple[GeneratorTokens, Special]:
    """Of Hugging Face's form; and the tokens that a chat template may speak of."""
    path = find_tokenizer(directory)
    tokenizer = read_tokenizer(path)
    # What the tokenizer puts before a text; what some put behind it is not for texts that go on.
    plain, whole = (tokenizer.encode("a", add_special_tokens=flag).ids for flag in (False, True))
    begin = next((whole[:n] for n in range(len(whole)) if whole[n : n + len(plain)] == plain), [])
    config = Settings.read(directory / "config.json", "the configuration of the model")
    generation = Settings.read_optional(directory / "generation_config.json")
    source = generation if generation.values.get("eos_token_id") is not None else config
    ends = _check_generator.tokens(
        source.path, "eos_token_id", source.values.get("eos_token_id"), 1 << 31
    )
    settings = Settings.read_optional(directory / "tokenizer_config.json")
    special = {}
    for name in ("bos_token", "eos_token"):
        token = settings.values.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            special[name] = token
    return GeneratorTokens(path, tokenizer, begin, ends), special


def gguf_tokens(file: Gguf) -> tuple[GeneratorTokens, Special]:
    tokenizer = gguf_tokenizer(file)
    found = GeneratorTokens(file.path, tokenizer, gguf_begin(file), gguf_ends(file))
    return found, gguf_special(file)
