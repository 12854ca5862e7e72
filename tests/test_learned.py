"""Resampled tables: loops over pixels by the definition of the kernels, SciPy and PyTorch agree."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline
from support import assert_same_bits

from pyattn import positional

METHODS = list(product(["bicubic", "bilinear"], [False, True]))
GRIDS = [
    ((3, 4), (6, 8)),
    ((3, 4), (2, 3)),
    ((7, 5), (3, 11)),
    ((14, 9), (5, 2)),
    ((1, 6), (4, 3)),
    ((5, 1), (1, 1)),
    ((1, 1), (3, 2)),
    ((4, 4), (4, 7)),
    ((2, 9), (9, 2)),
]


def keys_kernel(x, a):
    """Keys 1981, equation 4 with the coefficients left to `a`."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def triangle(x):
    return max(0.0, 1 - abs(x))


def weights_of(new, extent, new_extent, method, antialias, offset):
    """{old: weight} of one new position of an axis."""
    if extent == new_extent and (antialias or method != "bicubic"):
        offset = 0  # as in PyTorch
    scale = extent / (new_extent + offset)
    centre = scale * (new + 0.5)
    found = {}
    if antialias:
        for old in range(extent):
            x = (old + 0.5 - centre) / max(scale, 1)
            found[old] = keys_kernel(x, -0.5) if method == "bicubic" else triangle(x)
        total = sum(found.values())
        return {old: weight / total for old, weight in found.items()}
    for place in range(math.floor(centre) - 4, math.floor(centre) + 5):
        x = place + 0.5 - centre
        old = min(max(place, 0), extent - 1)
        weight = keys_kernel(x, -0.75) if method == "bicubic" else triangle(x)
        found[old] = found.get(old, 0) + weight
    return found


def by_pixel(table, grid, new_grid, prefix, method, antialias, offset=0.0):
    image = table[prefix:].astype(float).reshape(*grid, -1)
    rows = list(table[:prefix].astype(float))
    for y, x in product(*map(range, new_grid)):
        down = weights_of(y, grid[0], new_grid[0], method, antialias, offset)
        across = weights_of(x, grid[1], new_grid[1], method, antialias, offset)
        rows.append(sum(v * w * image[i, j] for i, v in down.items() for j, w in across.items()))
    return np.array(rows)


@pytest.mark.parametrize("method, antialias", METHODS)
@pytest.mark.parametrize("grid, new_grid", GRIDS)
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_2d(rng, grid, new_grid, method, antialias, offset):
    table = rng.standard_normal((2 + math.prod(grid), 3))
    got = positional.resample_2d(
        table, grid, new_grid, prefix=2, method=method, antialias=antialias, offset=offset
    )
    expected = by_pixel(table, grid, new_grid, 2, method, antialias, offset)
    assert got.dtype == np.float64 and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", ["linear", "bicubic"])
@pytest.mark.parametrize("positions, length", [(5, 13), (13, 5), (1, 4), (4, 1), (2, 3), (40, 41)])
def test_1d(rng, positions, length, method, antialias):
    table = rng.standard_normal((1 + positions, 3))
    got = positional.resample_1d(table, length, prefix=1, method=method, antialias=antialias)
    expected = by_pixel(table, (positions, 1), (length, 1), 1, method, antialias)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


def centres(positions, length):
    return (np.arange(length) + 0.5) * positions / length


@pytest.mark.parametrize("positions, length", [(5, 13), (13, 5), (1, 4), (9, 10)])
def test_linear_is_numpys(rng, positions, length):
    table = rng.standard_normal((positions, 2))
    at = np.arange(positions) + 0.5
    expected = [np.interp(centres(positions, length), at, column) for column in table.T]
    np.testing.assert_allclose(
        positional.resample_1d(table, length).T, expected, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("positions, length", [(5, 13), (13, 5), (1, 4), (9, 10)])
def test_bicubic_is_a_hermite_spline(rng, positions, length):
    """With slopes -a times the difference of the neighbours, the border repeated."""
    table = rng.standard_normal((positions, 2))
    repeated = np.pad(table, [(3, 3), (0, 0)], mode="edge")
    at = np.arange(-2, positions + 2) + 0.5
    spline = CubicHermiteSpline(at, repeated[1:-1], 0.75 * (repeated[2:] - repeated[:-2]))
    expected = spline(centres(positions, length))
    got = positional.resample_1d(table, length, method="bicubic")
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


def test_antialiased_bicubic_is_catmull_rom_inside(rng):
    """Upwards: as plain bicubic, but with a = -0.5, for all that is not near the border."""
    table = rng.standard_normal((9, 2))
    spline = CubicHermiteSpline(np.arange(9) + 0.5, table, np.gradient(table, axis=0))
    got = positional.resample_1d(table, 31, method="bicubic", antialias=True)
    at = centres(9, 31)
    inside = (at > 1.5) & (at < 7.5)
    np.testing.assert_allclose(got[inside], spline(at[inside]), rtol=0, atol=1e-13)


def test_antialias_averages():
    """Halved lengths by the triangle: weights 1, 3, 3, 1."""
    table = np.zeros((8, 1))
    table[3] = 8
    got = positional.resample_1d(table, 4, antialias=True)
    np.testing.assert_allclose(got.T, [[0, 3, 1, 0]], atol=1e-15)


# torch.nn.functional.interpolate(..., align_corners=False) of PyTorch 2.13, in float64, for the
# 3 x 4 image sin(n * n), n = 0...11: method, antialias, offset, new grid, pixels.
PYTORCH = [
    ("bicubic", False, 0.0, (2, 6),
     [[-0.172453488436964, 0.402702779354675, 0.477822735521692, -0.678585947930828,
       -0.533927716928205, 0.108768599410661],
      [0.739326157797294, 0.049278717748208, -0.684670458286812, -0.733068234835354,
       -0.064955344523989, 0.606770141935770]]),
    ("bicubic", True, 0.0, (2, 6),
     [[-0.193287173194612, 0.247156168415690, 0.385163276710737, -0.726076541415150,
       -0.561460981068800, -0.097185239739395],
      [0.550311895729551, 0.035528717888608, -0.585537918266135, -0.728805557043865,
       -0.195830599750041, 0.323026980409836]]),
    ("bilinear", False, 0.0, (2, 6),
     [[-0.071975829166266, 0.263019735957606, 0.362421653427612, -0.579952937187858,
       -0.372447942050138, 0.070650700741449],
      [0.618043699481327, 0.056269883125522, -0.525873101724086, -0.607349775699296,
       -0.058522844420141, 0.510673255352817]]),
    ("bilinear", True, 0.0, (2, 6),
     [[-0.107963743749399, 0.184161857734435, 0.256086444413788, -0.624717614804141,
       -0.472500910558664, -0.100083191508704],
      [0.467052530123595, 0.011870313707698, -0.484159184879293, -0.647548313563673,
       -0.210896662533666, 0.266602270667435]]),
    # with scale_factor = (new + 0.1) / old
    ("bicubic", False, 0.1, (5, 2),
     [[0.573943626782931, -0.482982864175522], [0.243594774796781, -0.807949627056619],
      [-0.138882885171759, -1.084471598724349], [0.006216006065114, -0.498520236492734],
      [0.246829419196545, 0.107982430167974]]),
    ("bicubic", False, 0.1, (3, 2),
     [[0.517724882042420, -0.529116850310363], [-0.133241996246686, -1.089455396532041],
      [0.191004862930588, -0.053454829253568]]),
    ("bicubic", True, 0.1, (3, 2),
     [[0.307785476706194, -0.078541210806037], [-0.248897718290793, -0.878169275090332],
      [0.075242946671353, 0.036526401599328]]),
    ("bilinear", False, 0.1, (3, 2),
     [[0.380665445508334, -0.339330716540184], [-0.217534750837005, -0.978198067484672],
      [0.218874452078847, 0.031198953830719]]),
]  # fmt: skip


@pytest.mark.parametrize("method, antialias, offset, grid, pixels", PYTORCH)
def test_pytorch(method, antialias, offset, grid, pixels):
    table = np.sin(np.arange(12.0) ** 2)[:, None]
    got = positional.resample_2d(
        table, (3, 4), grid, prefix=0, method=method, antialias=antialias, offset=offset
    )
    np.testing.assert_allclose(got.reshape(grid), pixels, rtol=0, atol=1e-13)


def test_pytorch_1d():
    table = np.sin(np.arange(12.0) ** 2)[:, None]
    expected = [0.589029689365527, 0.342116305051075, -0.562065301770444, 0.732648169101163,
                -0.054811381359759]  # fmt: skip
    np.testing.assert_allclose(positional.resample_1d(table, 5)[:, 0], expected, rtol=0, atol=1e-13)


# Laws.


@pytest.mark.parametrize("method, antialias", METHODS)
@pytest.mark.parametrize("grid, new_grid", GRIDS)
def test_laws(rng, grid, new_grid, method, antialias):
    def resampled(image, new_grid):
        rows = image.reshape(-1, image.shape[-1])
        new = positional.resample_2d(
            rows, image.shape[:2], new_grid, prefix=0, method=method, antialias=antialias
        )
        return new.reshape(*new_grid, -1)

    image = rng.standard_normal((*grid, 3))
    new = resampled(image, new_grid)
    near = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(resampled(np.ones_like(image), new_grid), 1, **near)
    np.testing.assert_allclose(resampled(image[::-1], new_grid), new[::-1], **near)
    np.testing.assert_allclose(resampled(image[:, ::-1], new_grid), new[:, ::-1], **near)
    turned = resampled(image.swapaxes(0, 1), new_grid[::-1])
    np.testing.assert_allclose(turned.swapaxes(0, 1), new, **near)
    np.testing.assert_allclose(resampled(image[..., 1:2], new_grid), new[..., 1:2], **near)


def dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    return [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def test_same_grid_same_bits(rng):
    for dtype in dtypes():
        table = rng.standard_normal((2 + 12, 4)).astype(dtype)
        table[0, 0], table[3, 1], table[4, 2] = np.nan, np.inf, -0.0
        for offset, antialias in product([0.0, 0.1], [False, True]):
            got = positional.resample_2d(
                table, (3, 4), (3, 4), prefix=2, offset=offset, antialias=antialias
            )
            assert_same_bits(got, table)
        got = positional.resample_1d(table, 14)
        assert_same_bits(got, table)
        assert not np.shares_memory(got, table)


def test_prefix_is_kept_bit_for_bit(rng):
    for dtype in dtypes():
        table = rng.standard_normal((3 + 12, 4)).astype(dtype)
        table[0, 0], table[2, 1] = np.nan, -0.0
        assert_same_bits(positional.resample_2d(table, (3, 4), (5, 2), prefix=3)[:3], table[:3])
        assert_same_bits(positional.resample_1d(table, 5, prefix=3)[:3], table[:3])


def test_other_dtypes_are_computed_in_float64(rng):
    for dtype in dtypes():
        table = rng.standard_normal((1 + 30, 4)).astype(dtype)
        exact = positional.resample_2d(table.astype(np.float64), (5, 6), (8, 3))
        assert_same_bits(positional.resample_2d(table, (5, 6), (8, 3)), exact.astype(dtype))
        exact = positional.resample_1d(table.astype(np.float64), 7)
        assert_same_bits(positional.resample_1d(table, 7), exact.astype(dtype))


def test_any_layout(rng):
    table = rng.standard_normal((13, 4)).astype(np.float32)
    expected = positional.resample_2d(table, (3, 4), (4, 5))
    frozen = table.copy()
    frozen.flags.writeable = False
    wide = np.zeros((26, 8), np.float32)
    wide[::-2, ::2] = table
    for same in (np.asfortranarray(table), frozen, wide[::-2, ::2], table.astype(">f4")):
        assert_same_bits(positional.resample_2d(same, (3, 4), (4, 5)), expected)
    assert_same_bits(
        positional.resample_2d(table.tolist(), [3, 4], [4, 5]),
        positional.resample_2d(table.astype(np.float64), (3, 4), (4, 5)),
    )


@pytest.mark.parametrize("grid, new_grid", [((3, 2), (0, 4)), ((3, 2), (2, 0)), ((0, 2), (0, 5)),
                                            ((0, 0), (3, 0)), ((0, 3), (0, 3))])  # fmt: skip
def test_no_patches(rng, grid, new_grid):
    table = rng.standard_normal((1 + math.prod(grid), 3))
    for offset in (0.0, 0.5):
        assert_same_bits(positional.resample_2d(table, grid, new_grid, offset=offset), table[:1])


def test_empty():
    assert positional.resample_2d(np.zeros((13, 0)), (3, 4), (5, 6)).shape == (31, 0)
    assert positional.resample_1d(np.zeros((0, 3)), 0).shape == (0, 3)
    assert positional.resample_1d(np.zeros((2, 3)), 0, prefix=1).shape == (1, 3)
    assert positional.resample_1d(np.ones((2, 3)), 5, prefix=1).tolist() == [[1.0] * 3] * 6


# Errors, word for word.

TABLE = np.zeros((13, 4), np.float32)
NOT_FLOAT = "must be float16, bfloat16, float32 or float64, got "
CASES = [
    (lambda: positional.resample_2d(TABLE.astype(int), (3, 4), (5, 5)), TypeError,
     f"resample_2d: table {NOT_FLOAT}int64: use table.astype(numpy.float32)"),
    (lambda: positional.resample_2d(TABLE.astype(complex), (3, 4), (5, 5)), TypeError,
     f"resample_2d: table {NOT_FLOAT}complex128"),
    (lambda: positional.resample_1d(TABLE.astype(bool), 5), TypeError,
     f"resample_1d: table {NOT_FLOAT}bool"),
    (lambda: positional.resample_1d(np.ma.masked_array(TABLE), 5), TypeError,
     "resample_1d: table must not be a masked array"),
    (lambda: positional.resample_2d(TABLE[None], (3, 4), (5, 5)), ValueError,
     "resample_2d: table must be (positions, channels), got (1, 13, 4)"),
    (lambda: positional.resample_1d(TABLE[0], 5), ValueError,
     "resample_1d: table must be (positions, channels), got (4,)"),
    (lambda: positional.resample_1d(TABLE, 5.0), TypeError,
     "resample_1d: length must be an integer, got float"),
    (lambda: positional.resample_1d(TABLE, -1), ValueError,
     "resample_1d: length must be at least 0, got -1"),
    (lambda: positional.resample_1d(TABLE, 5, prefix=-1), ValueError,
     "resample_1d: prefix must be at least 0, got -1"),
    (lambda: positional.resample_1d(TABLE, 5, prefix=14), ValueError,
     "resample_1d: table (13, 4) has 13 rows, fewer than prefix = 14"),
    (lambda: positional.resample_1d(TABLE, 5, prefix=13), ValueError,
     "resample_1d: 0 positions cannot be resampled to 5"),
    (lambda: positional.resample_1d(TABLE, 5, method="bilinear"), ValueError,
     "resample_1d: method must be 'linear' or 'bicubic', got 'bilinear'"),
    (lambda: positional.resample_1d(TABLE, 5, antialias=1), TypeError,
     "resample_1d: antialias must be True or False, got int"),
    (lambda: positional.resample_2d(TABLE, 12, (5, 5)), ValueError,
     "resample_2d: grid must be (height, width), got 12"),
    (lambda: positional.resample_2d(TABLE, (3, 4), (5,)), ValueError,
     "resample_2d: new_grid must be (height, width), got (5,)"),
    (lambda: positional.resample_2d(TABLE, (3, 4), (5, 5.0)), TypeError,
     "resample_2d: new_grid[1] must be an integer, got float"),
    (lambda: positional.resample_2d(TABLE, (-3, 4), (5, 5)), ValueError,
     "resample_2d: grid[0] must be at least 0, got -3"),
    (lambda: positional.resample_2d(TABLE, (3, 4), (5, 5), prefix=0), ValueError,
     "resample_2d: table (13, 4) has 13 rows, prefix = 0 and grid (3, 4) need "
     "prefix + height * width = 12"),
    (lambda: positional.resample_2d(TABLE[:1], (0, 4), (5, 6)), ValueError,
     "resample_2d: 0x4 positions cannot be resampled to 5x6"),
    (lambda: positional.resample_2d(TABLE, (3, 4), (5, 5), method="nearest"), ValueError,
     "resample_2d: method must be 'bicubic' or 'bilinear', got 'nearest'"),
    (lambda: positional.resample_2d(TABLE, (3, 4), (5, 5), method=3), ValueError,
     "resample_2d: method must be 'bicubic' or 'bilinear', got 3"),
    (lambda: positional.resample_2d(TABLE, (3, 4), (5, 5), antialias=None), TypeError,
     "resample_2d: antialias must be True or False, got NoneType"),
    (lambda: positional.resample_2d(TABLE, (3, 4), (5, 5), offset=1), ValueError,
     "resample_2d: offset must be within [0, 1), got 1.0"),
    (lambda: positional.resample_2d(TABLE, (3, 4), (5, 5), offset=np.nan), ValueError,
     "resample_2d: offset must be within [0, 1), got nan"),
    (lambda: positional.resample_2d(TABLE, (3, 4), (5, 5), offset="0.1"), TypeError,
     "resample_2d: offset must be a real number, got str"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", CASES, ids=[c[2][:60] for c in CASES])
def test_error(call, kind, message):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert str(error.value) == message
    assert error.type is kind
