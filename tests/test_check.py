"""Wrong arguments: the right exception, its text word for word, and an `out` left alone."""

import operator

import numpy as np
import pytest
from support import python

import pyattn
from pyattn import biases, masks

F = np.float32


def z(*shape, dtype=F):
    return np.zeros(shape, dtype)


X = z(1, 2, 4, 8)  # a query, key and value that fit together

FLOATS = "must be float16, bfloat16, float32 or float64, got "
NOT_FLOAT = FLOATS + "{0}: use {1}.astype(numpy.float32)"
MIXED = "must have the same dtype, or query float32 and the others one of float16 and bfloat16: "

Y = z(1, 2, 6, 8)  # a key and value of another length, for scores of (1, 2, 4, 6)

NO_FIT = "does not broadcast to the scores (1, 2, 4, 6) [batch, heads, queries, keys]"
PAIR = "window must be a pair (left, right), None on a side for no limit, got "
CAP = "softcap must be positive and within [1.2e-38, 1.7e+38] for float32, got "
SINKS = "sinks must be finite, at most 1.7e+38 for float32, or -inf (no sink), got "


def parts(count, one, join):
    """`count` masks or biases, all of them different objects, combined."""
    total = one()
    for _ in range(count - 1):
        total = join(total, one())
    return total


# What is said, of attention(query, key, value, **options), after "attention: ".
CASES = [
    # kinds and dtypes
    ([z(2, 3, dtype=int), X, X], {}, TypeError, "query " + NOT_FLOAT.format("int64", "query")),
    ([X, z(2, 3, dtype=complex), X], {}, TypeError, "key " + NOT_FLOAT.format("complex128", "key")),
    ([X, X, z(2, 3, dtype=bool)], {}, TypeError, "value " + NOT_FLOAT.format("bool", "value")),
    ([X, None, X], {}, TypeError, "key " + NOT_FLOAT.format("object", "key")),
    (["text", X, X], {}, TypeError, "query " + NOT_FLOAT.format("<U4", "query")),
    (
        [z(2, 3, dtype=np.longdouble), X, X],
        {},
        TypeError,
        "query " + NOT_FLOAT.format(np.dtype(np.longdouble), "query"),
    ),
    (
        [X.astype("f8"), X, X],
        {},
        TypeError,
        "query, key and value " + MIXED + "query float64, key float32, value float32",
    ),
    (
        [X, X, X.astype(">f8")],
        {},
        TypeError,
        "query, key and value " + MIXED + "query float32, key float32, value float64",
    ),
    (
        [X, np.ma.masked_array(X), X],
        {},
        TypeError,
        "key is a masked array; its mask would be ignored. Fill it (x.filled(0)) and hide keys "
        "with key_lengths",
    ),
    (
        [X.astype("f2"), X, X],
        {},
        TypeError,
        "query, key and value " + MIXED + "query float16, key float32, value float32",
    ),
    (
        [X, X.astype(">f2"), X],
        {},
        TypeError,
        "query, key and value " + MIXED + "query float32, key float16, value float32",
    ),
    # shapes
    (
        [z(4), X, X],
        {},
        ValueError,
        "query needs at least 2 axes (length, size), got (4,)",
    ),
    (
        [X, X, 1.0],
        {},
        TypeError,
        "query, key and value " + MIXED + "query float32, key float32, value float64",
    ),
    ([X, X, F(1)], {}, ValueError, "value needs at least 2 axes (length, size), got ()"),
    (
        [z(1, 2, 4, 8), z(1, 2, 6, 7), z(1, 2, 6, 8)],
        {},
        ValueError,
        "query and key must have the same head size (axis -1): query (1, 2, 4, 8) has 8, "
        "key (1, 2, 6, 7) has 7",
    ),
    (
        [z(1, 2, 4, 8), z(1, 2, 6, 8), z(1, 2, 7, 8)],
        {},
        ValueError,
        "key and value must have the same length (axis -2): key (1, 2, 6, 8) has 6, "
        "value (1, 2, 7, 8) has 7",
    ),
    (
        [z(1, 4, 2, 8), z(1, 6, 2, 8), z(1, 7, 2, 8)],
        {"layout": "blhd"},
        ValueError,
        "key and value must have the same length (axis -3): key (1, 6, 2, 8) has 6, "
        "value (1, 7, 2, 8) has 7",
    ),
    (
        [z(1, 2, 4, 8), z(1, 2, 6, 8), z(1, 1, 6, 8)],
        {},
        ValueError,
        "key and value must have the same number of heads (axis -3): key (1, 2, 6, 8) has 2, "
        "value (1, 1, 6, 8) has 1",
    ),
    (
        [z(1, 4, 2, 8), z(1, 6, 2, 8), z(1, 6, 1, 8)],
        {"layout": "blhd"},
        ValueError,
        "key and value must have the same number of heads (axis -2): key (1, 6, 2, 8) has 2, "
        "value (1, 6, 1, 8) has 1",
    ),
    (
        [z(4, 8), z(6, 8), z(2, 6, 8)],
        {},
        ValueError,
        "key and value must have the same number of heads (axis -3): key (6, 8) has 1, "
        "value (2, 6, 8) has 2",
    ),
    (
        [z(1, 3, 4, 8), z(1, 2, 6, 8), z(1, 2, 6, 8)],
        {},
        ValueError,
        "3 query heads cannot be grouped over 2 key/value heads (need H % Hkv == 0): "
        "query (1, 3, 4, 8), key (1, 2, 6, 8)",
    ),
    (
        [z(1, 3, 4, 8), z(1, 0, 6, 8), z(1, 0, 6, 8)],
        {},
        ValueError,
        "3 query heads cannot be grouped over 0 key/value heads (need H % Hkv == 0): "
        "query (1, 3, 4, 8), key (1, 0, 6, 8)",
    ),
    (
        [z(2, 2, 4, 8), z(3, 2, 6, 8), z(3, 2, 6, 8)],
        {},
        ValueError,
        "leading axes do not broadcast: query (2, 2, 4, 8), key (3, 2, 6, 8), value (3, 2, 6, 8)",
    ),
    # options
    (
        [X, X, X],
        {"layout": "bhdl"},
        ValueError,
        "layout must be 'bhld' (..., heads, length, size) or 'blhd' (..., length, heads, size), "
        "got 'bhdl'",
    ),
    (
        [X, X, X],
        {"layout": None},
        ValueError,
        "layout must be 'bhld' (..., heads, length, size) or 'blhd' (..., length, heads, size), "
        "got None",
    ),
    ([X, X, X], {"causal": 1}, TypeError, "causal must be True or False, got int"),
    ([X, X, X], {"causal": None}, TypeError, "causal must be True or False, got NoneType"),
    ([X, X, X], {"return_lse": "no"}, TypeError, "return_lse must be True or False, got str"),
    ([X, X, X], {"scale": "1"}, TypeError, "scale must be a real number, got str"),
    ([X, X, X], {"scale": 1j}, TypeError, "scale must be a real number, got complex"),
    ([X, X, X], {"scale": True}, TypeError, "scale must be a real number, got bool"),
    ([X, X, X], {"scale": z(2)}, TypeError, "scale must be a real number, got ndarray"),
    ([X, X, X], {"scale": np.nan}, ValueError, "scale must be finite, got nan"),
    ([X, X, X], {"scale": -np.inf}, ValueError, "scale must be finite, got -inf"),
    ([X, X, X], {"scale": 1e39}, ValueError, "scale 1e+39 is too large for float32"),
    ([X, X, X], {"scale": 10**400}, ValueError, "scale is too large for a float"),
    (
        [X, X, X],
        {"causal": True, "query_start": 0.0},
        TypeError,
        "query_start must be integers, got float64",
    ),
    (
        [X, X, X],
        {"query_start": "0"},
        TypeError,
        "query_start must be integers, got <U1",
    ),
    (
        [X, X, X],
        {"query_start": [1, 2]},
        ValueError,
        "query_start (2,) does not broadcast to the batch (1,)",
    ),
    (
        [X, X, X],
        {"query_start": 2**63 - 1},
        ValueError,
        f"query_start[0] = {2**63 - 1} is outside [{-(2**61)}, {(2**63 - 1) // 4}]",
    ),
    ([X, X, X], {"query_start": 2**64}, TypeError, "query_start must be integers, got object"),
    ([X, X, X], {"key_lengths": True}, TypeError, "key_lengths must be integers, got bool"),
    (
        [X, X, X],
        {"key_lengths": np.ma.masked_array([1])},
        TypeError,
        "key_lengths must not be a masked array",
    ),
    ([X, X, X], {"key_lengths": 5}, ValueError, "key_lengths[0] = 5 is outside [0, 4]"),
    ([X[0], X[0], X[0]], {"key_lengths": 5}, ValueError, "key_lengths = 5 is outside [0, 4]"),
    (
        [z(3, 2, 4, 8)] * 3,
        {"key_lengths": [4, 0, -1]},
        ValueError,
        "key_lengths[2] = -1 is outside [0, 4]",
    ),
    (
        [z(2, 3, 2, 4, 8)] * 3,
        {"key_lengths": np.array([[0, 1, 2], [3, 4, 2**64 - 1]], np.uint64)},
        ValueError,
        f"key_lengths[1, 2] = {2**64 - 1} is outside [0, 4]",
    ),
    (
        [X, X, X],
        {"key_lengths": [[1], [2]]},
        ValueError,
        "key_lengths (2, 1) does not broadcast to the batch (1,)",
    ),
    # masks
    ([X, Y, Y], {"mask": z(4, 5, dtype=bool)}, ValueError, f"mask (4, 5) {NO_FIT}"),
    ([X, Y, Y], {"mask": z(3, 1, 1, 6, dtype=bool)}, ValueError, f"mask (3, 1, 1, 6) {NO_FIT}"),
    (
        [X, Y, Y],
        {"mask": z(1, 1, 1, 4, 6, dtype=bool)},
        ValueError,
        f"mask (1, 1, 1, 4, 6) {NO_FIT}",
    ),
    ([X, Y, Y], {"mask": masks.documents([0, 4])}, ValueError, f"mask (4, 4) {NO_FIT}"),
    (
        [X, Y, Y],
        {"mask": masks.segments(z(2, 4, dtype=int), z(2, 6, dtype=int))},
        ValueError,
        f"mask (2, 1, 4, 6) {NO_FIT}",
    ),
    (
        [X[0, 0], Y[0, 0], Y[0, 0]],
        {"mask": z(2, 4, 6, dtype=bool)},
        ValueError,
        "mask (2, 4, 6) does not broadcast to the scores (1, 4, 6) [..., heads, queries, keys]",
    ),
    (
        [z(1, 4, 2, 8), z(1, 6, 2, 8), z(1, 6, 2, 8)],
        {"layout": "blhd", "mask": z(1, 4, 2, 6, dtype=bool)},
        ValueError,
        f"mask (1, 4, 2, 6) {NO_FIT}",
    ),
    (
        [X, Y, Y],
        {"mask": z(4, 6, dtype=int)},
        TypeError,
        "mask must be boolean (True = may attend), got int64: use mask.astype(bool)",
    ),
    (
        [X, Y, Y],
        {"mask": [[1, 0, 0, 0, 0, 1]]},
        TypeError,
        "mask must be boolean (True = may attend), got int64: use mask.astype(bool)",
    ),
    (
        [X, Y, Y],
        {"mask": z(4, 6)},
        TypeError,
        "mask must be boolean (True = may attend), got float32: use bias=",
    ),
    (
        [X, Y, Y],
        {"mask": np.ma.masked_array(z(4, 6, dtype=bool))},
        TypeError,
        "mask is a masked array; its mask would be ignored: use mask.filled(False)",
    ),
    (
        [X, Y, Y],
        {"mask": biases.alibi([1.0, 1.0])},
        TypeError,
        "mask is a structured bias: use bias=",
    ),
    # biases
    ([X, Y, Y], {"bias": z(4, 5)}, ValueError, f"bias (4, 5) {NO_FIT}"),
    ([X, Y, Y], {"bias": z(2, 1, 4, 6)}, ValueError, f"bias (2, 1, 4, 6) {NO_FIT}"),
    ([X, Y, Y], {"bias": biases.alibi(z(3))}, ValueError, f"bias (3, None, None) {NO_FIT}"),
    ([X, Y, Y], {"bias": biases.relative(z(9), 5, 5)}, ValueError, f"bias (5, 5) {NO_FIT}"),
    (
        [X, Y, Y],
        {"bias": biases.alibi([1.0, 1.0], 1, 6)},
        ValueError,
        f"bias (2, 1, 6) {NO_FIT}",
    ),
    (
        [X, Y, Y],
        {"bias": z(4, 6, dtype=bool)},
        TypeError,
        "bias must be float16, bfloat16, float32 or float64, got bool: use mask=",
    ),
    (
        [X, Y, Y],
        {"bias": 1},
        TypeError,
        "bias must be float16, bfloat16, float32 or float64, got int64: "
        "use bias.astype(numpy.float32)",
    ),
    (
        [X, Y, Y],
        {"bias": z(4, 6, dtype=complex)},
        TypeError,
        "bias must be float16, bfloat16, float32 or float64, got complex128: "
        "use bias.astype(numpy.float32)",
    ),
    (
        [X, Y, Y],
        {"bias": np.ma.masked_array(z(4, 6))},
        TypeError,
        "bias is a masked array; its mask would be ignored: use bias.filled(-numpy.inf)",
    ),
    (
        [X, Y, Y],
        {"bias": masks.prefix_lm(1, 4, 6)},
        TypeError,
        "bias is a structured mask: use mask=",
    ),
    (
        [X, X, X],
        {
            "mask": parts(16, lambda: masks.dilated(4, window=(1, 0), dilation=2), operator.and_),
            "bias": parts(8, lambda: biases.dense(z(4)), operator.add),
        },
        ValueError,
        "mask and bias have 40 parts together, at most 32 are possible: "
        "make some of them dense with numpy.asarray",
    ),
    # windows
    ([X, Y, Y], {"window": 3}, TypeError, PAIR + "3"),
    ([X, Y, Y], {"window": (1,)}, TypeError, PAIR + "(1,)"),
    ([X, Y, Y], {"window": (1, 2, 3)}, TypeError, PAIR + "(1, 2, 3)"),
    ([X, Y, Y], {"window": "ab"}, TypeError, PAIR + "'ab'"),
    ([X, Y, Y], {"window": np.array([1, 2])}, TypeError, PAIR + "array([1, 2])"),
    (
        [X, Y, Y],
        {"window": (1.0, 2)},
        TypeError,
        "window's left side must be a whole number or None, got float",
    ),
    (
        [X, Y, Y],
        {"window": (None, True)},
        TypeError,
        "window's right side must be a whole number or None, got bool",
    ),
    (
        [X, Y, Y],
        {"window": (-1, 2)},
        ValueError,
        "window's left side must be at least 0, got -1: use None for no limit",
    ),
    (
        [X, Y, Y],
        {"window": (None, -(2**70))},
        ValueError,
        f"window's right side must be at least 0, got {-(2**70)}: use None for no limit",
    ),
    # softcap and sinks
    ([X, Y, Y], {"softcap": 0}, ValueError, CAP + "0.0"),
    ([X, Y, Y], {"softcap": -1.5}, ValueError, CAP + "-1.5"),
    ([X, Y, Y], {"softcap": np.nan}, ValueError, CAP + "nan"),
    ([X, Y, Y], {"softcap": np.inf}, ValueError, CAP + "inf"),
    ([X, Y, Y], {"softcap": 1e39}, ValueError, CAP + "1e+39"),
    ([X, Y, Y], {"softcap": 1e-40}, ValueError, CAP + "1e-40"),
    ([X, Y, Y], {"softcap": 10**400}, ValueError, "softcap is too large for a float"),
    ([X, Y, Y], {"softcap": True}, TypeError, "softcap must be a real number, got bool"),
    ([X, Y, Y], {"softcap": "1"}, TypeError, "softcap must be a real number, got str"),
    ([X, Y, Y], {"softcap": z(1)}, TypeError, "softcap must be a real number, got ndarray"),
    (
        [X, Y, Y],
        {"sinks": z(3)},
        ValueError,
        "sinks must have shape (2,), one per head: (3,)",
    ),
    ([X, Y, Y], {"sinks": 1.0}, ValueError, "sinks must have shape (2,), one per head: ()"),
    ([X, Y, Y], {"sinks": z(1, 2)}, ValueError, "sinks must have shape (2,), one per head: (1, 2)"),
    ([X, Y, Y], {"sinks": [1, 2]}, TypeError, "sinks must be floats, got int64"),
    ([X, Y, Y], {"sinks": z(2, dtype=bool)}, TypeError, "sinks must be floats, got bool"),
    ([X, Y, Y], {"sinks": [0, np.nan]}, ValueError, SINKS + "nan"),
    ([X, Y, Y], {"sinks": [np.inf, 0]}, ValueError, SINKS + "inf"),
    ([X, Y, Y], {"sinks": [0, 1e39]}, ValueError, SINKS + "1e+39"),
    (
        [X, Y, Y],
        {"sinks": np.ma.masked_array([1.0, 2.0])},
        TypeError,
        "sinks must not be a masked array",
    ),
    # out
    ([X, X, X], {"out": [1]}, TypeError, "out must be a NumPy array, got list"),
    (
        [X, X, X],
        {"out": z(1, 2, 4, 7)},
        ValueError,
        "out must have shape (1, 2, 4, 8), got (1, 2, 4, 7)",
    ),
    (
        [z(1, 4, 2, 8)] * 3,
        {"layout": "blhd", "out": z(1, 2, 4, 8)},
        ValueError,
        "out must have shape (1, 4, 2, 8), got (1, 2, 4, 8)",
    ),
    (
        [X, X, X],
        {"out": z(1, 2, 4, 8, dtype=np.float64)},
        ValueError,
        "out must have dtype float32, got float64",
    ),
    (
        [X, X, X],
        {"out": z(1, 2, 4, 8, dtype=">f4")},
        ValueError,
        "out must have dtype float32, got >f4",
    ),
    (
        [X, X, X],
        {"out": np.broadcast_to(F(0), (1, 2, 4, 8))},
        ValueError,
        "out is read-only",
    ),
    (
        [X, X, X],
        {"out": np.lib.stride_tricks.as_strided(z(40), (1, 2, 4, 8), (0, 32, 8, 4))},
        ValueError,
        "out overlaps itself: shape (1, 2, 4, 8), strides (0, 32, 8, 4)",
    ),
]


@pytest.mark.parametrize(
    "arrays, options, kind, text", CASES, ids=[f"{i}: {c[3][:40]}" for i, c in enumerate(CASES)]
)
def test_attention(arrays, options, kind, text):
    out = np.full((1, 2, 4, 8), 7, F)
    with pytest.raises(kind) as caught:
        pyattn.attention(*arrays, **{"out": out, **options})
    assert str(caught.value) == "attention: " + text
    assert type(caught.value) is kind
    assert (out == 7).all()


SHARED = [
    case
    for case in CASES
    if not {"out", "return_lse"} & set(case[1])
    and "value" not in case[3]
    and case[0][2] is not None
]


@pytest.mark.parametrize(
    "arrays, options, kind, text", SHARED, ids=[f"{i}: {c[3][:40]}" for i, c in enumerate(SHARED)]
)
def test_attention_weights(arrays, options, kind, text):
    """The same words, for what both functions take."""
    with pytest.raises(kind) as caught:
        pyattn.attention_weights(*arrays[:2], **options)
    assert str(caught.value) == "attention_weights: " + text


@pytest.mark.parametrize(
    "arrays, options, kind, text", SHARED, ids=[f"{i}: {c[3][:40]}" for i, c in enumerate(SHARED)]
)
def test_attention_topk(arrays, options, kind, text):
    with pytest.raises(kind) as caught:
        pyattn.attention_topk(*arrays[:2], 1, **options)
    assert str(caught.value) == "attention_topk: " + text


@pytest.mark.parametrize(
    "outs, lses, kind, text",
    [
        ([], [], ValueError, "at least one part is needed"),
        ([X], [], ValueError, "1 outs but 0 lses"),
        (
            [X, z(1, 2, 4, 9)],
            [z(1, 2, 4)] * 2,
            ValueError,
            "all outs must have the same shape: outs[0] (1, 2, 4, 8), outs[1] (1, 2, 4, 9)",
        ),
        (
            [X],
            [z(1, 2, 3)],
            ValueError,
            "lses[0] must have the shape of outs[0] without its last axis: out (1, 2, 4, 8), "
            "lse (1, 2, 3)",
        ),
        (
            [F(0)],
            [F(0)],
            ValueError,
            "lses[0] must have the shape of outs[0] without its last axis: out (), lse ()",
        ),
        (
            [X],
            [z(1, 2, 4, dtype=np.float64)],
            TypeError,
            "all outs must have the same dtype, and lses theirs, or float32 for halves: "
            "outs[0] float32, lses[0] float64",
        ),
        (
            [X, X],
            [z(1, 2, 4), z(1, 2, 4, dtype=int)],
            TypeError,
            "lses[1] must be float32 or float64, got int64: use lses[1].astype(numpy.float32)",
        ),
    ],
)
def test_merge_attention(outs, lses, kind, text):
    with pytest.raises(kind) as caught:
        pyattn.merge_attention(outs, lses)
    assert str(caught.value) == "merge_attention: " + text


def test_bfloat16_by_name():
    """Known by the name of the dtype: ml_dtypes is no dependency."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(TypeError, match="query bfloat16, key float32, value float32"):
        pyattn.attention(X.astype(ml_dtypes.bfloat16), X, X)


def test_legal_though_unusual():
    """What must not be refused."""
    for options in (
        {"key_lengths": np.uint8(3)},
        {"key_lengths": np.array([4], np.uint64)},
        {"query_start": np.array([-5], np.int8), "causal": np.True_},
        {"scale": np.array(0.5, F)},
        {"scale": 3},
        {"query_start": -(2**61), "causal": True},
        {"window": [np.int8(1), None]},
        {"window": (2**70, 2**80), "query_start": 2**61 - 1},
        {"window": (2**61, 2**61), "query_start": -(2**61)},
        {"softcap": np.float16(3)},
        {"softcap": np.array(3.0)},
        {"softcap": float(np.finfo(F).tiny)},
        {"sinks": [1.0, -np.inf]},
        {"sinks": np.zeros(2, ">f8")},
        {"sinks": np.zeros(2, np.longdouble)},
        {"mask": None, "bias": None, "window": None, "softcap": None, "sinks": None},
        {"mask": [True, False, True, True]},
        {"bias": [[0.5]]},
        {"bias": 0.5},
        {"bias": np.zeros((4, 4), ">f2")},
    ):
        assert pyattn.attention(X, X, X, **options).shape == X.shape
    for shape in ((0, 2, 4, 8), (1, 0, 4, 8), (2, 2, 0, 8), (2, 2, 4, 0)):
        out, empty = np.ones(shape, F), z(*shape)
        assert pyattn.attention(empty, empty, empty, out=out) is out


@pytest.mark.parametrize("name, array", [("mask", np.True_), ("bias", np.float32(0))])
def test_too_many_axes(name, array):
    with pytest.raises(ValueError, match="does not broadcast"):
        pyattn.attention(X, X, X, **{name: np.broadcast_to(array, (1,) * 63)})


MEMORY = """
import numpy as np, pyattn
x, v = np.broadcast_to(np.float32(0), (1, 1, {size})), np.ones((1, 1, 3), np.float32)
out = np.full((1, 1, 3), 7, np.float32)
for isa in pyattn._core.isa_runnable():
    pyattn.set_isa(isa)
    for call in (lambda: pyattn.attention(x, x, v, out=out),
                 lambda: pyattn.attention_weights(x, x)):
        try:
            call()
        except MemoryError as e:
            print(e)
    assert (out == 7).all()
    assert pyattn.attention(v, v, v, out=out)[0, 0, 0] == 1
    out[:] = 7
"""


@pytest.mark.parametrize("size", [2**44, 2**50, 2**58, 2**60, 2**61 - 1])
def test_no_memory(size):
    """Sizes that no machine has, up to those whose byte count does not fit 64 bits: an error that
    names the bytes, and the next call works."""
    lines = python(MEMORY.format(size=size)).splitlines()
    assert len(lines) == 2 * len(pyattn._core.isa_runnable())
    for line in lines:
        bytes_named = [int(word) for word in line.split() if word.isdecimal()]
        assert len(bytes_named) == 1
        assert bytes_named[0] >= size


WILD = """
import itertools, numpy as np, pyattn
from pyattn import biases, masks
x = np.ones((1, 2, 3, 4), np.float32)
small = np.ones((3, 4), np.float32)
wild = [
    None, "text", b"bytes", object(), 0, -1, 2**80, 1.5, float("nan"), 1j, True, [], [[]], (), {},
    [1, [2]], set(), range(3), print, type, np.nan, np.float32(1), np.array(None), np.array([1, 2]),
    np.array("x"), np.ma.masked_array(x), np.matrix([[1.0]]), np.recarray((2, 2), [("a", "f4")]),
    x.astype(complex), x.astype("f2"), x.astype(">f4"), x.astype("g"), x.astype("M8[s]"),
    x.astype("U3"), x.astype(object), x[:, :0], x[:, :, :0], x[..., :0], x[:0], x[0, 0, 0],
    x[(None,) * 60], memoryview(x), np.broadcast_to(np.float32(1), (2**20, 3, 4)),
    np.broadcast_to(np.float32(1), (0, 2**40, 3, 4)), np.array([2**64 - 1], np.uint64),
    np.array([-(2**63)]), "bhld", "blhd", x, small,
]
functions = [pyattn.attention, pyattn.attention_weights, pyattn.merge_attention,
             pyattn.attention_varlen, pyattn.attention_topk, pyattn.set_num_threads, pyattn.set_isa]
keywords = ["causal", "query_start", "key_lengths", "scale", "layout", "return_lse", "out",
            "mask", "bias", "window", "softcap", "sinks"]
wild += [
    np.ones((3, 3), bool), np.ones((1, 2, 3, 3), bool), np.zeros((3, 3), "f2"), (1, None), (2, 2),
    masks.documents([0, 1, 3]), masks.dilated(3, dilation=2), biases.alibi([1.0, 2.0]),
    biases.relative(np.zeros(5), 3) + np.zeros(3), np.array([0, 1, 3]), np.array([True] * 3),
]
isa, threads, calls, right = pyattn.get_isa(), pyattn.get_num_threads(), 0, 0

def fire(function, *args, **options):
    global calls, right
    if max(getattr(options.get(name), "ndim", 0) for name in ("mask", "bias")) > 60:
        return  # see test_too_many_axes
    calls += 1
    try:
        function(*args, **options)
        right += 1
    except (TypeError, ValueError, NotImplementedError) as e:
        assert str(e)
    pyattn.set_isa(isa)
    pyattn.set_num_threads(threads)

with np.errstate(all="ignore"):
    for a in wild:
        fire(pyattn.set_num_threads, a)
        fire(pyattn.set_isa, a)
        for args in ((a, x, x), (x, a, x), (x, x, a), (a, a, a), (a, a, x), (x, a, a)):
            fire(pyattn.attention, *args)
            fire(pyattn.attention_weights, *args[:2])
        for k, args in itertools.product(keywords, ((x, x, x), (small, small, small))):
            fire(pyattn.attention, *args, **{k: a})
            fire(pyattn.attention_weights, *args[:2], **{k: a})
            fire(pyattn.attention_topk, *args[:2], 2, **{k: a})
        packed = x[0].swapaxes(0, 1)
        fire(pyattn.attention_topk, x, x, a)
        fire(pyattn.attention_varlen, packed, packed, packed, a)
        fire(pyattn.attention_varlen, packed, packed, packed, [0, 3], a)
        fire(pyattn.attention_varlen, a, a, a, [0, 3])
        fire(pyattn.attention_varlen, packed, packed, a, [0, 1, 3])
        for k in ("bias", "window", "softcap", "sinks", "causal", "scale", "out"):
            fire(pyattn.attention_varlen, packed, packed, packed, [0, 1, 3], **{k: a})
        for b in wild:
            fire(pyattn.attention, x, x, x, mask=a, bias=b)
            fire(pyattn.attention, x, x, x, window=a, sinks=b, softcap=a)
            fire(pyattn.merge_attention, [a, b] if b is not None else a, [b, a])
            fire(pyattn.attention, x, x, x, key_lengths=a, out=b)
            fire(pyattn.attention, x, x, x, query_start=a, scale=b, causal=True)
    for function in functions:
        fire(function)
        fire(function, *[x] * 9)
        fire(function, nothing=1)
print(calls, right)
"""


def test_wild_arguments():
    """Thousands of calls, most of them nonsense: exceptions of the documented kinds, no signal."""
    calls, right = map(int, python(WILD, timeout=120).split())
    assert calls > 5000
    assert 0 < right < calls / 2
