"""Rotary positions: against complex numbers of many digits, by their laws, and bit by bit."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product

import mpmath
import numpy as np
import pytest
from cases import HALVES, disguised
from hypothesis import given
from hypothesis import strategies as st
from support import FLOATS, assert_same_bits, python

import pyattn
from pyattn import _core, positional, reference
from pyattn.positional import _kept
from pyattn.positional._angles import sines_cosines
from pyattn.positional._rope import rope, rope_table

DTYPES = (*HALVES, *FLOATS)
# Pairs around the edges of vectors of 2, 4, 8 and 16.
SIZES = (2, 4, 6, 14, 16, 18, 30, 32, 34, 62, 64, 66, 80, 96, 128, 130)
PAIRINGS = pytest.mark.parametrize("interleaved", [False, True])
DIGITS = 50
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


# --- the definition


def long(number):
    """A number of mpmath as the longest float of NumPy."""
    return np.longdouble(float(number)) + np.longdouble(float(number - float(number)))


@cache
def turn(position, theta, i, size):
    """Of pair i at a position: ``exp(1j * position * theta ** (-2 * i / size))``."""
    with mpmath.workdps(DIGITS):
        angle = mpmath.mpf(position) * mpmath.mpf(theta) ** (-mpmath.mpf(2 * i) / size)
        cosine, sine = mpmath.cos_sin(angle)
        return long(cosine) + 1j * long(sine)


def turns(positions, size, theta=10000.0):
    """(..., size // 2), of positions of any shape."""
    flat = [
        [turn(p, theta, i, size) for i in range(size // 2)] for p in np.ravel(positions).tolist()
    ]
    return np.array(flat, np.clongdouble).reshape(*np.shape(positions), size // 2)


def of_pairs(pairs, interleaved):
    """Columns of the first and of the second numbers."""
    columns = np.arange(2 * pairs)
    return (columns[0::2], columns[1::2]) if interleaved else (columns[:pairs], columns[pairs:])


def per_row(a):
    """(..., L, pairs) as it broadcasts to the pairs of (..., H, L, D)."""
    return a[..., None, :, :] if a.ndim > 2 else a


def ulp(a, dtype):
    bits, least = {"float16": (11, -24), "bfloat16": (8, -133), "float32": (24, -149)}.get(
        np.dtype(dtype).name, (53, -1074)
    )
    return np.ldexp(np.longdouble(1), np.maximum(np.frexp(a)[1] - bits, least))


def assert_turned(got, x, by, interleaved):
    """`got` is `x` turned `by` complex numbers, rounded once: beside that some units are lost of
    the type in which it is computed, of the size of the pair. What is no pair is as it was."""
    assert got.shape == x.shape and got.dtype == x.dtype
    pairs = by.shape[-1]
    a, b = of_pairs(pairs, interleaved)
    wide = x.astype(np.float64).astype(np.longdouble)
    z = (wide[..., a] + 1j * wide[..., b]) * per_row(by)
    for columns, expected in ((a, z.real), (b, z.imag)):
        lost = abs(z) * (2.0**-22 if x.dtype.itemsize == 2 else 2.0**-50)
        rounded = 0 if x.dtype == np.float64 else 0.5 * ulp(expected, x.dtype)
        error = abs(got[..., columns].astype(np.float64) - expected)
        assert (error <= rounded + lost).all(), (error / (rounded + lost)).max()
    assert_same_bits(got[..., 2 * pairs :], x[..., 2 * pairs :])


def normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


@PAIRINGS
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_size(isa, dtype, interleaved, rng):
    """Whole heads, heads with a part that is not turned, odd ones; both orders of axes."""
    positions = np.array([[0, 1, 2, 3, 999], [500, -7, 3, 2, 64]])
    for size in SIZES:
        frequencies, by = positional.rope_frequencies(size), turns(positions, size)
        for more in (0, 1, 37):
            x = normal(rng, (2, 3, 5, size + more), dtype)
            got = rope(x, positions, frequencies, interleaved=interleaved)
            assert_turned(got, x, by, interleaved)
            swapped = x.swapaxes(1, 2).copy()
            got_swapped = rope(
                swapped, positions, frequencies, interleaved=interleaved, layout="blhd"
            )
            assert_same_bits(got_swapped, got.swapaxes(1, 2))


FEW = np.array([[0, 1, 2, 3, 4], [7, 2, 2, 100, -3]])
HUGE = np.array([2**24, 2**24 - 1, -(2**24) - 1, 2**32 - 1, -(2**32) + 1])
CASES = [
    ((5, 6), None),
    ((5, 6), 3),
    ((5, 6), FEW[1]),
    ((1, 6), FEW[1, 1]),
    ((3, 5, 6), None),
    ((3, 5, 6), [-1]),
    ((3, 5, 6), FEW[1]),
    ((2, 3, 5, 6), None),
    ((2, 3, 5, 6), np.int8(-5)),
    ((2, 3, 5, 6), FEW[1].astype(np.int16)),
    ((2, 3, 5, 6), FEW),
    ((2, 3, 5, 6), FEW.astype(">i4")),
    ((2, 3, 5, 6), np.asfortranarray(FEW)[:, ::-1]),
    ((2, 3, 5, 6), FEW[:, 3:4]),
    ((2, 3, 5, 6), FEW[1:]),
    ((2, 3, 5, 6), HUGE),
    ((2, 3, 5, 6), HUGE.astype(float)),
    ((2, 3, 5, 6), abs(HUGE).astype(np.uint64)),
    ((2, 3, 5, 6), FEW / 8),
    ((2, 3, 5, 6), (FEW / 8).astype(np.float16)),
    ((2, 3, 5, 6), HUGE[3] - FEW / 8),
    ((2, 1, 1, 6), FEW[:, 3:4]),
    ((2, 2, 3, 5, 6), None),
    ((2, 2, 3, 5, 6), FEW),
    ((2, 2, 3, 5, 6), np.stack([FEW, -FEW])),
    ((2, 2, 3, 5, 6), np.stack([FEW, -FEW])[:, :1]),
    ((2, 2, 3, 5, 6), np.stack([FEW, FEW + 9])[:, :, :1]),
]


@pytest.mark.parametrize("shape, positions", CASES)
def test_positions(isa, shape, positions, rng):
    """They broadcast to (..., L), are of any type of numbers, sign, and size below 2**32."""
    frequencies = positional.rope_frequencies(6)
    rows = (*shape[:-3], shape[-2])
    found = np.arange(rows[-1]) if positions is None else np.asarray(positions)
    by = turns(np.broadcast_to(found, rows), 6)
    for dtype, interleaved in product(DTYPES, (False, True)):
        x = normal(rng, shape, dtype)
        got = rope(x, positions, frequencies, interleaved=interleaved)
        assert_turned(got, x, by, interleaved)
        swapped = x.swapaxes(-3, -2) if x.ndim > 2 else x
        expected = got.swapaxes(-3, -2) if x.ndim > 2 else got
        got = rope(swapped, positions, frequencies, interleaved=interleaved, layout="blhd")
        assert_same_bits(got, expected)


@PAIRINGS
def test_reference(interleaved, rng):
    frequencies = positional.rope_sections(positional.rope_frequencies(12), [1, 3, 2])
    positions = rng.integers(-50, 50, (3, 2, 5))
    for layout in ("bhld", "blhd"):
        x = normal(rng, (2, 4, 5, 14) if layout == "bhld" else (2, 5, 4, 14), np.float64)
        got = rope(x, positions, frequencies, interleaved=interleaved, layout=layout)
        expected = reference.rope(x, positions, frequencies, interleaved=interleaved, layout=layout)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


# Positions at which the sine of a frequency of 1 nearly vanishes: numerators of pi.
NEAR_TURNS = (22, 355, 710, 103993, 5419351, 245850922, 1068966896, 2549491779)


@pytest.mark.parametrize("theta", [1e4, 5e5])
def test_angles(theta, rng):
    """Right to 1 ulp of float32 and 4 ulp of float64, each number by itself, at any position."""
    positions = np.concatenate(
        [rng.integers(0, 2**24, 50), rng.integers(0, 4096, 30), [0, 1, 2**24, *NEAR_TURNS]]
    )
    positions[::7] *= -1
    size = 128
    frequencies = positional.rope_frequencies(size, theta)
    exact = turns(positions, size, theta)
    sines, cosines = sines_cosines(positions, frequencies.turns)
    x = np.zeros((len(positions), size), np.float32)
    x[:, : size // 2] = 1
    got = rope(x, positions, frequencies, interleaved=False)
    for right, wide, narrow in (
        (exact.real, cosines, got[:, : size // 2]),
        (exact.imag, sines, got[:, size // 2 :]),
    ):
        assert (abs(wide - right) <= 4 * ulp(right, np.float64)).all()
        assert (abs(narrow - right) <= 0.501 * ulp(right, np.float32)).all()


def test_angles_between_positions(rng):
    """What comes after the point is good for 53 bits."""
    positions = rng.uniform(-1, 1, 60) * 10.0 ** rng.integers(-12, 9, 60)
    frequencies = positional.rope_frequencies(32)
    exact = turns(positions, 32)
    sines, cosines = sines_cosines(positions, frequencies.turns)
    assert abs(sines + 1j * (cosines - exact.real) - exact.imag).max() < 2e-15
    assert abs(cosines - exact.real).max() < 2e-15


# --- laws


@st.composite
def a_call(draw):
    pairs = draw(st.integers(1, 24))
    far = st.integers(-(2**31), 2**31)
    seed = draw(st.integers(0, 2**32))
    return np.random.default_rng(seed), pairs, draw(st.booleans()), draw(far), draw(far)


@given(a_call())
def test_laws(call):
    """Lengths of pairs are kept, scores depend on the difference of positions, and turning back
    by the same position gives what there was."""
    rng, pairs, interleaved, p, s = call
    q, k = rng.standard_normal((2, 1, 2 * pairs))
    frequencies = positional.rope_frequencies(2 * pairs)

    def at(x, position):
        return rope(x, position, frequencies, interleaved=interleaved)

    a, b = of_pairs(pairs, interleaved)
    turned, most = at(q, p), 1e-15 * np.linalg.norm(q) * np.linalg.norm(k)
    np.testing.assert_allclose(
        np.hypot(turned[:, a], turned[:, b]), np.hypot(q[:, a], q[:, b]), rtol=2e-15
    )
    np.testing.assert_allclose(at(turned, -p), q, rtol=0, atol=3e-15 * abs(q).max())
    score, same = turned @ at(k, s).T, at(q, p - s) @ k.T
    assert abs(score - same).item() < 10 * most


@given(a_call(), st.sampled_from(DTYPES))
def test_pairings_are_permutations_of_each_other(call, dtype):
    rng, pairs, _, p, _ = call
    x = normal(rng, (3, 2 * pairs + 1), dtype)
    frequencies = positional.rope_frequencies(2 * pairs)
    order = np.concatenate([*of_pairs(pairs, True), [2 * pairs]])  # first numbers, then second
    halves = rope(x[:, order], p, frequencies, interleaved=False)
    assert_same_bits(rope(x, p, frequencies, interleaved=True)[:, order], halves)


@PAIRINGS
@pytest.mark.parametrize("dtype", DTYPES)
def test_position_0_changes_nothing(isa, dtype, interleaved, rng):
    x = np.ldexp(rng.choice([-1.5, 1.0], (3, 5, 70)), rng.integers(-30, 15, (3, 5, 70)))
    x = x.astype(dtype)
    x[x == 0] = np.finfo(np.float16).smallest_subnormal
    for position in (0, np.zeros(5), np.zeros((1,), int)):
        got = rope(x, position, positional.rope_frequencies(66), interleaved=interleaved)
        assert_same_bits(got, x)


@PAIRINGS
def test_one_pair_at_a_time(isa, interleaved, rng):
    """Every number of the result comes of its own pair: what the others are changes no bit."""
    x = normal(rng, (4, 70), np.float32)
    frequencies = positional.rope_frequencies(68)
    expected = rope(x, None, frequencies, interleaved=interleaved)
    for i in range(34):
        own = [columns[i] for columns in of_pairs(34, interleaved)]
        poisoned = np.full_like(x, np.nan)
        poisoned[:, own] = x[:, own]
        got = rope(poisoned, None, frequencies, interleaved=interleaved)
        assert_same_bits(got[:, own], expected[:, own])
        assert np.isnan(np.delete(got, own, axis=1)).all()


# --- the same bits


def form(name):
    return lambda a: disguised(lambda _: name, a)


LAYOUTS = {
    **{name: form(name) for name in ("Fortran", "reversed", "gaps", "unaligned", "read-only")},
    "length first": lambda a: np.moveaxis(np.moveaxis(a, -2, 0).copy(), 0, -2),
    "size first": lambda a: np.moveaxis(np.moveaxis(a, -1, 0).copy(), 0, -1),
    "reversed rows": lambda a: a[..., ::-1, :].copy()[..., ::-1, :],
    "reversed columns": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every second row": lambda a: np.repeat(a, 2, axis=-2)[..., ::2, :],
    "every third column": lambda a: np.repeat(a, 3, axis=-1)[..., ::3],
    "middle of a wider array": lambda a: np.pad(a, [(1, 1)] * a.ndim)[(slice(1, -1),) * a.ndim],
}


@PAIRINGS
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(isa, dtype, interleaved, rng):
    """However x and the result lie in memory; in place too."""
    positions = rng.integers(0, 90, (2, 39))
    for size, pairs in ((40, 20), (7, 3)):
        frequencies = positional.rope_frequencies(2 * pairs)
        x = normal(rng, (2, 3, 39, size), dtype)
        expected = rope(x, positions, frequencies, interleaved=interleaved)
        for name, layout in LAYOUTS.items():
            there = layout(x)
            got = rope(there, positions, frequencies, interleaved=interleaved)
            assert_same_bits(got, expected)
            if name == "read-only":
                continue
            for source in (x, there.copy("K")):
                out = layout(np.full_like(x, 7))
                assert rope(source, positions, frequencies, interleaved=interleaved, out=out) is out
                assert_same_bits(out, expected)
            got = rope(there, positions, frequencies, interleaved=interleaved, out=there)
            assert got is there
            assert_same_bits(there, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_addresses(isa, dtype, rng):
    x = normal(rng, (2, 5, 70), dtype)
    frequencies = positional.rope_frequencies(66)
    for interleaved in (False, True):
        expected = rope(x, None, frequencies, interleaved=interleaved)
        for by in (*range(9), *range(12, 68, 4)):
            raw = np.zeros(x.nbytes + 128, np.uint8)
            moved = raw[-raw.ctypes.data % 64 + by :][: x.nbytes].view(dtype).reshape(x.shape)
            out = rope(x, None, frequencies, interleaved=interleaved, out=moved)
            assert_same_bits(out, expected)
            moved[...] = x
            got = rope(moved, None, frequencies, interleaved=interleaved)
            assert_same_bits(got, expected)


def test_other_arrays(isa, tmp_path, rng):
    """Broadcast views, files, foreign byte order, lists."""
    x = normal(rng, (2, 3, 5, 20), np.float32)
    frequencies = positional.rope_frequencies(18)
    expected = rope(x, None, frequencies, interleaved=True)
    x.tofile(tmp_path / "x")
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=x.shape)
    file = np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape)
    assert rope(file, None, frequencies, interleaved=True, out=out) is out
    assert_same_bits(np.asarray(out), expected)
    assert_same_bits(rope(x.astype(">f4"), None, frequencies, interleaved=True), expected)
    got = rope(x.astype(np.float64).tolist(), None, frequencies, interleaved=True)
    assert_same_bits(got, rope(x.astype(np.float64), None, frequencies, interleaved=True))
    for zero in ((0,), (1,), (2,), (3,), (0, 1), (2, 3), (0, 1, 2, 3)):
        one = x[tuple(slice(0, 1) if axis in zero else slice(None) for axis in range(4))]
        view = np.broadcast_to(one, x.shape)
        got = rope(view, None, frequencies, interleaved=True)
        assert_same_bits(got, rope(view.copy(), None, frequencies, interleaved=True))


@PAIRINGS
def test_threads(isa, interleaved, rng):
    """More than this machine may have, and not powers of two; few long tasks, many, all heads."""
    frequencies = positional.rope_frequencies(64)
    before = pyattn.get_num_threads()
    try:
        for shape, layout in (
            ((1, 1, 3000, 64), "bhld"),
            ((3, 2, 401, 64), "bhld"),
            ((3, 401, 5, 66), "blhd"),
            ((4000, 3, 1, 64), "bhld"),
        ):
            x = normal(rng, shape, np.float32)
            pyattn.set_num_threads(1)
            expected = rope(x, None, frequencies, interleaved=interleaved, layout=layout)
            for threads in (2, 3, 7):
                pyattn.set_num_threads(threads)
                out = np.full_like(x, np.nan)
                rope(x, None, frequencies, interleaved=interleaved, layout=layout, out=out)
                assert_same_bits(out, expected)
                out = x.copy()
                rope(out, None, frequencies, interleaved=interleaved, layout=layout, out=out)
                assert_same_bits(out, expected)
    finally:
        pyattn.set_num_threads(before)


@PAIRINGS
@pytest.mark.parametrize("dtype", DTYPES)
def test_row_alone(isa, dtype, interleaved, rng):
    """Each row by itself is that row of all: of more heads and positions than a task has."""
    positions = rng.integers(-99, 99, (2, 1100))
    for size in (6, 34):
        x = normal(rng, (2, 3, 1100, size), dtype)
        frequencies = positional.rope_frequencies(size)
        got = rope(x, positions, frequencies, interleaved=interleaved)
        for b, h, i in rng.integers(0, (2, 3, 1100), (20, 3)).tolist():
            alone = rope(x[b, h, i : i + 1], positions[b, i], frequencies, interleaved=interleaved)
            assert_same_bits(alone, got[b, h, i : i + 1])


def placed(buffer, dtype, shape, by):
    """An array in `buffer`, `by` bytes past a line of the cache."""
    start = -buffer.ctypes.data % 64 + by
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return buffer[start : start + size].view(dtype).reshape(shape)


LARGE = 16 << 20  # bytes of a result that goes past the caches
HEADS = 16


@pytest.fixture(scope="module")
def large_buffer():
    return np.zeros(LARGE + (2 << 20), np.uint8)


# Columns and pairs: whole vectors; a tail; halves, and then rows, that are not aligned; a part that
# is not turned.
LARGE_SHAPES = [(128, 64), (72, 36), (130, 65), (66, 33), (128, 16)]


def large_rows(rng, columns, dtype):
    """Rows that make more than LARGE bytes in HEADS heads."""
    rows = LARGE // (HEADS * columns * np.dtype(dtype).itemsize) + 5
    return np.resize(normal(rng, (101, columns), dtype), (1, rows, columns))


@PAIRINGS
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_results(isa, dtype, interleaved, large_buffer, rng):
    """What goes past the caches is what does not, at every address."""
    size = np.dtype(dtype).itemsize
    for columns, pairs in LARGE_SHAPES:
        frequencies = positional.rope_frequencies(2 * pairs)
        x = large_rows(rng, columns, dtype)
        expected = rope(x, None, frequencies, interleaved=interleaved)
        many = np.broadcast_to(x, (HEADS, *x.shape[1:]))
        every = pairs == 64 and size == 4
        for by in range(0, 64, 12) if every else (0, size, 8) if pairs == 64 else (0,):
            out = placed(large_buffer, dtype, many.shape, by)
            rope(many, None, frequencies, interleaved=interleaved, out=out)
            same = out.view(f"u{size}") == expected.view(f"u{size}")
            assert same.all(), (columns, by, np.argwhere(~same)[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_large_results_of_other_layouts(isa, dtype, large_buffer, rng):
    """Heads side by side; in place; rows with a gap, and backwards."""
    frequencies = positional.rope_frequencies(64)
    x = large_rows(rng, 64, dtype).swapaxes(0, 1)
    rows = len(x)
    expected = rope(x, None, frequencies, interleaved=False, layout="blhd")
    many = np.broadcast_to(x, (rows, HEADS, 64))
    out = placed(large_buffer, dtype, many.shape, 0)
    for to in (out, out[:, ::-1], out[::-1, ::-1]):
        to[...] = 0
        rope(many, None, frequencies, interleaved=False, layout="blhd", out=to)
        assert (to == expected).all()
    out[...] = x
    rope(out, None, frequencies, interleaved=False, layout="blhd", out=out)
    assert (out == expected).all()


OVERLAPS = {
    "one element on": lambda b: (b[:-1], b[1:]),
    "one element back": lambda b: (b[1:], b[:-1]),
    "a row on": lambda b: (b[:-64], b[64:]),
    "a row and a half back": lambda b: (b[96:], b[:-96]),
    "backwards": lambda b: (b, b[::-1]),
    "every second, and all": lambda b: (b[::2], b[: len(b) // 2]),
}


@PAIRINGS
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_overlaps(isa, overlap, interleaved, rng):
    """An `out` that shares memory with x otherwise than by being x."""
    buffer = normal(rng, 64 * 60, np.float32)
    x, out = (a[: len(a) // 64 * 64].reshape(-1, 64) for a in OVERLAPS[overlap](buffer))
    assert np.shares_memory(x, out)
    frequencies = positional.rope_frequencies(62)
    expected = rope(x.copy(), None, frequencies, interleaved=interleaved)
    assert rope(x, None, frequencies, interleaved=interleaved, out=out) is out
    assert_same_bits(out, expected)


def test_transposed_in_place(isa, rng):
    square = normal(rng, (64, 64), np.float32)
    frequencies = positional.rope_frequencies(64)
    expected = rope(square.copy(), None, frequencies, interleaved=False)
    rope(square, None, frequencies, interleaved=False, out=square.T)
    assert_same_bits(square.T, expected)


@pytest.mark.parametrize("axis", [0, 1, 2, slice(0, 3)])
def test_empty(isa, axis):
    shape = [2, 3, 5, 8]
    shape[axis] = [0] * 3 if axis == slice(0, 3) else 0
    frequencies = positional.rope_frequencies(8)
    x = np.empty(shape, np.float32)
    for layout, length in (("bhld", shape[2]), ("blhd", shape[1])):
        for positions in (None, 3, np.arange(length), np.zeros((shape[0], length))):
            got = rope(x, positions, frequencies, interleaved=True, layout=layout, out=x)
            assert got is x
            got = rope(x, positions, frequencies, interleaved=True, layout=layout)
            assert got.shape == x.shape and got.dtype == x.dtype
        got = rope(x, None, rope_table(frequencies, length), interleaved=False, layout=layout)
        assert got.shape == x.shape
    assert len(rope_table(frequencies, 0)) == 0


# --- tables


@PAIRINGS
@pytest.mark.parametrize("dtype", DTYPES)
def test_table(isa, dtype, interleaved, rng):
    """A table of frequencies gives the bits of the frequencies; rows may come in any order."""
    frequencies = positional.rope_frequencies(34)
    table = rope_table(frequencies, 60)
    assert len(table) == 60 and table.cosines.shape == table.sines.shape == (60, 17)
    x = normal(rng, (2, 3, 40, 35), dtype)
    for positions in (
        None,
        59,
        np.arange(40) + 20,
        rng.integers(0, 60, (2, 40)),
        rng.integers(0, 60, (2, 40)).astype(np.uint8),
        np.zeros((2, 1), ">i4"),
    ):
        got = rope(x, positions, table, interleaved=interleaved)
        assert_same_bits(got, rope(x, positions, frequencies, interleaved=interleaved))
    swapped = rope(x.swapaxes(1, 2), None, table, interleaved=interleaved, layout="blhd")
    expected = rope(x, None, frequencies, interleaved=interleaved)
    assert_same_bits(swapped, expected.swapaxes(1, 2))


@PAIRINGS
@pytest.mark.parametrize("kind", DTYPES)
def test_table_of_ones_own(isa, kind, interleaved, rng):
    """Any numbers: the definition, not angles; of any float type and strides."""
    cosines, sines = (rng.standard_normal((9, 10)).astype(kind)[:, ::2] for _ in range(2))
    table = rope_table(cosines=cosines, sines=sines)
    assert table.cosines.dtype == np.float64
    np.testing.assert_array_equal(table.sines, sines.astype(np.float64))
    by = (table.cosines + 1j * table.sines).astype(np.clongdouble)
    positions = rng.integers(0, 9, (2, 7))
    for dtype in DTYPES:
        x = normal(rng, (2, 3, 7, 12), dtype)
        got = rope(x, positions, table, interleaved=interleaved)
        assert_turned(got, x, by[positions], interleaved)


def test_a_table_is_a_copy(rng):
    cosines, sines = rng.standard_normal((2, 9, 4))
    table = rope_table(cosines=cosines, sines=sines)
    x = normal(rng, (9, 8), np.float64)
    before = rope(x, None, table, interleaved=False)
    cosines[...] = sines[...] = 7
    assert_same_bits(rope(x, None, table, interleaved=False), before)
    assert repr(table) == "<RopeTable of 9 positions, 4 pairs>"


# --- several axes, decay, factors


@PAIRINGS
@pytest.mark.parametrize("shared", [False, True])
def test_sections(isa, interleaved, shared, rng):
    """Each pair is turned as by the one-dimensional rotation of its axis."""
    one = positional.rope_frequencies(32)
    frequencies = positional.rope_sections(one, [6, 5, 5], interleaved=shared)
    axis = [i % 3 for i in range(15)] + [0] if shared else [0] * 6 + [1] * 5 + [2] * 5
    assert frequencies.axes.tolist() == axis
    x = normal(rng, (2, 3, 7, 34), np.float32)
    positions = rng.integers(-20, 60, (3, 2, 7))
    got = rope(x, positions, frequencies, interleaved=interleaved)
    each = [rope(x, p, one, interleaved=interleaved) for p in positions]
    for i, columns in enumerate(zip(*of_pairs(16, interleaved), strict=True)):
        assert_same_bits(got[..., columns], each[axis[i]][..., columns])
    assert_same_bits(got[..., 32:], x[..., 32:])
    swapped = x.swapaxes(1, 2)
    got_swapped = rope(swapped, positions, frequencies, interleaved=interleaved, layout="blhd")
    assert_same_bits(got_swapped, got.swapaxes(1, 2))
    # The same positions on all axes are those of text.
    got = rope(x, np.stack([positions[0]] * 3), frequencies, interleaved=interleaved)
    assert_same_bits(got, each[0])
    for dtype in DTYPES:  # one number per axis
        x = normal(rng, (2, 34), dtype)
        got = rope(x, [4, -1, 9], frequencies, interleaved=interleaved)
        by = [turn(int([4, -1, 9][a]), 1e4, i, 32) for i, a in enumerate(axis)]
        assert_turned(got, x, np.array(by, np.clongdouble)[None], interleaved)


def test_axes_without_pairs(rng):
    """A section may be 0: there are as many positions as sections, and that one turns nothing."""
    one = positional.rope_frequencies(8)
    x = normal(rng, (5, 8), np.float64)
    positions = rng.integers(0, 99, (3, 5))
    for sections in ([2, 0, 2], [2, 2, 0], [0, 0, 4]):
        frequencies = positional.rope_sections(one, sections)
        axis = np.repeat(range(3), sections)
        got = rope(x, positions, frequencies, interleaved=False)
        by = [[turn(int(positions[a, n]), 1e4, i, 8) for i, a in enumerate(axis)] for n in range(5)]
        assert_turned(got, x, np.array(by, np.clongdouble), False)


@pytest.mark.parametrize("axes", [1, 2, 3])
@PAIRINGS
def test_axial(isa, axes, interleaved, rng):
    """An equal share of pairs for each axis, with all frequencies of a head of that size."""
    size = 12 * axes
    frequencies = positional.rope_axial(size, 100.0, axes=axes)
    positions = rng.integers(0, 20, (axes, 9))
    x = normal(rng, (2, 9, size), np.float64)
    by = np.concatenate([turns(p, 12, 100.0) for p in positions], axis=-1)
    given = positions if axes > 1 else positions[0]
    got = rope(x, given, frequencies, interleaved=interleaved)
    assert_turned(got, x, by, interleaved)


def test_grid_positions():
    pixels = [(y, x) for y in range(3) for x in range(5)]
    got = positional.grid_positions((3, 5))
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got.T, pixels)
    got = positional.grid_positions([3, 5], convention="dinov3")
    centres = [(((y + 0.5) / 3 * 2 - 1), ((x + 0.5) / 5 * 2 - 1)) for y, x in pixels]
    np.testing.assert_allclose(got.T, 2 * np.pi * np.array(centres), rtol=0, atol=1e-15)
    for convention in ("pixel", "dinov3"):
        assert positional.grid_positions((0, 4), convention=convention).shape == (2, 0)


@PAIRINGS
def test_xpos(interleaved, rng):
    """Queries times ``zeta ** (p / 512)``, keys divided by it: scores decay with the distance."""
    size, p, s = 12, 700, 420
    zeta = (np.arange(0, size, 2) / size + 0.4) / 1.4
    q, k = rng.standard_normal((2, 1, size))
    both = [positional.xpos_frequencies(size, keys=keys) for keys in (False, True)]
    got = [
        rope(x, at, f, interleaved=interleaved)
        for x, at, f in zip((q, k), (p, s), both, strict=True)
    ]
    for x, at, sign, result in zip((q, k), (p, s), (1, -1), got, strict=True):
        a, b = of_pairs(6, interleaved)
        z = (x[:, a] + 1j * x[:, b]) * turns([at], size) * zeta ** (sign * at / 512)
        np.testing.assert_allclose(result[:, a] + 1j * result[:, b], z, rtol=1e-14)
    near = positional.xpos_frequencies(size, scale_base=64)
    turned = rope(q, 64, near, interleaved=interleaved)
    plain = rope(q, 64, positional.rope_frequencies(size), interleaved=interleaved)
    for a, b, factor in zip(*of_pairs(6, interleaved), zeta, strict=True):
        np.testing.assert_allclose(turned[:, [a, b]], plain[:, [a, b]] * factor, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_factor(dtype, rng):
    """Multiplies what is turned, and nothing else."""
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    frequencies = positional.rope_frequencies(16, scaling=scaling)
    factor = 0.1 * np.log(4) + 1
    assert frequencies.attention_factor == pytest.approx(factor, rel=1e-15)
    x = normal(rng, (5, 20), dtype)
    p = np.arange(5)[:, None].astype(np.longdouble)
    by = np.exp(1j * (p * frequencies.inv_freq.astype(np.longdouble))) * np.longdouble(factor)
    got = rope(x, None, frequencies, interleaved=True)
    assert_turned(got, x, by.astype(np.clongdouble), True)


def test_given_inverse_frequencies(rng):
    """An array of any float type, taken as it is: also 0, negative and large ones."""
    x = normal(rng, (4, 10), np.float64)
    for dtype in DTYPES:
        numbers = np.array([1.0, 0.0, -0.375, 2.0**15]).astype(dtype)
        angles = np.arange(4)[:, None] * numbers.astype(float).astype(np.longdouble)
        got = rope(x, None, numbers, interleaved=False)
        assert_turned(got, x, np.exp(1j * angles), False)
    got = rope(x, None, [2.0**31 + 0.5], interleaved=False)
    assert_turned(got, x, turns(np.arange(4) * (2.0**31 + 0.5), 2), False)


# --- errors

QUARTER = positional.rope_frequencies(4)
THREE = positional.rope_sections(positional.rope_frequencies(6), [1, 1, 1])
TABLE = rope_table(QUARTER, 16)
X = np.ones((2, 3, 4, 6), np.float32)
MASKED = np.ma.masked_array([0, 1, 2, 3], [0, 1, 0, 0])
ROW = ", [..., length] of x (2, 3, 4, 6)"


def frozen(a):
    a = np.array(a)
    a.flags.writeable = False
    return a


ROPE_ERRORS = [
    ({"x": np.ones((4, 6), int)}, TypeError,
     "x must be float16, bfloat16, float32 or float64, got int64: use x.astype(numpy.float32)"),
    ({"x": np.ones((4, 6), bool)}, TypeError,
     "x must be float16, bfloat16, float32 or float64, got bool"),
    ({"x": np.ones((4, 6), complex)}, TypeError,
     "x must be float16, bfloat16, float32 or float64, got complex128"),
    ({"x": np.ma.ones((4, 6))}, TypeError, "x must not be a masked array"),
    ({"x": np.ones(6)}, ValueError, "x needs at least 2 axes (length, size), got (6,)"),
    ({"x": np.ones((1,) * 60 + (6,))}, ValueError,
     "x with 61 axes does not broadcast: at most 60 are possible"),
    ({"layout": "lbhd"}, ValueError,
     "layout must be 'bhld' (..., heads, length, size) or 'blhd' (..., length, heads, size), "
     "got 'lbhd'"),
    ({"interleaved": 1}, TypeError, "interleaved must be True or False, got int"),
    ({"interleaved": None}, TypeError, "interleaved must be True or False, got NoneType"),
    ({"positions": MASKED}, TypeError, "positions must not be a masked array"),
    ({"positions": ["0"]}, TypeError, "positions must be real numbers, got <U1"),
    ({"positions": [True]}, TypeError, "positions must be real numbers, got bool"),
    ({"positions": [1j]}, TypeError, "positions must be real numbers, got complex128"),
    ({"positions": 2**32}, ValueError, "positions = 4294967296 is outside (-2**32, 2**32)"),
    ({"positions": [0, 1, -(2**32), 3]}, ValueError,
     "positions[2] = -4294967296 is outside (-2**32, 2**32)"),
    ({"positions": np.array([[0], [2**64 - 1]], np.uint64)}, ValueError,
     "positions[1, 0] = 18446744073709551615 is outside (-2**32, 2**32)"),
    ({"positions": [0, np.nan, 2, 3]}, ValueError,
     "positions[1] = nan is outside (-2**32, 2**32)"),
    ({"positions": -np.inf}, ValueError, "positions = -inf is outside (-2**32, 2**32)"),
    ({"positions": np.zeros(3)}, ValueError,
     "positions (3,) do not broadcast to (2, 4) [..., length] of x (2, 3, 4, 6)"),
    ({"positions": np.zeros((2, 3, 4))}, ValueError,
     "positions (2, 3, 4) do not broadcast to (2, 4) [..., length] of x (2, 3, 4, 6)"),
    ({"positions": np.zeros((1, 1, 4))}, ValueError,
     "positions (1, 1, 4) do not broadcast to (2, 4) [..., length] of x (2, 3, 4, 6)"),
    ({"positions": np.zeros(4, int), "layout": "blhd"}, ValueError,
     "positions (4,) do not broadcast to (2, 3) [..., length] of x (2, 3, 4, 6)"),
    ({"frequencies": THREE}, ValueError,
     "positions are needed: these frequencies turn with 3 of them each"),
    ({"frequencies": THREE, "positions": np.zeros((2, 4))}, ValueError,
     "these frequencies turn with 3 positions each: positions must be (3, ..., length), "
     "got (2, 4)"),
    ({"frequencies": THREE, "positions": np.zeros((3, 2, 3))}, ValueError,
     "positions (2, 3) do not broadcast to (2, 4) [..., length] of x (2, 3, 4, 6)"),
    ({"frequencies": TABLE, "positions": MASKED}, TypeError,
     "positions must not be a masked array"),
    ({"frequencies": TABLE, "positions": 1.0}, TypeError,
     "positions in a table must be integers, got float64"),
    ({"frequencies": TABLE, "positions": True}, TypeError,
     "positions in a table must be integers, got bool"),
    ({"frequencies": TABLE, "positions": [[0, 1, 16, 2]]}, ValueError,
     "positions[0, 2] = 16 is outside [0, 16) covered by the table"),
    ({"frequencies": TABLE, "positions": -1}, ValueError,
     "positions = -1 is outside [0, 16) covered by the table"),
    ({"frequencies": TABLE, "positions": np.uint64(2**64 - 1)}, ValueError,
     "positions = 18446744073709551615 is outside [0, 16) covered by the table"),
    ({"frequencies": TABLE, "positions": [0, 1]}, ValueError,
     "positions (2,) do not broadcast to (2, 4) [..., length] of x (2, 3, 4, 6)"),
    ({"frequencies": TABLE, "x": np.ones((17, 6), np.float32)}, ValueError,
     "x has 17 positions, the table covers [0, 16): give positions, or a longer table"),
    ({"frequencies": None}, TypeError,
     "frequencies must be of pyattn.positional.rope_frequencies, a RopeTable or an array of "
     "floats, got NoneType of object"),
    ({"frequencies": [1, 2]}, TypeError,
     "frequencies must be of pyattn.positional.rope_frequencies, a RopeTable or an array of "
     "floats, got list of int64"),
    ({"frequencies": np.ma.ones(2)}, TypeError, "frequencies must not be a masked array"),
    ({"frequencies": np.ones((2, 2))}, ValueError, "frequencies must be (pairs,), got (2, 2)"),
    ({"frequencies": np.ones(0)}, ValueError, "frequencies must be (pairs,), got (0,)"),
    ({"frequencies": [1.0, np.nan]}, ValueError,
     "frequencies[1] = nan is outside (-2**32, 2**32)"),
    ({"frequencies": [-(2.0**32)]}, ValueError,
     "frequencies[0] = -4294967296.0 is outside (-2**32, 2**32)"),
    ({"frequencies": np.ones(4)}, ValueError,
     "4 frequencies turn 8 numbers, but x (2, 3, 4, 6) has 6 in a head"),
    ({"frequencies": rope_table(np.ones(4), 9)}, ValueError,
     "4 frequencies turn 8 numbers, but x (2, 3, 4, 6) has 6 in a head"),
    ({"out": X.tolist()}, TypeError, "out must be a NumPy array, got list"),
    ({"out": np.ma.ones(X.shape, np.float32)}, TypeError,
     "out must be a NumPy array, got MaskedArray"),
    ({"out": np.ones((3, 4, 6), np.float32)}, ValueError,
     "out must have shape (2, 3, 4, 6), got (3, 4, 6)"),
    ({"out": np.ones(X.shape)}, ValueError, "out must have dtype float32, got float64"),
    ({"out": np.ones(X.shape, ">f4")}, ValueError, "out must have dtype float32, got >f4"),
    ({"out": frozen(X)}, ValueError, "out is read-only"),
    ({"out": np.lib.stride_tricks.as_strided(X.copy(), X.shape, (0, 96, 24, 4))}, ValueError,
     "out overlaps itself: shape (2, 3, 4, 6), strides (0, 96, 24, 4)"),
]  # fmt: skip


@pytest.mark.parametrize("given, kind, message", ROPE_ERRORS)
def test_errors_of_rope(given, kind, message):
    """Word for word; `out` is untouched."""
    x = given.get("x", X)
    out = np.full(np.shape(x), 7, np.float32)
    call = {"positions": None, "frequencies": QUARTER, "interleaved": False, "out": out} | given
    x = call.pop("x", X)
    before = np.array(call["out"])
    with pytest.raises(kind) as caught:
        rope(x, call.pop("positions"), call.pop("frequencies"), **call)
    assert str(caught.value) == "rope: " + message
    np.testing.assert_array_equal(call["out"], before)


def test_the_pairing_has_no_default():
    with pytest.raises(TypeError, match="interleaved"):
        rope(X, None, QUARTER)


BOTH_WAYS = "give frequencies and length, or cosines= and sines="
NOT_FREQUENCIES = "frequencies must be those of pyattn.positional.rope_frequencies, got "
OTHER_ERRORS = [
    ("rope_table", (), {}, ValueError, BOTH_WAYS),
    ("rope_table", (QUARTER,), {}, ValueError, BOTH_WAYS),
    ("rope_table", (None, 4), {}, ValueError, BOTH_WAYS),
    ("rope_table", (), {"cosines": X[0, 0]}, ValueError, BOTH_WAYS),
    ("rope_table", (), {"sines": X[0, 0]}, ValueError, BOTH_WAYS),
    ("rope_table", (QUARTER, None), {"sines": X[0, 0]}, ValueError, BOTH_WAYS),
    ("rope_table", (None, 4), {"cosines": X[0, 0]}, ValueError, BOTH_WAYS),
    ("rope_table", (QUARTER, 4), {"cosines": X[0, 0], "sines": X[0, 0]}, ValueError, BOTH_WAYS),
    ("rope_table", (QUARTER, 4), {"sines": X[0, 0]}, ValueError, BOTH_WAYS),
    ("rope_table", (QUARTER, 4.0), {}, TypeError, "length must be an integer, got float"),
    ("rope_table", (QUARTER, True), {}, TypeError, "length must be an integer, got bool"),
    ("rope_table", (QUARTER, -1), {}, ValueError, "length must be at least 0, got -1"),
    ("rope_table", (QUARTER, 2**32 + 1), {}, ValueError,
     "positions = 4294967296 is outside (-2**32, 2**32)"),
    ("rope_table", (THREE, 4), {}, ValueError, "these frequencies have 3 axes already"),
    ("rope_table", (["a"], 4), {}, TypeError,
     "frequencies must be of pyattn.positional.rope_frequencies, a RopeTable or an array of "
     "floats, got list of <U1"),
    ("rope_table", (), {"cosines": X[0, 0], "sines": X[0, 0, :3]}, ValueError,
     "cosines and sines must both be (positions, pairs): (4, 6) and (3, 6)"),
    ("rope_table", (), {"cosines": X[0], "sines": X[0]}, ValueError,
     "cosines and sines must both be (positions, pairs): (3, 4, 6) and (3, 4, 6)"),
    ("rope_table", (), {"cosines": X[0, 0, :, :0], "sines": X[0, 0, :, :0]}, ValueError,
     "cosines and sines must both be (positions, pairs): (4, 0) and (4, 0)"),
    ("rope_table", (), {"cosines": X[0, 0, 0], "sines": X[0, 0]}, ValueError,
     "cosines needs at least 2 axes (positions, pairs), got (6,)"),
    ("rope_table", (), {"cosines": X[0, 0], "sines": np.ones((4, 6), int)}, TypeError,
     "sines must be float16, bfloat16, float32 or float64, got int64: "
     "use sines.astype(numpy.float32)"),
    ("rope_sections", (np.ones(3), [1, 2]), {}, TypeError, NOT_FREQUENCIES + "ndarray"),
    ("rope_sections", (TABLE, [1, 1]), {}, TypeError, NOT_FREQUENCIES + "RopeTable"),
    ("rope_sections", (THREE, [1, 1, 1]), {}, ValueError, "these frequencies have 3 axes already"),
    ("rope_sections", (QUARTER, 2), {}, TypeError, "sections must be a list of integers, got 2"),
    ("rope_sections", (QUARTER, "2"), {}, TypeError,
     "sections must be a list of integers, got '2'"),
    ("rope_sections", (QUARTER, [1, 1.0]), {}, TypeError,
     "sections[1] must be an integer, got float"),
    ("rope_sections", (QUARTER, [3, -1]), {}, ValueError, "sections[1] must be at least 0, got -1"),
    ("rope_sections", (QUARTER, [1, 2]), {}, ValueError,
     "sections [1, 2] have 3 pairs, the frequencies have 2"),
    ("rope_sections", (QUARTER, [1, 1]), {"interleaved": 1}, TypeError,
     "interleaved must be True or False, got int"),
    ("rope_sections", (positional.rope_frequencies(16), [1, 3, 4]), {"interleaved": True},
     ValueError,
     "sections [1, 3, 4] cannot be interleaved: the last pair of axis 2 would be 11, there are 8"),
    ("rope_sections", (positional.rope_frequencies(16), [2, 3, 3]), {"interleaved": True},
     ValueError,
     "sections [2, 3, 3] cannot be interleaved: the last pair of axis 2 would be 8, there are 8"),
    ("rope_axial", (8,), {"axes": 0}, ValueError, "axes must be at least 1, got 0"),
    ("rope_axial", (8,), {"axes": 2.0}, TypeError, "axes must be an integer, got float"),
    ("rope_axial", (6,), {}, ValueError, "head_dim must be a multiple of 4, got 6"),
    ("rope_axial", (2,), {}, ValueError, "head_dim must be at least 4, got 2"),
    ("rope_axial", ("8",), {}, TypeError, "head_dim must be an integer, got str"),
    ("rope_axial", (8, 0), {}, ValueError, "theta must be positive and finite, got 0.0"),
    ("rope_axial", (8, np.inf), {}, ValueError, "theta must be positive and finite, got inf"),
    ("rope_axial", (8, 1), {}, ValueError,
     "theta must be within [1e-9, 1e30], and not 1, got 1.0"),
    ("rope_axial", (8, 1e31), {}, ValueError,
     "theta must be within [1e-9, 1e30], and not 1, got 1e+31"),
    ("rope_axial", (8, "1"), {}, TypeError, "theta must be a real number, got str"),
    ("grid_positions", (4,), {}, ValueError, "grid must be (height, width), got 4"),
    ("grid_positions", ((4, 4, 4),), {}, ValueError,
     "grid must be (height, width), got (4, 4, 4)"),
    ("grid_positions", ((4, 4.0),), {}, TypeError, "grid[1] must be an integer, got float"),
    ("grid_positions", ((-4, 4),), {}, ValueError, "grid[0] must be at least 0, got -4"),
    ("grid_positions", ((4, 4),), {"convention": "timm"}, ValueError,
     "convention must be 'pixel' or 'dinov3', got 'timm'"),
    ("xpos_frequencies", (7,), {}, ValueError, "head_dim must be a multiple of 2, got 7"),
    ("xpos_frequencies", (0,), {}, ValueError, "head_dim must be at least 2, got 0"),
    ("xpos_frequencies", (8, -1.0), {}, ValueError, "theta must be positive and finite, got -1.0"),
    ("xpos_frequencies", (8, 1.0), {}, ValueError,
     "theta must be within [1e-9, 1e30], and not 1, got 1.0"),
    ("xpos_frequencies", (8,), {"scale_base": 0}, ValueError,
     "scale_base must be positive and finite, got 0.0"),
    ("xpos_frequencies", (8,), {"keys": "yes"}, TypeError, "keys must be True or False, got str"),
]  # fmt: skip


@pytest.mark.parametrize("function, arguments, more, kind, message", OTHER_ERRORS)
def test_errors_of_the_others(function, arguments, more, kind, message):
    with pytest.raises(kind) as caught:
        getattr(positional, function)(*arguments, **more)
    assert str(caught.value) == f"{function}: {message}"


# --- what is kept from call to call


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_goes_stale(dtype, rng):
    """Arrays that the caller changes between calls are read again."""
    x = normal(rng, (9, 8), dtype)
    numbers = np.array([1.0, 0.5, 0.25, 0.125])
    for positions in (np.arange(9), np.arange(9) * 11, np.arange(9) / 3):
        for change in (positions, numbers, positions, numbers):
            got = rope(x, positions, numbers, interleaved=False)
            expected = reference.rope(x.astype(float), positions, numbers, interleaved=False)
            tolerance = {2: 0.03, 4: 1e-6, 8: 1e-12}[x.dtype.itemsize]
            np.testing.assert_allclose(got.astype(float), expected, rtol=0, atol=tolerance)
            change[...] = change + 1


def test_calls_that_look_alike(rng):
    """Tables are kept by frequencies, type, and positions with their type: all of these."""
    x = normal(rng, (2, 8), np.float64)
    eight, far = positional.rope_frequencies(8), positional.rope_frequencies(8, 5e5)
    bits = np.array([3, 9])
    cases = [
        (x.astype(dtype), positions, frequencies)
        for dtype in DTYPES
        for positions in (None, bits, bits + 1, bits + 2**20, [3, 4], [4, 5], bits.view(float))
        for frequencies in (eight, far)
    ]

    def one(case):
        return rope(*case, interleaved=False)

    first = [one(case) for case in cases]
    again = [one(case) for case in reversed(cases)][::-1]
    for (x, positions, frequencies), a, b in zip(cases, first, again, strict=True):
        assert_same_bits(a, b)
        theta = 1e4 if frequencies is eight else 5e5
        by = turns(np.arange(2) if positions is None else np.asarray(positions), 8, theta)
        assert_turned(a, x, by, False)


def test_results_are_ones_own(rng):
    """Writing into one changes no other; what is kept is not handed out."""
    x = normal(rng, (5, 8), np.float32)
    frequencies = positional.rope_frequencies(8)
    expected = rope(x, None, frequencies, interleaved=False).copy()
    rope(x, None, frequencies, interleaved=False)[...] = 7
    table = rope_table(frequencies, 5)
    assert not table.cosines.flags.writeable and not table.sines.flags.writeable
    for name in ("inv_freq", "axes", "decay"):
        assert not getattr(frequencies, name).flags.writeable
    assert_same_bits(rope(x, None, frequencies, interleaved=False), expected)


@pytest.mark.parametrize(
    "frequencies", [QUARTER, THREE, positional.xpos_frequencies(4, keys=True)], ids=str
)
def test_pickle(frequencies, rng):
    x = normal(rng, (5, 6), np.float64)
    positions = rng.integers(0, 99, (3, 5) if frequencies is THREE else 5)
    copy = pickle.loads(pickle.dumps(frequencies))
    got = rope(x, positions, copy, interleaved=True)
    assert_same_bits(got, rope(x, positions, frequencies, interleaved=True))


def test_many_python_threads(rng):
    """Each with calls of its own, more of them than tables are kept."""
    frequencies = [positional.rope_frequencies(8 + 2 * n) for n in range(4)]

    def case(n):
        x = np.random.default_rng(n).standard_normal((3, 60 + n, 16)).astype(DTYPES[n % 3])
        return x, (None, n, np.arange(60 + n) * n)[n % 3], frequencies[n % 4]

    cases = [case(n) for n in range(12)]
    expected = [rope(*c, interleaved=False) for c in cases]

    def loop(n):
        for _ in range(20):
            assert_same_bits(rope(*cases[n], interleaved=False), expected[n])

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(loop, range(12)))


@POSIX
def test_interrupt_and_fork():
    """A long call is left when a handler raises, one in place is not; a forked child computes."""
    code = """
import os, signal, numpy as np, pyattn
from pyattn import positional
frequencies = positional.rope_frequencies(64)
pyattn.set_num_threads(1)
pyattn.set_isa("generic")

def turned(x, out=None):
    return positional.rope(x, None, frequencies, interleaved=False, out=out)

def handler(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, handler)

x = np.broadcast_to(np.float16(1), (64, 8192, 64))  # columns that lie apart: slow
expected = turned(x[:2], np.empty((2, 8192, 64), np.float16))
out = np.zeros((*x.shape[:2], 128), np.float16)[..., ::2]
signal.setitimer(signal.ITIMER_REAL, 0.01)
try:
    turned(x, out)
except KeyboardInterrupt:
    assert not out[-1, -1].any(), "the call was over: make it longer"
else:
    raise AssertionError("the exception was lost")

out[...] = x
turned(out[:1, :1], out[:1, :1])
out[...] = x
signal.setitimer(signal.ITIMER_REAL, 0.01)
try:
    turned(out, out)
    while True:
        pass
except KeyboardInterrupt:
    assert (out == expected[0]).all()

pyattn.set_num_threads(2)
turned(x[:2])
child = os.fork()
right = np.array_equal(turned(x[:2]), expected)
if not child:
    os._exit(0 if right else 1)
assert right
assert os.waitpid(child, 0)[1] == 0
"""
    python(code, timeout=20)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.longlong, np.ulonglong, np.intp])
def test_positions_of_any_integer_type(kind):
    x = np.ones((4, 8), np.float32)
    frequencies = positional.rope_frequencies(8)
    table = positional.rope_table(frequencies, 4)
    expected = rope(x, [0, 3, 1, 2], frequencies, interleaved=False)
    for by in (frequencies, table):
        got = rope(x, np.array([0, 3, 1, 2], kind), by, interleaved=False)
        assert_same_bits(got, expected)


def test_tables_are_dropped_by_size(monkeypatch):
    """Those used last stay; one that is too large is made every time."""
    made = []

    def table(key, rows):
        def make():
            made.append(key)
            return np.zeros((rows, 2))

        return _kept.kept(key, make)

    monkeypatch.setattr(_kept, "_tables", {})
    monkeypatch.setattr(_kept, "BYTES", 10 * 16)
    for key, rows in [("a", 4), ("b", 4), ("a", 4), ("c", 4), ("a", 4), ("b", 4), ("d", 11)]:
        assert not table(key, rows).flags.writeable
    table("d", 11)
    assert made == ["a", "b", "c", "b", "d", "d"]
    assert sum(t.nbytes for t in _kept._tables.values()) <= _kept.BYTES
    monkeypatch.setattr(_kept, "TABLES", 2)
    for n in range(5):
        table(n, 1)
    assert list(_kept._tables) == [3, 4]


def test_tables_cannot_be_written():
    table = positional.rope_table(positional.rope_frequencies(8), 4)
    own = positional.rope_table(cosines=table.cosines, sines=table.sines)
    for t in (table, own, pickle.loads(pickle.dumps(table))):
        assert not t.numbers.flags.writeable
    again = pickle.loads(pickle.dumps(positional.rope_frequencies(8)))
    assert not again.inv_freq.flags.writeable


@pytest.mark.parametrize("size", [1, 63, 100, 1000, 2**16 + 63])
def test_the_copy_of_the_benchmark_copies_all(size):
    data = np.random.default_rng(size).integers(1, 255, size, np.uint8)
    to = np.zeros_like(data)
    _core.probe_copy(to, data)
    assert (to == data).all()
