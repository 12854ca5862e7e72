"""linear_attention: against its twin, against weights that are written down, and by its laws."""

import itertools
import sys

import numpy as np
import pytest
from support import FLOATS, assert_same_bits, python

import pyattn
from pyattn import _core, linear_attention, reference

F = np.float32
DEFAULTS = {"causal": True, "return_state": True}

# name -> options, of (rng, batch, key heads, length, d). A new rule belongs in this table.
RULES = {
    "elu": lambda rng, b, h, n, d: {},
    "relu": lambda rng, b, h, n, d: {"feature_map": "relu"},
    "identity": lambda rng, b, h, n, d: {"feature_map": None},
    "elu, not normalised": lambda rng, b, h, n, d: {"normalize": False, "scale": -0.3},
    "decay": lambda rng, b, h, n, d: {
        "feature_map": "identity",
        "decay": np.log(1 - 2.0 ** -np.arange(3, 3 + h)),
    },
    "decay of tokens": lambda rng, b, h, n, d: {"decay": -rng.exponential(0.2, (b, h, n))},
    "decay of rows": lambda rng, b, h, n, d: {
        "feature_map": None,
        "decay": -rng.exponential(0.2, (b, h, n, d)).astype(F),
    },
    "decay of rows, elu": lambda rng, b, h, n, d: {"decay": -rng.exponential(0.2, (1, h, n, d))},
    "delta": lambda rng, b, h, n, d: {"feature_map": None, "beta": rng.random((b, h, n))},
    "gated delta": lambda rng, b, h, n, d: {
        "feature_map": None,
        "beta": rng.random((b, 1, n)).astype(F),
        "decay": -rng.exponential(0.2, (b, h, n)).astype(F),
    },
    "gated delta of rows": lambda rng, b, h, n, d: {
        "feature_map": None,
        "beta": 0.7,
        "decay": -rng.exponential(0.2, (b, h, n, d)),
    },
}
CHUNKED = [name for name in RULES if "rows" not in name and "delta" not in name]
# batch, heads, key heads, length, d, dv
SHAPES = [
    (1, 1, 1, 1, 1, 1),
    (2, 2, 2, 65, 16, 16),
    (1, 6, 2, 70, 19, 33),
    (2, 3, 1, 63, 70, 5),
    (1, 1, 1, 129, 64, 112),
    (1, 130, 1, 9, 3, 2),
]


def operands(rng, shape, dtype=F):
    """Keys have a length of about 1, as the delta rule wants them."""
    batch, heads, kv_heads, length, d, dv = shape
    q = rng.standard_normal((batch, heads, length, d))
    k = rng.standard_normal((batch, kv_heads, length, d)) / d**0.5
    v = rng.standard_normal((batch, kv_heads, length, dv))
    return [a.astype(dtype) for a in (q, k, v)]


def make(rng, shape, rule, dtype=F):
    batch, _, kv_heads, length, d, _ = shape
    return operands(rng, shape, dtype), RULES[rule](rng, batch, kv_heads, length, d)


def normalized(options):
    return options.get("normalize", options.get("feature_map", "elu") in ("elu", "relu"))


def some_state(rng, shape, options, dtype=F):
    batch, _, kv_heads, _, d, dv = shape
    return rng.random((batch, kv_heads, d, dv + normalized(options))).astype(dtype)


def of_tokens(array, part, axes):
    """A part of the tokens of a decay or beta."""
    if np.ndim(array) < axes - 1:
        return array
    return array[..., part, :] if array.ndim == axes else array[..., part]


def cut(arrays, options, part):
    q, k, v = arrays
    gates = {n: of_tokens(a, part, q.ndim) for n, a in options.items() if n in ("decay", "beta")}
    return [a[..., part, :] for a in (q, k, v)], options | gates


def size_of(arrays, options):
    """What the sums are made of, without their signs: the unit in which they may be off. Rows are
    divided by the same divisors. Delta rules subtract: their sums are bounded by the keys' lengths
    instead."""
    options = {n: a for n, a in options.items() if n != "beta"}
    if abs(options.get("scale", 1)) != options.get("scale", 1):
        options["scale"] = -options["scale"]
    wide = [np.asarray(a, np.float64) for a in arrays]
    if options.get("feature_map", "elu") in ("identity", None):
        wide = [abs(a) for a in wide]
    wide[2] = abs(wide[2])
    if "state" in options:
        options["state"] = abs(options["state"])
    return reference.linear_attention(*wide, **options)


def expected(arrays, options):
    """What the twin has, and the sizes of its sums."""
    return reference.linear_attention(*arrays, **options), size_of(arrays, options)


def assert_close(got, expected, units=30):
    """The largest error, in rounding units of the sums of absolute values."""
    worst = 0
    for one, exact, size in zip(got, *expected, strict=True):
        assert one.shape == exact.shape
        unit = np.finfo(one.dtype).eps / 2
        off = abs(one - exact) / (unit * (size + np.finfo(one.dtype).tiny / unit))
        worst = max(worst, np.max(off, initial=0))
    assert worst <= units
    return worst


# --- What it computes


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_twin(each_isa, rule, shape, rng):
    for dtype in FLOATS:
        arrays, options = make(rng, shape, rule, dtype)
        options |= DEFAULTS | {"state": some_state(rng, shape, options, dtype)}
        want = expected(arrays, options)
        for _ in each_isa():
            for chunk in (1, 7, 64):
                got = linear_attention(*arrays, chunk_size=chunk, **options)
                assert got[0].dtype == got[1].dtype == dtype
                print(chunk, assert_close(got, want))


@pytest.mark.parametrize("feature_map", ["elu", "relu", "identity", None])
@pytest.mark.parametrize("normalize", [None, False, True])
def test_without_order(each_isa, feature_map, normalize, rng):
    """As many queries as anybody likes; a state is that of earlier keys."""
    options = {"feature_map": feature_map, "normalize": normalize}
    if normalize is None:
        del options["normalize"]
    for queries in (1, 70):
        q, k, v = operands(rng, (2, 4, 2, 150, 17, 20))
        q = q[:, :, :queries]
        if normalize:  # or the divisors would cancel
            q, k = abs(q), abs(k)
        whole = {"key_lengths": [150, 20], "return_state": True} | options
        want = expected((q, k, v), whole)
        for _ in each_isa():
            got = linear_attention(q, k, v, **whole)
            assert_close(got, want)
            early = linear_attention(q, k[:, :, :64], v[:, :, :64], return_state=True, **options)
            late = whole | {"key_lengths": [86, 0], "state": early[1]}
            rest = linear_attention(q, k[:, :, 64:], v[:, :, 64:], **late)
            assert_same_bits(rest[0][0], got[0][0])
            assert_same_bits(rest[1][0], got[1][0])


def weights_of(q, k, decay, feature_map):
    """The L x L weights by the formula of the docstring, one batch element and head."""
    maps = {
        "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))) + 1,
        "relu": lambda x: x * (x > 0),
        None: lambda x: x,
    }
    phi = maps[feature_map]
    total = np.cumsum(decay, axis=0)
    weights = np.zeros((len(q), len(k)))
    for t in range(len(q)):
        for j in range(t + 1):
            weights[t, j] = np.sum(phi(q[t]) * phi(k[j]) * np.exp(total[t] - total[j]))
    return weights


@pytest.mark.parametrize("feature_map", ["elu", "relu", None])
@pytest.mark.parametrize("cols", [1, 5])
def test_it_is_attention_with_these_weights(isa, feature_map, cols, rng):
    """Which also shows that the twin is right."""
    q, k, v = (rng.standard_normal((20, n)) for n in (5, 5, 3))
    decay = -rng.exponential(0.3, (20, cols))
    weights = weights_of(q, k, decay, feature_map)
    given = decay if cols > 1 else decay[:, 0]
    options = {"feature_map": feature_map, "causal": True, "decay": given}
    for function in (linear_attention, reference.linear_attention):
        got = function(q, k, v, normalize=False, scale=2.0, **options)
        np.testing.assert_allclose(got, 2 * weights @ v, rtol=1e-11, atol=1e-12)
        got = function(q, abs(k), v, normalize=True, **options)
        positive = weights_of(q, abs(k), decay, feature_map)
        sums = positive.sum(axis=-1, keepdims=True)
        want = positive @ v / np.where(sums == 0, 1, sums)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", ["linear", "gated", "gated rows", "delta", "gated_delta"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_against_the_onnx_operator(isa, rule, dtype, rng):
    onnx = pytest.importorskip("onnx")
    if onnx.defs.onnx_opset_version() < 27:
        pytest.skip("LinearAttention is of opset 27")
    from onnx.reference import ReferenceEvaluator

    batch, heads, kv_heads, length, d, dv = shape = (2, 6, 2, 9, 8, 5)
    q, k, v = operands(rng, shape, dtype)
    state = rng.standard_normal((batch, kv_heads, d, dv)).astype(F)
    gates = {}
    if "gated" in rule:
        cols = d if "rows" in rule else 1
        gates["decay"] = -rng.exponential(0.3, (batch, length, kv_heads, cols)).astype(dtype)
    if "delta" in rule:
        gates["beta"] = rng.random((batch, length, kv_heads, 1)).astype(dtype)

    def packed(a):
        """(batch, heads, length, size) as the operator has it."""
        return a.transpose(0, 2, 1, 3).reshape(batch, length, -1)

    names = [
        "query",
        "key",
        "value",
        "state",
        *(n if n in gates else "" for n in ("decay", "beta")),
    ]
    attributes = {"q_num_heads": heads, "kv_num_heads": kv_heads, "scale": 0.3}
    node = onnx.helper.make_node(
        "LinearAttention", names, ["out", "new_state"], update_rule=rule.split()[0], **attributes
    )
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = [
        onnx.helper.make_tensor_value_info(n, 1 if n == "state" else kind, None) for n in names if n
    ]
    outputs = [
        onnx.helper.make_tensor_value_info("out", kind, None),
        onnx.helper.make_tensor_value_info("new_state", 1, None),
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", inputs, outputs),
        opset_imports=[onnx.helper.make_opsetid("", 27)],
    )
    feed = {"query": packed(q), "key": packed(k), "value": packed(v), "state": state}
    feed |= {n: a.reshape(batch, length, -1) for n, a in gates.items()}
    want, want_state = ReferenceEvaluator(model).run(None, feed)

    own = {n: a.swapaxes(1, 2) for n, a in gates.items()}
    own = {n: a if n == "decay" else a[..., 0] for n, a in own.items()}
    got, new_state = linear_attention(
        q, k, v, feature_map=None, scale=0.3, state=state, **own, **DEFAULTS
    )
    assert got.dtype == dtype and new_state.dtype == F
    close = {"rtol": 2e-5, "atol": 2e-5} if dtype == F else {"rtol": 2e-3, "atol": 2e-3}
    np.testing.assert_allclose(packed(got), want, **close)
    np.testing.assert_allclose(new_state, want_state, rtol=2e-5, atol=2e-5)


def test_error_stays_flat(each_isa, rng):
    """Over 16,384 tokens. Chunks are summed by themselves; steps drift, but like a random walk."""
    shape = (1, 1, 1, 16384, 16, 16)
    arrays, options = make(rng, shape, "elu")
    arrays[2] += 10
    options |= DEFAULTS
    want = expected(arrays, options)
    for _ in each_isa():
        for chunk, units in ((64, 16), (1, 150)):
            got = linear_attention(*arrays, chunk_size=chunk, **options)
            print(chunk, assert_close(got, want, units))


@pytest.mark.parametrize("dtype", FLOATS)
def test_feature_maps(isa, dtype):
    """phi itself: one token, whose state is phi(key). elu is within 2 units everywhere."""
    x = np.concatenate([np.linspace(-120, 20, 3001), [0.0, -0.0, np.inf, -np.inf]]).astype(dtype)

    def phi(feature_map, x):
        one = np.ones((1, 1), dtype)
        options = {"feature_map": feature_map, "normalize": False, "causal": True}
        return linear_attention(x[None], x[None], one, return_state=True, **options)[1][:, 0]

    wide = x.astype(np.longdouble)
    exact = np.where(wide > 0, wide + 1, np.exp(np.minimum(wide, 0)))
    normal = np.isfinite(x) & (exact > np.finfo(dtype).tiny * 2)
    got = phi("elu", x)
    unit = np.finfo(dtype).eps / 2 * (2 if isa != "generic" else 200)
    assert (abs(got[normal] - exact[normal]) <= unit * exact[normal]).all()
    assert (got[~normal & np.isfinite(x)] <= np.finfo(dtype).tiny * 2).all()
    assert got[-2] == np.inf and got[-1] == 0
    assert np.array_equal(phi("relu", x), np.maximum(x, 0))
    assert np.array_equal(phi(None, x), x)
    nan = np.array([np.nan, 1], dtype)
    for feature_map in ("elu", "relu", None):
        assert np.array_equal(np.isnan(phi(feature_map, nan)), [True, False])


def test_extreme_decays(isa, rng):
    """-inf and -1e4 forget whatever is finite; 0 changes no bit; above 0 the state grows."""
    q, k, v = operands(rng, (1, 2, 2, 100, 8, 8))
    options = {"feature_map": None, "causal": True}
    plain = linear_attention(q, k, v, **options)
    assert_same_bits(linear_attention(q, k, v, decay=0.0, **options), plain)
    for chunk in (1, 64):
        for low in (-1e4, -np.inf):
            decay = np.full((1, 2, 100), -0.01)
            decay[..., 70] = low
            got = linear_attention(q, k, v, decay=decay, chunk_size=chunk, **options)
            part = np.s_[..., 70:, :]
            tail = -np.full((1, 2, 30), 0.01)
            want = reference.linear_attention(q[part], k[part], v[part], decay=tail, **options)
            np.testing.assert_allclose(got[part], want, rtol=1e-4, atol=1e-5)
        grown = linear_attention(q, k, v, decay=0.05, chunk_size=chunk, **options)
        want = reference.linear_attention(q, k, v, decay=0.05, **options)
        assert abs(grown - want).max() <= 1e-5 * abs(want).max()


# --- The same bits


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("rule", RULES)
def test_going_on(each_isa, rule, chunk, rng):
    """A call that stops behind whole chunks and goes on has the bits of one call; so do the rest of
    a chunk and a single token."""
    shape = (2, 4, 2, 129, 19, 33)
    arrays, options = make(rng, shape, rule)
    options |= DEFAULTS | {"chunk_size": chunk, "state": some_state(rng, shape, options)}
    stops = [0, 2 * chunk, 128 // chunk * chunk, 129]
    if stops[-1] == stops[-2]:
        stops.pop()
    for _ in each_isa():
        out, last = linear_attention(*arrays, **options)
        state, parts = options["state"], []
        for first, end in itertools.pairwise(stops):
            some, own = cut(arrays, options, slice(first, end))
            part, state = linear_attention(*some, **own | {"state": state})
            parts.append(part)
        assert_same_bits(np.concatenate(parts, axis=-2), out)
        assert_same_bits(state, last)


@pytest.mark.parametrize("heads", [1, 3, 8])
@pytest.mark.parametrize("rule", ["elu", "decay of tokens", "delta"])
def test_threads(each_isa, heads, rule, rng):
    """Heads one by one, or chunks in several waves: 3 heads on 2 threads, 1 on more."""
    shape = (1, heads, heads, 1000 // heads + 1, 33, 40)
    arrays, options = make(rng, shape, rule)
    options |= DEFAULTS | {"chunk_size": 4}
    before = pyattn.get_num_threads()
    try:
        for _ in each_isa():
            calls = [options, options | {"key_lengths": [shape[3] // 2]}]
            if rule == "elu":
                calls.append(options | {"causal": False})
            for call in calls:
                pyattn.set_num_threads(1)
                expected = linear_attention(*arrays, **call)
                for threads in (2, 3, 7):
                    pyattn.set_num_threads(threads)
                    got = linear_attention(*arrays, **call)
                    for a, b in zip(got, expected, strict=True):
                        assert_same_bits(a, b)
    finally:
        pyattn.set_num_threads(before)


def shifted(a, bytes_):
    """The same array at another address."""
    room = np.zeros(a.nbytes + 64, np.uint8)
    to = room[bytes_ : bytes_ + a.nbytes].view(a.dtype).reshape(a.shape)
    to[...] = a
    return to


@pytest.mark.parametrize("rule", RULES)
def test_layouts(each_isa, rule, rng):
    """Strides, addresses, byte order and the other layout change no bit."""
    shape = (2, 4, 2, 70, 19, 33)
    arrays, options = make(rng, shape, rule)
    options |= DEFAULTS | {"state": some_state(rng, shape, options)}
    swapped = {n: options[n] for n in ("decay", "beta") if n in options}
    swapped = {n: a if np.ndim(a) < 3 else a.swapaxes(1, 2) for n, a in swapped.items()}
    for _ in each_isa():
        expected, last = linear_attention(*arrays, **options)
        disguises = [
            [np.asfortranarray(a) for a in arrays],
            [a[..., ::-1].copy()[..., ::-1] for a in arrays],
            [np.repeat(a, 2, axis=-1)[..., ::2] for a in arrays],
            [shifted(a, 3) for a in arrays],
            [a.astype(a.dtype.newbyteorder()) for a in arrays],
        ]
        for some in disguises:
            out, state = linear_attention(*some, **options)
            assert_same_bits(out, expected)
            assert_same_bits(state, last)
        own = options | swapped | {"layout": "blhd"}
        room = np.full((2, 70, 33, 4), np.nan, F).swapaxes(-2, -1)
        out, state = linear_attention(*(a.swapaxes(1, 2) for a in arrays), out=room, **own)
        assert out is room
        assert_same_bits(out.swapaxes(1, 2), expected)
        assert_same_bits(state, last)


@pytest.mark.parametrize("rule", RULES)
def test_a_row_knows_nothing_of_others(each_isa, rule, rng):
    """Of the batch, of other heads, of what comes behind its chunk. And the batch broadcasts."""
    shape = (3, 4, 2, 100, 19, 33)
    arrays, options = make(rng, shape, rule)
    options |= DEFAULTS
    q, k, v = arrays
    for _ in each_isa():
        out, state = linear_attention(*arrays, **options)
        one = {n: a[-1:] if np.ndim(a) > 2 else a for n, a in options.items()}
        got = linear_attention(*(a[-1:] for a in arrays), **one)
        assert_same_bits(got[0], out[-1:])
        assert_same_bits(got[1], state[-1:])
        some, own = cut(arrays, options, slice(0, 70))
        assert_same_bits(linear_attention(*some, **own)[0], out[..., :70, :])
        few = linear_attention(
            q[:, 2:3],
            k[:, 1:],
            v[:, 1:],
            **{
                n: a[1:] if np.ndim(a) == 1 else a[:, -1:] if np.ndim(a) > 2 else a
                for n, a in options.items()
            },
        )
        assert_same_bits(few[0], out[:, 2:3])
        spread = linear_attention(q, k[:1], v[0], **one)
        assert_same_bits(spread[0][:1], linear_attention(q[:1], k[:1], v[:1], **one)[0])


def test_halves(each_isa, rng):
    """Computed as floats, rounded once; queries may be floats over halves; states are floats."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for dtype in (np.float16, bfloat16):
        for rule in ("elu", "decay of rows", "gated delta"):
            arrays, options = make(rng, (2, 4, 2, 66, 17, 20), rule, dtype)
            wide = [a.astype(F) for a in arrays]
            for _ in each_isa():
                out, state = linear_attention(*arrays, **options, **DEFAULTS)
                want, last = linear_attention(*wide, **options, **DEFAULTS)
                assert out.dtype == dtype and state.dtype == F
                assert np.array_equal(out, want.astype(dtype)) and np.array_equal(state, last)
                mixed = linear_attention(wide[0], *arrays[1:], **options, **DEFAULTS)
                assert_same_bits(mixed[0], want)


# --- Padding, NaN, nothing


@pytest.mark.parametrize("rule", RULES)
def test_padding_is_never_read(each_isa, rule, rng):
    shape = (3, 2, 2, 130, 16, 20)
    arrays, options = make(rng, shape, rule)
    lengths = [130, 65, 0]
    options |= DEFAULTS | {"key_lengths": lengths}
    poison = [a.copy() for a in arrays]
    gates = {n: np.array(a) for n, a in options.items() if n in ("decay", "beta")}
    for b, length in enumerate(lengths):
        for a in poison[1:]:
            a[b, :, length:] = np.nan
        for name, a in gates.items():
            if a.ndim > 2 and len(a) == 3 and a.shape[2] > 1:
                gates[name][b, :, length:] = np.nan
    for _ in each_isa():
        out, state = linear_attention(*arrays, **options)
        got = linear_attention(*poison, **options | gates)
        assert_same_bits(got[0], out)
        assert_same_bits(got[1], state)
        for b, length in enumerate(lengths):
            assert not out[b, :, length:].any()
            one = {
                n: a[b : b + 1] if np.ndim(a) > 2 and len(a) == 3 else a
                for n, a in options.items()
                if n != "key_lengths"
            }
            some, own = cut([a[b : b + 1] for a in arrays], one, slice(0, length))
            alone = linear_attention(*some, **own)
            assert_same_bits(alone[0], out[b : b + 1, :, :length])
            assert_same_bits(alone[1], state[b : b + 1])


@pytest.mark.parametrize("chunk", [1, 64])
@pytest.mark.parametrize("rule", RULES)
def test_nan_is_seen_from_its_token_on(each_isa, rule, chunk, rng):
    """Not by a bit before it; and then in its channel, of a value, or in all, of a key."""
    shape = (1, 2, 1, 90, 16, 20)
    arrays, options = make(rng, shape, rule)
    options |= {"causal": True, "chunk_size": chunk}
    for _ in each_isa():
        clean = linear_attention(*arrays, **options)
        for bad in (np.nan, np.inf):
            q, k, v = (a.copy() for a in arrays)
            v[0, 0, 40, 3] = bad
            got = linear_attention(q, k, v, **options)
            others = np.arange(20) != 3
            assert_same_bits(got[..., :40, :], clean[..., :40, :])
            assert_same_bits(got[..., others], clean[..., others])
            if np.isnan(bad):
                assert np.isnan(got[..., 40:, 3]).all()
            elif rule != "relu":  # which may not ask for it
                assert not np.isfinite(got[..., 40:, 3]).any()
        k[0, 0, 40, 5] = np.nan
        got = linear_attention(q, k, arrays[2], **options)
        assert_same_bits(got[..., :40, :], clean[..., :40, :])
        assert np.isnan(got[..., 40:, :]).all()
        q[0, 1, 7, 2] = np.nan
        got = linear_attention(q, *arrays[1:], **options)
        assert np.isnan(got[0, 1, 7]).all()
        got[0, 1, 7] = clean[0, 1, 7]
        assert_same_bits(got, clean)


@pytest.mark.parametrize("cols", [(), (16,)])
def test_nan_in_a_gate(isa, cols, rng):
    arrays = operands(rng, (1, 1, 1, 90, 16, 20))
    decay = -rng.exponential(0.1, (1, 1, 90, *cols))
    options = {"feature_map": None, "causal": True}
    clean = linear_attention(*arrays, decay=decay, **options)
    decay[0, 0, 40] = np.nan
    got = linear_attention(*arrays, decay=decay, **options)
    assert_same_bits(got[..., :40, :], clean[..., :40, :])
    assert np.isnan(got[..., 40:, :]).all()


def test_a_divisor_of_nothing(isa, rng):
    """relu may leave nothing of a key or a query: rows of 0, no warning, no NaN."""
    q, k, v = operands(rng, (1, 1, 1, 70, 8, 8))
    k = -abs(k)
    k[..., 50, :] = 1
    for chunk in (1, 64):
        out = linear_attention(q, k, v, feature_map="relu", causal=True, chunk_size=chunk)
        assert not out[..., :50, :].any()
        some = (q > 0).any(axis=-1)[0, 0, 50:]
        want = np.where(some[:, None], v[0, 0, 50], 0)
        np.testing.assert_allclose(out[0, 0, 50:], want, rtol=1e-6)
    assert not linear_attention(q, -abs(k), v, feature_map="relu").any()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("axis", ["batch", "heads", "all heads", "length", "d", "dv"])
def test_empty(axis, causal, normalize, rng):
    shape = {"batch": 2, "heads": 4, "all heads": 2, "length": 5, "d": 3, "dv": 6}
    shape["heads" if axis == "all heads" else axis] = 0
    if axis == "all heads":
        shape["all heads"] = 0
    arrays = operands(rng, tuple(shape.values()), np.float64)
    options = {"causal": causal, "normalize": normalize, "return_state": True}
    state = rng.random((shape["batch"], shape["all heads"], shape["d"], shape["dv"] + normalize))
    for more in ({}, {"state": state}):
        got = linear_attention(*arrays, **options, **more)
        if shape["heads"] or not shape["all heads"]:
            want = reference.linear_attention(*arrays, **options, **more)
            np.testing.assert_allclose(got[0], want[0], atol=1e-12)
        else:
            want = reference.linear_attention(arrays[1], *arrays[1:], **options, **more)
            assert got[0].shape == (2, 0, 5, 6)
        np.testing.assert_allclose(got[1], want[1], atol=1e-12)


def test_no_key_but_a_state(rng):
    q, k, v = operands(rng, (2, 4, 2, 0, 3, 6), np.float64)
    q = rng.standard_normal((2, 4, 5, 3))
    state = rng.random((2, 2, 3, 7))
    got = linear_attention(q, k, v, state=state, return_state=True)
    want = reference.linear_attention(q, k, v, state=state)
    np.testing.assert_allclose(got[0], want, rtol=1e-12)
    assert_same_bits(got[1], state)


def test_axes_of_the_arguments(rng):
    """2 and 3 axes, out=, decays of every shape, states that broadcast."""
    q, k, v = (rng.standard_normal((9, n)) for n in (4, 4, 3))
    decay = -rng.random((9, 4))
    out, state = linear_attention(q, k, v, decay=decay, **DEFAULTS)
    wide = linear_attention(q[None], k[None], v[None], decay=decay[None], **DEFAULTS)
    assert out.shape == (9, 3) and state.shape == (4, 4)
    assert_same_bits(out, wide[0][0])
    assert_same_bits(state, wide[1][0])
    again = linear_attention(q, k, v, state=state, causal=True)
    assert_same_bits(
        again, linear_attention(q[None], k[None], v[None], state=wide[1], causal=True)[0]
    )
    x = rng.standard_normal((2, 3, 9, 4))
    heads = -rng.random(3)
    want = linear_attention(x, x, x, causal=True, decay=heads)
    for same in (np.broadcast_to(heads[:, None], (2, 3, 9)), heads.reshape(1, 3, 1, 1)):
        assert_same_bits(linear_attention(x, x, x, causal=True, decay=same), want)
    blhd = x.swapaxes(1, 2)
    got = linear_attention(blhd, blhd, blhd, causal=True, decay=heads, layout="blhd")
    assert_same_bits(got.swapaxes(1, 2), want)
    one = linear_attention(x, x, x, causal=True, decay=-0.5)
    assert_same_bits(linear_attention(x, x, x, causal=True, decay=np.full(3, -0.5)), one)
    states = rng.random((3, 4, 5))
    got = linear_attention(x, x, x, causal=True, state=states)
    assert_same_bits(got, linear_attention(x, x, x, causal=True, state=np.stack([states, states])))
    y = x.copy()
    assert linear_attention(y, y, y, causal=True, out=y) is y
    assert_same_bits(y, linear_attention(x, x, x, causal=True))


PEAK = """
import numpy as np, pyattn

def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024

def call(length):
    x = np.ones((1, 1, length, 64), np.float32)
    out = np.ones_like(x)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak starts again from what is in use now
    before = peak()
    pyattn.linear_attention(x, x, x, causal=True, out=out)
    return peak() - before

call(4096)  # starts the threads
print(call(65536))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_scratch_does_not_grow_with_length():
    """Of a single head in waves of chunks: 128 states of 17 KB. All of its states: 17 MB."""
    assert int(python(PEAK, PYATTN_NUM_THREADS="2")) < 4e6


WAVES = """
import numpy as np, pyattn
x = np.full((1, 1, 512, 1024), 0.01, np.float32)  # states of 4 MB
pyattn.linear_attention(x, x, x, causal=True)
def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")
before = peak()
pyattn.linear_attention(x, x, x, causal=True)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_waves_take_little_memory():
    """However large a state is: of 8 chunks alone they would take 36 MB."""
    assert int(python(WAVES, PYATTN_NUM_THREADS="2")) < 40e6


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_fork_in_a_signal_handler_during_a_call():
    """The child goes on with the call, without the threads that had part of it."""
    code = """
import os, signal, numpy as np, pyattn
x = np.random.default_rng(0).standard_normal((1, 1, 20000, 64), dtype=np.float32)
pyattn.set_isa("generic")
pyattn.set_num_threads(2)
call = lambda: pyattn.linear_attention(x, x, x, causal=True)
expected, child, inside = call(), None, False
def handler(*_):
    global child
    if inside and child is None:
        child = os.fork()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
while child is None:
    inside = True
    out = call()
    inside = False
right = np.array_equal(out, expected)
if child == 0:
    os._exit(0 if right else 1)
signal.setitimer(signal.ITIMER_REAL, 0)
assert right
assert os.waitpid(child, 0)[1] == 0
"""
    python(code)


def test_bits_do_not_depend_on_how_gates_repeat(isa, rng):
    """A view of one decay for all rows has the bits of its copy: shapes decide, not strides."""
    q, k, v = operands(rng, (1, 2, 2, 100, 8, 8))
    options = {"feature_map": None, "causal": True}
    decay = np.broadcast_to(-rng.exponential(0.2, (1, 2, 100, 1)).astype(F), k.shape)
    expected = linear_attention(q, k, v, decay=decay.copy(), **options)
    assert_same_bits(linear_attention(q, k, v, decay=decay, **options), expected)
    one = linear_attention(q, k, v, decay=decay[..., 0], **options)
    assert_same_bits(linear_attention(q, k, v, decay=decay[..., :1], **options), one)
    np.testing.assert_allclose(one, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_out_lies_over_other_operands(rng):
    """State, decay and beta are read before the result is written there."""
    q, k, v = operands(rng, (1, 1, 1, 8, 8, 8))
    room = rng.random((1, 1, 8, 8)).astype(F)
    options = {"feature_map": None, "causal": True}
    for own in (
        {"state": room},
        {"decay": -room},
        {"beta": room[..., 0]},
    ):
        name, array = own.popitem()
        expected = linear_attention(q, k, v, **{name: array.copy()}, **options)
        out = array if array.shape == expected.shape else room
        assert_same_bits(linear_attention(q, k, v, **{name: array}, out=out, **options), expected)


def test_divisors_that_are_too_small(isa):
    """Their reciprocal is infinite, and so is the result; larger ones divide."""
    one = np.ones((1, 1, 1, 1), F)
    for chunk in (1, 64):
        for size, expected in ((2e-39, np.inf), (3e-39, 1)):
            key = one * F(size)
            options = {"feature_map": "relu", "causal": True, "chunk_size": chunk}
            got = linear_attention(one, key, one, **options)
            np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_door_looks_at_the_rank_of_gates():
    x = np.ones((1, 3, 4), F)
    decay = np.array(0.5, F)
    with pytest.raises(SystemError, match="a bug in pyattn"):
        _core.linear_attention(
            x, x, x, x.copy(), None, None, decay, None, None, 0, True, False, 1.0, 64
        )


# --- Errors

X = np.ones((2, 4, 6, 8), F)
K = np.ones((2, 2, 6, 8), F)
REFUSED = [
    (
        {"feature_map": "softmax"},
        ValueError,
        "linear_attention: feature_map must be 'elu', 'relu', 'identity' or None, got 'softmax': "
        "apply another map to query and key beforehand",
    ),
    (
        {"chunk_size": 65},
        ValueError,
        "linear_attention: chunk_size must be within [1, 64], got 65",
    ),
    (
        {"chunk_size": np.True_},
        TypeError,
        "linear_attention: chunk_size must be a whole number, got bool",
    ),
    (
        {"state": np.ones((8, 9))},
        ValueError,
        "linear_attention: state must have shape (2, 2, 8, 9) [..., key heads, D, Dv + 1: the last "
        "column sums the keys], got (8, 9)",
    ),
    ({"chunk_size": 0}, ValueError, "linear_attention: chunk_size must be within [1, 64], got 0"),
    (
        {"chunk_size": 2.0},
        TypeError,
        "linear_attention: chunk_size must be a whole number, got float",
    ),
    ({"causal": 1}, TypeError, "linear_attention: causal must be True or False, got int"),
    (
        {"decay": -1.0},
        ValueError,
        "linear_attention: decay= needs causal=True: without an order of the tokens nothing comes "
        "before another",
    ),
    (
        {"causal": True, "beta": 0.5},
        ValueError,
        "linear_attention: beta= (the delta rule) needs feature_map='identity', got 'elu'",
    ),
    (
        {"causal": True, "beta": 0.5, "feature_map": None, "normalize": True},
        ValueError,
        "linear_attention: beta= (the delta rule) is never normalised: normalize=False",
    ),
    (
        {"causal": True, "decay": np.ones(3)},
        ValueError,
        "linear_attention: decay must be a number, one per key head, or of the shape of key "
        "without its last axis, or with it: decay (3,), key (2, 2, 6, 8)",
    ),
    (
        {"causal": True, "feature_map": None, "beta": np.ones((2, 2, 6, 8))},
        ValueError,
        "linear_attention: beta must be a number, one per key head, or of the shape of key without "
        "its last axis: beta (2, 2, 6, 8), key (2, 2, 6, 8)",
    ),
    (
        {"causal": True, "decay": np.ones((2, 6))},
        ValueError,
        "linear_attention: decay must be a number, one per key head, or of the shape of key "
        "without its last axis, or with it: decay (2, 6), key (2, 2, 6, 8)",
    ),
    (
        {"causal": True, "decay": np.array(-1)},
        TypeError,
        "linear_attention: decay must be float16, bfloat16, float32 or float64, got int64: use "
        "decay.astype(numpy.float32)",
    ),
    (
        {"state": np.ones((2, 2, 8, 8))},
        ValueError,
        "linear_attention: state must have shape (2, 2, 8, 9) [..., key heads, D, Dv + 1: the last "
        "column sums the keys], got (2, 2, 8, 8)",
    ),
    (
        {"state": np.ones((3, 2, 8, 8)), "feature_map": None},
        ValueError,
        "linear_attention: state must have shape (2, 2, 8, 8) [..., key heads, D, Dv], got "
        "(3, 2, 8, 8)",
    ),
    (
        {"key_lengths": [1, 7]},
        ValueError,
        "linear_attention: key_lengths[1] = 7 is outside [0, 6]",
    ),
    ({"scale": np.inf}, ValueError, "linear_attention: scale must be finite, got inf"),
    (
        {"out": np.ones((2, 4, 6, 9), F)},
        ValueError,
        "linear_attention: out must have shape (2, 4, 6, 8), got (2, 4, 6, 9)",
    ),
    (
        {"layout": "bhdl"},
        ValueError,
        "linear_attention: layout must be 'bhld' (..., heads, length, size) or 'blhd' "
        "(..., length, heads, size), got 'bhdl'",
    ),
]


@pytest.mark.parametrize("options, kind, message", REFUSED, ids=[str(r[0])[:40] for r in REFUSED])
def test_errors(options, kind, message):
    out = options.get("out")
    before = None if out is None else out.copy()
    with pytest.raises(kind) as caught:
        linear_attention(X, K, K, **options)
    assert str(caught.value) == message
    if out is not None:
        assert_same_bits(out, before)


def test_errors_of_arrays():
    with pytest.raises(ValueError) as caught:
        linear_attention(X[:, :, :5], K, K, causal=True)
    assert str(caught.value) == (
        "linear_attention: with causal=True query and key must have the same length, got 5 queries "
        "and 6 keys: hand earlier keys over as state="
    )
    with pytest.raises(ValueError, match="3 query heads cannot be grouped over 2"):
        linear_attention(X[:, :3], K, K)
    with pytest.raises(TypeError, match="must have the same dtype"):
        linear_attention(X, K.astype(float), K)
    with pytest.raises(TypeError, match="linear_attention: query must be float16"):
        linear_attention(X.astype(int), K, K)
    with pytest.raises(TypeError, match="state must not be a masked array"):
        linear_attention(X, K, K, state=np.ma.ones((2, 2, 8, 9)))
