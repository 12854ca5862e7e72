"""The specification itself, against loops, SciPy and multiple precision."""

import inspect

import mpmath
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

import pyattn
from pyattn import biases, images, masks, reference


def by_loops(
    query,
    key,
    value,
    *,
    mask=True,
    bias=0.0,
    causal=False,
    window=(None, None),
    query_start=None,
    key_lengths=None,
    scale=None,
    softcap=None,
    sinks=None,
):
    """Four axes, heads first: (out, lse, weights), one row after the other."""
    batch, heads, queries, d = query.shape
    kv_heads, keys = key.shape[1:3]
    shape = (*query.shape[:3], keys)
    mask, bias = np.broadcast_to(mask, shape), np.broadcast_to(bias, shape)
    out = np.zeros((*query.shape[:3], value.shape[-1]))
    lse, weights = np.full(query.shape[:3], -np.inf), np.zeros(shape)
    for b in range(batch):
        start = keys - queries if query_start is None else np.broadcast_to(query_start, batch)[b]
        length = keys if key_lengths is None else np.broadcast_to(key_lengths, batch)[b]

        def sees(at, j, start=start):
            left, right = window
            distance = j - (at[2] + start)
            near = (left is None or -left <= distance) and (right is None or distance <= right)
            past = not causal or distance <= 0
            return near and past and mask[(*at, j)] and bias[(*at, j)] != -np.inf

        for h in range(heads):
            g = h // (heads // kv_heads)
            for i in range(queries):
                at = b, h, i
                seen = [j for j in range(length) if sees(at, j)]
                sink = [] if sinks is None else [sinks[h]]
                if not seen:
                    lse[at] = sink[0] if sink else -np.inf
                    continue
                scores = np.array([sum(query[at] * key[b, g, j]) for j in seen])
                scores = scores * (d**-0.5 if scale is None else scale)
                if softcap is not None:
                    scores = softcap * np.tanh(scores / softcap)
                scores = scores + bias[at][seen]
                lse[at] = logsumexp(np.concatenate([scores, sink]))
                weights[(*at, seen)] = softmax(np.concatenate([scores, sink]))[: len(seen)]
                for j in seen:
                    out[at] += weights[(*at, j)] * value[b, g, j]
    return out, lse, weights


RNG = np.random.default_rng(1)
SEEN = RNG.random((2, 4, 1, 6)) < 0.6
BIAS = np.where(RNG.random((4, 1, 6)) < 0.7, RNG.standard_normal((4, 1, 6)), -np.inf)

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
    {"window": (1, 0)},
    {"window": (None, 1), "query_start": [0, 3]},
    {"window": (2, None), "causal": True},
    {"mask": np.array([True, False, True, True, False, False])},
    {"mask": SEEN},
    {"bias": BIAS},
    {"bias": BIAS.astype(np.float16), "mask": SEEN[0]},
    {"softcap": 0.7},
    {"sinks": np.array([0.5, -np.inf, 3, -2])},
    {
        "mask": SEEN,
        "bias": BIAS[:, 0, :][:, None],
        "causal": True,
        "window": (4, 4),
        "query_start": [-1, 2],
        "key_lengths": [6, 4],
        "scale": -1.5,
        "softcap": 2,
        "sinks": np.array([0.5, -np.inf, 3, -2]),
    },
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ", ".join(options))
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
    # The strongest: all of them are all weights, in another order.
    indices, strongest = reference.attention_topk(q, k, 6, **options)
    order = np.argsort(-weights, axis=-1, kind="stable")
    np.testing.assert_allclose(strongest, np.take_along_axis(weights, order, -1), **close)
    assert np.array_equal(indices[strongest > 0], order[strongest > 0])
    assert ((indices >= 0) == (strongest > 0)).all()
    some = reference.attention_topk(q, k, 2, **options)
    assert np.array_equal(some[0], indices[..., :2]) and np.array_equal(some[1], strongest[..., :2])
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


def test_structured_masks_and_biases(rng):
    """They are their arrays; and the distance of ALiBi is that of the call."""
    q, k, v = (rng.standard_normal((2, 4, n, 5)) for n in (3, 6, 6))
    mask = masks.prefix_lm([1, 4], 3, 6) | masks.dilated(3, 6, dilation=2)
    slopes = np.array([0.5, 0, -0.2, 3])
    table = rng.standard_normal((4, 8))
    for start in (None, [-2, 4]):
        at = np.resize([3, 3] if start is None else start, 2)[:, None, None, None]
        distance = np.abs(np.arange(6) - np.arange(3)[:, None] - at)
        near = [[[row[j - i + 2] for j in range(6)] for i in range(3)] for row in table]
        dense = near - slopes[:, None, None] * distance
        got = reference.attention(
            *(q, k, v),
            mask=mask,
            bias=biases.alibi(slopes) + biases.relative(table, 3, 6),
            query_start=start,
            return_lse=True,
        )
        expected = by_loops(q, k, v, mask=np.asarray(mask), bias=dense)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(got[1], expected[1], rtol=1e-12)


def test_packed_sequences(rng):
    lengths, key_lengths = [3, 0, 5, 2], [4, 2, 0, 2]
    starts, key_starts = (np.cumsum([0, *n]) for n in (lengths, key_lengths))
    q = rng.standard_normal((10, 4, 5))
    k, v = rng.standard_normal((8, 2, 5)), rng.standard_normal((8, 2, 3))
    slopes = rng.uniform(0, 1, (4, 4))
    options = {"causal": True, "window": (2, None), "softcap": 2, "sinks": np.arange(4.0)}
    out, lse = reference.attention_varlen(
        q, k, v, starts, key_starts, bias=biases.alibi(slopes), return_lse=True, **options
    )
    for n, (count, keys) in enumerate(zip(lengths, key_lengths, strict=True)):
        rows, cols = slice(starts[n], starts[n + 1]), slice(key_starts[n], key_starts[n + 1])
        one = [x.swapaxes(0, 1)[None] for x in (q[rows], k[cols], v[cols])]
        distance = np.abs(np.arange(keys) - np.arange(count)[:, None] - (keys - count))
        bias = -slopes[n][:, None, None] * distance
        expected = by_loops(*one, bias=bias, **options)
        np.testing.assert_allclose(out[rows], expected[0][0].swapaxes(0, 1), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(lse[:, rows], expected[1][0], rtol=1e-12)


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


def defaults(function):
    """Of every parameter, those of `visible` instead of ``**visibility``."""
    parameters = dict(inspect.signature(function).parameters)
    if parameters.pop("visibility", None):
        visibility = inspect.signature(reference.visible).parameters
        parameters |= {k: p for k, p in visibility.items() if k != "shape"}
    return {k: p.default for k, p in parameters.items()}


# What layers with fresh weights are made of; their twins take `weights`, and a `table`, instead.
FRESH = {"embed_dim", "head_dim", "bias", "rng", "dtype", "storage"}
# Twins of layers: what is made, what it is made of, and what of both the twin does not have.
LAYERS = {
    "linear": (pyattn.layers.Linear, pyattn.layers.Linear, {"dtype", "storage"}),
    "multi_head_attention": (
        pyattn.MultiHeadAttention,
        pyattn.MultiHeadAttention.from_weights,
        {"need_weights", "cu_seqlens", "cu_seqlens_k", "kv_heads", "head_dim", "dtype", "storage"},
    ),
    "window_attention": (images.WindowAttention, images.WindowAttention, FRESH),
    "neighborhood_attention": (
        images.NeighborhoodAttention,
        images.NeighborhoodAttention,
        FRESH | {"relative_bias"},
    ),
    "attention_as_conv": (
        type(images.attention_as_conv(np.ones((1, 1, 1, 1)))),
        images.attention_as_conv,
        {"dtype"},
    ),
}


@pytest.mark.parametrize("name", [n for n in reference.__all__ if n not in LAYERS])
def test_same_options(name):
    """The twin takes what the function takes, but `out`, and has the same defaults."""
    (home,) = (m for m in (pyattn, pyattn.positional, pyattn.layers) if hasattr(m, name))
    own = defaults(getattr(home, name))
    own.pop("out", None)
    assert own == defaults(getattr(reference, name))


@pytest.mark.parametrize("name", LAYERS)
def test_same_options_of_layers(name):
    """The twin takes what the layer is made of and what it is called with."""
    layer, make, other = LAYERS[name]
    own = defaults(make) | defaults(layer.__call__)
    own = {k: v for k, v in own.items() if k not in other | {"self", "out"}}
    if "rope" in own:  # by the name of what it is
        own["frequencies"] = own.pop("rope")
        own["interleaved"] = False  # which must be said with `rope`
        own["num_heads"] = inspect.Parameter.empty  # which norms may tell
    if other >= FRESH:
        own |= {"weights": inspect.Parameter.empty, "table": None}
    assert own == defaults(getattr(reference, name))
