"""Linear against softmax attention, causal, over lengths: a part of the suite `recurrence`. They
compute different things; what is compared is what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

import pyattn
from benchmarks import recurrence_cases
from benchmarks.contest import OWN, Result, hold, table
from benchmarks.measuring import Call, fma_peak, say
from benchmarks.recurrence_cases import Inputs


@dataclass(frozen=True)
class Case:
    length: int

    def linear(self) -> recurrence_cases.Case:
        return recurrence_cases.Case("elu", self.length)

    @property
    def work(self) -> float:
        return self.linear().work

    def __str__(self) -> str:
        return f"{self.linear()}"


CASES = [Case(2**n) for n in range(6, 15)]
QUICK = CASES[:6]


def measure(case: Case, seconds: float, rounds: int) -> Result:
    x = Inputs.of(case.linear())
    out = np.ones_like(x.out)
    calls: dict[str, Call] = {
        OWN: partial(pyattn.linear_attention, *x.arrays(), out=x.out, **x.options),
        "attention": partial(pyattn.attention, *x.arrays(), causal=True, out=out),
    }
    return hold(
        case,
        {name: lambda call=call: [call] for name, call in calls.items()},
        lambda call: float(not np.isfinite(call()).all()),
        0.0,
        fma_peak,
        seconds,
        rounds,
    )


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    rows = table(
        "causal, linear and softmax",
        "GFLOP/s",
        "% peak",
        cases,
        [OWN, "attention"],
        lambda case: measure(case, seconds, rounds),
    )
    first = None  # of the lengths from which on it stays faster
    for case, row in zip(reversed(cases), reversed(rows), strict=True):
        if row["speedup"]["attention"] < 1:
            break
        first = case.length
    if first is not None:
        say(f"faster than softmax attention from {first} tokens on, of those measured")
    return rows
