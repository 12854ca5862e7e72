"""FLOATER and recurrent positions: SciPy's solvers, plain loops and PyTorch agree."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from support import assert_same_bits

from pyattn import positional

# FLOATER.


def network(rng, size, hidden, tau=(True, True), bias=True):
    widths = [size, *hidden, size]
    return [
        (
            rng.standard_normal((after, before + with_tau)) / math.sqrt(before),
            rng.standard_normal(after) if bias else None,
        )
        for before, after, with_tau in zip(widths[:-1], widths[1:], tau, strict=True)
    ]


ACTIVATIONS = {
    "tanh": math.tanh,
    "relu": lambda x: max(x, 0.0),
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
}


def slope_of(layers, activation="tanh"):
    """h by its definition, entry by entry."""
    activate = ACTIVATIONS[activation]

    def h(tau, p):
        x = list(p)
        for n, (weight, bias) in enumerate(layers):
            x = [activate(v) for v in x] if n else x
            x = [*x, tau] if weight.shape[1] > len(x) else x
            x = [
                sum(w * v for w, v in zip(row, x, strict=True)) + (0 if bias is None else bias[k])
                for k, row in enumerate(weight)
            ]
        return np.array(x)

    return h


def by_scipy(h, length, start, step):
    """In pieces from position to position, as the tolerances hold at the ends of steps."""
    table = [np.asarray(start, float)]
    for i in range(1, length):
        piece = solve_ivp(
            h, ((i - 1) * step, i * step), table[-1], method="DOP853", rtol=1e-12, atol=1e-14
        )
        table.append(piece.y[:, -1])
    return np.array(table)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("step", [0.02, 0.3])
@pytest.mark.parametrize(
    "hidden, tau, bias",
    [
        ([5], (True, False), True),  # as in the paper: tau once
        ([5], (True, True), True),  # as in its authors' code
        ([4, 6], (True, False, True), False),
        ([5], (False, False), True),  # autonomous
        ([], (True,), True),
    ],
)
def test_floater(rng, hidden, tau, bias, step, activation):
    layers, start = network(rng, 3, hidden, tau, bias), rng.standard_normal(3)
    expected = by_scipy(slope_of(layers, activation), 8, start, step)
    got = positional.floater(8, start, layers, step=step, activation=activation, dtype=np.float64)
    assert got.dtype == np.float64 and got.shape == (8, 3)
    np.testing.assert_array_equal(got[0], start)
    corners = activation != "tanh"  # which cost the solvers some accuracy
    atol = (1e-7 if corners else 1e-8) * np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


def test_linear_equation(rng):
    """The solution is a matrix exponential, of a matrix with one more row for the constant."""
    matrix, constant = rng.standard_normal((4, 4)), rng.standard_normal(4)
    start = rng.standard_normal(4)
    got = positional.floater(20, start, [(matrix, constant)], dtype=np.float64)
    augmented = np.zeros((5, 5))
    augmented[:4, :4], augmented[:4, 4] = matrix, constant
    expected = [(expm(augmented * (0.1 * i)) @ [*start, 1])[:4] for i in range(20)]
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)


def test_time(rng):
    """dp / dtau = (tau, tau * tau, 1): powers of tau, at i * step."""
    got = positional.floater(
        30, [1.0, 2.0, 3.0], lambda tau, p: [tau, tau * tau, 1.0], step=0.7, dtype=np.float64
    )
    tau = np.arange(30) * 0.7
    expected = np.stack([1 + tau**2 / 2, 2 + tau**3 / 3, 3 + tau], axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    got = positional.floater(30, [1.0], [([[0.0, 2.0]], None)], step=0.7, dtype=np.float64)
    np.testing.assert_allclose(got[:, 0], 1 + tau**2, rtol=1e-13)


@pytest.mark.parametrize("frequency", [1.0, 2 * math.pi / 0.1, 40 * math.pi])
def test_oscillator(frequency):
    """Also when every position is a whole number of periods."""
    rotate = np.array([[0.0, -frequency], [frequency, 0.0]])
    got = positional.floater(6, [1.0, 0.0], [(rotate, None)], dtype=np.float64)
    angle = frequency * 0.1 * np.arange(6)
    expected = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_tolerances():
    """The error is in proportion to them."""
    rotate, errors = [([[0.0, -9.0], [9.0, 0.0]], None)], []
    for rtol in (1e-4, 1e-7, 1e-10):
        got = positional.floater(20, [1.0, 0.0], rotate, rtol=rtol, atol=rtol, dtype=np.float64)
        errors.append(abs(got[-1] - [math.cos(0.9 * 19), math.sin(0.9 * 19)]).max())
    assert errors[0] < 1e-1 and errors[1] < 1e-4 and errors[2] < 1e-7
    assert errors[0] > 30 * errors[1] > 900 * errors[2]


def test_a_jump_is_stepped_over():
    """The slope is discontinuous between two positions; the solution has a corner there."""
    got = positional.floater(
        4, [0.0], lambda tau, p: [1.0 if tau < 0.15 else -2.0], dtype=np.float64
    )
    np.testing.assert_allclose(got[:, 0], [0, 0.1, 0.05, -0.15], atol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_longer_tables_begin_with_the_shorter(rng, activation):
    layers, start = network(rng, 5, [9]), rng.standard_normal(5)
    longest = positional.floater(40, start, layers, activation=activation, dtype=np.float64)
    for length in (0, 1, 2, 3, 17, 39):
        got = positional.floater(length, start, layers, activation=activation, dtype=np.float64)
        assert_same_bits(got, longest[:length])


def test_a_slower_equation_in_larger_steps_is_the_same(rng):
    """h(tau, p) / 8 at tau / 8, and 8 times the step."""
    h = slope_of(network(rng, 3, [5]))
    fast = positional.floater(9, np.ones(3), h, step=0.125, dtype=np.float64)
    slow = positional.floater(
        9, np.ones(3), lambda tau, p: h(tau / 8, p) / 8, step=1.0, dtype=np.float64
    )
    np.testing.assert_allclose(slow, fast, rtol=1e-12)


def test_dtypes(rng):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for given in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ">f4"):
        layers = [(w.astype(given), b.astype(given)) for w, b in network(rng, 3, [5])]
        start = rng.standard_normal(3).astype(given)
        exact = positional.floater(
            5,
            start.astype(float),
            [(w.astype(float), b.astype(float)) for w, b in layers],
            dtype="f8",
        )
        assert positional.floater(5, start, layers).dtype == np.float32
        for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
            assert_same_bits(positional.floater(5, start, layers, dtype=dtype), exact.astype(dtype))


def test_functions_may_do_what_they_like(rng):
    """Overwrite their argument, return the same array again and again, or half precision."""
    kept = np.empty(2, np.float16)

    def rude(tau, p):
        kept[...] = [0.5, -2.0]
        p[...] = np.nan
        return kept

    got = positional.floater(5, [1.0, 2.0], rude, dtype=np.float64)
    np.testing.assert_allclose(got[-1], [1.2, 1.2], rtol=1e-14)


def test_floater_without_channels_or_positions():
    assert positional.floater(3, np.zeros(0), [(np.zeros((0, 1)), None)]).shape == (3, 0)
    assert positional.floater(0, np.zeros(2), lambda tau, p: p).shape == (0, 2)
    assert positional.floater(1, np.ones(2), lambda tau, p: p).tolist() == [[1.0, 1.0]]


# Recurrent cells.

GATES = {"tanh": 1, "gru": 3, "lstm": 4}


def cell_of(rng, cell, inputs, size):
    """weight_ih, weight_hh, bias_ih, bias_hh."""
    rows = GATES[cell] * size
    return [rng.standard_normal(shape) for shape in ((rows, inputs), (rows, size), rows, rows)]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def by_loops(rows, weights, cell, hidden, memory=None):
    """Scalar by scalar, from the equations in the documentation of PyTorch's cells."""
    w, v, b, c = weights
    size, found = len(hidden), []
    for x in rows:
        before = list(hidden)

        def read(gate, k, x=x):
            row = gate * size + k
            return sum(w[row][e] * x[e] for e in range(len(x))) + b[row]

        def recall(gate, k, before=before):
            row = gate * size + k
            return sum(v[row][e] * before[e] for e in range(size)) + c[row]

        for k in range(size):
            if cell == "tanh":
                hidden[k] = math.tanh(read(0, k) + recall(0, k))
            elif cell == "gru":
                reset = sigmoid(read(0, k) + recall(0, k))
                update = sigmoid(read(1, k) + recall(1, k))
                new = math.tanh(read(2, k) + reset * recall(2, k))
                hidden[k] = (1 - update) * new + update * before[k]
            else:
                enter, forget, new, leave = (read(g, k) + recall(g, k) for g in range(4))
                memory[k] = sigmoid(forget) * memory[k] + sigmoid(enter) * math.tanh(new)
                hidden[k] = sigmoid(leave) * math.tanh(memory[k])
        found.append(list(hidden))
    return np.array(found)


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
@pytest.mark.parametrize("reverse", [False, True])
def test_rnn(rng, cell, leading, reverse):
    weights = cell_of(rng, cell, 3, 4)
    inputs = rng.standard_normal((*leading, 6, 3))
    start = rng.standard_normal((2, *leading, 4))
    got = positional.rnn_positions(
        inputs, *weights, cell=cell, start=tuple(start) if cell == "lstm" else start[0],
        reverse=reverse,
    )  # fmt: skip
    assert got.shape == (*leading, 6, 4) and got.dtype == np.float64
    for at in np.ndindex(leading):
        rows = inputs[at][::-1] if reverse else inputs[at]
        expected = by_loops(rows, weights, cell, *(list(s[at]) for s in start))
        np.testing.assert_allclose(
            got[at], expected[::-1] if reverse else expected, rtol=0, atol=1e-13
        )


# torch.nn.RNN, GRU and LSTM of PyTorch 2.13, in float64, with the weights, inputs and start below.
PYTORCH = {
    "tanh": [[-0.916654889213192, 0.706526225437085], [-0.958479544508327, -0.370224366149635],
             [-0.965006609482347, 0.138713978723498], [-0.901209579218193, 0.260742045397986]],
    "gru": [[0.096383332846118, -0.539228434000803], [0.232405716755224, -0.668408697214698],
            [0.430571589845905, -0.633990467964515], [0.517002422746894, -0.665792428400758]],
    "lstm": [[0.385927621321346, 0.285173177711502], [0.106496376979759, -0.256379421004653],
             [0.211750095938233, -0.593411898594517], [0.228404371876989, -0.695674939690833]],
}  # fmt: skip


def sines(n, *shape):
    return np.sin(np.arange(math.prod(shape)) * n + n).reshape(shape)


@pytest.mark.parametrize("cell", GATES)
def test_pytorch(cell):
    rows = GATES[cell] * 2
    weights = sines(2, rows, 3), sines(3, rows, 2), sines(4, rows), sines(5, rows)
    start = (sines(6, 2), sines(7, 2)) if cell == "lstm" else sines(6, 2)
    got = positional.rnn_positions(sines(1, 4, 3), *weights, cell=cell, start=start)
    np.testing.assert_allclose(got, PYTORCH[cell], rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", GATES)
def test_nothing_to_read(rng, cell):
    """As if all inputs were zero."""
    weights = cell_of(rng, cell, 3, 4)
    expected = positional.rnn_positions(np.zeros((9, 3)), *weights, cell=cell)
    got = positional.rnn_positions(9, *weights, cell=cell, dtype="f8")
    np.testing.assert_array_equal(got, expected)
    weights[0] = None
    assert_same_bits(
        positional.rnn_positions(np.int32(9), *weights, cell=cell), got.astype(np.float32)
    )
    for length in (0, 1, 4):
        assert_same_bits(
            positional.rnn_positions(length, *weights, cell=cell, dtype="f8"), got[:length]
        )


@pytest.mark.parametrize("cell", GATES)
def test_direction(rng, cell):
    """Backwards is the inputs and the states turned round, and not the same as forwards."""
    weights, inputs = cell_of(rng, cell, 3, 4), rng.standard_normal((2, 7, 3))
    forwards = positional.rnn_positions(inputs, *weights, cell=cell)
    backwards = positional.rnn_positions(inputs, *weights, cell=cell, reverse=True)
    turned = positional.rnn_positions(inputs[:, ::-1], *weights, cell=cell)[:, ::-1]
    np.testing.assert_allclose(backwards, turned, rtol=0, atol=1e-14)
    assert np.abs(forwards - backwards).min(axis=(0, 2)).max() > 1e-3
    changed = inputs.copy()
    changed[:, 3] += 1
    after = positional.rnn_positions(changed, *weights, cell=cell)
    np.testing.assert_array_equal(after[:, :3], forwards[:, :3])
    assert (after[:, 3:] != forwards[:, 3:]).any(axis=(0, 2)).all()
    before = positional.rnn_positions(changed, *weights, cell=cell, reverse=True)
    np.testing.assert_array_equal(before[:, 4:], backwards[:, 4:])
    assert (before[:, :4] != backwards[:, :4]).any(axis=(0, 2)).all()


@pytest.mark.parametrize("cell", ["tanh", "gru"])  # the memory of an LSTM is not given out
def test_pieces(rng, cell):
    """From the state in which the first piece ended, the second one continues."""
    weights, inputs = cell_of(rng, cell, 3, 4), rng.standard_normal((7, 3))
    whole = positional.rnn_positions(inputs, *weights, cell=cell)
    rest = positional.rnn_positions(inputs[4:], *weights, cell=cell, start=whole[3])
    np.testing.assert_allclose(rest, whole[4:], rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", GATES)
def test_defaults(rng, cell):
    """No bias is a bias of 0, no start a start of 0; one start is good for the whole batch."""
    weights, inputs = cell_of(rng, cell, 3, 4), rng.standard_normal((2, 5, 3))
    zero = np.zeros(4 * GATES[cell])
    start = (np.zeros(4), np.zeros((2, 1))[:, [0] * 4]) if cell == "lstm" else np.zeros(4)
    expected = positional.rnn_positions(inputs, *weights[:2], zero, zero, cell=cell, start=start)
    assert_same_bits(positional.rnn_positions(inputs, *weights[:2], cell=cell), expected)


def test_large_numbers_saturate():
    """Neither a warning nor nan."""
    for cell, gates in GATES.items():
        for sign in (-1.0, 1.0):
            weights = np.full((gates * 2, 2), sign * 1e30), np.full((gates * 2, 2), 1e30)
            got = positional.rnn_positions(np.ones((3, 2)), *weights, cell=cell)
            assert (np.abs(got) <= 1).all()


def test_rnn_dtypes(rng):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    inputs, weights = rng.standard_normal((2, 5, 3)), cell_of(rng, "gru", 3, 4)
    for given in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64):
        low = [inputs.astype(given), *(w.astype(given) for w in weights)]
        exact = positional.rnn_positions(*(x.astype(float) for x in low), cell="gru")
        assert_same_bits(positional.rnn_positions(*low, cell="gru"), exact.astype(given))
        assert_same_bits(positional.rnn_positions(*low, cell="gru", dtype="f8"), exact)
    swapped = [x.astype(">f4") for x in (inputs, *weights)]
    expected = positional.rnn_positions(*(x.astype("f4") for x in swapped), cell="gru")
    assert_same_bits(positional.rnn_positions(*swapped, cell="gru"), expected)


@pytest.mark.parametrize("cell", GATES)
def test_extents_of_0(rng, cell):
    g = GATES[cell]
    hidden = np.ones((g * 2, 2))
    assert positional.rnn_positions(0, None, hidden, cell=cell).shape == (0, 2)
    found = positional.rnn_positions(np.ones((3, 0, 5)), np.ones((g * 2, 5)), hidden, cell=cell)
    assert found.shape == (3, 0, 2)
    found = positional.rnn_positions(np.ones((0, 4, 5)), np.ones((g * 2, 5)), hidden, cell=cell)
    assert found.shape == (0, 4, 2)
    nothing = np.zeros((0, 0)), np.zeros((0, 0))
    assert positional.rnn_positions(np.ones((3, 4, 0)), *nothing, cell=cell).shape == (3, 4, 0)
    bias = np.arange(g * 2.0)
    np.testing.assert_array_equal(
        positional.rnn_positions(np.ones((4, 0)), np.ones((g * 2, 0)), hidden, bias, cell=cell),
        positional.rnn_positions(4, None, hidden, bias, cell=cell, dtype="f8"),
    )


# Errors, word for word.

START = np.array([1.0, 0.0])
EYE, ZERO = np.eye(2), np.zeros(2)
X, W_IH, W_HH = np.ones((5, 3)), np.ones((6, 3)), np.ones((6, 2))  # of a GRU
NOT_FLOAT = "must be float16, bfloat16, float32 or float64, got "
CASES = [
    (lambda: positional.floater(2.0, START, [(EYE, ZERO)]), TypeError,
     "floater: length must be an integer, got float"),
    (lambda: positional.floater(-1, START, [(EYE, ZERO)]), ValueError,
     "floater: length must be at least 0, got -1"),
    (lambda: positional.floater(3, [1, 0], [(EYE, ZERO)]), TypeError,
     f"floater: start {NOT_FLOAT}int64: use start.astype(numpy.float32)"),
    (lambda: positional.floater(3, [START], [(EYE, ZERO)]), ValueError,
     "floater: start must be (channels,), got (1, 2)"),
    (lambda: positional.floater(3, [1.0, np.nan], [(EYE, ZERO)]), ValueError,
     "floater: start must be finite"),
    (lambda: positional.floater(3, START, [(EYE, ZERO)], step=0), ValueError,
     "floater: step must be positive and finite, got 0.0"),
    (lambda: positional.floater(3, START, [(EYE, ZERO)], step=None), TypeError,
     "floater: step must be a real number, got NoneType"),
    (lambda: positional.floater(3, START, [(EYE, ZERO)], rtol=np.inf), ValueError,
     "floater: rtol must be positive and finite, got inf"),
    (lambda: positional.floater(3, START, [(EYE, ZERO)], atol=-1.0), ValueError,
     "floater: atol must be positive and finite, got -1.0"),
    (lambda: positional.floater(3, START, [(EYE, ZERO)], dtype=None), TypeError,
     f"floater: dtype {NOT_FLOAT}None"),
    (lambda: positional.floater(3, START, [(EYE, ZERO)], dtype="int"), TypeError,
     f"floater: dtype {NOT_FLOAT}'int'"),
    (lambda: positional.floater(3, START, [(EYE, ZERO)], dtype="float33"), TypeError,
     f"floater: dtype {NOT_FLOAT}'float33'"),
    (lambda: positional.floater(3, START, [(EYE, ZERO)], activation="gelu"), ValueError,
     "floater: activation must be 'tanh', 'relu' or 'selu', got 'gelu'"),
    (lambda: positional.floater(3, START, {}), TypeError,
     "floater: layers must be a list of (weight, bias) or a function of tau and p, got dict"),
    (lambda: positional.floater(3, START, []), ValueError,
     "floater: layers must be at least one (weight, bias)"),
    (lambda: positional.floater(3, START, [EYE]), TypeError,
     "floater: layers[0] must be (weight, bias), got ndarray"),
    (lambda: positional.floater(3, START, [(EYE, ZERO), (EYE.astype(int), ZERO)]), TypeError,
     f"floater: layers[1][0] {NOT_FLOAT}int64: use layers[1][0].astype(numpy.float32)"),
    (lambda: positional.floater(3, START, [(ZERO, ZERO)]), ValueError,
     "floater: layers[0][0] must be (outputs, inputs), got (2,)"),
    (lambda: positional.floater(3, START, [(np.ones((5, 4)), None)]), ValueError,
     "floater: layers[0][0] (5, 4) must have 3 columns, for p and tau, or 2 without tau"),
    (lambda: positional.floater(3, START, [(np.ones((5, 3)), None), (np.ones((2, 4)), None)]),
     ValueError,
     "floater: layers[1][0] (2, 4) must have 6 columns, for the outputs of layers[0] and tau, "
     "or 5 without tau"),
    (lambda: positional.floater(3, START, [(EYE, np.zeros(3))]), ValueError,
     "floater: layers[0][1] must have shape (2,), as layers[0][0] has 2 rows, got (3,)"),
    (lambda: positional.floater(3, START, [(EYE, EYE)]), ValueError,
     "floater: layers[0][1] must be (outputs,), got (2, 2)"),
    (lambda: positional.floater(3, START, [(np.ones((5, 3)), None)]), ValueError,
     "floater: layers[0][0] must have 2 rows, as many as start has entries, got 5"),
    (lambda: positional.floater(3, START, lambda tau, p: p[:1]), ValueError,
     "floater: layers(tau, p) must return the shape of p, (2,), got (1,)"),
    (lambda: positional.floater(3, START, lambda tau, p: p * 1j), TypeError,
     "floater: layers(tau, p) must return real numbers, got complex128"),
    (lambda: positional.floater(3, START, lambda tau, p: None), TypeError,
     "floater: layers(tau, p) must return real numbers, got object"),
    (lambda: positional.floater(3, START, [(EYE * np.nan, None)]), ValueError,
     "floater: layers(0, start) must be finite"),
    # 1 / (1 - tau) is infinite at position 4.
    (lambda: positional.floater(9, [1.0], lambda tau, p: p * p, step=0.25), ValueError,
     "floater: the solution diverges or jumps between positions 3 and 4: "
     "no step from tau = 0.999999999"),
    (lambda: positional.floater(9, [1.0], lambda tau, p: p if tau < 0.25 else p * np.nan),
     ValueError, "floater: the solution diverges or jumps between positions 2 and 3: "
     "no step from tau = 0.2499999999999"),
    # p is infinite, its slope and the estimated error are not.
    (lambda: positional.floater(30, [0.0], lambda tau, p: [1e307], step=1, dtype="f8"), ValueError,
     "floater: the solution diverges or jumps between positions 17 and 18: "
     "no step from tau = 17.976931348"),
    (lambda: positional.floater(2, [1.0], lambda tau, p: -1e9 * p), ValueError,
     "floater: more than 10000 steps between positions 0 and 1, now at tau = 3."),
    (lambda: positional.rnn_positions(2.5, None, W_HH, cell="gru"), TypeError,
     "rnn_positions: inputs must be an integer, got float"),
    (lambda: positional.rnn_positions(-1, None, W_HH, cell="gru"), ValueError,
     "rnn_positions: inputs must be at least 0, got -1"),
    (lambda: positional.rnn_positions(5, None, W_HH, cell="rnn"), ValueError,
     "rnn_positions: cell must be 'tanh', 'gru' or 'lstm', got 'rnn'"),
    (lambda: positional.rnn_positions(5, None, W_HH, cell="lstm"), ValueError,
     "rnn_positions: weight_hh must be (gates * D, D) with 4 gates, got (6, 2)"),
    (lambda: positional.rnn_positions(5, None, W_HH), ValueError,
     "rnn_positions: weight_hh must be (gates * D, D) with 1 gate, got (6, 2)"),
    (lambda: positional.rnn_positions(5, None, None), TypeError,
     f"rnn_positions: weight_hh {NOT_FLOAT}object"),
    (lambda: positional.rnn_positions(5, None, W_HH[0], cell="gru"), ValueError,
     "rnn_positions: weight_hh must be (gates * D, D), got (2,)"),
    (lambda: positional.rnn_positions(X, W_IH[:5], W_HH, cell="gru"), ValueError,
     "rnn_positions: weight_ih and weight_hh must have as many rows: "
     "weight_ih (5, 3), weight_hh (6, 2)"),
    (lambda: positional.rnn_positions(X, W_IH, W_HH, np.ones(3), cell="gru"), ValueError,
     "rnn_positions: bias_ih must have shape (6,), as weight_hh has 6 rows, got (3,)"),
    (lambda: positional.rnn_positions(X, W_IH, W_HH, None, W_HH, cell="gru"), ValueError,
     "rnn_positions: bias_hh must be (outputs,), got (6, 2)"),
    (lambda: positional.rnn_positions(X.astype(int), W_IH, W_HH, cell="gru"), TypeError,
     f"rnn_positions: inputs {NOT_FLOAT}int64: use inputs.astype(numpy.float32)"),
    (lambda: positional.rnn_positions(X[0], W_IH, W_HH, cell="gru"), ValueError,
     "rnn_positions: inputs must be a length or (..., length, size), got (3,)"),
    (lambda: positional.rnn_positions(X, None, W_HH, cell="gru"), ValueError,
     "rnn_positions: weight_ih is needed for inputs (5, 3)"),
    (lambda: positional.rnn_positions(X[:, :2], W_IH, W_HH, cell="gru"), ValueError,
     "rnn_positions: weight_ih must have as many columns as inputs: "
     "weight_ih (6, 3), inputs (5, 2)"),
    (lambda: positional.rnn_positions(X, W_IH, W_HH, cell="gru", start=np.zeros((1, 2))),
     ValueError, "rnn_positions: start (1, 2) does not broadcast to (2,)"),
    (lambda: positional.rnn_positions(X, W_IH, W_HH, cell="gru", start=np.zeros(1)), ValueError,
     "rnn_positions: start (1,) does not broadcast to (2,)"),
    (lambda: positional.rnn_positions(X[None], W_IH, W_HH, cell="gru", start=np.zeros((3, 2))),
     ValueError, "rnn_positions: start (3, 2) does not broadcast to (1, 2)"),
    (lambda: positional.rnn_positions(5, None, np.ones((8, 2)), cell="lstm", start=ZERO), TypeError,
     "rnn_positions: start must be (start[0], start[1]), got ndarray"),
    (lambda: positional.rnn_positions(5, None, np.ones((8, 2)), cell="lstm", start=(ZERO, 0.0)),
     ValueError, "rnn_positions: start[1] () does not broadcast to (2,)"),
    (lambda: positional.rnn_positions(X, W_IH, W_HH, cell="gru", reverse=1), TypeError,
     "rnn_positions: reverse must be True or False, got int"),
    (lambda: positional.rnn_positions(X, W_IH, W_HH, cell="gru", dtype=int), TypeError,
     f"rnn_positions: dtype {NOT_FLOAT}<class 'int'>"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", CASES, ids=[c[2][:60] for c in CASES])
def test_error(call, kind, message):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    # Where a solver stopped is not the same to the last digit on every machine.
    text = str(error.value)
    assert text == message or ("tau = " in message and text.startswith(message)), text
    assert error.type is kind
