"""The unit in which errors are measured, and random cases to measure.

The error of an output is |out - exact| / (u * B). B is how much the exact result itself moves, to
first order, if every product in the scores and in the sum over keys is off by one part in 1/u: the
conditioning of the problem. An error of a few units is what an accurate algorithm makes, whatever
the magnitudes are.

Options: what a bias adds counts like a product of its size; a softcap takes nothing off, since what
it flattens was computed before; a sink is one more score, of a value of 0. Beside a sink all
weights can be so small that they vanish: what numbers below the smallest normal one cost is no
error.
"""

from dataclasses import dataclass

import numpy as np
from cases import chooser, draw_options
from support import dense_biases, visible

from pyattn import reference

LIMIT = 8  # of the promise; up to 4096 keys
LIMIT_RARE = 12  # of one case in thousands: nearly all weight on one key, and that an early one
LIMIT_LONG = 16  # at 65,536 keys

UNIT = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}
ORACLE = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}


@dataclass
class Errors:
    """Largest errors of a call, in units. Not finite: 0 was expected, or NaN came out."""

    out: float
    lse: float


def _ratio(difference, bound):
    """Largest of difference / bound; where both are 0 there is no error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(difference == 0, 0, difference / bound)
    return float(np.nan_to_num(ratio, nan=np.inf).max(initial=0))


class Exact:
    """What ``attention(query, key, value, ..., return_lse=True)`` ought to return."""

    def __init__(
        self,
        query,
        key,
        value,
        *,
        scale=None,
        softcap=None,
        sinks=None,
        layout="bhld",
        **visibility,
    ):
        dtype = np.asarray(query).dtype
        unit, wide, tiny = UNIT[dtype], ORACLE[dtype], np.finfo(dtype).tiny
        q, k, v = (np.asarray(x, dtype=wide) for x in (query, key, value))
        options = {"scale": scale, "softcap": softcap, "sinks": sinks, **visibility}
        exact, exact_lse = reference.attention(q, k, v, layout=layout, return_lse=True, **options)
        self.layout, self.shapes = layout, (exact.shape, exact_lse.shape)
        q, k, v, o = (_heads_first(x, layout) for x in (q, k, v, exact))
        q = np.broadcast_to(q, o.shape[:-1] + q.shape[-1:])  # per-batch options may need v's axes
        v = _for_each_head(v, o.shape[-3])
        v = np.broadcast_to(v, o.shape[:-2] + v.shape[-2:])
        p = reference.attention_weights(q, k, **options)
        sizes = _sizes(q, k, scale, visibility)
        exact_lse = exact_lse.reshape(o.shape[:-1])
        self.empty = np.isneginf(exact_lse)
        sink, share = _sinks(sinks, exact_lse)
        bound = np.empty_like(o)
        few = max(1, 500_000 // max(v.shape[-2] * v.shape[-1], 1))  # rows at once
        for head in np.ndindex(o.shape[:-2]):
            for row in range(0, o.shape[-2], few):
                at = (*head, slice(row, row + few))
                spread = np.abs(v[head][None] - o[at][:, None])
                size = np.einsum("ls,lsd->ld", p[at] * sizes[at], spread) + p[at] @ np.abs(v[head])
                size = size + (share[at] * np.abs(sink[at]))[:, None] * np.abs(o[at])
                # Beside a sink all weights may vanish.
                lost = tiny * ((p[at] > 0) @ np.abs(v[head]) + 1) * (share[at] > 0)[:, None]
                bound[at] = unit * size + lost
        self.out, self.out_bound = o, bound
        # The log of a sum: the scores' errors, the rounding of the sum, the rounding of the result.
        self.lse = np.where(self.empty, 0, exact_lse)
        self.lse_bound = (p * sizes).sum(axis=-1) + share * np.abs(sink) + np.abs(self.lse) + 1
        self.lse_bound = unit * self.lse_bound

    def errors(self, out, lse):
        """Errors of what came."""
        return Errors(self.out_error(out), self.lse_error(lse))

    def out_error(self, out):
        assert out.shape == self.shapes[0]
        out = _heads_first(out, self.layout)
        assert not np.any(out[self.empty])
        return _ratio(np.abs(out - self.out), self.out_bound)

    def lse_error(self, lse):
        assert lse.shape == self.shapes[1]
        lse = lse.reshape(self.lse.shape)
        assert np.array_equal(np.isneginf(lse), self.empty)
        return _ratio(np.abs(np.where(self.empty, 0, lse) - self.lse), self.lse_bound)


def errors(got, *arrays, **options):
    """Errors of ``got = attention(*arrays, return_lse=True, **options)``."""
    return Exact(*arrays, **options).errors(*got)


def weight_error(several, query, key, *, scale=None, layout="bhld", **options):
    """Largest error of `several`, each ``attention_weights(query, key, ...)``: a weight is an
    output with a value of 1 for its key and 0 for all others."""
    dtype = several[0].dtype
    unit, wide, tiny = UNIT[dtype], ORACLE[dtype], np.finfo(dtype).tiny
    q, k = (_heads_first(np.asarray(x, dtype=wide), layout) for x in (query, key))
    leading = np.broadcast_shapes(q.shape[:-3], k.shape[:-3])
    q = np.broadcast_to(q, leading + q.shape[-3:])
    p = reference.attention_weights(q, k, scale=scale, **options)
    sizes = _sizes(q, k, scale, options)
    bound = p * (1 + sizes + (p * sizes).sum(axis=-1, keepdims=True))
    if options.get("sinks") is not None:
        sinks = np.abs(np.where(np.isneginf(options["sinks"]), 0, options["sinks"]))
        bound = bound + p * sinks.astype(wide)[:, None, None]
    return max(_ratio(np.abs(w.reshape(p.shape) - p), unit * bound + tiny) for w in several)


def _sizes(q, k, scale, visibility):
    """A_j = |scale| * sum |q_d k_jd|, as the scores, but nothing cancels; and |bias|."""
    if scale is None:
        scale = q.shape[-1] ** -0.5 if q.shape[-1] else 1.0
    sizes = _scores(np.abs(q), np.abs(k), abs(scale))
    bias, start = visibility.get("bias"), visibility.get("query_start")
    for part in dense_biases(bias, sizes.shape, start):
        sizes = sizes + np.where(np.isfinite(part), np.abs(part), 0)
    return sizes


def _sinks(sinks, lse):
    """Of every row, the sink (0 for none) and its share of the weight."""
    if sinks is None:
        return np.zeros(lse.shape), np.zeros(lse.shape)
    sink = np.broadcast_to(np.asarray(sinks, lse.dtype)[:, None], lse.shape)
    none = np.isneginf(sink)
    sink = np.where(none, 0, sink)
    return sink, np.where(none, 0, np.exp(sink - np.where(none, 0, lse)))


def _heads_first(x, layout):
    return x[None] if x.ndim == 2 else np.swapaxes(x, -3, -2) if layout == "blhd" else x


def _for_each_head(x, heads):
    """Key heads repeated for the query heads that share them."""
    return np.repeat(x, heads // x.shape[-3] if x.shape[-3] else 1, axis=-3)


def _scores(q, k, scale):
    return np.einsum("...ld,...sd->...ls", q, _for_each_head(k, q.shape[-3])) * scale


def random_case(rng, dtype=np.float32, max_keys=4096, with_options=False):
    """(query, key, value), options: small shapes mostly, magnitudes log-uniform 1e-20 .. 1e18, V
    with an offset of 10 and K with one of 3 deviations in half of the cases. `with_options`: with
    all of them, shorter."""
    if with_options:
        max_keys = 700
    keys = round(np.exp(rng.uniform(0, np.log(200 if rng.random() < 0.9 else max_keys))))
    d, dv = (round(np.exp(rng.uniform(0, np.log(256)))) for _ in range(2))
    queries = int(rng.integers(1, 1 + min(64, max(1, 200_000 // (keys * max(d, dv))))))
    if with_options and rng.random() < 0.4:
        queries = keys = min(keys, 130)  # so that grids fit
    group = int(rng.integers(1, 4)) if queries < 16 else 1
    magnitude_v = 10 ** rng.uniform(-20, 18)
    while True:  # scores beyond the range of float32 would honestly be NaN
        magnitude_q, magnitude_k = 10 ** rng.uniform(-20, 18, size=2)
        if magnitude_q * magnitude_k * d**0.5 * 32 < 1e37:
            break
    if rng.random() < (0.8 if with_options else 0.5):
        # Most of the rest is either one key taking all or a plain mean.
        magnitude_q = rng.uniform(0.1, 4) / magnitude_k
    offset_k, offset_v = (x if rng.random() < 0.5 else 0 for x in (3, 10))
    q = rng.standard_normal((group, queries, d)) * magnitude_q
    k = (rng.standard_normal((1, keys, d)) + offset_k) * magnitude_k
    v = (rng.standard_normal((1, keys, dv)) + offset_v) * magnitude_v
    if with_options:
        options = draw_options(chooser(rng), rng, (), group, queries, keys)
    else:
        options = {"causal": True} if rng.random() < 0.3 else {}
    return [x.astype(dtype) for x in (q, k, v)], options


def has_near_ties(query, key, value, **options):
    """Whether some row's winner is a matter of rounding: scores so large that their rounding errors
    alone exceed 0.1, and the second best that close to the best. There the result jumps instead of
    moving, and a first-order bound says nothing."""
    unit = UNIT[query.dtype]
    q, k = query.astype(ORACLE[query.dtype]), key.astype(ORACLE[query.dtype])
    scale, sinks = options.get("scale"), options.get("sinks")
    scores = _scores(q, k, q.shape[-1] ** -0.5 if scale is None else scale)
    noise = 32 * unit * _sizes(q, k, scale, options).max(axis=-1)
    if options.get("softcap"):
        scores = options["softcap"] * np.tanh(scores / options["softcap"])
    for part in dense_biases(options.get("bias"), scores.shape, options.get("query_start")):
        scores = scores + part
    scores = np.where(visible(scores.shape, options), scores, -np.inf)
    if sinks is not None:
        sinks = np.broadcast_to(sinks.astype(scores.dtype)[:, None, None], (*scores.shape[:-1], 1))
        scores = np.concatenate([scores, sinks], axis=-1)
    if scores.shape[-1] < 2:
        return False
    best = np.partition(scores, -2, axis=-1)[..., -2:]
    with np.errstate(invalid="ignore"):
        return bool(((noise > 0.1) & (best[..., 1] - best[..., 0] < noise)).any())
