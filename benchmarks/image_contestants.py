"""Who takes part in attention over pixels. Each takes a case and its inputs and returns calls that
do the same work, of which the fastest one runs; none if it cannot do this case."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import pyattn
from benchmarks.image_cases import Case, Inputs
from benchmarks.image_torch import run_tiles, run_torch, run_unfold
from benchmarks.measuring import Call
from pyattn import masks

PIECE = 1 << 18  # numbers of gathered keys: as many stay in the caches


def run_pyattn(case: Case, x: Inputs, threads: int) -> list[Call]:
    mask = None
    if case.kernel:
        mask = masks.neighborhood(
            case.grid, case.kernel, dilation=case.dilation, causal=case.causal
        )
    return [lambda: pyattn.attention(x.q, x.k, x.v, mask=mask)]


def run_numpy(case: Case, x: Inputs, threads: int) -> list[Call]:
    """Gathers the keys of some pixels at a time."""
    if not case.kernel:
        return []
    down, across = case.plane
    rows, columns = down.seen[:, None, :, None], across.seen[None, :, None, :]
    hidden = ((rows < 0) | (columns < 0)).reshape(case.pixels, -1)
    seen = np.where(hidden, 0, (rows * across.extent + columns).reshape(case.pixels, -1))
    count = max(1, PIECE // (seen.shape[1] * case.size))
    scale = np.float32(case.size**-0.5)

    def call() -> np.ndarray:
        out = np.empty_like(x.q)
        for q, k, v, result in zip(x.q[0], x.k[0], x.v[0], out[0], strict=True):
            for first in range(0, case.pixels, count):
                some = slice(first, first + count)
                s = (k[seen[some]] @ (q[some, :, None] * scale))[..., 0]
                if case.causal:
                    s[hidden[some]] = -np.inf
                s -= s.max(axis=-1, keepdims=True)
                np.exp(s, out=s)
                s /= s.sum(axis=-1, keepdims=True)
                result[some] = (s[:, None] @ v[seen[some]])[:, 0]
        return out

    return [call]


CONTESTANTS: dict[str, Callable[[Case, Inputs, int], list[Call]]] = {
    "pyattn": run_pyattn,
    "numpy": run_numpy,
    "torch": run_torch,
    "unfold": run_unfold,
    "tiles": run_tiles,
}
