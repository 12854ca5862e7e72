"""Memory and time of attention to what is near, against the size of the image: a part of the suite
`images`. Neither may grow faster than the pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

import pyattn
from benchmarks.measuring import peak_memory, say, take_turn
from pyattn import masks

KERNEL, HEADS, SIZE = 7, 8, 32


@dataclass(frozen=True)
class Case:
    side: int

    def __str__(self) -> str:
        return f"memory {self.side}x{self.side} k={KERNEL}, {HEADS}x{SIZE}"


CASES = [Case(side) for side in (32, 64, 128, 256)]
QUICK = CASES[:3]


def run(
    cases: Iterable[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    say(f"{'mask and call, the result is there':38}{'ms':>9}{'us/pixel':>10}{'peak MiB':>10}"
        f"{'bytes/pixel':>13}")  # fmt: skip
    return [record(case) for case in cases]


def record(case: Case) -> dict:
    pixels = case.side**2
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 1, HEADS, pixels, SIZE), dtype=np.float32)
    out = np.ones_like(q)

    def call() -> np.ndarray:
        mask = masks.neighborhood((case.side, case.side), KERNEL)
        return pyattn.attention(q, k, v, mask=mask, out=out)

    call()
    memory = peak_memory(call)
    took = min(take_turn(call, 1) for _ in range(3))
    line = f"{case!s:38}{took * 1e3:9.2f}{took * 1e6 / pixels:10.2f}"
    if memory is None:
        say(f"{line}{'n/a':>10}")
    else:
        say(f"{line}{memory / 2**20:10.2f}{memory / pixels:13.0f}")
    return {"case": str(case), "seconds": {"pyattn": took}, "memory": memory, "speedup": {}}
