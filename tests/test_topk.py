"""`attention_topk` against sorting all of `attention_weights`."""

import numpy as np
import pytest
from cases import chooser, disguised, draw_options
from support import (
    EDGES,
    FLOATS,
    OPTIONS,
    assert_same_bits,
    operands,
    options_for,
    python,
    visible,
)

import pyattn
from pyattn import reference

F = np.float32


def strongest(weights, seen, k):
    """(indices, weights): of equal ones the first; -1 and 0 where fewer than k are seen."""
    order = np.argsort(np.where(seen, -weights, 1), axis=-1, kind="stable")[..., :k]
    there = np.take_along_axis(seen, order, axis=-1)
    best = np.take_along_axis(weights, order, axis=-1)
    return np.where(there, order, -1), np.where(there, best, weights.dtype.type(0))


def check(q, keys, k, options, layout="bhld"):
    """Of scores that are all different, or equal only where the weights are nothing but equal."""
    got = pyattn.attention_topk(q, keys, k, layout=layout, **options)
    weights = pyattn.attention_weights(q, keys, layout=layout, **options)
    assert got[0].dtype == np.int64 and got[1].dtype == q.dtype
    seen = visible(weights.shape, options)
    indices, best = strongest(weights, seen, k)
    assert_same_bits(got[1], best)
    # Different scores may become equal weights (0, if small): then the larger score comes first.
    there = got[0] >= 0
    assert np.array_equal(there, indices >= 0)
    found = np.take_along_axis(weights, np.maximum(got[0], 0), axis=-1)
    assert_same_bits(np.where(there, found, 0), best)
    assert np.take_along_axis(seen, np.maximum(got[0], 0), axis=-1)[there].all()
    clear = np.diff(np.where(there, best, -1), axis=-1) < 0  # larger than the next
    clear = np.concatenate([clear, np.ones_like(there[..., :1])], axis=-1)
    clear[..., 1:] &= clear[..., :-1]
    clear[..., -1] &= k == weights.shape[-1]
    assert np.array_equal(got[0][clear], indices[clear])
    in_order = np.sort(got[0], axis=-1)
    assert ((np.diff(in_order, axis=-1) > 0) | (in_order[..., 1:] == -1)).all()  # none twice
    return got


@pytest.mark.parametrize("option", OPTIONS)
def test_options(isa, option, rng):
    for queries, keys in ((1, 1), (20, 65), (70, 70), (3, 600)):
        if option not in options_for(queries, keys):
            continue
        for dtype in FLOATS if queries == 20 else (F,):
            q, k, _ = operands(rng, 2, 4, queries, keys, d=5, kv_heads=2, dtype=dtype)
            for count in {1, keys} if queries == 20 else {min(7, keys)}:
                check(q, k, count, OPTIONS[option](2, 4, queries, keys))


def random_case(rng):
    choose = chooser(rng)
    leading = choose([(), (1,), (3,), (2, 2)])
    kv_heads, group = choose([(1, 1), (2, 1), (1, 3), (2, 2)])
    queries, keys = choose(EDGES), choose([*EDGES, 513, 600])
    if choose([False, True]):
        queries = keys = min(queries, keys)
    heads, d, dtype = kv_heads * group, choose([1, 4, 17]), choose(FLOATS)
    options = draw_options(choose, rng, leading, heads, queries, keys)
    q, k = (
        disguised(choose, rng.standard_normal((*leading, *shape)).astype(dtype))
        for shape in ((heads, queries, d), (kv_heads, keys, d))
    )
    if choose([False, True]):
        return (
            q.swapaxes(-3, -2),
            k.swapaxes(-3, -2),
            choose([1, keys, -(-keys // 3)]),
            options,
            "blhd",
        )
    return q, k, choose([1, keys, -(-keys // 3)]), options, "bhld"


@pytest.mark.parametrize("seed", range(8))
def test_random_cases(isa, seed):
    for i in range(20):
        check(*random_case(np.random.default_rng([5, seed, i])))


@pytest.mark.stress
def test_many_random_cases(isa):
    for i in range(5000):
        check(*random_case(np.random.default_rng([6, i])))


def test_against_the_slow_twin(isa, rng):
    q, k, _ = operands(rng, 2, 4, 20, 70, kv_heads=2, dtype=np.float64)
    for name in options_for(20, 70):
        options = OPTIONS[name](2, 4, 20, 70)
        indices, weights = pyattn.attention_topk(q, k, 5, **options)
        expected = reference.attention_topk(q, k, 5, **options)
        assert np.array_equal(indices, expected[0])
        np.testing.assert_allclose(weights, expected[1], rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize("dtype", FLOATS)
def test_ties_go_to_the_first_key(isa, dtype, rng):
    for keys in (1, 5, 64, 70, 600, 1100):
        q, k = np.zeros((1, 2, 3, 4), dtype), np.zeros((1, 1, keys, 4), dtype)
        for count in {1, keys // 2 or 1, keys}:
            indices, weights = pyattn.attention_topk(q, k, count)
            assert np.array_equal(indices, np.broadcast_to(np.arange(count), indices.shape))
            assert (weights == weights[0, 0, 0, 0]).all()
            seen = np.arange(keys) % 3 == 1
            indices, _ = pyattn.attention_topk(q, k, count, mask=seen)
            first = np.flatnonzero(seen)[:count]
            first = np.concatenate([first, np.full(count - len(first), -1)])
            assert np.array_equal(indices, np.broadcast_to(first, indices.shape))
    # Two keys of each kind, the better ones late.
    k = np.array([0, 1, 0, 3, 1, 3, 2], dtype)[:, None]
    indices, _ = pyattn.attention_topk(np.ones((1, 1), dtype), k, 7)
    assert indices.tolist() == [[3, 5, 6, 1, 4, 0, 2]]
    indices, _ = pyattn.attention_topk(np.ones((1, 1), dtype), k, 4, bias=np.array([9.0] + [0] * 6))
    assert indices.tolist() == [[0, 3, 5, 6]]


def test_order_of_any_kind(isa, rng):
    """Keys in rising and in falling order: every one, and only the first few, must move."""
    for keys in (5, 70, 600, 1100):
        k = np.arange(keys, dtype=F)[:, None] / keys
        for sign in (1, -1):
            q = np.full((2, 1), sign, F)
            for count in (1, 4, keys):
                indices, _ = pyattn.attention_topk(q, k, count)
                expected = np.arange(keys)[::-sign] if sign > 0 else np.arange(keys)
                assert np.array_equal(indices, np.broadcast_to(expected[:count], indices.shape))


def test_fewer_keys_than_k(isa, rng):
    q, k, _ = operands(rng, 3, 2, 5, 70)
    indices, weights = pyattn.attention_topk(q, k, 10, key_lengths=[70, 4, 0])
    assert (indices[0] >= 0).all() and (weights[0] > 0).all()
    assert (indices[1, ..., :4] >= 0).all() and (indices[1, ..., 4:] == -1).all()
    assert not weights[1, ..., 4:].any()
    assert (indices[2] == -1).all() and not weights[2].any()
    np.testing.assert_allclose(weights[1].sum(axis=-1), 1, rtol=1e-6)


def test_weights_that_vanish_have_an_order(isa):
    """Weights that underflow to 0 are still those of the next best keys."""
    k = np.array([0, -300, -200, 400], F)[:, None]
    indices, weights = pyattn.attention_topk(np.ones((1, 1), F), k, 4)
    assert indices.tolist() == [[3, 0, 2, 1]]
    assert weights.tolist() == [[1, 0, 0, 0]]


def test_nan_elsewhere_is_not_seen(isa, rng):
    q, k, _ = operands(rng, 1, 2, 20, 70)
    expected = pyattn.attention_topk(q, k, 5, causal=True)
    bad = k.copy()
    bad[0, 1, 60] = np.nan
    indices, weights = pyattn.attention_topk(q, bad, 5, causal=True)
    assert_same_bits(indices[:, 0], expected[0][:, 0])
    assert_same_bits(weights[:, :, :10], expected[1][:, :, :10])  # row i sees up to 50 + i
    assert np.isnan(weights[0, 1, 10:]).all()
    assert_same_bits(weights[:, 0], expected[1][:, 0])


@pytest.mark.parametrize("k", [1, 69, 70])
def test_nan_is_all_of_the_row(isa, k, rng):
    """Also where the NaN would stand, and where all scores are NaN."""
    q, keys, _ = operands(rng, 1, 2, 20, 70)
    keys[0, 1] = np.nan
    keys[0, 0, 3] = np.nan
    _, weights = pyattn.attention_topk(q, keys, k)
    assert np.isnan(weights).all()


def test_layouts(isa, rng):
    q, k, _ = operands(rng, 2, 4, 20, 70, kv_heads=2)
    expected = pyattn.attention_topk(q, k, 5, causal=True)
    swapped = q.swapaxes(1, 2), k.swapaxes(1, 2)
    assert_same_bits(pyattn.attention_topk(*swapped, 5, causal=True, layout="blhd"), expected)
    copies = [a.copy() for a in swapped]
    assert_same_bits(pyattn.attention_topk(*copies, 5, causal=True, layout="blhd"), expected)
    for change in (np.asfortranarray, lambda a: a[..., ::-1].copy()[..., ::-1]):
        assert_same_bits(pyattn.attention_topk(change(q), change(k), 5, causal=True), expected)
    one = pyattn.attention_topk(q[0, 0], k[0, 0], 5, causal=True)
    assert_same_bits(one, (expected[0][0, 0], expected[1][0, 0]))
    five = pyattn.attention_topk(q[None], k, np.int8(5), causal=True)
    assert_same_bits(five, (expected[0][None], expected[1][None]))


def test_threads(isa, threads, rng):
    """Few units and many; the bits and the keys do not depend on who finds them."""
    for batch, heads, queries, keys in ((1, 1, 1, 3000), (1, 2, 70, 1100), (3, 30, 5, 130)):
        q, k, _ = operands(rng, batch, heads, queries, keys)
        got = pyattn.attention_topk(q, k, 6)
        before = pyattn.get_num_threads()
        pyattn.set_num_threads(1)
        assert_same_bits(pyattn.attention_topk(q, k, 6), got)
        pyattn.set_num_threads(before)


def test_extents_of_0(isa):
    for shape in ((0, 2, 3), (2, 0, 3), (2, 2, 0)):
        q, k = np.zeros((*shape, 4), F), np.zeros((shape[0], shape[1], 5, 4), F)
        indices, weights = pyattn.attention_topk(q, k, 2)
        assert indices.shape == weights.shape == (*shape, 2)
    indices, weights = pyattn.attention_topk(np.zeros((3, 0), F), np.zeros((5, 0), F), 2)
    assert indices.tolist() == [[0, 1]] * 3
    np.testing.assert_allclose(weights, 0.2)


X = np.zeros((1, 2, 4, 8), F)


@pytest.mark.parametrize(
    "k, kind, text",
    [
        (0, ValueError, "k = 0 is outside [1, 4], the keys there are"),
        (5, ValueError, "k = 5 is outside [1, 4], the keys there are"),
        (-1, ValueError, "k = -1 is outside [1, 4], the keys there are"),
        (2**70, ValueError, f"k = {2**70} is outside [1, 4], the keys there are"),
        (2.0, TypeError, "k must be a whole number, got float"),
        (True, TypeError, "k must be a whole number, got bool"),
        (None, TypeError, "k must be a whole number, got NoneType"),
        ([2], TypeError, "k must be a whole number, got list"),
    ],
)
def test_errors(k, kind, text):
    with pytest.raises(kind) as caught:
        pyattn.attention_topk(X, X, k)
    assert str(caught.value) == "attention_topk: " + text


def test_no_keys():
    with pytest.raises(ValueError, match=r"attention_topk: k = 1 is outside \[1, 0\]"):
        pyattn.attention_topk(X, X[:, :, :0], 1)


def test_memory_does_not_grow_with_the_scores():
    """At L = S = 16,384 these would be 1 GB."""
    code = """
import numpy as np, pyattn
def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024
def call(length):
    x = np.random.default_rng(0).standard_normal((1, 1, length, 16), np.float32)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = peak()
    pyattn.attention_topk(x, x, 8)
    return peak() - before
call(2048)
print(call(16384))
"""
    try:
        extra = int(python(code, PYATTN_NUM_THREADS="2"))
    except AssertionError as e:
        if "/proc" in str(e):
            pytest.skip("reads /proc")
        raise
    assert extra < 16384 * 8 * 12 + 2e6  # the results and little more
