"""The tokenizer of a GGUF file: byte pair encoding, as of GPT-2, with its own way to cut words.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyattn.models import _check_files, _check_generator, _check_gguf, _check_models
from pyattn.models._files import Settings
from pyattn.models._gguf import Gguf

KEY = "tokenizer.ggml."
CONTROL, USER_DEFINED = 3, 4  # types of tokens that are found in a text before it is cut
# Control tokens that end a text, whether a file says so or not: an answer ends with another one
# than a document.
ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>")

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def _gpt2(tokenizers: Any) -> Any:
    return tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm(tokenizers: Any) -> Any:
    digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    return tokenizers.pre_tokenizers.Sequence([digits, _gpt2(tokenizers)])


def _pattern(pattern: str) -> Callable[[Any], Any]:
    def made(tokenizers: Any) -> Any:
        kinds = tokenizers.pre_tokenizers
        split = kinds.Split(tokenizers.Regex(pattern), behavior="isolated")
        return kinds.Sequence([split, kinds.ByteLevel(add_prefix_space=False, use_regex=False)])

    return made


# How words are cut, by the names of tokenizer.ggml.pre.
CUTS = {
    "gpt-2": _gpt2,
    "smollm": _smollm,
    "llama-bpe": _pattern(LLAMA3),
    "qwen2": _pattern(QWEN2),
}
WHOLE_WORDS = ("llama-bpe",)  # a word that is a token stays one, whatever the merges say
COMPOSED = ("qwen2",)  # texts are brought into NFC first
BEGUN = ("llama-bpe",)  # texts begin with a token of their own, unless the file says otherwise


def gguf_tokenizer(file: Gguf) -> Any:
    """A tokenizers.Tokenizer."""
    settings, path = Settings(file.path, file.metadata), file.path
    tokenizers = _check_models.extra("tokenizers")
    model = settings.text(f"{KEY}model")
    if model != "gpt2":
        _check_files.unsupported(path, f"{KEY}model", model, ["gpt2"])
    cut = settings.text(f"{KEY}pre")
    if cut not in CUTS:
        _check_files.unsupported(path, f"{KEY}pre", cut, CUTS)
    tokens = _check_gguf.texts(path, f"{KEY}tokens", file.metadata)
    merges = _merges(path, _check_gguf.texts(path, f"{KEY}merges", file.metadata))
    vocabulary = {token: number for number, token in enumerate(tokens)}

    def build() -> Any:
        bpe = tokenizers.models.BPE(vocabulary, merges, ignore_merges=cut in WHOLE_WORDS)
        made = tokenizers.Tokenizer(bpe)
        if cut in COMPOSED:
            made.normalizer = tokenizers.normalizers.NFC()
        made.pre_tokenizer = CUTS[cut](tokenizers)
        made.decoder = tokenizers.decoders.ByteLevel()
        special = {kind: [] for kind in (CONTROL, USER_DEFINED)}
        for token, kind in zip(tokens, _kinds(file, len(tokens)), strict=True):
            if kind in special:
                special[kind].append(tokenizers.AddedToken(token, normalized=False))
        made.add_special_tokens(special[CONTROL])
        made.add_tokens(special[USER_DEFINED])
        return made

    return _check_generator.tokenizer(path, build)


def gguf_begin(file: Gguf) -> list[int]:
    """What stands before every text."""
    settings = Settings(file.path, file.metadata)
    if not settings.flag(f"{KEY}add_bos_token", settings.text(f"{KEY}pre") in BEGUN):
        return []
    return [_token(file, "bos_token_id", settings.whole(f"{KEY}bos_token_id", low=0))]


def gguf_ends(file: Gguf) -> frozenset[int]:
    """The tokens that end a text."""
    tokens = file.metadata[f"{KEY}tokens"]
    kinds = _kinds(file, len(tokens))
    found = {n for n, token in enumerate(tokens) if token in ENDS and kinds[n] == CONTROL}
    for name in ("eos_token_id", "eot_token_id", "eom_token_id"):
        number = file.metadata.get(f"{KEY}{name}")
        if number is not None:
            found.add(_token(file, name, number))
    return frozenset(found)


def gguf_special(file: Gguf) -> dict[str, str]:
    """The tokens that a chat template may speak of."""
    tokens, found = file.metadata[f"{KEY}tokens"], {}
    for name in ("bos_token", "eos_token"):
        number = file.metadata.get(f"{KEY}{name}_id")
        if number is not None:
            found[name] = tokens[_token(file, f"{name}_id", number)]
    return found


def _token(file: Gguf, name: str, number: Any) -> int:
    tokens = len(file.metadata[f"{KEY}tokens"])
    return _check_generator.token(file.path, f"{KEY}{name}", number, tokens)


def _kinds(file: Gguf, tokens: int) -> list[int]:
    name = f"{KEY}token_type"
    kinds = file.metadata.get(name)
    if kinds is None:
        return [0] * tokens
    _check_gguf.types_of_tokens(file.path, name, kinds, tokens)
    return kinds.tolist()


def _merges(path: Path, merges: list[str]) -> list[tuple[str, str]]:
    pairs = [tuple(merge.split(" ")) for merge in merges]
    for merge, pair in zip(merges, pairs, strict=True):
        _check_gguf.merge(path, f"{KEY}merges", merge, len(pair) == 2)
    return pairs
