"""Threads, instruction sets, and what this build can do."""

from __future__ import annotations

import os
import platform
import sys

import numpy

from pyattn import _core

__all__ = [
    "get_isa",
    "get_num_threads",
    "set_isa",
    "set_num_threads",
    "show_config",
]


_MOST_THREADS = 1 << 16  # more than any machine has; what the C side counts in fits easily


def _cgroup_cpus() -> float:
    """CPUs that a container may use (``cpu.max`` of cgroup v2, quota of v1); inf if unlimited."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as f:
            quota, period = f.read().split()
        return float("inf") if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        with (
            open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as quota_file,
            open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as period_file,
        ):
            quota, period = int(quota_file.read()), int(period_file.read())
        return quota / period if quota > 0 and period > 0 else float("inf")
    except (OSError, ValueError):
        return float("inf")


def _usable_cpus() -> int:
    """CPUs this process may run on: affinity, then the container's share (rounded up)."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cpus = os.cpu_count() or 1
    share = _cgroup_cpus()
    return max(1, min(cpus, int(-(-share // 1)))) if share != float("inf") else max(1, cpus)


def _threads_from_environment() -> int:
    """``PYATTN_NUM_THREADS``, else the first number of ``OMP_NUM_THREADS``, else usable CPUs."""
    own = os.environ.get("PYATTN_NUM_THREADS")
    if own:
        if not own.strip().isdecimal() or int(own) < 1:
            raise ValueError(f"PYATTN_NUM_THREADS must be a whole number, 1 or more, got {own!r}")
        return int(own)
    shared = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    # Not ours to judge: OpenMP itself ignores a value it cannot read.
    return int(shared) if shared.isdecimal() and int(shared) >= 1 else _usable_cpus()


def set_num_threads(n: int) -> None:
    """Set how many threads later calls may use, in this process.

    The result of every function is the same, bit by bit, for any number of threads.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer, or less than 1.

    Examples
    --------
    >>> import pyattn
    >>> before = pyattn.get_num_threads()
    >>> pyattn.set_num_threads(1)
    >>> pyattn.get_num_threads()
    1
    >>> pyattn.set_num_threads(before)
    """
    if isinstance(n, (bool, numpy.bool_)) or not isinstance(n, (int, numpy.integer)):
        raise TypeError(f"set_num_threads: n must be an int, got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"set_num_threads: n must be at least 1, got {n}")
    _core.threads_set(min(int(n), _MOST_THREADS))


def get_num_threads() -> int:
    """Return how many threads the next call may use.

    At import: ``PYATTN_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the CPUs that affinity and
    container allow. A call that comes while another Python thread is inside a call computes on its
    own thread alone; a forked child makes threads of its own.
    """
    return _core.threads_get()


def set_isa(name: str) -> None:
    """Choose the instruction set of later calls, in this process.

    For tests and comparisons: the best one the machine can run is chosen at import, unless the
    environment variable ``PYATTN_ISA`` names one. Different sets round differently.

    Parameters
    ----------
    name : str
        One of the names that `show_config` lists as runnable.

    Raises
    ------
    ValueError
        If this build does not know `name`, or this machine cannot run it.
    """
    if not _core.isa_select(name):
        raise ValueError(
            f"instruction set {name!r} is unknown to this build of pyattn or cannot run on this "
            f"machine; it can run {', '.join(_core.isa_runnable())}"
        )


def get_isa() -> str:
    """Return the name of the instruction set in use, such as ``"avx2"``."""
    return _core.isa_name()


def show_config() -> None:
    """Print version, instruction set, threads and build, for a bug report.

    Examples
    --------
    >>> import pyattn
    >>> pyattn.show_config()  # doctest: +ELLIPSIS
    pyattn ...
    """
    from pyattn import __version__

    print(f"pyattn {__version__}, Python {platform.python_version()}, NumPy {numpy.__version__}")
    print(f"machine    {platform.machine()}, {sys.platform}, {_usable_cpus()} CPUs usable")
    print(f"isa        {_core.isa_name()} (runnable: {', '.join(_core.isa_runnable())})")
    print(f"threads    {_core.threads_get()} (a pool of its own: neither OpenMP nor BLAS)")


def _initialize() -> None:
    _core.threads_set(min(_threads_from_environment(), _MOST_THREADS))
    if os.environ.get("PYATTN_ISA"):
        try:
            set_isa(os.environ["PYATTN_ISA"])
        except ValueError as error:
            raise ImportError(f"PYATTN_ISA: {error}") from None


_initialize()
