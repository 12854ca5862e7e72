"""Linear attention against scans and chunks as they are usually written: a part of the suite
`recurrence`."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.contest import Result, hold, relative_error, runner
from benchmarks.measuring import fma_peak
from benchmarks.recurrence_cases import Case, Inputs
from benchmarks.recurrence_contestants import CONTESTANTS
from pyattn import reference

TOLERANCE = 1e-4  # relative to the largest value of the reference


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Result:
    if "torch" in names:
        import torch

        torch.set_num_threads(threads)
    x = Inputs.of(case)
    ends = np.s_[:1, : case.heads : max(1, case.heads - 1)]  # the first head and the last
    own = {n: a[ends] if np.ndim(a) > 1 else a for n, a in x.options.items()}
    own |= {"decay": x.options["decay"][ends[1]]} if case.rule == "decay" else {}
    state = None if x.state is None else x.state[ends]
    want = reference.linear_attention(*(a[ends] for a in x.arrays()), state=state, **own)
    return hold(
        case,
        {name: partial(CONTESTANTS[name], case, x) for name in names},
        lambda call: relative_error(call()[ends], want),
        TOLERANCE,
        fma_peak,
        seconds,
        rounds,
    )


run = runner("linear attention", CONTESTANTS, measure)
