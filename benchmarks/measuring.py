"""What every suite needs: turns on the clock, measuring sticks, words about the machine."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyattn import _core

Call = Callable[[], np.ndarray]

REST = 0.02  # seconds before each turn: the threads of the one before spin for a while, then sleep
TURN = 0.03  # seconds of timed calls per turn, at least one call
PAST_CACHES = 256 << 20  # bytes: more than processors cache, as a rule
NEEDS = {  # other than the name
    "onnxruntime": ("onnxruntime", "onnx"),
    "folded": ("torch", "onnxruntime", "onnx"),
    "unfold": ("torch",),
    "tiles": ("torch",),
    "plain": (),
    "chunked": (),
}


def importable(name: str) -> bool:
    try:
        for module in NEEDS.get(name, (name,)):
            __import__(module)
    except Exception:
        return False
    return True


def timed(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def take_turn(call: Callable[[], object], calls: int) -> float:
    time.sleep(REST)
    call()
    return timed(call, calls)


def fastest(calls: list[Call]) -> Call:
    return (
        min(calls, key=lambda c: min(take_turn(c, 1) for _ in range(2))) if calls[1:] else calls[0]
    )


def fma_peak() -> float:
    """FLOP/s of register-only multiply-adds on pyattn's threads."""
    rounds = 60_000
    _core.probe_fma(False, rounds)
    start = time.perf_counter()
    operations = _core.probe_fma(False, rounds)
    return operations / (time.perf_counter() - start)


def read_bandwidth() -> float:
    """Bytes/s of reading a buffer larger than the caches, best of five."""
    measure = reading()
    return max(measure() for _ in range(5))


def reading() -> Callable[[], float]:
    """What measures the bytes/s of reading a buffer larger than the caches."""
    data = np.ones(PAST_CACHES, np.uint8)
    return rate(lambda: _core.probe_read(data), data.size)


def copying(size: int) -> Callable[[], float]:
    """What measures the bytes/s, read and written, of a copy with `size` bytes of both."""
    # Of pages that are there: untouched ones are all the same page of zeros.
    data, to = np.ones(size // 2, np.uint8), np.ones(size // 2, np.uint8)
    return rate(lambda: _core.probe_copy(to, data), size)


def rate(call: Callable[[], object], size: int) -> Callable[[], float]:
    """What takes a turn of calls and says how many of `size` bytes a second they do."""
    repeats = max(1, int(TURN / take_turn(call, 1)))
    return lambda: size / take_turn(call, repeats)


def peak_memory(call: Call) -> int | None:
    """Bytes by which a call raises the resident set at most; None where /proc cannot tell."""

    def status(field: str) -> int:
        text = Path("/proc/self/status").read_text()
        return 1024 * int(text.split(field + ":")[1].split()[0])

    try:
        ctypes.CDLL(None).malloc_trim(0)  # what earlier calls freed must be taken anew
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = status("VmRSS")
        call()
        return max(0, status("VmHWM") - before)
    except (OSError, IndexError, ValueError, AttributeError):
        return None


def say(*parts: object) -> None:
    print(*parts, flush=True)


def versions(names: list[str]) -> dict[str, str]:
    return {
        name: importlib.metadata.version(name)
        for name in names
        if name not in ("pyattn", "plain", "chunked") and importlib.util.find_spec(name)
    }


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
