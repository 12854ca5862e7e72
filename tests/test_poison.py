"""What is hidden cannot be seen, and what is attended is honest."""

import numpy as np
import pytest
from cases import chooser, draw_options
from support import (
    EDGES,
    FEW_ROWS,
    FLOATS,
    OPTIONS,
    POISONS,
    assert_same_bits,
    bits,
    operands,
    options_for,
    pattern,
    poisoned,
    visible,
)

import pyattn
from pyattn import biases, masks, reference

F = np.float32
# queries, keys: few rows and more than a chunk, block edges, a square, several panels and chunks
SHAPES = [(2, 600), (20, 65), (70, 70), (40, 1090)]
CALLS = [(shape, name) for shape in SHAPES for name in options_for(*shape)]
HIDING = [(shape, name) for shape, name in CALLS if name not in ("all", "scale", "softcap")]
ROWS = pytest.mark.parametrize("rows", [3, FEW_ROWS + 4])  # few, and many
FEWER = [(shape, name) for shape, name in CALLS if shape != (20, 65)]


def attend(arrays, options):
    """What all functions return."""
    few = min(3, arrays[1].shape[-2])
    return (
        *pyattn.attention(*arrays, return_lse=True, **options),
        pyattn.attention_weights(*arrays[:2], **options),
        *pyattn.attention_topk(*arrays[:2], few, **options),
    )


def test_poison_is_what_it_says():
    for dtype in (np.float16, *FLOATS):
        a = poisoned(np.ones((4, 3), dtype), np.array([True, False, True, True]), "signalling nan")
        assert np.isnan(a[[0, 2, 3]]).all() and (a[1] == 1).all()
        quiet = pattern(np.nan, dtype) - pattern(np.inf, dtype)
        assert not (bits(a)[0] & quiet).any()


@pytest.mark.parametrize("shape, name", HIDING, ids=str)
def test_hidden_from_all(each_isa, shape, name, rng):
    """Poison in every key that no query of the batch element may see changes no bit."""
    for dtype in FLOATS:
        q, k, v = operands(rng, 3, 2, *shape, d=5, dv=9, kv_heads=1, dtype=dtype)
        options = OPTIONS[name](3, 2, *shape)
        hidden = ~visible((3, 2, *shape), options).any(axis=(1, 2))[:, None]
        both = [poisoned(a, hidden, "huge") for a in (k, v)]
        keys, values = (poisoned(a, hidden, "mixed") for a in (k, v))
        for _ in each_isa():
            expected = attend((q, k, v), options)
            for bad in (both, (keys, values), (k, values), (keys, v))[: 4 if dtype == F else 2]:
                assert_same_bits(attend((q, *bad), options), expected)


@pytest.mark.parametrize("shape, name", HIDING, ids=str)
def test_hidden_from_some(each_isa, shape, name, rng):
    """Poison in every key that a row may not see changes no bit of that row."""
    queries, keys = shape
    q, k, v = operands(rng, 2, 4, queries, keys, d=5, dv=9, kv_heads=2)
    options = OPTIONS[name](2, 4, *shape)
    seen = visible((2, 4, *shape), options)
    poisonings = []
    for n, row in enumerate(sorted({0, queries // 2, queries - 1})):
        poison = list(POISONS)[(n + queries) % len(POISONS)] if n == 1 else "mixed"
        at = n % 2, 2 * n % 4 + n // 2, row
        hidden = np.zeros((2, 2, keys), bool)
        hidden[at[0], at[1] // 2] = ~seen[at]
        poisonings.append((at, [poisoned(a, hidden, poison) for a in (k, v)]))
    for _ in each_isa():
        expected = attend((q, k, v), options)
        for at, bad in poisonings:
            for after, before in zip(attend((q, *bad), options), expected, strict=True):
                assert_same_bits(after[at], before[at])


@pytest.mark.parametrize("shape, name", HIDING, ids=str)
def test_hidden_in_the_bias(each_isa, shape, name, rng):
    """Poison in the bias, where something else hides the place, changes no bit."""
    q, k, v = operands(rng, 2, 2, *shape, d=5, dv=9)
    options = OPTIONS[name](2, 2, *shape)
    hidden = ~visible((2, 2, *shape), options)
    more = rng.standard_normal(hidden.shape)

    def with_bias(array):
        own = options.get("bias")
        return options | {"bias": array if own is None else biases.dense(array) + own}

    kinds = (F, "mixed"), (np.float16, "mixed"), (np.float64, "nan")
    for dtype, poison in kinds if shape[0] == 20 else kinds[:1]:
        bias = more.astype(dtype)
        bad = poisoned(bias, hidden, poison)
        for _ in each_isa():
            expected = attend((q, k, v), with_bias(bias))
            assert_same_bits(attend((q, k, v), with_bias(bad)), expected)


@pytest.mark.parametrize("shape, name", FEWER, ids=str)
def test_attended_value(each_isa, shape, name, rng):
    """Exactly the rows that attend to it stop being finite, in exactly the poisoned channels;
    everything else keeps its bits."""
    options = OPTIONS[name](2, 4, *shape)
    q, k, v = operands(rng, 2, 4, *shape, d=5, dv=19, kv_heads=2)
    seen = visible((2, 4, *shape), options)
    keys = shape[1]
    for _ in each_isa():
        out, lse = pyattn.attention(q, k, v, return_lse=True, **options)
        for j, bad in (0, np.inf), (keys // 2, np.nan), (keys - 1, -np.inf), (keys - 2, np.nan):
            values = v.copy()
            values[0, 1, j, [0, 7, 18]] = bad
            got, got_lse = pyattn.attention(q, k, values, return_lse=True, **options)
            hit = np.zeros(out.shape, bool)
            hit[0, 2:, :, [0, 7, 18]] = seen[0, 2:, :, j]
            assert np.array_equal(~np.isfinite(got), hit)
            if np.isnan(bad):
                assert np.array_equal(np.isnan(got), hit)
            assert_same_bits(np.where(hit, 0, got), np.where(hit, 0, out))
            assert_same_bits(got_lse, lse)


@pytest.mark.parametrize("shape, name", FEWER, ids=str)
def test_attended_key(each_isa, shape, name, rng):
    options = OPTIONS[name](2, 4, *shape)
    q, k, v = operands(rng, 2, 4, *shape, d=5, dv=3, kv_heads=2)
    seen = visible((2, 4, *shape), options)
    keys = shape[1]
    for _ in each_isa():
        expected = attend((q, k, v), options)
        for j in {0, keys // 2, keys - 1}:
            bad = k.copy()
            bad[0, 1, j, 2] = np.nan
            got = attend((q, bad, v), options)
            out, lse, weights = got[:3]
            hit = np.zeros(lse.shape, bool)
            hit[0, 2:] = seen[0, 2:, :, j]
            assert np.array_equal(np.isnan(lse), hit)
            assert np.array_equal(np.isnan(out), np.repeat(hit[..., None], 3, axis=-1))
            assert np.isnan(weights[hit]).all()
            for after, before in zip(got, expected, strict=True):
                assert_same_bits(after[~hit], before[~hit])


@pytest.mark.parametrize("shape, name", FEWER, ids=str)
def test_attended_bias(each_isa, shape, name, rng):
    """A NaN in one place of the bias is one row of NaN, if that row may see that key."""
    options = OPTIONS[name](2, 2, *shape)
    arrays = operands(rng, 2, 2, *shape, d=5, dv=3)
    seen = visible((2, 2, *shape), options)
    bias = rng.standard_normal(seen.shape).astype(np.float32)
    own = options.get("bias", biases.dense(np.zeros(shape, np.float32)))
    places = (0, 0, 0, 0), (1, 1, shape[0] - 1, shape[1] - 1), (0, 1, shape[0] // 2, 3)
    for _ in each_isa():
        expected = attend(arrays, options | {"bias": biases.dense(bias) + own})
        for at, poison in (*((at, np.nan) for at in places), (places[-1], np.inf)):
            bad = bias.copy()
            bad[at] = poison
            got = attend(arrays, options | {"bias": biases.dense(bad) + own})
            hit = np.zeros(seen.shape[:-1], bool)
            hit[at[:-1]] = seen[at]
            assert np.array_equal(np.isnan(got[0]).all(axis=-1), hit)
            assert np.array_equal(np.isnan(got[1]), hit)
            for after, before in zip(got, expected, strict=True):
                assert_same_bits(after[~hit], before[~hit])


@pytest.mark.parametrize("shape, name", FEWER, ids=str)
def test_query_row(each_isa, shape, name, rng):
    """A NaN query poisons its own row and no other; if it sees nothing, not even that."""
    options = OPTIONS[name](2, 4, *shape)
    q, k, v = operands(rng, 2, 4, *shape, d=5, dv=3, kv_heads=2)
    some = visible((2, 4, *shape), options).any(-1)
    for _ in each_isa():
        out, lse = pyattn.attention(q, k, v, return_lse=True, **options)
        for i in {0, shape[0] // 2, shape[0] - 1}:
            bad = q.copy()
            bad[1, 3, i, 0] = np.nan
            got, got_lse = pyattn.attention(bad, k, v, return_lse=True, **options)
            hit = np.zeros(lse.shape, bool)
            hit[1, 3, i] = some[1, 3, i]
            assert np.array_equal(np.isnan(got_lse), hit)
            assert np.array_equal(np.isnan(got).all(axis=-1), hit)
            assert_same_bits(got[~hit], out[~hit])
            assert_same_bits(got_lse[~hit], lse[~hit])


@ROWS
@pytest.mark.parametrize("keys", [2, 70, 1100, 2100])
def test_nan_that_weighs_nothing_is_still_seen(isa, keys, rows, rng):
    """Attended, though its weight underflows to 0: 0 * NaN is NaN, whichever comes first."""
    q, k, v = operands(rng, 1, 1, rows, keys, d=4)
    q[:] = np.abs(q)
    k[:] = np.abs(k)
    for low, high in ((0, keys - 1), (keys - 1, 0)):
        far = k.copy()
        far[..., low, :], far[..., high, :] = -1e4, 1e4
        bad = v.copy()
        bad[..., low, 1] = np.nan
        for mask in (None, np.isin(np.arange(keys), [low, high])):  # also where others are hidden
            out = pyattn.attention(q, far, bad, mask=mask)
            assert np.isnan(out[..., 1]).all()
            expected = pyattn.attention(q, far, v, mask=mask)
            assert_same_bits(out[..., [0, 2, 3]], expected[..., [0, 2, 3]])


def test_denormals_count(isa):
    """Numbers below the smallest normal one are numbers, in and out."""
    for dtype, tiny in ((np.float32, 1e-42), (np.float64, 1e-320)):
        v = np.full((3, 20), tiny, dtype)
        out = pyattn.attention(np.zeros((2, 20), dtype), np.ones((3, 20), dtype), v)
        np.testing.assert_allclose(
            out / np.finfo(dtype).smallest_subnormal,
            v[:2] / np.finfo(dtype).smallest_subnormal,
            atol=2,
        )
        assert (out > 0).all()


# --- any call


def poison_one_case(rng):
    """A random call; poison where no row may see it, and where one row may not."""
    choose = chooser(rng)
    leading = choose([(), (1,), (2,), (2, 2)])
    kv_heads, group = choose([(1, 1), (2, 1), (1, 3), (2, 2)])
    queries, keys = choose(EDGES), choose([*EDGES, 513, 600])
    if choose([False, True]):
        queries = keys = min(queries, keys)
    heads, d, dv, dtype = kv_heads * group, choose([1, 4, 17]), choose([1, 3, 16]), choose(FLOATS)
    options = draw_options(choose, rng, leading, heads, queries, keys)
    q, k, v = (
        rng.standard_normal((*leading, *shape)).astype(dtype)
        for shape in ((heads, queries, d), (kv_heads, keys, d), (kv_heads, keys, dv))
    )
    scores = (*leading, heads, queries, keys)
    seen = visible(scores, options)
    of_group = seen.reshape(*leading, kv_heads, group * queries, keys)
    expected = attend((q, k, v), options)

    poison = choose(["mixed", *POISONS])
    bad = [poisoned(a, ~of_group.any(axis=-2), poison) for a in (k, v)]
    assert_same_bits(attend((q, *bad), options), expected)

    at = tuple(int(rng.integers(n)) for n in scores[:-1])
    hidden = np.zeros((*leading, kv_heads, keys), bool)
    hidden[(*at[:-2], at[-2] // group)] = ~seen[at]
    bad = [poisoned(a, hidden, poison) for a in (k, v)]
    for after, before in zip(attend((q, *bad), options), expected, strict=True):
        assert_same_bits(after[at], before[at])
    return int((~seen).any())


def poison_cases(isa, count, seed):
    hiding = 0
    for i in range(count):
        try:
            hiding += poison_one_case(np.random.default_rng([seed, i]))
        except AssertionError as e:
            raise AssertionError(f"case {[seed, i]}: {e}") from e
    print(f"\n{isa}: {count} cases, {hiding} of them hide something")
    assert hiding > count / 2


def test_random_cases(isa):
    poison_cases(isa, 300, seed=1)


@pytest.mark.stress
def test_many_random_cases(isa):
    poison_cases(isa, 20_000, seed=2)


# --- what is finite hides nothing


def of_lowest(shape, form):
    """Biases that are very small, but not -inf."""
    lowest = np.finfo(np.float32).min
    return {
        "float32 lowest": lambda: np.full(shape, lowest, np.float32),
        "float32 -1e38": lambda: np.full(shape[-1:], -1e38, np.float32),
        "float64 lowest of float32": lambda: np.full(shape, float(lowest)),
        "float64 -1e300": lambda: np.full(shape, -1e300),
        "float64 lowest": lambda: np.full(shape, np.finfo(np.float64).min),
        "float16 lowest": lambda: np.full(shape, np.finfo(np.float16).min, np.float16),
    }[form]()


@pytest.mark.parametrize(
    "form",
    [
        "float32 lowest",
        "float32 -1e38",
        "float64 lowest of float32",
        "float64 -1e300",
        "float64 lowest",
        "float16 lowest",
    ],
)
@ROWS
def test_finite_numbers_hide_nothing(isa, form, rows, rng):
    """A row with all keys at the lowest number is a plain softmax of what is left of the scores:
    here of no difference at all, since scores vanish beside such a number."""
    for keys in (1, 5, 70, 600):
        q, k, v = operands(rng, 1, 2, rows, keys)
        bias = of_lowest((rows, keys), form)
        out, lse = pyattn.attention(q, k, v, bias=bias, return_lse=True)
        assert np.isfinite(lse).all()
        if "16" in form:
            expected = reference.attention(q, k, v)
            np.testing.assert_allclose(out, expected, rtol=0.1, atol=0.02)
        else:
            mean = np.broadcast_to(v.mean(axis=-2, keepdims=True), out.shape)
            np.testing.assert_allclose(out, mean, rtol=1e-5, atol=1e-6)
        # With another mask that hides some: these, and only these, are hidden.
        seen = np.arange(keys) % 3 != 1
        weights = pyattn.attention_weights(q, k, bias=bias, mask=seen)
        assert np.array_equal(weights > 0, np.broadcast_to(seen, weights.shape))
        # One key at a common number takes all.
        one = np.array(np.broadcast_to(bias, (rows, keys)))
        one[:, keys // 2] = 0
        weights = pyattn.attention_weights(q, k, bias=one)
        assert (weights[..., keys // 2] == 1).all()


@ROWS
def test_finite_numbers_in_float64(isa, rows, rng):
    q, k, v = operands(rng, 1, 2, rows, 70, dtype=np.float64)
    for lowest in (-1e300, np.finfo(np.float64).min):
        out, lse = pyattn.attention(q, k, v, bias=np.full(70, lowest), return_lse=True)
        assert np.isfinite(lse).all()
        np.testing.assert_allclose(out, np.repeat(v.mean(-2, keepdims=True), rows, -2), rtol=1e-12)


@pytest.mark.parametrize(
    "bias",
    [
        lambda lowest: biases.dense(lowest) + lowest,
        lambda lowest: biases.dense(lowest) + lowest + lowest,
        lambda lowest: biases.dense(lowest) + biases.alibi([1e30, 1e30]),
        lambda lowest: biases.alibi([1e30, 1e30]) + lowest,
        lambda lowest: biases.alibi([1e30, 1e30]) + biases.alibi([1e30, 1e30]),
    ],
)
@ROWS
def test_sums_of_finite_numbers_hide_nothing(isa, bias, rows, rng):
    """Two masks of another library, the lowest number where hidden, one added to the other."""
    q, k, v = operands(rng, 1, 2, rows, 70)
    lowest = np.full((rows, 70), np.finfo(np.float32).min, np.float32)
    out, lse = pyattn.attention(q, k, v, bias=bias(lowest), return_lse=True, query_start=10**9)
    assert not np.isneginf(lse).any()
    assert not (out == 0).any()


# --- scores that overflow


def right_or_nan(out, expected):
    """Rows are NaN or right."""
    bad = np.isnan(out)
    near = np.abs(out - expected) <= 1e-4 + 1e-4 * np.abs(expected)
    return (bad | near).all()


@pytest.mark.parametrize("shape, name", FEWER, ids=str)
def test_overflowing_scores(each_isa, shape, name, rng):
    """Scores beyond the range of float32: NaN or the right finite answer, never a silent 0."""
    options = OPTIONS[name](2, 2, *shape)
    some = visible((2, 2, *shape), options).any(axis=-1)
    for d in (1, 3):
        q, k, v = operands(rng, 2, 2, *shape, d=d, dv=4)
        q, k = q * np.float32(1e20), k * np.float32(1e20)
        k[..., ::3, :] *= np.float32(1e-25)  # and some that do not
        v += 10
        expected, expected_lse = reference.attention(q, k, v, return_lse=True, **options)
        expected_weights = reference.attention_weights(q, k, **options)
        for _ in each_isa():
            out, lse = pyattn.attention(q, k, v, return_lse=True, **options)
            weights = pyattn.attention_weights(q, k, **options)
            assert not out[~some].any()
            assert np.array_equal(np.isneginf(lse) & ~some, np.isneginf(expected_lse))
            if d == 1:
                assert right_or_nan(out, expected)
                assert right_or_nan(weights, expected_weights)
            elif "sinks" not in options:
                # A sum of several products may overflow on its way to a score that is none too
                # large; some key has the weight in any case.
                assert not (np.abs(out[some]).max(axis=-1) < 1).any()
            if d == 1 and "softcap" in options:
                assert np.isfinite(out).all()


@pytest.mark.xfail(reason="the sum is -inf on its way, and 0 is larger", strict=False)
@ROWS
def test_score_that_overflows_on_its_way(isa, rows):
    """The right answer or NaN: docs/numerics.md."""
    q = np.full((rows, 2), 1e20, np.float32)
    k = np.array([[0, 0], [-1e20, 2e20]], np.float32)
    out = pyattn.attention(q, k, np.array([[1], [2]], np.float32))
    assert (np.isnan(out) | (out == 2)).all()


@ROWS
@pytest.mark.parametrize("sign", [1, -1])
def test_all_scores_overflow(isa, sign, rows, rng):
    """Ties at infinity are NaN, in all that is returned."""
    q, k, v = (np.abs(x) + 1 for x in operands(rng, 1, 2, rows, 70))
    q, k = q * np.float32(1e20), k * np.float32(sign * 1e20)
    for options in (
        {},
        {"mask": np.arange(70) % 2 == 0},
        {"mask": masks.blocks(np.tri(1, 2, 1, dtype=bool), (rows, 64), rows, 70)},
        {"bias": np.ones((rows, 70))},
        {"window": (30, 2)},
    ):
        out = pyattn.attention(q, k, v, **options)
        weights = pyattn.attention_weights(q, k, **options)
        seen = visible((1, 2, rows, 70), options)
        assert np.isnan(out).all()
        assert np.isnan(weights).all()
        # Capped, they are all the same.
        out = pyattn.attention(q, k, v, softcap=5, **options)
        assert np.isfinite(out).all()
        share = np.where(seen, 1 / seen.sum(axis=-1, keepdims=True), 0)
        capped = pyattn.attention_weights(q, k, softcap=5, **options)
        if "bias" not in options:
            np.testing.assert_allclose(capped, share, rtol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_strongest_of_overflowing_scores(isa, sign, rng):
    """No silent 0 there either."""
    q, k, _ = (np.abs(x) + 1 for x in operands(rng, 1, 2, 3, 70))
    q, k = q * np.float32(1e20), k * np.float32(sign * 1e20)
    _, weights = pyattn.attention_topk(q, k, 4)
    assert np.isnan(weights).all()
