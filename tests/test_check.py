"""Wrong arguments: the right exception, its text word for word, and an `out` left alone."""

import numpy as np
import pytest
from support import python

import pyattn

F = np.float32


def z(*shape, dtype=F):
    return np.zeros(shape, dtype)


X = z(1, 2, 4, 8)  # a query, key and value that fit together

NOT_FLOAT = "must be float32 or float64, got {0}: use {1}.astype(numpy.float32)"
HALF = "half precision is not supported yet: use {0}.astype(numpy.float32)"

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
        "query, key and value must have the same dtype: query float64, key float32, value float32",
    ),
    (
        [X, X, X.astype(">f8")],
        {},
        TypeError,
        "query, key and value must have the same dtype: query float32, key float32, value float64",
    ),
    (
        [X, np.ma.masked_array(X), X],
        {},
        TypeError,
        "key is a masked array; its mask would be ignored. Fill it (x.filled(0)) and hide keys "
        "with key_lengths",
    ),
    ([X.astype("f2"), X, X], {}, NotImplementedError, "query is float16; " + HALF.format("query")),
    ([X, X, X.astype(">f2")], {}, NotImplementedError, "value is float16; " + HALF.format("value")),
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
        "query, key and value must have the same dtype: query float32, key float32, value float64",
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
            "outs[0] and lses[0] must have the same dtype: outs[0] float32, lses[0] float64",
        ),
        (
            [X, X],
            [z(1, 2, 4), z(1, 2, 4, dtype=int)],
            TypeError,
            "lses[1] " + NOT_FLOAT.format("int64", "lses[1]"),
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
    with pytest.raises(NotImplementedError, match="query is bfloat16"):
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
    ):
        assert pyattn.attention(X, X, X, **options).shape == X.shape
    for shape in ((0, 2, 4, 8), (1, 0, 4, 8), (2, 2, 0, 8), (2, 2, 4, 0)):
        out, empty = np.ones(shape, F), z(*shape)
        assert pyattn.attention(empty, empty, empty, out=out) is out


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
             pyattn.set_num_threads, pyattn.set_isa]
keywords = ["causal", "query_start", "key_lengths", "scale", "layout", "return_lse", "out"]
isa, threads, calls, right = pyattn.get_isa(), pyattn.get_num_threads(), 0, 0

def fire(function, *args, **options):
    global calls, right
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
        for b in wild:
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
