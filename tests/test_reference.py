"""The specification itself, against loops, SciPy and multiple precision."""

import inspect

import mpmath
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

import pyattn
from pyattn import reference


def by_loops(query, key, value, *, causal=False, query_start=None, key_lengths=None, scale=None):
    """Four axes, heads first: (out, lse, weights), one row after the other."""
    batch, heads, queries, d = query.shape
    kv_heads, keys = key.shape[1:3]
    out = np.zeros((*query.shape[:3], value.shape[-1]))
    lse, weights = np.full(query.shape[:3], -np.inf), np.zeros((*query.shape[:3], keys))
    for b in range(batch):
        start = keys - queries if query_start is None else np.broadcast_to(query_start, batch)[b]
        length = keys if key_lengths is None else np.broadcast_to(key_lengths, batch)[b]
        for h in range(heads):
            g = h // (heads // kv_heads)
            for i in range(queries):
                seen = [j for j in range(length) if not causal or j <= i + start]
                if not seen:
                    continue
                scores = np.array([sum(query[b, h, i] * key[b, g, j]) for j in seen])
                scores = scores * (d**-0.5 if scale is None else scale)
                weights[b, h, i, seen] = softmax(scores)
                lse[b, h, i] = logsumexp(scores)
                for j in seen:
                    out[b, h, i] += weights[b, h, i, j] * value[b, g, j]
    return out, lse, weights


OPTIONS = [
    {},
    {"scale": -2.0},
    {"scale": 0},
    {"causal": True},
    {"causal": True, "query_start": 0},
    {"causal": True, "query_start": [-3, 2]},
    {"key_lengths": [0, 5]},
    {"key_lengths": 3},
    {"causal": True, "key_lengths": [4, 6], "query_start": [1, -1]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("queries", [1, 4, 9])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_against_loops(options, queries, kv_heads, rng):
    q = rng.standard_normal((2, 4, queries, 5))
    k = rng.standard_normal((2, kv_heads, 6, 5))
    v = rng.standard_normal((2, kv_heads, 6, 3))
    out, lse, weights = by_loops(q, k, v, **options)
    got = reference.attention(q, k, v, return_lse=True, **options)
    close = {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(got[0], out, **close)
    np.testing.assert_allclose(got[1], lse, **close)
    np.testing.assert_allclose(reference.attention_weights(q, k, **options), weights, **close)
    # The other layout, and no batch.
    swapped = [x.swapaxes(1, 2) for x in (q, k, v)]
    other = reference.attention(*swapped, layout="blhd", **options)
    assert np.array_equal(other.swapaxes(1, 2), got[0])
    if not any(np.ndim(x) for x in options.values()):
        one = reference.attention(q[0], k[0], v[0], **options)
        np.testing.assert_allclose(one, out[0], **close)
        flat = reference.attention(q[0, 0], k[0, 0], v[0, 0], return_lse=True, **options)
        np.testing.assert_allclose(flat[0], out[0, 0], **close)
        np.testing.assert_allclose(flat[1], lse[0, 0], **close)


@pytest.mark.parametrize("wide, digits", [(np.float64, 14), (np.longdouble, 17)])
def test_against_multiple_precision(wide, digits, rng):
    """Scores of around 100, where exp() loses most."""
    if np.finfo(wide).eps > 10.0**-digits:
        pytest.skip("long double is no wider than double here")
    q, k, v = rng.standard_normal((2, 4)) * 9, rng.standard_normal((7, 4)) * 9, np.arange(7.0) + 1
    with mpmath.workdps(60):
        exact, exact_lse = [], []
        for i in range(2):
            scores = [
                mpmath.fdot(map(mpmath.mpf, q[i]), map(mpmath.mpf, k[j])) / 2 for j in range(7)
            ]
            e = [mpmath.exp(s) for s in scores]
            exact.append(mpmath.fdot(e, map(mpmath.mpf, v)) / mpmath.fsum(e))
            exact_lse.append(mpmath.log(mpmath.fsum(e)))
        arrays = q.astype(wide), k.astype(wide), v[:, None].astype(wide)
        out, lse = reference.attention(*arrays, return_lse=True)
        assert out.dtype == lse.dtype == wide
        for got, expected in ((out[:, 0], exact), (lse, exact_lse)):
            for x, y in zip(got, expected, strict=True):
                x = mpmath.mpf(np.format_float_positional(x, unique=False, precision=30))
                # The error of a score of 400 is 400 times that of the result.
                assert abs(x / y - 1) < 400 * mpmath.mpf(10) ** -digits


def test_hidden_values_do_not_show(rng):
    q, k, v = (rng.standard_normal((2, 6, 4)) for _ in range(3))
    clean = reference.attention(q, k, v, causal=True, key_lengths=5)
    k[:, 5], v[:, 5] = np.nan, np.inf
    assert np.array_equal(reference.attention(q, k, v, causal=True, key_lengths=5), clean)
    v[:, 3, 0] = np.nan
    poisoned = reference.attention(q, k, v, causal=True, key_lengths=5)
    assert np.isnan(poisoned[:, 3:, 0]).all()
    np.testing.assert_allclose(poisoned[..., 1:], clean[..., 1:], rtol=1e-13)
    np.testing.assert_allclose(poisoned[:, :3], clean[:, :3], rtol=1e-13)


def test_merge(rng):
    q, k, v = (rng.standard_normal((2, 6, 4)) for _ in range(3))
    parts = [
        reference.attention(q, k[:, s], v[:, s], return_lse=True)
        for s in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    out, lse = reference.merge_attention(*zip(*parts, strict=True))
    whole, whole_lse = reference.attention(q, k, v, return_lse=True)
    np.testing.assert_allclose(out, whole, rtol=1e-13)
    np.testing.assert_allclose(lse, whole_lse, rtol=1e-13)


@pytest.mark.parametrize("name", reference.__all__)
def test_same_options(name):
    """The twin takes what the function takes, but `out`, and has the same defaults."""
    visibility = inspect.signature(reference.visible).parameters
    twin = dict(inspect.signature(getattr(reference, name)).parameters)
    if twin.pop("visibility", None):
        twin |= {k: p for k, p in visibility.items() if k != "shape"}
    own = dict(inspect.signature(getattr(pyattn, name)).parameters)
    own.pop("out", None)
    assert {k: p.default for k, p in own.items()} == {k: p.default for k, p in twin.items()}
