"""Relative position biases that depend on queries and keys, against loops from the papers."""

import math

import numpy as np
import pytest
from test_relative import SIZES, STARTS, positions, softmax_attention

import pyattn
from pyattn import positional

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-13}


def compare(found, expected, dtype):
    assert found.dtype == dtype and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def of_head(table, h, axes):
    """The table of head `h`, be there one per head or one for all."""
    return table[h] if table.ndim > axes else table


def each_head(q):
    """Index of every head of every batch element, and the head."""
    for at in np.ndindex(q.shape[:-2]):
        yield at, at[-1]


# Shaw.


def clipped(at_i, at_j, left, right):
    return max(-left, min(right, at_j - at_i)) + left


def shaw_loops(q, table, keys, left, scale, start):
    out = np.empty((*q.shape[:-1], keys))
    right = table.shape[-2] - 1 - left
    for at, h in each_head(q):
        for i, j, at_i, at_j in positions(q.shape[-2], keys, start):
            row = of_head(table, h, 2)[clipped(at_i, at_j, left, right)]
            out[at][i, j] = scale * float(q[at][i] @ row)
    return out


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("left, rows", [(None, 5), (0, 3), (3, 4), (2, 9), (0, 1), (50, 101)])
def test_shaw_bias(rng, queries, keys, left, rows, start):
    q, table = rng.standard_normal((2, 3, queries, 4)), rng.standard_normal((rows, 4))
    own = rows // 2 if left is None else left
    expected = shaw_loops(q, table, keys, own, 0.5, start)
    compare(
        positional.shaw_bias(q, table, keys, left=left, query_start=start), expected, np.float64
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [(), (3,), (2, 3), (2, 2, 3)])
def test_shaw_bias_of_any_heads(rng, heads, dtype):
    q = rng.standard_normal((*heads, 4, 8)).astype(dtype)
    for table in rng.standard_normal((5, 8)), rng.standard_normal((3, 5, 8)):
        if table.ndim == 3 and not heads:
            continue
        table = table.astype(dtype)
        many = q if heads else q[None]
        expected = shaw_loops(many.astype(float), table.astype(float), 6, 2, -0.3, None)
        expected = expected if heads else expected[0]
        compare(positional.shaw_bias(q, table, 6, scale=-0.3), expected, dtype)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("left, rows", [(None, 5), (0, 3), (3, 4), (2, 9), (0, 1), (50, 101)])
def test_shaw_values(rng, queries, keys, left, rows, start):
    weights, table = rng.random((2, 3, queries, keys)), rng.standard_normal((rows, 4))
    own = rows // 2 if left is None else left
    expected = np.zeros((2, 3, queries, 4))
    for i, j, at_i, at_j in positions(queries, keys, start):
        row = table[clipped(at_i, at_j, own, rows - 1 - own)]
        expected[..., i, :] += weights[..., i, j, None] * row
    compare(
        positional.shaw_values(weights, table, left=left, query_start=start), expected, np.float64
    )


def test_shaw_values_per_head_and_without_heads(rng):
    weights, table = rng.random((2, 3, 4, 6)), rng.standard_normal((3, 5, 8))
    found = positional.shaw_values(weights, table)
    for at, h in each_head(weights):
        alone = positional.shaw_values(weights[at], table[h])
        assert alone.shape == (4, 8)
        np.testing.assert_allclose(found[at], alone, rtol=1e-14)
    single = positional.shaw_values(weights.astype(np.float32), table.astype(np.float32))
    compare(single, found, np.float32)


def test_shaw_in_a_call(rng):
    """Equations 3 and 4 of the paper, with an array of L x S x D."""
    q = rng.standard_normal((2, 4, 5, 8))
    k, v = rng.standard_normal((2, 2, 2, 9, 8))
    keys_of, values_of = rng.standard_normal((2, 7, 8))
    offset = np.clip(np.arange(9) - (np.arange(5)[:, None] + 4), -3, 3) + 3
    k_heads, v_heads = np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)
    scores = np.einsum("bhid,bhijd->bhij", q, k_heads[:, :, None] + keys_of[offset]) / 8**0.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    expected = np.einsum("bhij,bhijd->bhid", weights, v_heads[:, :, None] + values_of[offset])

    bias = positional.shaw_bias(q, keys_of, 9)
    found = pyattn.attention(q, k, v, bias=bias)
    found += positional.shaw_values(pyattn.attention_weights(q, k, bias=bias), values_of)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# Transformer-XL.


def transformer_xl_loops(q, r, v_bias, keys, scale):
    out = np.empty((*q.shape[:-1], keys))
    queries = q.shape[-2]
    for at, h in each_head(q):
        for i, j, _, _ in positions(queries, keys, 0):
            own = q[at][i] + of_head(v_bias, h, 1)
            out[at][i, j] = scale * float(own @ of_head(r, h, 2)[j - i + queries - 1])
    return out


@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_head", [True, False])
def test_transformer_xl_bias(rng, queries, keys, dtype, per_head):
    heads = (3,) if per_head else ()
    q = rng.standard_normal((2, 3, queries, 4)).astype(dtype)
    r = rng.standard_normal((*heads, queries + keys - 1, 4)).astype(dtype)
    v_bias = rng.standard_normal((*heads, 4)).astype(dtype)
    as_float = [a.astype(float) for a in (q, r, v_bias)]
    found = positional.transformer_xl_bias(q, r, v_bias)
    compare(found, transformer_xl_loops(*as_float, keys, 0.5), dtype)
    found = positional.transformer_xl_bias(q, r, v_bias, scale=2)
    compare(found, transformer_xl_loops(*as_float, keys, 2.0), dtype)
    if not per_head:
        alone = positional.transformer_xl_bias(q[1, 2], r, v_bias, scale=2)
        compare(alone, found[1, 2].astype(float), dtype)


def test_transformer_xl_bias_is_a_view(rng):
    q, r = rng.standard_normal((2, 300, 4)), rng.standard_normal((2, 899, 4))
    found = positional.transformer_xl_bias(q, r, np.zeros(4))
    assert found.shape == (2, 300, 600) and not found.flags.writeable
    assert found.strides[-2:] == (898 * 8, 8)
    first, end = np.lib.array_utils.byte_bounds(found)
    assert end - first == (2 * 300 * 899 - 299 - 299) * 8  # without the corners


def test_transformer_xl_in_a_call(rng):
    """As the paper's code has it: encodings of the distances S - 1 ... 0, and the shift."""
    queries, keys, memory = 4, 10, 6
    q = rng.standard_normal((2, 3, queries, 8))
    k, v = rng.standard_normal((2, 2, 3, keys, 8))
    u_bias, v_bias = rng.standard_normal((2, 3, 8))
    r = rng.standard_normal((3, keys, 8))
    by_distance = np.einsum("bhid,hjd->bhij", q + v_bias[:, None], r)
    padded = np.concatenate([np.zeros((2, 3, queries, 1)), by_distance], axis=-1)
    shifted = padded.reshape(2, 3, keys + 1, queries)[:, :, 1:].reshape(by_distance.shape)
    for i in range(queries):  # what the shift is for
        for j in range(memory + i + 1):
            distance = memory + i - j
            np.testing.assert_array_equal(
                shifted[..., i, j], by_distance[..., i, keys - 1 - distance]
            )
    expected = softmax_attention(q + u_bias[:, None], k, v, shifted * 8**-0.5, 8**-0.5, True)

    later = np.full((3, queries - 1, 8), 7.0)  # of later keys: may be anything
    bias = positional.transformer_xl_bias(q, np.concatenate([r, later], axis=1), v_bias)
    found = pyattn.attention(q + u_bias[:, None], k, v, bias=bias, causal=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# DeBERTa.


@pytest.mark.parametrize(
    "bucket_size, max_position",
    [(256, 512), (128, 512), (32, 128), (8, 20), (9, 6), (2, 3), (3, 50), (16, 10), (64, 256)],
)
def test_deberta_buckets_are_exact(bucket_size, max_position):
    """By whole numbers alone: d is in m + n, the least n with (d / m) ** (m - 1) <= r ** n."""
    m = bucket_size // 2
    distances = np.arange(-2 * max_position, 2 * max_position + 1)
    found = positional.deberta_buckets(distances, bucket_size, max_position)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, -found[::-1])
    for d, bucket in zip(distances, found, strict=True):
        if abs(d) <= m:
            assert bucket == d
        elif d > 0:
            d, n = int(d), int(bucket) - m

            def within(n, d=d):
                return d ** (m - 1) * m**n <= (max_position - 1) ** n * m ** (m - 1)

            assert within(n) and (n == 0 or not within(n - 1))
    assert found[distances == max_position - 1] == max(2 * m - 1, m)


def test_deberta_buckets_are_those_of_the_models():
    """The float32 computation, from PyTorch 2.13."""
    distances = [
        0, 1, 127, 128, 129, 130, 131, 132, 135, 140, 150, 175, 200, 250, 300, 350, 400, 450, 500,
        505, 508, 509, 510, 511,
    ]  # fmt: skip
    buckets = [
        0, 1, 127, 128, 129, 130, 131, 131, 133, 137, 143, 157, 169, 190, 207, 221, 233, 244, 254,
        254, 255, 255, 255, 255,
    ]  # fmt: skip
    assert positional.deberta_buckets(distances, 256, 512).tolist() == buckets
    assert positional.deberta_buckets(-300, 256, 512) == -207
    assert positional.deberta_buckets(np.array([[-300], [3]], np.int16), 256, 512).tolist() == [
        [-207],
        [3],
    ]


def deberta_of_the_models(q, k, pos_key, pos_query, bucket, scale):
    """By the code of the models: gathers of whole matrices, each with its own clamp."""
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    span = (pos_key if pos_key is not None else pos_query).shape[1] // 2
    score = np.zeros((batch, heads, queries, keys))
    relative = np.array([[bucket(i + keys - queries - j) for j in range(keys)]
                         for i in range(queries)], int)  # fmt: skip
    square = np.array([[bucket(i - j) for j in range(keys)] for i in range(keys)], int)
    for b in range(batch):
        for h in range(heads):
            if pos_key is not None:
                c2p = q[b, h] @ pos_key[h].T
                index = np.clip(relative + span, 0, 2 * span - 1)
                score[b, h] += np.take_along_axis(c2p, index, -1) * scale
            if pos_query is not None:
                p2c = k[b, h] @ pos_query[h].T
                index = np.clip(-square + span, 0, 2 * span - 1)
                gathered = np.take_along_axis(p2c, index, -1).T  # of queries at all positions
                score[b, h] += gathered[keys - queries :] * scale
    return score


@pytest.mark.parametrize("queries, keys", [(1, 1), (12, 12), (1, 7), (5, 12)])
@pytest.mark.parametrize("terms", ["c2p", "p2c", "both"])
@pytest.mark.parametrize("buckets", [None, (4, 9), (8, 20)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_deberta_bias(rng, queries, keys, terms, buckets, dtype):
    q = rng.standard_normal((2, 4, queries, 8)).astype(dtype)
    k = rng.standard_normal((2, 2, keys, 8)).astype(dtype)
    pos_key, pos_query = rng.standard_normal((2, 4, 8, 8)).astype(dtype)
    pos_key = None if terms == "p2c" else pos_key
    pos_query = None if terms == "c2p" else pos_query
    size, most = buckets or (None, None)

    def bucket(d):
        return d if buckets is None else int(positional.deberta_buckets(d, *buckets))

    scale = 1 / math.sqrt(8 * (3 if terms == "both" else 2))
    repeated = np.repeat(k, 2, axis=1)
    as_float = [a if a is None else a.astype(float) for a in (q, repeated, pos_key, pos_query)]
    expected = deberta_of_the_models(*as_float, bucket, scale)
    found = positional.deberta_bias(q, k, pos_key, pos_query, bucket_size=size, max_position=most)
    compare(found, expected, dtype)
    doubled = positional.deberta_bias(
        q, k, pos_key, pos_query, bucket_size=size, max_position=most, scale=2 * scale
    )
    compare(doubled, 2 * expected, dtype)


@pytest.mark.parametrize("start", STARTS)
def test_deberta_bias_of_queries_anywhere(rng, start):
    q, k = rng.standard_normal((3, 8)), rng.standard_normal((7, 8))
    pos_key, pos_query = rng.standard_normal((2, 6, 8))
    expected = np.empty((3, 7))
    for i, j, at_i, at_j in positions(3, 7, start):
        row = min(max(at_i - at_j + 3, 0), 5)
        expected[i, j] = 0.7 * float(q[i] @ pos_key[row] + k[j] @ pos_query[row])
    found = positional.deberta_bias(q, k, pos_key, pos_query, scale=0.7, query_start=start)
    compare(found, expected, np.float64)
    batched = positional.deberta_bias(
        q[None, None], k, pos_key, pos_query, scale=0.7, query_start=start
    )
    compare(batched, expected[None, None], np.float64)


def test_deberta_in_a_call(rng):
    q, k, v = rng.standard_normal((3, 2, 3, 9, 8))
    pos_key, pos_query = rng.standard_normal((2, 3, 8, 8))
    terms = deberta_of_the_models(
        q, k, pos_key, pos_query, lambda d: int(positional.deberta_buckets(d, 4, 9)), 24**-0.5
    )
    bias = positional.deberta_bias(q, k, pos_key, pos_query, bucket_size=4, max_position=9)
    found = pyattn.attention(q, k, v, bias=bias, scale=(3 * 8) ** -0.5)
    np.testing.assert_allclose(found, softmax_attention(q, k, v, terms, 24**-0.5), atol=1e-12)


# CoPE.


def cope_loops(q, k, table, scale, start):
    """By the paper's formulas; keys after the query have a gate of 0."""
    queries, keys = q.shape[-2], k.shape[-2]
    start = keys - queries if start is None else start
    out = np.empty((*q.shape[:-1], keys))
    group = q.shape[-3] // k.shape[-3]
    for at, h in each_head(q):
        own, e = k[(*at[:-1], h // group)], of_head(table, h, 2)
        for i in range(queries):
            gates = [
                1 / (1 + math.exp(-scale * float(q[at][i] @ own[t]))) if t <= i + start else 0.0
                for t in range(keys)
            ]
            for j in range(keys):
                p = min(math.fsum(gates[j:]), len(e) - 1)
                low, high = math.floor(p), math.ceil(p)
                w = p - low
                out[at][i, j] = (1 - w) * float(q[at][i] @ e[low]) + w * float(q[at][i] @ e[high])
    return out


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_cope_bias(rng, queries, keys, count, start):
    q = rng.standard_normal((2, 4, queries, 8))
    k = rng.standard_normal((2, 2, keys, 8))
    table = rng.standard_normal((count, 8))
    expected = cope_loops(q, k, table, 8**-0.5, start)
    compare(positional.cope_bias(q, k, table, query_start=start), expected, np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("heads", [(), (3,), (2, 3)])
def test_cope_bias_of_any_heads(rng, heads, dtype):
    q, k = rng.standard_normal((2, *heads, 6, 8)).astype(dtype)
    for table in rng.standard_normal((4, 8)), rng.standard_normal((3, 4, 8)):
        if table.ndim == 3 and not heads:
            continue
        table = table.astype(dtype)
        many = [a.astype(float) if heads else a[None].astype(float) for a in (q, k)]
        expected = cope_loops(*many, table.astype(float), 1.5, None)
        expected = expected if heads else expected[0]
        compare(positional.cope_bias(q, k, table, scale=1.5), expected, dtype)


def test_cope_positions_stay_exact_in_float32():
    """4096 open gates: a float32 sum would have come to a wrong place between two positions."""
    q = np.ones((1, 1), np.float32)
    k = np.full((4096, 1), math.log(1 / 9), np.float32)  # gates of a tenth
    table = np.arange(1000, dtype=np.float32)[:, None]
    gate = 1 / (1 + math.exp(-float(k[0, 0])))
    expected = gate * np.arange(4096, 0, -1)
    np.testing.assert_allclose(positional.cope_bias(q, k, table)[0], expected, rtol=1.2e-7)


def test_cope_bias_with_huge_scores_and_nan(rng):
    q, k, table = rng.standard_normal((3, 4, 8))
    big = positional.cope_bias(1e4 * q, k, table)
    assert np.isfinite(big).all()
    k[2] = np.nan
    found, without = (
        positional.cope_bias(q, k, table),
        positional.cope_bias(q, np.nan_to_num(k), table),
    )
    np.testing.assert_array_equal(found[:2], without[:2])  # of queries that do not see it
    assert np.isnan(found[2:, :3]).all() and not np.isnan(found[3, 3])


def test_cope_in_a_call(rng):
    q = rng.standard_normal((2, 4, 5, 8))
    k, v = rng.standard_normal((2, 2, 2, 9, 8))
    table = rng.standard_normal((4, 8))
    terms = cope_loops(q, k, table, 8**-0.5, None)
    found = pyattn.attention(q, k, v, bias=positional.cope_bias(q, k, table), causal=True)
    np.testing.assert_allclose(found, softmax_attention(q, k, v, terms, 8**-0.5, True), atol=1e-12)


# Edges.


@pytest.mark.parametrize("queries, keys", [(0, 0), (0, 3), (3, 0)])
@pytest.mark.parametrize("heads", [(), (2,), (0,), (0, 2)])
def test_nothing(queries, keys, heads):
    q, k, table = np.ones((*heads, queries, 4)), np.ones((*heads, keys, 4)), np.ones((6, 4))
    shape = (*heads, queries, keys)
    assert positional.shaw_bias(q, table, keys, left=2).shape == shape
    assert positional.shaw_values(np.ones(shape), table, left=2).shape == (*heads, queries, 4)
    assert positional.deberta_bias(q, k, table, table).shape == shape
    assert positional.cope_bias(q, k, table).shape == shape
    if keys:
        r = np.ones((queries + keys - 1, 4))
        assert positional.transformer_xl_bias(q, r, np.ones(4)).shape == shape


def test_inputs_stay_as_they_are(rng):
    q, k, r = rng.standard_normal((3, 2, 5, 8))
    table, v_bias = rng.standard_normal((6, 8)), rng.standard_normal(8)
    given = [q, k, r, table, v_bias]
    before = [a.copy() for a in given]
    for a in given:
        a.flags.writeable = False
    positional.shaw_bias(q, table, 5, left=1)
    positional.transformer_xl_bias(q, r, v_bias)
    positional.deberta_bias(q, k, table, table)
    positional.cope_bias(q, k, table)
    positional.shaw_values(np.full((2, 5, 5), 0.2), table, left=1)
    for a, b in zip(given, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_any_strides(rng):
    q, k = rng.standard_normal((2, 2, 5, 3, 16))[..., ::-2].swapaxes(-2, -3)
    assert not q.flags.c_contiguous
    table = rng.standard_normal((8, 6)).T
    for function in (positional.cope_bias, lambda q, k, t: positional.deberta_bias(q, k, t, t),
                     lambda q, k, t: positional.shaw_bias(q, t, 5, left=3)):  # fmt: skip
        packed = [np.ascontiguousarray(a) for a in (q, k, table)]
        np.testing.assert_allclose(function(q, k, table), function(*packed), rtol=1e-13)
    weights = rng.random((2, 9, 3, 5)).swapaxes(-1, -2)[..., ::-1]
    np.testing.assert_allclose(
        positional.shaw_values(weights, table, left=3),
        positional.shaw_values(weights.copy(), table, left=3),
        rtol=1e-13,
    )


# Errors.

Q, K, T = np.ones((2, 4, 3, 8)), np.ones((2, 2, 5, 8)), np.ones((6, 8))
CASES = [
    (lambda: positional.shaw_bias(Q, T.astype("f4"), 5), TypeError,
     "shaw_bias: query and table must have the same dtype: query float64, table float32"),
    (lambda: positional.shaw_bias(Q[0, 0, 0], T, 5), ValueError,
     "shaw_bias: query needs at least 2 axes (length, size), got (8,)"),
    (lambda: positional.shaw_bias(Q, np.ones((6, 7)), 5), ValueError,
     "shaw_bias: table must be (offsets, 8) or (4, offsets, 8): query (2, 4, 3, 8), table (6, 7)"),
    (lambda: positional.shaw_bias(Q, np.ones((3, 6, 8)), 5), ValueError,
     "shaw_bias: table must be (offsets, 8) or (4, offsets, 8): query (2, 4, 3, 8), "
     "table (3, 6, 8)"),
    (lambda: positional.shaw_bias(Q[0, 0], np.ones((1, 5, 8)), 5), ValueError,
     "shaw_bias: table must be (offsets, 8): query (3, 8), table (1, 5, 8)"),
    (lambda: positional.shaw_bias(Q, np.ones((0, 8)), 5), ValueError,
     "shaw_bias: table needs at least 1 row (axis -2), got (0, 8)"),
    (lambda: positional.shaw_bias(Q, T, 5), ValueError,
     "shaw_bias: table (6, 8) has 6 rows, an even number: give left=, the number of offsets "
     "below 0"),
    (lambda: positional.shaw_bias(Q, T, 5, left=6), ValueError,
     "shaw_bias: left must be less than the rows of table (6, 8), 6, got 6"),
    (lambda: positional.shaw_bias(Q, T, 5, left=-1), ValueError,
     "shaw_bias: left must be at least 0, got -1"),
    (lambda: positional.shaw_bias(Q, T, 5.0, left=1), TypeError,
     "shaw_bias: keys must be an integer, got float"),
    (lambda: positional.shaw_bias(Q, T, 5, left=1, scale=np.nan), ValueError,
     "shaw_bias: scale must be finite, got nan"),
    (lambda: positional.shaw_bias(Q, T, 5, left=1, query_start=0.0), TypeError,
     "shaw_bias: query_start must be an integer, got float"),
    (lambda: positional.shaw_bias(Q.astype("f2"), T, 5), NotImplementedError,
     "shaw_bias: query is float16; half precision is not supported here: "
     "use query.astype(numpy.float32)"),
    (lambda: positional.shaw_values(np.ones(3), T), ValueError,
     "shaw_values: weights needs at least 2 axes (queries, keys), got (3,)"),
    (lambda: positional.shaw_values(np.ones((4, 3, 5)), np.ones(8)), ValueError,
     "shaw_values: table must be (offsets, size) or (4, offsets, size): weights (4, 3, 5), "
     "table (8,)"),
    (lambda: positional.shaw_values(np.ones((3, 5)), np.ones((1, 5, 8))), ValueError,
     "shaw_values: table must be (offsets, size): weights (3, 5), table (1, 5, 8)"),
    (lambda: positional.shaw_values(np.ones((3, 5)), T), ValueError,
     "shaw_values: table (6, 8) has 6 rows, an even number: give left=, the number of offsets "
     "below 0"),
    (lambda: positional.shaw_values(np.ones((3, 5), int), T), TypeError,
     "shaw_values: weights must be float32 or float64, got int64: "
     "use weights.astype(numpy.float32)"),
    (lambda: positional.transformer_xl_bias(Q, np.ones((4, 2, 8)), np.ones(8)), ValueError,
     "transformer_xl_bias: relative_keys needs at least 3 rows (axis -2), got (4, 2, 8)"),
    (lambda: positional.transformer_xl_bias(Q, np.ones((2, 6, 8)), np.ones(8)), ValueError,
     "transformer_xl_bias: relative_keys must be (distances, 8) or (4, distances, 8): "
     "query (2, 4, 3, 8), relative_keys (2, 6, 8)"),
    (lambda: positional.transformer_xl_bias(Q, T, np.ones((3, 8))), ValueError,
     "transformer_xl_bias: v_bias must be (8,) or (4, 8): query (2, 4, 3, 8), v_bias (3, 8)"),
    (lambda: positional.transformer_xl_bias(Q[0, 0], T, np.ones((1, 8))), ValueError,
     "transformer_xl_bias: v_bias must be (8,): query (3, 8), v_bias (1, 8)"),
    (lambda: positional.deberta_buckets([1], 1, 512), ValueError,
     "deberta_buckets: bucket_size must be at least 2, got 1"),
    (lambda: positional.deberta_buckets([1], 256, 129), ValueError,
     "deberta_buckets: max_position must be at least bucket_size // 2 + 2 = 130, got 129"),
    (lambda: positional.deberta_buckets([1.0], 256, 512), TypeError,
     "deberta_buckets: relative_position must be integers, got float64"),
    (lambda: positional.deberta_bias(Q, K), ValueError,
     "deberta_bias: pos_key, pos_query or both are needed"),
    (lambda: positional.deberta_bias(Q, K, T, T.astype("f4")), TypeError,
     "deberta_bias: query, key, pos_key and pos_query must have the same dtype: query float64, "
     "key float64, pos_key float64, pos_query float32"),
    (lambda: positional.deberta_bias(Q, K[..., :7], T), ValueError,
     "deberta_bias: query and key must have the same head size (axis -1): query (2, 4, 3, 8) "
     "has 8, key (2, 2, 5, 7) has 7"),
    (lambda: positional.deberta_bias(Q[:, :3], K, T), ValueError,
     "deberta_bias: 3 query heads cannot be grouped over 2 key/value heads (need H % Hkv == 0): "
     "query (2, 3, 3, 8), key (2, 2, 5, 8)"),
    (lambda: positional.deberta_bias(Q, K, pos_query=np.ones((2, 6, 8))), ValueError,
     "deberta_bias: pos_query must be (rows, 8) or (4, rows, 8): query (2, 4, 3, 8), "
     "pos_query (2, 6, 8)"),
    (lambda: positional.deberta_bias(Q, K, T, np.ones((8, 8))), ValueError,
     "deberta_bias: the number of rows (axis -2), 2 * span, must be even and the same of all: "
     "pos_key (6, 8), pos_query (8, 8)"),
    (lambda: positional.deberta_bias(Q, K, np.ones((5, 8))), ValueError,
     "deberta_bias: the number of rows (axis -2), 2 * span, must be even and the same of all: "
     "pos_key (5, 8)"),
    (lambda: positional.deberta_bias(Q, K, np.ones((0, 8))), ValueError,
     "deberta_bias: the number of rows (axis -2), 2 * span, must be even and the same of all: "
     "pos_key (0, 8)"),
    (lambda: positional.deberta_bias(Q, K, T, bucket_size=4), ValueError,
     "deberta_bias: bucket_size and max_position are needed together, or none"),
    (lambda: positional.deberta_bias(Q, K, T, bucket_size=4, max_position=3), ValueError,
     "deberta_bias: max_position must be at least bucket_size // 2 + 2 = 4, got 3"),
    (lambda: positional.cope_bias(Q, K[:, :, 0, 0], T), ValueError,
     "cope_bias: query and key must have the same head size (axis -1): query (2, 4, 3, 8) has 8, "
     "key (2, 2) has 2"),
    (lambda: positional.cope_bias(Q[0, 0, 0], K, T), ValueError,
     "cope_bias: query needs at least 2 axes (length, size), got (8,)"),
    (lambda: positional.cope_bias(Q, np.ones((3, 2, 5, 8)), T), ValueError,
     "cope_bias: leading axes do not broadcast: query (2, 4, 3, 8), key (3, 2, 5, 8)"),
    (lambda: positional.cope_bias(Q, K, np.ones((2, 6, 8))), ValueError,
     "cope_bias: table must be (positions, 8) or (4, positions, 8): query (2, 4, 3, 8), "
     "table (2, 6, 8)"),
    (lambda: positional.cope_bias(Q, K, np.ones((0, 8))), ValueError,
     "cope_bias: table needs at least 1 row (axis -2), got (0, 8)"),
    (lambda: positional.cope_bias(Q, K, T, scale="1"), TypeError,
     "cope_bias: scale must be a real number, got str"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", CASES, ids=[c[2][:60] for c in CASES])
def test_error(call, kind, message):
    with pytest.raises((TypeError, ValueError, NotImplementedError)) as error:
        call()
    assert str(error.value) == message
    assert error.type is kind
