"""From a text to the numbers of its tokens, as tokenizer.json says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyattn.models import _check_files, _check_models

TO_CONVERT = "older forms: transformers.AutoTokenizer.from_pretrained(...).save_pretrained(...)"


def find_tokenizer(directory: Path) -> Path:
    path = directory / "tokenizer.json"
    _check_files.is_file(path, "the tokenizer", TO_CONVERT)
    return path


def read_tokenizer(path: Path) -> Any:
    """A tokenizers.Tokenizer that neither pads nor cuts."""
    library: Any = _check_models.extra("tokenizers")
    start = b""
    try:
        text = path.read_bytes()  # here: a path need not be UTF-8, as the library wants it
        start = text[:32]
        tokenizer = library.Tokenizer.from_buffer(text)
        # The file's own settings are of its last use: some pad or cut every text to 128 tokens.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode("a trial")
    except BaseException as error:  # also a panic of the library's Rust, which is no Exception
        _check_files.tokenizer(path, error, start)
    return tokenizer


class TextTokenizer:
    """Tokenizes one text after the other: threads and forks of the caller are safe.

    `tokenizers` would use threads of its own for several texts at once, at the price of a warning
    and of no threads at all once the process forks. On its own a text takes about 1/50 of the time
    that its embedding takes.
    """

    def __init__(self, path: Path, longest: int, lower_case: bool) -> None:
        self._tokenizer = read_tokenizer(path)
        self.special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        _check_files.room_for_text(path, longest, self.special)
        self._tokenizer.enable_truncation(longest)
        self.lower_case = lower_case

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def ids(self, text: str) -> list[int]:
        """Cut to the longest a text may be, special tokens included."""
        return self._encoding(text).ids

    def ids_and_tokens(self, text: str) -> tuple[list[int], list[str]]:
        encoding = self._encoding(text)
        return encoding.ids, encoding.tokens

    def count(self, text: str) -> int:
        """How many tokens the whole text has, with the special ones."""
        encoding = self._encoding(text)
        parts = (encoding, *encoding.overflowing)  # each with special tokens of its own
        return sum(len(part.ids) - self.special for part in parts) + self.special

    def _encoding(self, text: str) -> Any:
        return self._tokenizer.encode(unicode_text(text.lower() if self.lower_case else text))


def unicode_text(text: str) -> str:
    """Lone surrogates, which stand for no character, become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
