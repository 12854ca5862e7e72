"""`pyattn.dask.attention`: any chunking gives what the whole gives, by as few tasks as it takes."""

import pickle

import accuracy
import numpy as np
import pytest
from cases import chooser, draw_options
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    FLOATS,
    ON_GRIDS,
    OPTIONS,
    STRESS,
    assert_same_bits,
    operands,
    options_for,
    python,
    visible,
)

import pyattn
from pyattn import biases, masks

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

import pyattn.dask  # noqa: E402
from pyattn.dask import _chunks  # noqa: E402
from pyattn.dask._tasks import Nothing, Part, merged  # noqa: E402

F = np.float32


@pytest.fixture(autouse=True)
def no_threads():
    """For speed; what other schedulers do, some tests see for themselves."""
    with dask.config.set(scheduler="synchronous"):
        yield


def compute(arrays, **options):
    """(out, lse), having seen that they are what they said they would be."""
    lazy = pyattn.dask.attention(*arrays, return_lse=True, **options)
    got = dask.compute(*lazy)
    for promised, a in zip(lazy, got, strict=True):
        assert (a.shape, a.dtype) == (promised.shape, promised.dtype)
        assert type(promised._meta) is np.ndarray
        assert promised._meta.ndim == a.ndim
        assert promised._meta.dtype == a.dtype
    return got


def check(arrays, chunks, **options):
    """Chunked and whole, against the reference."""
    lazy = [da.from_array(x, chunks=c) for x, c in zip(arrays, chunks, strict=True)]
    got = compute(lazy, **options)
    errors = accuracy.errors(got, *arrays, **options)
    # The merges round once more than the kernel, which stays below the limit by more than that.
    assert max(errors.out, errors.lse) <= accuracy.LIMIT, errors
    return got


def random_chunks(choose, rng, shape):
    def of(extent):
        if not extent or choose([False, True]):
            return (extent,)
        cuts = rng.integers(0, extent, choose([1, 2, 4]), endpoint=True)
        return tuple(int(n) for n in np.diff(np.sort([0, *cuts, extent])))  # some are 0

    return tuple(map(of, shape))


CHUNKS = {
    "everywhere": [(1, 3, 40, 5), (2, 2, 33, 16), (2, 2, 33, 7)],
    "keys": [(2, 6, -1, -1), (2, 2, 16, -1), (2, 2, 50, -1)],
    "all but keys": [(1, 2, 50, -1), (1, 2, -1, -1), (2, 1, -1, -1)],  # not into few rows
}


# Every option in pieces along all axes, and in one of the two other ways.
CALLS = [
    (chunks, name)
    for n, name in enumerate(options_for(70, 70))
    for m, chunks in enumerate(CHUNKS)
    if m == 0 or (n + m) % 2
]


@pytest.mark.parametrize("chunks, name", CALLS)
def test_every_option(rng, chunks, name):
    """Of several chunks of keys the result is right; of one it has the bits of the whole."""
    cut = CHUNKS[chunks]
    if chunks == "all but keys" and name in ON_GRIDS:  # parts of a grid are not worked on as one
        cut = [(1, 2, -1, -1), *cut[1:]]
    for queries, keys in ((70, 70), (41, 150)) if chunks == "everywhere" else ((70, 70),):
        if name not in options_for(queries, keys):
            continue
        arrays = operands(rng, 2, 6, queries, keys, dv=9, kv_heads=2)
        options = OPTIONS[name](2, 6, queries, keys)
        got = check(arrays, cut, **options)
        if chunks == "all but keys":
            assert_same_bits(got, pyattn.attention(*arrays, return_lse=True, **options))


def law(seed):
    rng = np.random.default_rng(seed)
    choose = chooser(rng)
    leading = choose([(), (3,), (2, 2)])
    kv_heads, group = choose([(1, 1), (1, 4), (2, 3), (3, 2)])
    queries, keys = choose([1, 2, 30, 90]), choose([1, 30, 90, 200])
    dtype, layout = choose(FLOATS), choose(["bhld", "blhd"])
    options = draw_options(choose, rng, leading, kv_heads * group, queries, keys)

    def one(heads, length, size):
        own = leading[choose(range(len(leading) + 1)) :] if choose([False, True]) else leading
        shape = (*(n if choose([True, True, False]) else 1 for n in own), heads, length, size)
        x = rng.standard_normal(shape).astype(dtype)
        return np.swapaxes(x, -3, -2) if layout == "blhd" else x

    arrays = [one(kv_heads * group, queries, 6), one(kv_heads, keys, 6), one(kv_heads, keys, 4)]
    if np.broadcast_shapes(*(x.shape[:-3] for x in arrays)) != leading:
        arrays[0] = np.array(np.broadcast_to(arrays[0], (*leading, *arrays[0].shape[-3:])))
    lazy = [
        da.from_array(x, chunks=random_chunks(choose, rng, x.shape)) if choose([True, False]) else x
        for x in arrays
    ]
    cut = dict(options)
    for kind in ("mask", "bias"):
        if isinstance(cut.get(kind), np.ndarray) and choose([True, False]):
            cut[kind] = da.from_array(cut[kind], chunks=random_chunks(choose, rng, cut[kind].shape))
    got = compute(lazy, layout=layout, **cut)
    errors = accuracy.errors(got, *arrays, layout=layout, **options)
    assert max(errors.out, errors.lse) <= accuracy.LIMIT_RARE, errors
    assert_same_bits(compute(lazy, layout=layout, **cut), got)


@settings(max_examples=4000 if STRESS else 80)
@given(st.integers(0, 2**32 - 1))
def test_any_chunking_is_the_whole(seed):
    law(seed)


@pytest.mark.parametrize(
    "shapes, layout",
    [
        ([(5, 8), (7, 8), (7, 3)], "bhld"),
        ([(5, 8), (7, 8), (7, 3)], "blhd"),
        ([(4, 5, 8), (7, 8), (7, 3)], "bhld"),
        ([(5, 4, 8), (7, 8), (7, 3)], "blhd"),
        ([(6, 5, 4, 8), (7, 2, 8), (1, 7, 2, 3)], "blhd"),
        ([(2, 1, 4, 5, 8), (3, 2, 7, 8), (2, 7, 3)], "bhld"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_shapes(rng, shapes, layout, size):
    arrays = [rng.standard_normal(shape).astype(F) for shape in shapes]
    check(arrays, [size] * 3, layout=layout, causal=True)


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 4, 0, 8), (2, 4, 5, 8), (2, 4, 5, 8)],
        [(2, 4, 5, 8), (2, 4, 0, 8), (2, 4, 0, 8)],
        [(0, 4, 5, 8), (1, 4, 3, 8), (1, 4, 3, 8)],
        [(2, 0, 5, 8), (2, 1, 3, 8), (2, 1, 3, 8)],
        [(2, 4, 5, 0), (2, 1, 6, 0), (2, 1, 6, 4)],
        [(2, 4, 5, 4), (2, 1, 6, 4), (2, 1, 6, 0)],
    ],
)
def test_nothing(shapes):
    arrays = [np.ones(shape, F) for shape in shapes]
    sinks = np.linspace(-1, 1, shapes[0][1])
    got = compute([da.from_array(x, chunks=2) for x in arrays], sinks=sinks)
    whole = pyattn.attention(*arrays, sinks=sinks, return_lse=True)
    np.testing.assert_allclose(got[0], whole[0])
    np.testing.assert_allclose(got[1], whole[1], rtol=1e-6)


def test_chunks_of_the_result(rng):
    """Those of the queries, cut where the keys' are, and of the heads where groups begin."""
    q = da.zeros((4, 12, 10, 8), chunks=(2, 5, (0, 7, 3), 8))
    k = da.zeros((4, 3, 9, 8), chunks=((1, 3), 3, 4, 2))
    out, lse = pyattn.dask.attention(q, k, k, return_lse=True)
    assert out.chunks == ((1, 1, 2), (4, 1, 3, 2, 2), (7, 3), (8,))
    assert lse.chunks == out.chunks[:-1]


def test_what_is_no_dask_array(rng):
    """It is cut as the others are, before it enters the graph."""
    q, k, v = operands(rng, 2, 4, 20, 30)
    chunked = da.from_array(q, chunks=(1, 2, 7, 16))
    bias = rng.standard_normal((20, 30)).astype(F)
    out = pyattn.dask.attention(chunked, k, v, bias=bias)
    np.testing.assert_allclose(out, pyattn.attention(q, k, v, bias=bias), atol=1e-6)
    largest = max(t.nbytes for t in dict(out.dask).values() if isinstance(t, np.ndarray))
    assert largest <= k[:1, :2].nbytes


# --- the graph


def tasks_of(array, kind):
    """The tasks of a graph that call `kind`, a function or a class of callables."""
    first = [t[0] for t in dict(array.dask).values() if isinstance(t, tuple)]
    return sum(f is kind or (isinstance(kind, type) and isinstance(f, kind)) for f in first)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True},
        *({"causal": True, "query_start": n} for n in (-80, -10, -9, -1, 1, 71, 80)),
        *({"window": (n, 0)} for n in (0, 1, 2, 10, 11)),
        {"window": (None, 1)},
        {"window": (3, None), "query_start": 75},
        *({"key_lengths": [n]} for n in (0, 10, 11, 80)),
        {"key_lengths": 11, "causal": True},
        {"mask": masks.documents([0, 20, 50, 80])},
        {"mask": masks.prefix_lm(15, 80)},
        {"mask": masks.prefix_lm([15], 80), "window": (30, 70)},
        {"mask": masks.documents([0, 20, 80]) & (np.arange(80) >= 0)},
        {"mask": masks.documents([0, 20, 80]) | masks.dilated(80, window=(0, 9))},
        {"mask": masks.neighborhood((8, 10), 3)},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_hidden_blocks_are_no_tasks(options):
    """As many parts as there are blocks in which something may be seen, and a tree over them."""
    x = da.zeros((1, 1, 80, 4), chunks=(1, 1, 10, 4), dtype=F)
    out = pyattn.dask.attention(x, x, x, **options)
    seen = visible((1, 1, 80, 80), options).reshape(8, 10, 8, 10).any(axis=(1, 3)).sum(axis=1)
    assert tasks_of(out, Part) == seen.sum()
    assert tasks_of(out, merged) == np.maximum(seen - 1, 0).sum()
    assert tasks_of(out, Nothing) == (seen == 0).sum()
    structured = isinstance(options.get("mask"), masks.Mask)
    merges_and_nothing = np.maximum(seen - 1, (seen == 0)).sum()
    blocks_read_and_made = 8 + 8
    assert (
        len(dict(out.dask)) == seen.sum() + merges_and_nothing + structured + blocks_read_and_made
    )
    np.testing.assert_array_equal(out, 0)


def test_half_of_a_causal_square():
    x = da.zeros((1, 1, 80, 4), chunks=(1, 1, 10, 4), dtype=F)
    assert tasks_of(pyattn.dask.attention(x, x, x), Part) == 64
    assert tasks_of(pyattn.dask.attention(x, x, x, causal=True), Part) == 36


def test_batch_elements_with_their_own_positions():
    x = da.zeros((2, 1, 80, 4), chunks=(1, 1, 10, 4), dtype=F)
    out = pyattn.dask.attention(x, x, x, causal=True, query_start=[0, -80], key_lengths=[80, 35])
    assert tasks_of(out, Part) == 36
    # In one chunk of the batch, what either of them sees and what lies between.
    x = x.rechunk((2, 1, 10, 4))
    out = pyattn.dask.attention(x, x, x, window=(0, 0), query_start=[0, 20])
    assert tasks_of(out, Part) == 6 * 3 + 2 + 1


def test_nothing_is_computed_and_little_is_made(rng):
    """The graph is made of shapes; masks and biases are in it once, structured as they are."""

    def block():
        raise AssertionError

    shape = 4, 8, 64 * 256, 16
    x = da.map_blocks(block, chunks=tuple(da.core.normalize_chunks((1, 8, 256, 16), shape)),
                      dtype=F, meta=np.empty((0,) * 4, F))  # fmt: skip
    bias = biases.alibi(biases.alibi_slopes(8)) + biases.relative(rng.random(2 * 2**14 - 1), 2**14)
    out, lse = pyattn.dask.attention(x, x, x, causal=True, bias=bias, return_lse=True)
    assert tasks_of(out, Part) == tasks_of(lse, Part) == 4 * 64 * 65 // 2
    graph = dict(out.dask)
    assert sum(isinstance(t, biases.Bias) for t in graph.values()) == 1
    tasks = [t for t in graph.values() if isinstance(t, tuple)]
    assert len(pickle.dumps(tasks)) < 400 * tasks_of(out, Part)


def test_foreign_byte_order(rng):
    """Nothing of the arrays' size is made for the checks; the result is in native order."""
    arrays = operands(rng, 1, 2, 20, 30)
    foreign = [da.from_array(x.astype(">f4"), chunks=(1, 1, 9, 16)) for x in arrays]
    bias = da.from_array(rng.standard_normal((20, 30)).astype(">f8"), chunks=7)
    got = compute(foreign, bias=bias)
    assert_same_bits(got, compute([x.astype(F) for x in foreign], bias=bias.astype(np.float64)))
    large = da.zeros((2**20, 2**10, 2**10, 16), chunks=(2**20, 2**10, 2**10, 16), dtype=">f4")
    assert pyattn.dask.attention(large, large, large).dtype == F


def test_bits_do_not_depend_on_the_scheduler(rng):
    arrays = [da.from_array(x, chunks=(1, 2, 20, 16)) for x in operands(rng, 2, 4, 90, 130)]
    options = {"causal": True, "bias": biases.alibi([0.1, 0.2, 0.3, 0.4]), "sinks": np.ones(4)}
    expected = compute(arrays, **options)
    for workers in (1, 2, 7):
        with dask.config.set(scheduler="threads", num_workers=workers):
            assert_same_bits(compute(arrays, **options), expected)


def test_rows_that_see_one_chunk_of_keys(rng):
    """They have the bits of the whole, although others of their block see more."""
    arrays = operands(rng, 1, 1, 40, 40)
    whole = pyattn.attention(*arrays, causal=True, return_lse=True)
    q, k, v = (
        da.from_array(x, chunks=(1, 1, n, 16)) for x, n in zip(arrays, (40, 15, 15), strict=True)
    )
    out, lse = compute([q, k, v], causal=True)
    assert_same_bits((out[..., :15, :], lse[..., :15]), (whole[0][..., :15, :], whole[1][..., :15]))


@pytest.mark.parametrize(
    "name", ["all", "starts", "window", "window, starts", "documents", "everything"]
)
def test_bits_depend_on_the_cut_of_the_keys_alone(rng, name):
    """A block of more queries sees more chunks; that changes nothing for those that do not."""
    arrays = operands(rng, 2, 6, 150, 150, dv=9, kv_heads=2)
    options = OPTIONS[name](2, 6, 150, 150)
    if name == "everything":
        del options["sinks"]  # they go to the first chunk that is seen, whichever it is
    got = []
    for batch, heads, rows in ((2, 6, 150), (1, 2, 15)):  # not into few rows
        q = da.from_array(arrays[0], chunks=(batch, heads, rows, 16))
        k, v = (da.from_array(x, chunks=(batch, 1, 16, -1)) for x in arrays[1:])
        got.append(compute([q, k, v], **options))
    assert_same_bits(*got)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e38])
def test_what_is_hidden_cannot_be_seen(rng, poison):
    q, k, v = operands(rng, 2, 2, 60, 90)
    options = {"key_lengths": [70, 35], "causal": True, "query_start": 3, "sinks": np.zeros(2)}
    hidden = ~visible((2, 2, 60, 90), options).any(axis=(1, 2))
    clean = compute([da.from_array(x, chunks=(2, 1, 16, -1)) for x in (q, k, v)], **options)
    for x in (k, v):
        x.swapaxes(1, 2)[hidden] = poison
    got = compute([da.from_array(x, chunks=(2, 1, 16, -1)) for x in (q, k, v)], **options)
    assert_same_bits(got, clean)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.lists(st.integers(0, 40), max_size=8),
    st.integers(1, 7),
)
def test_chunks_of_heads(key, cuts, group):
    """Each chunk of query heads has all its groups in one chunk of key heads, and needs all of it;
    nothing is cut that need not be."""
    heads = group * sum(key)
    query = _chunks.between([0, heads, *(n for n in cuts if n < heads)])
    got_query, got_key, which = _chunks.heads(query, tuple(key), group)
    assert sum(got_query) == heads
    assert sum(got_key) == sum(key)
    assert {*_chunks.edges(query), *(group * n for n in _chunks.edges(tuple(key)))} <= {
        *_chunks.edges(got_query)
    }
    for part, n in zip(_chunks.slices(got_query), which, strict=True):
        own = {h // group for h in range(part.start, part.stop)}
        keys = _chunks.slices(got_key)[n]
        assert own == set(range(keys.start, keys.stop))
        assert len(own) == 1 or part.start % group == part.stop % group == 0


# --- arguments

Q = da.zeros((2, 4, 6, 8), chunks=2, dtype=F)
K = da.zeros((2, 2, 7, 8), chunks=3, dtype=F)


@pytest.mark.parametrize(
    "arrays, options, kind, text",
    [
        (
            [Q, K[:, :, :6], K],
            {},
            ValueError,
            "key and value must have the same length (axis -2): key (2, 2, 6, 8) has 6, "
            "value (2, 2, 7, 8) has 7",
        ),
        (
            [Q[:, :3], K, K],
            {},
            ValueError,
            "3 query heads cannot be grouped over 2 key/value heads (need H % Hkv == 0): "
            "query (2, 3, 6, 8), key (2, 2, 7, 8)",
        ),
        (
            [Q.astype(np.int32), K, K],
            {},
            TypeError,
            "query must be float16, bfloat16, float32 or float64, got int32: "
            "use query.astype(numpy.float32)",
        ),
        (
            [Q, K, K.astype(np.float64)],
            {},
            TypeError,
            "query, key and value must have the same dtype, or query float32 and the others one of "
            "float16 and bfloat16: query float32, key float32, value float64",
        ),
        (
            [Q, K, da.ma.masked_equal(K, 1)],
            {},
            TypeError,
            "value is a masked array; its mask would be ignored. "
            "Fill it (x.filled(0)) and hide keys with key_lengths",
        ),
        (
            [Q, K[:, :, K[0, 0, :, 0] == 0], K],
            {},
            ValueError,
            "key (2, 2, nan, 8) has chunks of unknown sizes: use key.compute_chunk_sizes()",
        ),
        (
            [Q, K, K],
            {"mask": da.zeros((4, 5), dtype=bool)},
            ValueError,
            "mask (4, 5) does not broadcast to the scores (2, 4, 6, 7) "
            "[batch, heads, queries, keys]",
        ),
        (
            [Q, K, K],
            {"mask": da.zeros((6, 7), dtype=int)},
            TypeError,
            "mask must be boolean (True = may attend), got int64: use mask.astype(bool)",
        ),
        (
            [Q, K, K],
            {"bias": da.zeros(7, dtype=bool)},
            TypeError,
            "bias must be float16, bfloat16, float32 or float64, got bool: use mask=",
        ),
        (
            [Q, K, K],
            {"bias": masks.dilated(6, 7)},
            TypeError,
            "bias is a structured mask: use mask=",
        ),
        *(
            (
                [Q, K, K],
                {name: da.ones(2, dtype=int)},
                TypeError,
                f"{name} must not be lazy, the graph is made from its numbers: "
                f"use {name}.compute()",
            )
            for name in ("query_start", "key_lengths", "sinks", "scale", "softcap", "causal")
        ),
        ([Q, K, K], {"key_lengths": [3, 8]}, ValueError, "key_lengths[1] = 8 is outside [0, 7]"),
        (
            [Q, K, K],
            {"sinks": np.zeros(2)},
            ValueError,
            "sinks must have shape (4,), one per head: (2,)",
        ),
        ([Q, K, K], {"causal": 1}, TypeError, "causal must be True or False, got int"),
        ([Q, K, K], {"return_lse": 1}, TypeError, "return_lse must be True or False, got int"),
        (
            [Q, K, K],
            {"layout": "hbld"},
            ValueError,
            "layout must be 'bhld' (..., heads, length, "
            "size) or 'blhd' (..., length, heads, size), got 'hbld'",
        ),
    ],
    ids=lambda x: x[:40] if isinstance(x, str) else "",
)
def test_errors(arrays, options, kind, text):
    with pytest.raises(kind) as caught:
        pyattn.dask.attention(*arrays, **options)
    assert str(caught.value) == "dask.attention: " + text


def test_without_dask():
    code = """
import sys
import pyattn
assert "dask" not in sys.modules and "pyattn.models" not in sys.modules
sys.modules["dask"] = None
try:
    import pyattn.dask
except ImportError as error:
    print(error)
"""
    assert "pip install 'pyattn[dask]'" in python(code)
