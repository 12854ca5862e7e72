"""The unit in which errors are measured, and random cases to measure.

The error of an output is |out - exact| / (u * B). B is how much the exact result itself moves, to
first order, if every product in the scores and in the sum over keys is off by one part in 1/u: the
conditioning of the problem. An error of a few units is what an accurate algorithm makes, whatever
the magnitudes are.
"""

from dataclasses import dataclass

import numpy as np

from pyattn import reference

LIMIT = 8  # of the promise; up to 4096 keys
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


def errors(got, query, key, value, *, scale=None, layout="bhld", **visibility):
    """Errors of ``got = attention(query, key, value, ..., return_lse=True)``."""
    out, lse = got
    unit, wide = UNIT[out.dtype], ORACLE[out.dtype]
    q, k, v = (np.asarray(x, dtype=wide) for x in (query, key, value))
    exact, exact_lse = reference.attention(
        q, k, v, scale=scale, layout=layout, return_lse=True, **visibility
    )
    assert out.shape == exact.shape
    assert lse.shape == exact_lse.shape
    if scale is None:
        scale = q.shape[-1] ** -0.5 if q.shape[-1] else 1.0
    q, k, v, o, out = (_heads_first(x, layout) for x in (q, k, v, exact, out))
    q = np.broadcast_to(q, o.shape[:-1] + q.shape[-1:])  # per-batch options may need v's axes
    v = _for_each_head(v, o.shape[-3])
    v = np.broadcast_to(v, o.shape[:-2] + v.shape[-2:])
    p = reference.attention_weights(q, k, scale=scale, **visibility)
    # A_j = |scale| * sum |q_d k_jd|: as the scores, but nothing cancels.
    products = _scores(np.abs(q), np.abs(k), abs(scale))
    worst = 0.0
    for at in np.ndindex(o.shape[:-1]):
        spread = np.abs(v[at[:-1]] - o[at])
        bound = (p[at] * products[at]) @ spread + p[at] @ np.abs(v[at[:-1]])
        worst = max(worst, _ratio(np.abs(out[at] - o[at]), unit * bound))

    # The log of a sum: the scores' errors, the rounding of the sum, the rounding of the result.
    exact_lse, lse = exact_lse.reshape(o.shape[:-1]), lse.reshape(o.shape[:-1])
    empty = np.isneginf(exact_lse)
    assert np.array_equal(np.isneginf(lse), empty)
    difference = np.where(empty, 0, np.abs(np.where(empty, 0, lse) - np.where(empty, 0, exact_lse)))
    bound = (p * products).sum(axis=-1) + np.abs(np.where(empty, 0, exact_lse)) + 1
    return Errors(worst, _ratio(difference, unit * bound))


def _heads_first(x, layout):
    return x[None] if x.ndim == 2 else np.swapaxes(x, -3, -2) if layout == "blhd" else x


def _for_each_head(x, heads):
    """Key heads repeated for the query heads that share them."""
    return np.repeat(x, heads // x.shape[-3] if x.shape[-3] else 1, axis=-3)


def _scores(q, k, scale):
    return np.einsum("...ld,...sd->...ls", q, _for_each_head(k, q.shape[-3])) * scale


def random_case(rng, dtype=np.float32, max_keys=4096):
    """(query, key, value), options: small shapes mostly, magnitudes log-uniform 1e-20 .. 1e18, V
    with an offset of 10 and K with one of 3 deviations in half of the cases."""
    keys = round(np.exp(rng.uniform(0, np.log(200 if rng.random() < 0.9 else max_keys))))
    d, dv = (round(np.exp(rng.uniform(0, np.log(256)))) for _ in range(2))
    queries = int(rng.integers(1, 1 + min(64, max(1, 200_000 // (keys * max(d, dv))))))
    group = int(rng.integers(1, 4)) if queries < 16 else 1
    magnitude_v = 10 ** rng.uniform(-20, 18)
    while True:  # scores beyond the range of float32 would honestly be NaN
        magnitude_q, magnitude_k = 10 ** rng.uniform(-20, 18, size=2)
        if magnitude_q * magnitude_k * d**0.5 * 32 < 1e37:
            break
    if rng.random() < 0.5:  # most of the rest is either one key taking all or a plain mean
        magnitude_q = rng.uniform(0.1, 4) / magnitude_k
    offset_k, offset_v = (x if rng.random() < 0.5 else 0 for x in (3, 10))
    q = rng.standard_normal((group, queries, d)) * magnitude_q
    k = (rng.standard_normal((1, keys, d)) + offset_k) * magnitude_k
    v = (rng.standard_normal((1, keys, dv)) + offset_v) * magnitude_v
    options = {"causal": True} if rng.random() < 0.3 else {}
    return [x.astype(dtype) for x in (q, k, v)], options


def has_near_ties(query, key, value, **visibility):
    """Whether some row's winner is a matter of rounding: scores so large that their rounding errors
    alone exceed 0.1, and the second best that close to the best. There the result jumps instead of
    moving, and a first-order bound says nothing."""
    unit = UNIT[query.dtype]
    q, k = query.astype(ORACLE[query.dtype]), key.astype(ORACLE[query.dtype])
    scale = q.shape[-1] ** -0.5
    scores = _scores(q, k, scale)
    noise = 32 * unit * _scores(np.abs(q), np.abs(k), scale).max(axis=-1)
    scores = np.where(reference.visible(scores.shape, **visibility), scores, -np.inf)
    if scores.shape[-1] < 2:
        return False
    best = np.partition(scores, -2, axis=-1)[..., -2:]
    with np.errstate(invalid="ignore"):
        return bool(((noise > 0.1) & (best[..., 1] - best[..., 0] < noise)).any())
