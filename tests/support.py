"""What several test files need: operands, a table of options, bitwise comparison, subprocesses."""

import os
import subprocess
import sys

import numpy as np

from pyattn import attention, biases, masks, reference

STRESS = os.environ.get("PYATTN_STRESS") == "1"
FLOATS = (np.float32, np.float64)

# Lengths around the edges of vectors, tiles, blocks (64 keys) and chunks (512 keys).
EDGES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129)
# Up to so many rows of a key head (queries times the heads that share it) other kernels compute.
FEW_ROWS = 8
LONG_EDGES = (511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049)


# --- the table of options


def _seeded(*shape):
    """Options are the same whenever they are asked for."""
    return np.random.default_rng([len(shape), *shape])


def _starts(batch, queries, keys):
    """Among the keys, partly before them, after all of them."""
    return np.resize([keys // 2, -queries // 2, keys], batch)


def _lengths(batch, keys):
    return np.linspace(keys - 1, keys // 3, batch).astype(int)


def seen_array(*shape):
    """A mask of that shape that hides keys here and there, whole rows and whole columns."""
    rng = _seeded(*shape)
    seen = rng.random(shape) < 0.7
    seen[..., rng.random(shape[-1]) < 0.2] = False
    if len(shape) > 1 and shape[-2] > 2:
        seen[..., rng.random(shape[-2]) < 0.1, :] = False
    return seen


def seen_blocks(queries, keys):
    """A mask (L, S) that hides whole blocks of 64 keys, for some queries."""
    shape = -(-queries // 13), -(-keys // 64)
    seen = _seeded(*shape, 64).random(shape) < 0.5
    return np.repeat(np.repeat(seen, 13, axis=0), 64, axis=1)[:queries, :keys]


def bias_array(dtype, *shape):
    """A bias of that shape, -inf in places."""
    bias = _seeded(*shape, 1).standard_normal(shape)
    return np.where(seen_array(*shape), bias, -np.inf).astype(dtype)


def slopes(*shape):
    return 2.0 ** -_seeded(*shape, 2).uniform(0, 8, shape)


def grid_of(pixels):
    """The height and width of the most nearly square grid of that many pixels."""
    height = next(n for n in range(int(pixels**0.5), 0, -1) if pixels % n == 0)
    return height, pixels // height


def _neighborhood(pixels):
    grid = grid_of(pixels)
    kernel = tuple(min(5, n - (n % 2 == 0)) for n in grid)
    dilation = tuple(n // k for n, k in zip(grid, kernel, strict=True))
    return masks.neighborhood(grid, kernel, dilation=dilation)


def _ids(batch, queries, keys, in_order):
    ids = _seeded(batch, queries, keys).integers(0, 4, (batch, queries + keys))
    q, k = ids[:, :queries], ids[:, queries:]
    return masks.segments(*((np.sort(q), np.sort(k)) if in_order else (q, k)))


def _table_of_blocks(heads, queries, keys):
    block = 5, 24
    shape = heads, -(-queries // block[0]), -(-keys // block[1])
    return masks.blocks(seen_array(*shape), block, queries, keys)


def _relative(heads, queries, keys):
    return biases.relative(bias_array(np.float32, heads, queries + keys - 1), queries, keys)


def _relative_grid(heads, pixels):
    height, width = grid_of(pixels)
    table = bias_array(np.float16, heads, 2 * height - 1, 2 * width - 1)
    return biases.relative_grid(table, (height, width))


def _everything(batch, heads, queries, keys):
    rng = _seeded(batch, heads, queries, keys)
    near = rng.standard_normal((heads, queries + keys - 1)).astype(np.float32)
    return {
        "mask": (_dilated(queries, keys) | _ids(batch, queries, keys, in_order=False))
        & (rng.random((heads, queries, keys)) < 0.8),
        "bias": biases.alibi(slopes(heads))
        + biases.relative(near, queries, keys)
        + bias_array(np.float16, batch, 1, 1, keys),
        "causal": True,
        "window": (keys, 5),
        "query_start": _starts(batch, queries, keys),
        "key_lengths": np.maximum(_lengths(batch, keys), 1),
        "scale": -0.3,
        "softcap": 2.0,
        "sinks": np.linspace(-2, 2, heads).astype(np.float32),
    }


def _dilated(queries, keys):
    return masks.dilated(queries, keys, window=(keys // 8, 2), dilation=3)


# Options under which every law must hold, as functions of the batch, the query heads, L and S. A
# new option that decides what may be seen, or changes the scores, belongs in this table.
OPTIONS = {
    "all": lambda b, h, n, s: {},
    "scale": lambda b, h, n, s: {"scale": -0.3},
    "causal": lambda b, h, n, s: {"causal": True},
    "top-left": lambda b, h, n, s: {"causal": True, "query_start": 0},
    "starts": lambda b, h, n, s: {"causal": True, "query_start": _starts(b, n, s)},
    "lengths": lambda b, h, n, s: {"key_lengths": np.linspace(s - 1, 0, b).astype(int)},
    "causal lengths": lambda b, h, n, s: {"causal": True, "key_lengths": _lengths(b, s)},
    "window to the left": lambda b, h, n, s: {"window": (s // 3, None)},
    "window to the right": lambda b, h, n, s: {"window": (None, s // 4)},
    "window": lambda b, h, n, s: {"window": (s // 5, 3), "key_lengths": _lengths(b, s)},
    "window, causal": lambda b, h, n, s: {"window": (s // 7, 9), "causal": True},
    "window, starts": lambda b, h, n, s: {"window": (5, s // 3), "query_start": _starts(b, n, s)},
    "mask (S)": lambda b, h, n, s: {"mask": seen_array(s)},
    "mask (L, S)": lambda b, h, n, s: {"mask": seen_array(n, s)},
    "mask (B, 1, 1, S)": lambda b, h, n, s: {"mask": seen_array(b, 1, 1, s), "causal": True},
    "mask (B, H, L, S)": lambda b, h, n, s: {"mask": seen_array(b, h, n, s)},
    "mask of blocks": lambda b, h, n, s: {"mask": seen_blocks(n, s)},
    "bias (S)": lambda b, h, n, s: {"bias": bias_array(np.float64, s)},
    "bias (L, S)": lambda b, h, n, s: {"bias": bias_array(np.float32, n, s), "causal": True},
    "bias (B, 1, 1, S)": lambda b, h, n, s: {"bias": bias_array(np.float64, b, 1, 1, s)},
    "bias (B, H, L, S)": lambda b, h, n, s: {"bias": bias_array(np.float16, b, h, n, s)},
    "mask and bias": lambda b, h, n, s: {
        "mask": seen_blocks(n, s),
        "bias": bias_array(np.float32, h, 1, s),
    },
    "softcap": lambda b, h, n, s: {"softcap": 0.8},
    "sinks": lambda b, h, n, s: {
        "sinks": np.where(np.arange(h) % 3 == 1, -np.inf, np.linspace(-1, 4, h)),
        "key_lengths": np.linspace(s - 1, 0, b).astype(int),
    },
    "segments": lambda b, h, n, s: {"mask": _ids(b, n, s, in_order=True)},
    "segments in no order": lambda b, h, n, s: {"mask": _ids(b, n, s, in_order=False)},
    "documents": lambda b, h, n, s: {"mask": masks.documents([0, n // 3, n // 3, n // 2, n])},
    "prefix": lambda b, h, n, s: {"mask": masks.prefix_lm(_lengths(b, s) // 2, n, s)},
    "dilated": lambda b, h, n, s: {"mask": _dilated(n, s)},
    "blocks": lambda b, h, n, s: {"mask": _table_of_blocks(h, n, s)},
    "neighborhood": lambda b, h, n, s: {"mask": _neighborhood(n)},
    "grid windows": lambda b, h, n, s: {"mask": masks.grid_windows(grid_of(n), 4, shift=1)},
    "union": lambda b, h, n, s: {
        "mask": _dilated(n, s) | _ids(b, n, s, in_order=True) | (np.arange(s) < 3)
    },
    "intersection": lambda b, h, n, s: {
        "mask": _dilated(n, s) & _ids(b, n, s, in_order=False) & seen_array(h, n, s),
        "window": (s // 2, None),
    },
    "union of intersections": lambda b, h, n, s: {
        "mask": (_dilated(n, s) | _table_of_blocks(h, n, s))
        & (_ids(b, n, s, in_order=True) | seen_array(n, s))
    },
    "alibi": lambda b, h, n, s: {"bias": biases.alibi(slopes(h)), "causal": True},
    "alibi (B, H)": lambda b, h, n, s: {
        "bias": biases.alibi(slopes(b, h)),
        "query_start": _starts(b, n, s),
        "key_lengths": _lengths(b, s),
    },
    "relative": lambda b, h, n, s: {"bias": _relative(h, n, s)},
    "relative grid": lambda b, h, n, s: {"bias": _relative_grid(h, n)},
    "sum of biases": lambda b, h, n, s: {
        "bias": biases.alibi(slopes(h)) + bias_array(np.float32, n, s) + bias_array(np.float64, s),
        "softcap": 3,
    },
    "everything": _everything,
}
ON_GRIDS = {"neighborhood", "grid windows"}  # masks
ONLY_SQUARE = {"documents", "relative grid"} | ON_GRIDS  # need L == S


def options_for(queries, keys):
    """The names of the options that such lengths can have."""
    return [name for name in OPTIONS if queries == keys or name not in ONLY_SQUARE]


VISIBILITY = ("mask", "bias", "causal", "window", "query_start", "key_lengths")


def visible(shape, options):
    """What may be seen, bool (B, H, L, S)."""
    return reference.visible(shape, **{k: v for k, v in options.items() if k in VISIBILITY})


def alone(options, element, head=None):
    """`options` for one batch element alone, and for one head of it alone."""

    def part(x):
        if x.ndim > 2 and head is not None and x.shape[-3] > 1:
            x = x[..., head : head + 1, :, :]
        return x[element : element + 1] if x.ndim > 3 and x.shape[0] > 1 else x

    def part_of_bias(bias):
        if not hasattr(bias, "parts"):
            return part(bias)
        total = None
        for one in bias.parts():
            if one.name == "alibi":
                one = biases.alibi(part(one.piece.slopes[..., None, None])[..., 0, 0])
            elif len(one.shape) > 2:
                one = biases.dense(part(np.asarray(one)))
            total = one if total is None else total + one
        return total

    changed = dict(options)
    for name in ("query_start", "key_lengths"):
        if np.ndim(options.get(name)):
            changed[name] = options[name][element : element + 1]
    if "mask" in options and len(options["mask"].shape) > 2:
        changed["mask"] = part(np.asarray(options["mask"]))
    if "bias" in options:
        changed["bias"] = part_of_bias(options["bias"])
    if "sinks" in options and head is not None:
        changed["sinks"] = options["sinks"][head : head + 1]
    return changed


def dense_biases(bias, shape, query_start=None):
    """The parts of a bias as arrays that broadcast to scores of that shape, in float64."""
    if bias is None:
        return []
    dense = []
    for part in bias.parts() if hasattr(bias, "parts") else [bias]:
        if getattr(part, "name", None) == "alibi":
            start = shape[-1] - shape[-2] if query_start is None else query_start
            start = np.asarray(start)[..., None, None, None]
            distance = np.arange(shape[-1]) - (np.arange(shape[-2])[:, None] + start)
            dense.append(-part.piece.slopes[..., None, None] * np.abs(distance))
        else:
            dense.append(np.asarray(part).astype(np.float64))
    return dense


# --- operands and bits


def operands(rng, batch, heads, queries, keys, d=16, dv=None, kv_heads=None, dtype=np.float32):
    """Standard normal query, key and value, heads first."""
    kv_heads, dv = kv_heads or heads, d if dv is None else dv
    shapes = (batch, heads, queries, d), (batch, kv_heads, keys, d), (batch, kv_heads, keys, dv)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def bits(a):
    """The array as unsigned integers, so that NaN equals NaN and -0 differs from +0."""
    a = np.ascontiguousarray(a)
    return a.view(f"u{a.itemsize}")


def assert_strided_out_only(arrays, expected):
    """With `out` between rows and columns of a larger array, nothing beside it is written."""
    *leading, queries, size = expected.shape
    wide = np.full((*leading, queries + 2, size + 4), 77, expected.dtype)
    sparse = np.full((*leading, queries, 3 * size), 77, expected.dtype)
    for whole, place in ((wide, np.s_[..., 1:-1, 2:-2]), (sparse, np.s_[..., 1::3])):
        attention(*arrays, out=whole[place])
        assert_same_bits(whole[place].copy(), expected)
        whole[place] = 77
        assert (whole == 77).all()


def assert_same_bits(got, expected):
    """Of two arrays, or of two tuples of arrays."""
    if isinstance(expected, tuple):
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            assert_same_bits(a, b)
        return
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    differ = bits(got) != bits(expected)
    assert not differ.any(), (
        f"{differ.sum()} of {differ.size} differ, first {np.argwhere(differ)[0]}"
    )


# --- poison


def pattern(x, dtype):
    """The bits of a number, as a whole number."""
    return int(bits(np.array([x], dtype))[0])


# Functions of the dtype. A signalling NaN would not survive being copied as a float.
POISONS = {
    "nan": lambda dtype: pattern(np.nan, dtype),
    "signalling nan": lambda dtype: pattern(np.inf, dtype) + 1,
    "inf": lambda dtype: pattern(np.inf, dtype),
    "-inf": lambda dtype: pattern(-np.inf, dtype),
    "huge": lambda dtype: pattern(np.inf, dtype) - 1,
    "denormal": lambda dtype: 1,
    "-denormal": lambda dtype: pattern(-0.0, dtype) + 1,
}


def poisoned(a, where, poison):
    """A copy of `a` with poison where `where`, bool that broadcasts to its first axes; "mixed" has
    one kind after the other."""
    kinds = POISONS.values() if poison == "mixed" else [POISONS[poison]]
    patterns = np.array([kind(a.dtype) for kind in kinds], f"u{a.itemsize}")
    a = a.copy()
    raw = a.view(f"u{a.itemsize}")
    where = np.broadcast_to(where, a.shape[: where.ndim])
    raw[where] = np.resize(patterns, raw[where].shape)
    return a


# --- subprocesses


def python(code, *arguments, timeout=60, status=0, before=None, **environment):
    """What a fresh interpreter prints when it runs `code`. A hang or a signal is a failure."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYATTN_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        preexec_fn=before,
        check=False,
    )
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout if status == 0 else done.stderr
