"""`attention`, `attention_weights` and `merge_attention` against the slow twins, over the product
of their options, in the unit of `accuracy.py`."""

from itertools import pairwise

import accuracy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import EDGES, FLOATS, LONG_EDGES, OPTIONS, assert_same_bits, operands

import pyattn
from pyattn import reference

EXTENTS = st.one_of(st.sampled_from([0, 1, 2]), st.sampled_from(EDGES), st.integers(1, 80))
SIZES = st.one_of(st.sampled_from([0, 1, 2]), st.integers(1, 130))


@st.composite
def calls(draw, operands=3):
    """(query, key, value)[:operands], options of a call that is right in every respect."""
    dtype = draw(st.sampled_from(FLOATS))
    kv_heads, group = draw(st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2), (0, 1), (3, 5)]))
    queries, keys, d, dv = draw(EXTENTS), draw(EXTENTS), draw(SIZES), draw(SIZES)
    leading = draw(st.sampled_from([(), (1,), (2,), (3,), (2, 2), (2, 1, 2), (0,)]))
    layout = draw(st.sampled_from(["bhld", "blhd"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def operand(heads, length, size):
        axes = list(leading[draw(st.integers(0, len(leading))) :])
        axes = [1 if draw(st.booleans()) else n for n in axes]
        shape = (*axes, heads, length, size)
        if layout == "blhd":
            shape = (*axes, length, heads, size)
        x = rng.standard_normal(shape).astype(dtype)
        if not axes and heads == 1 and draw(st.booleans()):
            x = x.reshape(length, size)
        return x

    heads = kv_heads * group
    shapes = (heads, queries, d), (kv_heads, keys, d), (kv_heads, keys, dv)
    arrays = [operand(*shape) for shape in shapes[:operands]]
    lead = np.broadcast_shapes(*(x.shape[:-3] for x in arrays))
    options = {"layout": layout}

    def per_batch(low, high):
        # Any shape that broadcasts to the batch: one number, or trailing axes of it.
        shape = lead[draw(st.integers(0, len(lead))) :]
        numbers = rng.integers(low, high, size=shape, endpoint=True)
        return int(numbers) if numbers.ndim == 0 and draw(st.booleans()) else numbers

    if draw(st.booleans()):
        options["causal"] = draw(st.booleans())
        if draw(st.booleans()):
            options["query_start"] = per_batch(-queries - 2, keys + 2)
    if draw(st.booleans()):
        options["key_lengths"] = per_batch(0, draw(st.sampled_from([0, keys])))
    options["scale"] = draw(st.sampled_from([None, None, 0.0, -0.7, 1, 30.0]))
    return arrays, options


def check(arrays, options):
    """One call in all its forms: with and without lse, with `out`."""
    out, lse = pyattn.attention(*arrays, return_lse=True, **options)
    assert out.dtype == lse.dtype == arrays[0].dtype
    e = accuracy.errors((out, lse), *arrays, **options)
    assert max(e.out, e.lse) <= 2 * accuracy.LIMIT, e  # test_accuracy.py has the narrow limit
    given_out = np.full_like(out, np.nan)
    assert pyattn.attention(*arrays, out=given_out, **options) is given_out
    assert_same_bits(given_out, out)


@given(call=calls())
def test_any_call(isa, call):
    check(*call)


@given(call=calls(operands=2))
def test_any_weights(isa, call):
    (q, k), options = call
    weights = pyattn.attention_weights(q, k, **options)
    wide = accuracy.ORACLE[q.dtype]
    expected = reference.attention_weights(q.astype(wide), k.astype(wide), **options)
    assert weights.dtype == q.dtype
    assert weights.shape == expected.shape
    assert np.array_equal(weights == 0, expected == 0) or abs(options["scale"] or 1) > 1
    scale = abs(q.shape[-1] ** -0.5 if options["scale"] is None and q.shape[-1] else 1)
    scale = scale if options["scale"] is None else abs(options["scale"])
    largest = np.abs(q).max(initial=0) * np.abs(k).max(initial=0) * q.shape[-1] * scale
    error = np.abs(weights - expected)
    unit = accuracy.UNIT[q.dtype]
    assert (error <= unit * (8 * (1 + largest) * expected + 1e-30)).all()


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_block_edges(isa, dtype, option, rng):
    """Every length around the edges of blocks, as L and as S."""
    for i, keys in enumerate(EDGES):
        queries = EDGES[-1 - i]
        for heads, kv_heads in ((1, 1), (3, 1)):
            arrays = operands(
                rng, 2, heads, queries, keys, d=4, dv=3, kv_heads=kv_heads, dtype=dtype
            )
            check(arrays, OPTIONS[option](2, queries, keys))


@pytest.mark.parametrize("option", OPTIONS)
def test_chunk_edges(isa, option, rng):
    for keys in LONG_EDGES:
        check(operands(rng, 3, 2, 5, keys, d=8, kv_heads=1), OPTIONS[option](3, 5, keys))
    # Enough units (64) that a unit goes through its chunks by itself.
    check(operands(rng, 40, 2, 2, 1025, d=4, dv=2), OPTIONS[option](40, 2, 1025))


@pytest.mark.parametrize("d", [*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 256])
def test_head_sizes(isa, d, rng):
    for dtype in FLOATS:
        for dv in (1, d, d + 1):
            check(operands(rng, 1, 2, 18, 21, d=d, dv=dv, dtype=dtype), {"causal": True})


def test_more_panels_than_a_unit_holds(isa, rng):
    for heads in (1, 4, 33):
        check(operands(rng, 1, heads, 700, 70, d=2, kv_heads=1, dv=2), {"causal": True})
    check(operands(rng, 30, 2, 300, 70, d=2, dv=2), {"causal": True})


@pytest.mark.parametrize("dtype", FLOATS)
def test_empty_rows_are_positive_zero(isa, dtype, rng):
    q, k, v = operands(rng, 2, 2, 70, 66, dtype=dtype)
    v -= 10  # sums of negative numbers, so that a -0 would show
    minus_infinity = np.full((1, 2, 70), -np.inf, dtype)
    nothing = np.zeros((1, 2, 70, 16), dtype)
    for options in (
        {"causal": True, "query_start": [-30, -70]},
        {"key_lengths": [66, 0]},
        {"causal": True, "query_start": 66, "key_lengths": [5, 0]},
    ):
        out, lse = pyattn.attention(q, k, v, return_lse=True, **options)
        assert_same_bits(out[1:], nothing)
        assert_same_bits(lse[1:], minus_infinity)
        weights = pyattn.attention_weights(q, k, **options)
        assert_same_bits(weights[1:], np.zeros((1, 2, 70, 66), dtype))
        assert np.isfinite(lse[0, :, 30:]).all()
        # Of batch element 0, the first 30 rows see nothing in the first call.
        if np.ndim(options.get("query_start")):
            assert_same_bits(out[0, :, :30], nothing[0, :, :30])
            assert_same_bits(lse[0, :, :30], minus_infinity[0, :, :30])
    out, lse = pyattn.attention(q, k[..., :0, :], v[..., :0, :], return_lse=True)
    assert_same_bits(out, np.zeros_like(q))
    assert_same_bits(lse, np.full_like(lse, -np.inf))


def test_sum_of_zero_is_positive_zero(isa):
    """Like NumPy's 0 + -0; so the sign of zero does not depend on how rows are stored."""
    for size in (3, 40):
        x = np.full((2, 5, size), -0.0, np.float32)
        strided = np.zeros((2, 5, 2 * size), np.float32)[..., ::2]
        assert_same_bits(pyattn.attention(x, x, x), np.zeros_like(x))
        assert_same_bits(pyattn.attention(x, x, x, out=strided), np.zeros_like(x))


def test_causal_by_example(isa):
    """The drawings in the docstring."""
    q, k = np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32)
    end_aligned = [[1, 1, 1, 0], [1, 1, 1, 1]]
    top_left = [[1, 0, 0, 0], [1, 1, 0, 0]]
    for options, seen in (({}, end_aligned), ({"query_start": 0}, top_left)):
        weights = pyattn.attention_weights(q, k, causal=True, **options)
        assert np.array_equal(weights > 0, np.array(seen) > 0)


def test_grouped_heads_by_example(isa, rng):
    """With 6 query heads and 2 key heads, heads 0, 1, 2 attend to head 0, and 3, 4, 5 to head 1."""
    q, k, v = operands(rng, 1, 6, 4, 5, kv_heads=2)
    v[0, 0], v[0, 1] = 1, 2
    out = pyattn.attention(q, k, v)
    np.testing.assert_allclose(out[0, :3], 1, rtol=1e-6)
    np.testing.assert_allclose(out[0, 3:], 2, rtol=1e-6)


@pytest.mark.parametrize("scale", [0, 0.0, -1.5, np.float32(0.25), np.float64(2), np.int64(3)])
def test_scales(isa, scale, rng):
    for dtype in FLOATS:
        check(operands(rng, 1, 2, 20, 70, dtype=dtype), {"scale": scale})


@pytest.mark.parametrize("size", [1e-20, 1e15])
def test_large_scores_choose_one_key(isa, rng, size):
    """Products of up to 1e36 are no reason for NaN: one key takes all, or ties share."""
    q, k, v = operands(rng, 1, 1, 20, 70, d=32)
    q, k = q * np.float32(1e18), k * np.float32(size)
    out, lse = pyattn.attention(q, k, v, return_lse=True)
    e = accuracy.errors((out, lse), q, k, v)
    assert max(e.out, e.lse) <= 2 * accuracy.LIMIT
    k[:] = k[..., :1, :]
    np.testing.assert_allclose(
        pyattn.attention(q, k, v),
        np.broadcast_to(v.mean(axis=-2, keepdims=True), (1, 1, 20, 32)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_lists_and_python_numbers(isa):
    x = [[1.0, 2.0], [3.0, 4.0]]
    out, lse = pyattn.attention(x, x, x, return_lse=True)
    expected, expected_lse = reference.attention(x, x, x, return_lse=True)
    assert out.dtype == lse.dtype == np.float64
    np.testing.assert_allclose(out, expected, rtol=1e-14)
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-14)


@pytest.mark.parametrize("dtype", FLOATS)
def test_weights_are_those_of_attention(isa, dtype, rng):
    """With value = identity, attention returns its weights."""
    for keys in (1, 20, 65, 300):
        q, k, _ = operands(rng, 1, 2, 25, keys, dtype=dtype)
        eye = np.broadcast_to(np.eye(keys, dtype=dtype), (1, 2, keys, keys))
        for option in OPTIONS.values():
            options = option(1, 25, keys)
            out = pyattn.attention(q, k, eye, **options)
            weights = pyattn.attention_weights(q, k, **options)
            np.testing.assert_allclose(weights, out, rtol=8 * np.finfo(dtype).eps, atol=1e-30)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_merge(isa, dtype, parts, rng):
    """Parts of the keys, some of them hidden from some rows, merge into the whole."""
    q, k, v = operands(rng, 2, 3, 10, 50, dtype=dtype)
    cuts = np.linspace(0, 50, parts + 1).astype(int)
    lengths = np.array([50, 7])  # the second batch element sees nothing in the last parts
    pieces = [
        pyattn.attention(
            q,
            k[..., a:b, :],
            v[..., a:b, :],
            return_lse=True,
            causal=True,
            query_start=5 - a,
            key_lengths=np.clip(lengths - a, 0, b - a),
        )
        for a, b in pairwise(cuts)
    ]
    merged = pyattn.merge_attention(*zip(*pieces, strict=True))
    options = {"causal": True, "query_start": 5, "key_lengths": lengths}
    e = accuracy.errors(merged, q, k, v, **options)
    assert merged[0].dtype == merged[1].dtype == dtype
    assert max(e.out, e.lse) <= 2 * accuracy.LIMIT
    twin = reference.merge_attention(*zip(*pieces, strict=True))
    np.testing.assert_allclose(merged[0], twin[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(merged[1], twin[1], rtol=1e-6)


def test_merge_of_nothing_and_of_extremes():
    out, lse = np.full((2, 3, 4), np.nan, np.float32), np.full((2, 3), -np.inf, np.float32)
    merged = pyattn.merge_attention([out, out], [lse, lse])
    assert_same_bits(merged, (np.zeros_like(out), lse))  # what saw no key is not looked at
    a, b = np.ones((1, 2), np.float32), np.full((1, 2), 3, np.float32)
    far = np.array([1e38], np.float32)
    assert_same_bits(pyattn.merge_attention([a, b], [far, -far]), (a, far))
    assert_same_bits(
        pyattn.merge_attention([a, b], [-far, -far])[0], np.full((1, 2), 2, np.float32)
    )


@pytest.mark.stress
def test_many_lengths(isa, rng):
    for keys in range(1, 200):
        for queries in (1, 2, 15, 16, 17, 48, 49, 130):
            option = list(OPTIONS.values())[keys % len(OPTIONS)]
            check(operands(rng, 2, 2, queries, keys, d=keys % 9 + 1), option(2, queries, keys))
