"""The suite `images`: neighbourhoods, all pixels, windows, memory, an encoder."""

from __future__ import annotations

from benchmarks import image_attention, image_cases, image_encoder, image_memory, image_windows
from benchmarks.contest import run_parts

PARTS = {
    image_cases.Case: image_attention,
    image_windows.Case: image_windows,
    image_memory.Case: image_memory,
    image_encoder.Case: image_encoder,
}
Case = image_cases.Case | image_windows.Case | image_memory.Case | image_encoder.Case


def contestants(suite: str) -> tuple[list[str], list[str]]:
    """Those that always run, and all."""
    return ["pyattn"], ["pyattn", "numpy", "torch", "unfold", "tiles", "onnxruntime"]


def cases(suite: str, quick: bool) -> list[Case]:
    parts = (image_cases, image_windows, image_memory, image_encoder)
    return [case for part in parts for case in (part.QUICK if quick else part.CASES)]


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    return run_parts(PARTS, cases, names, threads, seconds, rounds)
