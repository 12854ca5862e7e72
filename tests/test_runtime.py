"""Threads, instruction sets, and being a good guest: fork, signals, the GIL, floating-point state.

What concerns a whole process is tried in one of its own, under a watchdog."""

import os
import platform
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import assert_same_bits, operands, python

import pyattn
from pyattn import _core

POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or sets affinity")
WATCHDOG = 20  # seconds; a hang, not slowness, is what it finds

THREADS = "import pyattn; print(pyattn.get_num_threads())"


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"PYATTN_NUM_THREADS": "3"}, 3),
        ({"PYATTN_NUM_THREADS": " 3 ", "OMP_NUM_THREADS": "5"}, 3),
        ({"PYATTN_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "nonsense"}, None),
        ({"OMP_NUM_THREADS": "0"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_threads_from_environment(environment, expected):
    found = int(python(THREADS, **environment))
    if expected is None:  # affinity, or what the container allows
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        assert 1 <= found <= cpus
    else:
        assert found == expected


@LINUX
def test_threads_from_affinity():
    cpu = min(os.sched_getaffinity(0))
    assert python(THREADS, before=lambda: os.sched_setaffinity(0, {cpu})) == "1\n"


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_bad_number_of_threads(value):
    error = python(THREADS, status=1, PYATTN_NUM_THREADS=value)
    assert f"PYATTN_NUM_THREADS must be a whole number, 1 or more, got {value!r}" in error


def test_isa_from_environment():
    for isa in _core.isa_runnable():
        code = "import pyattn; print(pyattn.get_isa())"
        assert python(code, PYATTN_ISA=isa) == isa + "\n"
    assert python("import pyattn; print(pyattn.get_isa())").strip() == _core.isa_runnable()[0]
    error = python("import pyattn", status=1, PYATTN_ISA="sse9")
    assert "ImportError: PYATTN_ISA: instruction set 'sse9' is unknown" in error
    assert ", ".join(_core.isa_runnable()) in error


def test_set_isa(isa):
    assert pyattn.get_isa() == isa
    with pytest.raises(ValueError, match="instruction set 'sse9' is unknown to this build"):
        pyattn.set_isa("sse9")
    with pytest.raises(TypeError):
        pyattn.set_isa(None)
    assert pyattn.get_isa() == isa


def test_set_num_threads(threads):
    assert pyattn.get_num_threads() == threads
    for bad, kind, text in (
        (0, ValueError, "n must be at least 1, got 0"),
        (-(2**70), ValueError, f"n must be at least 1, got {-(2**70)}"),
        (True, TypeError, "n must be an int, got bool"),
        (2.0, TypeError, "n must be an int, got float"),
        ("2", TypeError, "n must be an int, got str"),
        (None, TypeError, "n must be an int, got NoneType"),
    ):
        with pytest.raises(kind) as caught:
            pyattn.set_num_threads(bad)
        assert str(caught.value) == "set_num_threads: " + text
        assert pyattn.get_num_threads() == threads
    pyattn.set_num_threads(np.int8(2))
    assert pyattn.get_num_threads() == 2


@pytest.mark.parametrize("many", [500, 2**40])
def test_absurd_number_of_threads(many):
    """More than there are tasks, and more than the machine lets one have: still right."""
    code = f"""
import resource, numpy as np, pyattn
x = np.random.default_rng(0).standard_normal((1, 40, 300, 8), dtype=np.float32)
pyattn.set_num_threads(1)
expected = pyattn.attention(x, x, x)
pyattn.set_num_threads({many})
assert np.array_equal(pyattn.attention(x, x, x), expected)
"""
    python(code, timeout=WATCHDOG)


@LINUX
def test_threads_that_cannot_be_had_are_done_without():
    """No room for their stacks."""
    code = """
import os, re, resource, numpy as np, pyattn
x = np.random.default_rng(0).standard_normal((1, 40, 300, 8), dtype=np.float32)
pyattn.set_num_threads(1)
out = np.empty_like(x)
expected = pyattn.attention(x, x, x)
size = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (size + (8 << 20),) * 2)
pyattn.set_num_threads(64)
before = len(os.listdir("/proc/self/task"))
assert np.array_equal(pyattn.attention(x, x, x, out=out), expected)
assert len(os.listdir("/proc/self/task")) - before < 63
"""
    python(code, timeout=WATCHDOG, OPENBLAS_NUM_THREADS="1")


@LINUX
def test_fork_in_a_signal_handler_during_a_call():
    """The child goes on with the call, without the threads that had part of it."""
    code = """
import os, signal, sys, numpy as np, pyattn
x = np.random.default_rng(0).standard_normal((8, 3000, 64), dtype=np.float32)
expected = pyattn.attention(x, x, x)
child = None
def handler(*_):
    global child
    if child is None:
        child = os.fork()
signal.signal(signal.SIGALRM, handler)
pyattn.set_num_threads(2)
signal.setitimer(signal.ITIMER_REAL, 0.05)
while child is None:
    right = np.array_equal(pyattn.attention(x, x, x, out=np.full_like(x, np.nan)), expected)
if child == 0:
    os._exit(0 if right else 1)
assert right
assert os.waitpid(child, 0)[1] == 0
"""
    python(code, timeout=WATCHDOG)


@LINUX
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the place of MXCSR")
def test_threads_compute_in_the_callers_floating_point_state():
    """If the caller flushes denormals (its own business), all do: the bits do not depend on who
    computed what."""
    code = """
import ctypes, numpy as np, pyattn
rng = np.random.default_rng(0)
q, k = (rng.standard_normal((16, 400, 64), dtype=np.float32) * 6 for _ in range(2))
pyattn.set_num_threads(2)
normal = pyattn.attention_weights(q, k)
libm, environment = ctypes.CDLL("libm.so.6"), (ctypes.c_uint32 * 8)()
libm.fegetenv(environment)
environment[7] |= 0x8040
libm.fesetenv(environment)
pyattn.set_num_threads(1)
flushed = pyattn.attention_weights(q, k)
pyattn.set_num_threads(2)
both = [pyattn.attention_weights(q, k) for _ in range(5)]
environment[7] &= ~0x8040
libm.fesetenv(environment)
assert not np.array_equal(flushed.view("u4"), normal.view("u4"))
assert all(np.array_equal(x.view("u4"), flushed.view("u4")) for x in both)
assert np.array_equal(pyattn.attention_weights(q, k).view("u4"), normal.view("u4"))
"""
    python(code, timeout=WATCHDOG)


@LINUX
def test_weights_can_be_interrupted():
    """One panel and a long row of keys: nothing but writing weights for most of the time."""
    code = """
import signal, time, numpy as np, pyattn
q = np.ones((48, 64), np.float32)
k = np.ones((1_000_000, 64), np.float32)
pyattn.set_num_threads(1)
at = []
signal.signal(signal.SIGALRM, lambda *_: at.append(time.perf_counter()))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
start = time.perf_counter()
pyattn.attention_weights(q, k)
end = time.perf_counter()
signal.setitimer(signal.ITIMER_REAL, 0)
gaps = np.diff([start, *at, end])
print(f"longest time without a handler: {gaps.max():.3f} s")
assert gaps.max() < 0.4
"""
    python(code, timeout=WATCHDOG)


def test_show_config(capsys):
    pyattn.show_config()
    shown = capsys.readouterr().out
    for fact in (pyattn.__version__, np.__version__, pyattn.get_isa(), "threads"):
        assert fact in shown


@LINUX
def test_import_starts_no_thread_and_leaves_the_environment():
    code = """
import os, numpy
before, tasks = dict(os.environ), len(os.listdir("/proc/self/task"))
import pyattn
assert len(os.listdir("/proc/self/task")) == tasks == 1, tasks
assert dict(os.environ) == before
"""
    # NumPy's own thread pool would be counted too.
    python(code, OPENBLAS_NUM_THREADS="1")


# --- floating-point state

STATE = """
import ctypes, platform, threading
import numpy as np

def state():
    # Control bits of the floating-point unit: rounding, exception masks, flush-to-zero.
    if platform.machine() != "x86_64":
        return None
    environment = (ctypes.c_uint32 * 64)()
    ctypes.CDLL(None).fegetenv(environment)
    return environment[0] & 0xFFFF, environment[7] & ~0x3F  # x87 control word, MXCSR

def denormals():
    tiny = np.array([1e-45, 1e-40], np.float32)
    return (tiny * np.float32(1)).tolist(), (np.full(4, 5e-324) + 0).tolist()

def look(into):
    into.append((state(), denormals()))

def look_in_new_thread(into):
    t = threading.Thread(target=look, args=(into,))
    t.start(), t.join()

seen = []
look(seen)
import pyattn
look(seen)
x = np.random.default_rng(0).standard_normal((1, 8, 300, 16), dtype=np.float32)
for isa in pyattn._core.isa_runnable():
    pyattn.set_isa(isa)
    for threads in 1, 2:
        pyattn.set_num_threads(threads)
        pyattn.attention(x, x * 1e30, x * 1e-44)
        look(seen), look_in_new_thread(seen)
assert 0 not in seen[0][1][0] + seen[0][1][1]
assert all(s == seen[0] for s in seen), seen
"""


@LINUX
def test_floating_point_state():
    python(STATE)


# --- fork

WORK = """
import multiprocessing, os, sys
import numpy as np
import pyattn

def data():
    return np.random.default_rng(0).standard_normal((1, 8, 300, 16), dtype=np.float32)

def work(_=0):
    x = data()
    return pyattn.attention(x, x, x, causal=True).tobytes()

"""

FORK = (
    WORK
    + """
used, threads = bool(int(sys.argv[1])), int(sys.argv[2])
pyattn.set_num_threads(threads)
if used:
    expected = work()
child = os.fork()
if not child:
    a, b = work(), work()
    if sys.platform == "linux" and len(os.listdir("/proc/self/task")) != threads:
        os._exit(2)  # a child has threads of its own
    grandchild = os.fork()
    if not grandchild:
        os._exit(0 if work() == a == b else 1)
    _, status = os.waitpid(grandchild, 0)
    os._exit(0 if status == 0 and (not used or a == expected) else 1)
mine = work()
assert not used or mine == expected
_, status = os.waitpid(child, 0)
assert status == 0, status
assert work() == mine
"""
)

POOL = (
    WORK
    + """
if __name__ == "__main__":
    pyattn.set_num_threads(int(sys.argv[2]))
    expected = work() if int(sys.argv[1]) else None
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map(work, range(6))
    assert set(results) == {expected or work()}
"""
)


@POSIX
@pytest.mark.parametrize("code", [FORK, POOL], ids=["os.fork", "multiprocessing"])
@pytest.mark.parametrize("used", [0, 1])
@pytest.mark.parametrize("threads_before", [1, 3])
def test_fork(code, used, threads_before):
    """Whether or not the parent has computed, on several threads or on one."""
    python(code, used, threads_before, timeout=WATCHDOG)


@POSIX
def test_fork_while_others_compute():
    code = (
        WORK
        + """
import threading, time
expected, stop = work(), []
def loop():
    while not stop:
        assert work() == expected
busy = [threading.Thread(target=loop) for _ in range(3)]
[t.start() for t in busy]
for _ in range(10):
    child = os.fork()
    if not child:
        os._exit(0 if work() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.append(1)
[t.join() for t in busy]
"""
    )
    python("import warnings; warnings.simplefilter('ignore')\n" + code, timeout=WATCHDOG)


def test_spawn(tmp_path):
    script = tmp_path / "spawn.py"
    script.write_text(POOL.replace('"fork"', '"spawn"'))
    code = f"import runpy, sys; runpy.run_path({str(script)!r}, run_name='__main__')"
    python(code, 1, 2, timeout=2 * WATCHDOG)


# --- Python threads


def hammer(workers, seconds=None):
    """Many Python threads, each with calls of its own; every result has the right bits."""
    rng = np.random.default_rng(1)
    cases = [operands(rng, 1, n % 4 + 1, 60 + n, 200 + 90 * n, d=16) for n in range(workers)]
    expected = [pyattn.attention(*c, causal=True, return_lse=True) for c in cases]
    barrier = threading.Barrier(workers)

    def loop(n):
        barrier.wait()
        end = time.monotonic() + (seconds or 0)
        for i in range(10**9):
            if time.monotonic() > end and i >= 5:
                return
            assert_same_bits(pyattn.attention(*cases[n], causal=True, return_lse=True), expected[n])

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(loop, range(workers)))


def test_many_python_threads(threads):
    hammer(16)


@pytest.mark.stress
def test_64_python_threads_for_a_minute():
    hammer(64, seconds=60)


def test_gil_is_released(threads):
    """Another thread goes on while a long call runs."""
    q, k, v = operands(np.random.default_rng(0), 1, 4, 2048, 4096, d=64)
    steps, running = [0], threading.Event()

    def count():
        running.set()
        while running.is_set():
            steps[0] += 1
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    running.wait()
    before = steps[0]
    pyattn.attention(q, k, v)
    after = steps[0]
    running.clear()
    counter.join()
    assert after - before >= 10


# --- Ctrl-C

INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np
import pyattn

pyattn.set_num_threads(int(sys.argv[1]))
small = np.random.default_rng(0).standard_normal((1, 4, 300, 64), dtype=np.float32)
expected = pyattn.attention(small, small, small)
shape = {
    "heads": ((16, 32768, 64), (16, 32768, 64)),  # many units
    "keys": ((1, 1, 64), (1, 2**28, 64)),  # one unit, its chunks in waves
}[sys.argv[2]]
q, k = (np.broadcast_to(small[0, :1, :1], s) for s in shape)
sent = []

def press():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

threading.Timer(1, press).start()
start = time.monotonic()
try:
    pyattn.attention(q, k, k)
    print("finished", time.monotonic() - start)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - sent[0])
assert np.array_equal(pyattn.attention(small, small, small), expected)
"""


@POSIX
@pytest.mark.parametrize("many", [1, 2])
@pytest.mark.parametrize("shape", ["heads", "keys"])
def test_interrupt(many, shape):
    word, seconds = python(INTERRUPT, many, shape).split()
    assert word == "interrupted", f"the call was over after {seconds} s: make it longer"
    print(f"\nKeyboardInterrupt after {float(seconds) * 1e3:.0f} ms")
    assert float(seconds) < 0.3  # promised are 0.1; shared machines stall


@POSIX
def test_signal_handlers_run_during_calls():
    """A handler that raises nothing does not end the call; one of one's own exception does."""
    code = """
import os, signal, threading
import numpy as np, pyattn
x = np.random.default_rng(0).standard_normal((8, 4096, 64), dtype=np.float32)
expected, hits = pyattn.attention(x, x, x), []
signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
assert np.array_equal(pyattn.attention(x, x, x), expected)
signal.setitimer(signal.ITIMER_REAL, 0)
assert hits

def handler(*_):
    raise LookupError("mine")
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    pyattn.attention(x, x, x)
except LookupError as e:
    assert str(e) == "mine"
else:
    raise AssertionError("the exception was lost")
assert np.array_equal(pyattn.attention(x, x, x), expected)
"""
    python(code)


def test_call_from_another_thread_with_signals_pending():
    """Only the main thread handles signals; a call elsewhere neither eats nor minds them."""
    q, k, v = operands(np.random.default_rng(0), 1, 2, 1024, 2048, d=64)
    expected = pyattn.attention(q, k, v)
    got, hits = [], []
    before = signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    try:
        worker = threading.Thread(target=lambda: got.append(pyattn.attention(q, k, v)))
        worker.start()
        signal.raise_signal(signal.SIGALRM)
        worker.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert hits
    assert_same_bits(got[0], expected)
