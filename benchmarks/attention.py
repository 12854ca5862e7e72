"""The suites `attention` and `masks`: speed against peers, scaling with threads and length."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import numpy as np

import pyattn
from benchmarks.attention_cases import CASES, MASK_CASES, QUICK, Case, Inputs, make_inputs
from benchmarks.attention_contestants import CONTESTANTS, OrtCall, plain_flops, run_pyattn
from benchmarks.measuring import TURN, Call, fastest, fma_peak, peak_memory, say, take_turn


def contestants(suite: str) -> tuple[list[str], list[str]]:
    """Those that always run, and all."""
    own = ["pyattn", "plain"] if suite == "masks" else ["pyattn"]
    return own, [name for name in CONTESTANTS if name in own or name != "plain"]


def cases(suite: str, quick: bool) -> list[Case]:
    if suite == "masks":
        return MASK_CASES
    return [c for c in CASES if c.name in QUICK] if quick else CASES


TOLERANCE = 2e-5  # relative to the largest value of the reference; float32 everywhere


def check(call: Call, case: Case, x: Inputs) -> float:
    """Largest error over some rows of the first and last batch element and head."""
    got = call.result() if isinstance(call, OrtCall) else call()
    rows = np.unique(np.linspace(0, case.queries - 1, 17).astype(int))
    worst = 0.0
    group = case.heads // case.kv_heads

    def own(a: np.ndarray | None, b: int, h: int, i: int) -> np.ndarray | None:
        """The row of a mask or bias."""
        if a is None:
            return None
        b, h, i = (min(n, extent - 1) for n, extent in zip((b, h, i), a.shape[:3], strict=True))
        return a[b, h, i : i + 1]

    for b, h in {(0, 0), (case.batch - 1, case.heads - 1)}:
        for i in rows:  # one row at a time: its place on the key axis is its own
            if case.packed and i >= x.lengths[b]:
                continue
            sinks = x.options.get("sinks")
            want = pyattn.reference.attention(
                x.q[b, h, i : i + 1],
                x.k[b, h // group],
                x.v[b, h // group],
                mask=own(x.mask, b, h, i),
                bias=own(x.bias, b, h, i),
                softcap=x.softcap,
                sinks=None if sinks is None else sinks[h : h + 1],
                causal=case.causal,
                query_start=int(i) + case.keys - case.queries,
                key_lengths=None if x.lengths is None else x.lengths[b],
            )
            # Packed: (T, H, D)
            row = got[x.offsets()[b] + i, h] if got.ndim == 3 else got[b, h, i]
            worst = max(worst, float(np.abs(row - want[0]).max() / np.abs(want).max()))
    return worst


@dataclass
class Row:
    case: Case
    flops: float
    seconds: dict[str, float] = field(default_factory=dict)  # medians
    speedup: dict[str, float] = field(default_factory=dict)  # medians of ratios
    error: dict[str, float] = field(default_factory=dict)
    note: dict[str, str] = field(default_factory=dict)  # why there is no figure
    peak: float = 0.0  # FLOP/s
    of_peak: float = 0.0  # median of ratios
    rounds: int = 0
    cost: float = 0.0  # time per visible product, against pyattn without the option


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Row:
    x = make_inputs(case)
    row = Row(case, case.flops)
    calls: dict[str, Call] = {}
    for name in names:
        try:
            made = CONTESTANTS[name](case, x, threads)
            errors = [check(call, case, x) for call in made if name != "plain"]
        except Exception as problem:  # a peer's, of any kind: it loses the row, not the run
            if name == "pyattn":
                raise
            row.note[name] = type(problem).__name__[:11]
            continue
        row.error[name] = max(errors, default=0.0)
        if not row.error[name] <= TOLERANCE:
            row.note[name] = f"wrong {row.error[name]:.0e}"
        elif made:
            calls[name] = fastest(made)
    if "pyattn" not in calls:
        raise SystemExit(f"{case}: pyattn is {row.note['pyattn']}")
    estimate = {name: take_turn(call, 1) for name, call in calls.items()}
    repeats = {name: max(1, int(TURN / t)) for name, t in estimate.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    peaks: list[float] = []
    deadline = time.perf_counter() + seconds
    while row.rounds < rounds and (row.rounds < 3 or time.perf_counter() < deadline):
        for name, call in calls.items():
            # Whoever is slower by far is known well enough after one round.
            if row.rounds < 1 or estimate[name] < 5 * estimate["pyattn"]:
                times[name].append(take_turn(call, repeats[name]))
            if name == "pyattn":
                peaks.append(fma_peak())  # of the same moment
        row.rounds += 1
    own = times["pyattn"]
    for name, t in times.items():
        row.seconds[name] = statistics.median(t)
        row.speedup[name] = statistics.median(a / b for a, b in zip(t, own, strict=False))
    if "plain" in times:
        ratio = case.flops / plain_flops(case)
        row.cost = statistics.median(a / b for a, b in zip(own, times["plain"], strict=True))
        row.cost /= ratio
    row.peak = statistics.median(peaks)
    row.of_peak = statistics.median(row.flops / t / p for t, p in zip(own, peaks, strict=True))
    return row


def print_rows(names: list[str], measured: Iterable[Row]) -> list[Row]:
    others = [n for n in names if n not in ("pyattn", "plain")]
    say(f"{'case (B, heads, L, D)':38}{'ms':>9}{'GFLOP/s':>9}{'% peak':>8}   speed-up over")
    cost = f"{'cost':>8}" if "plain" in names else ""
    say(" " * 64 + cost + "".join(f"{n:>12}" for n in others))
    rows = []
    for row in measured:
        own = row.seconds["pyattn"]
        line = (
            f"{row.case!s:38}{own * 1e3:9.3f}{row.flops / own / 1e9:9.1f}{100 * row.of_peak:8.1f}"
        )
        line += f"{row.cost:8.2f}" if "plain" in names else ""
        cells = (
            f"{row.speedup[n]:11.2f}x" if n in row.speedup else f"{row.note.get(n, 'n/a'):>12}"
            for n in others
        )
        say(line + "".join(cells))
        rows.append(row)
    for name in others:
        ratios = [r.speedup[name] for r in rows if name in r.speedup]
        if ratios:
            say(f"{'geometric mean over ' + name:34}{statistics.geometric_mean(ratios):9.2f}x")
    peers = [n for n in others if n != "numpy"]
    if len(peers) > 1:
        ratios = [[r.speedup[n] for n in peers if n in r.speedup] for r in rows]
        best = [min(found) for found in ratios if found]
        say(f"{'geometric mean over the best peer':34}{statistics.geometric_mean(best):9.2f}x")
    return rows


def run(
    cases: list[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    measured = (measure(case, names, threads, seconds, rounds) for case in cases)
    return [asdict(row) for row in print_rows(names, measured)]


def scaling(threads: int, quick: bool) -> dict[str, list[dict]]:
    return {"threads_scaling": thread_scaling(threads), "length_scaling": length_scaling(quick)}


def thread_scaling(threads: int) -> list[dict]:
    say("\nthreads       ms   GFLOP/s   efficiency    (encoder 8,12,512,64)")
    case = CASES[0]
    x = make_inputs(case)
    call = run_pyattn(case, x, threads)[0]
    counts = sorted({1, *(2**i for i in range(1, 20) if 2**i < threads), threads})
    times: dict[int, list[float]] = {n: [] for n in counts}
    for _ in range(5):
        for n in counts:
            pyattn.set_num_threads(n)
            times[n].append(take_turn(call, 1))
    pyattn.set_num_threads(threads)
    table = []
    for n in counts:
        seconds = statistics.median(times[n])
        efficiency = statistics.median(a / b for a, b in zip(times[1], times[n], strict=True)) / n
        table.append({"threads": n, "seconds": seconds, "efficiency": efficiency})
        say(
            f"{n:7}{seconds * 1e3:9.2f}{case.flops / seconds / 1e9:10.1f}{100 * efficiency:11.1f} %"
        )
    return table


def length_scaling(quick: bool) -> list[dict]:
    say("\n length       ms   GFLOP/s   peak extra memory    (1,8,L,64, output preallocated)")
    table = []
    for length in (128, 512, 2048) if quick else (128, 512, 2048, 4096, 8192, 16384):
        case = Case("length", 1, 8, 8, length, length, 64)
        x = make_inputs(case)
        out = np.zeros_like(x.q)
        call = functools.partial(pyattn.attention, x.q, x.k, x.v, out=out)
        call()
        memory = peak_memory(call)
        seconds = min(take_turn(call, 1) for _ in range(2))
        table.append({"length": length, "seconds": seconds, "memory": memory})
        shown = "n/a" if memory is None else f"{memory / 2**20:.2f} MiB"
        say(f"{length:7}{seconds * 1e3:9.2f}{case.flops / seconds / 1e9:10.1f}{shown:>20}")
    return table


def plot(path: str, rows: list[dict], cases: list[Case], names: list[str], title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 0.55 * len(rows) * 1.2 + 1.5), layout="constrained")
    height = 0.8 / len(names)
    places = np.arange(len(rows))
    for i, name in enumerate(names):
        seconds = [r["seconds"].get(name, np.inf) for r in rows]
        rates = [r["flops"] / s / 1e9 for r, s in zip(rows, seconds, strict=True)]
        axes.barh(places + i * height, rates, height, label=name)
    peaks = [r["peak"] / 1e9 for r in rows]
    axes.plot(peaks, places + 0.4 - height / 2, "k|", markersize=14, label="FMA peak")
    axes.set_yticks(places + 0.4 - height / 2, [str(c) for c in cases])
    axes.invert_yaxis()
    axes.set_xlabel("GFLOP/s of visible work (more is better)")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
