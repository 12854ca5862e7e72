"""The suite `layer`: the multi-head layer, linear layers and norms."""

from __future__ import annotations

from benchmarks import linear, multihead, norm
from benchmarks.measuring import say

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
    rows: list[dict] = []
    for kind, part in PARTS.items():
        own = [case for case in cases if isinstance(case, kind)]
        if own:
            if rows:
                say()
            rows += part.run(own, names, threads, seconds, rounds)
    slower = [
        f"  {row['case']}: {row['speedup'][name]:.2f} of {name}"
        for row in rows
        for name in names
        if row["speedup"].get(name, 1) < 1
    ]
    say("\n".join(["\nwhere we lose:", *slower] if slower else ["\nno row is lost"]))
    return rows
