"""Random calls that are right in every respect: any option together with any other.

`choose` picks one of a list: Hypothesis's ``draw`` does so where failures are to shrink, a seeded
generator where many cases are to run.
"""

import numpy as np
from support import grid_of

from pyattn import biases, masks

try:
    from ml_dtypes import bfloat16

    HALVES = (np.float16, bfloat16)
except ImportError:  # optional
    HALVES = (np.float16,)


def chooser(rng):
    """`choose` from a generator."""
    return lambda items: items[rng.integers(len(items))]


# --- arrays that broadcast, however they lie in memory


def disguised(choose, a):
    """The same numbers in another layout: reversed, transposed, with gaps, unaligned, repeated."""
    form = choose(["plain", "plain", "Fortran", "reversed", "gaps", "unaligned", "read-only"])
    if not a.ndim or not a.size:
        return a
    if form == "Fortran":
        return np.asfortranarray(a)
    if form == "reversed":
        back = (slice(None, None, -1),) * a.ndim
        return a[back].copy()[back]
    if form == "gaps":
        large = np.ones([3 * n for n in a.shape], a.dtype)
        view = large[(slice(1, None, 3),) * a.ndim]
        view[...] = a
        return view
    if form == "unaligned":
        raw = np.zeros(a.nbytes + 1, np.uint8)
        view = raw[1:].view(a.dtype).reshape(a.shape)
        view[...] = a
        return view
    if form == "read-only":
        a = a.copy()
        a.flags.writeable = False
    return a


def some_axes(choose, shape, least=0):
    """A shape that broadcasts to `shape`: its last axes, some of them 1."""
    axes = shape[choose(range(len(shape) + 1 - least)) :]
    return tuple(1 if choose([False, False, True]) else n for n in axes)


def stretched(choose, a, shape):
    """Sometimes with axes of 1 repeated in place, by strides of 0."""
    if not choose([False, True]) or a.ndim == 0:
        return a
    return np.broadcast_to(a, shape[len(shape) - a.ndim :])


# --- masks


def _dense_mask(choose, rng, scores):
    shape = some_axes(choose, scores)
    kind = choose(["random", "few", "many", "blocks", "all", "bytes"])
    share = {"few": 0.05, "many": 0.97, "all": 1.0}.get(kind, 0.6)
    seen = np.asarray(rng.random(shape) < share)
    if kind == "blocks" and seen.ndim > 1:
        size = choose([1, 3, 16, 64])
        coarse = seen[..., ::size, ::64]
        seen = np.repeat(np.repeat(coarse, size, axis=-2), 64, axis=-1)
        seen = np.ascontiguousarray(seen[..., : shape[-2], : shape[-1]])
    if kind == "bytes":  # any byte but 0 is true
        seen = np.asarray(seen * rng.integers(1, 256, shape)).astype(np.uint8).view(bool)
    return stretched(choose, disguised(choose, seen), scores)


def _leaf(choose, rng, leading, heads, queries, keys):
    kinds = ["segments", "prefix", "dilated", "blocks", "dense"]
    if queries == keys:
        kinds += ["documents", "neighborhood", "grid windows"]
    kind = choose(kinds)
    if kind == "segments":
        axes = leading if choose([False, True]) else ()
        ids = rng.integers(0, choose([2, 5]), (*axes, queries + keys))
        q, k = ids[..., :queries], ids[..., queries:]
        if choose([False, True]):
            q, k = np.sort(q), np.sort(k)
        return masks.segments(q, k)
    if kind == "prefix":
        axes = leading if choose([False, True]) else ()
        return masks.prefix_lm(rng.integers(0, keys, axes, endpoint=True), queries, keys)
    if kind == "dilated":
        window = choose([None, 0, 2, 40]), choose([None, 0, 1, 20])
        return masks.dilated(queries, keys, window=window, dilation=choose([1, 2, 3, 70]))
    if kind == "blocks":
        block = choose([1, 4, 50]), choose([1, 7, 24, 64, 100])
        shape = -(-queries // block[0]), -(-keys // block[1])
        table = rng.random((*some_axes(choose, (*leading, heads)), *shape)) < 0.6
        return masks.blocks(disguised(choose, table), block, queries, keys)
    if kind == "documents":
        cuts = np.sort(rng.integers(0, queries, choose([0, 1, 4]), endpoint=True))
        return masks.documents([0, *cuts, queries])
    if kind == "dense":
        return masks.dense(_dense_mask(choose, rng, (*leading, heads, queries, keys)))
    if not queries:
        return masks.documents([0, 0])
    grid = grid_of(queries) if choose([False, True]) else (queries,)
    if kind == "grid windows":
        return masks.grid_windows(grid, choose([2, 3]), shift=choose([0, 1]))
    kernel = tuple(min(choose([1, 3, 5]), n - (n % 2 == 0)) for n in grid)
    farthest = [n // k for n, k in zip(grid, kernel, strict=True)]
    dilation = tuple(choose([1, n]) for n in farthest)
    return masks.neighborhood(grid, kernel, dilation=dilation)


def draw_mask(choose, rng, leading, heads, queries, keys):
    """A mask for scores of (*leading, heads, queries, keys), or None."""
    kind = choose(["none", "dense", "leaf", "tree"])
    if kind == "none":
        return None
    if kind == "dense":
        return _dense_mask(choose, rng, (*leading, heads, queries, keys))
    mask = _leaf(choose, rng, leading, heads, queries, keys)
    for _ in range(choose([1, 2, 3]) if kind == "tree" else 0):
        other = _leaf(choose, rng, leading, heads, queries, keys)
        mask = mask & other if choose([False, True]) else mask | other
    return mask


# --- biases


def _numbers(choose, rng, shape, size):
    a = np.asarray(rng.standard_normal(shape) * size)
    if choose([False, True]):
        a = np.where(rng.random(shape) < 0.3, -np.inf, a)
    return a.astype(choose([*HALVES, np.float32, np.float64]))


def _bias_part(choose, rng, leading, heads, queries, keys, size):
    kinds = ["dense", "alibi", "relative"] + ["grid"] * (queries == keys)
    kind = choose(kinds if queries and keys else ["dense"])
    if kind == "alibi":
        axes = leading if choose([False, True]) else ()
        slopes = 2.0 ** -rng.uniform(0, 8, (*axes, heads)) * choose([1, 1, -0.1])
        return biases.alibi(slopes)
    if kind == "relative":
        axes = some_axes(choose, (*leading, heads))
        table = _numbers(choose, rng, (*axes, queries + keys - 1), size)
        return biases.relative(disguised(choose, table), queries, keys)
    if kind == "grid":
        height, width = grid_of(queries)
        axes = some_axes(choose, (*leading, heads))
        table = _numbers(choose, rng, (*axes, 2 * height - 1, 2 * width - 1), size)
        return biases.relative_grid(disguised(choose, table), (height, width))
    scores = (*leading, heads, queries, keys)
    a = _numbers(choose, rng, some_axes(choose, scores), size)
    return stretched(choose, disguised(choose, a), scores)


def draw_bias(choose, rng, leading, heads, queries, keys):
    """A bias for scores of (*leading, heads, queries, keys), or None."""
    parts = choose([0, 0, 1, 1, 2, 3])
    size = choose([0.1, 1, 1, 20])
    bias = None
    for _ in range(parts):
        part = _bias_part(choose, rng, leading, heads, queries, keys, size)
        if bias is not None and isinstance(bias, np.ndarray):
            bias = biases.dense(bias)
        bias = part if bias is None else bias + part
    return bias


# --- all of them


def draw_options(choose, rng, leading, heads, queries, keys):
    """Options of a call whose scores have the shape (*leading, heads, queries, keys)."""
    options = {}

    def per_batch(low, high):
        # Any shape that broadcasts to the batch: one number, or trailing axes of it.
        shape = leading[choose(range(len(leading) + 1)) :]
        numbers = rng.integers(low, high, size=shape, endpoint=True)
        return int(numbers) if numbers.ndim == 0 and choose([False, True]) else numbers

    if choose([False, True]):
        options["causal"] = choose([False, True])
    if choose([False, True]):
        options["window"] = choose([None, 0, 1, 5, 60]), choose([None, 0, 3, 60])
    if choose([False, False, True]):
        far = choose([2, 2, keys + queries, 10**6])
        options["query_start"] = per_batch(-queries - far, keys + far)
    if choose([False, False, True]):
        options["key_lengths"] = per_batch(0, choose([0, keys, keys]))
    if choose([False, True]):
        options["mask"] = draw_mask(choose, rng, leading, heads, queries, keys)
    if choose([False, True]):
        options["bias"] = draw_bias(choose, rng, leading, heads, queries, keys)
    if choose([False, False, True]):
        options["softcap"] = choose([0.3, 2, 30.0, 1e4])
    if choose([False, False, True]):
        sinks = rng.standard_normal(heads) * choose([1, 10])
        sinks[rng.random(heads) < 0.2] = -np.inf
        options["sinks"] = sinks.astype(choose([np.float16, np.float32, np.float64]))
    return options
