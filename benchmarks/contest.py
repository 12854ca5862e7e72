"""Contestants checked, timed in turns and printed, case by case."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from benchmarks.measuring import TURN, Call, fastest, say, take_turn

OWN = "pyattn"
LONG = 0.5  # seconds of a call; whose are that long, and 5 of ours, is known after one round


class Case(Protocol):
    """A dataclass whose text is the name of the row."""

    @property
    def work(self) -> float:
        """Operations, or bytes that are read or written."""


@dataclass
class Result:
    seconds: dict[str, float] = field(default_factory=dict)  # medians
    speedup: dict[str, float] = field(default_factory=dict)  # of pyattn; medians of ratios
    error: dict[str, float] = field(default_factory=dict)
    note: dict[str, str] = field(default_factory=dict)  # why there is no figure
    of_limit: float = 0.0  # what pyattn reaches of it; median of ratios
    limit: float = 0.0  # what the machine can do, in work per second
    rounds: int = 0


def hold(
    case: Case,
    candidates: Mapping[str, Callable[[], list[Call]]],
    error: Callable[[Call], float],
    tolerance: float,
    limit: Callable[[], float],
    seconds: float,
    rounds: int,
) -> Result:
    """Check and time pyattn and its peers.

    Each of the `candidates` makes calls that do the same, of which the fastest one runs; none if it
    cannot do it. Whose `error` is larger than `tolerance` is not timed. `limit` measures what the
    machine can do, in work per second, in each of the rounds.
    """
    result = Result()
    calls: dict[str, Call] = {}
    for name, make in candidates.items():
        try:
            made = make()
            result.error[name] = max((error(call) for call in made), default=0.0)
        except Exception as problem:  # a peer's, of any kind: it loses the row, not the run
            if name == OWN:
                raise
            result.note[name] = type(problem).__name__[:11]
            continue
        if not result.error[name] <= tolerance:
            result.note[name] = f"wrong {result.error[name]:.0e}"
        elif made:
            calls[name] = fastest(made)
    if OWN not in calls:
        raise SystemExit(f"{case}: {OWN} is {result.note[OWN]}")

    estimate = {name: take_turn(call, 1) for name, call in calls.items()}
    repeats = {name: max(1, int(TURN / t)) for name, t in estimate.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    limits: list[float] = []
    deadline = time.perf_counter() + seconds
    while result.rounds < rounds and (result.rounds < 3 or time.perf_counter() < deadline):
        for name, call in calls.items():
            if result.rounds < 1 or estimate[name] < max(LONG, 5 * estimate[OWN]):
                times[name].append(take_turn(call, repeats[name]))
            if name == OWN:
                limits.append(limit())  # of the same moment
        result.rounds += 1
    own = times[OWN]
    for name, t in times.items():
        result.seconds[name] = statistics.median(t)
        result.speedup[name] = statistics.median(a / b for a, b in zip(t, own, strict=False))
    result.limit = statistics.median(limits)
    result.of_limit = statistics.median(case.work / t / m for t, m in zip(own, limits, strict=True))
    return result


def table(
    title: str,
    unit: str,
    limit: str,
    cases: Iterable[Case],
    names: list[str],
    measure: Callable[[Case], Result],
    *,
    scale: float = 1e9,
    microseconds: bool = False,
) -> list[dict]:
    """Measure and print the cases, with their rates in `scale` times the unit of work."""
    others = [name for name in names if name != OWN]
    say(f"{title:38}{'us' if microseconds else 'ms':>9}{unit:>9}{limit:>8}   speed-up over")
    say(" " * 64 + "".join(f"{name:>12}" for name in others))
    rows = []
    for case in cases:
        result = measure(case)
        own = result.seconds[OWN]
        line = f"{case!s:38}{own * 1e6:9.1f}" if microseconds else f"{case!s:38}{own * 1e3:9.3f}"
        line += f"{case.work / own / scale:9.1f}{100 * result.of_limit:8.1f}"
        for name in others:
            note = f"{result.note.get(name, 'n/a'):>12}"
            line += f"{result.speedup[name]:11.2f}x" if name in result.speedup else note
        say(line)
        rows.append({"case": str(case), "work": case.work, **asdict(result)})
    return rows


def runner(
    title: str,
    contestants: Iterable[str],
    measure: Callable[[Any, list[str], int, float, int], Result],
    unit: str = "GFLOP/s",
    limit: str = "% peak",
) -> Callable[[Iterable[Any], list[str], int, float, int], list[dict]]:
    """The `run` of a part of a suite that is a table of those contestants who are its own."""

    def run(
        cases: Iterable[Any], names: list[str], threads: int, seconds: float, rounds: int
    ) -> list[dict]:
        own = [name for name in names if name in contestants]
        return table(
            title, unit, limit, cases, own,
            lambda case: measure(case, own, threads, seconds, rounds),
        )  # fmt: skip

    return run


def run_parts(
    parts: Mapping[type, ModuleType],
    cases: Iterable[Case],
    names: list[str],
    threads: int,
    seconds: float,
    rounds: int,
) -> list[dict]:
    """Each part of a suite runs the cases of its kind; then what we lose."""
    rows: list[dict] = []
    for kind, part in parts.items():
        own = [case for case in cases if isinstance(case, kind)]
        if own:
            if rows:
                say()
            rows += part.run(own, names, threads, seconds, rounds)
    slower = [
        f"  {row['case']}: {row['speedup'][name]:.2f} of {name}"
        for row in rows
        for name in names
        if row["speedup"].get(name, 1) < 1
    ]
    say("\n".join(["\nwhere we lose:", *slower] if slower else ["\nno row is lost"]))
    return rows


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())
