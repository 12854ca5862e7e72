"""One query per sequence over cached keys: the cases, and what is cached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.measuring import PAST_CACHES

ARRAYS, CACHE = "attention", "KVCache"
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
DTYPES = list(ITEM_BYTES)
FLOATS = DTYPES[:3]
INT8_SCALE = 1 / 64


@dataclass(frozen=True)
class Case:
    form: str  # of ours: `attention` of plain arrays, or `KVCache.attend`
    dtype: str  # of what is cached; the query's as well, but float32 over int8
    batch: int
    heads: int
    kv_heads: int
    keys: int
    size: int
    one_layer: bool = False  # the same cache in every call

    @property
    def numbers(self) -> int:
        """Keys and values of one layer."""
        return 2 * self.batch * self.kv_heads * self.keys * self.size

    @property
    def work(self) -> float:
        """Bytes of keys and values. The scales of int8, 8 bytes per token and head, are not
        counted."""
        return float(self.numbers * ITEM_BYTES[self.dtype])

    @property
    def layers(self) -> int:
        """Caches of which each call takes the next, as a model's layers do, so that none of them
        is still in the processor's caches when its turn comes."""
        return 1 if self.one_layer else -(-PAST_CACHES // int(self.work))

    @property
    def query_dtype(self) -> str:
        return "float32" if self.dtype == "int8" else self.dtype

    def __str__(self) -> str:
        heads = f"{self.heads}" if self.heads == self.kv_heads else f"{self.heads}/{self.kv_heads}"
        place = ", in cache" * self.one_layer
        return f"{self.form} {self.dtype} {self.batch},{heads},{self.keys},{self.size}{place}"


NAMED = [(8, 32, 32, 2048, 128), (8, 32, 4, 4096, 128), (1, 32, 8, 8192, 128)]
GROUPS = [(1, 32, 32, 2048, 128), (1, 32, 4, 2048, 128)]
LENGTHS = [(1, 32, 8, keys, 128) for keys in (512, 2048, 32768)]
LENGTHS += [(8, 32, 4, keys, 128) for keys in (512, 2048, 8192, 32768)]
CALL = (1, 12, 12, 128, 64)  # what a call costs in all
CALLS = [Case(form, "float32", *CALL, one_layer=True) for form in (ARRAYS, CACHE)]
CASES = [Case(ARRAYS, dtype, *shape) for shape in NAMED for dtype in FLOATS]
CASES += [Case(CACHE, dtype, *shape) for shape in NAMED + GROUPS + LENGTHS for dtype in DTYPES]
CASES += CALLS
QUICK = [Case(ARRAYS, "float32", *shape) for shape in NAMED]
QUICK += [Case(CACHE, dtype, *NAMED[2]) for dtype in DTYPES]
QUICK += CALLS


@dataclass(frozen=True)
class Inputs:
    query: np.ndarray  # (B, H, 1, D)
    # (B, Hkv, S, D) of each layer, the same numbers in all. Floats; of int8 they are divided by its
    # scale.
    layers: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, case: Case) -> Inputs:
        rng = np.random.default_rng(0)
        query = rng.standard_normal((case.batch, case.heads, 1, case.size), dtype=np.float32)
        shape = case.batch, case.kv_heads, case.keys, case.size
        dtype = named(case.dtype)
        layer = tuple(cached(rng, shape, dtype) for _ in range(2))
        copies = [tuple(a.copy() for a in layer) for _ in range(case.layers - 1)]
        return cls(query.astype(named(case.query_dtype)), [layer, *copies])

    def exact(self, b: int, head: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of a head in float64."""
        k, v = (a[b, head].astype(np.float64) for a in self.layers[0])
        if self.layers[0][0].dtype == np.int8:
            k, v = k * INT8_SCALE, v * INT8_SCALE
        return k, v


def named(dtype: str) -> np.dtype:
    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def cached(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Numbers n / 64, -127 <= n <= 127, with a 127 or its negative in every row: every kind of
    cache holds them exactly, so that all of a result's error is that of the attention. As int8, the
    n."""
    numbers = rng.integers(-127, 128, shape, np.int8)
    numbers[..., 0] = np.where(numbers[..., 0] < 0, -127, 127)
    if dtype == np.int8:
        return numbers
    numbers = numbers.astype(dtype)
    numbers *= dtype.type(INT8_SCALE)
    return numbers
