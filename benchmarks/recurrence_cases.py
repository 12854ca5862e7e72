"""What the suite `recurrence` runs: rules, lengths, chunks, and the arrays for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FADES = 2.0**-5  # of a decay: as the first heads of RetNet


@dataclass(frozen=True)
class Case:
    """Of a single token: a step, with the state of those before."""

    rule: str  # identity, elu, decay, delta
    length: int = 16384
    chunk: int = 64
    parts: int = 1  # calls that hand the state over
    batch: int = 1
    heads: int = 8
    size: int = 64

    @property
    def work(self) -> float:
        chunk = min(self.chunk, self.length)
        products = 3 if self.rule == "delta" else 2
        square = 0 if chunk == 1 or self.rule == "delta" else chunk + 1
        tokens = self.batch * self.heads * self.length
        return 2.0 * tokens * self.size * (products * self.size + square)

    def __str__(self) -> str:
        shape = f"{self.batch},{self.heads},{self.length},{self.size}"
        how = "" if self.rule == "delta" or self.length == 1 else f" C={self.chunk}"
        return f"{self.rule} {shape}{how}" + (f" {self.parts} calls" if self.parts > 1 else "")


CASES = [
    *(Case("identity", chunk=chunk) for chunk in (64, 32, 16, 1)),
    *(Case(rule) for rule in ("elu", "decay", "delta")),
    Case("elu", parts=16),
    Case("elu", heads=1),
    Case("elu", length=512, batch=16),
    *(Case(rule, length=1, batch=n) for rule in ("identity", "elu", "delta") for n in (1, 32)),
]
QUICK = [Case("identity", length=2048), Case("delta", length=2048), Case("elu", length=1)]


@dataclass(frozen=True)
class Inputs:
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    state: np.ndarray | None
    options: dict
    out: np.ndarray  # memory that has been touched

    @classmethod
    def of(cls, case: Case) -> Inputs:
        rng = np.random.default_rng(0)
        shape = case.batch, case.heads, case.length, case.size
        q, k, v = (rng.standard_normal(shape, dtype=np.float32) for _ in range(3))
        k /= np.linalg.norm(k, axis=-1, keepdims=True)
        options: dict = {"causal": True, "feature_map": "elu" if case.rule == "elu" else None}
        if case.rule == "decay":
            options["decay"] = np.full(case.heads, np.log(1 - FADES), np.float32)
        if case.rule == "delta":
            options["beta"] = rng.random(shape[:3], dtype=np.float32)
        state = None
        if case.length == 1:
            extents = (*shape[:2], case.size, case.size + (case.rule == "elu"))
            state = rng.random(extents, dtype=np.float32) + 1
        return cls(q, k, v, state, options, np.ones(shape, np.float32))

    def features(self) -> tuple[np.ndarray, np.ndarray]:
        if self.options["feature_map"] is None:
            return self.query, self.key
        return tuple(np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in self.arrays()[:2])

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.query, self.key, self.value
