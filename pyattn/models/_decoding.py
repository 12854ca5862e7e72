"""Prompts to answers, token by token, of several at once.

A pass through the decoder takes the next tokens of some sequences: a piece of a prompt, or the last
token of an answer. Prompts are cut into pieces at fixed places of their own, so that the bits of an
answer do not depend on what else is computed in the same pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pyattn.models._batches import batches
from pyattn.models._decoder import Decoder
from pyattn.models._generator_tokens import GeneratorTokens
from pyattn.models._sampling import Sampler
from pyattn.models._streaming import Characters, Stops

PIECE = 512  # tokens of a prompt, and at most of all prompts, that are read in one pass


class Request(NamedTuple):
    """What is asked for. `rng` is of this answer alone."""

    prompt: list[int]
    most: int  # tokens
    sampler: Sampler
    rng: np.random.Generator
    stops: tuple[str, ...]


class Answer:
    """An answer in the making. `last` is its last token, which the decoder has not read yet."""

    def __init__(self, request: Request, tokens: GeneratorTokens) -> None:
        self._request, self._ends = request, tokens.ends
        self._characters = Characters(tokens, request.prompt)
        self._stops = Stops(request.stops)
        self._left = request.most
        self.last = -1
        self.done = not self._left

    def next(self, logits: np.ndarray) -> str:
        """Choose a token; what of the text is certain now."""
        self.last = self._request.sampler(logits, self._request.rng)
        self._left -= 1
        if self.last in self._ends:
            self.done = True
            return self._stops.rest()
        text = self._stops.of(self._characters.of(self.last))
        self.done = self._stops.met or not self._left
        return text + self._stops.rest() if self.done else text


class Piece(NamedTuple):
    """Of a prompt: its sequence, its tokens, and whether these are the last."""

    row: int
    ids: list[int]
    last: bool


def pieces(row: int, prompt: list[int]) -> Iterator[Piece]:
    for at in range(0, len(prompt), PIECE):
        yield Piece(row, prompt[at : at + PIECE], at + PIECE >= len(prompt))


def answered(
    decoder: Decoder, tokens: GeneratorTokens, requests: Sequence[Request], cache_dtype: str
) -> Iterator[tuple[int, str]]:
    """Pieces of the answers as they come, with the number of their request."""
    answers = [Answer(request, tokens) for request in requests]
    caches = decoder.caches(len(answers), cache_dtype)
    prompts = [
        piece
        for row, request in enumerate(requests)
        if not answers[row].done
        for piece in pieces(row, request.prompt)
    ]
    for group in batches(prompts, PIECE, tokens=lambda piece: len(piece.ids)):
        lengths = [len(piece.ids) for piece in group]
        ids = np.concatenate([piece.ids for piece in group])
        x = decoder.read(ids, np.array([piece.row for piece in group]), lengths, caches)
        last = [n for n, piece in enumerate(group) if piece.last]
        logits = decoder.logits(x[np.cumsum(lengths)[last] - 1])
        for n, row in zip(last, logits, strict=True):
            yield group[n].row, answers[group[n].row].next(row)
    while live := [row for row, answer in enumerate(answers) if not answer.done]:
        ids = np.array([answers[row].last for row in live])
        x = decoder.read(ids, np.array(live), [1] * len(live), caches)
        for row, logits in zip(live, decoder.logits(x), strict=True):
            yield row, answers[row].next(logits)


def all_logits(decoder: Decoder, ids: np.ndarray, cache_dtype: str) -> Iterator[np.ndarray]:
    """(k, vocabulary) of the tokens of one text, piece by piece."""
    caches = decoder.caches(1, cache_dtype)
    for at in range(0, len(ids), PIECE):
        piece = ids[at : at + PIECE]
        yield decoder.logits(decoder.read(piece, np.zeros(1, np.int64), [len(piece)], caches))
