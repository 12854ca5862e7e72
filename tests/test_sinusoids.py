"""Sines and cosines as positions: against many digits, and loops written from the definitions."""

import math
from functools import cache
from itertools import product

import mpmath
import numpy as np
import pytest
from cases import HALVES
from support import FLOATS
from test_rope import DIGITS, MASKED, long, ulp

from pyattn.positional._sinusoids import sinusoidal, sinusoidal_2d

DTYPES = (*HALVES, *FLOATS)
ORDERS = ("interleaved", "concat", "concat_cos_first")
DENOMINATORS = ("d", "half-1")


@cache
def sine_cosine(position, base, numerator, denominator):
    """Of ``position * base ** (-numerator / denominator)``."""
    with mpmath.workdps(DIGITS):
        exponent = mpmath.mpf(numerator) / denominator
        cosine, sine = mpmath.cos_sin(mpmath.mpf(position) * mpmath.mpf(base) ** -exponent)
        return long(sine), long(cosine)


def encoded(position, dim, base, order, denominator):
    """Number by number, as the docstring has it."""
    half = dim // 2
    frequencies = half + dim % 2 if order == "interleaved" else half

    def pair(i):
        if denominator == "d":
            return sine_cosine(position, base, 2 * i, dim)
        return sine_cosine(position, base, i, max(frequencies - 1, 1))

    if order == "interleaved":
        return [pair(j // 2)[j % 2] for j in range(dim)]
    first, second = (0, 1) if order == "concat" else (1, 0)
    numbers = [pair(j)[first] for j in range(half)] + [pair(j)[second] for j in range(half)]
    return numbers + [0] * (dim % 2)


def exact(positions, dim, *, base=10000.0, order="interleaved", denominator="d"):
    flat = np.ravel(positions).tolist()
    rows = [encoded(p, dim, base, order, denominator) for p in flat]
    return np.array(rows, np.longdouble).reshape(*np.shape(positions), dim)


def assert_rounded(got, expected, units, lost=0.0):
    """Right to so many units in the last place of each number, beside what was lost before."""
    error = abs(got.astype(np.float64) - expected)
    assert (error <= units * ulp(expected, got.dtype) + lost).all()


@pytest.mark.parametrize("order, denominator", list(product(ORDERS, DENOMINATORS)))
def test_definition(order, denominator):
    for dim, base in product((1, 2, 3, 4, 5, 6, 7, 16, 33), (10000.0, 500000, 0.5)):
        got = sinusoidal(6, dim, base=base, order=order, denominator=denominator)
        expected = exact(np.arange(6), dim, base=base, order=order, denominator=denominator)
        assert got.dtype == np.float32 and got.shape == (6, dim)
        assert_rounded(got, expected, 0.501)
        assert ((got == 0) | (expected != 0)).all()


def test_papers():
    """The formula of Vaswani et al., section 3.5, and that of tensor2tensor, in float64."""
    got = sinusoidal(9, 8, dtype=np.float64)
    for p, i in product(range(9), range(4)):
        assert got[p, 2 * i] == pytest.approx(math.sin(p / 10000 ** (2 * i / 8)), abs=1e-14)
        assert got[p, 2 * i + 1] == pytest.approx(math.cos(p / 10000 ** (2 * i / 8)), abs=1e-14)
    got = sinusoidal(9, 8, order="concat", denominator="half-1", dtype=np.float64)
    step = math.log(10000) / (4 - 1)
    for p, i in product(range(9), range(4)):
        assert got[p, i] == pytest.approx(math.sin(p * math.exp(-i * step)), abs=1e-14)
        assert got[p, 4 + i] == pytest.approx(math.cos(p * math.exp(-i * step)), abs=1e-14)


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_any_position(denominator, rng):
    """Right to 0.5 ulp of float32 and 2 of float64, up to 2**24 and beyond, of any sign."""
    positions = np.concatenate(
        [
            rng.integers(0, 2**24, 40),
            rng.integers(-(2**24), 0, 20),
            [2**24, -(2**24), 710, 103993, 5419351, -245850922, 2**32 - 1],
        ]
    )
    expected = exact(positions, 64, denominator=denominator)
    wide = sinusoidal(positions, 64, denominator=denominator, dtype=np.float64)
    assert_rounded(wide, expected, 2)
    assert_rounded(sinusoidal(positions, 64, denominator=denominator), expected, 0.501)
    as_floats = sinusoidal(positions.astype(float), 64, denominator=denominator)
    assert_rounded(as_floats, expected, 0.501)


def test_between_positions(rng):
    """Time steps need not be whole; what is lost is lost of a turn, not of the number."""
    positions = rng.uniform(-1, 1, (4, 15)) * 10.0 ** rng.integers(-10, 8, (4, 15))
    expected = exact(positions, 32)
    assert_rounded(sinusoidal(positions, 32), expected, 0.501, 2e-15)
    assert_rounded(sinusoidal(positions, 32, dtype=np.float64), expected, 0, 2e-15)
    near = positions[abs(positions) < 0.1].astype(np.float32)  # relatively too, near 0
    assert_rounded(sinusoidal(near, 32), exact(near, 32), 0.501)


@pytest.mark.parametrize("dtype", [*DTYPES, "f4", ">f4", "float16", float])
def test_types(dtype):
    got = sinusoidal(20, 9, dtype=dtype)
    assert got.dtype == np.dtype(dtype).newbyteorder("=") and got.dtype.isnative
    units = 2 if got.dtype == np.float64 else 0.501
    assert_rounded(got, exact(np.arange(20), 9), units)
    for dim, grid in ((8, (3, 2)), (12, (1, 4))):
        for convention in ("mae", "detr"):
            flat = sinusoidal_2d(grid, dim, convention=convention, dtype=dtype)
            wide = sinusoidal_2d(grid, dim, convention=convention, dtype=np.float64)
            assert flat.dtype == got.dtype
            assert_rounded(flat, wide.astype(np.longdouble), 0.501)


def test_shapes():
    """How many, or which ones, of any shape: a count is the positions from 0 on."""
    expected = sinusoidal(np.arange(12), 6)
    for same in (12, np.int8(12), list(range(12)), np.arange(12.0), np.arange(12, dtype="u1")):
        np.testing.assert_array_equal(sinusoidal(same, 6), expected)
    grid = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(sinusoidal(grid, 6), expected.reshape(3, 4, 6))
    np.testing.assert_array_equal(sinusoidal(grid.T, 6), expected.reshape(3, 4, 6).swapaxes(0, 1))
    np.testing.assert_array_equal(sinusoidal(5.0, 6), expected[5])
    np.testing.assert_array_equal(sinusoidal(np.array(5), 6), expected[5])
    for empty in (0, [], np.zeros((0,), int)):
        assert sinusoidal(empty, 6).shape == (0, 6)
    for order in ORDERS:
        assert sinusoidal(3, 0, order=order).shape == (3, 0)


def test_more_angles_than_are_computed_at_a_time():
    """Blocks of rows join without a seam."""
    positions = np.arange(2**12)
    got = sinusoidal(positions, 66, dtype=np.float64)
    frequencies = 10000.0 ** (-np.arange(33) / 33)
    np.testing.assert_allclose(got[:, 0::2], np.sin(positions[:, None] * frequencies), atol=2e-12)
    np.testing.assert_allclose(got[:, 1::2], np.cos(positions[:, None] * frequencies), atol=2e-12)
    for part in (slice(0, 7), slice(1980, 1990), slice(4090, 4096)):
        np.testing.assert_array_equal(sinusoidal(positions[part], 66, dtype="f8"), got[part])


# --- on grids


def mae(height, width, dim, base):
    """get_2d_sincos_pos_embed of MAE's util/pos_embed.py: x in the first half."""
    rows, quarter = [], dim // 4
    for y, x in product(range(height), range(width)):
        row = []
        for position in (x, y):
            angles = [position / base ** (k / quarter) for k in range(quarter)]
            row += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        rows.append(row)
    return np.reshape(rows, (height * width, dim))


def detr(mask, dim, base, normalize):
    """PositionEmbeddingSine of DETR's models/position_encoding.py for one image: y first."""
    height, width = mask.shape
    rows, half = [], dim // 2
    for i, j in product(range(height), range(width)):
        y, x = float(mask[: i + 1, j].sum()), float(mask[i, : j + 1].sum())
        if normalize:
            y = y / (mask[:, j].sum() + 1e-6) * 2 * math.pi
            x = x / (mask[i].sum() + 1e-6) * 2 * math.pi
        row = []
        for position in (y, x):
            for k in range(half):
                angle = position / base ** (2 * (k // 2) / half)
                row.append(math.cos(angle) if k % 2 else math.sin(angle))
        rows.append(row)
    return np.reshape(rows, (height * width, dim))


GRIDS = [(1, 1), (2, 5), (5, 2), (4, 4), (1, 7), (0, 3), (3, 0)]


@pytest.mark.parametrize("grid", GRIDS)
def test_mae(grid):
    for dim, base in product((4, 8, 20), (10000.0, 20)):
        got = sinusoidal_2d(grid, dim, convention="mae", base=base, dtype=np.float64)
        np.testing.assert_allclose(got, mae(*grid, dim, base), rtol=0, atol=1e-14)
        single = sinusoidal_2d(list(grid), dim, convention="mae", base=base)
        assert single.dtype == np.float32
        np.testing.assert_array_equal(single, got.astype(np.float32))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("grid", GRIDS)
def test_detr(grid, normalize, rng):
    """Without a mask, with one, and with those of several images."""
    masks = rng.random((2, 2, *grid)) < 0.6
    masks[0, 0] = False
    masks[0, 1, grid[0] // 2 :] = False
    masks[1, 0, :, grid[1] // 2 :] = False
    for dim, base in ((4, 10000.0), (8, 20), (20, 10000.0)):
        more = {"convention": "detr", "base": base, "normalize": normalize, "dtype": np.float64}
        got = sinusoidal_2d(grid, dim, **more)
        expected = detr(np.ones(grid, bool), dim, base, normalize)
        assert got.shape == (grid[0] * grid[1], dim)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)
        got = sinusoidal_2d(grid, dim, mask=masks, **more)
        assert got.shape == (2, 2, grid[0] * grid[1], dim)
        for index in np.ndindex(2, 2):
            expected = detr(masks[index], dim, base, normalize)
            np.testing.assert_allclose(got[index], expected, rtol=0, atol=1e-14)
            one = sinusoidal_2d(grid, dim, mask=masks[index], **more)
            np.testing.assert_array_equal(one, got[index])


def test_detr_normalizes_by_default():
    first, last = sinusoidal_2d((3, 3), 4, convention="detr", dtype=np.float64)[[0, -1]]
    np.testing.assert_allclose(first, [3**0.5 / 2, -0.5] * 2, atol=1e-5)
    np.testing.assert_allclose(last, [0, 1] * 2, atol=1e-5)


# --- errors

BASE = "base must be within [1e-9, 1e30], and not 1, got "


@pytest.mark.parametrize("given, kind, message", [
    ({"positions": -1}, ValueError, "positions must be at least 0, got -1"),
    ({"positions": 2**63}, ValueError,
     "positions must be at most 4611686018427387904, got 9223372036854775808"),
    ({"positions": True}, TypeError, "positions must be real numbers, got bool"),
    ({"positions": "5"}, TypeError, "positions must be real numbers, got <U1"),
    ({"positions": None}, TypeError, "positions must be real numbers, got object"),
    ({"positions": [1j]}, TypeError, "positions must be real numbers, got complex128"),
    ({"positions": MASKED}, TypeError, "positions must not be a masked array"),
    ({"positions": [1, np.nan]}, ValueError, "positions[1] = nan is outside (-2**32, 2**32)"),
    ({"positions": np.inf}, ValueError, "positions = inf is outside (-2**32, 2**32)"),
    ({"positions": [[0, -(2**32)]]}, ValueError,
     "positions[0, 1] = -4294967296 is outside (-2**32, 2**32)"),
    ({"dim": -2}, ValueError, "dim must be at least 0, got -2"),
    ({"dim": 4.0}, TypeError, "dim must be an integer, got float"),
    ({"dim": True}, TypeError, "dim must be an integer, got bool"),
    ({"base": 0}, ValueError, "base must be positive and finite, got 0.0"),
    ({"base": -1e4}, ValueError, "base must be positive and finite, got -10000.0"),
    ({"base": math.nan}, ValueError, "base must be positive and finite, got nan"),
    ({"base": 1}, ValueError, BASE + "1.0"),
    ({"base": 1e-10}, ValueError, BASE + "1e-10"),
    ({"base": 1e31}, ValueError, BASE + "1e+31"),
    ({"base": "e"}, TypeError, "base must be a real number, got str"),
    ({"order": "sincos"}, ValueError,
     "order must be 'interleaved', 'concat' or 'concat_cos_first', got 'sincos'"),
    ({"order": None}, ValueError,
     "order must be 'interleaved', 'concat' or 'concat_cos_first', got None"),
    ({"denominator": "half"}, ValueError, "denominator must be 'd' or 'half-1', got 'half'"),
    ({"dtype": np.int32}, TypeError,
     "dtype must be float16, bfloat16, float32 or float64, got <class 'numpy.int32'>"),
    ({"dtype": None}, TypeError,
     "dtype must be float16, bfloat16, float32 or float64, got None"),
    ({"dtype": "floaty"}, TypeError,
     "dtype must be float16, bfloat16, float32 or float64, got 'floaty'"),
])  # fmt: skip
def test_errors(given, kind, message):
    call = {"positions": 4, "dim": 8} | given
    with pytest.raises(kind) as caught:
        sinusoidal(call.pop("positions"), call.pop("dim"), **call)
    assert str(caught.value) == "sinusoidal: " + message


@pytest.mark.parametrize("given, kind, message", [
    ({"grid": 4}, ValueError, "grid must be (height, width), got 4"),
    ({"grid": (4, 4, 4)}, ValueError, "grid must be (height, width), got (4, 4, 4)"),
    ({"grid": (4, 4.0)}, TypeError, "grid[1] must be an integer, got float"),
    ({"grid": (-4, 4)}, ValueError, "grid[0] must be at least 0, got -4"),
    ({"dim": 6}, ValueError, "dim must be a multiple of 4, got 6"),
    ({"dim": 0}, ValueError, "dim must be at least 4, got 0"),
    ({"dim": 8.0}, TypeError, "dim must be an integer, got float"),
    ({"base": 0.0}, ValueError, "base must be positive and finite, got 0.0"),
    ({"base": 1.0}, ValueError, BASE + "1.0"),
    ({"convention": "vit"}, ValueError, "convention must be 'mae' or 'detr', got 'vit'"),
    ({"convention": "mae", "mask": np.ones((2, 3), bool)}, ValueError,
     "the convention 'mae' does not count by a mask: use 'detr'"),
    ({"mask": np.ones((2, 3))}, TypeError, "mask must be boolean (True = a pixel), got float64"),
    ({"mask": np.ones((3, 2), bool)}, ValueError, "mask must be (..., 2, 3), got (3, 2)"),
    ({"mask": np.ones(3, bool)}, ValueError, "mask must be (..., 2, 3), got (3,)"),
    ({"dtype": "i4"}, TypeError,
     "dtype must be float16, bfloat16, float32 or float64, got 'i4'"),
])  # fmt: skip
def test_errors_on_grids(given, kind, message):
    call = {"grid": (2, 3), "dim": 8, "convention": "detr"} | given
    with pytest.raises(kind) as caught:
        sinusoidal_2d(call.pop("grid"), call.pop("dim"), **call)
    assert str(caught.value) == "sinusoidal_2d: " + message
