"""Attention to cached keys, in bytes per second: a part of the suite `decode`.

"folded" is the faster of PyTorch and onnxruntime with the query heads of a group given as queries
of their key head, which then is read once: by hand, and for a single query only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.contest import Result, hold, relative_error, table
from benchmarks.decode_cases import CASES, QUICK, Case, Inputs
from benchmarks.decode_contestants import CONTESTANTS
from benchmarks.measuring import Call, importable, reading, say
from pyattn import reference

__all__ = ["CASES", "QUICK", "Case", "run"]

# Relative to the largest value of the reference. Peers compute halves in halves.
TOLERANCE = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 2e-2, "int8": 2e-5}


def measure(
    case: Case,
    names: list[str],
    threads: int,
    limit: Callable[[], float],
    seconds: float,
    rounds: int,
) -> Result:
    inputs = Inputs.of(case)
    group = case.heads // case.kv_heads
    want = {}
    for b, h in {(0, 0), (case.batch - 1, case.heads - 1)}:
        query = inputs.query[b, h].astype(np.float64)
        want[b, h] = reference.attention(query, *inputs.exact(b, h // group))

    def error(call: Call) -> float:
        worst = 0.0
        for _ in inputs.layers:
            got = call().astype(np.float64).reshape(inputs.query.shape)
            worst = max(worst, *(relative_error(got[place], w) for place, w in want.items()))
        return worst

    return hold(
        case,
        {name: partial(CONTESTANTS[name], case, inputs, threads) for name in names},
        error,
        TOLERANCE[case.dtype],
        limit,
        seconds,
        rounds,
    )


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    if not importable("ml_dtypes"):
        say("no bfloat16: NumPy has it of ml_dtypes, which is not here")
        cases = [case for case in cases if case.dtype != "bfloat16"]
    limit = reading()
    return table(
        "one query (B, heads, keys, D)",
        "GB/s",
        "% read",
        cases,
        names,
        lambda case: measure(case, names, threads, limit, seconds, rounds),
        microseconds=True,
    )
