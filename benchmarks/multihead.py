"""The multi-head layer against PyTorch's and a plain one: a part of the suite `layer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

import pyattn
from benchmarks.contest import Result, hold, relative_error, runner
from benchmarks.measuring import Call, fma_peak
from pyattn import reference

TOLERANCE = 2e-5  # relative to the largest value of the reference


@dataclass(frozen=True)
class Case:
    name: str
    batch: int
    queries: int
    embed_dim: int
    heads: int
    keys: int | None = None  # of another input; None: attention of the input to itself
    causal: bool = False
    lengths: tuple[int, ...] | None = None  # of sequences that we pack and others pad

    @property
    def work(self) -> float:
        """FLOPs of what is asked for, without padding."""
        e, rows, own = self.embed_dim, self.batch * self.queries, self.queries
        keys = self.keys or own
        pairs = self.batch * (own * (own + 1) / 2 if self.causal else own * keys)
        if self.lengths is not None:
            rows, pairs = sum(self.lengths), sum(n * n for n in self.lengths)
        key_rows = rows if self.keys is None else self.batch * keys
        return 4.0 * e * e * (rows + key_rows) + 4.0 * e * pairs

    def __str__(self) -> str:
        keys = f"x{self.keys}" if self.keys else ""
        return f"{self.name} {self.batch},{self.queries}{keys},{self.embed_dim},{self.heads}"


# Of 32 real texts, in tokens: docstrings, see the suite `encoder`.
TEXTS = (12, 13, 14, 15, 16, 17, 17, 18, 19, 20, 21, 22, 23, 24, 26, 27)
TEXTS += (29, 31, 33, 36, 39, 42, 46, 51, 57, 64, 73, 86, 104, 133, 186, 256)
CASES = [
    Case("BERT-base", 8, 512, 768, 12),
    Case("MiniLM", 32, 128, 384, 12),
    Case("causal", 2, 1024, 768, 12, causal=True),
    Case("cross", 8, 64, 768, 12, keys=512),
    Case("short", 1, 32, 384, 12),
    Case("one token", 1, 1, 384, 12),
    Case("texts", 32, 256, 384, 12, lengths=TEXTS),
]
QUICK = [case for case in CASES if case.name in ("BERT-base", "short", "texts")]


@dataclass(frozen=True)
class Inputs:
    x: np.ndarray  # (B, L, E)
    y: np.ndarray | None  # keys and values, if they are not of x
    weights: dict[str, np.ndarray]  # as MultiHeadAttention.from_weights takes them

    @classmethod
    def of(cls, case: Case) -> Inputs:
        rng = np.random.default_rng(0)
        e = case.embed_dim
        weights = {}
        for part in ("q", "k", "v", "out"):
            weight = rng.standard_normal((e, e), dtype=np.float32)
            weights[f"{part}_weight"] = weight * np.float32(e**-0.5)
            weights[f"{part}_bias"] = rng.standard_normal(e, dtype=np.float32)
        x = rng.standard_normal((case.batch, case.queries, e), dtype=np.float32)
        y = None
        if case.keys:
            y = rng.standard_normal((case.batch, case.keys, e), dtype=np.float32)
        return cls(x, y, weights)

    def is_token(self, case: Case) -> np.ndarray:
        """(B, L): not padding."""
        return np.arange(case.queries) < np.array(case.lengths)[:, None]


# --- The contestants: the fastest of the calls runs. Padded results have anything in the padding.


def run_pyattn(case: Case, inputs: Inputs, threads: int) -> list[Call]:
    layer = pyattn.MultiHeadAttention.from_weights(inputs.weights, case.heads)
    if case.lengths is None:
        return [lambda: layer(inputs.x, inputs.y, causal=case.causal)]
    packed = inputs.x[inputs.is_token(case)]
    offsets = np.concatenate([[0], np.cumsum(case.lengths)])
    return [lambda: layer(packed, cu_seqlens=offsets)]


def run_numpy(case: Case, inputs: Inputs, threads: int) -> list[Call]:
    """As courses write it; weights transposed and joined beforehand, one sequence after the other
    between the products."""
    w = inputs.weights
    e, heads, size = case.embed_dim, case.heads, case.embed_dim // case.heads

    def joined(*parts: str) -> tuple[np.ndarray, np.ndarray]:
        weight = np.concatenate([w[f"{part}_weight"] for part in parts]).T
        return np.ascontiguousarray(weight), np.concatenate([w[f"{part}_bias"] for part in parts])

    q_of, kv_of, qkv_of, out_of = (joined(*parts) for parts in ("q", "kv", "qkv", ["out"]))
    hidden = np.triu(np.ones((case.queries, case.queries), bool), 1)

    def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        y = x.reshape(-1, e) @ weight
        y += bias
        return y.reshape(*x.shape[:2], -1)

    def call() -> np.ndarray:
        if inputs.y is None:
            q, k, v = np.split(linear(inputs.x, *qkv_of), 3, axis=-1)
        else:
            q = linear(inputs.x, *q_of)
            k, v = np.split(linear(inputs.y, *kv_of), 2, axis=-1)
        attended = np.zeros_like(inputs.x)
        for b in range(case.batch):
            n = None if case.lengths is None else case.lengths[b]
            q_b, k_b, v_b = (a[b, :n].reshape(-1, heads, size).swapaxes(0, 1) for a in (q, k, v))
            s = (q_b * np.float32(size**-0.5)) @ k_b.swapaxes(-1, -2)
            if case.causal:
                np.putmask(s, np.broadcast_to(hidden, s.shape), -np.inf)
            s -= s.max(axis=-1, keepdims=True)
            np.exp(s, out=s)
            s /= s.sum(axis=-1, keepdims=True)
            attended[b, :n].reshape(-1, heads, size)[...] = (s @ v_b).swapaxes(0, 1)
        return linear(attended, *out_of)

    return [call]


def run_torch(case: Case, inputs: Inputs, threads: int) -> list[Call]:
    """In eval mode, without weights: by its fused path, by its other one, and by that with the
    sequence as first axis, as it was made for."""
    import torch

    torch.set_num_threads(threads)
    w = inputs.weights
    joined = {
        f"in_proj_{kind}": np.concatenate([w[f"{part}_{kind}"] for part in "qkv"])
        for kind in ("weight", "bias")
    }
    state = {f"out_proj.{kind}": w[f"out_{kind}"] for kind in ("weight", "bias")} | joined
    options: dict = {"need_weights": False}
    if case.causal:
        mask = torch.nn.Transformer.generate_square_subsequent_mask(case.queries)
        options |= {"attn_mask": mask, "is_causal": True}
    if case.lengths is not None:
        options["key_padding_mask"] = torch.from_numpy(~inputs.is_token(case))

    def with_settings(batch_first: bool, fused: bool) -> Call:
        layer = torch.nn.MultiheadAttention(case.embed_dim, case.heads, batch_first=batch_first)
        layer.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
        layer.eval()
        x = torch.from_numpy(inputs.x)
        y = x if inputs.y is None else torch.from_numpy(inputs.y)
        if not batch_first:
            x = x.transpose(0, 1).contiguous()
            y = x if inputs.y is None else y.transpose(0, 1).contiguous()

        def call() -> np.ndarray:
            torch.backends.mha.set_fastpath_enabled(fused)
            with torch.inference_mode():
                out = layer(x, y, y, **options)[0]
            return (out if batch_first else out.transpose(0, 1)).numpy()

        return call

    return [with_settings(True, True), with_settings(True, False), with_settings(False, False)]


CONTESTANTS: dict[str, Callable[[Case, Inputs, int], list[Call]]] = {
    "pyattn": run_pyattn,
    "numpy": run_numpy,
    "torch": run_torch,
}


# --- Measuring


def exact(case: Case, inputs: Inputs) -> dict[int, np.ndarray]:
    """The results for the first and the last sequence."""
    found = {}
    for b in (0, case.batch - 1):
        length = None if case.lengths is None else case.lengths[b]
        x, y = inputs.x[b, :length], None if inputs.y is None else inputs.y[b]
        found[b], _ = reference.multi_head_attention(
            inputs.weights, case.heads, x, y, causal=case.causal
        )
    return found


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Result:
    inputs = Inputs.of(case)
    want = exact(case, inputs)

    def error(call: Call) -> float:
        got = call()
        if case.lengths is not None:
            rows = got if got.ndim == 2 else got[inputs.is_token(case)]
            got = np.split(rows, np.cumsum(case.lengths)[:-1])
        return max(relative_error(got[b], w) for b, w in want.items())

    return hold(
        case,
        {name: partial(CONTESTANTS[name], case, inputs, threads) for name in names},
        error,
        TOLERANCE,
        fma_peak,
        seconds,
        rounds,
    )


run = runner("multi-head layer (B, L, E, heads)", CONTESTANTS, measure)
