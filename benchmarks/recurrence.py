"""The suite `recurrence`: linear attention against scans and chunks, and against softmax attention.

The work of a row is that of its own form, without what lanes compute in vain: per token and head
two products with the state, three of the delta rule, and of chunks of C tokens half a square,
twice.
"""

from __future__ import annotations

from benchmarks import recurrence_scans, recurrence_softmax
from benchmarks.contest import run_parts
from benchmarks.recurrence_cases import CASES, QUICK, Case
from benchmarks.recurrence_contestants import CONTESTANTS

PARTS = {Case: recurrence_scans, recurrence_softmax.Case: recurrence_softmax}


def contestants(suite: str) -> tuple[list[str], list[str]]:
    """Those that always run, and all."""
    return ["pyattn"], list(CONTESTANTS)


def cases(suite: str, quick: bool) -> list[Case | recurrence_softmax.Case]:
    if quick:
        return [*QUICK, *recurrence_softmax.QUICK]
    return [*CASES, *recurrence_softmax.CASES]


def run(
    cases: list[Case | recurrence_softmax.Case],
    names: list[str],
    threads: int,
    seconds: float,
    rounds: int,
) -> list[dict]:
    return run_parts(PARTS, cases, [*names, "attention"], threads, seconds, rounds)
