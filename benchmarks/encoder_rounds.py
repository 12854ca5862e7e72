"""Rounds of the suite `encoder`: in each everybody computes the same part of the texts."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

import numpy as np

from benchmarks.encoder_contestants import Encode
from benchmarks.encoder_inputs import Model, Tokens
from benchmarks.measuring import REST, fma_peak

BATCH = 32
PACKED, SORTED, AS_THEY_COME = "packed", "sorted", "as they come"
# They take part in every so-many-th round: a turn with much padding is as long as five others.
EVERY = {PACKED: 1, SORTED: 1, AS_THEY_COME: 3}


@dataclass(frozen=True)
class Part:
    """The texts of a round."""

    tokens: Tokens  # as they come
    by_length: Tokens

    def batches(self, order: str) -> list[Tokens]:
        if order == PACKED:
            return [self.tokens]
        return in_batches(self.by_length if order == SORTED else self.tokens)


def in_batches(tokens: Tokens) -> list[Tokens]:
    return [tokens[n : n + BATCH] for n in range(0, len(tokens), BATCH)]


def parts(tokens: Tokens, rounds: int) -> list[Part]:
    """All texts are sorted, and their batches dealt out to the rounds, forth and back: so each has
    texts of all lengths, and its batches have as little padding as those of all texts."""
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    batches = [order[n : n + BATCH] for n in range(0, len(order), BATCH)]
    turning = [*range(rounds), *reversed(range(rounds))]
    dealt = [
        np.concatenate([b for i, b in enumerate(batches) if turning[i % len(turning)] == n])
        for n in range(rounds)
    ]
    return [Part([tokens[n] for n in np.sort(own)], [tokens[n] for n in own]) for own in dealt]


@dataclass(frozen=True)
class Turn:
    part: Part
    seconds: float
    peak: float  # FLOP/s of the same moment
    ratio: float  # of the seconds to those of pyattn in the same round


@dataclass
class Runner:
    way: str
    encode: Encode
    order: str
    turns: list[Turn] = field(default_factory=list)

    def texts(self) -> int:
        return sum(len(t.part.tokens) for t in self.turns)

    def texts_per_second(self) -> float:
        return self.texts() / sum(t.seconds for t in self.turns)

    def tokens_per_second(self) -> float:
        """Without padding."""
        total = sum(len(ids) for t in self.turns for ids in t.part.tokens)
        return total / sum(t.seconds for t in self.turns)

    def of_peak(self, model: Model) -> float:
        return statistics.median(
            model.flops(t.part.tokens) / t.seconds / t.peak for t in self.turns
        )

    def ratio(self) -> float:
        return statistics.median(t.ratio for t in self.turns)


def take_turns(runners: list[Runner], rounds: list[Part]) -> None:
    """The first one is pyattn."""
    for number, part in enumerate(rounds):
        own = 0.0
        for runner in runners:
            if number % EVERY[runner.order]:
                continue
            before = fma_peak()
            seconds = timed(runner.encode, part.batches(runner.order))
            own = own or seconds
            peak = (before + fma_peak()) / 2
            runner.turns.append(Turn(part, seconds, peak, seconds / own))


def fastest(ways: dict[str, Encode], batch: Tokens) -> str:
    """The name of the best; not timed if there is but one."""
    if len(ways) == 1:
        return next(iter(ways))
    times = {way: min(timed(encode, [batch]) for _ in range(2)) for way, encode in ways.items()}
    return min(times, key=times.__getitem__)


def timed(encode: Encode, batches: list[Tokens]) -> float:
    time.sleep(REST)
    start = time.perf_counter()
    for batch in batches:
        encode(batch)
    return time.perf_counter() - start
