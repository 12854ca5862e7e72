"""Appending one token per sequence to a cache: a part of the suite `decode`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

import pyattn
from benchmarks.contest import Result, hold, relative_error, table
from benchmarks.decode_cases import DTYPES, ITEM_BYTES, cached, named
from benchmarks.measuring import copying

FULL = 1024  # tokens; then a cache begins anew, with all that its memory costs


@dataclass(frozen=True)
class Case:
    dtype: str
    batch: int = 8
    kv_heads: int = 8
    size: int = 128

    @property
    def work(self) -> float:
        """Bytes read and written: float32 comes, the cache's kind stays."""
        numbers = 2 * self.batch * self.kv_heads * self.size
        return float(numbers * (4 + ITEM_BYTES[self.dtype]))

    def __str__(self) -> str:
        return f"append {self.dtype} {self.batch},{self.kv_heads},1,{self.size}"


CASES = [Case(dtype) for dtype in DTYPES]
QUICK = CASES[:1]
Token = tuple[np.ndarray, np.ndarray]  # key and value, (B, Hkv, 1, D)


@dataclass
class Appending:
    """A call appends one token; `newest` fetches the key that then is the last, in float32."""

    append: Callable[[int], object]
    at: Callable[[int], np.ndarray]
    length: int = 0

    def __call__(self) -> None:
        self.length = self.length % FULL
        self.append(self.length)
        self.length += 1

    def newest(self) -> np.ndarray:
        return self.at(self.length - 1)


# --- The contestants; the peers write into arrays made beforehand.


def run_pyattn(case: Case, token: Token, threads: int) -> list[Appending]:
    cache = pyattn.KVCache(case.batch, case.kv_heads, case.size, dtype=case.dtype)

    def append(length: int) -> None:
        if length == 0:
            cache.clear()
        cache.append(*token)

    def at(n: int) -> np.ndarray:
        return np.stack([cache.keys(b)[:, n : n + 1] for b in range(case.batch)])

    return [Appending(append, at)]


def run_numpy(case: Case, token: Token, threads: int) -> list[Appending]:
    if case.dtype == "int8":
        return []
    keys, values = np.ones((2, case.batch, case.kv_heads, FULL, case.size), named(case.dtype))

    def append(n: int) -> None:
        keys[:, :, n : n + 1], values[:, :, n : n + 1] = token

    return [Appending(append, lambda n: keys[:, :, n : n + 1].astype(np.float32))]


def run_torch(case: Case, token: Token, threads: int) -> list[Appending]:
    import torch

    if case.dtype == "int8":
        return []
    torch.set_num_threads(threads)
    shape = (2, case.batch, case.kv_heads, FULL, case.size)
    keys, values = torch.ones(shape, dtype=getattr(torch, case.dtype))
    key, value = (torch.from_numpy(a) for a in token)

    def append(n: int) -> None:
        with torch.inference_mode():
            keys[:, :, n : n + 1], values[:, :, n : n + 1] = key, value

    return [Appending(append, lambda n: keys[:, :, n : n + 1].float().numpy())]


CONTESTANTS: dict[str, Callable[[Case, Token, int], list[Appending]]] = {
    "pyattn": run_pyattn,
    "numpy": run_numpy,
    "torch": run_torch,
}


# --- Measuring


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Result:
    rng = np.random.default_rng(0)
    shape = (case.batch, case.kv_heads, 1, case.size)
    key, value = (cached(rng, shape, np.dtype(np.float32)) for _ in range(2))

    def error(call: Appending) -> float:
        call()
        return relative_error(call.newest(), key)

    return hold(
        case,
        {name: partial(CONTESTANTS[name], case, (key, value), threads) for name in names},
        error,
        0.0,
        copying(int(case.work)),
        seconds,
        rounds,
    )


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    names = [name for name in names if name in CONTESTANTS]
    return table(
        "append a token (B, kv heads, 1, D)",
        "GB/s",
        "% copy",
        cases,
        names,
        lambda case: measure(case, names, threads, seconds, rounds),
        microseconds=True,
    )
