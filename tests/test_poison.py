"""What is hidden cannot be seen, and what is attended is honest."""

import numpy as np
import pytest
from support import FLOATS, OPTIONS, assert_same_bits, operands

import pyattn
from pyattn import reference

POISONS = {
    "nan": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "huge": 1e38,
    "denormal": 1e-45,
    "mixed": None,
}
# queries, keys: one block, block and chunk edges, several panels and chunks
SHAPES = [(5, 7), (20, 65), (130, 130), (40, 1090)]


def attend(arrays, options):
    out, lse = pyattn.attention(*arrays, return_lse=True, **options)
    return out, lse, pyattn.attention_weights(*arrays[:2], **options)


def poisoned(a, where, poison):
    """A copy of `a` with poison in the rows where `where`; "mixed" has one after the other."""
    a = a.copy()
    if poison is None:
        kinds = np.array([p for p in POISONS.values() if p is not None])
        a[where] = np.resize(kinds, a[where].shape).astype(a.dtype)
    else:
        a[where] = poison
    return a


@pytest.fixture(params=[p for p in OPTIONS if p not in ("all", "scale")])
def option(request):
    return OPTIONS[request.param]


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_hidden_from_all(isa, option, poison, shape, rng):
    """Poison in every key that no query of the batch element may see changes no bit."""
    for dtype in FLOATS:
        q, k, v = operands(rng, 3, 2, *shape, d=5, dv=9, kv_heads=1, dtype=dtype)
        options = option(3, *shape)
        seen = reference.visible((3, 2, *shape), **options).any(axis=(1, 2))[:, None]
        bad = [poisoned(a, ~seen, POISONS[poison]) for a in (k, v)]
        expected = attend((q, k, v), options)
        assert_same_bits(attend((q, *bad), options), expected)
        assert_same_bits(attend((q, k, bad[1]), options), expected)


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_hidden_from_some(isa, poison, shape, rng):
    """Causal: rows before the poisoned keys keep their bits."""
    for dtype in FLOATS:
        queries, keys = shape
        q, k, v = operands(rng, 1, 3, queries, keys, d=5, dv=9, kv_heads=1, dtype=dtype)
        expected = attend((q, k, v), {"causal": True})
        for row in {0, 1, queries // 2, queries - 2}:
            hidden = np.arange(keys)[None, None] > row + keys - queries
            bad = [poisoned(a, hidden, POISONS[poison]) for a in (k, v)]
            got = attend((q, *bad), {"causal": True})
            for after, before in zip(got, expected, strict=True):
                assert_same_bits(after[:, :, : row + 1], before[:, :, : row + 1])


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attended_value(isa, option, poison, shape, rng):
    """Exactly the rows that attend to it stop being finite, in exactly the poisoned channels;
    everything else keeps its bits."""
    options = option(2, *shape)
    q, k, v = operands(rng, 2, 4, *shape, d=5, dv=19, kv_heads=2)
    out, lse = pyattn.attention(q, k, v, return_lse=True, **options)
    seen = np.broadcast_to(reference.visible((2, 4, *shape), **options), (2, 4, *shape))
    keys = shape[1]
    for j in {0, 1, keys // 2, keys - 2, keys - 1}:
        bad = v.copy()
        bad[0, 1, j, [0, 7, 18]] = poison
        got, got_lse = pyattn.attention(q, k, bad, return_lse=True, **options)
        hit = np.zeros(out.shape, bool)
        hit[0, 2:, :, [0, 7, 18]] = seen[0, 2:, :, j]
        assert np.array_equal(~np.isfinite(got), hit)
        if np.isnan(poison):
            assert np.array_equal(np.isnan(got), hit)
        assert_same_bits(np.where(hit, 0, got), np.where(hit, 0, out))
        assert_same_bits(got_lse, lse)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attended_key(isa, option, shape, rng):
    options = option(2, *shape)
    q, k, v = operands(rng, 2, 4, *shape, d=5, dv=3, kv_heads=2)
    out, lse = pyattn.attention(q, k, v, return_lse=True, **options)
    seen = np.broadcast_to(reference.visible((2, 4, *shape), **options), (2, 4, *shape))
    keys = shape[1]
    for j in {0, 1, keys // 2, keys - 2, keys - 1}:
        bad = k.copy()
        bad[0, 1, j, 2] = np.nan
        got, got_lse = pyattn.attention(q, bad, v, return_lse=True, **options)
        hit = np.zeros(lse.shape, bool)
        hit[0, 2:] = seen[0, 2:, :, j]
        assert np.array_equal(np.isnan(got_lse), hit)
        assert np.array_equal(np.isnan(got), np.repeat(hit[..., None], 3, axis=-1))
        assert_same_bits(got[~hit], out[~hit])
        assert_same_bits(got_lse[~hit], lse[~hit])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_query_row(isa, option, shape, rng):
    """A NaN query poisons its own row and no other; if it sees nothing, not even that."""
    options = option(2, *shape)
    q, k, v = operands(rng, 2, 4, *shape, d=5, dv=3, kv_heads=2)
    out, lse = pyattn.attention(q, k, v, return_lse=True, **options)
    some = np.broadcast_to(reference.visible((2, 4, *shape), **options), (2, 4, *shape)).any(-1)
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


@pytest.mark.parametrize("keys", [2, 70, 1100, 2100])
def test_nan_that_weighs_nothing_is_still_seen(isa, keys, rng):
    """Attended, though its weight underflows to 0: 0 * NaN is NaN, whichever comes first."""
    q, k, v = operands(rng, 1, 1, 3, keys, d=4)
    q[:] = np.abs(q)
    k[:] = np.abs(k)
    for low, high in ((0, keys - 1), (keys - 1, 0)):
        far = k.copy()
        far[..., low, :], far[..., high, :] = -1e4, 1e4
        bad = v.copy()
        bad[..., low, 1] = np.nan
        out = pyattn.attention(q, far, bad)
        assert np.isnan(out[..., 1]).all()
        assert_same_bits(out[..., [0, 2, 3]], pyattn.attention(q, far, v)[..., [0, 2, 3]])


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
