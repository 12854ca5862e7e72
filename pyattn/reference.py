"""The slow twin: every public function in plain NumPy, float64. It is the specification.

Written to be read, with whole L x S arrays and no thought of speed. The tests compare the fast
functions with these. Pass longdouble arrays to compute in longdouble.
"""

from __future__ import annotations

import numpy as np

__all__ = ["attention", "attention_weights", "merge_attention"]


def _wide(x):
    x = np.asarray(x)
    return x if x.dtype == np.longdouble else x.astype(np.float64)


def _heads_first(x, layout):
    x = _wide(x)
    if x.ndim == 2:
        return x[None]
    return np.swapaxes(x, -3, -2) if layout == "blhd" else x


def _per_batch(x):
    return np.asarray(x)[..., None, None, None]


def visible(shape, *, causal=False, query_start=None, key_lengths=None):
    """Which key may be seen by which query: bool, broadcasts to ``shape`` = (..., H, L, S)."""
    queries, keys = shape[-2:]
    i, j = np.arange(queries)[:, None], np.arange(keys)
    seen = np.ones((queries, keys), bool)
    if causal:
        start = keys - queries if query_start is None else _per_batch(query_start)
        seen = seen & (j <= i + start)
    if key_lengths is not None:
        seen = seen & (j < _per_batch(key_lengths))
    return np.broadcast_to(seen, shape)


def _scores(query, key, scale, layout):
    q, k = _heads_first(query, layout), _heads_first(key, layout)
    k = np.repeat(k, q.shape[-3] // k.shape[-3] if k.shape[-3] else 1, axis=-3)
    if scale is None:
        scale = q.shape[-1] ** -0.5 if q.shape[-1] else 1.0
    return np.einsum("...ld,...sd->...ls", q, k) * scale


def _softmax(scores, seen):
    """Weights and log-sum-exp of each row over its visible keys; nothing visible: 0 and -inf."""
    scores = np.where(seen, scores, -np.inf)
    some = seen.any(axis=-1, keepdims=True)
    top = np.where(some, scores.max(axis=-1, keepdims=True, initial=-np.inf), 0)
    p = np.where(seen, np.exp(scores - top), 0)
    total = p.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = np.where(some, top + np.log(total), -np.inf)[..., 0]
    return p / np.where(some, total, 1), lse


def attention(query, key, value, *, scale=None, layout="bhld", return_lse=False, **visibility):
    """See `pyattn.attention`."""
    scores = _scores(query, key, scale, layout)
    v = _heads_first(value, layout)
    group = scores.shape[-3] // v.shape[-3] if v.shape[-3] else 1
    v = np.repeat(v, group, axis=-3)
    leading = np.broadcast_shapes(scores.shape[:-3], v.shape[:-3])
    scores = np.broadcast_to(scores, leading + scores.shape[-3:])
    weights, lse = _softmax(scores, visible(scores.shape, **visibility))
    # A weight of 0 must not meet a value that is not to be seen: 0 * NaN is NaN.
    terms_seen = visible(scores.shape, **visibility)
    out = np.zeros(scores.shape[:-1] + v.shape[-1:], dtype=scores.dtype)
    if np.isfinite(v).all():
        out = np.einsum("...ls,...sd->...ld", weights, v)
    else:
        for j in range(v.shape[-2]):
            term = weights[..., j, None] * v[..., j, None, :]
            out = out + np.where(terms_seen[..., j, None], term, 0)
    if np.ndim(query) == np.ndim(key) == np.ndim(value) == 2:
        out, lse = out[0], lse[0]
    elif layout == "blhd":
        out = np.swapaxes(out, -3, -2)
    return (out, lse) if return_lse else out


def attention_weights(query, key, *, scale=None, layout="bhld", **visibility):
    """See `pyattn.attention_weights`."""
    scores = _scores(query, key, scale, layout)
    weights, _ = _softmax(scores, visible(scores.shape, **visibility))
    return weights[0] if np.ndim(query) == np.ndim(key) == 2 else weights


def merge_attention(outs, lses):
    """See `pyattn.merge_attention`."""
    outs, lses = np.stack([_wide(o) for o in outs]), np.stack([_wide(x) for x in lses])
    weights, lse = _softmax(np.moveaxis(lses, 0, -1), np.moveaxis(lses, 0, -1) > -np.inf)
    weights = np.moveaxis(weights, -1, 0)[..., None]
    return (np.where(weights > 0, outs, 0) * weights).sum(axis=0), lse
