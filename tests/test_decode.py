"""Few query rows, as in decoding: up to FEW_ROWS rows of a key head other kernels compute than for
many, lanes along the head size. Their promises are the same; here they are tested around the
switch, at every kind of head size, and where the layout of keys and values decides how they are
read."""

import accuracy
import numpy as np
import pytest
from cases import chooser, disguised
from support import (
    FEW_ROWS,
    FLOATS,
    ONLY_SQUARE,
    OPTIONS,
    STRESS,
    assert_same_bits,
    operands,
    python,
)

import pyattn
from pyattn import _core

# Query heads that share a key head, and queries: up to the switch, and a little beyond.
GROUPS = [(1, 1), (1, 2), (1, 7), (1, 8), (1, 9), (1, 12), (2, 1), (2, 4), (2, 5), (3, 1), (3, 2)]
GROUPS += [(3, 3), (4, 1), (4, 2), (4, 3), (5, 1), (5, 2), (8, 1), (12, 1)]
SIZES = [1, 3, 16, 64, 80, 128, 200, 256]
# Around the chains of 16 keys, the blocks of 64, the chunks of 512.
KEYS = [1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 511, 512, 513, 577, 1023, 1024, 1025, 1100]


def attend(arrays, options, **more):
    return pyattn.attention(*arrays, return_lse=True, **options, **more)


@pytest.fixture
def check(each_isa):
    """Checks a call against float64 (longdouble), in the unit of `accuracy.py`."""

    def check(arrays, options):
        exact = accuracy.Exact(*arrays, **options)
        for _ in each_isa():
            e = exact.errors(*attend(arrays, options))
            assert max(e.out, e.lse) <= accuracy.LIMIT, e

    return check


# --- right


@pytest.mark.parametrize("group, queries", GROUPS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_around_the_switch(check, dtype, group, queries, rng):
    for keys in (1, 65, 530):
        arrays = operands(rng, 2, 2 * group, queries, keys, 17, 33, kv_heads=2, dtype=dtype)
        check(arrays, {})
        check(arrays, {"causal": True, "key_lengths": [keys, keys // 2]})


@pytest.mark.parametrize("d", SIZES)
def test_head_sizes(check, d, rng):
    for n, dv in enumerate(SIZES):
        for keys, (group, queries) in ((KEYS[n % 4], GROUPS[n]), (70 + n, GROUPS[-n])):
            arrays = operands(rng, 1, group, queries, keys, d, dv, kv_heads=1)
            check(arrays, {"causal": True, "softcap": 3.0})
        check(operands(rng, 1, 1, 1, 67, d, dv, dtype=np.float64), {})


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_edges(check, rows, keys, rng):
    q, k, v = operands(rng, 1, 2 * rows, 1, keys + 70, d=16, kv_heads=2)
    v += np.float32(10)
    check((q, k[:, :, :keys], v[:, :, :keys]), {})
    check((q, k, v), {"key_lengths": keys, "bias": rng.standard_normal(keys + 70)})
    check((q, k, v), {"window": (keys - 1, 0)})  # not from the first key on


def shapes_for(option):
    return ((4, 4), (8, 8)) if option in ONLY_SQUARE else ((1, 65), (3, 600))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_options(check, dtype, option, rng):
    for n, (queries, keys) in enumerate(shapes_for(option)):
        kv_heads = 2 if queries * 2 <= FEW_ROWS else 4
        if dtype is np.float64 and n:
            keys = min(keys, 140)
        arrays = operands(rng, 2, 4, queries, keys, d=12, dv=5, kv_heads=kv_heads, dtype=dtype)
        check(arrays, OPTIONS[option](2, 4, queries, keys))


def random_case(rng):
    choose = chooser(rng)
    group, queries = choose(GROUPS)
    keys = int(np.exp(rng.uniform(0, np.log(3000))))
    d, dv = choose([*SIZES, 7, 33]), choose([*SIZES, 7, 33])
    q, k, v = operands(rng, 1, group, queries, keys, d, dv, kv_heads=1)
    q *= np.float32(rng.uniform(0.1, 4))
    k += np.float32(choose([0, 3]))
    v = (v + np.float32(choose([0, 10]))) * np.float32(10 ** rng.uniform(-20, 18))
    return (q, k, v), {"causal": choose([False, True])}


def random_cases(isas, count, seed, limit):
    worst = 0
    for i in range(count):
        arrays, options = random_case(np.random.default_rng([seed, i]))
        exact = accuracy.Exact(*arrays, **options)
        for isa in isas():
            e = exact.errors(*attend(arrays, options))
            worst = max(worst, e.out, e.lse)
            assert max(e.out, e.lse) <= limit, (isa, [seed, i], e)
    print(f"\n{count} cases: largest error {worst:.2f}")


def test_random_cases(each_isa):
    random_cases(each_isa, 120, 31, accuracy.LIMIT)


@pytest.mark.stress
def test_many_random_cases(each_isa):
    random_cases(each_isa, 10_000, 32, accuracy.LIMIT_RARE)


@pytest.mark.parametrize("dtype", FLOATS)
def test_few_and_many_differ_by_rounding(each_isa, dtype, rng):
    """A row, and the same row so often that it is many."""
    for keys, d in ((1, 64), (70, 3), (1100, 64), (1100, 200)):
        q, k, v = operands(rng, 2, 2, 1, keys, d, 24, dtype=dtype)
        many = np.repeat(q, FEW_ROWS + 1, axis=2)
        exact = accuracy.Exact(q, k, v)
        for _ in each_isa():
            out, lse = attend((q, k, v), {})
            other, other_lse = attend((many, k, v), {})
            assert_same_bits(other, np.repeat(other[:, :, :1], FEW_ROWS + 1, axis=2))
            apart = np.abs(out - other[:, :, :1]) / exact.out_bound
            assert apart.max() <= 4
            assert (np.abs(lse - other_lse[:, :, :1]) / exact.lse_bound).max() <= 4


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_less_accurate_than_many(each_isa, dtype, rng):
    """On average, where one key has most of the weight and comes first: what longer chains would
    lose (chains of 64 keys 1.7 times as much)."""
    q, k, v = operands(rng, 24, 2, 1, 64, 16, 64, dtype=dtype)
    k[:, :, 0] = 2 * q[:, :, 0]
    v += dtype(10)
    exact = accuracy.Exact(q, k, v)
    for _ in each_isa():
        few, many = (
            (np.abs(pyattn.attention(queries, k, v)[:, :, :1] - exact.out) / exact.out_bound).mean()
            for queries in (q, np.repeat(q, FEW_ROWS + 1, axis=2))
        )
        assert few <= 1.3 * many, (few, many)


# --- the same bits

FEW = [(group, queries) for group, queries in GROUPS if group * queries <= FEW_ROWS]


@pytest.mark.parametrize("group, queries", FEW)
def test_company_changes_nothing(each_isa, group, queries, rng):
    """Of heads that share a key head, of batch elements, of other rows."""
    for keys, d, dv in ((70, 19, 33), (1100, 64, 16)):
        q, k, v = operands(rng, 3, 2 * group, queries, keys, d, dv, kv_heads=2)
        options = {"window": (keys // 2, 0), "softcap": 2.0, "key_lengths": [keys, 3, keys // 2]}
        for _ in each_isa():
            out, lse = attend((q, k, v), options)
            repeated = q, np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
            assert_same_bits(attend(repeated, options), (out, lse))
            for b in range(3):
                own = options | {"key_lengths": options["key_lengths"][b]}
                at = np.s_[b : b + 1]
                assert_same_bits(attend((q[at], k[at], v[at]), own), (out[at], lse[at]))
                row = np.s_[b : b + 1, :, queries - 1 :]
                assert_same_bits(attend((q[row], k[at], v[at]), own), (out[row], lse[row]))


@pytest.mark.parametrize("option", ["all", "causal lengths", "window", "everything"])
def test_chunks_side_by_side_or_one_by_one(each_isa, option, rng):
    """Of few sequences the chunks are computed side by side, of many each unit goes through its
    own: the same bits."""
    batch, heads, keys = 40, 4, 1300
    arrays = operands(rng, batch, heads, 1, keys, 8, 5, kv_heads=2)
    options = OPTIONS[option](batch, heads, 1, keys)
    options.pop("mask", None)  # which is of a batch
    options.pop("bias", None)
    for _ in each_isa():
        out, lse = attend(arrays, options)
        for b in (0, 17, batch - 1):
            own = {n: x[b : b + 1] if np.shape(x) == (batch,) else x for n, x in options.items()}
            got = attend([a[b : b + 1] for a in arrays], own)
            assert_same_bits(got, (out[b : b + 1], lse[b : b + 1]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_threads(each_isa, dtype, rng):
    """One sequence in many chunks, and many units."""
    before = pyattn.get_num_threads()
    calls = []
    for batch, heads, kv_heads, queries, keys in ((1, 8, 1, 1, 5000), (1, 4, 4, 2, 1100)):
        calls.append(operands(rng, batch, heads, queries, keys, 32, 17, kv_heads, dtype))
    calls.append(operands(rng, 16, 8, 1, 130, 64, kv_heads=8, dtype=dtype))
    try:
        for _ in each_isa():
            for arrays in calls:
                options = {"key_lengths": arrays[1].shape[2] - 1, "sinks": np.ones(8)}
                options["sinks"] = options["sinks"][: arrays[0].shape[1]]
                pyattn.set_num_threads(1)
                expected = attend(arrays, options)
                for threads in (2, 3, 7):
                    pyattn.set_num_threads(threads)
                    assert_same_bits(attend(arrays, options), expected)
    finally:
        pyattn.set_num_threads(before)


def far_apart(a):
    """As in a cache with room for more, heads beside each other."""
    large = np.full((a.shape[0], a.shape[2] + 9, a.shape[1], a.shape[3] + 3), np.nan, a.dtype)
    view = large[:, : a.shape[2], :, : a.shape[3]]
    view[...] = a.swapaxes(1, 2)
    return view.swapaxes(1, 2)


LAYOUTS = {
    "far apart": far_apart,
    "Fortran": np.asfortranarray,
    "columns reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "rows reversed": lambda a: a[:, :, ::-1].copy()[:, :, ::-1],
    "every second column": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("d, dv", [(64, 64), (19, 35), (16, 3), (1, 1)])
def test_layouts(each_isa, dtype, d, dv, rng):
    """Keys and values that kernels can read where they lie, and those that are copied first, block
    by block; also where only one of both is."""
    arrays = operands(rng, 2, 4, 2, 150, d, dv, kv_heads=2, dtype=dtype)
    options = {"causal": True, "softcap": 5.0}
    choose = chooser(rng)
    forms = [[change(a) for a in arrays] for change in LAYOUTS.values()]
    forms += [[disguised(choose, a) for a in arrays] for _ in range(30 if STRESS else 5)]
    for _ in each_isa():
        expected = attend(arrays, options)
        for changed in forms:
            assert_same_bits(attend(changed, options), expected)
            for i in range(3):
                mixed = [*arrays[:i], changed[i], *arrays[i + 1 :]]
                assert_same_bits(attend(mixed, options), expected)
        swapped = [a.swapaxes(1, 2).copy() for a in arrays]
        got = attend(swapped, options, layout="blhd")
        assert_same_bits((got[0].swapaxes(1, 2), got[1]), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_addresses(each_isa, dtype, rng):
    """At any byte of a line."""
    arrays = operands(rng, 1, 2, 3, 70, d=32, dv=16, dtype=dtype)
    for _ in each_isa():
        expected = attend(arrays, {})
        for by in (1, 2, 3, 4, 8, 12, 16, 20, 32, 60):
            moved = []
            for a in arrays:
                raw = np.zeros(a.nbytes + 128, np.uint8)
                start = -raw.ctypes.data % 64 + by
                moved.append(raw[start : start + a.nbytes].view(a.dtype).reshape(a.shape))
                moved[-1][...] = a
            assert_same_bits(attend(moved, {}), expected)


def test_broadcast_keys(isa, rng):
    """One cache for all of the batch, and one key for all of the length: strides of 0."""
    q, k, v = operands(rng, 3, 4, 2, 70, d=32, kv_heads=2)
    copies = (np.repeat(a[:1], 3, axis=0) for a in (k, v))
    assert_same_bits(attend((q, k[:1], v[:1]), {}), attend((q, *copies), {}))
    for axis in range(4):
        views = [np.broadcast_to(np.take(a, [0], axis), a.shape) for a in (k, v)]
        assert_same_bits(attend((q, *views), {}), attend((q, *(a.copy() for a in views)), {}))


# --- memory

FLUSH = """
import mmap, sys, tempfile, numpy as np, pyattn
dtype, isas = np.dtype(sys.argv[1]), sys.argv[2:]
page, pages = mmap.PAGESIZE, 48
with tempfile.TemporaryFile() as f:
    f.truncate(2 * pages * page)
    raw = np.frombuffer(mmap.mmap(f.fileno(), 2 * pages * page), np.uint8)
    f.truncate(pages * page)  # past the file is no memory
    for isa in isas:
        pyattn.set_isa(isa)
        for d in (1, 3, 7, 8, 15, 16, 17, 31, 33, 64, 80, 127):
            rng = np.random.default_rng(d)
            for keys in (1, 2, 15, 33, 63, 65, 130):
                for rows in (1, 3, 4, 8):
                    k, v = rng.standard_normal((2, keys, d)).astype(dtype)
                    q = rng.standard_normal((rows, d)).astype(dtype)
                    arrays = [q, k, v, pyattn.attention(q, k, v)]
                    expected = arrays[3].copy()
                    for i in range(4):
                        a, own = arrays[i], list(arrays)
                        begin = pages * page - a.nbytes
                        own[i] = raw[begin:begin + a.nbytes].view(dtype).reshape(a.shape)
                        own[i][...] = a if i < 3 else 0
                        out = pyattn.attention(*own[:3], out=own[3])
                        assert np.array_equal(out, expected), (isa, d, keys, rows, i)
                        if i in (1, 2):  # as many hidden keys behind, in no memory
                            own[i] = np.ndarray((2 * keys, d), dtype, raw, begin)
                            other = np.concatenate([arrays[3 - i]] * 2)
                            k2, v2 = (own[i], other) if i == 1 else (other, own[i])
                            more = {"bias": np.zeros((rows, 2 * keys), np.float32)}
                            for options in {}, more:
                                out = pyattn.attention(q, k2, v2, key_lengths=keys, **options)
                                assert np.array_equal(out, expected), (isa, d, keys, rows, i)
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_past_the_end_is_read(dtype):
    """Each operand ends where memory ends, or its hidden keys begin there."""
    python(FLUSH, dtype, *_core.isa_runnable())


PEAK = """
import sys, numpy as np, pyattn
def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024
x = np.ones((1, 4, 32768, 33), np.float32)
for k in (x, x[..., ::-1], x[:, :, ::-1, :32]):
    for rows in (1, 8):
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
        before = peak()
        pyattn.attention(k[:, :, :rows], k, k)
        print(peak() - before)
"""


def test_keys_are_not_copied_as_a_whole():
    """Which would be 17 MB."""
    try:
        extras = python(PEAK, PYATTN_NUM_THREADS="2").split()
    except AssertionError as e:
        if "/proc" in str(e):
            pytest.skip("reads /proc")
        raise
    assert len(extras) == 6 and all(int(extra) < 4e6 for extra in extras)
