"""`attention`, `attention_weights` and `merge_attention` against the slow twins, over the product
of their options, in the unit of `accuracy.py`."""

from itertools import pairwise

import accuracy
import mpmath
import numpy as np
import pytest
from cases import HALVES, draw_options
from hypothesis import given
from hypothesis import strategies as st
from support import (
    EDGES,
    FLOATS,
    LONG_EDGES,
    ON_GRIDS,
    ONLY_SQUARE,
    OPTIONS,
    STRESS,
    assert_same_bits,
    bits,
    operands,
    options_for,
    seen_array,
    visible,
)

import pyattn
from pyattn import biases, masks, reference

LIMIT = accuracy.LIMIT_RARE if STRESS else accuracy.LIMIT
EXTENTS = st.one_of(st.sampled_from([0, 1, 2]), st.sampled_from(EDGES), st.integers(1, 80))
SIZES = st.one_of(st.sampled_from([0, 1, 2]), st.integers(1, 130))


@st.composite
def calls(draw, operands=3):
    """(query, key, value)[:operands], options of a call that is right in every respect."""

    def choose(items):
        return draw(st.sampled_from(items))

    dtype = choose(FLOATS)
    kv_heads, group = choose([(1, 1), (2, 1), (1, 3), (2, 2), (0, 1), (3, 5)])
    queries, keys, d, dv = draw(EXTENTS), draw(EXTENTS), draw(SIZES), draw(SIZES)
    if draw(st.booleans()):  # so that grids fit
        queries = keys
    leading = choose([(), (1,), (2,), (3,), (2, 2), (2, 1, 2), (0,)])
    layout = choose(["bhld", "blhd"])
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
    options = draw_options(choose, rng, lead, heads, queries, keys)
    return arrays, {
        "layout": layout,
        "scale": choose([None, None, 0.0, -0.7, 1, 30.0]),
        **options,
    }


@pytest.fixture
def check(each_isa):
    """Checks one call in all its forms, with and without lse, with `out`."""

    def check(arrays, options):
        exact = accuracy.Exact(*arrays, **options)
        for _ in each_isa():
            out, lse = pyattn.attention(*arrays, return_lse=True, **options)
            assert out.dtype == lse.dtype == arrays[0].dtype
            e = exact.errors(out, lse)
            assert max(e.out, e.lse) <= LIMIT, e
            given_out = np.full_like(out, np.nan)
            assert pyattn.attention(*arrays, out=given_out, **options) is given_out
            assert_same_bits(given_out, out)

    return check


@given(call=calls())
def test_any_call(check, call):
    check(*call)


@given(call=calls(operands=2))
def test_any_weights(each_isa, call):
    (q, k), options = call
    several = [pyattn.attention_weights(q, k, **options) for _ in each_isa()]
    assert accuracy.weight_error(several, q, k, **options) <= LIMIT
    shape = reference.attention_weights(q, k, **options).shape
    four = shape if len(shape) > 2 else (1, *shape)
    hidden = ~visible(four, options)
    for weights in several:
        assert weights.dtype == q.dtype
        assert weights.shape == shape
        assert not bits(weights.reshape(four))[hidden].any()


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_block_edges(check, dtype, option, rng):
    """Every length around the edges of blocks, as L and as S. In float64, whose oracle is slow,
    every other one; with the next option the ones between."""
    skipped = list(OPTIONS).index(option) % 2 if dtype is np.float64 else None
    for i, keys in enumerate(EDGES):
        if i % 2 == skipped:
            continue
        queries = keys if option in ONLY_SQUARE else EDGES[-1 - i]
        heads, kv_heads = ((1, 1), (3, 1), (2, 2))[(i + (dtype == np.float64)) % 3]
        arrays = operands(rng, 2, heads, queries, keys, d=4, dv=3, kv_heads=kv_heads, dtype=dtype)
        check(arrays, OPTIONS[option](2, heads, queries, keys))


@pytest.mark.parametrize("option", options_for(5, 6))
def test_chunk_edges(check, option, rng):
    """Every other one; with the next option the ones between."""
    for keys in LONG_EDGES[list(OPTIONS).index(option) % 2 :: 2]:
        check(operands(rng, 3, 2, 5, keys, d=8, kv_heads=1), OPTIONS[option](3, 2, 5, keys))
    # Enough units (64) that a unit goes through its chunks by itself.
    check(operands(rng, 40, 2, 2, 1025, d=4, dv=2), OPTIONS[option](40, 2, 2, 1025))


@pytest.mark.parametrize("option", sorted(ONLY_SQUARE))
def test_squares_of_several_chunks(check, option, rng):
    check(operands(rng, 1, 2, 1050, 1050, d=3, dv=2), OPTIONS[option](1, 2, 1050, 1050))


@pytest.mark.parametrize("d", [*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 256])
def test_head_sizes(check, d, rng):
    for dtype in FLOATS:
        for dv in (1, d, d + 1):
            check(operands(rng, 1, 2, 18, 21, d=d, dv=dv, dtype=dtype), {"causal": True})


def test_more_panels_than_a_unit_holds(check, rng):
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
def test_scales(check, scale, rng):
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
        for option in options_for(25, keys):
            options = OPTIONS[option](1, 2, 25, keys)
            out = pyattn.attention(q, k, eye, **options)
            weights = pyattn.attention_weights(q, k, **options)
            # Through alpha, exponents are rounded in two steps: the more the smaller the weight.
            digits = 8 - np.log(np.maximum(out, 1e-30))
            assert (np.abs(weights - out) <= digits * np.finfo(dtype).eps * out + 1e-30).all()


# --- laws: two ways of saying the same give the same bits


def everything_of(arrays, options):
    """What all functions return."""
    few = min(3, arrays[1].shape[-2])
    return (
        *pyattn.attention(*arrays, return_lse=True, **options),
        pyattn.attention_weights(*arrays[:2], **options),
        *pyattn.attention_topk(*arrays[:2], few, **options),
    )


def assert_same(arrays, one, other):
    assert_same_bits(everything_of(arrays, one), everything_of(arrays, other))


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_hides_nothing(isa, dtype, rng):
    for queries, keys in ((1, 1), (3, 70), (70, 70), (3, 1100), (9, 1100)):
        arrays = operands(rng, 2, 2, queries, keys, d=5, dv=3, dtype=dtype)
        seen = np.ones((2, 2, queries, keys), bool)
        for mask in (
            *(True, np.True_, seen, seen[0], seen[0, 0], seen[0, 0, 0], seen[:, :1, :1]),
            *(masks.segments(np.zeros(queries, int), np.zeros(keys, int)), masks.dense(True)),
            masks.dilated(queries, keys, window=(None, keys)) | seen,
            (masks.prefix_lm(keys, queries, keys) & seen) | masks.dense(False),
            masks.blocks([[True]], (queries, keys)),
        ):
            assert_same(arrays, {"mask": mask}, {})
        for bias in (0.0, np.zeros(keys), np.zeros((2, 2, queries, keys), np.float16)):
            assert_same(arrays, {"bias": bias}, {})
            assert_same(arrays, {"bias": np.negative(bias)}, {})
        assert_same(arrays, {"bias": biases.alibi([0, 0]) + np.zeros(keys, np.float32)}, {})
        assert_same(arrays, {"window": (None, None)}, {})
        assert_same(arrays, {"window": (queries + keys, 2**70)}, {})
        assert_same(arrays, {"sinks": np.full(2, -np.inf)}, {})


def test_what_hides_everything(isa, rng):
    arrays = operands(rng, 2, 2, 20, 70, d=5, dv=3)
    none = np.zeros((20, 70), bool)
    for options in (
        {"mask": False},
        {"mask": none},
        {"mask": masks.dense(none) & masks.dense(True)},
        {"mask": masks.dense(False) | none},
        {"mask": masks.segments(np.zeros(20, int), np.ones(70, int))},
        {"mask": masks.segments(np.zeros(20, int), np.resize([1, 2], 70))},
        {"bias": -np.inf},
        {"bias": np.full((20, 70), -np.inf, np.float16)},
        {"bias": biases.alibi([1, 1]) + np.full(70, -np.inf)},
        {"window": (3, 3), "query_start": 100},
        {"window": (3, 3), "query_start": -100},
        {"window": (0, 0), "query_start": 2**61 - 1},
        {"mask": np.arange(70) < 30, "bias": np.where(np.arange(70) < 30, -np.inf, 0.0)},
    ):
        assert_same(arrays, options, {"key_lengths": 0})


POSITIONS = [
    {"causal": True},
    {"causal": True, "query_start": 0},
    {"causal": True, "query_start": [-100, 900]},
    {"key_lengths": [1, 700]},
    {"causal": True, "key_lengths": [1000, 1400]},
    {"window": (0, 0)},
    {"window": (7, 0)},
    {"window": (1000, 2)},
    {"window": (None, 3)},
    {"window": (3, None)},
    {"window": (200, 300), "causal": True},
    {"window": (31, 32), "query_start": 0},
    {"window": (64, 64), "query_start": [-3000, 40]},
    {"window": (5, 100), "query_start": [1400, 3000]},
    {"window": (2000, 5), "query_start": [2500, 700]},
    {"window": (600, 70), "key_lengths": [1200, 130]},
]


@pytest.mark.parametrize("options", POSITIONS, ids=str)
def test_positions_are_masks(isa, options, rng):
    """What is skipped and what is hidden one by one: the same bits."""
    for queries, keys in ((1, 1500), (70, 1100), (250, 1500)):
        arrays = operands(rng, 2, 2, queries, keys, d=3, dv=2, kv_heads=1)
        if "key_lengths" in options:
            options = options | {"key_lengths": np.minimum(options["key_lengths"], keys)}
        mask = visible((2, 1, queries, keys), options)
        assert_same(arrays, options, {"mask": mask})
        assert_same(arrays, options, {"mask": mask, **options})
        bias = np.where(mask, 0, -np.inf).astype(np.float16)
        assert_same(arrays, options, {"bias": bias})


@pytest.mark.parametrize("option", OPTIONS)
def test_structured_is_dense(isa, option, rng):
    """A mask, and a bias of tables, are what their arrays are, also beside the other options."""
    square = option in ONLY_SQUARE
    for queries, keys in ((70, 70), (200, 200)) if square else ((20, 70), (3, 1100), (129, 129)):
        options = OPTIONS[option](2, 4, queries, keys)
        arrays = operands(rng, 2, 4, queries, keys, d=3, dv=2, kv_heads=2)
        if option in ON_GRIDS:  # alone they are worked on in another order: test_grid.py
            options["mask"] = options["mask"] & masks.dense(np.True_)
        expected = everything_of(arrays, options)
        if "mask" in options:
            dense = options | {"mask": np.asarray(options["mask"])}
            assert_same_bits(everything_of(arrays, dense), expected)
            dense = options | {"mask": masks.dense(dense["mask"]) & masks.dense(dense["mask"])}
            assert_same_bits(everything_of(arrays, dense), expected)
            dense["mask"] = options["mask"] | masks.dense(np.asarray(options["mask"]))
            assert_same_bits(everything_of(arrays, dense), expected)
        if hasattr(options.get("bias"), "piece") and options["bias"].name != "alibi":
            dense = options | {"bias": np.asarray(options["bias"])}
            assert_same_bits(everything_of(arrays, dense), expected)


def test_alibi_is_dense(isa, rng):
    """Of slopes that float32 holds."""
    for queries, keys in ((70, 70), (3, 1100), (150, 1300)):
        arrays = operands(rng, 2, 4, queries, keys, d=3, dv=2, kv_heads=2)
        slopes = biases.alibi_slopes(4)
        dense = np.asarray(biases.alibi(slopes, queries, keys))
        for options in ({}, {"causal": True}, {"window": (300, 2)}):
            short = {"bias": biases.alibi(slopes), **options}
            assert_same(arrays, short, {"bias": dense, **options})
        start = np.array([-50, keys])
        distance = np.arange(keys) - np.arange(queries)[:, None] - start[:, None, None, None]
        dense = -slopes[:, None, None] * np.abs(distance)
        options = {"query_start": start}
        assert_same(arrays, {"bias": biases.alibi(slopes), **options}, {"bias": dense})


@pytest.mark.parametrize("dtype", [*HALVES, *FLOATS])
def test_infinite_bias_is_a_mask(isa, dtype, rng):
    for queries, keys in ((20, 70), (70, 1100)):
        arrays = operands(rng, 2, 2, queries, keys, d=5, dv=3)
        for shape in ((keys,), (queries, keys), (2, 1, 1, keys), (2, 2, queries, keys)):
            mask = seen_array(*shape)
            hiding = np.where(mask, 0, -np.inf).astype(dtype)
            assert_same(arrays, {"bias": hiding}, {"mask": mask})
            added = rng.standard_normal(keys).astype(np.float32)
            assert_same(
                arrays,
                {"bias": biases.dense(hiding) + added},
                {"mask": mask, "bias": np.where(mask, added, -np.inf).astype(np.float32)},
            )


def test_float16_is_what_it_says(isa, rng):
    """Every number of half precision, as a bias."""
    for dtype in HALVES:
        every = np.arange(2**16, dtype=np.uint16).view(dtype)
        every = every[~np.isnan(every.astype(np.float32)) & (every.astype(np.float32) != np.inf)]
        every = np.resize(every, (-(-len(every) // 1024), 1024))
        q, k, _ = operands(rng, 1, 1, len(every), 1024, d=2)
        for rows in (every, every[:, ::-1]):
            assert_same((q, k, k), {"bias": rows}, {"bias": rows.astype(np.float32)})
            assert_same((q, k, k), {"bias": rows[0]}, {"bias": rows[0].astype(np.float32)})
            column = {"bias": rows[:, ::7]}, {"bias": rows[:, ::7].astype(np.float32)}
            few = rows[:, ::7].shape[1]
            assert_same((q, k[:, :, :few], k[:, :, :few]), *column)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_constant_bias_changes_nothing(isa, dtype, rng):
    eps = np.finfo(dtype).eps
    arrays = operands(rng, 2, 2, 20, 300, dtype=dtype)
    bias = rng.standard_normal((20, 300)).astype(dtype)
    out, lse = pyattn.attention(*arrays, bias=bias, return_lse=True)
    for constant in (1.0, -30.0, 1000.0):
        got, got_lse = pyattn.attention(*arrays, bias=bias + dtype(constant), return_lse=True)
        assert np.abs(got - out).max() < 20 * eps * abs(constant) + 20 * eps
        assert np.abs(got_lse - constant - lse).max() < 20 * eps * (abs(constant) + 10)


def test_masks_by_example(isa):
    """Who sees whom, in pictures."""
    q, k = np.zeros((1, 1, 2, 3), np.float32), np.zeros((1, 1, 4, 3), np.float32)
    for options, picture in (
        ({"window": (1, 0)}, [[0, 1, 1, 0], [0, 0, 1, 1]]),
        ({"window": (0, 1)}, [[0, 0, 1, 1], [0, 0, 0, 1]]),
        ({"window": (0, 0), "query_start": 0}, [[1, 0, 0, 0], [0, 1, 0, 0]]),
        ({"window": (None, 1), "query_start": 0}, [[1, 1, 0, 0], [1, 1, 1, 0]]),
        ({"window": (1, None), "query_start": 1}, [[1, 1, 1, 1], [0, 1, 1, 1]]),
        ({"window": (1, 1), "causal": True}, [[0, 1, 1, 0], [0, 0, 1, 1]]),
        ({"window": (9, 9), "key_lengths": 3}, [[1, 1, 1, 0], [1, 1, 1, 0]]),
        ({"mask": [True, False, True, False]}, [[1, 0, 1, 0], [1, 0, 1, 0]]),
        ({"mask": [[True], [False]]}, [[1, 1, 1, 1], [0, 0, 0, 0]]),
        ({"bias": [0, -np.inf, 0, 0], "causal": True}, [[1, 0, 1, 0], [1, 0, 1, 1]]),
    ):
        weights = pyattn.attention_weights(q, k, **options)
        assert np.array_equal(weights[0, 0] > 0, np.array(picture) > 0), options


# --- softcap


def capped(dtype, score, cap):
    """softcap * tanh(score / softcap), as the lse of a row with one key."""
    k = np.asarray(score, dtype)[:, None, None, None]  # one batch element for each
    _, lse = pyattn.attention(np.ones_like(k), k, k, scale=1, softcap=cap, return_lse=True)
    return lse.ravel()


@pytest.mark.parametrize("dtype", FLOATS)
def test_softcap_is_tanh(each_isa, dtype):
    """In units of the last place, from the tiniest to the largest scores."""
    limits = np.finfo(dtype)
    edge = int(np.log10(limits.max)) - 8
    scores = np.concatenate(
        [10.0 ** np.arange(-edge, edge), np.linspace(0.01, 12, 200), [0.5, 1, 2, 30, 89, 127.5]]
    ).astype(dtype)
    scores = np.concatenate([scores, -scores, [dtype(0)]])
    for cap in (1e-3, 0.3, 1.0, 30.0, 50.0, 1e4):
        with mpmath.workdps(50):
            exact = [mpmath.mpf(cap) * mpmath.tanh(mpmath.mpf(float(s)) / cap) for s in scores]
            # In two parts, which is what a difference to float64 needs.
            high = np.array([float(x) for x in exact])
            low = np.array([float(x - mpmath.mpf(h)) for x, h in zip(exact, high, strict=True)])
        # Scores below the smallest normal number in units of the cap lose digits.
        free = float(limits.smallest_subnormal) * max(cap, 1) * 4
        for isa in each_isa():
            got = capped(dtype, scores, cap).astype(np.float64)
            error = np.abs(got - high - low)
            units = np.maximum(0, error - free) / np.where(high, np.abs(high) * limits.eps / 2, 1)
            assert (units <= 10).all(), (cap, scores[units.argmax()], units.max())
            assert (np.abs(got) <= cap * (1 + 2 * limits.eps)).all()
            print(f"{isa}, {np.dtype(dtype)}, {cap}: within {units.max():.1f} units of rounding")


@pytest.mark.parametrize("dtype", FLOATS)
def test_softcap_of_any_size(isa, dtype, rng):
    limits = np.finfo(dtype)
    arrays = operands(rng, 1, 2, 20, 70, dtype=dtype)
    out = pyattn.attention(*arrays)
    for cap in (1e6 if dtype is np.float32 else 1e10, float(limits.max) / 2):  # none at all
        got = pyattn.attention(*arrays, softcap=cap)
        np.testing.assert_allclose(got, out, atol=30 * limits.eps)
    mean = np.repeat(arrays[2].mean(axis=-2, keepdims=True), 20, axis=-2)
    for cap in (1e-6, float(limits.tiny)):  # all scores nearly the same
        got = pyattn.attention(*arrays, softcap=cap)
        np.testing.assert_allclose(got, mean, atol=3 * cap + 30 * limits.eps)
    # Between: never larger than the cap, which is what a difference of weights shows.
    weights = pyattn.attention_weights(*(30 * a for a in arrays[:2]), softcap=0.5)
    ratio = np.log(weights.max(axis=-1) / weights.min(axis=-1))
    assert (ratio <= 1 + 20 * limits.eps).all() and (ratio > 0.9).all()
    # Bias comes after it, and is not capped.
    bias = np.array([40.0] + [0] * 69)
    assert pyattn.attention_weights(*arrays[:2], bias=bias, softcap=0.5)[..., 0].min() > 0.9999999


def test_softcap_is_monotone(isa):
    score = np.sort(np.concatenate([np.linspace(-9, 9, 4000), np.logspace(-20, 20, 400)]))
    for dtype in FLOATS:
        got = capped(dtype, score, 2.0)
        # Neighbours may be exchanged by a rounding or two, not more.
        assert (np.diff(got.astype(np.float64)) >= -8 * np.finfo(dtype).eps).all()
        assert np.array_equal(capped(dtype, -score, 2.0), -got)


# --- sinks


@pytest.mark.parametrize("dtype", FLOATS)
def test_sinks_are_one_more_key(isa, dtype, rng):
    """A key whose score is the sink and whose value is 0."""
    for keys in (1, 69, 600):
        q, k, v = operands(rng, 2, 4, 20, keys, dtype=dtype)
        sinks = np.array([-2.0, 0.0, 3.0, 40.0])
        k1, v1 = (np.concatenate([np.zeros_like(a[:, :, :1]), a], axis=2) for a in (k, v))
        bias = np.zeros((4, 1, keys + 1))
        bias[:, 0, 0] = sinks
        expected = pyattn.attention(q, k1, v1, bias=bias, return_lse=True)
        got = pyattn.attention(q, k, v, sinks=sinks, return_lse=True)
        for a, b in zip(got, expected, strict=True):
            eps = np.finfo(dtype).eps
            np.testing.assert_allclose(a, b, rtol=60 * eps, atol=10 * eps)
        weights = pyattn.attention_weights(q, k, sinks=sinks)
        more = pyattn.attention_weights(q, k1, bias=bias)[..., 1:]
        np.testing.assert_allclose(weights, more, rtol=100 * np.finfo(dtype).eps, atol=1e-30)
        taken = np.exp(sinks[:, None] - got[1].astype(np.float64))
        np.testing.assert_allclose(weights.sum(axis=-1) + taken, 1, rtol=60 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sinks_and_rows_without_keys(isa, dtype, rng):
    arrays = operands(rng, 2, 3, 70, 66, dtype=dtype)
    sinks = np.array([1.5, -np.inf, -300.25])
    lse_of_nothing = np.repeat(sinks.astype(dtype)[None, :, None], 70, axis=-1)
    nothing = np.zeros((1, 3, 70, 16), dtype)
    for options in (
        {"key_lengths": [66, 0]},
        {"mask": np.array([True, False])[:, None, None, None]},
        {"causal": True, "query_start": [0, -100]},
        {"bias": np.array([0, -np.inf])[:, None, None, None]},
    ):
        out, lse = pyattn.attention(*arrays, sinks=sinks, return_lse=True, **options)
        assert_same_bits((out[1:], lse[1:]), (nothing, lse_of_nothing))
        assert out[0].any(axis=-1).all()
        indices, weights = pyattn.attention_topk(*arrays[:2], 2, sinks=sinks, **options)
        assert (indices[1] == -1).all() and not weights[1].any()
    q, k, v = arrays
    got = pyattn.attention(q, k[:, :, :0], v[:, :, :0], sinks=sinks, return_lse=True)
    assert_same_bits(got, (np.zeros_like(q), np.repeat(lse_of_nothing, 2, axis=0)))


def test_a_part_with_the_sink_merges(isa, rng):
    """The sink is counted once if one part has it, and also where that part sees no key."""
    q, k, v = operands(rng, 2, 3, 20, 70)
    sinks = np.array([1.5, -np.inf, 4.0])
    lengths = np.array([70, 30])
    whole = pyattn.attention(q, k, v, sinks=sinks, key_lengths=lengths, return_lse=True)
    for first in (0, 1):
        parts = [
            pyattn.attention(
                *(q, k[:, :, a:b], v[:, :, a:b]),
                sinks=sinks if n == first else None,
                key_lengths=np.clip(lengths - a, 0, b - a),
                return_lse=True,
            )
            for n, (a, b) in enumerate([(0, 40), (40, 70)])
        ]
        merged = pyattn.merge_attention(*zip(*parts, strict=True))
        for a, b in zip(merged, whole, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_sinks_of_any_size(isa, rng):
    """A sink far above all scores takes all, one far below nothing."""
    for dtype in FLOATS:
        arrays = operands(rng, 1, 2, 5, 70, dtype=dtype)
        out, lse = pyattn.attention(*arrays, sinks=np.array([1e4, -1e4]), return_lse=True)
        assert not out[:, 0].any() and (lse[:, 0] == 1e4).all()
        assert_same_bits(out[:, 1], pyattn.attention(*arrays)[:, 1])
        for large in (1e30, 1.7e38, -1e30, -3e38):
            got = pyattn.attention(*arrays, sinks=np.full(2, large))
            assert_same_bits(got, pyattn.attention(*arrays) if large < 0 else np.zeros_like(got))


# --- extents of 0


@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0), (2, 2, 0, 0), (2, 2, 0, 33)]
)
def test_empty_extents_with_options(isa, shape, rng):
    batch, heads, queries, keys = shape
    arrays = operands(rng, *shape, d=5, dv=3)
    both = {
        "mask": [
            *(np.ones(shape, bool), np.ones(keys, bool), np.ones((queries, keys), bool), True),
            masks.segments(np.zeros(queries, int), np.zeros(keys, int)),
            masks.segments(np.zeros((batch, queries), int), np.resize([0, 1], (batch, keys))),
            masks.prefix_lm(0, queries, keys),
            masks.dilated(queries, keys, window=(1, 1)),
            masks.blocks(np.ones((-(-queries // 2), -(-keys // 3)), bool), (2, 3), queries, keys),
            masks.dense(True) | np.ones((queries, keys), bool),
        ],
        "bias": [
            *(np.zeros(shape), np.zeros(keys), np.zeros((queries, keys), np.float16)),
            biases.alibi(np.ones(heads)),
            biases.alibi(np.ones((batch, heads))) + np.zeros((queries, keys)),
        ],
    }
    for name, values in both.items():
        for value in values:
            options = {name: value, "window": (1, 1), "softcap": 1, "sinks": np.ones(heads)}
            out, lse = pyattn.attention(*arrays, return_lse=True, **options)
            assert out.shape == (batch, heads, queries, 3) and not out.any()
            assert (lse == 1).all()
            assert pyattn.attention_weights(*arrays[:2], **options).shape == shape
            if keys:
                indices, _ = pyattn.attention_topk(*arrays[:2], 1, **options)
                assert indices.shape == (*shape[:3], 1)


@pytest.mark.parametrize("queries, keys", [(0, 33), (0, 1)])
def test_empty_tables_of_distances(queries, keys, rng):
    arrays = operands(rng, 1, 2, queries, keys)
    mask = masks.dilated(queries, keys, dilation=2)
    assert pyattn.attention(*arrays, mask=mask).shape == (1, 2, queries, 16)
    table = np.zeros(max(queries + keys - 1, 0), np.float32)
    bias = biases.relative(table, queries, keys)
    assert pyattn.attention(*arrays, bias=bias).shape == (1, 2, queries, 16)


# --- merging


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
def test_many_lengths(check, rng):
    for keys in range(1, 200):
        for queries in (1, 2, 15, 16, 17, 48, 49, 130):
            names = options_for(queries, keys)
            options = OPTIONS[names[(keys + queries) % len(names)]](2, 2, queries, keys)
            check(operands(rng, 2, 2, queries, keys, d=keys % 9 + 1), options)
