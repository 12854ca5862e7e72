"""Encodings that are a state carried from position to position: FLOATER, recurrent cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pyattn import _check, _check_encodings, _check_numbers

Slope = Callable[[float, np.ndarray], np.ndarray]
State = list[np.ndarray]

MOST_STEPS = 10_000  # between two positions, refused ones included

# Dormand and Prince 1980, "A family of embedded Runge-Kutta formulae", J. Comput. Appl. Math. 6:
# times of the stages, their weights on earlier stages, and fifth minus fourth order. The last
# stage is the first one of the next step.
TIMES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = [
    np.array(row)
    for row in (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    )
]
ERROR = np.array([71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])


def floater(
    length: int,
    start: Any,
    layers: Any,
    *,
    step: float = 0.1,
    activation: str = "tanh",
    rtol: float = 1e-9,
    atol: float = 1e-12,
    dtype: Any = np.float32,
) -> np.ndarray:
    """FLOATER: positions along the solution of a differential equation.

    ``dp / dtau = h(tau, p)``, ``p(0) = start``; position i is ``p(i * step)``.

    Parameters
    ----------
    length : int
        L. Does not change the rows: a longer table begins with the shorter one, bit for bit.
    start : array_like of float, (D,)
        Position 0. float16, bfloat16, float32 or float64, as the weights.
    layers : list of (weight, bias), or function
        h as a network: weights (out, in) and biases (out,) or None, as of PyTorch's Linear. The
        first layer reads p, the others what the one before returned. A weight with one more
        column reads tau too, as the last entry; in the authors' code every one does. Or any
        function of tau, a float, and p, a float64 array (D,), that returns (D,).
    step : float
        The distance in tau from position to position. Weights are good for the one they were
        trained with, 0.01 in the authors' code.
    activation : {"tanh", "relu", "selu"}
        Between the layers.
    rtol, atol : float
        In each step every entry of p may be wrong by ``atol + rtol * abs(p)``.
    dtype : dtype
        That of the result: float16, bfloat16, float32 or float64. The computation is in float64.

    Returns
    -------
    ndarray, (L, D)

    Raises
    ------
    TypeError
        Another dtype; not numbers; layers that are neither pairs nor a function.
    ValueError
        Weights that do not fit together; tolerances or a step that are not positive; a solution
        that diverges, or that would need more than 10,000 steps from one position to the next.

    Notes
    -----
    Liu et al. 2020, "Learning to Encode Position for Transformer with Continuous Dynamical Model",
    arXiv 2003.09229. They add one such table, with another `start`, in every block of the model.

    Solved by the Runge-Kutta pair of orders 5 and 4 of Dormand and Prince, with the step sizes of
    Hairer, Norsett and Wanner 1993, "Solving Ordinary Differential Equations I", section II.4, so
    that a step ends at every position.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import positional
    >>> turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> positional.floater(3, [1.0, 0.0], [(turn, None)])  # the cosine and sine of 0, 0.1 and 0.2
    array([[1.        , 0.        ],
           [0.9950042 , 0.09983341],
           [0.9800666 , 0.19866933]], dtype=float32)
    >>> rng = np.random.default_rng(0)
    >>> hidden = rng.standard_normal((32, 16 + 1)), rng.standard_normal(32)
    >>> output = rng.standard_normal((16, 32)), rng.standard_normal(16)
    >>> positional.floater(512, np.zeros(16), [hidden, output], step=0.01).shape
    (512, 16)
    """
    function = "floater"
    length = _check_numbers.whole(function, "length", length)
    p = _check_encodings.weights(function, "start", start, "channels")
    _check_encodings.finite(function, "start", p)
    step = _check_encodings.positive(function, "step", step)
    rtol = _check_encodings.positive(function, "rtol", rtol)
    atol = _check_encodings.positive(function, "atol", atol)
    dtype = _check_encodings.dtype(function, dtype)
    _check_encodings.choice(function, "activation", activation, tuple(ACTIVATIONS))
    h = _slope(function, layers, activation, len(p))
    table = np.empty((length, len(p)), dtype)
    solution = _Solution(h, p, step / 100, rtol, atol)  # small at first: it grows fast
    for position in range(length):
        if position:
            solution.reach(position * step, position)
        table[position] = solution.p
    return table


def _slope(function: str, layers: Any, activation: str, size: int) -> Slope:
    if callable(layers):
        # A copy, as the function may do with its argument what it likes.
        return lambda tau, p: _check_encodings.derivative(function, layers(tau, p.copy()), size)
    network = _check_encodings.layers(function, layers, size)
    activate = ACTIVATIONS[activation]

    def h(tau: float, p: np.ndarray) -> np.ndarray:
        for n, (weight, of_tau, bias) in enumerate(network):
            p = weight @ (activate(p) if n else p) + bias
            if of_tau is not None:
                p += tau * of_tau
        return p

    return h


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _selu(x: np.ndarray) -> np.ndarray:
    """With the constants of Klambauer et al. 2017, arXiv 1706.02515."""
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


ACTIVATIONS = {"tanh": np.tanh, "relu": _relu, "selu": _selu}


class _Solution:
    """p at tau, on its way; nothing in it knows how far it will go."""

    def __init__(self, h: Slope, start: np.ndarray, size: float, rtol: float, atol: float) -> None:
        self.h, self.rtol, self.atol = h, rtol, atol
        self.tau, self.p, self.slope = 0.0, start, h(0.0, start)
        self.size = size  # of the next step, as far as errors are concerned
        _check_encodings.finite("floater", "layers(0, start)", self.slope)

    # What goes too far may overflow: it is refused, and a smaller step is tried.
    @np.errstate(over="ignore", invalid="ignore")
    def reach(self, end: float, position: int) -> None:
        for _ in range(MOST_STEPS):
            left = end - self.tau
            steps = np.ceil(left / self.size)  # equal ones, so that none is tiny at the end
            size = left / steps
            if not size > 16 * np.spacing(end):
                _check_encodings.diverges("floater", position, self.tau)
            p, slope, error = self._step(size)
            self.size = size * min(10.0, max(0.2, 0.9 * max(error, 1e-9) ** -0.2))
            if error <= 1:
                self.tau = end if steps == 1 else self.tau + size
                self.p, self.slope = p, slope
                if steps == 1:
                    return
        _check_encodings.too_many_steps("floater", position, self.tau, MOST_STEPS)

    def _step(self, size: float) -> tuple[np.ndarray, np.ndarray, float]:
        """p and its slope at tau + size, and the largest error as a multiple of what it may be."""
        p, slopes = self.p, np.empty((len(TIMES) + 1, len(self.p)))
        slopes[0] = self.slope
        for n, (time, row) in enumerate(zip(TIMES, STAGES, strict=True), start=1):
            p = self.p + size * (row @ slopes[:n])
            slopes[n] = self.h(self.tau + time * size, p)
        allowed = self.atol + self.rtol * np.maximum(np.abs(self.p), np.abs(p))
        error = float(np.max(np.abs(size * (ERROR @ slopes)) / allowed, initial=0.0))
        # An infinite p would be allowed any error.
        return p, slopes[-1], error if np.isfinite(p).all() and error >= 0 else math.inf


# Recurrent cells.


def rnn_positions(
    inputs: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    cell: str = "tanh",
    start: Any = None,
    reverse: bool = False,
    dtype: Any = None,
) -> np.ndarray:
    """The states of a recurrent cell as encodings of the positions.

    The weights are in the layout and gate order of PyTorch's RNN, GRU and LSTM: ``weight_ih_l0``,
    ``weight_hh_l0``, ``bias_ih_l0`` and ``bias_hh_l0`` can be given as they are. G is the number
    of gates: 1, 3 (reset, update, new) and 4 (input, forget, cell, output).

    Parameters
    ----------
    inputs : int, or array_like of float, (..., L, E)
        What the cell reads, one row per position, as word embeddings. An integer is L: there is
        nothing to read, and the states depend on the position alone.
    weight_ih : array_like of float, (G * D, E)
        Not used, and may be None, if there is nothing to read.
    weight_hh : array_like of float, (G * D, D)
    bias_ih, bias_hh : array_like of float, (G * D,), optional
    cell : {"tanh", "gru", "lstm"}
    start : array_like of float, (..., D), optional
        The state before the first position; a pair (hidden, cell) for "lstm". Zero by default.
    reverse : bool
        Whether to go from the last position to the first.
    dtype : dtype, optional
        That of the result; by default that of the inputs, or float32. All arrays may be float16,
        bfloat16, float32 or float64; the computation is in float64.

    Returns
    -------
    ndarray, (..., L, D)
        Row i is the state after reading position i.

    Raises
    ------
    TypeError
        Another dtype; a start that is not a pair; a length that is not an integer.
    ValueError
        Weights that do not fit together, or to the inputs; an unknown cell.

    Notes
    -----
    ::

        tanh  h' = tanh(W x + b + V h + c)
        gru   r, z = sigmoid(W x + b + V h + c);  n = tanh(W x + b + r * (V h + c))
              h' = (1 - z) * n + z * h
        lstm  i, f, o = sigmoid(W x + b + V h + c);  g = tanh(W x + b + V h + c)
              s' = f * s + i * g;  h' = o * tanh(s')

    Elman 1990, "Finding Structure in Time"; Cho et al. 2014, arXiv 1406.1078, with the reset gate
    after the product as in PyTorch; Hochreiter and Schmidhuber 1997, with the forget gate of Gers
    et al. 2000. As encoding: Neishi and Yoshinaga 2019, "On the Relation between Position
    Information and Sentence Length in Neural Machine Translation", CoNLL, ACL anthology K19-1031,
    with a GRU that reads the word embeddings and whose states take their place.

    Layers are stacked by giving the result of one as the inputs of the next; of a bidirectional
    one both results are concatenated, that of ``reverse=True`` last.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn import positional
    >>> positional.rnn_positions(3, None, np.array([[0.5]]), bias_hh=np.array([1.0]), dtype="f8")
    array([[0.76159416],
           [0.88112963],
           [0.89381137]])
    >>> words = np.zeros((8, 20, 32), np.float32)
    >>> positional.rnn_positions(words, np.zeros((48, 32)), np.zeros((48, 16)), cell="gru").shape
    (8, 20, 16)
    """
    function = "rnn_positions"
    _check_encodings.choice(function, "cell", cell, tuple(CELLS))
    gates, names, next_state = CELLS[cell]
    given = weight_ih, weight_hh, bias_ih, bias_hh
    weight_ih, weight_hh, bias_ih, bias_hh = _check_encodings.cell_weights(function, given, gates)
    reverse = _check.flag(function, "reverse", reverse)
    size = weight_hh.shape[1]
    if np.ndim(inputs) == 0:
        leading, length, found = (), _check_numbers.whole(function, "inputs", inputs), np.float32
        read = np.broadcast_to(bias_ih, (1, length, gates * size))
    else:
        inputs = _check_encodings.floats(function, "inputs", inputs)
        _check_encodings.inputs_fit(function, inputs, weight_ih)
        (*leading, length, width), found = inputs.shape, inputs.dtype
        read = inputs.astype(np.float64).reshape(math.prod(leading), length, width)
        read = read @ weight_ih.T + bias_ih
    shape = (*leading, length, size)
    dtype = _check_encodings.dtype(function, found if dtype is None else dtype)
    state = _check_encodings.states(function, start, names, (*leading, size))
    state = [one.reshape(len(read), size) for one in state]
    table = np.empty((len(read), length, size), dtype)
    for i in reversed(range(length)) if reverse else range(length):
        state = next_state(read[:, i], state, state[0] @ weight_hh.T + bias_hh)
        table[:, i] = state[0]
    return table.reshape(shape)


def _tanh(read: np.ndarray, state: State, recalled: np.ndarray) -> State:
    return [np.tanh(read + recalled)]


def _gru(read: np.ndarray, state: State, recalled: np.ndarray) -> State:
    (xr, xz, xn), (hr, hz, hn) = np.split(read, 3, axis=-1), np.split(recalled, 3, axis=-1)
    update = _sigmoid(xz + hz)
    new = np.tanh(xn + _sigmoid(xr + hr) * hn)
    return [(1 - update) * new + update * state[0]]


def _lstm(read: np.ndarray, state: State, recalled: np.ndarray) -> State:
    enter, forget, new, leave = np.split(read + recalled, 4, axis=-1)
    cell = _sigmoid(forget) * state[1] + _sigmoid(enter) * np.tanh(new)
    return [_sigmoid(leave) * np.tanh(cell), cell]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)  # no overflow


# gates, names of the parts of the state, and the function that makes the next state
CELLS = {
    "tanh": (1, ("start",), _tanh),
    "gru": (3, ("start",), _gru),
    "lstm": (4, ("start[0]", "start[1]"), _lstm),
}
