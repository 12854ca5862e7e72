"""The time that three layers of 256 numbers a step take for sequences of several lengths, as JSON.

    OPENBLAS_NUM_THREADS=2 PYATTN_NUM_THREADS=2 python examples/sequence_clock.py

rnn_and_attention.py draws it. A process of its own, since NumPy's BLAS must know how many threads
it has before it is loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from recall import GRU

import pyattn
from pyattn.layers import Linear

WIDTH, HEADS = 256, 4
LENGTHS = {1: [32 << n for n in range(9)], 32: [16 << n for n in range(6)]}  # by the batch
Layer = Callable[[np.ndarray], np.ndarray]  # (batch, length, WIDTH) to the same


def gru() -> Layer:
    """The products with the inputs are one; the serial part is one product and the gates a step."""
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal((3 * WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)
        for name in ("input", "hidden")
    }
    biases = {f"{name}_bias": np.zeros(3 * WIDTH, np.float32) for name in weights}
    return GRU(weights | biases).states


def attention() -> Layer:
    layer = pyattn.MultiHeadAttention(WIDTH, HEADS, rng=0)
    return lambda x: layer(x, causal=True)


def linear_attention() -> Layer:
    weights = pyattn.MultiHeadAttention(WIDTH, HEADS, rng=0).weights
    qkv = [Linear(weights[f"{part}_weight"], weights[f"{part}_bias"]) for part in "qkv"]
    out = Linear(weights["out_weight"], weights["out_bias"])

    def call(x: np.ndarray) -> np.ndarray:
        heads = [np.empty((HEADS, *x.shape[:-1], WIDTH // HEADS), x.dtype) for _ in qkv]
        Linear.many(qkv, x, heads)
        attended = pyattn.linear_attention(*(a.swapaxes(0, 1) for a in heads), causal=True)
        return out(attended.swapaxes(1, 2).reshape(x.shape))

    return call


# The GRU last: threads of NumPy's BLAS wait for more by spinning, and keep others from a core.
LAYERS = {"attention": attention, "linear attention": linear_attention, "GRU": gru}


def seconds(call: Callable[[], object]) -> float:
    """The least of three, after one more."""
    call()
    found = []
    for _ in range(3):
        start = perf_counter()
        call()
        found.append(perf_counter() - start)
    return min(found)


def measure(most: int) -> list[dict]:
    """One record per layer, batch and length up to `most`."""
    records = []
    for name, make in LAYERS.items():
        layer = make()
        for batch, lengths in LENGTHS.items():
            for length in (n for n in lengths if n <= most):
                x = np.random.default_rng(1).standard_normal((batch, length, WIDTH))
                x = x.astype(np.float32)
                took = seconds(lambda layer=layer, x=x: layer(x))
                records.append({"layer": name, "batch": batch, "length": length, "seconds": took})
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=8192, metavar="N", help="the longest sequence")
    json.dump(measure(parser.parse_args().most), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
