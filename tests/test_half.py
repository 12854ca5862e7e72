"""Half precision in attention: everything is what the same call makes of the widened numbers, which
float32 holds exactly, rounded once."""

import accuracy
import numpy as np
import pytest
from cases import HALVES, chooser, disguised, draw_options
from support import (
    EDGES,
    FEW_ROWS,
    ONLY_SQUARE,
    OPTIONS,
    STRESS,
    assert_same_bits,
    assert_strided_out_only,
    operands,
    pattern,
    poisoned,
    python,
    visible,
)

import pyattn
from pyattn import biases, reference

F = np.float32
# dtypes of queries, and of keys and values
KINDS = [(half, half) for half in HALVES] + [(np.float32, half) for half in HALVES]
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
TINIEST = {"float16": 2.0**-24, "bfloat16": 2.0**-133}


def of_kind(arrays, kind):
    """A query, and keys and values, in the dtypes of `kind`."""
    query, *others = arrays
    return [query.astype(kind[0]), *(a.astype(kind[1]) for a in others)]


def widened(arrays):
    return [a.astype(F) for a in arrays]


def rounded(a, dtype):
    """As NumPy rounds; of NaN one and the same, since there are many."""
    with np.errstate(over="ignore"):
        a = np.where(np.isnan(a), F(np.nan), a).astype(dtype)
    return a


def tidy(a):
    return rounded(a.astype(F), a.dtype) if np.isnan(a.astype(F)).any() else a


def assert_rounded(got, wide):
    """`got` is `wide` rounded, bit for bit."""
    assert_same_bits(tidy(got), rounded(wide, got.dtype))


def check(arrays, options):
    """All functions that return numbers of halves. Returns (out, lse)."""
    query, key, _ = arrays
    wide = widened(arrays)
    out, lse = pyattn.attention(*arrays, return_lse=True, **options)
    expected, expected_lse = pyattn.attention(*wide, return_lse=True, **options)
    assert out.dtype == query.dtype
    assert_rounded(out, expected)
    assert_same_bits(tidy(lse), tidy(expected_lse))  # float32
    weights = pyattn.attention_weights(query, key, **options)
    assert weights.dtype == query.dtype
    assert_rounded(weights, pyattn.attention_weights(*wide[:2], **options))
    few = min(3, weights.shape[-1])
    if few:
        indices, best = pyattn.attention_topk(query, key, few, **options)
        expected = pyattn.attention_topk(*wide[:2], few, **options)
        assert best.dtype == query.dtype
        assert_same_bits(indices, expected[0])
        assert_rounded(best, expected[1])
    return out, lse


# --- right


def shapes_for(option):
    """Few rows, many, and more than a chunk of keys."""
    return ((4, 4), (70, 70)) if option in ONLY_SQUARE else ((4, 70), (20, 65), (2, 600))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", OPTIONS)
def test_options(each_isa, kind, option, rng):
    """Of the exact result, in float64, too: within the error of float32, then rounded."""
    for queries, keys in shapes_for(option):
        arrays = of_kind(operands(rng, 2, 4, queries, keys, d=9, dv=6, kv_heads=2), kind)
        options = OPTIONS[option](2, 4, queries, keys)
        exact = accuracy.Exact(*widened(arrays), **options)
        error = accuracy.LIMIT * exact.out_bound
        low, high = (rounded(x, kind[0]) for x in (exact.out - error, exact.out + error))
        for _ in each_isa():
            out, lse = check(arrays, options)
            assert ((low <= out) & (out <= high)).all()
            assert exact.lse_error(lse) <= accuracy.LIMIT


def naive(query, key, value, dtype):
    """Attention in half precision as it is written down: what each step gives is a half."""

    def half(x):
        return x.astype(dtype).astype(F)

    q, k, v = widened((query, key, value))
    scores = half(half(q @ k.swapaxes(-1, -2)) * F(q.shape[-1] ** -0.5))
    weights = half(np.exp(half(scores - scores.max(axis=-1, keepdims=True))))
    weights = half(weights / half(weights.sum(axis=-1, keepdims=True)))
    return (weights @ v).astype(dtype)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("queries, keys", [(1, 300), (3, 1500), (20, 600)])
def test_error_beside_the_naive_one(each_isa, dtype, queries, keys, rng):
    """At most half a unit in the last place of the result, and a little: a tenth of what the naive
    computation is off by is not unusual."""
    for offset in (0, 3):
        arrays = operands(rng, 2, 3, queries, keys, d=64)
        arrays[2] += offset
        arrays = [a.astype(dtype) for a in arrays]
        exact = reference.attention(*(a.astype(np.float64) for a in arrays))
        largest = np.abs(naive(*arrays, dtype).astype(np.float64) - exact).max()
        spacing = EPS[np.dtype(dtype).name] * 2 ** np.floor(np.log2(np.abs(exact)))
        for _ in each_isa():
            error = np.abs(pyattn.attention(*arrays).astype(np.float64) - exact)
            assert error.max() <= largest
            assert (error <= 0.51 * spacing + 1e-6).all()


def random_case(rng):
    choose = chooser(rng)
    leading = choose([(), (1,), (3,), (2, 2)])
    kv_heads, group = choose([(1, 1), (2, 1), (1, 3), (2, 2), (1, 8)])
    queries, keys = choose([1, 1, 2, *EDGES]), choose([*EDGES, 513, 600])
    if choose([False, True]):
        queries = keys = min(queries, keys)
    heads, d, dv = kv_heads * group, choose([1, 4, 17, 64]), choose([1, 3, 16, 40])
    options = draw_options(choose, rng, leading, heads, queries, keys)
    shapes = (heads, queries, d), (kv_heads, keys, d), (kv_heads, keys, dv)
    arrays = [rng.standard_normal((*leading, *shape)) for shape in shapes]
    arrays = [disguised(choose, a) for a in of_kind(arrays, choose(KINDS))]
    if choose([False, True]):
        return [a.swapaxes(-3, -2) for a in arrays], {"layout": "blhd", **options}
    return arrays, options


def random_cases(isas, count, seed):
    for i in range(count):
        arrays, options = random_case(np.random.default_rng([seed, i]))
        for isa in isas():
            layout = options.get("layout", "bhld")
            try:
                if layout == "bhld":
                    check(arrays, options)
                else:
                    out = pyattn.attention(*arrays, **options)
                    assert_rounded(out, pyattn.attention(*widened(arrays), **options))
            except AssertionError as e:
                raise AssertionError(f"{isa}, case {[seed, i]}: {e}") from e


def test_random_cases(each_isa):
    random_cases(each_isa, 150, seed=21)


@pytest.mark.stress
def test_many_random_cases(each_isa):
    random_cases(each_isa, 10_000, seed=22)


@pytest.mark.parametrize("kind", KINDS)
def test_varlen(each_isa, kind, rng):
    queries, keys = np.array([1, 0, 20, 3, 9, 2]), np.array([600, 5, 20, 0, 33, 1])
    starts = [np.concatenate([[0], np.cumsum(x)]) for x in (queries, keys)]
    shapes = (sum(queries), 4, 17), (sum(keys), 2, 17), (sum(keys), 2, 5)
    arrays = of_kind([rng.standard_normal(shape) for shape in shapes], kind)
    for options in ({}, {"causal": True, "softcap": 2.0}, {"bias": biases.alibi([1, 0.5, 0, 2])}):
        exact = reference.attention_varlen(
            *(a.astype(np.float64) for a in arrays), *starts, **options
        )
        for _ in each_isa():
            out, lse = pyattn.attention_varlen(*arrays, *starts, return_lse=True, **options)
            wide = pyattn.attention_varlen(*widened(arrays), *starts, return_lse=True, **options)
            assert out.dtype == kind[0]
            assert_rounded(out, wide[0])
            assert_same_bits(lse, wide[1])
            np.testing.assert_allclose(out.astype(np.float64), exact, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("queries", [2, 20])
def test_merge(isa, dtype, queries, rng):
    """Parts of the keys, each rounded: the merged result is as good as they are."""
    q, k, v = (a.astype(dtype) for a in operands(rng, 2, 3, queries, 50))
    lengths = np.array([50, 7])  # the second batch element sees nothing in the last part
    parts = [
        pyattn.attention(
            *(q, k[..., a:b, :], v[..., a:b, :]),
            key_lengths=np.clip(lengths - a, 0, b - a),
            return_lse=True,
        )
        for a, b in ((0, 10), (10, 30), (30, 50))
    ]
    outs, lses = zip(*parts, strict=True)
    out, lse = pyattn.merge_attention(outs, lses)
    assert out.dtype == dtype and lse.dtype == np.float32
    expected = reference.merge_attention([o.astype(np.float64) for o in outs], lses)
    eps = EPS[np.dtype(dtype).name]
    np.testing.assert_allclose(out.astype(np.float64), expected[0], rtol=0.51 * eps, atol=1e-6)
    np.testing.assert_allclose(lse, expected[1], rtol=1e-6)
    whole = pyattn.attention(*widened((q, k, v)), key_lengths=lengths)
    np.testing.assert_allclose(out.astype(F), whole, rtol=2 * eps, atol=2 * eps)


# --- every number


def every(dtype):
    """All that 16 bits can be."""
    return np.arange(2**16, dtype=np.uint16).view(dtype)


# Rows of one key head: a few, and more.
ROWS = pytest.mark.parametrize("rows", [1, FEW_ROWS + 1])


@ROWS
@pytest.mark.parametrize("dtype", HALVES)
def test_every_value(isa, dtype, rows):
    """The only key has all the weight: what comes is its value, denormal numbers included; but 0
    has no sign, and instead of infinities NaN may come."""
    v = every(dtype).reshape(64, 1, 1, 1024)
    q, k = np.ones((64, 1, rows, 3), dtype), np.zeros((64, 1, 1, 3), dtype)
    finite = np.isfinite(v.astype(F))
    expected = np.where(finite & (v.view(np.uint16) != 0x8000), v, dtype(0))
    out = pyattn.attention(q, k, v)
    assert_same_bits(np.where(finite, out, dtype(0)), np.repeat(expected, rows, axis=2))
    assert np.array_equal(np.isfinite(out.astype(F)), np.repeat(finite, rows, axis=2))
    assert np.isnan(out.astype(F)[np.repeat(np.isnan(v.astype(F)), rows, axis=2)]).all()
    assert_same_bits(tidy(pyattn.attention(q.astype(F), k, v)), tidy(out).astype(F))


@ROWS
@pytest.mark.parametrize("dtype", HALVES)
def test_every_query_and_key(each_isa, dtype, rows):
    """The score of each number with 1 is the number."""
    numbers, ones = every(dtype), np.ones(2**16, dtype)
    finite = np.abs(numbers.astype(F)) < 2e38  # larger ones overflow on their way
    score = numbers[finite].astype(F)
    for a, b in ((numbers, ones), (ones, numbers)):
        q = np.repeat(a[:, None, None, None], rows, axis=2)
        k = b[:, None, None, None]
        for _ in each_isa():
            _, lse = pyattn.attention(q, k, k, scale=1.0, return_lse=True)
            np.testing.assert_allclose(lse[finite, 0, 0], score, rtol=1e-6, atol=1e-37)
            assert np.isnan(lse[np.isnan(numbers.astype(F))]).all()


@ROWS
@pytest.mark.parametrize("dtype", HALVES)
def test_results_are_rounded_to_even(isa, dtype, rows):
    """Halfway between two halves, and a little beside it; down to the smallest."""
    eps, tiniest = EPS[np.dtype(dtype).name], TINIEST[np.dtype(dtype).name]
    # Means of two values: exact in float32, halfway between neighbours in half precision.
    pairs = [(1, 1 + eps), (1 + eps, 1 + 2 * eps), (-1, -1 - eps), (2, 2 + 2 * eps)]
    pairs += [(0, tiniest), (tiniest, 2 * tiniest), (-tiniest, 0), (2 * tiniest, 3 * tiniest)]
    v = np.array(pairs).T.astype(dtype)
    q, k = np.zeros((1, 1, rows, 3), dtype), np.zeros((1, 1, 2, 3), dtype)
    out = pyattn.attention(q, k, v[None, None])
    even = [1, 1 + 2 * eps, -1, 2, 0, 2 * tiniest, -0.0, 2 * tiniest]
    assert_same_bits(out[0, 0], np.repeat([even], rows, axis=0).astype(dtype))
    bias = np.array([0, 2.0**-4])  # the second of each pair weighs a little more
    out = pyattn.attention(q, k, v[None, None], bias=bias)
    nearer = np.where(v[1] == 0, dtype(-0.0), v[1])  # of a negative number that vanishes
    assert_same_bits(out[0, 0], np.repeat(nearer[None], rows, axis=0))


@ROWS
def test_largest_number(isa, rows):
    """A mean of the largest numbers is that number, and not infinite."""
    for dtype in HALVES:
        largest = np.array(pattern(np.inf, dtype) - 1, np.uint16).view(dtype)
        if np.dtype(dtype).name == "bfloat16":
            largest = (largest.astype(F) / 4).astype(dtype)  # whose sum float32 must hold
        q, k, v = (np.full((1, 1, n, 5), x, dtype) for n, x in ((rows, 1), (3, 1), (3, largest)))
        assert_same_bits(pyattn.attention(q, k, v), np.full((1, 1, rows, 5), largest, dtype))


# --- what is hidden, and what there is not


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", [n for n in OPTIONS if n not in ("all", "scale", "softcap")])
def test_poison(each_isa, kind, option, rng):
    """In keys that no query of the batch element may see: not a bit changes."""
    for queries, keys in shapes_for(option):
        q, k, v = of_kind(operands(rng, 3, 2, queries, keys, d=5, dv=9, kv_heads=1), kind)
        options = OPTIONS[option](3, 2, queries, keys)
        seen = visible((3, 2, queries, keys), options)
        hidden = ~seen.any(axis=(1, 2))[:, None]
        bad = [poisoned(a, hidden, "mixed") for a in (k, v)]
        row = np.zeros((3, 1, keys), bool)
        row[0, 0] = ~seen[0, 0, 0]  # and what one row may not see does not change that one
        of_row = [poisoned(a, row, "mixed") for a in (k, v)]
        for _ in each_isa():
            expected = pyattn.attention(q, k, v, return_lse=True, **options)
            assert_same_bits(pyattn.attention(q, *bad, return_lse=True, **options), expected)
            got = pyattn.attention(q, *of_row, return_lse=True, **options)
            for a, b in zip(got, expected, strict=True):
                assert_same_bits(a[0, 0, 0], b[0, 0, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [3, 20])
def test_attended_nan(isa, kind, queries, rng):
    q, k, v = of_kind(operands(rng, 1, 2, queries, 70), kind)
    v[0, 1, 66, 3] = np.nan
    hit = np.zeros(q.shape, bool)
    hit[0, 1, :, 3] = True
    assert np.array_equal(np.isnan(pyattn.attention(q, k, v).astype(F)), hit)
    k[0, 0, 69, 1] = np.nan
    hit[0, 0, -1] = True  # only the last row sees the last key
    out, lse = pyattn.attention(q, k, v, causal=True, return_lse=True)
    seen = np.isnan(out.astype(F))
    assert np.array_equal(seen[0, 0], hit[0, 0])
    assert np.array_equal(np.isnan(lse[0, 0]), hit[0, 0, :, 0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [3, 20])
def test_empty_rows_are_positive_zero(isa, kind, queries, rng):
    q, k, v = of_kind(operands(rng, 2, 2, queries, 66), kind)
    v = (v.astype(F) - 10).astype(v.dtype)
    nothing = np.zeros((2, queries, 16), kind[0]), np.full((2, queries), -np.inf, F)
    for options in ({"key_lengths": [66, 0]}, {"causal": True, "query_start": [0, -70]}):
        out, lse = pyattn.attention(q, k, v, return_lse=True, **options)
        assert_same_bits((out[1], lse[1]), nothing)
    got = pyattn.attention(q, k[:, :, :0], v[:, :, :0], return_lse=True)
    assert_same_bits((got[0][0], got[1][0]), nothing)
    got = pyattn.attention(q, k[:, :, :0], v[:, :, :0], sinks=[1.5, 2.5], return_lse=True)
    assert (got[1] == np.array([1.5, 2.5], F)[:, None]).all() and not got[0].astype(F).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0), (2, 2, 0, 0)]
)
def test_empty_extents(kind, shape, rng):
    batch, heads, queries, _ = shape
    for d, dv in ((5, 3), (0, 3), (5, 0)):
        arrays = of_kind(operands(rng, *shape, d=d, dv=dv), kind)
        out, lse = pyattn.attention(*arrays, return_lse=True)
        assert out.shape == (batch, heads, queries, dv) and out.dtype == kind[0]
        assert lse.shape == (batch, heads, queries) and lse.dtype == np.float32
        assert not out.astype(F).any()


# --- the same bits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 2600), (1, 8, 1, 1, 1100), (2, 2, 1, 70, 600), (3, 30, 30, 2, 130)]
)
def test_threads(each_isa, kind, shape, rng):
    batch, heads, kv_heads, queries, keys = shape
    arrays = of_kind(operands(rng, batch, heads, queries, keys, 33, 17, kv_heads), kind)
    options = OPTIONS["sinks"](batch, heads, queries, keys) | {"causal": True}
    before = pyattn.get_num_threads()
    try:
        for _ in each_isa():
            pyattn.set_num_threads(1)
            expected = pyattn.attention(*arrays, return_lse=True, **options)
            for threads in (2, 3, 7):
                pyattn.set_num_threads(threads)
                got = pyattn.attention(*arrays, return_lse=True, **options)
                assert_same_bits(got, expected)
    finally:
        pyattn.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [2, 21])
def test_layouts(each_isa, kind, queries, rng):
    """However the operands and the result lie in memory, in either order of their axes."""
    choose = chooser(rng)
    arrays = of_kind(operands(rng, 2, 4, queries, 70, d=18, dv=35, kv_heads=2), kind)
    forms = [[disguised(choose, a) for a in arrays] for _ in range(40 if STRESS else 8)]
    outs = [
        np.full((2, 4, queries, 35), np.nan, kind[0]),
        np.full((4, queries, 35, 2), np.nan, kind[0]).transpose(3, 0, 1, 2)[::-1, ::-1],
        np.zeros((2, 4, queries, 35), [("pad", "u1"), ("x", kind[0])])["x"],
    ]
    for _ in each_isa():
        expected = pyattn.attention(*arrays, causal=True, return_lse=True)
        for changed in forms:
            got = pyattn.attention(*changed, causal=True, return_lse=True)
            assert_same_bits(got, expected)
        for out in outs:
            assert pyattn.attention(*arrays, causal=True, out=out) is out
            assert_same_bits(np.ascontiguousarray(out), expected[0])
        for copied in (False, True):
            swapped = [a.swapaxes(1, 2).copy() if copied else a.swapaxes(1, 2) for a in arrays]
            got = pyattn.attention(*swapped, causal=True, layout="blhd")
            assert_same_bits(got.swapaxes(1, 2), expected[0])


@pytest.mark.parametrize("queries", [2, 21])
def test_foreign_byte_order(isa, queries, rng):
    arrays = operands(rng, 2, 4, queries, 70, kv_heads=2, dtype=np.float16)
    expected = pyattn.attention(*arrays)
    foreign = [a.astype(">f2") for a in arrays]
    assert_same_bits(pyattn.attention(*foreign), expected)
    for i in range(3):
        mixed = [*arrays[:i], foreign[i], *arrays[i + 1 :]]
        assert_same_bits(pyattn.attention(*mixed), expected)
    wide = arrays[0].astype(F), *arrays[1:]
    assert_same_bits(pyattn.attention(wide[0], *foreign[1:]), pyattn.attention(*wide))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("queries", [8, 70])
def test_out_over_an_input(isa, dtype, queries, rng):
    q, k, v = (a.astype(dtype) for a in operands(rng, 1, 2, queries, queries))
    expected = pyattn.attention(q, k, v, causal=True)
    for which in range(3):
        arrays = [q.copy(), k.copy(), v.copy()]
        out = arrays[which][..., ::-1]
        assert pyattn.attention(*arrays, causal=True, out=out) is out
        assert_same_bits(out.copy(), expected)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [1, 3, 16, 35])
def test_nothing_around_out_is_written(isa, dtype, size, rng):
    for queries in (1, 8, 9, 17, 49):
        arrays = [a.astype(dtype) for a in operands(rng, 1, 2, queries, 20, dv=size)]
        expected = pyattn.attention(*arrays)
        assert_strided_out_only(arrays, expected)


def test_any_type_of_that_name(isa, rng):
    """There is no bfloat16 in NumPy: whoever calls his type so means those 16 bits."""
    bfloat = np.dtype((type("bfloat", (np.void,), {}), "V2"))  # NumPy adds the bits to the name
    assert bfloat.name == "bfloat16"
    for queries in (2, 20):
        wide = operands(rng, 1, 2, queries, 70)
        upper = [a.view(np.uint32) & 0xFFFF0000 for a in wide]
        expected = pyattn.attention(*(a.view(F) for a in upper)).view(np.uint32)
        # Rounded to nearest, ties to even.
        expected = (expected + 0x7FFF + (expected >> 16 & 1)) >> 16
        halves = [(a >> 16).astype(np.uint16).view(bfloat) for a in upper]
        out = pyattn.attention(*halves)
        assert out.dtype == bfloat
        assert np.array_equal(out.view(np.uint16), expected)


# --- what does not go together

DTYPES = [np.float16, np.float32, np.float64, *HALVES[1:]]


@pytest.mark.parametrize("value", DTYPES)
@pytest.mark.parametrize("key", DTYPES)
@pytest.mark.parametrize("query", DTYPES)
def test_mixtures(query, key, value, rng):
    """Of one type, or float32 queries over halves of one type."""
    arrays = operands(rng, 1, 2, 3, 4)
    q, k, v = (a.astype(t) for a, t in zip(arrays, (query, key, value), strict=True))
    if key is value and (query is key or (query is np.float32 and key in HALVES)):
        assert pyattn.attention(q, k, v).dtype == query
        return
    with pytest.raises(TypeError) as caught:
        pyattn.attention(q, k, v)
    names = [np.dtype(t).name for t in (query, key, value)]
    assert str(caught.value) == (
        "attention: query, key and value must have the same dtype, or query float32 and the others "
        "one of float16 and bfloat16: query {}, key {}, value {}".format(*names)
    )
    if query is not key and key is not value:
        with pytest.raises(TypeError, match="attention_varlen: query, key and value must"):
            pyattn.attention_varlen(q[0], k[0], v[0], [0, 2])


@pytest.mark.parametrize("dtype", HALVES)
def test_wrong_outs_and_parts(dtype, rng):
    q, k, v = (a.astype(dtype) for a in operands(rng, 1, 2, 3, 4))
    name = np.dtype(dtype).name
    for given, dtypes in ((F, (dtype, dtype)), (dtype, (F, dtype)), (np.float16, (F, F))):
        arrays = q.astype(dtypes[0]), k.astype(dtypes[1]), v.astype(dtypes[1])
        with pytest.raises(ValueError, match="attention: out must"):
            pyattn.attention(*arrays, out=np.zeros(q.shape, given))
    with pytest.raises(TypeError, match=f"attention_weights: .*: query {name}, key float32"):
        pyattn.attention_weights(q, k.astype(F))
    with pytest.raises(TypeError, match=f"attention_topk: .*: query {name}, key float64"):
        pyattn.attention_topk(q, k.astype(np.float64), 2)
    out, lse = pyattn.attention(q, k, v, return_lse=True)
    with pytest.raises(TypeError, match=f"merge_attention: .*: outs.0. {name}, outs.1. float32"):
        pyattn.merge_attention([out, out.astype(F)], [lse, lse])
    with pytest.raises(TypeError, match=f"merge_attention: .*: outs.0. {name}, lses.0. float64"):
        pyattn.merge_attention([out], [lse.astype(np.float64)])


# --- memory

FLUSH = """
import mmap, sys, tempfile, numpy as np, pyattn
page = mmap.PAGESIZE
with tempfile.TemporaryFile() as f:
    f.truncate(16 * page)
    raw = np.frombuffer(mmap.mmap(f.fileno(), 16 * page), np.uint8)
    f.truncate(8 * page)  # past the file is no memory
    for isa in sys.argv[1:]:
        pyattn.set_isa(isa)
        for keys in (1, 63, 65):
            for d in (1, 3, 15, 16, 17, 31, 33, 64, 80, 127):
                for rows in (1, 3, 9, 20):
                    x = np.random.default_rng(d).standard_normal((3, 1, max(keys, rows), d))
                    x = x.astype(np.float16)
                    expected = pyattn.attention(x[0, :, :rows], x[1, :, :keys], x[2, :, :keys])
                    for at in range(4):
                        arrays = [x[0, :, :rows], x[1, :, :keys], x[2, :, :keys], expected.copy()]
                        a = arrays[at]
                        flush = raw[8 * page - a.nbytes:8 * page].view(a.dtype).reshape(a.shape)
                        flush[...] = a if at < 3 else 0
                        arrays[at] = flush
                        out = pyattn.attention(*arrays[:3], out=arrays[3])
                        assert np.array_equal(out, expected), (isa, keys, d, rows, at)
"""


def test_nothing_past_the_end_is_read():
    """Each operand ends where memory ends."""
    from pyattn import _core

    python(FLUSH, *_core.isa_runnable())


PEAK = """
import sys, numpy as np, pyattn
def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024
x = np.ones((1, 8, 32768, 64), np.float16)
for kind in (np.float16, np.float32):
    for rows in (1, 20):
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
        before = peak()
        pyattn.attention(x[:, :, :rows].astype(kind), x, x)
        print(peak() - before)
"""


def test_keys_are_not_widened_as_a_whole():
    """Which would be 64 MiB."""
    try:
        extras = python(PEAK, PYATTN_NUM_THREADS="2").split()
    except AssertionError as e:
        if "/proc" in str(e):
            pytest.skip("reads /proc")
        raise
    assert len(extras) == 4 and all(int(extra) < 4e6 for extra in extras)
