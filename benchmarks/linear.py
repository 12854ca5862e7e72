"""Linear layers against products of NumPy's BLAS: a part of the suite `layer`.

The shapes are those of a layer of MiniLM or ViT-S (384, 1536) and of BERT-base (768, 3072), with
queries, keys and values apart, as we compute them, and together, as others do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.contest import Result, hold, relative_error, runner
from benchmarks.measuring import Call, fma_peak
from pyattn import reference
from pyattn.layers import Linear

TOLERANCE = 2e-5  # relative to the largest value of the reference
CHECKED = 64  # rows


@dataclass(frozen=True)
class Case:
    rows: int
    inputs: int
    outputs: int

    @property
    def work(self) -> float:
        return 2.0 * self.rows * self.inputs * self.outputs

    def __str__(self) -> str:
        return f"linear {self.inputs} -> {self.outputs}, rows: {self.rows}"


@dataclass(frozen=True)
class Inputs:
    x: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, case: Case) -> Inputs:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((case.rows, case.inputs), dtype=np.float32)
        weight = rng.standard_normal((case.outputs, case.inputs), dtype=np.float32)
        return cls(x, weight * np.float32(case.inputs**-0.5))

    def room(self) -> np.ndarray:
        """For the result; memory that has been touched."""
        return np.ones((len(self.x), len(self.weight)), np.float32)


ROWS = (1, 4, 16, 64, 256, 1024, 4096)
SHAPES = [(384, 384), (384, 1152), (384, 1536), (1536, 384)]
SHAPES += [(768, 768), (768, 2304), (768, 3072), (3072, 768)]
CASES = [Case(1536, 384, 1536), *(Case(rows, *shape) for shape in SHAPES for rows in ROWS)]
QUICK = [Case(1536, 384, 1536), Case(1, 384, 384), Case(64, 768, 3072)]


# --- The contestants: of the calls that each returns, the fastest one runs.


def run_pyattn(inputs: Inputs, threads: int) -> list[Call]:
    layer, out = Linear(inputs.weight), inputs.room()
    return [lambda: layer(inputs.x, out=out)]


def run_numpy(inputs: Inputs, threads: int) -> list[Call]:
    """With the weights as they are, and with weights that were transposed beforehand."""
    out = inputs.room()
    forms = inputs.weight.T, np.ascontiguousarray(inputs.weight.T)
    return [partial(np.matmul, inputs.x, form, out=out) for form in forms]


def run_torch(inputs: Inputs, threads: int) -> list[Call]:
    import torch

    torch.set_num_threads(threads)
    x, weight = torch.from_numpy(inputs.x), torch.from_numpy(inputs.weight)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return torch.nn.functional.linear(x, weight).numpy()

    return [call]


CONTESTANTS: dict[str, Callable[[Inputs, int], list[Call]]] = {
    "pyattn": run_pyattn,
    "numpy": run_numpy,
    "torch": run_torch,
}


# --- Measuring


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Result:
    inputs = Inputs.of(case)
    rows = np.unique(np.linspace(0, case.rows - 1, CHECKED).astype(int))
    want = reference.linear(inputs.x[rows], inputs.weight)
    return hold(
        case,
        {name: partial(CONTESTANTS[name], inputs, threads) for name in names},
        lambda call: relative_error(call()[rows], want),
        TOLERANCE,
        fma_peak,
        seconds,
        rounds,
    )


run = runner("linear layer", CONTESTANTS, measure)
