"""The slow twin: every public function in plain NumPy, float64. It is the specification.

Written to be read, with whole L x S arrays and no thought of speed. The tests compare the fast
functions with these. Pass longdouble arrays to compute in longdouble.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "KVCache",
    "add_positions",
    "attention",
    "attention_as_conv",
    "attention_topk",
    "attention_varlen",
    "attention_weights",
    "layer_norm",
    "linear",
    "linear_attention",
    "merge_attention",
    "multi_head_attention",
    "neighborhood_attention",
    "rms_norm",
    "rope",
    "window_attention",
]


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


def _start(shape, query_start):
    """Where query 0 stands on the key axis."""
    return shape[-1] - shape[-2] if query_start is None else _per_batch(query_start)


def _dense_bias(bias, shape, query_start=None):
    """What is added to scores of that shape. ALiBi: -slope * |j - i - start| of any sizes."""
    if bias is None:
        return np.zeros(())
    if not hasattr(bias, "parts"):
        return _wide(bias)
    i, j = np.arange(shape[-2])[:, None], np.arange(shape[-1])
    total = np.zeros(())
    for part in bias.parts():
        if hasattr(part.piece, "slopes"):
            slopes = np.asarray(part.piece.slopes, np.float64)[..., None, None]
            total = total - slopes * abs(j - i - _start(shape, query_start))
        else:
            total = total + _wide(part)
    return total


def visible(
    shape,
    *,
    mask=None,
    bias=None,
    causal=False,
    window=None,
    query_start=None,
    key_lengths=None,
):
    """Which key may be seen by which query: bool, broadcasts to ``shape`` = (..., H, L, S)."""
    i, j = np.arange(shape[-2])[:, None], np.arange(shape[-1])
    position = i + _start(shape, query_start)
    left, right = (None, None) if window is None else window
    far = 2**61  # farther than any key
    seen = np.ones((shape[-2], shape[-1]), bool)
    if causal:
        seen = seen & (j <= position)
    if left is not None:
        seen = seen & (j >= position - min(left, far))
    if right is not None:
        seen = seen & (j <= position + min(right, far))
    if key_lengths is not None:
        seen = seen & (j < _per_batch(key_lengths))
    if mask is not None:
        seen = seen & np.asarray(mask)
    seen = seen & (_dense_bias(bias, shape, query_start) != -np.inf)
    return np.broadcast_to(seen, shape)


def _scores(query, key, *, scale=None, softcap=None, bias=None, query_start=None, layout="bhld"):
    q, k = _heads_first(query, layout), _heads_first(key, layout)
    k = np.repeat(k, q.shape[-3] // k.shape[-3] if k.shape[-3] else 1, axis=-3)
    if scale is None:
        scale = q.shape[-1] ** -0.5 if q.shape[-1] else 1.0
    scores = np.einsum("...ld,...sd->...ls", q, k) * scale
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    return scores + _dense_bias(bias, scores.shape, query_start)


def _softmax(scores, seen, sinks=None):
    """Weights and log-sum-exp of each row over its visible keys and its sink; nothing visible and
    no sink: 0 and -inf."""
    scores = np.where(seen, scores, -np.inf)
    some = seen.any(axis=-1, keepdims=True)
    top = np.where(some, scores.max(axis=-1, keepdims=True, initial=-np.inf), -np.inf)
    if sinks is not None:
        sinks = _wide(sinks)[:, None, None]
        some = some | (sinks > -np.inf)
        top = np.maximum(top, sinks)
    top = np.where(some, top, 0)
    with np.errstate(invalid="ignore"):
        p = np.where(seen, np.exp(scores - top), 0)
    total = p.sum(axis=-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sinks - top)
    with np.errstate(divide="ignore"):
        lse = np.where(some, top + np.log(total), -np.inf)[..., 0]
    return p / np.where(some, total, 1), lse


def attention(
    query,
    key,
    value,
    *,
    scale=None,
    softcap=None,
    sinks=None,
    layout="bhld",
    return_lse=False,
    **visibility,
):
    """See `pyattn.attention`."""
    scores = _scores(
        query,
        key,
        scale=scale,
        softcap=softcap,
        layout=layout,
        bias=visibility.get("bias"),
        query_start=visibility.get("query_start"),
    )
    v = _heads_first(value, layout)
    group = scores.shape[-3] // v.shape[-3] if v.shape[-3] else 1
    v = np.repeat(v, group, axis=-3)
    leading = np.broadcast_shapes(scores.shape[:-3], v.shape[:-3])
    scores = np.broadcast_to(scores, leading + scores.shape[-3:])
    seen = visible(scores.shape, **visibility)
    weights, lse = _softmax(scores, seen, sinks)
    if np.isfinite(v).all():
        out = np.einsum("...ls,...sd->...ld", weights, v)
    else:  # a weight of 0 must not meet a value that is not to be seen: 0 * NaN is NaN
        out = np.zeros(scores.shape[:-1] + v.shape[-1:], dtype=scores.dtype)
        for j in range(v.shape[-2]):
            with np.errstate(invalid="ignore"):
                term = weights[..., j, None] * v[..., j, None, :]
            out = out + np.where(seen[..., j, None], term, 0)
    if np.ndim(query) == np.ndim(key) == np.ndim(value) == 2:
        out, lse = out[0], lse[0]
    elif layout == "blhd":
        out = np.swapaxes(out, -3, -2)
    return (out, lse) if return_lse else out


def attention_varlen(
    query,
    key,
    value,
    cu_seqlens_q,
    cu_seqlens_k=None,
    *,
    bias=None,
    causal=False,
    window=None,
    scale=None,
    softcap=None,
    sinks=None,
    return_lse=False,
):
    """See `pyattn.attention_varlen`: one sequence after the other."""
    q_ends = np.asarray(cu_seqlens_q)
    k_ends = q_ends if cu_seqlens_k is None else np.asarray(cu_seqlens_k)
    query, key, value = _wide(query), _wide(key), _wide(value)
    out = np.zeros((*query.shape[:2], value.shape[-1]), query.dtype)
    lse = np.zeros(query.shape[1::-1], query.dtype)
    for n in range(len(q_ends) - 1):
        q, k = slice(q_ends[n], q_ends[n + 1]), slice(k_ends[n], k_ends[n + 1])
        own = _of_sequence(bias, n, (q.stop - q.start, k.stop - k.start))
        out[q], lse[:, q] = attention(
            query[q],
            key[k],
            value[k],
            bias=own,
            causal=causal,
            window=window,
            scale=scale,
            softcap=softcap,
            sinks=sinks,
            layout="blhd",
            return_lse=True,
        )
    return (out, lse) if return_lse else out


def _of_sequence(bias, n, sizes):
    """ALiBi slopes (H,) or (N, H) as the dense bias of sequence `n`."""
    if bias is None:
        return None
    i, j = np.arange(sizes[0])[:, None], np.arange(sizes[1])
    total = np.zeros(())
    for part in bias.parts():
        slopes = np.atleast_2d(part.piece.slopes)
        slopes = slopes[n if len(slopes) > 1 else 0]
        total = total - slopes[:, None, None] * abs(j - i - (sizes[1] - sizes[0]))
    return total


def attention_weights(
    query,
    key,
    *,
    scale=None,
    softcap=None,
    sinks=None,
    layout="bhld",
    **visibility,
):
    """See `pyattn.attention_weights`."""
    scores = _scores(
        query,
        key,
        scale=scale,
        softcap=softcap,
        layout=layout,
        bias=visibility.get("bias"),
        query_start=visibility.get("query_start"),
    )
    weights, _ = _softmax(scores, visible(scores.shape, **visibility), sinks)
    return weights[0] if np.ndim(query) == np.ndim(key) == 2 else weights


def attention_topk(
    query, key, k, *, scale=None, softcap=None, sinks=None, layout="bhld", **visibility
):
    """See `pyattn.attention_topk`."""
    weights = attention_weights(
        query, key, scale=scale, softcap=softcap, sinks=sinks, layout=layout, **visibility
    )
    shape = weights.shape if weights.ndim > 2 else (1, *weights.shape)
    seen = visible(shape, **visibility)
    seen = seen[0] if weights.ndim == 2 else seen
    order = np.argsort(np.where(seen, -weights, np.inf), axis=-1, kind="stable")[..., :k]
    strongest = np.take_along_axis(weights, order, axis=-1)
    there = np.take_along_axis(seen, order, axis=-1)
    return np.where(there, order, -1), np.where(there, strongest, 0)


def merge_attention(outs, lses):
    """See `pyattn.merge_attention`."""
    outs, lses = np.stack([_wide(o) for o in outs]), np.stack([_wide(x) for x in lses])
    weights, lse = _softmax(np.moveaxis(lses, 0, -1), np.moveaxis(lses, 0, -1) > -np.inf)
    weights = np.moveaxis(weights, -1, 0)[..., None]
    return (np.where(weights > 0, outs, 0) * weights).sum(axis=0), lse


def add_positions(x, table, positions=None):
    """See `pyattn.positional.add_positions`."""
    x = _wide(x)
    return x + _wide(table)[np.arange(x.shape[-2]) if positions is None else np.asarray(positions)]


def rope(x, positions, frequencies, *, interleaved, layout="bhld"):
    """See `pyattn.positional.rope`: a pair is a complex number, times ``exp(i p f)``. Of
    `RopeFrequencies` or inverse frequencies; angles are products in float64."""
    x = _wide(x)
    swapped = layout == "blhd" and x.ndim > 2
    x = np.swapaxes(x, -3, -2) if swapped else x
    f = np.asarray(getattr(frequencies, "inv_freq", frequencies), np.float64)
    pairs = len(f)
    axes = getattr(frequencies, "axes", np.zeros(pairs, int))
    p = np.arange(x.shape[-2]) if positions is None else np.asarray(positions, np.float64)
    several = getattr(frequencies, "axis_count", 1) > 1
    p = p[axes] if several else np.broadcast_to(p, (pairs, *p.shape))
    p = np.moveaxis(p, 0, -1)  # (..., L, pairs), or (..., 1, pairs)
    factor = getattr(frequencies, "attention_factor", 1.0)
    factor = factor * np.exp2(p * getattr(frequencies, "decay", 0.0))
    turn = factor * np.exp(1j * (p * f))
    turn = turn[..., None, :, :] if x.ndim > 2 and turn.ndim > 2 else turn
    rotated = x[..., : 2 * pairs]
    if interleaved:
        a, b = rotated[..., 0::2], rotated[..., 1::2]
    else:
        a, b = rotated[..., :pairs], rotated[..., pairs:]
    z = (a + 1j * b) * turn
    out = x.copy()
    if interleaved:
        out[..., 0 : 2 * pairs : 2], out[..., 1 : 2 * pairs : 2] = z.real, z.imag
    else:
        out[..., :pairs], out[..., pairs : 2 * pairs] = z.real, z.imag
    return np.swapaxes(out, -3, -2) if swapped else out


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


_ACTIVATIONS = {
    None: lambda x: x,
    "gelu": lambda x: x / 2 * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "silu": lambda x: x * _sigmoid(x),
    "relu": lambda x: np.maximum(x, 0),
}


def linear(x, weight, bias=None, *, activation=None, residual=None, gate=None):
    """What `pyattn.layers.Linear` of these computes."""
    y = _wide(x) @ _wide(weight).T
    with np.errstate(over="ignore"):  # of exp(-x), whose inverse is 0 then
        y = _ACTIVATIONS[activation](y if bias is None else y + _wide(bias))
    y = y if gate is None else y * _wide(gate)
    return y if residual is None else y + _wide(residual)


def layer_norm(x, weight=None, bias=None, *, eps=1e-5, residual=None):
    y = _wide(x) if residual is None else _wide(x) + _wide(residual)
    y = y - y.mean(axis=-1, keepdims=True)
    y = y / np.sqrt(np.mean(y**2, axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * _wide(weight)
    return y if bias is None else y + _wide(bias)


def rms_norm(x, weight=None, *, eps=1e-6, residual=None):
    y = _wide(x) if residual is None else _wide(x) + _wide(residual)
    y = y / np.sqrt(np.mean(y**2, axis=-1, keepdims=True) + eps)
    return y if weight is None else y * _wide(weight)


def _append(x, row):
    """One more key, the same in all of (..., S, H, D)."""
    row = np.broadcast_to(row.reshape(x.shape[-2:]), (*x.shape[:-3], 1, *x.shape[-2:]))
    return np.concatenate([x, row], axis=-3)


def multi_head_attention(
    weights,
    num_heads,
    query,
    key=None,
    value=None,
    *,
    frequencies=None,
    interleaved=False,
    positions=None,
    key_positions=None,
    norm_eps=1e-6,
    add_zero_attn=False,
    residual=None,
    scale=None,
    softcap=None,
    sinks=None,
    **visibility,
):
    """See `pyattn.MultiHeadAttention`, of sequences that are not packed: result and weights of each
    head. `weights` are those of `from_weights`; keys that all see are appended to the others."""
    weights = {name: _wide(array) for name, array in weights.items()}
    same = key is None or key is query
    key = query if key is None else key
    value = key if value is None else value

    def heads(x, name, size):
        y = linear(x, weights[f"{name}_weight"], weights.get(f"{name}_bias"))
        y = y.reshape(*y.shape[:-1], y.shape[-1] // size, size)
        norm = weights.get(f"{name}_norm")
        return y if norm is None else rms_norm(y, norm, eps=norm_eps)

    size = len(weights["q_weight"]) // num_heads
    q, k = heads(query, "q", size), heads(key, "k", size)
    v = heads(value, "v", len(weights["v_weight"]) // k.shape[-2])
    leading = np.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
    q, k, v = (np.broadcast_to(a, leading + a.shape[-3:]) for a in (q, k, v))
    queries, keys = q.shape[-3], k.shape[-3]
    start = visibility.get("query_start")
    if frequencies is not None:
        if same and key_positions is None:
            key_positions = positions
        if positions is None:
            first = keys - queries if start is None else np.asarray(start)[..., None]
            positions = first + np.arange(queries)
        q = rope(q, positions, frequencies, interleaved=interleaved, layout="blhd")
        k = rope(k, key_positions, frequencies, interleaved=interleaved, layout="blhd")
    shape = (*leading, num_heads, queries, keys)
    seen = visible(shape, **visibility)
    bias = np.where(seen, _dense_bias(visibility.get("bias"), shape, start), 0)
    extra = [(weights["bias_k"], weights["bias_v"])] if "bias_k" in weights else []
    extra += [(np.zeros(k.shape[-2:]), np.zeros(v.shape[-2:]))] if add_zero_attn else []
    for own_key, own_value in extra:
        k, v = _append(k, own_key), _append(v, own_value)
        seen = np.concatenate([seen, np.ones_like(seen, shape=(*shape[:-1], 1))], axis=-1)
        bias = np.concatenate([bias, np.zeros((*shape[:-1], 1))], axis=-1)
    options = {"mask": seen, "bias": bias, "scale": scale, "softcap": softcap, "layout": "blhd"}
    options["sinks"] = weights.get("sinks") if sinks is None else sinks
    out = attention(q, k, v, **options)
    out = out.reshape(*out.shape[:-2], num_heads * out.shape[-1])
    result = linear(out, weights["out_weight"], weights.get("out_bias"), residual=residual)
    return result, attention_weights(q, k, **options)


def _on_grid(x, grid):
    x = _wide(x)
    return x if grid is None else x.reshape(*x.shape[:-2], *np.atleast_1d(grid), x.shape[-1])


def _as_given(out, x, residual):
    """In the axes of `x`, with the residual added."""
    out = out.reshape(*np.shape(x)[:-1], out.shape[-1])
    return out if residual is None else out + _wide(residual)


def _own_axis(n, width, kernel, step, causal):
    """The places of an axis that the n-th of `width` sees: `kernel` of those that lie whole steps
    from it, around it or shifted inside; or none after it."""
    line = range(n % step, width, step)
    at = line.index(n)
    if causal:
        return line[max(at - kernel + 1, 0) : at + 1]
    first = max(min(at - kernel // 2, len(line) - kernel), 0)
    return line[first : first + kernel]


def neighborhood_attention(
    weights,
    num_heads,
    x,
    kernel_size,
    *,
    dilation=1,
    causal=False,
    table=None,
    grid=None,
    residual=None,
):
    """See `pyattn.images.NeighborhoodAttention`: pixel by pixel, those it sees and the bias.
    `weights` are those of its projections."""
    kernel = (kernel_size,) * 2 if np.ndim(kernel_size) == 0 else kernel_size
    axes = len(kernel)
    step, causal = np.broadcast_to(dilation, axes), np.broadcast_to(causal, axes)
    image = _on_grid(x, grid)
    extents = image.shape[-1 - axes : -1]
    count = math.prod(extents)
    seen, bias = np.zeros((count, count), bool), np.zeros((num_heads, count, count))
    for i, place in enumerate(np.ndindex(*extents)):
        near = [_own_axis(*one) for one in zip(place, extents, kernel, step, causal, strict=True)]
        for at in np.ndindex(*map(len, near)):
            other = np.array([line[n] for line, n in zip(near, at, strict=True)])
            j = np.ravel_multi_index(other, extents)
            seen[i, j] = True
            if table is not None:
                bias[:, i, j] = table[(slice(None), *((other - place) // step + kernel - 1))]
    flat = image.reshape(*image.shape[: -1 - axes], count, image.shape[-1])
    out, _ = multi_head_attention(weights, num_heads, flat, mask=seen, bias=bias)
    return _as_given(out, x, residual)


def window_attention(
    weights, num_heads, x, window, *, shift=0, table=None, grid=None, residual=None
):
    """See `pyattn.images.WindowAttention`, by the words of the paper: the image is rolled and cut
    into windows, and what came around the border is kept apart from the rest. `weights` are those
    of its projections."""
    (h, w), shift = np.broadcast_to(window, 2), np.broadcast_to(shift, 2)
    image = _on_grid(x, grid)
    extents = image.shape[-3:-1]
    rows, columns = extents[0] // h, extents[1] // w

    def windows(a):
        """(..., height, width, C) as (..., windows, pixels, C)."""
        a = np.roll(a, -shift, axis=(-3, -2))
        a = a.reshape(*a.shape[:-3], rows, h, columns, w, a.shape[-1])
        return np.swapaxes(a, -4, -3).reshape(*a.shape[:-5], rows * columns, h * w, a.shape[-1])

    around = [np.arange(n) < s for n, s in zip(extents, shift, strict=True)]
    part = windows((2 * around[0][:, None] + around[1])[..., None])  # (windows, pixels, 1)
    mask = (part == np.swapaxes(part, -2, -1))[:, None]
    bias = np.zeros(())
    if table is not None:
        down, across = np.divmod(np.arange(h * w), w)
        row = (down[:, None] - down + h - 1) * (2 * w - 1) + across[:, None] - across + w - 1
        bias = np.moveaxis(_wide(table)[row], -1, 0)
    out, _ = multi_head_attention(weights, num_heads, windows(image), mask=mask, bias=bias)
    out = out.reshape(*image.shape[:-3], rows, columns, h, w, out.shape[-1])
    out = np.swapaxes(out, -4, -3).reshape(*image.shape[:-1], out.shape[-1])
    return _as_given(np.roll(out, shift, axis=(-3, -2)), x, residual)


def attention_as_conv(kernel, x, bias=None, *, sharpness=None, grid=None, residual=None):
    """What `pyattn.images.attention_as_conv` of a kernel makes of an image: of each position of the
    kernel the neighbour there, or with a sharpness a mean of all pixels around it."""
    kernel, image = _wide(kernel), _on_grid(x, grid)
    height, width = image.shape[-3:-1]
    flat = image.reshape(*image.shape[:-3], height * width, image.shape[-1])
    row, column = np.divmod(np.arange(height * width), width)
    out = np.zeros((*flat.shape[:-1], kernel.shape[-1]))
    for a, b in np.ndindex(*kernel.shape[:2]):
        down = row[:, None] + a - kernel.shape[0] // 2  # which pixel each query looks for
        across = column[:, None] + b - kernel.shape[1] // 2
        squared = (row - down) ** 2 + (column - across) ** 2
        inside = (0 <= down) & (down < height) & (0 <= across) & (across < width)
        if sharpness is None:
            weights = (squared == 0).astype(float)
        else:
            weights, _ = _softmax(-sharpness * squared, np.broadcast_to(inside, squared.shape))
        out = out + weights @ flat @ kernel[a, b]
    return _as_given(out if bias is None else out + _wide(bias), x, residual)


def _kept(x, dtype):
    """Rows of numbers as a cache keeps them, widened again."""
    x = np.asarray(x, np.float32)
    if dtype == "bfloat16":  # to nearest even, of the upper half of the bits
        bits = x.view(np.uint32)
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
        return np.where(np.isnan(x), x, rounded.astype(np.uint32).view(np.float32))
    if dtype == "int8":
        largest = np.abs(x).max(axis=-1, keepdims=True)
        scale = np.where(np.isfinite(largest), largest / np.float32(127), np.nan)
        return np.rint(x / np.where(scale == 0, 1, scale)) * scale
    with np.errstate(over="ignore"):
        return x.astype(dtype).astype(np.float32)


class KVCache:
    """See `pyattn.KVCache`: whole arrays, of which nothing is shared or dropped. There are no pages
    then, and `capacity` is not looked at."""

    def __init__(
        self,
        batch,
        kv_heads,
        head_dim,
        *,
        value_dim=None,
        capacity=None,
        dtype="float32",
        page_size=256,
        window=None,
        keep_first=0,
        rope=None,
        interleaved=None,
    ):
        self._sizes = (head_dim, head_dim if value_dim is None else value_dim)
        self._settings = {"dtype": dtype, "window": window, "keep_first": keep_first}
        self._rope, self._interleaved = rope, interleaved
        self._held = [[np.zeros((kv_heads, 0, n)) for n in self._sizes] for _ in range(batch)]

    @property
    def lengths(self):
        return np.array([keys.shape[1] for keys, _ in self._held], np.int64)

    def _turned(self, x, start):
        if self._rope is None:
            return _wide(x)
        positions = start + np.arange(x.shape[-2])
        return rope(x, positions, self._rope, interleaved=self._interleaved)

    def append(self, key, value, *, lengths=None, rows=None, layout="bhld"):
        rows = range(len(self._held)) if rows is None else rows
        key, value = _heads_first(key, layout), _heads_first(value, layout)
        starts = self.lengths[rows]
        counts = np.broadcast_to(key.shape[2] if lengths is None else lengths, len(rows))
        for b, k, v, start, n in zip(rows, key, value, starts, counts, strict=True):
            new = self._turned(k[:, :n], start), v[:, :n]
            kept = [_kept(x, self._settings["dtype"]) for x in new]
            self._held[b] = [
                np.append(a, x, axis=1) for a, x in zip(self._held[b], kept, strict=True)
            ]
        return starts

    def attend(self, query, *, rows=None, causal=True, query_start=None, layout="bhld", **options):
        rows = list(range(len(self._held)) if rows is None else rows)
        q, lengths = _heads_first(query, layout), self.lengths[rows]
        starts = lengths - q.shape[2] if query_start is None else query_start
        starts = np.broadcast_to(starts, len(rows))
        padded = []
        for which, size in enumerate(self._sizes):
            held = [self._held[b][which] for b in rows]
            whole = np.zeros((len(rows), held[0].shape[0], max(lengths), size))
            for one, x in zip(whole, held, strict=True):
                one[:, : x.shape[1]] = x
            padded.append(whole)
        q = np.stack([self._turned(x, start) for x, start in zip(q, starts, strict=True)])
        options |= {"causal": causal, "query_start": starts, "key_lengths": lengths}
        if self._settings["window"] is not None:
            j = np.arange(max(lengths))
            position = _per_batch(starts) + np.arange(q.shape[2])[:, None]
            recent = j >= position - self._settings["window"]
            options["mask"] = recent | (j < self._settings["keep_first"])
        found = attention(q, *padded, **options)
        out, *lse = found if options.get("return_lse") else (found,)
        out = np.swapaxes(out, 1, 2) if layout == "blhd" else out
        return (out, *lse) if lse else out

    def trim(self, lengths):
        for b, n in enumerate(np.broadcast_to(lengths, len(self._held))):
            self._held[b] = [x[:, :n] for x in self._held[b]]

    def rollback(self, n, rows=None):
        lengths = self.lengths
        lengths[slice(None) if rows is None else rows] -= n
        self.trim(lengths)

    def clear(self):
        self.trim(0)

    def fork(self, rows):
        new = object.__new__(KVCache)
        new.__dict__ = dict(vars(self), _held=[list(self._held[b]) for b in rows])
        return new

    def keys(self, row):
        return self._held[row][0]

    def values(self, row):
        return self._held[row][1]


def _features(x, feature_map):
    if feature_map == "elu":  # elu(x) + 1
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
    return np.maximum(x, 0) if feature_map == "relu" else x


def _gates(gate, key, layout):
    """(..., key heads, length, 1 or D), of what has the shape of `key`, with its last axis or not,
    of one number per key head, or of one."""
    gate, axes = _wide(gate), np.ndim(key)
    if gate.ndim == 1 < axes - 1 and layout == "bhld":
        gate = gate[:, None]
    if gate.ndim < axes:
        gate = np.broadcast_to(gate, np.shape(key)[:-1])[..., None]
    return _heads_first(gate, layout)


def linear_attention(
    query,
    key,
    value,
    *,
    feature_map="elu",
    causal=False,
    decay=None,
    beta=None,
    scale=None,
    normalize=None,
    state=None,
    return_state=False,
    key_lengths=None,
    chunk_size=64,
    layout="bhld",
):
    """See `pyattn.linear_attention`: token by token, whatever `chunk_size` is. Divisors are what
    values of 1 become, in a column of their own."""
    q, k, v = (_heads_first(x, layout) for x in (query, key, value))
    group = q.shape[-3] // k.shape[-3] if k.shape[-3] else 1
    if scale is None:
        scale = q.shape[-1] ** -0.5 if q.shape[-1] else 1.0
    if normalize is None:
        normalize = feature_map in ("elu", "relu")
    q, k = _features(q, feature_map), _features(k, feature_map)
    if normalize:
        v = np.concatenate([v, np.ones((*v.shape[:-1], 1))], axis=-1)
    leading = np.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
    wide = np.result_type(q, k, v)
    S = np.zeros((*leading, k.shape[-3], k.shape[-1], v.shape[-1]), wide)
    if state is not None:
        S = S + _wide(state)
    g = np.zeros((k.shape[-2], 1)) if decay is None else _gates(decay, key, layout)
    b = None if beta is None else _gates(beta, key, layout)
    length = _per_batch(k.shape[-2] if key_lengths is None else key_lengths)
    read = np.zeros((*leading, *q.shape[-3:-1], v.shape[-1]), wide)
    for t in range(k.shape[-2]):
        faded = np.exp(g[..., t, :, None]) * S
        write = v[..., t, None, :]
        if b is not None:
            write = b[..., t, :, None] * (write - k[..., t, None, :] @ faded)
        S = np.where(t < length, faded + k[..., t, :, None] * write, S)
        if causal:
            own = q[..., t, None, :] @ np.repeat(S, group, axis=-3)
            read[..., t, :] = np.where(t < length, own, 0)[..., 0, :]
    if not causal:
        read[...] = q @ np.repeat(S, group, axis=-3)
    if normalize:
        divisor = read[..., -1:]
        out = np.where(divisor == 0, 0, read[..., :-1] / np.where(divisor == 0, 1, divisor))
    else:
        out = scale * read
    if np.ndim(query) == np.ndim(key) == np.ndim(value) == 2:
        out, S = out[0], S[0]
    elif layout == "blhd":
        out = np.swapaxes(out, -3, -2)
    return (out, S) if return_state else out
