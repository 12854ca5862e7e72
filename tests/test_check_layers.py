"""Wrong arguments to layers and norms: the right exception, its text, and an `out` left alone."""

import numpy as np
import pytest
from support import python

from pyattn.layers import Linear, layer_norm, rms_norm

F = np.float32


def z(*shape, dtype=F):
    return np.zeros(shape, dtype)


W = z(3, 4)  # a weight: 4 inputs, 3 outputs
X = z(2, 5, 4)
FLOATS = "must be float16, bfloat16, float32 or float64, got "
NOT_FLOAT = "must be float32 or float64, got {0}: use {1}.astype(numpy.float32)"
HALF = "{0} is float16; half precision is not supported here: use {0}.astype(numpy.float32)"
MASKED = (
    "{0} is a masked array; its mask would be ignored. Fill it (x.filled(0)) and hide keys with "
    "key_lengths"
)


def stridden(*shape_and_strides):
    return np.lib.stride_tricks.as_strided(z(200), *shape_and_strides)


def raises(call, function, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == f"{function}: {text}"
    assert type(caught.value) is kind


def ids(cases):
    return [f"{i}: {case[-1][:40]}" for i, case in enumerate(cases)]


# Linear(*arrays, **options)
MADE = [
    ([z(4)], {}, ValueError, "weight must be (outputs, inputs), both at least 1, got (4,)"),
    (
        [z(2, 3, 4)],
        {},
        ValueError,
        "weight must be (outputs, inputs), both at least 1, got (2, 3, 4)",
    ),
    ([z(0, 4)], {}, ValueError, "weight must be (outputs, inputs), both at least 1, got (0, 4)"),
    ([z(4, 0)], {}, ValueError, "weight must be (outputs, inputs), both at least 1, got (4, 0)"),
    ([F(1)], {}, ValueError, "weight must be (outputs, inputs), both at least 1, got ()"),
    ([z(3, 4, dtype=int)], {}, TypeError, f"weight {FLOATS}int64"),
    ([z(3, 4, dtype=bool)], {}, TypeError, f"weight {FLOATS}bool"),
    ([z(3, 4, dtype=complex)], {}, TypeError, f"weight {FLOATS}complex128"),
    ([z(3, 4, dtype=np.uint16)], {}, TypeError, f"weight {FLOATS}uint16"),
    ([z(3, 4, dtype="g")], {}, TypeError, f"weight {FLOATS}{np.dtype('g')}"),
    ([None], {}, TypeError, f"weight {FLOATS}object"),
    ([np.ma.masked_array(W)], {}, TypeError, "weight must not be a masked array"),
    ([W, z(4)], {}, ValueError, "bias must have shape (3,), got (4,)"),
    ([W, z(3, 1)], {}, ValueError, "bias must have shape (3,), got (3, 1)"),
    ([W, 1.0], {}, ValueError, "bias must have shape (3,), got ()"),
    ([W, [1, 2, 3]], {}, TypeError, f"bias {FLOATS}int64"),
    ([W, np.ma.masked_array(z(3))], {}, TypeError, "bias must not be a masked array"),
    ([W], {"dtype": np.float16}, TypeError, f"dtype must be float32 or float64, got {np.float16}"),
    ([W], {"dtype": "int32"}, TypeError, "dtype must be float32 or float64, got 'int32'"),
    ([W], {"dtype": "nonsense"}, TypeError, "dtype must be float32 or float64, got 'nonsense'"),
    ([W], {"dtype": 7}, TypeError, "dtype must be float32 or float64, got 7"),
    (
        [W],
        {"storage": "int8"},
        ValueError,
        "storage must be None, 'float16' or 'bfloat16', got 'int8'",
    ),
    ([W], {"storage": 1}, ValueError, "storage must be None, 'float16' or 'bfloat16', got 1"),
    (
        [W],
        {"storage": z(2)},
        ValueError,
        f"storage must be None, 'float16' or 'bfloat16', got {z(2)!r}",
    ),
    (
        [z(3, 4, dtype="f8")],
        {"storage": "float16"},
        ValueError,
        "storage 'float16' is for float32 layers, this one is float64: use dtype=numpy.float32",
    ),
    (
        [W],
        {"storage": "bfloat16", "dtype": "f8"},
        ValueError,
        "storage 'bfloat16' is for float32 layers, this one is float64: use dtype=numpy.float32",
    ),
    (
        [W + F(65520)],
        {"storage": "float16"},
        ValueError,
        "a weight of 65520 does not fit into float16: use another storage",
    ),
    (
        [W - 1e30],
        {"storage": "float16", "dtype": "f4"},
        ValueError,
        "a weight of 1e+30 does not fit into float16: use another storage",
    ),
    (
        [np.full((70, 2), -1e39)],
        {"dtype": "f4", "storage": "float16"},
        ValueError,
        "a weight of 1e+39 does not fit into float16: use another storage",
    ),
    (
        [np.full((70, 2), F(3.4e38))],
        {"storage": "bfloat16"},
        ValueError,
        "a weight of 3.4e+38 does not fit into bfloat16: use another storage",
    ),
    (
        [np.full((70, 2), 1e39)],
        {"dtype": "f4"},
        ValueError,
        "a weight of 1e+39 does not fit into float32: use dtype='float64'",
    ),
    *(
        (
            [W],
            {"activation": wrong},
            ValueError,
            "activation must be one of None, 'gelu', 'gelu_tanh', 'quick_gelu', 'silu', 'relu', "
            f"got {wrong!r}",
        )
        for wrong in ("swish", "", 1, np.maximum, ["gelu"], z(2))
    ),
]


@pytest.mark.parametrize("arrays, options, kind, text", MADE, ids=ids(MADE))
def test_made(arrays, options, kind, text):
    raises(lambda: Linear(*arrays, **options), "Linear", kind, text)


def out_of(shape):
    """What is said of every `out` that must be float32 and of that shape."""
    return [
        ([1], TypeError, "out must be a NumPy array, got list"),
        (np.ma.masked_array(z(*shape)), TypeError, "out must be a NumPy array, got MaskedArray"),
        (z(*shape, 1), ValueError, f"out must have shape {shape}, got {(*shape, 1)}"),
        (z(*shape, dtype="f8"), ValueError, "out must have dtype float32, got float64"),
        (z(*shape, dtype=">f4"), ValueError, "out must have dtype float32, got >f4"),
        (np.broadcast_to(F(0), shape), ValueError, "out is read-only"),
        (
            stridden(shape, (0, 16, 4)),
            ValueError,
            f"out overlaps itself: shape {shape}, strides (0, 16, 4)",
        ),
    ]


# Linear(W)(x, **options)
CALLED = [
    (z(3), {}, ValueError, "x must be (..., 4), got (3,)"),
    (z(4, 3), {}, ValueError, "x must be (..., 4), got (4, 3)"),
    (F(1), {}, ValueError, "x must be (..., 4), got ()"),
    (
        X.astype("f8"),
        {},
        TypeError,
        "x is float64, the layer computes in float32: use x.astype(numpy.float32)",
    ),
    (z(2, 4, dtype=int), {}, TypeError, "x " + NOT_FLOAT.format("int64", "x")),
    (None, {}, TypeError, "x " + NOT_FLOAT.format("object", "x")),
    (X.astype("f2"), {}, NotImplementedError, HALF.format("x")),
    (np.ma.masked_array(X), {}, TypeError, MASKED.format("x")),
    *(
        case
        for name in ("gate", "residual")
        for case in (
            (
                X,
                {name: z(2, 5, 4)},
                ValueError,
                f"{name} (2, 5, 4) does not broadcast to the result (2, 5, 3)",
            ),
            (
                X,
                {name: z(2, 2, 5, 3)},
                ValueError,
                f"{name} (2, 2, 5, 3) does not broadcast to the result (2, 5, 3)",
            ),
            (
                X,
                {name: z(2, 5, 3, dtype="f8")},
                TypeError,
                f"{name} is float64, the result is float32",
            ),
            (X, {name: 1.0}, TypeError, f"{name} is float64, the result is float32"),
            (X, {name: 1}, TypeError, f"{name} " + NOT_FLOAT.format("int64", name)),
            (X, {name: z(3, dtype="f2")}, NotImplementedError, HALF.format(name)),
            (X, {name: np.ma.masked_array(z(3))}, TypeError, MASKED.format(name)),
        )
    ),
    *((X, {"out": out}, kind, text) for out, kind, text in out_of((2, 5, 3))),
]


@pytest.mark.parametrize("x, options, kind, text", CALLED, ids=ids(CALLED))
def test_called(x, options, kind, text):
    out = np.full((2, 5, 3), 7, F)
    raises(lambda: Linear(W)(x, **{"out": out, **options}), "Linear", kind, text)
    assert (out == 7).all()


A, B = Linear(W), Linear(z(6, 4))
HEADS, WIDE = z(3, 2, 5, 2), z(2, 5, 4)
# Linear.many(layers, x, outs)
MANY = [
    ([], X, None, ValueError, "1 to 8 layers are possible, got 0"),
    ([A] * 9, X, None, ValueError, "1 to 8 layers are possible, got 9"),
    ([A, W], X, None, TypeError, "layers[1] must be a Linear, got ndarray"),
    ([None], X, None, TypeError, "layers[0] must be a Linear, got NoneType"),
    (
        [A, Linear(z(3, 5))],
        X,
        None,
        ValueError,
        "all layers must have the inputs and dtype of the first: layers[0] 4 float32, "
        "layers[1] 5 float32",
    ),
    (
        [A, B, Linear(z(3, 4, dtype="f8"))],
        X,
        None,
        ValueError,
        "all layers must have the inputs and dtype of the first: layers[0] 4 float32, "
        "layers[2] 4 float64",
    ),
    ([A, B], X, [z(2, 5, 3)], ValueError, "2 layers but 1 outs"),
    ([A], X, [], ValueError, "1 layers but 0 outs"),
    ([A, B], z(2, 5), None, ValueError, "x must be (..., 4), got (2, 5)"),
    (
        [A, B],
        X.astype("f8"),
        None,
        TypeError,
        "x is float64, the layer computes in float32: use x.astype(numpy.float32)",
    ),
    (A, X, None, TypeError, "layers must be a sequence, got Linear"),
    ([A], X, 3, TypeError, "outs must be a sequence, got int"),
    *(
        ([A], X, [out], kind, text.replace("out", "outs[0]", 1))
        for out, kind, text in out_of((2, 5, 3))
    ),
    ([B], X, [z(3, 5, 2, 2)], ValueError, "outs[0] must have shape (3, 2, 5, 2), got (3, 5, 2, 2)"),
    ([B], X, [z(2, 2, 5, 2)], ValueError, "outs[0] must have shape (2, 5, 6), got (2, 2, 5, 2)"),
    ([B], X, [HEADS.astype("f8")], ValueError, "outs[0] must have dtype float32, got float64"),
    ([B], X, [np.broadcast_to(F(0), HEADS.shape)], ValueError, "outs[0] is read-only"),
    ([B, B], X, [HEADS, HEADS], ValueError, "outs[1] overlaps outs[0]"),
    ([A, A], X, [WIDE[..., :3], WIDE[..., 1:]], ValueError, "outs[1] overlaps outs[0]"),
    (
        [A, A, A],
        X,
        [WIDE[..., :3], z(2, 5, 3), WIDE[..., 1:]],
        ValueError,
        "outs[2] overlaps outs[0]",
    ),
    ([A], WIDE, [WIDE[..., :3]], ValueError, "outs[0] overlaps x"),
    (
        [A],
        z(2, 2, 2, 5, 4),
        [z(2, 2, 3, 7, 3)[:, :, ::2, :5]],
        ValueError,
        "outs[0] has leading axes that are no grid of rows: shape (2, 2, 2, 5, 3), "
        "strides (504, 252, 168, 12, 4)",
    ),
    (
        [B],
        z(2, 2, 2, 5, 4),
        [z(3, 2, 3, 2, 7, 2)[:, :, ::2, :, :5]],
        ValueError,
        "outs[0] has leading axes that are no grid of rows: shape (3, 2, 2, 2, 5, 2), "
        "strides (672, 336, 224, 56, 8, 4)",
    ),
]


@pytest.mark.parametrize("layers, x, outs, kind, text", MANY, ids=ids(MANY))
def test_many(layers, x, outs, kind, text):
    raises(lambda: Linear.many(layers, x, outs), "Linear.many", kind, text)


def test_many_writes_nothing_before_all_is_checked():
    outs = [np.full((2, 5, 3), 7, F), z(2, 5, 5)]
    raises(
        lambda: Linear.many([A, B], X, outs),
        "Linear.many",
        ValueError,
        "outs[1] must have shape (2, 5, 6), got (2, 5, 5)",
    )
    assert (outs[0] == 7).all()


# layer_norm(x, **options), and rms_norm of what it has too
NORMED = [
    (z(2, 0), {}, ValueError, "x must have at least one channel (axis -1), got (2, 0)"),
    (F(1), {}, ValueError, "x must have at least one channel (axis -1), got ()"),
    (z(2, 4, dtype=int), {}, TypeError, "x " + NOT_FLOAT.format("int64", "x")),
    (X.astype("f2"), {}, NotImplementedError, HALF.format("x")),
    (np.ma.masked_array(X), {}, TypeError, MASKED.format("x")),
    *(
        case
        for name in ("weight", "bias")
        for case in (
            (X, {name: z(3)}, ValueError, f"{name} must have shape (4,), got (3,)"),
            (X, {name: z(1, 4)}, ValueError, f"{name} must have shape (4,), got (1, 4)"),
            (X, {name: 1.0}, ValueError, f"{name} must have shape (4,), got ()"),
            (X, {name: z(4, dtype=int)}, TypeError, f"{name} {FLOATS}int64"),
            (X, {name: [1, 2, 3, 4]}, TypeError, f"{name} {FLOATS}int64"),
            (X, {name: np.ma.masked_array(z(4))}, TypeError, f"{name} must not be a masked array"),
        )
    ),
    (X, {"eps": -1e-9}, ValueError, "eps must be finite and at least 0, got -1e-09"),
    (X, {"eps": np.nan}, ValueError, "eps must be finite and at least 0, got nan"),
    (X, {"eps": np.inf}, ValueError, "eps must be finite and at least 0, got inf"),
    (X, {"eps": 10**400}, ValueError, "eps is too large for a float"),
    (X, {"eps": "1e-5"}, TypeError, "eps must be a real number, got str"),
    (X, {"eps": True}, TypeError, "eps must be a real number, got bool"),
    (X, {"eps": None}, TypeError, "eps must be a real number, got NoneType"),
    (X, {"eps": z(1)}, TypeError, "eps must be a real number, got ndarray"),
    (
        X,
        {"residual": z(2, 5, 3)},
        ValueError,
        "residual (2, 5, 3) does not broadcast to the result (2, 5, 4)",
    ),
    (
        z(5, 4),
        {"residual": z(2, 5, 4), "out": z(5, 4)},
        ValueError,
        "residual (2, 5, 4) does not broadcast to the result (5, 4)",
    ),
    (X, {"residual": z(4, dtype="f8")}, TypeError, "residual is float64, the result is float32"),
    (X, {"residual": np.ma.masked_array(z(4))}, TypeError, MASKED.format("residual")),
    *((X, {"out": out}, kind, text) for out, kind, text in out_of((2, 5, 4))),
]


@pytest.mark.parametrize("x, options, kind, text", NORMED, ids=ids(NORMED))
def test_norms(x, options, kind, text):
    out = np.full((2, 5, 4), 7, F)
    raises(lambda: layer_norm(x, **{"out": out, **options}), "layer_norm", kind, text)
    if "bias" not in options:
        raises(lambda: rms_norm(x, **{"out": out, **options}), "rms_norm", kind, text)
    assert (out == 7).all()


def test_legal_though_unusual():
    """What must not be refused."""
    for weight in (W.tolist(), W.astype(">f2"), W.view(np.recarray), W.astype("f8"), memoryview(W)):
        assert Linear(weight, [0.5, 1, 2], dtype=F).inputs == 4
    for weight in (W.astype(">f2"), memoryview(W)):
        assert Linear(weight, [0.5, 1, 2])(np.array([1, 2, 3, 4], F)).shape == (3,)
    assert Linear(W, z(3, dtype="f2"), dtype="f8").dtype == np.float64
    assert Linear(W, None, activation=None, dtype=None, storage=None)(X).shape == (2, 5, 3)
    assert np.isinf(Linear(W + F(np.inf), storage="float16").weight).all()
    assert Linear(W + F(65519), storage="float16").weight.max() == 65504
    assert Linear(z(3, 4, dtype="f8"), storage="float16", dtype="f4").dtype == F
    assert Linear(W)(z(5, 4, dtype=">f4"), gate=z(3, dtype=">f4"), residual=z(1)).shape == (5, 3)
    for eps in (0, 1, np.int8(1), np.float16(1), np.array(0.5)):
        assert layer_norm(X, eps=eps).shape == X.shape
    assert layer_norm(X, z(4, dtype="f8"), [0.0, 1.0, 2.0, 3.0]).dtype == F
    assert layer_norm([[1.0, 2.0]], residual=[1.0, 2.0]).dtype == np.float64
    assert rms_norm(z(5, 4), [1.0, 2, 3, 4]).dtype == F


WILD = """
import itertools, warnings, numpy as np, pyattn
from pyattn.layers import Linear, layer_norm, rms_norm
warnings.simplefilter("ignore")
x = np.ones((2, 3, 4), np.float32)
w, three = np.ones((3, 4), np.float32), np.ones((2, 3, 3), np.float32)
layer = Linear(w)
wild = [
    None, "text", b"bytes", object(), 0, -1, 2**80, 1.5, float("nan"), 1j, True, [], [[]], (), {},
    [1, [2]], set(), range(3), print, type, np.float32(1), np.array(None), np.array([1, 2]),
    np.array("x"), np.ma.masked_array(x), np.matrix([[1.0]]), np.recarray((2, 2), [("a", "f4")]),
    x.astype(complex), x.astype("f2"), x.astype(">f4"), x.astype("g"), x.astype("M8[s]"),
    x.astype("U3"), x.astype(object), x[:, :0], x[..., :0], x[:0], x[0, 0, 0], x[0, 0], x[0],
    x[(None,) * 58], memoryview(x), np.broadcast_to(np.float32(1), (2**9, 3, 4)), "gelu", "f4",
    np.broadcast_to(np.float32(1), (0, 2**40, 4)), np.broadcast_to(np.float32(1), (2, 3, 3)),
    np.zeros((0, 2**20, 2**30, 4), "f4"), "float16", x, w, three, w[0], w[:, 0], layer, [layer],
]
calls = right = 0

def fire(function, *args, **options):
    global calls, right
    calls += 1
    try:
        function(*args, **options)
        right += 1
    except (TypeError, ValueError, NotImplementedError) as e:
        assert str(e)

with np.errstate(all="ignore"):
    for a, b in list(itertools.product(wild, wild))[::3]:
        fire(Linear, a, b)
        fire(Linear.many, a, b)
        fire(Linear.many, [layer, layer], a, [b, three])
        fire(layer, x, gate=a, residual=b)
        fire(layer, a, out=b)
        fire(layer, x, residual=a, out=b)
        fire(layer_norm, a, b)
        fire(layer_norm, a, residual=b)
        fire(rms_norm, a, out=b)
    for a in wild:
        for name in "bias", "activation", "dtype", "storage":
            fire(Linear, w, **{name: a})
        for name in "weight", "bias", "eps", "residual", "out":
            fire(layer_norm, x, **{name: a})
print(calls, right)
"""


def test_wild_arguments():
    """Thousands of calls, most of them nonsense: exceptions of the documented kinds, no signal."""
    calls, right = map(int, python(WILD).split())
    assert calls > 5000
    assert 0 < right < calls / 2
