"""Structured relative position biases, against loops over queries and keys from the papers."""

import math
from itertools import pairwise

import numpy as np
import pytest

import pyattn
from pyattn import biases, positional

SIZES = [(1, 1), (1, 6), (6, 1), (4, 4), (3, 7), (7, 3)]
STARTS = [None, 0, 2, -5, 40]


def softmax_attention(q, k, v, bias, scale, causal=False):
    """float64, dense, for any number of key heads."""
    q, k, v, bias = (np.asarray(x, np.float64) for x in (q, k, v, bias))
    group = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, group, axis=-3), np.repeat(v, group, axis=-3)
    scores = scale * np.einsum("...id,...jd->...ij", q, k) + bias
    if causal:
        queries, keys = scores.shape[-2:]
        for i in range(queries):
            scores[..., i, i + keys - queries + 1 :] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("...ij,...jd->...id", weights / weights.sum(-1, keepdims=True), v)


def positions(queries, keys, start):
    """Every pair: indices, and positions on the key axis."""
    start = keys - queries if start is None else start
    for i in range(queries):
        for j in range(keys):
            yield i, j, i + start, j


def numbers_held(bias, heads):
    """How many numbers the one term of the bias reaches in memory."""
    ((kind, _, term),) = biases.bias_terms("f", bias, (1, heads, *bias.shape[-2:]))
    assert kind == "table"
    first, end = np.lib.array_utils.byte_bounds(term)
    return (end - first) // term.itemsize


# T5.


def exact_bucket(distance, bidirectional, num_buckets, max_distance):
    """By whole numbers alone: bucket m + b begins where (d / m) ** n >= (max / m) ** b."""
    first = 0
    if bidirectional:
        num_buckets //= 2
        first = num_buckets if distance > 0 else 0
        d = abs(distance)
    else:
        d = max(-distance, 0)
    m = num_buckets // 2
    if d < m:
        return first + d
    n, b = num_buckets - m, 0
    while b + 1 < n and d**n * m ** (b + 1) >= max_distance ** (b + 1) * m**n:
        b += 1
    return first + m + b


SETTINGS = [
    (32, 128), (64, 128), (32, 256), (16, 64), (8, 20), (12, 20), (5, 9), (9, 5), (4, 3), (33, 100),
    (48, 192), (10, 1000), (32, 17), (2, 2), (3, 100),
]  # fmt: skip


@pytest.mark.parametrize(
    "num_buckets, max_distance, bidirectional",
    [(*s, b) for s in SETTINGS for b in (True, False) if s[0] >= 4 or not b],
)
def test_t5_buckets_are_exact(num_buckets, max_distance, bidirectional):
    distances = [*range(-3 * max_distance, 3 * max_distance), 10**9, -(10**9), 2**62, -(2**62)]
    found = positional.t5_buckets(
        distances,
        bidirectional=bidirectional,
        num_buckets=num_buckets,
        max_distance=max_distance,
    )
    assert found.dtype == np.int64
    expected = [exact_bucket(d, bidirectional, num_buckets, max_distance) for d in distances]
    assert found.tolist() == expected
    assert max(expected) < num_buckets


# Where buckets begin in the float32 computation of the models, from PyTorch 2.13.
BEGIN = {
    (32, 128, True): [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91],
    (32, 128, False): [
        *range(1, 17), 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113,
    ],
    (64, 256, False): [
        *range(1, 33), 35, 37, 39, 42, 45, 48, 51, 54, 58, 62, 66, 70, 75, 80, 85, 91, 97, 104, 110,
        118, 126, 134, 143, 153, 163, 174, 185, 198, 211, 225, 240,
    ],
    (320, 800, True): [
        *range(1, 81), 83, 85, 88, 90, 93, 96, 98, 101, 104, 107, 110, 114, 117, 120, 124, 127, 131,
        135, 139, 143, 147, 151, 156, 160, 165, 170, 175, 180, 185, 190, 196, 201, 207, 213, 220,
        226, 233, 239, 246, 253, 261, 268, 276, 284, 293, 301, 310, 319, 328, 338, 348, 358, 368,
        379, 390, 401, 413, 425, 438, 450, 464, 477, 491, 505, 520, 535, 551, 567, 583, 600, 618,
        636, 655, 674, 693, 714, 734, 756, 778,
    ],
}  # fmt: skip


@pytest.mark.parametrize("num_buckets, max_distance, bidirectional", BEGIN)
def test_t5_buckets_are_those_of_the_models(num_buckets, max_distance, bidirectional):
    begin = BEGIN[num_buckets, max_distance, bidirectional]
    options = {"num_buckets": num_buckets, "max_distance": max_distance}
    back = positional.t5_buckets(-np.arange(100_001), bidirectional=bidirectional, **options)
    assert (np.flatnonzero(np.diff(back)) + 1).tolist() == begin
    np.testing.assert_array_equal(np.unique(back), np.arange(len(begin) + 1))
    ahead = positional.t5_buckets(np.arange(1, 100_001), bidirectional=bidirectional, **options)
    expected = back[1:] + num_buckets // 2 if bidirectional else np.zeros_like(ahead)
    np.testing.assert_array_equal(ahead, expected)


def test_t5_buckets_keep_the_shape():
    distances = np.array([[[0, -3], [5, 1000]]], np.int16)
    assert positional.t5_buckets(distances).tolist() == [[[0, 3], [21, 31]]]
    assert positional.t5_buckets(distances.astype(">i4")).tolist() == [[[0, 3], [21, 31]]]
    assert positional.t5_buckets(np.zeros((0, 2), int)).shape == (0, 2)
    assert positional.t5_buckets(7) == 23
    assert positional.t5_buckets(np.array([200], np.uint8), bidirectional=False) == 0


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5_bias(rng, queries, keys, start, bidirectional):
    weight = rng.standard_normal((12, 2)).astype(np.float32)
    expected = np.empty((2, queries, keys), np.float32)
    for i, j, at_i, at_j in positions(queries, keys, start):
        expected[:, i, j] = weight[exact_bucket(at_j - at_i, bidirectional, 12, 20)]
    bias = positional.t5_bias(
        weight, queries, keys, bidirectional=bidirectional, max_distance=20, query_start=start
    )
    assert bias.shape == expected.shape and bias.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(bias), expected)
    if queries == keys:
        alone = positional.t5_bias(
            weight, queries, bidirectional=bidirectional, max_distance=20, query_start=start
        )
        np.testing.assert_array_equal(np.asarray(alone), expected)


def test_t5_bias_is_a_number_per_distance():
    bias = positional.t5_bias(np.zeros((32, 8)), 3000, 5000)
    assert numbers_held(bias, 8) == 8 * 7999


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_t5_bias_in_the_dtype_of_the_weight(rng, name):
    dtype = name
    if name == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    weight = rng.standard_normal((32, 3)).astype(dtype)
    bias = positional.t5_bias(weight, 4, 9)
    assert bias.dtype == weight.dtype
    np.testing.assert_array_equal(np.asarray(bias)[:, 3, 8], weight[0])  # where they are aligned
    np.testing.assert_array_equal(np.asarray(bias)[:, 0, 8], weight[16 + 3])


def test_t5_bias_of_later_queries_is_a_part(rng):
    """Decoding: the rows of the last queries, whatever number of them is computed."""
    weight = rng.standard_normal((32, 2))
    every = np.asarray(positional.t5_bias(weight, 300, bidirectional=False))
    np.testing.assert_array_equal(
        positional.t5_bias(weight, 1, 300, bidirectional=False), every[:, -1:]
    )
    chunk = positional.t5_bias(weight, 50, 220, bidirectional=False)
    np.testing.assert_array_equal(chunk, every[:, 170:220, :220])


# Swin.


@pytest.mark.parametrize("height, width", [(1, 1), (1, 4), (3, 1), (2, 3), (4, 4)])
def test_swin_bias(rng, height, width):
    table = rng.standard_normal(((2 * height - 1) * (2 * width - 1), 3)).astype(np.float32)
    pixels = [(y, x) for y in range(height) for x in range(width)]
    expected = np.empty((3, len(pixels), len(pixels)), np.float32)
    for i, (yi, xi) in enumerate(pixels):
        for j, (yj, xj) in enumerate(pixels):
            row = (yi - yj + height - 1) * (2 * width - 1) + (xi - xj + width - 1)
            expected[:, i, j] = table[row]
    for parameter in (table, table[::-1].copy()[::-1], np.asfortranarray(table)):
        bias = positional.swin_bias(parameter, (height, width))
        assert bias.shape == expected.shape and bias.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(bias), expected)
        ((_, _, term),) = biases.bias_terms("f", bias, (1, *bias.shape))
        assert np.shares_memory(term, parameter)
    if height == width:
        np.testing.assert_array_equal(np.asarray(positional.swin_bias(table, height)), expected)


def swin_v2_loops(weight_1, bias_1, weight_2, window, divide):
    def log_spaced(distance, extent):
        x = 8 * distance / (extent - 1) if distance else 0.0
        return math.copysign(math.log2(1 + abs(x)) / math.log2(8), x)

    height, width = window
    pixels = [(y, x) for y in range(height) for x in range(width)]
    out = np.empty((len(weight_2), len(pixels), len(pixels)))
    for i, (yi, xi) in enumerate(pixels):
        for j, (yj, xj) in enumerate(pixels):
            x = np.array([log_spaced(yi - yj, divide[0]), log_spaced(xi - xj, divide[1])])
            hidden = [max(float(w @ x + b), 0) for w, b in zip(weight_1, bias_1, strict=True)]
            for h, row in enumerate(weight_2):
                out[h, i, j] = 16 / (1 + math.exp(-float(row @ np.array(hidden))))
    return out


@pytest.mark.parametrize(
    "window, pretrained, divide",
    [
        ((3, 2), None, (3, 2)),
        ((2, 4), (5, 3), (5, 3)),
        (3, None, (3, 3)),
        (4, 2, (2, 2)),
        ((1, 3), None, (1, 3)),
        ((1, 1), None, (1, 1)),
        ((1, 2), (6, 6), (6, 6)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_swin_v2_bias(rng, window, pretrained, divide, dtype):
    parameters = [rng.standard_normal(s).astype(dtype) for s in [(5, 2), (5,), (3, 5)]]
    bias = positional.swin_v2_bias(*parameters, window, pretrained_window=pretrained)
    pair = (window, window) if isinstance(window, int) else window
    expected = swin_v2_loops(*(p.astype(float) for p in parameters), pair, divide)
    assert bias.shape == expected.shape and bias.dtype == np.float64
    np.testing.assert_allclose(np.asarray(bias), expected, rtol=1e-13, atol=1e-13)


def test_swin_v2_bias_does_not_overflow():
    for sign, limit in ((1, 16.0), (-1, 0.0)):
        bias = positional.swin_v2_bias([[0.0, 0.0]], [1.0], [[sign * 1e6]], 2)
        np.testing.assert_array_equal(np.asarray(bias), np.full((1, 4, 4), limit))


# KERPLE.


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("kind", ["log", "power"])
def test_kerple_bias(rng, queries, keys, start, kind):
    p = np.array([0.7, 1.9, 3.0, -1.0, 0.5], np.float32)
    a = np.array([0.3, 2.5, 0.2, 1.0, 0.001], np.float32)
    expected = np.empty((5, queries, keys))
    for i, j, at_i, at_j in positions(queries, keys, start):
        d = abs(at_i - at_j)
        for h in range(5):
            own_p, own_a = max(float(p[h]), 0.01), max(float(a[h]), 0.01)
            if kind == "log":
                expected[h, i, j] = -own_p * math.log(1 + own_a * d)
            else:
                expected[h, i, j] = -own_a * d ** min(own_p, 2)
    bias = positional.kerple_bias(p, a, queries, keys, kind=kind, query_start=start)
    assert bias.shape == expected.shape and bias.dtype == np.float64
    np.testing.assert_allclose(np.asarray(bias), expected, rtol=1e-14)


def test_kerple_bias_is_logarithmic_by_default():
    np.testing.assert_array_equal(
        positional.kerple_bias([1.0], [2.0], 3),
        positional.kerple_bias([1.0], [2.0], 3, 3, kind="log"),
    )
    assert numbers_held(positional.kerple_bias([1.0] * 4, [2.0] * 4, 2000), 4) == 4 * 3999


# FIRE.


def fire_loops(layers, queries, keys, c, threshold, eps, start):
    out = np.empty((len(layers[-1][0]), queries, keys))
    for i, j, at_i, at_j in positions(queries, keys, start):
        near = math.log(abs(c * (at_i - at_j)) + 1)
        x = np.array([near / (math.log(abs(c * max(abs(threshold), at_i)) + 1) + eps)])
        for n, (weight, bias) in enumerate(layers):
            x = np.array([max(e, 0) for e in x]) if n else x
            x = weight.astype(float) @ x + (0 if bias is None else bias.astype(float))
        out[:, i, j] = x
    return out


def network(rng, widths, dtype=np.float64, bias=True):
    return [
        (
            rng.standard_normal((n, m)).astype(dtype),
            rng.standard_normal(n).astype(dtype) if bias else None,
        )
        for m, n in pairwise(widths)
    ]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("threshold", [100.0, 4.5, -3, 0.0])
def test_fire_bias(rng, queries, keys, start, threshold):
    layers = network(rng, [1, 6, 2])
    expected = fire_loops(layers, queries, keys, 0.3, threshold, 1e-6, start)
    bias = positional.fire_bias(
        layers, queries, keys, c=0.3, threshold=threshold, query_start=start
    )
    assert bias.shape == expected.shape and bias.dtype == np.float64
    np.testing.assert_allclose(np.asarray(bias), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("widths", [[1, 2], [1, 4, 2], [1, 3, 5, 2]])
@pytest.mark.parametrize("with_bias", [True, False])
def test_fire_bias_with_any_layers(rng, widths, with_bias):
    layers = network(rng, widths, bias=with_bias)
    for threshold in (3, 50):
        expected = fire_loops(layers, 6, 6, -0.4, threshold, 0.01, None)
        bias = positional.fire_bias(tuple(layers), 6, c=-0.4, threshold=threshold, eps=0.01)
        np.testing.assert_allclose(np.asarray(bias), expected, rtol=1e-12, atol=1e-12)


def test_fire_bias_is_structured_up_to_the_threshold(rng):
    layers = network(rng, [1, 4, 2], np.float32)
    near = positional.fire_bias(layers, 8, 300, c=1, threshold=299)
    assert repr(near) == "<bias relative (2, 8, 300)>" and near.dtype == np.float64
    assert numbers_held(near, 2) == 2 * 307
    far = positional.fire_bias(layers, 8, 300, c=1, threshold=298.9)
    assert repr(far) == "<bias dense (2, 8, 300)>" and far.dtype == np.float32
    np.testing.assert_allclose(np.asarray(near)[:, :7], np.asarray(far)[:, :7], atol=1e-2)
    assert positional.fire_bias([(layers[0][0], None), (layers[1][0].astype(float), None)], 8, 300,
                     c=1, threshold=0).dtype == np.float64  # fmt: skip


# In a call.


@pytest.mark.parametrize("queries, keys", [(5, 5), (3, 9), (1, 6)])
@pytest.mark.parametrize("name", ["t5", "kerple", "fire", "fire dense"])
def test_attention(rng, name, queries, keys):
    """Causal, with the ends aligned, which is the default of both."""
    q = rng.standard_normal((2, 4, queries, 8))
    k, v = rng.standard_normal((2, 2, 2, keys, 8))
    bias = {
        "t5": lambda: positional.t5_bias(
            rng.standard_normal((8, 4)), queries, keys, bidirectional=False
        ),
        "kerple": lambda: positional.kerple_bias(rng.random(4), rng.random(4), queries, keys),
        "fire": lambda: positional.fire_bias(
            network(rng, [1, 3, 4]), queries, keys, c=0.1, threshold=9
        ),
        "fire dense": lambda: positional.fire_bias(
            network(rng, [1, 3, 4]), queries, keys, c=1, threshold=1
        ),
    }[name]()
    expected = softmax_attention(q, k, v, np.asarray(bias), 0.5, causal=True)
    found = pyattn.attention(q, k, v, bias=bias, causal=True, scale=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_attention_of_swin(rng):
    q, k, v = rng.standard_normal((3, 2, 3, 6, 8))
    bias = positional.swin_bias(rng.standard_normal((15, 3)), (2, 3))
    expected = softmax_attention(q, k, v, np.asarray(bias), 8**-0.5)
    np.testing.assert_allclose(pyattn.attention(q, k, v, bias=bias), expected, atol=1e-12)


def test_attention_of_swin_v2(rng):
    """As its docstring says, against the cosine written out."""
    q, k, v = rng.standard_normal((3, 2, 3, 6, 8))
    parameters = [rng.standard_normal(s) for s in [(5, 2), (5,), (3, 5)]]
    logit_scale = np.array([0.3, 2.0, 9.0])[:, None, None]
    bias = positional.swin_v2_bias(*parameters, (2, 3))
    tau = np.exp(np.minimum(logit_scale, np.log(100)))
    scaled = q * (tau / np.linalg.norm(q, axis=-1, keepdims=True))
    unit = k / np.linalg.norm(k, axis=-1, keepdims=True)
    found = pyattn.attention(scaled, unit, v, bias=bias, scale=1.0)

    cosine = np.einsum("bhid,bhjd->bhij", q, k)
    cosine /= np.sqrt((q**2).sum(-1))[..., :, None] * np.sqrt((k**2).sum(-1))[..., None, :]
    scores = cosine * np.array([math.exp(0.3), math.exp(2), 100])[:, None, None]
    scores += swin_v2_loops(*parameters, (2, 3), (2, 3))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights @ v / weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# Edges.


@pytest.mark.parametrize("queries, keys", [(0, 0), (0, 3), (3, 0)])
def test_nothing(queries, keys):
    layers = [(np.ones((2, 1)), None)]
    for bias in (
        positional.t5_bias(np.ones((32, 2)), queries, keys),
        positional.kerple_bias([1.0, 2.0], [1.0, 2.0], queries, keys),
        positional.fire_bias(layers, queries, keys, c=1.0, threshold=9),
        positional.fire_bias(layers, queries, keys, c=1.0, threshold=0, query_start=5),
    ):
        assert bias.shape == (2, queries, keys)
        assert np.asarray(bias).shape == (2, queries, keys)
    assert positional.t5_bias(np.ones((32, 0)), 3, 4).shape == (0, 3, 4)


# Errors.

ONES = np.ones((2, 1))
FLOATS = "must be float16, bfloat16, float32 or float64, got "
CASES = [
    (lambda: positional.t5_buckets([0.5]), TypeError,
     "t5_buckets: relative_position must be integers, got float64"),
    (lambda: positional.t5_buckets(np.ma.array([1])), TypeError,
     "t5_buckets: relative_position must not be a masked array"),
    (lambda: positional.t5_buckets(np.array([[0, 2**63]], np.uint64)), ValueError,
     "t5_buckets: relative_position[0, 1] = 9223372036854775808 is outside "
     "[-4611686018427387904, 4611686018427387904]"),
    (lambda: positional.t5_buckets(np.int64(-(2**63))), ValueError,
     "t5_buckets: relative_position = -9223372036854775808 is outside "
     "[-4611686018427387904, 4611686018427387904]"),
    (lambda: positional.t5_buckets([1], bidirectional=1), TypeError,
     "t5_buckets: bidirectional must be True or False, got int"),
    (lambda: positional.t5_buckets([1], num_buckets=3), ValueError,
     "t5_buckets: num_buckets must be at least 4, got 3"),
    (lambda: positional.t5_buckets([1], num_buckets=1, bidirectional=False), ValueError,
     "t5_buckets: num_buckets must be at least 2, got 1"),
    (lambda: positional.t5_buckets([1], num_buckets=32.0), TypeError,
     "t5_buckets: num_buckets must be an integer, got float"),
    (lambda: positional.t5_buckets([1], max_distance=8), ValueError,
     "t5_buckets: max_distance must exceed 8, as many distances have a bucket of their own, got 8"),
    (lambda: positional.t5_buckets([1], max_distance=16, bidirectional=False), ValueError,
     "t5_buckets: max_distance must exceed 16, as many distances have a bucket of their own, "
     "got 16"),
    (lambda: positional.t5_bias(np.zeros(32), 4), ValueError,
     "t5_bias: weight must be (buckets, heads), got (32,)"),
    (lambda: positional.t5_bias(np.zeros((32, 2), int), 4), TypeError,
     "t5_bias: weight " + FLOATS + "int64: use weight.astype(numpy.float32)"),
    (lambda: positional.t5_bias(np.zeros((3, 2)), 4), ValueError,
     "t5_bias: weight.shape[0] must be at least 4, got 3"),
    (lambda: positional.t5_bias(np.zeros((32, 2)), 4, max_distance=7), ValueError,
     "t5_bias: max_distance must exceed 8, as many distances have a bucket of their own, got 7"),
    (lambda: positional.t5_bias(np.zeros((32, 2)), -4), ValueError,
     "t5_bias: queries must be at least 0, got -4"),
    (lambda: positional.t5_bias(np.zeros((32, 2)), 4, 2.5), TypeError,
     "t5_bias: keys must be an integer, got float"),
    (lambda: positional.t5_bias(np.zeros((32, 2)), 4, query_start=[0]), TypeError,
     "t5_bias: query_start must be an integer, got list"),
    (lambda: positional.swin_bias(np.zeros((10, 2)), (2, 3)), ValueError,
     "swin_bias: table (10, 2) has 10 rows, a window of (2, 3) needs "
     "(2 * height - 1) * (2 * width - 1) = 15"),
    (lambda: positional.swin_bias(np.zeros((3, 5, 2)), (2, 3)), ValueError,
     "swin_bias: table must be (distances, heads), got (3, 5, 2)"),
    (lambda: positional.swin_bias(np.zeros((9, 2)), (2, 0)), ValueError,
     "swin_bias: window must be at least 1, got 0"),
    (lambda: positional.swin_bias(np.zeros((9, 2)), (2, 2, 2)), ValueError,
     "swin_bias: window must be one number or two, got (2, 2, 2)"),
    (lambda: positional.swin_v2_bias(np.zeros((5, 3)), np.zeros(5), np.zeros((1, 5)), 2),
     ValueError,
     "swin_v2_bias: weight_1 must be (outputs, 2), 2 being what the layer is given, got (5, 3)"),
    (lambda: positional.swin_v2_bias(np.zeros((5, 2)), np.zeros((5, 1)), np.zeros((1, 5)), 2),
     ValueError, "swin_v2_bias: bias_1 must be (5,), one per row of weight_1, got (5, 1)"),
    (lambda: positional.swin_v2_bias(np.zeros((5, 2)), np.zeros(5), np.zeros((5, 1)), 2),
     ValueError,
     "swin_v2_bias: weight_2 must be (outputs, 5), 5 being what the layer is given, got (5, 1)"),
    (lambda: positional.swin_v2_bias(np.zeros((5, 2)), np.zeros(5), np.zeros((1, 5)), 2,
                          pretrained_window=1), ValueError,
     "swin_v2_bias: pretrained_window must be at least 2, got 1"),
    (lambda: positional.swin_v2_bias(np.zeros((5, 2)), np.zeros(5), np.zeros((1, 5)), 2,
                          pretrained_window=(8, 8, 8)), ValueError,
     "swin_v2_bias: pretrained_window must be one number or two, got (8, 8, 8)"),
    (lambda: positional.kerple_bias([1.0, 2.0], [1.0], 3), ValueError,
     "kerple_bias: one entry per head is needed of each: p (2,), a (1,)"),
    (lambda: positional.kerple_bias([[1.0]], [1.0], 3), ValueError,
     "kerple_bias: p must be (heads,), got (1, 1)"),
    (lambda: positional.kerple_bias([1.0], [1], 3), TypeError,
     "kerple_bias: a " + FLOATS + "int64: use a.astype(numpy.float32)"),
    (lambda: positional.kerple_bias([1.0], [1.0], 3, kind="linear"), ValueError,
     "kerple_bias: kind must be 'log' or 'power', got 'linear'"),
    (lambda: positional.kerple_bias([1.0], [1.0], 3, query_start=True), TypeError,
     "kerple_bias: query_start must be an integer, got bool"),
    (lambda: positional.fire_bias([], 3, c=1, threshold=1), ValueError,
     "fire_bias: at least one layer is needed"),
    (lambda: positional.fire_bias({1: 2}, 3, c=1, threshold=1), TypeError,
     "fire_bias: layers must be a list of (weight, bias), got dict"),
    (lambda: positional.fire_bias([ONES], 3, c=1, threshold=1), ValueError,
     "fire_bias: layers[0] must be (weight, bias), bias may be None"),
    (lambda: positional.fire_bias([(ONES, None), (ONES, None)], 3, c=1, threshold=1), ValueError,
     "fire_bias: layers[1][0] must be (outputs, 2), 2 being what the layer is given, got (2, 1)"),
    (lambda: positional.fire_bias([(ONES, [1.0])], 3, c=1, threshold=1), ValueError,
     "fire_bias: layers[0][1] must be (2,), one per row of layers[0][0], got (1,)"),
    (lambda: positional.fire_bias([(ONES, [1, 2])], 3, c=1, threshold=1), TypeError,
     "fire_bias: layers[0][1] " + FLOATS + "int64: use layers[0][1].astype(numpy.float32)"),
    (lambda: positional.fire_bias([(ONES, None)], 3, c=np.nan, threshold=1), ValueError,
     "fire_bias: c must be finite, got nan"),
    (lambda: positional.fire_bias([(ONES, None)], 3, c=1, threshold="1"), TypeError,
     "fire_bias: threshold must be a real number, got str"),
    (lambda: positional.fire_bias([(ONES, None)], 3, c=1, threshold=1, eps=0), ValueError,
     "fire_bias: eps must be finite and above 0, got 0.0"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", CASES, ids=[c[2][:60] for c in CASES])
def test_error(call, kind, message):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert str(error.value) == message
    assert error.type is kind
