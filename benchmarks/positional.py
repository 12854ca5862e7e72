"""The suite `positional`: rotary and added positions, against memory and the usual expressions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

import pyattn
from benchmarks.measuring import TURN, Call, fastest, say, take_turn
from pyattn import _core, positional, reference

TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "float16": 2e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Case:
    name: str
    kind: str  # "rope", "add"
    shape: tuple[int, ...]
    interleaved: bool = False
    layout: str = "bhld"
    dtype: str = "float32"
    out: str = "there"  # where the result goes: an array that is "there", a "new" one, "x" itself
    positions: str = "L"  # "BL": different ones in every sequence

    @property
    def in_place(self) -> bool:
        return self.out == "x"

    def __str__(self) -> str:
        return f"{self.name} {','.join(map(str, self.shape))}"


LARGE, ADDED = (8, 32, 2048, 128), (64, 1024, 1024)
CASES = [
    Case("rope", "rope", LARGE),
    Case("rope, new result", "rope", LARGE, out="new"),
    Case("rope in place", "rope", LARGE, out="x"),
    Case("rope interleaved", "rope", LARGE, interleaved=True),
    Case("rope (B, L) positions", "rope", LARGE, positions="BL"),
    Case("rope blhd", "rope", (8, 2048, 32, 128), layout="blhd"),
    Case("rope float64", "rope", (8, 32, 1024, 128), dtype="float64"),
    Case("rope float16", "rope", LARGE, dtype="float16"),
    Case("rope bfloat16", "rope", LARGE, dtype="bfloat16"),
    Case("rope D=64", "rope", (32, 12, 512, 64)),
    Case("rope decode", "rope", (8, 32, 1, 128)),
    Case("add", "add", ADDED),
    Case("add, new result", "add", ADDED, out="new"),
    Case("add in place", "add", ADDED, out="x"),
    Case("add (B, L) positions", "add", ADDED, positions="BL"),
    Case("add (B, L), new result", "add", ADDED, positions="BL", out="new"),
    Case("add MiniLM", "add", (32, 128, 384)),
]
QUICK = {"rope", "rope in place", "rope decode", "add"}


@dataclass
class Inputs:
    x: np.ndarray
    table: np.ndarray  # to be added, (L, D)
    positions: np.ndarray
    cosines: np.ndarray  # of the positions, (..., L, D / 2)
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
    positions = np.arange(length)
    if case.positions == "BL":  # each sequence begins elsewhere
        positions = (positions + rng.integers(0, length, (case.shape[0], 1))) % length
    return Inputs(
        rng.standard_normal(case.shape, dtype=np.float32).astype(dtype),
        rng.standard_normal((length, case.shape[-1]), dtype=np.float32).astype(dtype),
        positions,
        table.cosines[positions].astype(np.float32),
        table.sines[positions].astype(np.float32),
        frequencies,
    )


def place(case: Case, x: Inputs) -> np.ndarray | None:
    """Where the result goes. Memory that is there has been touched."""
    return {"there": np.ones_like(x.x), "new": None, "x": x.x}[case.out]


def per_head(case: Case, a: np.ndarray) -> np.ndarray:
    """(..., L, d) as it broadcasts to the heads."""
    if case.layout == "blhd":
        return a[..., None, :]
    return a[:, None] if a.ndim > 2 else a


def contestants(suite: str) -> tuple[list[str], list[str]]:
    """Those that always run, and all."""
    return ["pyattn"], list(CONTESTANTS)


def cases(suite: str, quick: bool) -> list[Case]:
    return [c for c in CASES if c.name in QUICK] if quick else CASES


# --- The contestants: the same work, as it is usually written.


def run_pyattn(case: Case, x: Inputs, threads: int) -> list[Call]:
    out = place(case, x)
    if case.kind == "add":
        return [lambda: positional.add_positions(x.x, x.table, x.positions, out=out)]
    options = {"interleaved": case.interleaved, "layout": case.layout, "out": out}
    return [lambda: positional.rope(x.x, x.positions, x.frequencies, **options)]


def run_numpy(case: Case, x: Inputs, threads: int) -> list[Call]:
    if case.dtype == "bfloat16":
        return []
    out = place(case, x)
    if case.kind == "add":
        return [lambda: np.add(x.x, x.table[x.positions], out=out)]
    cosines, sines = (per_head(case, a).astype(case.dtype) for a in (x.cosines, x.sines))
    half = case.shape[-1] // 2
    a, b = (x.x[..., :half], x.x[..., half:])
    if case.interleaved:
        a, b = x.x[..., 0::2], x.x[..., 1::2]

    def call() -> np.ndarray:
        first, second = a * cosines - b * sines, a * sines + b * cosines
        result = np.empty_like(x.x) if out is None else out
        if case.interleaved:
            result[..., 0::2], result[..., 1::2] = first, second
        else:
            result[..., :half], result[..., half:] = first, second
        return result

    return [call]


def run_torch(case: Case, x: Inputs, threads: int) -> list[Call]:
    """``x * cos + rotate_half(x) * sin``, with the full tables that models keep."""
    import torch

    torch.set_num_threads(threads)

    def tensor(a: np.ndarray) -> torch.Tensor:
        if a.dtype.name == "bfloat16":
            return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(a)

    def array(t: torch.Tensor) -> np.ndarray:
        return t.float().numpy() if t.dtype == torch.bfloat16 else t.numpy()

    t = tensor(x.x)
    out = place(case, x)
    out = None if out is None else tensor(out)

    def with_result(expression: Callable[[], torch.Tensor]) -> list[Call]:
        def call() -> np.ndarray:
            with torch.inference_mode():
                return array(expression())

        return [call]

    if case.kind == "add":
        table, rows = tensor(x.table), torch.from_numpy(x.positions)
        return with_result(lambda: torch.add(t, table[rows], out=out))

    def twice(a: np.ndarray) -> np.ndarray:
        if case.interleaved:
            return np.repeat(a, 2, axis=-1)
        return np.concatenate([a, a], axis=-1)

    cosines, sines = (
        torch.from_numpy(per_head(case, twice(a))).to(t.dtype) for a in (x.cosines, x.sines)
    )
    half = case.shape[-1] // 2

    def partners() -> torch.Tensor:
        if case.interleaved:
            return torch.stack((-t[..., 1::2], t[..., 0::2]), dim=-1).flatten(-2)
        return torch.cat((-t[..., half:], t[..., :half]), dim=-1)

    return with_result(lambda: torch.add(t * cosines, partners() * sines, out=out))


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
        positions = x.positions[b] if x.positions.ndim > 1 else x.positions
        if case.kind == "add":
            want = reference.add_positions(before[b], x.table, positions)
        else:
            options = {"interleaved": case.interleaved, "layout": case.layout}
            one = before[b].astype(np.float64)
            want = reference.rope(one, positions, x.frequencies, **options)
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
    calls["copy"] = lambda: _core.probe_copy(to, data)
    repeats = {name: max(1, int(TURN / take_turn(call, 1))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    deadline = time.perf_counter() + 2 * seconds
    while row.rounds < rounds and (row.rounds < 3 or time.perf_counter() < deadline):
        for name, call in calls.items():
            times[name].append(take_turn(call, repeats[name]))
            if case.in_place:
                x.x[...] = 1  # or it would leave the range of its type
        row.rounds += 1
    copied = times.pop("copy")
    for name, t in times.items():
        row.seconds[name] = statistics.median(t)
        ratios = [a / b for a, b in zip(t, times["pyattn"], strict=True)]
        row.speedup[name] = statistics.median(ratios)
    row.copied = row.bytes / statistics.median(copied)
    row.of_copy = statistics.median(c / t for t, c in zip(times["pyattn"], copied, strict=True))
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
