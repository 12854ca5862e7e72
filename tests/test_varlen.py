"""`attention_varlen`: every sequence has the bits that `attention` on it alone gives."""

import accuracy
import numpy as np
import pytest
from cases import chooser, disguised
from support import FLOATS, assert_same_bits, python

import pyattn
from pyattn import biases, reference

F = np.float32


def offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(int)


def packed(rng, queries, keys, heads=2, kv_heads=1, d=5, dv=3, dtype=F):
    """Query, key and value of sequences of these lengths, and where they begin."""
    shapes = (heads, d), (kv_heads, d), (kv_heads, dv)
    totals = sum(queries), sum(keys), sum(keys)
    arrays = [
        rng.standard_normal((total, *shape)).astype(dtype)
        for total, shape in zip(totals, shapes, strict=True)
    ]
    return arrays, (offsets(queries), offsets(keys))


def one_by_one(arrays, starts, bias=None, **options):
    """(out, lse) from one call of `attention` for each sequence."""
    q, k, v = arrays
    out = np.full((*q.shape[:2], v.shape[2]), np.nan, q.dtype)
    lse = np.full(q.shape[1::-1], np.nan, q.dtype)
    for n in range(len(starts[0]) - 1):
        own = bias
        if bias is not None and np.ndim(bias) == 2:
            own = bias[n % len(bias)]
        rows, keys = (slice(s[n], s[n + 1]) for s in starts)
        out[rows], lse[:, rows] = pyattn.attention(
            *(q[rows], k[keys], v[keys]),
            bias=None if bias is None else biases.alibi(own),
            layout="blhd",
            return_lse=True,
            **options,
        )
    return out, lse


def check(arrays, starts, bias=None, **options):
    alibi = None if bias is None else biases.alibi(bias)
    got = pyattn.attention_varlen(*arrays, *starts, bias=alibi, return_lse=True, **options)
    assert_same_bits(got, one_by_one(arrays, starts, bias, **options))
    return got


def random_call(rng):
    choose = chooser(rng)
    kv_heads, group = choose([(1, 1), (2, 1), (1, 3), (2, 2), (1, 20)])
    heads, count = kv_heads * group, choose([1, 2, 5, 30])
    longest = choose([1, 3, 20, 70, 200])
    queries = rng.integers(0, longest, count, endpoint=True)
    queries[rng.random(count) < 0.2] = 0
    keys = queries if choose([False, True]) else rng.integers(0, longest, count, endpoint=True)
    arrays, starts = packed(
        *(rng, queries, keys, heads, kv_heads),
        **{"d": choose([1, 5, 16, 33]), "dv": choose([1, 3, 16])},
        dtype=choose(FLOATS),
    )
    arrays = [disguised(choose, a) for a in arrays]
    options = {}
    if choose([False, True]):
        options["causal"] = choose([False, True])
    if choose([False, True]):
        options["window"] = choose([None, 0, 5, 60]), choose([None, 0, 3, 60])
    if choose([False, False, True]):
        options["softcap"] = choose([0.5, 20])
    if choose([False, False, True]):
        sinks = rng.standard_normal(heads)
        sinks[rng.random(heads) < 0.2] = -np.inf
        options["sinks"] = sinks
    if choose([False, False, True]):
        options["scale"] = choose([0, -1.5, 1])
    slopes = choose([None, (heads,), (count, heads), (1, heads)])
    if slopes is not None:
        options["bias"] = rng.uniform(-0.1, 1, slopes)
    return arrays, starts, options


@pytest.mark.parametrize("seed", range(60))
def test_random_calls(each_isa, seed):
    rng = np.random.default_rng([3, seed])
    arrays, starts, options = random_call(rng)
    bias = options.get("bias")
    given = options | {"bias": None if bias is None else biases.alibi(bias)}
    wide = [np.asarray(a, accuracy.ORACLE[a.dtype]) for a in arrays]
    expected = reference.attention_varlen(*wide, *starts, return_lse=True, **given)
    eps = np.finfo(arrays[0].dtype).eps
    for _ in each_isa():
        out, lse = check(arrays, starts, **options)
        assert out.dtype == lse.dtype == arrays[0].dtype
        into = np.full_like(out, np.nan)
        assert pyattn.attention_varlen(*arrays, *starts, out=into, **given) is into
        assert_same_bits(into, out)
        np.testing.assert_allclose(out, expected[0], rtol=1e3 * eps, atol=1e3 * eps)
        np.testing.assert_allclose(lse, expected[1], rtol=1e3 * eps, atol=1e3 * eps)


@pytest.mark.stress
def test_many_random_calls(isa):
    for seed in range(5000):
        arrays, starts, options = random_call(np.random.default_rng([4, seed]))
        check(arrays, starts, **options)


OPTIONS = {
    "all": {},
    "causal": {"causal": True},
    "window": {"window": (40, 3)},
    "all of them": {
        "causal": True,
        "window": (100, None),
        "softcap": 2,
        "sinks": np.array([0.5, -1]),
        "bias": np.array([0.5, 0.01]),
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_empty_sequences(isa, options, rng):
    """Without queries there is nothing to write; without keys there are zeros."""
    for queries, keys in (
        ([0, 5, 0, 0, 70, 3, 0], [7, 0, 0, 3, 65, 200, 1]),
        ([0, 0, 4], [0, 0, 600]),
        ([4, 0, 0], [0, 0, 3]),
        ([5, 9], [0, 0]),
        ([0, 0], [5, 9]),
        ([0, 0], [0, 0]),
        ([0], [0]),
        ([], []),
    ):
        arrays, starts = packed(rng, queries, keys)
        out, lse = check(arrays, starts, **options)
        for n, (count, seen) in enumerate(zip(queries, keys, strict=True)):
            rows = slice(starts[0][n], starts[0][n] + count)
            if not seen:
                assert_same_bits(out[rows], np.zeros_like(out[rows]))
                sinks = np.array(options.get("sinks", [-np.inf] * 2), F)
                assert (lse[:, rows] == sinks[:, None]).all()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_many_tiny_sequences(isa, options, rng):
    lengths = rng.integers(1, 4, 1000)
    check(*packed(rng, lengths, lengths), **options)
    check(*packed(rng, lengths, rng.integers(0, 4, 1000)), **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_few_long_sequences(isa, options, rng):
    """Few units, several chunks of keys: these are worked on in parallel."""
    check(*packed(rng, [5, 3000, 1, 70], [3000, 3000, 513, 0], kv_heads=2), **options)
    check(*packed(rng, [1, 40], [1025, 2049]), **options)
    check(*packed(rng, [600, 20], [600, 1300], dtype=np.float64), **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_threads(isa, threads, options, rng):
    queries, keys = [5, 0, 300, 1, 1, 1, 64, 2000], [70, 9, 300, 600, 1, 0, 64, 2000]
    arrays, starts = packed(rng, queries, keys, kv_heads=2)
    bias = options.get("bias")
    own = options | {"bias": None if bias is None else biases.alibi(bias), "return_lse": True}
    got = pyattn.attention_varlen(*arrays, *starts, **own)
    pyattn.set_num_threads(1)
    assert_same_bits(got, pyattn.attention_varlen(*arrays, *starts, **own))


def test_slopes_of_every_sequence(isa, rng):
    queries, keys = [9, 0, 70, 3], [9, 5, 600, 0]
    for kv_heads in (1, 2, 4):
        arrays, starts = packed(rng, queries, keys, heads=4, kv_heads=kv_heads)
        slopes = rng.uniform(0, 1, (4, 4))
        check(arrays, starts, bias=slopes, causal=True)
        check(arrays, starts, bias=slopes[0])
        check(arrays, starts, bias=slopes[:1])
        one = pyattn.attention_varlen(*arrays, *starts, bias=biases.alibi([0.5]))
        all_heads = biases.alibi([0.5] * 4)
        assert_same_bits(one, pyattn.attention_varlen(*arrays, *starts, bias=all_heads))
        twice = biases.alibi(slopes) + biases.alibi(slopes[0])
        out = pyattn.attention_varlen(*arrays, *starts, bias=twice)
        alone = [a[s[2] : s[3]] for a, s in zip(arrays, (*starts, starts[1]), strict=True)]
        twice = biases.alibi(slopes[2]) + biases.alibi(slopes[0])
        expected = pyattn.attention(*alone, bias=twice, layout="blhd")
        assert_same_bits(out[starts[0][2] : starts[0][3]], expected)


def test_a_batch_packed(isa, rng):
    """Sequences of one length are a batch."""
    q, k, v = (rng.standard_normal((6, n, h, 8)).astype(F) for n, h in ((20, 4), (70, 2), (70, 2)))
    options = {"causal": True, "sinks": np.zeros(4), "return_lse": True}
    out, lse = pyattn.attention(q, k, v, layout="blhd", **options)
    flat = [a.reshape(-1, *a.shape[2:]) for a in (q, k, v)]
    starts = np.arange(7) * 20, np.arange(7) * 70
    got, got_lse = pyattn.attention_varlen(*flat, *starts, **options)
    assert_same_bits(got, out.reshape(got.shape))
    assert_same_bits(got_lse, lse.swapaxes(0, 1).reshape(got_lse.shape))


def test_out(isa, rng):
    arrays, starts = packed(rng, [5, 0, 70], [5, 3, 64], d=8, dv=8)
    expected = pyattn.attention_varlen(*arrays, *starts)
    for out in (
        np.full((75, 2, 8), np.nan, F, order="F"),
        np.full((8, 2, 75), np.nan, F).T,
        np.full((75, 2, 8), np.nan, F)[::-1, ::-1, ::-1],
        np.full((150, 4, 24), np.nan, F)[::2, 1::2, ::3],
        np.full((2, 75, 8), np.nan, F).swapaxes(0, 1),
    ):
        assert pyattn.attention_varlen(*arrays, *starts, out=out) is out
        assert_same_bits(np.ascontiguousarray(out), expected)
    # Nothing around it is written; and it may be the query itself.
    wide = np.full((77, 4, 10), 77, F)
    pyattn.attention_varlen(*arrays, *starts, out=wide[1:-1, 1:-1, 1:-1])
    assert_same_bits(wide[1:-1, 1:-1, 1:-1].copy(), expected)
    wide[1:-1, 1:-1, 1:-1] = 77
    assert (wide == 77).all()
    assert_same_bits(pyattn.attention_varlen(*arrays, *starts, out=arrays[0]), expected)


def test_layouts(isa, rng):
    arrays, starts = packed(rng, [5, 0, 70], [5, 3, 64], heads=4, kv_heads=2)
    expected = pyattn.attention_varlen(*arrays, *starts, causal=True)
    for change in (
        np.asfortranarray,
        lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        lambda a: a.transpose(1, 2, 0).copy().transpose(2, 0, 1),
        lambda a: np.repeat(a, 3, axis=0)[::3],
        lambda a: a.astype(">f4"),
        lambda a: a.tolist(),
    ):
        changed = [change(a) for a in arrays]
        if isinstance(changed[0], list):
            expected = expected.astype(np.float64)
            got = pyattn.attention_varlen(*changed, *starts, causal=True)
            np.testing.assert_allclose(got, expected, atol=1e-5)
        else:
            assert_same_bits(pyattn.attention_varlen(*changed, *starts, causal=True), expected)
    for kind in (list, tuple, lambda s: s.astype(np.uint8), lambda s: np.repeat(s, 2)[::2]):
        own = [kind(s) for s in starts]
        assert_same_bits(pyattn.attention_varlen(*arrays, *own, causal=True), expected.astype(F))


def test_default_offsets(isa, rng):
    arrays, starts = packed(rng, [5, 0, 70], [5, 0, 70])
    expected = pyattn.attention_varlen(*arrays, *starts)
    assert_same_bits(pyattn.attention_varlen(*arrays, starts[0]), expected)
    assert_same_bits(pyattn.attention_varlen(*arrays, starts[0], None), expected)


def test_extents_of_0(isa, rng):
    for heads, kv_heads, d, dv in ((0, 0, 4, 4), (0, 2, 4, 4), (2, 1, 0, 3), (2, 1, 4, 0)):
        arrays, starts = packed(rng, [5, 0, 70], [5, 3, 64], heads, kv_heads, d, dv)
        check(arrays, starts, causal=True)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_other_sequences_cannot_be_seen(isa, poison, rng):
    arrays, starts = packed(rng, [5, 70, 9], [5, 70, 600], d=4, dv=4)
    expected = pyattn.attention_varlen(*arrays, *starts, return_lse=True)
    for n in range(3):
        bad = [a.copy() for a in arrays]
        for a, s in zip(bad, (*starts, starts[1]), strict=True):
            a[s[n] : s[n + 1]] = poison
        out, lse = pyattn.attention_varlen(*bad, *starts, return_lse=True)
        others = np.ones(len(out), bool)
        others[starts[0][n] : starts[0][n + 1]] = False
        assert_same_bits(out[others], expected[0][others])
        assert_same_bits(lse[:, others], expected[1][:, others])
        assert np.isnan(out[~others]).all()


def test_memory_does_not_grow_with_the_sequences():
    code = """
import numpy as np, pyattn
def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024
def call(count, length):
    x = np.ones((count * length, 2, 16), np.float32)
    out, starts = np.ones_like(x), np.arange(count + 1) * length
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = peak()
    pyattn.attention_varlen(x, x, x, starts, starts, out=out, causal=True)
    return peak() - before
call(4, 1000)
print(call(10000, 3), call(2, 15000))
"""
    try:
        many, long = map(int, python(code, PYATTN_NUM_THREADS="2").split())
    except (FileNotFoundError, AssertionError) as e:
        if "/proc" in str(e):
            pytest.skip("reads /proc")
        raise
    assert many < 2e6
    assert long < 4e6


X = np.zeros((7, 2, 4), F)
Q = [0, 5, 7]


@pytest.mark.parametrize(
    "arrays, starts, options, kind, text",
    [
        ([X[0], X, X], [Q], {}, ValueError, "query must be (tokens, heads, size), got (2, 4)"),
        (
            [X, X, X[None]],
            [Q],
            {},
            ValueError,
            "value must be (tokens, heads, size), got (1, 7, 2, 4)",
        ),
        (
            [X, X[:, :, :3], X],
            [Q],
            {},
            ValueError,
            "query and key must have the same head size (axis -1): query (7, 2, 4) has 4, "
            "key (7, 2, 3) has 3",
        ),
        (
            [X, X, X[:6]],
            [Q],
            {},
            ValueError,
            "key and value must have the same length (axis -3): key (7, 2, 4) has 7, "
            "value (6, 2, 4) has 6",
        ),
        (
            [np.zeros((7, 3, 4), F), X, X],
            [Q],
            {},
            ValueError,
            "3 query heads cannot be grouped over 2 key/value heads (need H % Hkv == 0): "
            "query (7, 3, 4), key (7, 2, 4)",
        ),
        ([X, X, X], [[0.0, 7]], {}, TypeError, "cu_seqlens_q must be integers, got float64"),
        (
            [X, X, X],
            [None],
            {},
            ValueError,
            "cu_seqlens_q is needed: query and key have different lengths",
        ),
        (
            [X, X, X],
            [np.ma.masked_array([0, 7])],
            {},
            TypeError,
            "cu_seqlens_q must not be a masked array",
        ),
        (
            [X, X, X],
            [[[0, 7]]],
            {},
            ValueError,
            "cu_seqlens_q must have shape (sequences + 1,), got (1, 2)",
        ),
        ([X, X, X], [7], {}, ValueError, "cu_seqlens_q must have shape (sequences + 1,), got ()"),
        (
            [X, X, X],
            [np.zeros(0, int)],
            {},
            ValueError,
            "cu_seqlens_q must have shape (sequences + 1,), got (0,)",
        ),
        ([X, X, X], [[1, 7]], {}, ValueError, "cu_seqlens_q must begin with 0, got 1"),
        (
            [X, X, X],
            [[0, 6]],
            {},
            ValueError,
            "cu_seqlens_q must end with the 7 tokens there are: 6",
        ),
        (
            [X, X, X],
            [[0, 8]],
            {},
            ValueError,
            "cu_seqlens_q must end with the 7 tokens there are: 8",
        ),
        (
            [X, X, X],
            [Q, [0, 5, 3, 7]],
            {},
            ValueError,
            "cu_seqlens_k must be non-decreasing: element 2 (3) < element 1 (5)",
        ),
        (
            [X, X, X],
            [np.array([0, 2**64 - 1, 7], np.uint64)],
            {},
            ValueError,
            f"cu_seqlens_q must be non-decreasing: element 2 (7) < element 1 ({2**64 - 1})",
        ),
        (
            [X, X, X],
            [Q, [0, 7]],
            {},
            ValueError,
            "cu_seqlens_q and cu_seqlens_k must have the same length: 3 and 2",
        ),
        (
            [X, X[:5], X[:5]],
            [Q],
            {},
            ValueError,
            "cu_seqlens_k is needed: query and key have different lengths",
        ),
        (
            [X, X, X],
            [Q],
            {"bias": np.zeros((2, 7, 7))},
            TypeError,
            "of packed sequences bias can only be pyattn.biases.alibi(slopes)",
        ),
        (
            [X, X, X],
            [Q],
            {"bias": biases.alibi([1.0, 1]) + np.zeros(7)},
            TypeError,
            "of packed sequences bias can only be pyattn.biases.alibi(slopes)",
        ),
        (
            [X, X, X],
            [Q],
            {"bias": biases.alibi(np.ones((3, 2)))},
            ValueError,
            "bias (3, 2, None, None) does not broadcast to the scores (2, 2, 7, 7) "
            "[batch, heads, queries, keys]",
        ),
        (
            [X, X, X],
            [Q],
            {"sinks": np.zeros(3)},
            ValueError,
            "sinks must have shape (2,), one per head: (3,)",
        ),
        (
            [X, X, X],
            [Q],
            {"out": np.zeros((2, 7, 4), F)},
            ValueError,
            "out must have shape (7, 2, 4), got (2, 7, 4)",
        ),
        ([X, X, X], [Q], {"causal": 1}, TypeError, "causal must be True or False, got int"),
    ],
    ids=lambda x: x[:40] if isinstance(x, str) else "",
)
def test_errors(arrays, starts, options, kind, text):
    out = np.full((7, 2, 4), 7, F)
    with pytest.raises(kind) as caught:
        pyattn.attention_varlen(*arrays, *starts, **{"out": out, **options})
    assert str(caught.value) == "attention_varlen: " + text
    assert type(caught.value) is kind
    assert (out == 7).all()


@pytest.mark.parametrize("name", ["mask", "query_start", "key_lengths", "layout"])
def test_what_makes_no_sense(name):
    with pytest.raises(TypeError, match=name):
        pyattn.attention_varlen(X, X, X, Q, **{name: None})
