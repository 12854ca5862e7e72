"""The cache of keys and values: against its twin, and the laws that it must keep."""

import copy
import pickle
import signal
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import STRESS, assert_same_bits

import pyattn
from pyattn import _pages, biases, positional, reference
from pyattn import cache as module
from pyattn.cache import KVCache

ml_dtypes = pytest.importorskip("ml_dtypes")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = ("float32", "float16", "bfloat16", "int8")
F = np.float32
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # numbers of order 1, up to rounding in float32


def normal(rng, *shape, dtype=F):
    return rng.standard_normal(shape).astype(dtype)


def tokens(rng, batch=2, heads=2, length=5, size=8, value_size=None, dtype=F):
    """Keys and values."""
    sizes = size, value_size or size
    return [normal(rng, batch, heads, length, n, dtype=dtype) for n in sizes]


def filled(rng, length, batch=2, heads=2, size=8, **settings):
    cache = KVCache(batch, heads, size, **settings)
    cache.append(*tokens(rng, batch, heads, length, size))
    return cache


def both(*sizes, **settings):
    """The cache and its twin."""
    return [make(*sizes, page_size=64, **settings) for make in (KVCache, reference.KVCache)]


# --- the twin


def rounded(x, dtype):
    """As kept and read again, by means that are not the twin's."""
    if dtype == "bfloat16":
        return x.astype(BFLOAT16).astype(F)
    if dtype != "int8":
        return x.astype(dtype).astype(F)
    scales = abs(x).max(axis=-1, keepdims=True).astype(np.float64) / 127
    return np.round(x / scales) * scales


def test_twin_can_do_the_same():
    def public(kind):
        return {name for name in vars(kind) if name[0] != "_"}

    of_pages = {"nbytes", "pages", "window", "keep_first"}
    assert public(KVCache) - of_pages == public(reference.KVCache)


@pytest.mark.parametrize("dtype", DTYPES)
def test_twin_by_plain_arrays(dtype, rng):
    """What is appended is there, behind what was there; attention is that over all of it."""
    twin = reference.KVCache(2, 2, 8, value_dim=3, dtype=dtype)
    k, v = tokens(rng, 2, 2, 9, 8, 3)
    assert twin.append(k[:, :, :4], v[:, :, :4], lengths=[4, 2]).tolist() == [0, 0]
    assert twin.append(k[1:, :, 4:], v[1:, :, 4:], rows=[1]).tolist() == [2]
    seen = [np.r_[0:4], np.r_[0:2, 4:9]]
    k, v = rounded(k, dtype), rounded(v, dtype)
    for b in range(2):
        np.testing.assert_allclose(twin.keys(b), k[b][:, seen[b]], rtol=1e-6)
        np.testing.assert_allclose(twin.values(b), v[b][:, seen[b]], rtol=1e-6)
    q = normal(rng, 2, 4, 3, 8)
    out, lse = twin.attend(q, return_lse=True)
    for b in range(2):
        own = q[b], k[b][:, seen[b]], v[b][:, seen[b]]
        expected = reference.attention(*own, causal=True, return_lse=True)
        np.testing.assert_allclose(out[b], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(lse[b], expected[1], rtol=1e-5, atol=1e-6)
    fork = twin.fork([1, 1])
    fork.rollback([0, 5])
    assert fork.lengths.tolist() == [7, 2]
    assert twin.lengths.tolist() == [4, 7]


def test_twin_of_a_window(rng):
    """A query at p sees the first 2, and of the others those from p - 3 to p."""
    twin = reference.KVCache(1, 1, 4, window=3, keep_first=2)
    k, v = tokens(rng, 1, 1, 12, 4)
    twin.append(k, v)
    q = normal(rng, 1, 1, 5, 4)
    out = twin.attend(q)
    for i, p in enumerate(range(7, 12)):
        seen = [0, 1, *range(p - 3, p + 1)]
        expected = reference.attention(q[0, 0, i : i + 1], k[0, 0, seen], v[0, 0, seen])
        np.testing.assert_allclose(out[0, 0, i], expected[0], rtol=1e-12)


def test_twin_of_rope(rng):
    """Keys are turned once, by their own positions."""
    f = positional.rope_frequencies(8)
    twin = reference.KVCache(1, 1, 8, rope=f, interleaved=True)
    k, v = tokens(rng, 1, 1, 6, 8)
    for part in (slice(0, 4), slice(4, 6)):
        twin.append(k[:, :, part], v[:, :, part])
    q = normal(rng, 1, 1, 2, 8)
    turned = [
        reference.rope(x, p, f, interleaved=True) for x, p in ((q, [4, 5]), (k, np.arange(6)))
    ]
    expected = reference.attention(*turned, v, causal=True)
    np.testing.assert_allclose(twin.attend(q), expected, rtol=1e-6, atol=1e-7)


# --- the cache against its twin

SLOPES = np.array([0.5, 0.1, 0, 1.0])
OPTIONS = {
    "none": lambda n, s: {},
    "scale": lambda n, s: {"scale": -0.3, "softcap": 1.5},
    "sinks": lambda n, s: {"sinks": np.array([0.5, -np.inf, 3, -2])},
    "not causal": lambda n, s: {"causal": False},
    "starts": lambda n, s: {"query_start": [3, -1, s - 2]},
    "window": lambda n, s: {"window": (30, 2)},
    "mask": lambda n, s: {"mask": np.arange(s) % 3 > 0},
    "mask of all": lambda n, s: {"mask": np.random.default_rng(0).random((3, 4, n, s)) < 0.7},
    "bias": lambda n, s: {"bias": np.linspace(-1, 1, s, dtype=np.float16)},
    "alibi": lambda n, s: {"bias": biases.alibi(SLOPES)},
    "segments": lambda n, s: {
        "mask": pyattn.masks.segments(np.zeros(n, int), np.arange(s) % 2) | (np.arange(s) > s - 3)
    },
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries", [1, 20])
def test_against_the_twin(isa, dtype, queries, rng):
    cache, twin = both(3, 2, 16, value_dim=24, dtype=dtype)
    for length, lengths in ((150, [150, 70, 64]), (21, None), (1, None)):
        k, v = tokens(rng, 3, 2, length, 16, 24)
        starts = [c.append(k, v, lengths=lengths) for c in (cache, twin)]
        assert_same_bits(*starts)
    assert_same_bits(cache.lengths, twin.lengths)
    for b in range(3):
        # A number of an int8 cache that lies half way may be rounded to either side.
        atol = 0 if dtype != "int8" else abs(cache.keys(b)).max() / 127
        np.testing.assert_allclose(cache.keys(b), twin.keys(b), rtol=1e-6, atol=atol)
        assert (abs(cache.keys(b) - twin.keys(b)) < 1e-5).mean() > 0.999
        np.testing.assert_allclose(cache.values(b), twin.values(b), rtol=1e-6, atol=atol)
        twin._held[b] = [cache.keys(b), cache.values(b)]
    q = normal(rng, 3, 4, queries, 16)
    for name, options in OPTIONS.items():
        options = options(queries, max(cache.lengths))
        out, lse = cache.attend(q, return_lse=True, **options)
        expected = twin.attend(q, return_lse=True, **options)
        np.testing.assert_allclose(out, expected[0], **CLOSE, err_msg=name)
        np.testing.assert_allclose(lse, expected[1], **CLOSE, err_msg=name)
    rows = [2, 0, 2]
    np.testing.assert_allclose(cache.attend(q, rows=rows), twin.attend(q, rows=rows), **CLOSE)


WINDOWS = [{}, {"window": 20}, {"window": 70, "keep_first": 3}, {"window": 0, "keep_first": 65}]
TURNS = positional.rope_frequencies(8, 100.0)


@given(seed=st.integers(0, 2**32), which=st.integers(0, len(WINDOWS) - 1), turned=st.booleans())
@settings(max_examples=300 if STRESS else 40)
def test_any_life(seed, which, turned):
    """Whatever is done with a cache and its forks, they are what their twins are."""
    rng = np.random.default_rng(seed)
    rope = {"rope": TURNS, "interleaved": bool(seed % 2)} if turned else {}
    # And where the furthest append to each sequence began.
    lives = [(*both(3, 1, 8, **WINDOWS[which], **rope), np.zeros(3, int))]
    for _ in range(14):
        at = rng.integers(len(lives))
        cache, twin, furthest = lives[at]
        rows = rng.permutation(cache.batch)[: rng.integers(1, cache.batch + 1)]
        action = rng.choice(["append", "append", "append", "attend", "rollback", "fork", "drop"])
        if action == "append":
            length = int(rng.choice([1, 1, 3, 64, 100]))
            k, v = tokens(rng, len(rows), 1, length)
            counts = rng.integers(0, length + 1, len(rows))
            if rng.random() < 0.5:
                counts[:] = length
            starts = [c.append(k, v, lengths=counts, rows=rows) for c in (cache, twin)]
            assert_same_bits(*starts)
            furthest[rows] = np.where(counts, np.maximum(furthest[rows], starts[0]), furthest[rows])
            q = normal(rng, len(rows), 2, length, 8)
            out, expected = (c.attend(q, rows=rows, query_start=starts[0]) for c in (cache, twin))
            for x, y, n in zip(out, expected, counts, strict=True):
                np.testing.assert_allclose(x[:, :n], y[:, :n], **CLOSE)
        elif action == "attend" and cache.lengths[rows].min() > 0:
            q = normal(rng, len(rows), 2, 1, 8)
            out, expected = cache.attend(q, rows=rows), twin.attend(q, rows=rows)
            np.testing.assert_allclose(out, expected, **CLOSE)
        elif action == "rollback":
            low = np.maximum(furthest - 64, 0) if WINDOWS[which] else 0
            n = rng.integers(0, (cache.lengths - low)[rows] + 1)
            for c in (cache, twin):
                c.rollback(n, rows)
        elif action == "fork":
            again = rng.integers(0, cache.batch, rng.integers(1, 4))
            lives.append((cache.fork(again), twin.fork(again), furthest[again]))
        elif action == "drop" and len(lives) > 1:
            del lives[at]
        for cache, twin, _ in lives:
            assert_same_bits(cache.lengths, twin.lengths)
            for b in range(0 if WINDOWS[which] else cache.batch):
                np.testing.assert_allclose(cache.keys(b), twin.keys(b), rtol=1e-6, atol=1e-6)


# --- the same, however it came there


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_by_one_in_chunks_or_at_once(isa, dtype, rng):
    """What is kept has the same bits, and so has what the last token sees."""
    k, v = tokens(rng, 2, 2, 150, 16)
    q = normal(rng, 2, 4, 150, 16)
    splits = [[150], [70, 1, 79], [1] * 150]
    found, last = [], []
    for split in splits:
        cache, at, outs = KVCache(2, 2, 16, dtype=dtype, page_size=64), 0, []
        for n in split:
            part = np.s_[:, :, at : at + n]
            cache.append(k[part], v[part])
            outs.append(cache.attend(q[part]))
            at += n
        found.append(np.concatenate(outs, axis=2))
        last.append([cache.attend(q[:, :, -1:]), *cache.pages(0)[-1][1:3], cache.values(1)])
    for out, state in zip(found[1:], last[1:], strict=True):
        np.testing.assert_allclose(out, found[0], **CLOSE)
        for a, b in zip(state, last[0], strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_page_size_changes_no_bit(isa, dtype, rng):
    k, v = tokens(rng, 2, 2, 700, 16)
    for queries in (1, 33):
        q = normal(rng, 2, 4, queries, 16)
        outs = []
        for page_size in (64, 192, 1024):
            cache = KVCache(2, 2, 16, dtype=dtype, page_size=page_size)
            cache.append(k, v, lengths=[700, 300])
            outs.append(cache.attend(q, return_lse=True))
        assert_same_bits(outs[1], outs[0])
        assert_same_bits(outs[2], outs[0])


def test_threads_change_no_bit(threads, rng):
    cache = filled(rng, 900, heads=2, size=32)
    q = normal(rng, 2, 4, 1, 32)
    assert_same_bits(cache.attend(q), cache.attend(q, rows=[0, 1]))
    for b in range(2):
        assert_same_bits(cache.attend(q[b : b + 1], rows=[b]), cache.attend(q)[b : b + 1])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_bits_of_attention(isa, dtype, rng):
    """Pages are no different from one array of the same numbers."""
    plain = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
    k, v = tokens(rng, 2, 2, 600, 16, dtype=plain)
    cache = KVCache(2, 2, 16, dtype=dtype)
    cache.append(k, v)
    for queries in (1, 40):
        q = normal(rng, 2, 4, queries, 16)
        assert_same_bits(cache.attend(q), pyattn.attention(q, k, v, causal=True))


def test_layouts_strides_and_bytes(rng):
    """Taken as they are, and no bit differs."""
    k, v = tokens(rng, 2, 3, 70, 8)
    q = normal(rng, 2, 6, 4, 8)
    cache = KVCache(2, 3, 8)
    cache.append(k, v)
    expected = cache.attend(q)
    swapped = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (k, v, q)]
    other = KVCache(2, 3, 8)
    other.append(*swapped[:2], layout="blhd")
    assert_same_bits(other.attend(swapped[2], layout="blhd").swapaxes(1, 2), expected)
    apart = [np.repeat(x, 2, axis=-1)[..., ::2] for x in (k, v, q)]
    backwards = [x[..., ::-1, :].copy()[..., ::-1, :] for x in (k, v, q)]
    foreign = [x.astype(x.dtype.newbyteorder()) for x in (k, v, q)]
    unaligned = [
        np.frombuffer(b"x" + x.tobytes(), np.uint8)[1:].view(F).reshape(x.shape) for x in (k, v, q)
    ]
    for one_k, one_v, one_q in (apart, backwards, foreign, unaligned):
        other = KVCache(2, 3, 8)
        other.append(one_k, one_v)
        assert_same_bits(other.attend(one_q), expected)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=str)
def test_half_queries_and_results(isa, dtype, rng):
    """Computed in float32, rounded once."""
    cache = filled(rng, 90, size=16, dtype="int8")
    for queries in (1, 30):
        q = normal(rng, 2, 4, queries, 16, dtype=dtype)
        out, lse = cache.attend(q, return_lse=True)
        wide = cache.attend(q.astype(F), return_lse=True)
        assert out.dtype == dtype
        assert_same_bits(lse, wide[1])
        assert_same_bits(out.view(np.uint16), wide[0].astype(dtype).view(np.uint16))
        given = np.full_like(out, 7)
        assert cache.attend(q, out=given) is given
        assert_same_bits(given.view(np.uint16), out.view(np.uint16))


def test_out(rng):
    cache = filled(rng, 9)
    q = normal(rng, 2, 2, 3, 8)
    expected = cache.attend(q)
    out = np.empty((2, 3, 2, 8), F)
    assert cache.attend(q.swapaxes(1, 2), layout="blhd", out=out) is out
    assert_same_bits(out.swapaxes(1, 2), expected)
    assert cache.attend(q, out=q) is q  # it overlaps the query
    assert_same_bits(q, expected)


def test_rope_is_that_of_positional(rng):
    k, v = tokens(rng, 2, 2, 70, 16)
    q = normal(rng, 2, 2, 3, 16)
    f = positional.rope_frequencies(16)
    for interleaved in (False, True):
        cache = KVCache(2, 2, 16, rope=f, interleaved=interleaved)
        plain = KVCache(2, 2, 16)
        for part in (slice(0, 66), slice(66, 70)):
            start = cache.append(k[:, :, part], v[:, :, part], lengths=[part.stop - part.start, 2])
            places = start[:, None] + np.arange(part.stop - part.start)
            turned = positional.rope(k[:, :, part], places, f, interleaved=interleaved)
            plain.append(turned, v[:, :, part], lengths=[part.stop - part.start, 2])
        assert_same_bits(cache.keys(0), plain.keys(0))
        places = cache.lengths[:, None] - 3 + np.arange(3)
        turned = positional.rope(q, places, f, interleaved=interleaved)
        assert_same_bits(cache.attend(q), plain.attend(turned))


def test_rope_of_a_table_ends_with_it(rng):
    """Padding needs no place in the table; a token more than there is room for changes nothing."""
    table = positional.rope_table(positional.rope_frequencies(8), 6)
    cache = KVCache(2, 1, 8, rope=table, interleaved=False)
    k, v = tokens(rng, 2, 1, 5, 8)
    cache.append(k, v)
    cache.append(k, v, lengths=[1, 0])
    with pytest.raises(ValueError, match=r"rope: positions\[0, 0\] = 6 is outside \[0, 6\)"):
        cache.append(k[:, :, :1], v[:, :, :1])
    assert cache.lengths.tolist() == [6, 5]


# --- forks


def arrays_of(cache, row):
    return [page.keys for page in cache.pages(row)]


def shared(a, row_a, b, row_b):
    """Which of their pages are the same."""
    pairs = zip(arrays_of(a, row_a), arrays_of(b, row_b), strict=True)
    return [np.shares_memory(x, y) for x, y in pairs]


def test_forks_share_what_they_do_not_write(rng):
    cache = filled(rng, 150, batch=1, page_size=64)
    page = cache.nbytes // 3
    fork = cache.fork([0, 0])
    assert fork.nbytes == cache.nbytes
    assert shared(cache, 0, fork, 1) == [True, True, True]
    before = cache.keys(0), fork.values(1)
    fork.append(*tokens(rng, 1, 2, 1), rows=[0])
    assert shared(cache, 0, fork, 0) == [True, True, False]
    assert shared(cache, 0, fork, 1) == [True, True, True]
    assert fork.nbytes == 4 * page
    cache.append(*tokens(rng, 1, 2, 1))
    assert shared(cache, 0, fork, 1) == [True, True, False]
    assert_same_bits((cache.keys(0)[:, :150], fork.values(1)), before)


def test_a_sole_holder_does_not_copy(rng):
    """Of the forks of a beam search those that were dropped no longer count."""
    cache = filled(rng, 10, batch=1)
    beams = cache.fork([0, 0])
    place = arrays_of(beams, 1)[0]
    del cache
    beams = beams.fork([1])
    beams.append(*tokens(rng, 1, 2, 1))
    assert np.shares_memory(arrays_of(beams, 0)[0], place)


def test_the_other_holder_need_not_copy_as_well(rng):
    cache = filled(rng, 10, batch=1)
    place = arrays_of(cache, 0)[0]
    fork = cache.fork([0])
    for c in (fork, cache):
        c.append(*tokens(rng, 1, 2, 1))
    assert np.shares_memory(arrays_of(cache, 0)[0], place)
    assert not np.shares_memory(arrays_of(fork, 0)[0], place)


def test_after_a_rollback_full_pages_are_copied_too(rng):
    cache = filled(rng, 128, batch=1, page_size=64)
    fork = cache.fork([0])
    before = cache.keys(0)
    fork.rollback(100)
    fork.append(*tokens(rng, 1, 2, 100))
    assert_same_bits(cache.keys(0), before)
    assert_same_bits(fork.keys(0)[:, :28], before[:, :28])


def test_beam_search(rng):
    """Three beams over ten steps, each going on from any of the last: as from their own tokens."""
    prompt = tokens(rng, 1, 2, 60)
    beams = KVCache(1, 2, 8, page_size=64)
    beams.append(*prompt)
    beams = beams.fork([0] * 3)
    own = [[x[0] for x in prompt] for _ in range(3)]
    for _ in range(10):
        new = tokens(rng, 3, 2, 1)
        beams.append(*new)
        own = [
            [np.concatenate([a, x[b]], axis=1) for a, x in zip(own[b], new, strict=True)]
            for b in range(3)
        ]
        best = rng.integers(0, 3, 3)
        beams, own = beams.fork(best), [own[b] for b in best]
        for b in range(3):
            assert_same_bits((beams.keys(b), beams.values(b)), tuple(own[b]))


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies(make, dtype, rng):
    rope = {"rope": TURNS, "interleaved": True, "window": 100, "keep_first": 2}
    cache = filled(rng, 300, dtype=dtype, page_size=64, capacity=500, **rope).fork([0, 1, 1])
    for _ in range(2):
        cache.append(*tokens(rng, 3, 2, 50))
    again = make(cache)
    assert repr(again) == repr(cache)
    assert again.nbytes == cache.nbytes
    q = normal(rng, 3, 4, 1, 8)
    assert_same_bits(again.attend(q), cache.attend(q))
    k, v = tokens(rng, 3, 2, 5)
    again.append(k, v)
    assert cache.lengths.tolist() == [400] * 3
    cache.append(k, v)
    assert_same_bits(again.attend(q), cache.attend(q))


def test_pickled_with_buffers_of_its_own(rng):
    """As dask sends arrays: they come back read-only, and must be written to."""
    cache, buffers = filled(rng, 9), []
    stream = pickle.dumps(cache, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 4
    again = pickle.loads(stream, buffers=[bytes(b) for b in buffers])
    k, v = tokens(rng, 2, 2, 1)
    for c in (cache, again):
        c.append(k, v)
    assert_same_bits(again.values(1), cache.values(1))


# --- windows


@pytest.mark.parametrize("keep_first", [0, 5, 64])
@pytest.mark.parametrize("page_size", [64, 128])
def test_windows_drop_pages(isa, keep_first, page_size, rng):
    """Memory stays within its bounds; what is seen is what a mask on all of it lets see."""
    cache = KVCache(2, 1, 8, window=50, keep_first=keep_first, page_size=page_size, dtype="float16")
    whole = KVCache(2, 1, 8, dtype="float16")
    page = page_size * 8 * 2 * 2
    for length in (300, 1, 1, 90, 1, 5, 200, *[1] * 10):
        k, v = tokens(rng, 2, 1, length)
        for c in (cache, whole):
            c.append(k, v, lengths=[length, max(length - 1, 1)])
        q = normal(rng, 2, 2, length, 8)
        starts = cache.lengths - [length, max(length - 1, 1)]
        position = starts[:, None, None, None] + np.arange(length)[:, None]
        j = np.arange(max(whole.lengths))
        mask = (j < keep_first) | (j >= position - 50)
        out, lse = cache.attend(q, query_start=starts, return_lse=True)
        expected = whole.attend(q, query_start=starts, return_lse=True, mask=mask)
        np.testing.assert_allclose(out, expected[0], **CLOSE)
        np.testing.assert_allclose(lse, expected[1], **CLOSE)
        bound = 50 + 3 * page_size + -(-keep_first // page_size) * page_size + length
        assert cache.nbytes < 2 * page * bound / page_size
    assert cache.nbytes < whole.nbytes
    first = [p.start for p in cache.pages(0)]
    assert first[0] == 0 if keep_first else first[0] > 0
    assert cache.keys(0).shape[1] == sum(p.keys.shape[1] for p in cache.pages(0)) < 620
    kept = np.concatenate([np.arange(p.start, p.start + p.keys.shape[1]) for p in cache.pages(0)])
    assert_same_bits(cache.keys(0), whole.keys(0)[:, kept])


@pytest.mark.parametrize("keep_first", [0, 3])
def test_back_into_a_window(keep_first, rng):
    """A page's worth can always be taken back; of what was dropped nothing, but to the very first
    tokens there is a way."""
    cache = KVCache(1, 1, 8, window=10, keep_first=keep_first, page_size=64)
    cache.append(*tokens(rng, 1, 1, 400))
    cache.append(*tokens(rng, 1, 1, 30))
    other = cache.fork([0])
    cache.rollback(30 + 64)
    assert cache.lengths.tolist() == [336]
    cache.attend(normal(rng, 1, 1, 1, 8))
    low = 64 if keep_first else 0
    with pytest.raises(ValueError) as error:
        cache.rollback(36)
    assert str(error.value) == (
        "KVCache.rollback: sequence 0 cannot go back to 300 tokens: of those that the last one "
        f"sees, some from {low} to 319 have been dropped"
    )
    with pytest.raises(ValueError) as error:
        cache.attend(normal(rng, 1, 1, 9, 8))
    assert str(error.value) == (
        "KVCache.attend: the 9 queries of sequence 0 from position 327 on see 10 tokens before "
        f"their own, but those from {low} to 319 have been dropped: attend before the next append"
    )
    assert cache.lengths.tolist() == [336]
    with pytest.raises(ValueError, match="the 7 queries of sequence 0 from position 329"):
        cache.attend(normal(rng, 1, 1, 7, 8))
    cache.attend(normal(rng, 1, 1, 6, 8))
    q = normal(rng, 1, 1, low, 8)
    first = KVCache(1, 1, 8, window=10, keep_first=keep_first)
    if low:
        first.append(cache.keys(0)[None, :, :low], cache.values(0)[None, :, :low])
    assert_same_bits(cache.attend(q, query_start=0), first.attend(q))
    with pytest.raises(ValueError, match="have been dropped"):
        cache.attend(normal(rng, 1, 1, low + 1, 8), query_start=0)
    k, v = tokens(rng, 1, 1, 100)
    other.trim(low)
    other.append(k, v)
    assert other.lengths.tolist() == [low + 100]
    assert_same_bits(other.keys(0)[:, low:], k[0])


def test_a_page_can_always_be_taken_back(rng):
    """Wherever the window begins in its page."""
    k, v = tokens(rng, 1, 1, 300)
    for window in range(64):
        cache = KVCache(1, 1, 8, window=window, page_size=64)
        cache.append(k, v)
        cache.append(k[:, :, :1], v[:, :, :1])
        assert cache.pages(0)[0].start > 0
        cache.rollback(65)
        cache.attend(k[:, :, :1])


# --- what is not there cannot be seen; what is, is


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries", [1, 20])
def test_poison(isa, dtype, queries, rng):
    """NaN in tokens that were taken back, in padding, and in tokens that are not seen."""
    k, v = tokens(rng, 2, 2, 100)
    q = normal(rng, 2, 4, queries, 8)
    clean = KVCache(2, 2, 8, dtype=dtype)
    clean.append(k, v, lengths=[100, 30])
    bad = KVCache(2, 2, 8, dtype=dtype)
    bad.append(np.full_like(k, np.nan), np.full_like(v, np.inf))
    bad.rollback(100)
    nan_k, nan_v = k.copy(), v.copy()
    nan_k[1, :, 30:] = nan_v[1, :, 30:] = np.nan
    bad.append(nan_k, nan_v, lengths=[100, 30])
    assert_same_bits(bad.attend(q), clean.attend(q))
    bad.append(nan_k[1:, :, 30:31], nan_v[1:, :, 30:31], rows=[1])
    clean.append(k[1:, :, 30:31], v[1:, :, 30:31], rows=[1])
    start = {"query_start": clean.lengths - queries - 1}
    assert_same_bits(bad.attend(q, **start), clean.attend(q, **start))
    out = bad.attend(q)
    assert np.isnan(out[1, :, -1]).all()
    assert np.isfinite(out[1, :, :-1]).all()
    assert_same_bits(out[0], clean.attend(q)[0])


def test_a_number_that_is_not_finite_in_int8(rng):
    """The token's row reads as NaN, those beside it are what they were."""
    k, v = tokens(rng, 1, 2, 3)
    k[0, 1, 1, 2], v[0, 0, 2, 0] = np.inf, np.nan
    cache = KVCache(1, 2, 8, dtype="int8")
    cache.append(k, v)
    assert np.isnan(cache.keys(0)).all(axis=-1).tolist() == [[False] * 3, [False, True, False]]
    assert np.isnan(cache.values(0)).all(axis=-1).tolist() == [[False, False, True], [False] * 3]
    assert np.isnan(cache.keys(0)).sum() == 8


def test_int8_is_its_formula(isa, rng):
    k, v = tokens(rng, 1, 3, 70, 33, 5)
    k *= 10.0 ** rng.uniform(-20, 20, (70, 1)).astype(F)
    k[0, 1, 4] = 0
    cache = KVCache(1, 3, 33, value_dim=5, dtype="int8", page_size=128)
    cache.append(k, v)
    (page,) = cache.pages(0)
    scales = abs(k[0]).max(axis=-1) / F(127)
    np.testing.assert_allclose(page.key_scales, scales, rtol=1e-6)
    assert page.key_scales.shape == (3, 70)
    off = np.abs(page.keys - k[0].astype(np.float64) / np.where(scales, scales, 1)[..., None])
    assert off.max() < 0.5 + 1e-4
    assert abs(page.keys).max(axis=-1).min(initial=127, where=scales > 0) == 127
    expected = page.keys * page.key_scales[..., None]
    assert_same_bits(cache.keys(0), expected)
    assert_same_bits(cache.values(0), page.values * page.value_scales[..., None])


# --- memory


def traced():
    return tracemalloc.get_traced_memory()[0]


def test_memory_comes_in_pages_and_goes(rng):
    k, v = tokens(rng, 1, 4, 64, 64)
    page = 2 * 4 * 64 * 64 * 4
    tracemalloc.start()
    try:
        before = traced()
        cache = KVCache(1, 4, 64, page_size=64, capacity=10**9)
        assert traced() - before < 10_000
        for n in range(1, 5):
            cache.append(k, v)
            assert cache.nbytes == n * page
            assert n * page <= traced() - before < n * page + 10_000
        fork = cache.fork([0, 0, 0])
        assert traced() - before < 4 * page + 10_000
        cache.clear()
        assert cache.nbytes == 0
        fork.rollback(64)
        assert 3 * page <= traced() - before < 3 * page + 10_000
        del fork
        assert traced() - before < 10_000
    finally:
        tracemalloc.stop()


def test_what_fails_changes_nothing(monkeypatch, rng):
    """No memory for the second of two sequences: the first has not grown either."""
    cache = filled(rng, 60, page_size=64).fork([0, 1])
    parent = cache.fork([0, 1])
    before, size = (cache.keys(0), cache.values(1)), cache.nbytes
    made = []

    def new_page(self):
        made.append(1)
        if len(made) > 1:
            raise MemoryError("no memory for 4096 bytes")
        return original(self)

    original = _pages.PageFormat.new_page
    monkeypatch.setattr(_pages.PageFormat, "new_page", new_page)
    k, v = tokens(rng, 2, 2, 5)
    with pytest.raises(MemoryError, match="4096 bytes"):
        cache.append(k, v)
    monkeypatch.undo()
    assert len(made) == 2
    assert cache.lengths.tolist() == [60, 60]
    assert cache.nbytes == size
    cache.append(k, v)
    assert_same_bits((cache.keys(0)[:, :60], cache.values(1)[:, :60]), before)
    assert_same_bits((parent.keys(0), parent.values(1)), before)


# --- nothing at all


def test_extents_of_none(rng):
    cache = KVCache(2, 2, 8)
    nothing = np.zeros((2, 2, 0, 8), F)
    assert cache.append(nothing, nothing).tolist() == [0, 0]
    assert cache.append(*tokens(rng), lengths=0).tolist() == [0, 0]
    assert cache.append(nothing[:0], nothing[:0], rows=[]).tolist() == []
    assert cache.nbytes == 0
    assert cache.attend(nothing).shape == (2, 2, 0, 8)
    assert cache.attend(nothing[:0], rows=[]).shape == (0, 2, 0, 8)
    assert cache.attend(normal(rng, 2, 0, 1, 8), causal=False).shape == (2, 0, 1, 8)
    out, lse = cache.attend(normal(rng, 2, 4, 3, 8), query_start=0, return_lse=True)
    assert not out.any()
    assert np.isneginf(lse).all()
    sinks = np.array([1.0, 2, 3, 4])
    out, lse = cache.attend(normal(rng, 2, 4, 3, 8), causal=False, return_lse=True, sinks=sinks)
    assert not out.any()
    assert_same_bits(lse, np.broadcast_to(sinks.astype(F)[:, None], (2, 4, 3)))
    assert cache.keys(0).shape == cache.values(1).shape == (2, 0, 8)
    assert cache.pages(0) == []
    cache.append(*tokens(rng, 1), rows=[1])
    out = cache.attend(normal(rng, 2, 2, 3, 8), query_start=[0, 2])
    assert not out[0].any()
    assert out[1].all()
    none = cache.fork([])
    assert none.attend(np.zeros((0, 2, 1, 8), F)).shape == (0, 2, 1, 8)
    assert none.append(np.zeros((0, 2, 1, 8), F), np.zeros((0, 2, 1, 8), F)).tolist() == []
    none.rollback(0)
    none.clear()
    for window in ({"window": 3}, {"window": 3, "keep_first": 2}):
        one = KVCache(1, 2, 8, rope=TURNS, interleaved=False, **window)
        one.append(nothing[:1], nothing[:1])
        assert one.attend(nothing[:1]).shape == (1, 2, 0, 8)
        assert not one.attend(normal(rng, 1, 2, 1, 8), query_start=9).any()
        assert one.attend(np.zeros((0, 2, 9, 8), F), rows=[]).shape == (0, 2, 9, 8)


# --- threads, and what interrupts one


def test_two_threads_are_refused(monkeypatch, rng):
    """While one attends; then the cache is free again."""
    cache = filled(rng, 5)
    k, v = tokens(rng, 2, 2, 1)
    inside, leave = threading.Event(), threading.Event()

    def slow(*arguments):
        inside.set()
        assert leave.wait(30)

    monkeypatch.setattr(module._core, "attention_pages", slow)
    thread = threading.Thread(target=cache.attend, args=(k,))
    thread.start()
    assert inside.wait(30)
    calls = {
        "append": lambda: cache.append(k, v),
        "attend": lambda: cache.attend(k),
        "trim": lambda: cache.trim(1),
        "rollback": lambda: cache.rollback(1),
        "clear": lambda: cache.clear(),
        "fork": lambda: cache.fork([0]),
        "keys": lambda: cache.keys(0),
        "values": lambda: cache.values(0),
        "pages": lambda: cache.pages(0),
        "__getstate__": lambda: pickle.dumps(cache),
    }
    try:
        for name, call in calls.items():
            with pytest.raises(RuntimeError) as error:
                call()
            assert str(error.value) == (
                f"KVCache.{name}: the cache is in use by another call: let threads take turns, or "
                "give each a cache of its own (fork)"
            )
        assert cache.lengths.tolist() == [5, 5]  # to be asked at any time
        assert cache.nbytes > 0
    finally:
        leave.set()
        thread.join()
    monkeypatch.undo()
    cache.append(k, v)
    with pytest.raises(ValueError):
        cache.append(k, v, rows=[2, 3])
    cache.append(k, v)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of Unix")
def test_ctrl_c_at_any_moment(rng):
    """Calls have been done or have not, and the cache can be used afterwards."""

    def interrupt(*_):
        raise KeyboardInterrupt

    cache = KVCache(1, 1, 4, page_size=64)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 3e-4))
                while True:
                    x = np.full((1, 1, 1, 4), cache.lengths[0], F)
                    cache.append(x, x)
                    cache.attend(x)
            except KeyboardInterrupt:
                keys = cache.keys(0)
            assert_same_bits(keys[0, :, 0], np.arange(cache.lengths[0], dtype=F))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert cache.lengths[0] > 0


def test_forks_in_threads(rng):
    """Each thread goes on from the same prompt in a cache of its own."""
    prompt = filled(rng, 100, batch=1, page_size=64)
    before = prompt.keys(0)
    forks = [prompt.fork([0]) for _ in range(4)]
    new = [tokens(rng, 1, 2, 60) for _ in forks]
    q = normal(rng, 1, 2, 1, 8)
    outs = [None] * 4

    def run(n):
        fork = forks[n]
        for i in range(60):
            fork.append(*(x[:, :, i : i + 1] for x in new[n]))
            fork = fork.fork([0])
        outs[n] = fork.keys(0), fork.attend(q)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same_bits(prompt.keys(0), before)
    for (keys, out), (k, v) in zip(outs, new, strict=True):
        assert_same_bits(keys, np.concatenate([before, k[0]], axis=1))
        whole = KVCache(1, 2, 8)
        whole.append(prompt.keys(0)[None], prompt.values(0)[None])
        whole.append(k, v)
        assert_same_bits(out, whole.attend(q))


# --- wrong arguments


def z(*shape, dtype=F):
    return np.zeros(shape, dtype)


NEEDS_INTERLEAVED = (
    "KVCache: rope= needs interleaved=, since a wrong one would not be noticed: False for "
    "half-split pairs (most on Hugging Face), True for neighbours (GPT-J, GGUF files of Llama's "
    "kind)"
)

SETTINGS = [
    ((-1, 2, 8), {}, ValueError, "KVCache: batch must be at least 0, got -1"),
    ((2.0, 2, 8), {}, TypeError, "KVCache: batch must be an integer, got float"),
    ((2, 0, 8), {}, ValueError, "KVCache: kv_heads must be at least 1, got 0"),
    ((2, 2, 0), {}, ValueError, "KVCache: head_dim must be at least 1, got 0"),
    ((2, 2, 8), {"value_dim": 0}, ValueError, "KVCache: value_dim must be at least 1, got 0"),
    ((2, 2, 8), {"capacity": 0}, ValueError, "KVCache: capacity must be at least 1, got 0"),
    (
        (2, 2, 8),
        {"page_size": 100},
        ValueError,
        "KVCache: page_size must be a multiple of 64, got 100",
    ),
    ((2, 2, 8), {"page_size": 0}, ValueError, "KVCache: page_size must be at least 1, got 0"),
    *(
        (
            (2, 2, 8),
            {"dtype": dtype},
            TypeError,
            "KVCache: dtype must be 'float32', 'float16', 'bfloat16' or 'int8', got " + repr(dtype),
        )
        for dtype in ("float64", "f8", "half a byte", None, 3, np.uint8)
    ),
    ((2, 2, 8), {"window": -1}, ValueError, "KVCache: window must be at least 0, got -1"),
    ((2, 2, 8), {"window": (3, 0)}, TypeError, "KVCache: window must be an integer, got tuple"),
    (
        (2, 2, 8),
        {"keep_first": 4},
        ValueError,
        "KVCache: keep_first=4 is for caches with window=: without one all tokens are kept",
    ),
    ((2, 2, 8), {"rope": [1.0]}, ValueError, NEEDS_INTERLEAVED),
    (
        (2, 2, 8),
        {"interleaved": True},
        ValueError,
        "KVCache: interleaved= belongs to rope=, which is not given",
    ),
    (
        (2, 2, 8),
        {"rope": np.ones(5), "interleaved": True},
        ValueError,
        "KVCache: rope turns 10 numbers of a head, which has 8",
    ),
]


@pytest.mark.parametrize("sizes, options, kind, message", SETTINGS)
def test_wrong_settings(sizes, options, kind, message):
    with pytest.raises(kind) as error:
        KVCache(*sizes, **options)
    assert str(error.value) == message
    assert type(error.value) is kind


def test_dtypes_by_any_name():
    for name, others in {
        "float32": ("f4", np.float32, np.dtype(">f4")),
        "float16": ("half", np.float16),
        "bfloat16": (BFLOAT16, ml_dtypes.bfloat16),
        "int8": ("i1", np.int8),
    }.items():
        assert all(KVCache(1, 1, 1, dtype=dtype).dtype == name for dtype in (name, *others))


KEY = "[sequences, heads, length, size]"
CALLS = [  # of a cache (2, 2, 8) with 5 and 3 tokens and a capacity of 9
    (
        lambda c: c.append(z(2, 3, 1, 8), z(2, 2, 1, 8)),
        ValueError,
        f"append: key must be (2, 2, length, 8) {KEY}, got (2, 3, 1, 8)",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 9)),
        ValueError,
        f"append: value must be (2, 2, length, 8) {KEY}, got (2, 2, 1, 9)",
    ),
    (
        lambda c: c.append(z(2, 1, 8), z(2, 1, 8)),
        ValueError,
        f"append: key must be (2, 2, length, 8) {KEY}, got (2, 1, 8)",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 8), rows=[0]),
        ValueError,
        f"append: key must be (1, 2, length, 8) {KEY}, got (2, 2, 1, 8)",
    ),
    (
        lambda c: c.append(z(2, 3, 1, 8), z(2, 3, 1, 8), layout="blhd"),
        ValueError,
        "append: key must be (2, length, 2, 8) [sequences, length, heads, size], got (2, 3, 1, 8)",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 3, 8)),
        ValueError,
        "append: key and value must have the same length (axis -2): key (2, 2, 1, 8) has 1, "
        "value (2, 2, 3, 8) has 3",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8, dtype=np.float64), z(2, 2, 1, 8)),
        TypeError,
        "append: key must be float32, float16 or bfloat16, got float64: "
        "use key.astype(numpy.float32)",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 8, dtype=int)),
        TypeError,
        "append: value must be float16, bfloat16, float32 or float64, got int64: "
        "use value.astype(numpy.float32)",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 8), lengths=[1, 2]),
        ValueError,
        "append: lengths[1] = 2 is outside [0, 1]",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 8), lengths=[1.0, 1.0]),
        TypeError,
        "append: lengths must be integers, got float64",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 8), lengths=[1, 1, 1]),
        ValueError,
        "append: lengths (3,) does not broadcast to the batch (2,)",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 8), rows=[0, 2]),
        ValueError,
        "append: rows[1] = 2 is outside [0, 2), the sequences",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 8), rows=[1, 1]),
        ValueError,
        "append: rows must be distinct, but 1 stands there twice",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 8), rows=[True, False]),
        TypeError,
        "append: rows must be integers, got bool",
    ),
    (
        lambda c: c.append(z(1, 2, 1, 8), z(1, 2, 1, 8), rows=0),
        ValueError,
        "append: rows must have one axis, got ()",
    ),
    (
        lambda c: c.append(z(2, 2, 5, 8), z(2, 2, 5, 8)),
        ValueError,
        "append: sequence 0 has 5 tokens, 5 more exceed the capacity of 9: trim it, or make the "
        "cache with a larger capacity",
    ),
    (
        lambda c: c.append(z(2, 2, 1, 8), z(2, 2, 1, 8), layout="hbld"),
        ValueError,
        "append: layout must be 'bhld' (..., heads, length, size) or 'blhd' (..., length, heads, "
        "size), got 'hbld'",
    ),
    (
        lambda c: c.attend(z(2, 3, 1, 8)),
        ValueError,
        "attend: 3 query heads cannot be grouped over 2 key/value heads (need H % Hkv == 0): "
        "query (2, 3, 1, 8)",
    ),
    (
        lambda c: c.attend(z(2, 2, 1, 7)),
        ValueError,
        f"attend: query must be (2, heads, length, 8) {KEY}, got (2, 2, 1, 7)",
    ),
    (
        lambda c: c.attend(z(1, 2, 1, 8), layout="blhd"),
        ValueError,
        "attend: query must be (2, length, heads, 8) [sequences, length, heads, size], "
        "got (1, 2, 1, 8)",
    ),
    (
        lambda c: c.attend(z(2, 2, 1, 8, dtype=np.float64)),
        TypeError,
        "attend: query must be float32, float16 or bfloat16, got float64: "
        "use query.astype(numpy.float32)",
    ),
    (
        lambda c: c.attend(z(2, 2, 4, 8)),
        ValueError,
        "attend: 4 queries stand at the last tokens, but sequence 1 has only 3: append keys and "
        "values first, or give query_start=",
    ),
    (
        lambda c: c.fork([1, 0]).attend(z(1, 2, 4, 8), rows=[0]),
        ValueError,
        "attend: 4 queries stand at the last tokens, but sequence 0 has only 3: append keys and "
        "values first, or give query_start=",
    ),
    (
        lambda c: c.attend(z(2, 2, 1, 8), causal=1),
        TypeError,
        "attend: causal must be True or False, got int",
    ),
    (
        lambda c: c.attend(z(2, 2, 1, 8), mask=np.ones(4, bool)),
        ValueError,
        "attend: mask (4,) does not broadcast to the scores (2, 2, 1, 5) "
        "[batch, heads, queries, keys]",
    ),
    (
        lambda c: c.attend(z(2, 2, 1, 8), query_start=[1, 2, 3]),
        ValueError,
        "attend: query_start (3,) does not broadcast to the batch (2,)",
    ),
    (
        lambda c: c.attend(z(2, 2, 1, 8), out=z(2, 2, 1, 7)),
        ValueError,
        "attend: out must have shape (2, 2, 1, 8), got (2, 2, 1, 7)",
    ),
    (
        lambda c: c.attend(z(2, 2, 1, 8), scale=np.nan),
        ValueError,
        "attend: scale must be finite, got nan",
    ),
    (
        lambda c: c.trim([5, 4]),
        ValueError,
        "trim: lengths[1] = 4 is more than the 3 tokens of sequence 1",
    ),
    (
        lambda c: c.trim([-1, 0]),
        ValueError,
        f"trim: lengths[0] = -1 is outside [0, {2**63 // 4 - 1}]",
    ),
    (lambda c: c.trim(2.5), TypeError, "trim: lengths must be integers, got float64"),
    (
        lambda c: c.rollback(4),
        ValueError,
        "rollback: n = 4 is more than the 3 tokens of sequence 1",
    ),
    (
        lambda c: c.rollback(4, rows=[2]),
        ValueError,
        "rollback: rows[0] = 2 is outside [0, 2), the sequences",
    ),
    (lambda c: c.rollback(-1), ValueError, f"rollback: n[0] = -1 is outside [0, {2**63 // 4 - 1}]"),
    (lambda c: c.fork([0, 2]), ValueError, "fork: rows[1] = 2 is outside [0, 2), the sequences"),
    (lambda c: c.fork([-1]), ValueError, "fork: rows[0] = -1 is outside [0, 2), the sequences"),
    (lambda c: c.keys(2), ValueError, "keys: row = 2 is outside [0, 2), the sequences"),
    (lambda c: c.values(-1), ValueError, "values: row must be at least 0, got -1"),
    (lambda c: c.pages("0"), TypeError, "pages: row must be an integer, got str"),
]


@pytest.mark.parametrize("call, kind, message", CALLS)
def test_wrong_calls(call, kind, message, rng):
    cache = KVCache(2, 2, 8, capacity=9)
    cache.append(*tokens(rng), lengths=[5, 3])
    before = cache.keys(0), cache.keys(1), cache.values(0), cache.values(1)
    with pytest.raises(kind) as error:
        call(cache)
    assert str(error.value) == "KVCache." + message
    assert type(error.value) is kind
    assert cache.lengths.tolist() == [5, 3]
    assert_same_bits((cache.keys(0), cache.keys(1), cache.values(0), cache.values(1)), before)


@pytest.mark.parametrize(
    "name, options",
    [
        ("causal=False", {"causal": False}),
        ("mask=", {"mask": np.ones(5, bool)}),
        ("bias=", {"bias": np.ones(5, F)}),
        ("window=", {"window": (3, 0)}),
    ],
)
def test_a_window_decides(name, options, rng):
    cache = filled(rng, 5, window=3)
    with pytest.raises(ValueError) as error:
        cache.attend(z(2, 2, 1, 8), **options)
    assert str(error.value) == (
        f"KVCache.attend: {name} is not possible for a cache with window=, which keeps only what "
        "that lets see"
    )


def test_capacity_can_be_used_up(rng):
    cache = filled(rng, 5, capacity=9)
    cache.append(*tokens(rng, length=4))
    with pytest.raises(ValueError, match="sequence 0 has 9 tokens, 1 more exceed the capacity"):
        cache.append(*tokens(rng, length=1))
    cache.append(*tokens(rng, length=1), lengths=0)
    cache.rollback(1)
    cache.append(*tokens(rng, length=1))


def test_attend_before_append(rng):
    with pytest.raises(ValueError, match=r"sequence 0 has only 0: append keys and values first"):
        KVCache(2, 2, 8).attend(z(2, 2, 1, 8))


def test_pages_are_to_look_at(rng):
    cache = filled(rng, 70, page_size=64, dtype="int8")
    for page in cache.pages(0):
        for array in page[1:]:
            assert not array.flags.writeable
            assert not array.flags.owndata
    assert [page.keys.dtype.name for page in filled(rng, 3, dtype="bfloat16").pages(1)] == [
        "uint16"
    ]


def test_attributes():
    f = positional.rope_frequencies(8)
    cache = KVCache(
        3, 2, 8, value_dim=4, capacity=7, dtype=np.int8, page_size=128, window=5, keep_first=1,
        rope=f, interleaved=False,
    )  # fmt: skip
    names = "batch kv_heads head_dim value_dim capacity dtype page_size window keep_first"
    assert [getattr(cache, n) for n in names.split()] == [3, 2, 8, 4, 7, "int8", 128, 5, 1]
    assert cache.rope is f
    assert cache.interleaved is False
    assert repr(cache) == (
        "<KVCache 3 sequences, 0 tokens, 2 heads of 8 (values 4), window 5, first 1 "
        "kept, rope, int8>"
    )
