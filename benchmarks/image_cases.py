"""The cases of attention over pixels, and their inputs: a part of the suite `images`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Axis:
    """Which places of an axis each place sees, by the definition in the papers."""

    extent: int
    kernel: int
    dilation: int
    causal: bool

    @cached_property
    def seen(self) -> np.ndarray:
        """(extent, kernel): their numbers, and -1 where a causal window is cut off."""
        i = np.arange(self.extent)[:, None]
        steps = np.arange(self.kernel)
        if self.causal:
            return np.maximum(i - self.dilation * steps[::-1], -1)
        step = self.dilation
        lowest = i % step  # of the places that it can see at all, of which there are `count`
        count = (self.extent - 1 - lowest) // step + 1
        first = np.clip(i // step - self.kernel // 2, 0, count - self.kernel)
        return lowest + step * (first + steps)

    @property
    def first(self) -> np.ndarray:
        return np.maximum(self.seen[:, 0], 0)

    @property
    def last(self) -> np.ndarray:
        return self.seen[:, -1]

    def sees(self, place: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Whether one sees the other; the arrays broadcast."""
        inside = (self.first[place] <= other) & (other <= self.last[place])
        return inside & ((other - place) % self.dilation == 0)


@dataclass(frozen=True)
class Case:
    name: str
    grid: tuple[int, ...]  # of one or two axes
    kernel: int | None = None  # along each axis; None: everything is seen
    heads: int = 8
    size: int = 32
    dilation: int = 1
    causal: bool = False  # along all axes

    @property
    def axes(self) -> list[Axis]:
        return [Axis(n, self.kernel or n, self.dilation, self.causal) for n in self.grid]

    @property
    def plane(self) -> tuple[Axis, Axis]:
        """Down and across; a sequence is a single row."""
        down, across = (Axis(1, 1, 1, False), *self.axes)[-2:]
        return down, across

    @property
    def pixels(self) -> int:
        return int(np.prod(self.grid))

    @property
    def work(self) -> float:
        """FLOPs of the pairs that are seen."""
        pairs = [np.count_nonzero(axis.seen >= 0) for axis in self.axes]
        return 4.0 * self.heads * self.size * float(np.prod(pairs, dtype=float))

    def __str__(self) -> str:
        grid = "x".join(map(str, self.grid))
        kernel = f" k={self.kernel}" * bool(self.kernel)
        return f"{self.name} {grid}{kernel}, {self.heads}x{self.size}"


SQUARE = (64, 64)
CASES = [
    Case("near", SQUARE, 7),
    Case("near, dilation 2", SQUARE, 7, dilation=2),
    Case("near", SQUARE, 13),
    Case("near, causal", SQUARE, 7, causal=True),
    Case("audio", (16384,), 129, size=64),
    Case("global", SQUARE),
]
QUICK = [CASES[0], CASES[-1]]


@dataclass(frozen=True)
class Inputs:
    q: np.ndarray  # (1, heads, pixels, size)
    k: np.ndarray
    v: np.ndarray

    @classmethod
    def of(cls, case: Case) -> Inputs:
        shape = (3, 1, case.heads, case.pixels, case.size)
        return cls(*np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def keys_of(case: Case, pixel: int) -> np.ndarray:
    """The numbers of the pixels that one pixel sees."""
    place = np.unravel_index(pixel, case.grid)
    rows = [axis.seen[i] for axis, i in zip(case.axes, place, strict=True)]
    return np.ravel_multi_index(np.ix_(*(row[row >= 0] for row in rows)), case.grid).ravel()
