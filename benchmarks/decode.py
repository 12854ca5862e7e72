"""The suite `decode`: one new token for sequences whose keys and values are cached."""

from __future__ import annotations

from benchmarks import decode_append, decode_attention, generator
from benchmarks.contest import run_parts

PARTS = {
    decode_attention.Case: decode_attention,
    decode_append.Case: decode_append,
    generator.Case: generator,
}
Case = decode_attention.Case | decode_append.Case | generator.Case


def contestants(suite: str) -> tuple[list[str], list[str]]:
    """Those that always run, and all."""
    return ["pyattn"], ["pyattn", "numpy", "torch", "onnxruntime", "folded"]


def cases(suite: str, quick: bool) -> list[Case]:
    if quick:
        return [*decode_attention.QUICK, *decode_append.QUICK]
    return [*decode_attention.CASES, *decode_append.CASES, *generator.CASES]


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    return run_parts(PARTS, cases, names, threads, seconds, rounds)
