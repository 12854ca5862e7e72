"""What several test files need: operands, a table of options, bitwise comparison, subprocesses."""

import os
import subprocess
import sys

import numpy as np

STRESS = os.environ.get("PYATTN_STRESS") == "1"
FLOATS = (np.float32, np.float64)

# Lengths around the edges of vectors, tiles, blocks (64 keys) and chunks (512 keys).
EDGES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129)
LONG_EDGES = (511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049)

# Options under which every law must hold, as functions of the batch, L and S. A new option that
# decides what may be seen, or changes the scores, belongs in this table.
OPTIONS = {
    "all": lambda batch, queries, keys: {},
    "scale": lambda batch, queries, keys: {"scale": -0.3},
    "causal": lambda batch, queries, keys: {"causal": True},
    "top-left": lambda batch, queries, keys: {"causal": True, "query_start": 0},
    "starts": lambda batch, queries, keys: {
        "causal": True,
        "query_start": np.linspace(-queries // 2, keys, batch).astype(int),
    },
    "lengths": lambda batch, queries, keys: {
        "key_lengths": np.linspace(keys - 1, 0, batch).astype(int)
    },
    "causal lengths": lambda batch, queries, keys: {
        "causal": True,
        "key_lengths": np.linspace(keys - 1, keys // 3, batch).astype(int),
    },
}


def operands(rng, batch, heads, queries, keys, d=16, dv=None, kv_heads=None, dtype=np.float32):
    """Standard normal query, key and value, heads first."""
    kv_heads, dv = kv_heads or heads, d if dv is None else dv
    shapes = (batch, heads, queries, d), (batch, kv_heads, keys, d), (batch, kv_heads, keys, dv)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def of_batch(options, element):
    """`options` for one batch element alone."""
    return {
        name: value[element : element + 1] if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }


def bits(a):
    """The array as unsigned integers, so that NaN equals NaN and -0 differs from +0."""
    a = np.ascontiguousarray(a)
    return a.view(f"u{a.itemsize}")


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
