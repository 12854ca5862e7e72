"""The suite `positional`: rotary and added positions, against memory and the usual expressions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

import pyattn
from benchmarks.measuring import TURN, Call, copy_bandwidth, fastest, say, take_turn
from pyattn import positional, reference

TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "float16": 2e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Case:
    name: str
    kind: str  # "rope", "add"
    shape: tuple[int, ...]
    interleaved: bool = False
    layout: str = "bhld"
    dtype: str = "float32"
    in_place: bool = False

    def __str__(self) -> str:
        return f"{self.name} {','.join(map(str, self.shape))}"


LARGE = (8, 32, 2048, 128)
CASES = [
    Case("rope", "rope", LARGE),
    Case("rope interleaved", "rope", LARGE, interleaved=True),
    Case("rope in place", "rope", LARGE, in_place=True),
    Case("rope blhd", "rope", (8, 2048, 32, 128), layout="blhd"),
    Case("rope float64", "rope", (8, 32, 1024, 128), dtype="float64"),
    Case("rope float16", "rope", LARGE, dtype="float16"),
    Case("rope bfloat16", "rope", LARGE, dtype="bfloat16"),
    Case("rope D=64", "rope", (32, 12, 512, 64)),
    Case("rope decode", "rope", (8, 32, 1, 128)),
    Case("add_positions", "add", (64, 1024, 1024)),
    Case("add in place", "add", (64, 1024, 1024), in_place=True),
    Case("add MiniLM", "add", (32, 128, 384)),
]
QUICK = {"rope", "rope in place", "rope decode", "add_positions"}


@dataclass
class Inputs:
    x: np.ndarray
    table: np.ndarray  # of positions, or none
    cosines: np.ndarray  # (L, D / 2)
    sines: np.ndarray
    frequencies: positional.RopeFrequencies


def make_inputs(case: Case) -> Inputs | None:
    rng = np.random.default_rng(0)
    dtype = case.dtype
    if dtype == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            return None
        dtype = ml_dtypes.bfloat16
    length = case.shape[1 if case.layout == "blhd" or case.kind == "add" else 2]
    frequencies = positional.rope_frequencies(case.shape[-1])
    table = positional.rope_table(frequencies, length)
    return Inputs(
        rng.standard_normal(case.shape, dtype=np.float32).astype(dtype),
        rng.standard_normal((length, case.shape[-1]), dtype=np.float32).astype(dtype),
        table.cosines.astype(np.float32),
        table.sines.astype(np.float32),
        frequencies,
    )


def contestants(suite: str) -> tuple[list[str], list[str]]:
    """Those that always run, and all."""
    return ["pyattn"], list(CONTESTANTS)


def cases(suite: str, quick: bool) -> list[Case]:
    return [c for c in CASES if c.name in QUICK] if quick else CASES


# --- The contestants: the same work, as it is usually written.


def run_pyattn(case: Case, x: Inputs, threads: int) -> list[Call]:
    # The result is written to memory that is there, as for the others it is after some rounds.
    out = x.x if case.in_place else np.zeros_like(x.x)
    if case.kind == "add":
        return [lambda: positional.add_positions(x.x, x.table, out=out)]
    options = {"interleaved": case.interleaved, "layout": case.layout, "out": out}
    return [lambda: positional.rope(x.x, None, x.frequencies, **options)]


def run_numpy(case: Case, x: Inputs, threads: int) -> list[Call]:
    if case.dtype == "bfloat16":
        return []
    out = x.x if case.in_place else np.zeros_like(x.x)
    if case.kind == "add":
        rows = np.arange(len(x.table))
        return [lambda: np.add(x.x, x.table[rows], out=out)]
    cosines, sines = (a.astype(case.dtype) for a in (x.cosines, x.sines))
    if case.layout == "blhd":
        cosines, sines = cosines[:, None], sines[:, None]
    half = case.shape[-1] // 2
    a, b = (x.x[..., :half], x.x[..., half:])
    if case.interleaved:
        a, b = x.x[..., 0::2], x.x[..., 1::2]

    def call() -> np.ndarray:
        first, second = a * cosines - b * sines, a * sines + b * cosines
        if case.interleaved:
            out[..., 0::2], out[..., 1::2] = first, second
        else:
            out[..., :half], out[..., half:] = first, second
        return out

    return [call]


def run_torch(case: Case, x: Inputs, threads: int) -> list[Call]:
    """``x * cos + rotate_half(x) * sin``, with the full tables that models keep."""
    import torch

    torch.set_num_threads(threads)
    bits = x.x.view(np.int16) if case.dtype == "bfloat16" else x.x
    t = torch.from_numpy(bits)
    t = t.view(torch.bfloat16) if case.dtype == "bfloat16" else t
    if case.kind == "add":
        table, rows = torch.from_numpy(x.table), torch.arange(len(x.table))

        def add() -> np.ndarray:
            with torch.inference_mode():
                return (t.add_(table[rows]) if case.in_place else t + table[rows]).numpy()

        return [add]
    twice = (lambda a: np.repeat(a, 2, axis=-1)) if case.interleaved else (
        lambda a: np.concatenate([a, a], axis=-1)
    )  # fmt: skip
    cosines, sines = (torch.from_numpy(twice(a)).to(t.dtype) for a in (x.cosines, x.sines))
    if case.layout == "blhd":
        cosines, sines = cosines[:, None], sines[:, None]
    half = case.shape[-1] // 2

    def partners() -> torch.Tensor:
        if case.interleaved:
            return torch.stack((-t[..., 1::2], t[..., 0::2]), dim=-1).flatten(-2)
        return torch.cat((-t[..., half:], t[..., :half]), dim=-1)

    def rope() -> np.ndarray:
        with torch.inference_mode():
            out = t * cosines + partners() * sines
            out = t.copy_(out) if case.in_place else out
            return out.float().numpy() if case.dtype == "bfloat16" else out.numpy()

    return [rope]


CONTESTANTS: dict[str, Callable[[Case, Inputs, int], list[Call]]] = {
    "pyattn": run_pyattn,
    "numpy": run_numpy,
    "torch": run_torch,
}


# --- Measuring


def check(call: Call, case: Case, x: Inputs) -> float:
    """Largest error in the first and last batch element; restores an x that is changed in place."""
    before = x.x.copy() if case.in_place else x.x
    got = call()
    worst = 0.0
    for b in (0, -1):
        if case.kind == "add":
            want = reference.add_positions(before[b], x.table)
        else:
            options = {"interleaved": case.interleaved, "layout": case.layout}
            want = reference.rope(before[b].astype(np.float64), None, x.frequencies, **options)
        worst = max(worst, float(np.abs(got[b].astype(np.float64) - want).max()))
    if case.in_place:
        x.x[...] = before
    return worst


@dataclass
class Row:
    case: Case
    bytes: int  # read and written, once
    seconds: dict[str, float] = field(default_factory=dict)  # medians
    speedup: dict[str, float] = field(default_factory=dict)  # medians of ratios
    error: dict[str, float] = field(default_factory=dict)
    note: dict[str, str] = field(default_factory=dict)  # why there is no figure
    copied: float = 0.0  # bytes/s of a copy
    of_copy: float = 0.0  # median of ratios
    rounds: int = 0


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Row:
    x = make_inputs(case)
    if x is None:
        return Row(case, 0, note={"pyattn": "no ml_dtypes"})
    row = Row(case, 2 * x.x.nbytes)
    calls: dict[str, Call] = {}
    for name in names:
        try:
            made = CONTESTANTS[name](case, x, threads)
            row.error[name] = max((check(call, case, x) for call in made), default=0.0)
        except Exception as problem:  # a peer's, of any kind: it loses the row, not the run
            if name == "pyattn":
                raise
            row.note[name] = type(problem).__name__[:11]
            continue
        # Peers compute halves in halves: told, not refused.
        if name == "pyattn" and not row.error[name] <= TOLERANCE[case.dtype] * 4:
            raise SystemExit(f"{case}: pyattn is wrong by {row.error[name]:.0e}")
        if made:
            calls[name] = fastest(made)
    # A copy of the same size: what memory allows. Of pages that are there: untouched ones are all
    # the same page of zeros.
    data, to = np.ones(x.x.nbytes, np.uint8), np.ones(x.x.nbytes, np.uint8)
    repeats = {name: max(1, int(TURN / take_turn(call, 1))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    copies: list[float] = []
    deadline = time.perf_counter() + 2 * seconds
    while row.rounds < rounds and (row.rounds < 3 or time.perf_counter() < deadline):
        for name, call in calls.items():
            times[name].append(take_turn(call, repeats[name]))
            if name == "pyattn":
                copy_bandwidth(to, data)
                copies.append(max(copy_bandwidth(to, data) for _ in range(2)))
            if case.in_place:
                x.x[...] = 1  # or it would leave the range of its type
        row.rounds += 1
    for name, t in times.items():
        row.seconds[name] = statistics.median(t)
        row.speedup[name] = statistics.median(
            a / b for a, b in zip(t, times["pyattn"], strict=True)
        )
    row.copied = statistics.median(copies)
    row.of_copy = statistics.median(
        row.bytes / t / c for t, c in zip(times["pyattn"], copies, strict=True)
    )
    return row


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    others = [n for n in names if n != "pyattn"]
    say(f"{'case':38}{'ms':>9}{'GB/s':>8}{'copy':>8}{'% copy':>8}   speed-up over")
    say(" " * 71 + "".join(f"{n:>12}" for n in others))
    rows = []
    for case in cases:
        row = measure(case, names, threads, seconds, rounds)
        rows.append(asdict(row))
        if "pyattn" not in row.seconds:
            say(f"{row.case!s:38}{row.note['pyattn']:>9}")
            continue
        own = row.seconds["pyattn"]
        line = f"{row.case!s:38}{own * 1e3:9.3f}{row.bytes / own / 1e9:8.1f}"
        line += f"{row.copied / 1e9:8.1f}{100 * row.of_copy:8.0f}"
        cells = (
            f"{row.speedup[n]:11.2f}x" if n in row.speedup else f"{row.note.get(n, 'n/a'):>12}"
            for n in others
        )
        say(line + "".join(cells))
    assert pyattn.get_num_threads() == threads
    return rows
