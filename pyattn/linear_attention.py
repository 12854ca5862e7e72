"""Linear attention: what its arguments mean. How it is computed is in csrc/linear_attention.c."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyattn import _check, _core
from pyattn import _check_linear_attention as _check_linear
from pyattn._out import handed_over
from pyattn._pieces import as_plain
from pyattn.attention import _given_order, _heads_first, _operands, _result, _size_one

__all__ = ["linear_attention"]


def linear_attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    feature_map: str | None = "elu",
    causal: bool = False,
    decay: Any = None,
    beta: Any = None,
    scale: float | None = None,
    normalize: bool | None = None,
    state: Any = None,
    return_state: bool = False,
    key_lengths: Any = None,
    chunk_size: int = 64,
    layout: str = "bhld",
    out: np.ndarray | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Attention without a softmax, whose past is a matrix of fixed size.

    What the tokens so far leave behind is a state S of each key head, (D, Dv). With the feature map
    phi, token t changes it and then reads it::

        S[t] = exp(decay[t]) * S[t - 1] + outer(phi(key[t]), value[t])
        out[t] = scale * S[t].T @ phi(query[t])

    The same is attention with the weights ``phi(query[t]) @ phi(key[j]) * exp(decay[j + 1] + ... +
    decay[t])`` for j <= t, and is computed so within chunks of tokens: time grows with L, not with
    its square, and a stream goes on where it stopped with `state` and `return_state`.

    Parameters
    ----------
    query : array_like, (..., H, L, D)
    key : array_like, (..., Hkv, S, D)
    value : array_like, (..., Hkv, S, Dv)
        dtypes, strides, grouped heads and leading axes as of `attention`. S == L if causal.
    feature_map : {"elu", "relu", "identity"} or None
        phi, element by element: ``elu(x) + 1``, ``max(x, 0)``, or x itself, which is also None.
    causal : bool, default False
        Whether a query sees the tokens up to its own, or all of them.
    decay : float array_like, optional
        In log space, so 0 keeps the state and -inf forgets it; above 0 the state grows. A number;
        one for each key head, (Hkv,); for each token, the shape of `key` without its last axis; or
        for each token and row of the state, the shape of `key`. Extents of 1 are repeated. Needs
        ``causal=True``.
    beta : float array_like, optional
        The delta rule: a token replaces what the state has for its key, instead of adding to it::

            F = exp(decay[t]) * S[t - 1]
            S[t] = F + beta[t] * outer(key[t], value[t] - F.T @ key[t])

        A number, (Hkv,), or the shape of `key` without its last axis. Keys should have a length of
        1. Needs ``causal=True`` and ``feature_map="identity"``; never normalised.
    scale : float, optional
        Default ``D ** -0.5``. Where it is normalised it cancels and does not count.
    normalize : bool, optional
        Divide out[t] by ``phi(query[t]) @ z[t]``, where z is the state of values of 1, so that the
        weights sum to 1. Default True for elu and relu, False for identity. A row whose divisor is
        0 is exactly 0.
    state : float array_like, optional
        S before the first token, (..., Hkv, D, Dv), or of normalised calls (..., Hkv, D, Dv + 1),
        whose last column is z. Default zeros. Leading axes broadcast.
    return_state : bool, default False
        Also return S behind the last token.
    key_lengths : int or (B,) ints, optional
        Tokens at or past the length are padding: they do not change the state and are never read.
        Of causal calls their rows of the result are 0.
    chunk_size : int, 1 to 64, default 64
        How many tokens are computed at once. With 1, tokens are taken one by one as the formulas
        have it; so they always are by the delta rule, with a decay for each row of the state, and
        in a chunk of a single token.
    layout : {"bhld", "blhd"}
        Order of the axes of query, key, value and out, and of decay and beta in the shape of `key`;
        not of the state.
    out : ndarray, (..., H, L, Dv), optional
        Written and returned. May overlap an input.

    Returns
    -------
    out : ndarray, (..., H, L, Dv)
        In query's dtype; (..., L, H, Dv) with ``layout="blhd"``; (L, Dv) if all inputs have 2 axes.
    state : ndarray, (..., Hkv, D, Dv) or (..., Hkv, D, Dv + 1)
        Only with ``return_state=True``; without Hkv if all inputs have 2 axes. float64 for float64,
        else float32.

    Raises
    ------
    TypeError, ValueError, MemoryError, KeyboardInterrupt
        As `attention`; also options that exclude each other.

    Notes
    -----
    Katharopoulos et al. 2020, arXiv 2006.16236 (elu, normalised); Sun et al. 2023, arXiv 2307.08621
    (RetNet: a decay for each head); Yang et al. 2023, arXiv 2312.06635 (GLA: for each row); Yang et
    al. 2024, arXiv 2406.06484 and 2412.06464 (delta rule, gated). Without normalisation it is the
    ONNX operator LinearAttention (opset 27); see docs/linear-attention.md.

    The bits of a row depend on the chunks before it and its own, not on threads, strides, other
    rows or the batch: a call that goes on behind a multiple of `chunk_size` tokens has the bits of
    one call.

    Examples
    --------
    >>> import numpy as np, pyattn
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = (rng.standard_normal((1, 8, 200, 64), dtype=np.float32) for _ in range(3))
    >>> out, state = pyattn.linear_attention(q, k, v, causal=True, return_state=True)
    >>> state.shape
    (1, 8, 64, 65)

    A stream in two parts:

    >>> options = {"causal": True, "feature_map": None, "decay": np.log([0.9] * 8)}
    >>> whole = pyattn.linear_attention(q, k, v, **options)
    >>> first, second = np.s_[..., :128, :], np.s_[..., 128:, :]
    >>> a, state = pyattn.linear_attention(
    ...     q[first], k[first], v[first], return_state=True, **options)
    >>> b = pyattn.linear_attention(q[second], k[second], v[second], state=state, **options)
    >>> np.array_equal(np.concatenate([a, b], axis=-2), whole)
    True
    """
    function = "linear_attention"
    names, given = ("query", "key", "value"), (query, key, value)
    (q, k, v), leading, two_axes = _operands(function, layout, names, given)
    feature = _check_linear.feature_map(function, feature_map)
    causal = _check.flag(function, "causal", causal)
    want_state = _check.flag(function, "return_state", return_state)
    chunk = _check_linear.chunk_size(function, chunk_size)
    computed = _check.computed(q.dtype)
    scale = _check.scale(function, scale, q.shape[-1], computed)
    if normalize is None:
        normalize = feature != "identity"
    normalize = _check.flag(function, "normalize", normalize)
    _check_linear.order(function, causal, q, k, decay=decay, beta=beta)
    if beta is not None:
        _check_linear.delta_rule(function, feature, normalize)
        beta = _gate(function, "beta", beta, key, layout, k, computed)
    if decay is not None:
        decay = _gate(function, "decay", decay, key, layout, k, computed)
    if key_lengths is not None:
        key_lengths = _check.per_batch(
            function, "key_lengths", key_lengths, leading, 0, k.shape[-2]
        )
    state_shape = (*leading, k.shape[-3], k.shape[-1], v.shape[-1] + normalize)
    if state is not None:
        shape = state_shape[1:] if two_axes else state_shape
        state = _check_linear.state(function, state, shape, normalize)
        state = state.astype(computed, copy=False).reshape(state_shape)
    shape = (*leading, *q.shape[-3:-1], v.shape[-1])
    inputs = [a for a in (q, k, v, decay, beta, state) if a is not None]
    result = _result(function, out, _given_order(shape, layout, two_axes), q.dtype, inputs, ())
    new_state = np.empty(state_shape, computed) if want_state else None
    code = _check_linear.FEATURE_MAPS.index(feature)
    options = _Options(decay, beta, key_lengths, code, causal, normalize, scale, chunk)
    _run(q, k, v, _heads_first(result, layout), (state, new_state), options)
    result = handed_over(result, out)
    if new_state is None:
        return result
    return result, new_state[0] if two_axes else new_state


class _Options(NamedTuple):
    """What the options mean, checked; in the order of `_core.linear_attention`."""

    decay: np.ndarray | None  # (*leading, Hkv, S, 1 or D)
    beta: np.ndarray | None  # (*leading, Hkv, S, 1)
    key_lengths: np.ndarray | None
    feature: int  # by pa_feature
    causal: bool
    normalize: bool
    scale: float
    chunk: int


def _gate(
    function: str,
    name: str,
    value: Any,
    key: Any,
    layout: str,
    k: np.ndarray,
    computed: np.dtype,
) -> np.ndarray:
    """(*leading, Hkv, S, 1 or D), with strides of 0 where it is repeated; `k` is the key, heads
    first and broadcast."""
    key = np.asarray(key)
    most = key.ndim if name == "decay" else key.ndim - 1
    given = _check_linear.gate(function, name, value, key, most)
    # By its shape and not its strides, on which bits must not depend.
    alike = given.ndim < key.ndim or given.shape[-1] == 1  # all rows of the state fade alike
    a = given.astype(computed, copy=False)
    if a.ndim == 1 < key.ndim - 1 and layout == "bhld":  # one per key head
        a = a[:, None]
    a = _check_linear.gate_shape(function, name, a, given, key, most)
    if a.ndim < key.ndim:
        a = a[..., None]
    a = _heads_first(a, layout)
    if alike:
        a = a[..., :1]
    return np.broadcast_to(a, (*k.shape[:-1], a.shape[-1]))


def _run(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    out: np.ndarray,
    states: tuple[np.ndarray | None, np.ndarray | None],
    options: _Options,
) -> None:
    """Heads first; extents may be 0. `states` are the one before, and the one to be written."""
    state, new_state = states
    if not out.size and (new_state is None or not new_state.size):
        return
    if not k.shape[-1]:  # nothing that a query could ask for
        out[...] = 0
        return
    if not v.shape[-1]:  # only the sums of the keys: behind a column that nobody wants
        if state is not None:
            state = np.concatenate([np.zeros_like(state), state], axis=-1)
        wider = np.empty((*new_state.shape[:-1], 2), new_state.dtype)
        _run(q, k, _size_one(v), np.empty((*out.shape[:-1], 1), q.dtype), (state, wider), options)
        new_state[...] = wider[..., 1:]
        return
    if not k.shape[-2]:  # as a token of padding
        k, v = (np.zeros((*a.shape[:-2], 1, a.shape[-1]), a.dtype) for a in (k, v))
        options = options._replace(
            decay=None, beta=None, key_lengths=np.zeros(k.shape[:-3], np.int64)
        )
    if not out.size:  # only the state: any queries will do
        q, out = k, np.empty((*k.shape[:-1], v.shape[-1]), k.dtype)
    _core.linear_attention(
        as_plain(q), as_plain(k), as_plain(v), as_plain(out), state, new_state, *options
    )
