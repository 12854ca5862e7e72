"""Relative position biases that are a function of the distance: KERPLE, FIRE, Swin v2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyattn import _check_numbers, _check_relative
from pyattn.biases import Bias, dense, relative, relative_grid
from pyattn.positional._relative import key_minus_query

Layers = Sequence[tuple[np.ndarray, np.ndarray]]


def kerple_bias(
    p: Any,
    a: Any,
    queries: int,
    keys: int | None = None,
    *,
    kind: str = "log",
    query_start: int | None = None,
) -> Bias:
    """KERPLE: a kernel of the distance ``d = |j - i|`` with two learned numbers per head.

    ``kind="log"``
        ``-p * log(1 + a * d)``
    ``kind="power"``
        ``-a * d ** p``: here `p` is the exponent, as in the parameters of the authors' code.

    **Where the queries stand**: query ``i`` is at ``i + query_start`` on the key axis, by default
    with ``query_start = S - L``, so that the ends are aligned, right for decoding. This is the
    default of `pyattn.attention` as well; a call with another `query_start` needs the same here.

    Parameters
    ----------
    p, a : array_like of float, (H,)
        The parameters ``bias_p`` and ``bias_a``. As in the authors' code a number below 0.01
        counts as 0.01, and an exponent above 2 as 2.
    queries, keys : int
        L and S; `keys` is `queries` by default.
    kind : {"log", "power"}
        Which kernel.
    query_start : int, optional
        The place of query 0 on the key axis. Default ``S - L``.

    Returns
    -------
    Bias, (H, L, S)
        float64. It holds (H, L + S - 1) numbers, one per distance.

    Raises
    ------
    TypeError
        Another dtype; sizes that are not integers.
    ValueError
        Parameters of another shape; an unknown kind.

    Notes
    -----
    Chi et al. 2022, "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation",
    arXiv 2205.09921, section 4, for causal attention; later keys, if they may be seen, count by
    their distance too.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import kerple_bias
    >>> np.asarray(kerple_bias([1.0], [0.5], 2, 3, kind="power"))[0]
    array([[-0.5, -0. , -0.5],
           [-1. , -0.5, -0. ]])
    """
    p, a = _check_relative.per_head("kerple_bias", ("p", "a"), (p, a))
    queries, keys = _check_numbers.sizes("kerple_bias", queries, keys)
    _check_relative.kerple_kind("kerple_bias", kind)
    start = _check_relative.start("kerple_bias", query_start, queries, keys)
    distance = np.abs(key_minus_query(queries, keys, start)).astype(np.float64)
    p, a = np.maximum(p, 0.01)[:, None], np.maximum(a, 0.01)[:, None]
    if kind == "log":
        return relative(-p * np.log1p(a * distance), queries, keys)
    return relative(-a * distance ** np.minimum(p, 2), queries, keys)


def swin_v2_bias(
    weight_1: Any,
    bias_1: Any,
    weight_2: Any,
    window: int | tuple[int, int],
    *,
    pretrained_window: int | tuple[int, int] | None = None,
) -> Bias:
    """The continuous relative position bias of Swin transformers v2, from its small network.

    Each distance, query minus key, becomes ``sign(x) * log2(1 + |x|) / 3`` along both axes, with
    ``x = 8 * distance / (extent - 1)``; then come a layer, ReLU, another layer and ``16 *
    sigmoid``.

    Parameters
    ----------
    weight_1 : array_like of float, (hidden, 2)
        ``cpb_mlp.0.weight``; input 0 is the distance down, 1 the one across.
    bias_1 : array_like of float, (hidden,)
        ``cpb_mlp.0.bias``.
    weight_2 : array_like of float, (H, hidden)
        ``cpb_mlp.2.weight``. There is no second bias.
    window : int or (height, width)
        The L = S pixels of a window, numbered row by row.
    pretrained_window : int or (height, width), optional
        The extents to divide by, if the model was trained with another window. At least 2; None
        where a configuration has 0.

    Returns
    -------
    Bias, (H, L, L)
        float64.

    Raises
    ------
    TypeError
        Another dtype; a window that is not of integers.
    ValueError
        Layers that do not fit together.

    Notes
    -----
    Liu et al. 2022, "Swin Transformer V2", arXiv 2111.09883, section 3.3. Along an axis of extent
    1 there is no distance but 0.

    The model's attention is the cosine of queries and keys, times a number per head::

        tau = np.exp(np.minimum(logit_scale, np.log(100)))          # (H, 1, 1)
        q = q * (tau / np.linalg.norm(q, axis=-1, keepdims=True))
        k = k / np.linalg.norm(k, axis=-1, keepdims=True)
        pyattn.attention(q, k, v, bias=bias, scale=1.0)

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import swin_v2_bias
    >>> bias = swin_v2_bias(np.ones((1, 2)), [0.0], [[1.0]], (1, 2))
    >>> np.asarray(bias)[0].round(3)
    array([[ 8.   ,  8.   ],
           [11.873,  8.   ]])
    """
    window = _check_numbers.pair("swin_v2_bias", "window", window)
    extents = window
    if pretrained_window is not None:
        extents = _check_numbers.pair("swin_v2_bias", "pretrained_window", pretrained_window)
        for extent in extents:
            _check_numbers.whole("swin_v2_bias", "pretrained_window", extent, 2)
    names = ("weight_1", "bias_1")
    layer_1 = _check_relative.linear("swin_v2_bias", names, weight_1, bias_1, 2)
    names = ("weight_2", "")
    layer_2 = _check_relative.linear("swin_v2_bias", names, weight_2, None, len(layer_1[0]))

    axes = [
        _log_spaced(8 * np.arange(1 - n, n) / max(extent - 1, 1))
        for n, extent in zip(window, extents, strict=True)
    ]
    coordinates = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    # 16 * sigmoid(x), in a form that cannot overflow.
    plane = 8 + 8 * np.tanh(_network(coordinates, [layer_1, layer_2]) / 2)
    return relative_grid(plane.transpose(2, 0, 1), window)


def _log_spaced(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.log2(1 + np.abs(x)) / 3


def _network(x: np.ndarray, layers: Layers) -> np.ndarray:
    """Linear layers with ReLU between them, in float64."""
    for n, (weight, bias) in enumerate(layers):
        x = np.maximum(x, 0) if n else x
        x = x @ weight.T.astype(np.float64) + bias.astype(np.float64)
    return x


def fire_bias(
    layers: Sequence[tuple[Any, Any]],
    queries: int,
    keys: int | None = None,
    *,
    c: float,
    threshold: float,
    eps: float = 1e-6,
    query_start: int | None = None,
) -> Bias:
    """FIRE: a small network of the distance, relative to how far the query is from the start.

    ``network(psi(|i - j|) / (psi(max(threshold, i)) + eps))``, ``psi(x) = log(1 + |c * x|)``,
    where ``i`` and ``j`` are positions on the key axis, from 0.

    If no query is past the threshold this is a function of the distance, and held as such: (H, L +
    S - 1) numbers. **Otherwise it depends on the query as well and is a dense array**, (H, L, S).

    **Where the queries stand**: query ``i`` is at ``i + query_start`` on the key axis, by default
    with ``query_start = S - L``, so that the ends are aligned, right for decoding. This is the
    default of `pyattn.attention` as well; a call with another `query_start` needs the same here.

    Parameters
    ----------
    layers : list of (weight, bias)
        Linear layers with ReLU between them, weights (outputs, inputs) as in PyTorch, biases
        (outputs,) or None. The first has 1 input, the last H outputs.
    queries, keys : int
        L and S; `keys` is `queries` by default.
    c : float
        The learned scale of distances.
    threshold : float
        The learned threshold, of which the size counts: ``init_L * L_multiplier``.
    eps : float, default 1e-6
        Keeps the quotient finite, as in the authors' code; above 0.
    query_start : int, optional
        The place of query 0 on the key axis. Default ``S - L``.

    Returns
    -------
    Bias, (H, L, S)
        Computed in float64, and held so by distance; a dense one is float32 unless a weight or
        bias is float64.

    Raises
    ------
    TypeError
        Another dtype; numbers of another kind.
    ValueError
        Layers that do not fit together; numbers that are not finite.

    Notes
    -----
    Li et al. 2023, "Functional Interpolation for Relative Positions Improves Long Context
    Transformers", arXiv 2310.04418, section 3 and the code in the appendix. The paper has causal
    attention only; here as in its code keys after the query count by their distance as well.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattn.positional import fire_bias
    >>> layers = [([[1.0], [-1.0]], [0.0, 0.5]), ([[1.0, 2.0]], None)]
    >>> np.asarray(fire_bias(layers, 2, 3, c=1.0, threshold=7.0)).round(3)
    array([[[0.667, 1.   , 0.667],
            [0.528, 0.667, 1.   ]]])
    >>> fire_bias(layers, 9, c=1.0, threshold=7.0)
    <bias dense (1, 9, 9)>
    """
    layers = _check_relative.linear_layers("fire_bias", layers, 1)
    queries, keys = _check_numbers.sizes("fire_bias", queries, keys)
    c = _check_relative.finite("fire_bias", "c", c)
    threshold = abs(_check_relative.finite("fire_bias", "threshold", threshold))
    eps = _check_relative.finite("fire_bias", "eps", eps, positive=True)
    start = _check_relative.start("fire_bias", query_start, queries, keys)

    distance = key_minus_query(queries, keys, start)
    near = np.log1p(np.abs(c * distance))
    if start + queries - 1 <= threshold:
        far = np.log1p(abs(c * threshold)) + eps
        return relative(_network(near[:, None] / far, layers).T, queries, keys)
    double = any(a.dtype == np.float64 for layer in layers for a in layer)
    bias = np.empty((len(layers[-1][0]), queries, keys), np.float64 if double else np.float32)
    for i in range(queries):  # all at once the hidden layer would take many times the result
        far = np.log1p(abs(c * max(threshold, start + i))) + eps
        ratio = near[queries - 1 - i :][:keys, None] / far
        bias[:, i] = _network(ratio, layers).T
    return dense(bias)
