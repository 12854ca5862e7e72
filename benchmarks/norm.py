"""Layer norms against plain expressions and memory: a part of the suite `layer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.contest import Result, hold, relative_error, runner
from benchmarks.measuring import Call, copying
from pyattn import reference
from pyattn.layers import layer_norm

TOLERANCE = 1e-5  # relative to the largest value of the reference
CHECKED = 64  # rows
EPS = 1e-5


@dataclass(frozen=True)
class Case:
    rows: int
    channels: int
    residual: bool

    @property
    def work(self) -> float:
        """Bytes read and written, each number once."""
        return 4.0 * self.rows * self.channels * (3 if self.residual else 2)

    def __str__(self) -> str:
        return f"layer_norm {self.rows} x {self.channels}" + ", residual" * self.residual


SHAPES = [(1, 384), (64, 384), (2048, 384), (4096, 768), (32768, 768)]
CASES = [Case(*shape, residual) for shape in SHAPES for residual in (False, True)]
QUICK = [Case(2048, 384, True), Case(4096, 768, False)]


@dataclass(frozen=True)
class Inputs:
    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    residual: np.ndarray | None

    @classmethod
    def of(cls, case: Case) -> Inputs:
        rng = np.random.default_rng(0)
        shape = case.rows, case.channels
        x, residual = rng.standard_normal((2, *shape), dtype=np.float32)
        weight, bias = rng.standard_normal((2, case.channels), dtype=np.float32)
        return cls(x, weight, bias, residual if case.residual else None)


# --- The contestants


def run_pyattn(inputs: Inputs, threads: int) -> list[Call]:
    out = np.ones_like(inputs.x)
    options = {"eps": EPS, "residual": inputs.residual, "out": out}
    return [lambda: layer_norm(inputs.x, inputs.weight, inputs.bias, **options)]


def run_numpy(inputs: Inputs, threads: int) -> list[Call]:
    def call() -> np.ndarray:
        x = inputs.x if inputs.residual is None else inputs.x + inputs.residual
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + EPS)
        x *= inputs.weight
        x += inputs.bias
        return x

    return [call]


def run_torch(inputs: Inputs, threads: int) -> list[Call]:
    import torch

    torch.set_num_threads(threads)
    x, weight, bias = (torch.from_numpy(a) for a in (inputs.x, inputs.weight, inputs.bias))
    residual = None if inputs.residual is None else torch.from_numpy(inputs.residual)

    def call() -> np.ndarray:
        with torch.inference_mode():
            y = x if residual is None else x + residual
            return torch.nn.functional.layer_norm(y, weight.shape, weight, bias, EPS).numpy()

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
    residual = None if inputs.residual is None else inputs.residual[rows]
    want = reference.layer_norm(
        inputs.x[rows], inputs.weight, inputs.bias, eps=EPS, residual=residual
    )
    return hold(
        case,
        {name: partial(CONTESTANTS[name], inputs, threads) for name in names},
        lambda call: relative_error(call()[rows], want),
        TOLERANCE,
        copying(int(case.work)),
        seconds,
        rounds,
    )


run = runner("norm", CONTESTANTS, measure, "GB/s", "% copy")
