"""Rows of a table, added: the bits of NumPy's ``x + table[positions]``, wherever arrays lie."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from cases import HALVES
from support import assert_same_bits, python
from test_rope import (
    DTYPES,
    HEADS,
    LARGE,
    LAYOUTS,
    MASKED,
    OVERLAPS,
    frozen,
    large_rows,
    normal,
    placed,
)

import pyattn
from pyattn import reference
from pyattn.positional._added import add_positions

# Columns around the edges of vectors of 2, 4, 8 and 16.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129)


def added(x, table, positions=None):
    """NumPy's sum; of bfloat16, of which NumPy has none, the sum in float32, rounded."""
    rows = table[np.arange(x.shape[-2]) if positions is None else np.asarray(positions)]
    if x.dtype.name != "bfloat16":
        return x + rows
    return (x.astype(np.float32) + rows.astype(np.float32)).astype(x.dtype)


def assert_same_numbers(got, expected):
    """Bit for bit; a NaN is any NaN."""
    assert got.dtype == expected.dtype and got.shape == expected.shape
    with np.errstate(invalid="ignore"):  # of some bfloat16
        nan = np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(got), nan)
    assert_same_bits(np.where(nan, 0, got).astype(got.dtype), np.where(nan, 0, expected))


# --- sums


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_size(isa, dtype, rng):
    positions = rng.integers(0, 9, (2, 5))
    for size in SIZES:
        x, table = normal(rng, (2, 5, size), dtype), normal(rng, (9, size), dtype)
        assert_same_bits(add_positions(x, table), added(x, table))
        assert_same_bits(add_positions(x, table, positions), added(x, table, positions))


FEW = np.array([[0, 1, 2, 3, 8], [7, 2, 2, 0, 5]])


@pytest.mark.parametrize(
    "shape, positions",
    [
        ((5, 6), None),
        ((9, 6), None),
        ((5, 6), 3),
        ((5, 6), np.uint8(8)),
        ((5, 6), FEW[1]),
        ((5, 6), FEW[1].tolist()),
        ((1, 6), FEW[1, :1]),
        ((2, 5, 6), FEW),
        ((2, 5, 6), FEW.astype(np.uint64)),
        ((2, 5, 6), FEW.astype(">i2")),
        ((2, 5, 6), np.asfortranarray(FEW)[::-1, ::-1]),
        ((2, 5, 6), FEW[:, 2:3]),
        ((2, 5, 6), FEW[:1]),
        ((3, 2, 5, 6), None),
        ((3, 2, 5, 6), FEW),
        ((2, 2, 5, 6), FEW[:, None]),
        ((2, 2, 5, 6), FEW[:, None, :1]),
    ],
)
def test_positions(isa, shape, positions, rng):
    """They broadcast to (..., L), and are of any type of integers."""
    for dtype in DTYPES:
        x, table = normal(rng, shape, dtype), normal(rng, (9, 6), dtype)
        got = add_positions(x, table, positions)
        assert_same_bits(got, np.broadcast_to(added(x, table, positions), shape))
    np.testing.assert_allclose(
        got, reference.add_positions(x, table, positions), rtol=0, atol=1e-15
    )


def all_of(dtype):
    """Every number that 16 bits can be."""
    return np.arange(1 << 16, dtype=np.uint16).view(dtype).reshape(-1, 64)


@pytest.mark.parametrize("dtype", HALVES)
def test_every_half(isa, dtype):
    """-0 added changes no bit of any number; +0 makes +0 of -0. In vectors and out of them."""
    x = all_of(dtype)
    for part in (slice(None), slice(None, None, 3), slice(0, 7)):
        for zero in (0.0, -0.0):
            table = np.full((1, 64), zero, dtype)
            got = add_positions(x[:, part], table[:, part], 0)
            expected = x[:, part].copy()
            if not np.signbit(zero):
                expected.view(np.uint16)[expected.view(np.uint16) == 0x8000] = 0
            assert_same_numbers(got, expected)


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_of_halves_are_rounded_to_even(isa, dtype, rng):
    """Every half in sums with others: ties, denormals, infinities, what is too large."""
    x = all_of(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for y in (
            rng.permutation(x.ravel()).reshape(x.shape),
            rng.permutation(x.ravel()).reshape(x.shape),
            (x.astype(np.float32) * np.float32(2.0**-9)).astype(dtype),
            (x.astype(np.float32) * np.float32(-(2.0**-12))).astype(dtype),
            x,
            x[::-1],
        ):
            assert_same_numbers(add_positions(x, y), added(x, y))
            assert_same_numbers(add_positions(x[:, :9], y[:, :9]), added(x[:, :9], y[:, :9]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_numbers(isa, dtype):
    """NaN, infinities, denormals and zeros of both signs, each with each."""
    big, small = {"float64": (1.7e308, 5e-324), "float16": (6e4, 6e-8)}.get(
        np.dtype(dtype).name, (3e38, 1e-38)
    )
    one = np.array([0, 1, small, 3 * small, big, np.inf], np.float64)
    numbers = np.concatenate([one, -one, [np.nan]]).astype(dtype)
    x, y = np.array(list(product(numbers, numbers)), dtype).T
    with np.errstate(over="ignore", invalid="ignore"):
        for size in (1, 13, 169):
            a, b = x.reshape(-1, size), y.reshape(-1, size)
            assert_same_numbers(add_positions(a, b), added(a, b))


# --- the same bits


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(isa, dtype, rng):
    """However x, the table and the result lie in memory; in place too."""
    positions = rng.integers(0, 60, (3, 39))
    for size in (7, 40):
        x, table = normal(rng, (2, 3, 39, size), dtype), normal(rng, (60, size), dtype)
        expected = added(x, table, positions)
        for name, layout in LAYOUTS.items():
            there = layout(x)
            assert_same_bits(add_positions(there, table, positions), expected)
            assert_same_bits(add_positions(x, layout(table), positions), expected)
            if name == "read-only":
                continue
            for source, rows in ((x, table), (there.copy("K"), layout(table))):
                out = layout(np.full_like(x, 7))
                assert add_positions(source, rows, positions, out=out) is out
                assert_same_bits(out, expected)
            assert add_positions(there, table, positions, out=there) is there
            assert_same_bits(there, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_addresses(isa, dtype, rng):
    x, table = normal(rng, (5, 33), dtype), normal(rng, (5, 33), dtype)
    expected = added(x, table)
    raw = np.zeros(x.nbytes + 256, np.uint8)
    for by in (*range(9), *range(12, 68, 4)):
        moved = placed(raw, dtype, x.shape, by)
        assert_same_bits(add_positions(x, table, out=moved), expected)
        moved[...] = x
        assert_same_bits(add_positions(moved, table), expected)
        moved[...] = table
        assert_same_bits(add_positions(x, moved), expected)


def test_other_arrays(isa, tmp_path, rng):
    """Broadcast views, files, foreign byte order, lists."""
    x, table = normal(rng, (2, 5, 20), np.float32), normal(rng, (5, 20), np.float32)
    expected = added(x, table)
    x.tofile(tmp_path / "x")
    table.tofile(tmp_path / "table")
    files = (
        np.memmap(tmp_path / name, np.float32, "r", shape=a.shape)
        for name, a in (("x", x), ("table", table))
    )
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=x.shape)
    assert add_positions(*files, out=out) is out
    assert_same_bits(np.asarray(out), expected)
    assert_same_bits(add_positions(x.astype(">f4"), table.astype(">f4")), expected)
    wide = x.astype(np.float64), table.astype(np.float64)
    assert_same_bits(add_positions(*(a.tolist() for a in wide)), added(*wide))
    for zero in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):
        one = x[tuple(slice(0, 1) if axis in zero else slice(None) for axis in range(3))]
        view = np.broadcast_to(one, x.shape)
        assert_same_bits(add_positions(view, table), added(view, table))
    for one in (table[:1], table[:, :1]):
        view = np.broadcast_to(one, table.shape)
        assert_same_bits(add_positions(x, view), added(x, view))


def test_threads(isa, rng):
    before = pyattn.get_num_threads()
    try:
        for shape in ((3000, 64), (3, 401, 130), (4000, 1, 64)):
            x, table = normal(rng, shape, np.float32), normal(rng, (3000, shape[-1]), np.float32)
            expected = added(x, table)
            for threads in (1, 2, 3, 7):
                pyattn.set_num_threads(threads)
                out = np.full_like(x, np.nan)
                assert_same_bits(add_positions(x, table, out=out), expected)
                out = x.copy()
                assert_same_bits(add_positions(out, table, out=out), expected)
    finally:
        pyattn.set_num_threads(before)


def test_many_python_threads(rng):
    cases = [
        (
            normal(rng, (300 + n, 40), DTYPES[n % len(DTYPES)]),
            normal(rng, (400, 40), DTYPES[n % len(DTYPES)]),
        )
        for n in range(8)
    ]

    def loop(n):
        expected = added(*cases[n])
        for _ in range(20):
            assert_same_bits(add_positions(*cases[n]), expected)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(loop, range(8)))


@pytest.fixture(scope="module")
def large_buffer():
    return np.zeros(LARGE + (2 << 20), np.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_results(isa, dtype, large_buffer, rng):
    """What goes past the caches is what does not, at every address; in place too."""
    size = np.dtype(dtype).itemsize
    for columns in (128, 72, 66, 65):
        x = large_rows(rng, columns, dtype)
        table = np.resize(normal(rng, (103, columns), dtype), x.shape[1:])
        expected = added(x, table)
        many = np.broadcast_to(x, (HEADS, *x.shape[1:]))
        every = columns == 128 and size == 4
        for by in range(0, 64, 4) if every else (0, size, 8) if columns == 128 else (0,):
            out = placed(large_buffer, dtype, many.shape, by)
            add_positions(many, table, out=out)
            same = out.view(f"u{size}") == expected.view(f"u{size}")
            assert same.all(), (columns, by, np.argwhere(~same)[0])
    out[...] = x
    add_positions(out, table, out=out)
    assert (out == expected).all()


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_overlaps(isa, overlap, rng):
    """An `out` that shares memory with x or the table."""
    buffer = normal(rng, 64 * 60, np.float32)
    other = normal(rng, (60, 64), np.float32)
    positions = rng.integers(0, 20, 20)

    def parts():
        a, b = OVERLAPS[overlap](buffer.copy())
        return (part[: len(part) // 64 * 64].reshape(-1, 64) for part in (a, b))

    x, out = parts()
    assert np.shares_memory(x, out)
    expected = added(x.copy(), other)
    assert add_positions(x, other, out=out) is out
    assert_same_bits(out, expected)

    table, out = parts()
    out = out[:20]
    expected = added(other[:20], table.copy(), positions)
    assert add_positions(other[:20], table, positions, out=out) is out
    assert_same_bits(out, expected)

    table, out = parts()
    out = out[:20]
    expected = added(out.copy(), table.copy(), positions)
    assert add_positions(out, table, positions, out=out) is out
    assert_same_bits(out, expected)


def test_all_three_are_one(isa, rng):
    x = normal(rng, (40, 37), np.float64)
    positions = rng.integers(0, 40, 40)
    expected = added(x.copy(), x.copy(), positions)
    assert_same_bits(add_positions(x, x, positions, out=x), expected)


@pytest.mark.parametrize("shape", [(0, 3, 5, 8), (2, 0, 5, 8), (2, 3, 0, 8), (2, 3, 5, 0), (0, 0)])
def test_empty(isa, shape):
    x = np.empty(shape, np.float16)
    for rows in (5, 6):
        table = np.empty((rows, shape[-1]), np.float16)
        for positions in (None, 2, np.arange(shape[-2])):
            got = add_positions(x, table, positions)
            assert got.shape == shape and got.dtype == x.dtype
            assert add_positions(x, table, positions, out=x) is x
    none = add_positions(np.empty((2, 0, 3)), np.empty((0, 3)))
    assert none.shape == (2, 0, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_interrupt_and_fork():
    """A long call is left when a handler raises, one in place is not; a forked child computes."""
    code = """
import os, signal, numpy as np, pyattn
from pyattn.positional import add_positions
pyattn.set_num_threads(1)
pyattn.set_isa("generic")

def handler(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, handler)

x = np.broadcast_to(np.float16(1), (64, 8192, 64))  # columns that lie apart: slow
table = (np.arange(8192 * 64) % 1009).astype(np.float16).reshape(8192, 64)
out = np.zeros((*x.shape[:2], 128), np.float16)[..., ::2]
add_positions(x[:1], table, out=out[:1])
signal.setitimer(signal.ITIMER_REAL, 0.01)
try:
    add_positions(x, table, out=out)
except KeyboardInterrupt:
    assert not out[1:, -1].any(), "the call was over: make it longer"
else:
    raise AssertionError("the exception was lost")

out[...] = x
signal.setitimer(signal.ITIMER_REAL, 0.01)
try:
    add_positions(out, table, out=out)
    while True:
        pass
except KeyboardInterrupt:
    assert (out == 1 + table).all()

pyattn.set_num_threads(2)
add_positions(x[:2], table)
child = os.fork()
right = (add_positions(x[:2], table) == 1 + table).all()
if not child:
    os._exit(0 if right else 1)
assert right
assert os.waitpid(child, 0)[1] == 0
"""
    python(code, timeout=20)


# --- errors

X, TABLE = np.ones((2, 3, 4, 6), np.float32), np.ones((16, 6), np.float32)
KINDS = "must be float16, bfloat16, float32 or float64, got "


@pytest.mark.parametrize("given, kind, message", [
    ({"x": np.ones((4, 6), int)}, TypeError, "x " + KINDS + "int64: use x.astype(numpy.float32)"),
    ({"x": np.ones((4, 6), "U")}, TypeError, "x " + KINDS + "<U1"),
    ({"x": np.ma.ones((4, 6))}, TypeError, "x must not be a masked array"),
    ({"x": np.ones(6)}, ValueError, "x needs at least 2 axes (length, size), got (6,)"),
    ({"x": np.ones((1,) * 60 + (6,))}, ValueError,
     "x with 61 axes does not broadcast: at most 60 are possible"),
    ({"table": np.ones((16, 6), int)}, TypeError,
     "table " + KINDS + "int64: use table.astype(numpy.float32)"),
    ({"table": np.ma.ones((16, 6))}, TypeError, "table must not be a masked array"),
    ({"table": np.ones(6, np.float32)}, ValueError,
     "table needs at least 2 axes (positions, size), got (6,)"),
    ({"table": np.ones((16, 6))}, TypeError,
     "x and table must have the same dtype: x float32, table float64"),
    ({"table": np.ones((1, 16, 6), np.float32)}, ValueError,
     "table must be (positions, 6) for x (2, 3, 4, 6), got (1, 16, 6)"),
    ({"table": np.ones((16, 5), np.float32)}, ValueError,
     "table must be (positions, 6) for x (2, 3, 4, 6), got (16, 5)"),
    ({"table": TABLE[:3]}, ValueError,
     "x has 4 positions, the table covers [0, 3): give positions, or a longer table"),
    ({"positions": MASKED}, TypeError, "positions must not be a masked array"),
    ({"positions": 1.0}, TypeError, "positions in a table must be integers, got float64"),
    ({"positions": [True]}, TypeError, "positions in a table must be integers, got bool"),
    ({"positions": [[[0, 1, 16, 2]]]}, ValueError,
     "positions[0, 0, 2] = 16 is outside [0, 16) covered by the table"),
    ({"positions": -1}, ValueError,
     "positions = -1 is outside [0, 16) covered by the table"),
    ({"positions": np.uint64(2**64 - 1)}, ValueError,
     "positions = 18446744073709551615 is outside [0, 16) covered by the table"),
    ({"positions": [0, 1]}, ValueError,
     "positions (2,) do not broadcast to (2, 3, 4) [..., length] of x (2, 3, 4, 6)"),
    ({"positions": np.zeros((1, 2, 3, 4), int)}, ValueError,
     "positions (1, 2, 3, 4) do not broadcast to (2, 3, 4) [..., length] of x (2, 3, 4, 6)"),
    ({"out": X.tolist()}, TypeError, "out must be a NumPy array, got list"),
    ({"out": np.ones((3, 4, 6), np.float32)}, ValueError,
     "out must have shape (2, 3, 4, 6), got (3, 4, 6)"),
    ({"out": np.ones(X.shape)}, ValueError, "out must have dtype float32, got float64"),
    ({"out": np.ones(X.shape, ">f4")}, ValueError, "out must have dtype float32, got >f4"),
    ({"out": frozen(X)}, ValueError, "out is read-only"),
    ({"out": np.lib.stride_tricks.as_strided(X.copy(), X.shape, (0, 96, 24, 4))}, ValueError,
     "out overlaps itself: shape (2, 3, 4, 6), strides (0, 96, 24, 4)"),
])  # fmt: skip
def test_errors(given, kind, message):
    """Word for word; `out` is untouched."""
    x, table = given.pop("x", X), given.pop("table", TABLE)
    out = np.full(np.shape(x), 7, np.float32)
    call = {"out": out} | given
    before = np.array(call["out"])
    with pytest.raises(kind) as caught:
        add_positions(x, table, **call)
    assert str(caught.value) == "add_positions: " + message
    np.testing.assert_array_equal(call["out"], before)
