"""Structured biases: loops over queries and keys, `numpy.asarray` and the terms agree."""

import pickle
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_masks import SIZES, assert_inside_its_buffer, lookup, scores_of

from pyattn import biases, masks

DTYPES = [np.float16, np.float32, np.float64]


def added_by(kind, a, scores, start):
    """What one term adds, as float64 (..., H, L, S), by the contract with the kernel."""
    *leading, queries, keys = scores
    assert_inside_its_buffer(a)
    assert a.dtype.isnative
    if kind == "table":
        assert a.shape[:-4] == tuple(leading)
        if a.dtype == np.uint16:  # bfloat16: the upper half of a float32
            a = (a.astype(np.uint32) << 16).view(np.float32)
        assert a.dtype in DTYPES
        return lookup(a, queries, keys).astype(np.float64)
    assert kind == "slopes" and a.dtype == np.float64 and a.shape == tuple(leading)
    out = np.empty(scores)
    for at in np.ndindex(scores):
        *head, i, j = at
        out[at] = -a[tuple(head)] * abs(j - i - start)
    return out


def from_terms(bias, scores, start=None):
    start = scores[-1] - scores[-2] if start is None else start
    total = np.zeros(scores)
    for kind, clause, a in biases.bias_terms("attention", bias, scores):
        assert clause == -1
        total += added_by(kind, a, scores, start)
    return total


def assert_adds(bias, expected, stretch=True):
    expected = np.asarray(expected)
    assert bias.shape == expected.shape
    dense = np.asarray(bias)
    assert dense.dtype == bias.dtype
    np.testing.assert_array_equal(dense, expected)
    one = scores_of(expected.shape, 1, 1, 1)
    for scores in {scores_of(expected.shape), one} if stretch else {one}:
        if expected.size:
            np.testing.assert_array_equal(
                from_terms(bias, scores), np.broadcast_to(expected, scores).astype(float)
            )
        else:  # just the kinds count
            assert biases.bias_terms("attention", bias, scores)
    again = pickle.loads(pickle.dumps(bias))
    assert repr(again) == repr(bias)
    np.testing.assert_array_equal(np.asarray(again), expected)


# Each kind.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(), (1,), (5,), (3, 5), (1, 5), (3, 1), (2, 3, 5), (2, 1, 3, 5), (0, 5), (2, 0)]
)
def test_dense(rng, shape, dtype):
    array = np.asarray(rng.standard_normal(shape)).astype(dtype)
    if array.size:
        array.flat[0] = -np.inf
    bias = biases.dense(array)
    assert bias.dtype == dtype
    assert_adds(bias, array)


def test_dense_with_any_strides(rng):
    array = rng.standard_normal((6, 4, 9, 10))
    for view in [
        array[::-2, :, ::-1, ::3],
        array.swapaxes(-1, -2),
        np.broadcast_to(array[0, 0, 0], (4, 9, 10)),
        array.view("c16").real,
        np.frombuffer(b"x" + array[0, 0].tobytes(), "f8", offset=1).reshape(9, 10),
    ]:
        bias = biases.dense(view)
        assert_adds(bias, view)
        for _, _, term in biases.bias_terms("f", bias, scores_of(view.shape)):
            assert np.shares_memory(term, view)


def test_foreign_byte_order_is_converted(rng):
    array = rng.standard_normal((3, 4)).astype(">f4")
    assert_adds(biases.dense(array), array)
    assert_adds(biases.relative(array[0, :3].copy(), 2), [[array[0, 1], array[0, 2]], array[0, :2]])


def test_bfloat16(rng):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    table = rng.standard_normal((3, 7)).astype(ml_dtypes.bfloat16)
    for bias in (
        biases.dense(table),
        biases.relative(table, 3, 5),
        biases.relative_grid(table, (2, 4)),
        biases.dense(table.T[::-1, 1:]),
    ):
        scores = scores_of(bias.shape)
        ((kind, _, term),) = biases.bias_terms("f", bias, scores)
        assert kind == "table" and term.dtype == np.uint16
        assert np.shares_memory(term, table.view(np.uint16))
        assert np.asarray(bias).dtype == ml_dtypes.bfloat16
        expected = np.broadcast_to(np.asarray(bias).astype(float), scores)
        np.testing.assert_array_equal(from_terms(bias, scores), expected)
    total = biases.dense(table) + biases.dense(table.astype(np.float16))
    assert np.asarray(total).dtype == np.float64


@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("leading", [(), (2,), (3, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_relative(rng, queries, keys, leading, dtype):
    table = rng.standard_normal((*leading, max(queries + keys - 1, 0))).astype(dtype)
    expected = np.empty((*leading, queries, keys), dtype)
    for i, j in product(range(queries), range(keys)):
        expected[..., i, j] = table[..., (j - i) + queries - 1]
    assert_adds(biases.relative(table, queries, keys), expected)
    if queries == keys:
        assert_adds(biases.relative(table, queries), expected)


@pytest.mark.parametrize("height, width", [(1, 1), (1, 4), (4, 1), (2, 3), (3, 2), (0, 3), (2, 0)])
@pytest.mark.parametrize("leading", [(), (2,), (3, 2)])
def test_relative_grid(rng, height, width, leading):
    table = rng.standard_normal((*leading, max(2 * height - 1, 0), max(2 * width - 1, 0)))
    pixels = list(product(range(height), range(width)))
    expected = np.empty((*leading, len(pixels), len(pixels)))
    for (i, (yi, xi)), (j, (yj, xj)) in product(enumerate(pixels), enumerate(pixels)):
        expected[..., i, j] = table[..., yi - yj + height - 1, xi - xj + width - 1]
    assert_adds(biases.relative_grid(table, (height, width)), expected)


def test_relative_grid_is_that_of_swin(rng):
    """By the index that the Swin code computes."""
    height, width, heads = 3, 4, 2
    parameter = rng.standard_normal(((2 * height - 1) * (2 * width - 1), heads))
    coordinates = np.stack(np.mgrid[:height, :width]).reshape(2, -1)
    distance = (coordinates[:, :, None] - coordinates[:, None, :]).transpose(1, 2, 0)
    distance += [height - 1, width - 1]
    index = distance[..., 0] * (2 * width - 1) + distance[..., 1]
    expected = parameter[index].transpose(2, 0, 1)
    table = parameter.reshape(2 * height - 1, 2 * width - 1, heads).transpose(2, 0, 1)
    bias = biases.relative_grid(table, (height, width))
    assert_adds(bias, expected)
    ((_, _, term),) = biases.bias_terms("f", bias, (1, heads, 12, 12))
    assert np.shares_memory(term, parameter)


@pytest.mark.parametrize("step", [1, -1, 2, -3])
def test_tables_with_any_strides_stay_inside(rng, step):
    """With the first and the last element at the ends of the buffer."""
    base = rng.standard_normal((2, 1 + 10 * abs(step)))
    line = base[:, ::step]
    assert line.shape[-1] == 11
    bias = biases.relative(line, 5, 7)
    assert_adds(bias, np.asarray(biases.relative(line.copy(), 5, 7)))
    plane = base[:, :9].reshape(2, 3, 3)[:, ::step, ::-1] if abs(step) == 1 else None
    if plane is not None:
        assert_adds(biases.relative_grid(plane, (2, 2)), biases.relative_grid(plane.copy(), (2, 2)))
    for _, _, term in biases.bias_terms("f", bias, (1, 2, 5, 7)):
        assert np.shares_memory(term, base)
        assert not term.flags.writeable


def test_tables_are_looked_at_again():
    table = np.zeros(5)
    bias = biases.relative(table, 3)
    table[2] = 7
    np.testing.assert_array_equal(np.asarray(bias), 7 * np.eye(3))


@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("leading", [(), (2,)])
def test_alibi(rng, queries, keys, leading):
    slopes = rng.standard_normal((*leading, 3))
    expected = np.empty((*leading, 3, queries, keys))
    for i, j in product(range(queries), range(keys)):
        expected[..., i, j] = -slopes * abs(j - (i + keys - queries))
    assert_adds(biases.alibi(slopes, queries, keys), expected, stretch=False)
    open_ = biases.alibi(slopes)
    assert open_.shape == (*leading, 3, None, None)
    if queries and keys:
        scores = (2, 3, queries, keys)
        np.testing.assert_array_equal(from_terms(open_, scores), np.broadcast_to(expected, scores))
        # The call's query_start, not that of the sizes.
        sized = biases.alibi(slopes, queries, keys)
        np.testing.assert_array_equal(
            from_terms(sized, scores, start=-4), from_terms(open_, scores, start=-4)
        )


def test_slopes_of_other_types():
    for slopes in ([1, 2], np.array([1, 2], "f2"), np.array([1, 2], ">f4"), np.array([1.0, 2.0])):
        ((kind, _, term),) = biases.bias_terms("f", biases.alibi(slopes), (4, 2, 5, 6))
        assert kind == "slopes"
        np.testing.assert_array_equal(term, np.broadcast_to([1.0, 2.0], (4, 2)))


def test_slopes_are_copied():
    slopes = np.array([1.0, 2.0])
    bias = biases.alibi(slopes)
    slopes[0] = np.nan
    ((_, _, term),) = biases.bias_terms("f", bias, (1, 2, 5, 6))
    np.testing.assert_array_equal(term, [[1.0, 2.0]])


def test_one_slope_for_all_heads():
    ((_, _, term),) = biases.bias_terms("f", biases.alibi([[0.5], [0.25]]), (2, 3, 5, 6))
    np.testing.assert_array_equal(term, [[0.5] * 3, [0.25] * 3])


def slopes_of_the_paper(n):
    """As in the authors' code."""

    def powers_of_two(n):
        start = 2 ** (-(2 ** -(np.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if np.log2(n).is_integer():
        return powers_of_two(n)
    closest = 2 ** int(np.floor(np.log2(n)))
    return powers_of_two(closest) + slopes_of_the_paper(2 * closest)[0::2][: n - closest]


@pytest.mark.parametrize("heads", [*range(1, 34), 40, 64, 71, 112, 128])
def test_alibi_slopes(heads):
    slopes = biases.alibi_slopes(heads)
    assert slopes.shape == (heads,) and slopes.dtype == np.float64
    np.testing.assert_allclose(slopes, slopes_of_the_paper(heads), rtol=1e-14)


def test_alibi_slopes_of_no_heads():
    assert biases.alibi_slopes(0).shape == (0,)
    assert biases.alibi(biases.alibi_slopes(0), 2).shape == (0, 2, 2)


# Sums.

L, S = 3, 4
LEAVES = {
    "wide": biases.dense(np.arange(4.0, dtype=np.float32)),
    "tall": biases.dense(np.arange(3.0)[:, None]),
    "heads": biases.dense(np.arange(24.0).reshape(2, 3, 4)),
    "batch": biases.dense(np.arange(24.0, dtype="f2").reshape(2, 1, 3, 4)),
    "hidden": biases.dense(np.where(np.eye(3, 4), -np.inf, 0)),
    "relative": biases.relative(np.arange(6.0), 3, 4),
    "alibi": biases.alibi([0.5, 0.25], 3, 4),
    "batch alibi": biases.alibi([[0.5], [0.25]], 3, 4),
    "array": np.arange(12.0, dtype=np.float32).reshape(3, 4),
}


@given(st.lists(st.sampled_from(sorted(LEAVES)), min_size=2, max_size=8), st.randoms())
def test_sums(names, random):
    found = [LEAVES[name] for name in names]
    expected = sum(np.asarray(x, dtype=float) for x in found)
    count = len(found)
    while len(found) > 1:  # in any order and association
        b = found.pop(random.randrange(len(found)))
        a = found.pop(random.randrange(len(found)))
        found.append(a + b)
    total = found[0]
    if isinstance(total, np.ndarray):
        return
    assert total.shape == expected.shape
    assert len(total.parts()) <= count
    np.testing.assert_array_equal(np.asarray(total), expected)
    np.testing.assert_array_equal(
        from_terms(total, (2, 2, L, S)), np.broadcast_to(expected, (2, 2, L, S))
    )
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(total))), expected)


def test_arrays_on_either_side():
    bias, array = LEAVES["relative"], LEAVES["array"]
    for total in (bias + array, array + bias, bias + array.tolist(), array.tolist() + bias):
        assert isinstance(total, biases.Bias)
        assert_adds(total, np.asarray(bias) + array)
    assert_adds(bias + 1.0, np.asarray(bias) + 1)
    assert_adds(np.float64(1) + bias, np.asarray(bias) + 1)


def test_open_sizes_in_sums():
    open_ = biases.alibi([1.0, 2.0])
    assert (open_ + open_).shape == (2, None, None)
    assert (open_ + np.zeros((3, 4))).shape == (2, 3, 4)
    assert (np.zeros((5, 1, 1, 4)) + open_).shape == (5, 2, None, 4)
    assert (np.zeros(4) + open_).shape == (2, None, 4)
    assert (open_ + np.zeros((1, 4))).shape == (open_ + np.zeros(4)).shape == (2, None, 4)


def test_limit():
    total = biases.dense([0.0])
    for _ in range(7):
        total = total + np.zeros(1)
    assert len(total.parts()) == 8
    with pytest.raises(ValueError) as error:
        total + np.zeros(1)
    assert str(error.value) == (
        "bias + bias: this bias has 9 parts, at most 8 are possible: "
        "make some of it dense with numpy.asarray(bias)"
    )


# Objects.


@pytest.mark.parametrize("bias", [LEAVES["heads"], LEAVES["alibi"] + LEAVES["array"]])
def test_immutable(bias):
    with pytest.raises(AttributeError):
        bias.shape = (1, 1)
    with pytest.raises((AttributeError, TypeError)):  # the latter: CPython's frozen slots
        bias.something = 1
    with pytest.raises(
        ValueError, match=r"^the truth value of a bias is ambiguous: combine with \+$"
    ):
        bool(bias)


def test_asarray():
    bias = LEAVES["relative"]
    assert np.asarray(bias, dtype="f4").dtype == np.float32
    with pytest.raises(ValueError, match=r"^a bias has no dense array to give without a copy$"):
        np.array(bias, copy=False)


def test_repr():
    assert repr(biases.dense(np.zeros((2, 3)))) == "<bias dense (2, 3)>"
    assert repr(biases.alibi([1.0])) == "<bias alibi (1, None, None)>"
    assert repr(biases.relative(np.zeros((3, 3)), 2) + 0.0) == "<bias relative + dense (3, 2, 2)>"


def test_large_biases_are_small():
    n = 1 << 17
    for bias in (
        biases.relative(np.zeros((4, 2 * n - 1), np.float32), n),
        biases.relative_grid(np.zeros((4, 511, 1023), np.float32), (256, 512)),
        biases.alibi(np.ones(4), n),
    ):
        biases.bias_terms("attention", bias, (2, 4, n, n))
        repr(bias)


# Errors, word for word.

NOT_FLOAT = "must be float16, bfloat16, float32 or float64, got "
CASES = [
    (lambda: biases.dense(np.eye(3, dtype=int)), TypeError,
     "dense: array " + NOT_FLOAT + "int64: use array.astype(numpy.float32)"),
    (lambda: biases.dense(np.eye(3, dtype="u2")), TypeError,
     "dense: array " + NOT_FLOAT + "uint16: use array.astype(numpy.float32)"),
    (lambda: biases.dense(np.eye(3, dtype=complex)), TypeError,
     "dense: array " + NOT_FLOAT + "complex128: use array.astype(numpy.float32)"),
    (lambda: biases.dense(np.eye(3, dtype=bool)), TypeError,
     "dense: array " + NOT_FLOAT + "bool: use mask="),
    (lambda: biases.dense(np.zeros(3, np.longdouble)), TypeError,
     f"dense: array {NOT_FLOAT}{np.dtype(np.longdouble)}: use array.astype(numpy.float32)"),
    (lambda: biases.dense(np.ma.masked_array([0.0])), TypeError,
     "dense: array is a masked array; its mask would be ignored: use array.filled(-numpy.inf)"),
    (lambda: biases.alibi(0.5), ValueError,
     "alibi: slopes needs at least 1 axis (heads), got ()"),
    (lambda: biases.alibi([0.5, np.nan]), ValueError,
     "alibi: slopes[1] = nan must be finite and at most 1e+30 in size"),
    (lambda: biases.alibi([[0.5], [-1e31]]), ValueError,
     "alibi: slopes[1, 0] = -1e+31 must be finite and at most 1e+30 in size"),
    (lambda: biases.alibi([True]), TypeError,
     "alibi: slopes must be real numbers, got bool"),
    (lambda: biases.alibi(np.ma.masked_array([0.0])), TypeError,
     "alibi: slopes must not be a masked array"),
    (lambda: biases.alibi([1.0], keys=3), ValueError,
     "alibi: keys= needs queries= too"),
    (lambda: biases.alibi([1.0], 2.5), TypeError,
     "alibi: queries must be an integer, got float"),
    (lambda: np.asarray(biases.alibi([1.0])), ValueError,
     "alibi: shape (1, None, None) has no sizes yet: give queries= and keys="),
    (lambda: np.asarray(biases.alibi([1.0]) + np.zeros((2, 3))), ValueError,
     "alibi: shape (1, None, None) has no sizes yet: give queries= and keys="),
    (lambda: biases.alibi_slopes(2.0), TypeError,
     "alibi_slopes: heads must be an integer, got float"),
    (lambda: biases.alibi_slopes(-1), ValueError,
     "alibi_slopes: heads must be at least 0, got -1"),
    (lambda: biases.relative(np.zeros((3, 8)), 4, 6), ValueError,
     "relative: table (3, 8) has 8 entries along its last axis, 4 queries and 6 keys need "
     "L + S - 1 = 9"),
    (lambda: biases.relative(0.0, 1), ValueError,
     "relative: table needs at least 1 axis (distances), got ()"),
    (lambda: biases.relative([0], 1), TypeError,
     "relative: table " + NOT_FLOAT + "int64: use table.astype(numpy.float32)"),
    (lambda: biases.relative_grid(np.zeros((2, 3, 5)), (3, 2)), ValueError,
     "relative_grid: the last axes of table (2, 3, 5) must be (5, 3), 2 * extent - 1 of the grid "
     "(3, 2)"),
    (lambda: biases.relative_grid(np.zeros(3), (1, 2)), ValueError,
     "relative_grid: table needs at least 2 axes (distances down, distances across), got (3,)"),
    (lambda: biases.relative_grid(np.zeros((3, 3)), 2), ValueError,
     "relative_grid: grid must be (height, width), got 2"),
    # operators
    (lambda: LEAVES["wide"] + 1, TypeError,
     "bias + array: array " + NOT_FLOAT + "int64: use array.astype(numpy.float32)"),
    (lambda: np.ones(4, bool) + LEAVES["wide"], TypeError,
     "array + bias: array " + NOT_FLOAT + "bool: use mask="),
    (lambda: LEAVES["wide"] + masks.documents([0, 4]), TypeError,
     "bias + array: array is a structured mask: use mask="),
    (lambda: LEAVES["relative"] + np.zeros((4, 4)), ValueError,
     "bias + bias: shapes (3, 4) and (4, 4) do not broadcast"),
    # as an argument of attention
    (lambda: biases.as_bias("attention", np.eye(3, dtype=bool)), TypeError,
     "attention: bias " + NOT_FLOAT + "bool: use mask="),
    (lambda: biases.as_bias("attention", np.eye(3, dtype=int)), TypeError,
     "attention: bias " + NOT_FLOAT + "int64: use bias.astype(numpy.float32)"),
    (lambda: biases.as_bias("attention", masks.documents([0, 4])), TypeError,
     "attention: bias is a structured mask: use mask="),
    (lambda: biases.bias_terms("attention", biases.alibi([1.0, 2.0, 3.0]), (1, 2, 4, 6)),
     ValueError, "attention: bias (3, None, None) does not broadcast to the scores (1, 2, 4, 6) "
     "[batch, heads, queries, keys]"),
    (lambda: biases.bias_terms("attention", LEAVES["heads"], (1, 1, 3, 4)),
     ValueError, "attention: bias (2, 3, 4) does not broadcast to the scores (1, 1, 3, 4) "
     "[batch, heads, queries, keys]"),
    # A row of ALiBi would mean something else for another query.
    (lambda: biases.bias_terms("attention", biases.alibi([1.0], 1, 6), (1, 2, 4, 6)),
     ValueError, "attention: bias (1, 1, 6) does not broadcast to the scores (1, 2, 4, 6) "
     "[batch, heads, queries, keys]"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", CASES, ids=[c[2][:60] for c in CASES])
def test_error(call, kind, message):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert str(error.value) == message
    assert error.type is kind


def test_as_bias():
    bias = LEAVES["relative"]
    assert biases.as_bias("attention", bias) is bias
    assert_adds(biases.as_bias("attention", [[0.5, -np.inf]]), [[0.5, -np.inf]])
