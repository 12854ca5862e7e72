"""Attention to what is near on a grid, and to all of it: a part of the suite `images`."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.contest import Result, hold, relative_error, runner
from benchmarks.image_cases import Case, Inputs, keys_of
from benchmarks.image_contestants import CONTESTANTS
from benchmarks.measuring import Call, fma_peak
from pyattn import reference

TOLERANCE = 1e-5  # relative to the largest value of the reference
CHECKED = 48  # pixels, and the four corners


def exact(case: Case, x: Inputs, pixels: np.ndarray) -> np.ndarray:
    found = []
    for pixel in pixels:
        keys = keys_of(case, pixel)
        found.append(reference.attention(x.q[:, :, [pixel]], x.k[:, :, keys], x.v[:, :, keys]))
    return np.concatenate(found, axis=2)


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Result:
    x = Inputs.of(case)
    last, width = case.pixels - 1, case.grid[-1]
    spread = np.linspace(0, last, CHECKED).astype(int)
    pixels = np.unique([0, width - 1, last - width + 1, last, *spread])
    want = exact(case, x, pixels)

    def error(call: Call) -> float:
        return relative_error(call()[:, :, pixels], want)

    return hold(
        case,
        {name: partial(CONTESTANTS[name], case, x, threads) for name in names},
        error,
        TOLERANCE,
        fma_peak,
        seconds,
        rounds,
    )


run = runner("pixels (grid, heads x size)", CONTESTANTS, measure)
