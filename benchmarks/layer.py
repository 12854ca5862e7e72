"""The suite `layer`: the multi-head layer, linear layers and norms."""

from __future__ import annotations

from benchmarks import linear, multihead, norm
from benchmarks.contest import run_parts

PARTS = {multihead.Case: multihead, linear.Case: linear, norm.Case: norm}
Case = multihead.Case | linear.Case | norm.Case


def contestants(suite: str) -> tuple[list[str], list[str]]:
    """Those that always run, and all."""
    return ["pyattn"], ["pyattn", "numpy", "torch"]


def cases(suite: str, quick: bool) -> list[Case]:
    if quick:
        return [*multihead.QUICK, *linear.QUICK, *norm.QUICK]
    return [*multihead.CASES, *linear.CASES, *norm.CASES]


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    return run_parts(PARTS, cases, names, threads, seconds, rounds)
