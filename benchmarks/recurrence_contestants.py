"""Who takes part in the suite `recurrence`: of the calls that each makes, the fastest one runs.

Where the result is normalised, those without a form for it give the values a column of ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np

import pyattn
from benchmarks.contest import OWN
from benchmarks.measuring import Call
from benchmarks.recurrence_cases import FADES, Case, Inputs

SCAN = 64  # tokens at once of the contestants that have chunks


def run_pyattn(case: Case, x: Inputs) -> list[Call]:
    options = {**x.options, "chunk_size": case.chunk, "state": x.state}
    if case.parts == 1:
        want = {"return_state": True} if case.length == 1 else {}
        call = partial(pyattn.linear_attention, *x.arrays(), out=x.out, **options, **want)
        return [(lambda: call()[0]) if want else call]
    ends = np.linspace(0, case.length, case.parts + 1).astype(int)

    def in_parts() -> np.ndarray:
        state = None
        for first, end in itertools.pairwise(ends):
            some = [a[..., first:end, :] for a in x.arrays()]
            part = x.out[..., first:end, :]
            own = options | {"state": state, "return_state": True, "out": part}
            _, state = pyattn.linear_attention(*some, **own)
        return x.out

    return [in_parts]


def finished(case: Case, read: np.ndarray) -> np.ndarray:
    if case.rule == "elu":
        return read[..., :-1] / read[..., -1:]
    return read * np.float32(case.size**-0.5)


def widened(case: Case, value: np.ndarray) -> np.ndarray:
    if case.rule != "elu":
        return value
    return np.concatenate([value, np.ones((*value.shape[:-1], 1), np.float32)], axis=-1)


def run_numpy(case: Case, x: Inputs) -> list[Call]:
    """A scan: one token after the other, all heads at once."""
    fade = np.float32(1 - FADES) if case.rule == "decay" else None
    beta = x.options.get("beta")

    def call() -> np.ndarray:
        (q, k), v = x.features(), widened(case, x.value)
        heads, cols = v.shape[:2], v.shape[-1]
        state = np.zeros((*heads, case.size, cols), np.float32) if x.state is None else +x.state
        read = np.empty(v.shape, np.float32)
        for t in range(case.length):
            if fade is not None:
                state *= fade
            key, u = k[:, :, t], v[:, :, t]
            if beta is not None:
                u = beta[:, :, t, None] * (u - (key[:, :, None] @ state)[:, :, 0])
            state += key[..., None] * u[:, :, None]
            read[:, :, t] = (q[:, :, t, None] @ state)[:, :, 0]
        return finished(case, read)

    return [call]


def run_chunked(case: Case, x: Inputs) -> list[Call]:
    """Products of chunks of 64 tokens, all of them at once, in NumPy."""
    if case.rule == "delta" or case.length % SCAN:
        return []
    decay = np.log(1 - FADES) if case.rule == "decay" else 0.0
    i = np.arange(SCAN, dtype=np.float32)
    mask = np.tril(np.exp(decay * np.maximum(i[:, None] - i, 0))).astype(np.float32)
    before = np.exp(decay * (i + 1))[:, None].astype(np.float32)
    after = np.exp(decay * (SCAN - 1 - i))[:, None].astype(np.float32)
    whole = np.float32(np.exp(decay * SCAN))

    def chunks(a: np.ndarray) -> np.ndarray:
        return a.reshape(*a.shape[:2], -1, SCAN, a.shape[-1])

    def call() -> np.ndarray:
        q, k, v = (chunks(a) for a in (*x.features(), widened(case, x.value)))
        sums = (k * after).swapaxes(-1, -2) @ v
        states = np.zeros_like(sums)
        for n in range(1, sums.shape[2]):
            states[:, :, n] = whole * states[:, :, n - 1] + sums[:, :, n - 1]
        read = (q @ k.swapaxes(-1, -2) * mask) @ v + (q * before) @ states
        return finished(case, read.reshape(*read.shape[:2], -1, read.shape[-1]))

    return [call]


def run_torch(case: Case, x: Inputs) -> list[Call]:
    """The same chunks in PyTorch; of a single token and of the delta rule, the scan."""
    import torch

    query, key, value = (torch.from_numpy(a) for a in x.arrays())
    beta = torch.from_numpy(x.options["beta"]) if case.rule == "delta" else None
    decay = np.log(1 - FADES) if case.rule == "decay" else 0.0
    i = torch.arange(SCAN, dtype=torch.float32)
    mask = torch.tril(torch.exp(decay * (i[:, None] - i).clamp(min=0)))
    before, after = torch.exp(decay * (i + 1))[:, None], torch.exp(decay * (SCAN - 1 - i))[:, None]

    def operands() -> list[torch.Tensor]:
        if case.rule != "elu":
            return [query, key, value]
        ones = torch.ones((*value.shape[:-1], 1))
        maps = [torch.nn.functional.elu(a) + 1 for a in (query, key)]
        return [*maps, torch.cat([value, ones], dim=-1)]

    def finish(read: torch.Tensor) -> np.ndarray:
        if case.rule == "elu":
            return (read[..., :-1] / read[..., -1:]).numpy()
        return (read * case.size**-0.5).numpy()

    def scan() -> np.ndarray:
        with torch.inference_mode():
            q, k, v = operands()
            state = torch.zeros((*v.shape[:2], case.size, v.shape[-1]))
            if x.state is not None:
                state = torch.from_numpy(x.state).clone()
            read = torch.empty(v.shape)
            for t in range(case.length):
                token, u = k[:, :, t], v[:, :, t]
                if beta is not None:
                    u = beta[:, :, t, None] * (u - (token[:, :, None] @ state)[:, :, 0])
                state += token[..., None] * u[:, :, None]
                read[:, :, t] = (q[:, :, t, None] @ state)[:, :, 0]
            return finish(read)

    def chunked() -> np.ndarray:
        with torch.inference_mode():
            q, k, v = (a.reshape(*a.shape[:2], -1, SCAN, a.shape[-1]) for a in operands())
            sums = (k * after).mT @ v
            states = torch.zeros_like(sums)
            for n in range(1, sums.shape[2]):
                states[:, :, n] = np.exp(decay * SCAN) * states[:, :, n - 1] + sums[:, :, n - 1]
            read = (q @ k.mT * mask) @ v + (q * before) @ states
            return finish(read.flatten(2, 3))

    return [scan if case.rule == "delta" or case.length % SCAN else chunked]


CONTESTANTS: dict[str, Callable[[Case, Inputs], list[Call]]] = {
    OWN: run_pyattn,
    "numpy": run_numpy,
    "chunked": run_chunked,
    "torch": run_torch,
}
