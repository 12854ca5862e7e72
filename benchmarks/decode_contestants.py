"""Who takes part in the suite `decode`. Each takes a case and its inputs and returns calls that
attend to the layers in turn; of several, the fastest one runs. None: it cannot do this case.
The numbers of a result stand in the order of (B, H, 1, D), whatever its shape."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import pyattn
from benchmarks.decode_cases import ARRAYS, INT8_SCALE, Case, Inputs
from benchmarks.measuring import Call
from benchmarks.operator_graph import FUSED, Bound, session

if TYPE_CHECKING:
    import torch


def in_turn(calls: Sequence[Call]) -> Call:
    if len(calls) == 1:
        return calls[0]
    endless = itertools.cycle(calls)
    return lambda: next(endless)()


def run_pyattn(case: Case, inputs: Inputs, threads: int) -> list[Call]:
    if case.form == ARRAYS:
        calls = [partial(pyattn.attention, inputs.query, k, v) for k, v in inputs.layers]
        return [in_turn(calls)]

    def filled(k: np.ndarray, v: np.ndarray) -> pyattn.KVCache:
        cache = pyattn.KVCache(case.batch, case.kv_heads, case.size, dtype=case.dtype)
        for b in range(case.batch):  # one after the other, so that floats of int8 stay small
            rows = (a[b : b + 1] for a in (k, v))
            if case.dtype == "int8":
                rows = (a * np.float32(INT8_SCALE) for a in rows)
            cache.append(*rows, rows=[b])
        return cache

    caches = [filled(k, v) for k, v in inputs.layers]
    return [in_turn([partial(cache.attend, inputs.query) for cache in caches])]


def run_numpy(case: Case, inputs: Inputs, threads: int) -> list[Call]:
    """Products by BLAS, which wants float32: halves are widened, one sequence after the other."""
    if case.dtype == "int8":
        return []
    grouped = folded(case, inputs.query).astype(np.float32) * np.float32(case.size**-0.5)

    def attend(k: np.ndarray, v: np.ndarray) -> np.ndarray:
        out = np.empty_like(inputs.query)
        for b in range(case.batch):
            k_b, v_b = (a[b].astype(np.float32, copy=False) for a in (k, v))
            s = grouped[b] @ k_b.swapaxes(-1, -2)
            s -= s.max(axis=-1, keepdims=True)
            np.exp(s, out=s)
            s /= s.sum(axis=-1, keepdims=True)
            out[b] = (s @ v_b).reshape(out.shape[1:])
        return out

    return [in_turn([partial(attend, k, v) for k, v in inputs.layers])]


def folded(case: Case, query: np.ndarray) -> np.ndarray:
    """The query heads of a group as so many queries of their key head."""
    return query.reshape(case.batch, case.kv_heads, -1, case.size)


def run_torch(case: Case, inputs: Inputs, threads: int) -> list[Call]:
    if case.dtype == "int8":
        return []
    # Its threads cost more than they bring on the smallest case: let it choose.
    counts = {threads, 1 if case.one_layer else threads}
    return [torch_calls(inputs.query, inputs, n) for n in counts]


def torch_calls(query: np.ndarray, inputs: Inputs, threads: int) -> Call:
    import torch

    q = tensor(query)

    def attend(k: torch.Tensor, v: torch.Tensor) -> np.ndarray:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            out = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, enable_gqa=q.shape[1] != k.shape[1]
            )
            return (out.float() if out.dtype == torch.bfloat16 else out).numpy()

    return in_turn([partial(attend, tensor(k), tensor(v)) for k, v in inputs.layers])


def tensor(a: np.ndarray) -> torch.Tensor:
    import torch

    if a.dtype.name == "bfloat16":
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(a)


def run_onnxruntime(case: Case, inputs: Inputs, threads: int) -> list[Call]:
    """GroupQueryAttention, whose newest key and value come apart and are written into the cache;
    the standard's Attention; and MultiHeadAttention if no heads share keys. For int8 there is the
    first one only, here with a scale for the whole cache; for bfloat16 none."""
    if case.dtype == "bfloat16":
        return []
    calls = [group_query_attention(case, inputs, threads)]
    if case.dtype != "int8":
        calls.append(plain_graph("Attention", inputs.query, inputs, threads, opset=23))
    if case.dtype == "float32" and case.heads == case.kv_heads:
        query = inputs.query.reshape(case.batch, 1, -1)
        options = {"opset": 20, "domain": FUSED, "num_heads": case.heads}
        calls.append(plain_graph("MultiHeadAttention", query, inputs, threads, **options))
    return calls


def plain_graph(
    operator: str, query: np.ndarray, inputs: Inputs, threads: int, **settings: Any
) -> Call:
    layers = [{"q": query, "k": k, "v": v} for k, v in inputs.layers]
    out = {"out": np.empty_like(query)}
    run = session(operator, list("qkv"), layers[0], {"out": query.dtype}, threads, **settings)
    return in_turn([Bound(run, layer, out) for layer in layers])


def group_query_attention(case: Case, inputs: Inputs, threads: int) -> Call:
    query = inputs.query.reshape(case.batch, 1, -1)
    newest = [a[:, :, -1:] for a in inputs.layers[0]]
    names = ["q", "k", "v", "keys", "values", "last", "total"]
    settings: dict[str, Any] = {"num_heads": case.heads, "kv_num_heads": case.kv_heads}
    given = {
        "q": query,
        "last": np.full(case.batch, case.keys - 1, np.int32),
        "total": np.array(case.keys, np.int32),
    }
    if case.dtype == "int8":
        newest = [a * np.float32(INT8_SCALE) for a in newest]
        given["scale"] = np.array([INT8_SCALE], np.float32)
        names += ["", "", "", "", "", "scale", "scale"]
        kinds = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR"}
        settings |= {"kv_cache_bit_width": 8, **kinds}
    for name, a in zip("kv", newest, strict=True):
        given[name] = a.reshape(case.batch, 1, -1)
    layers = [{**given, "keys": k, "values": v} for k, v in inputs.layers]
    # What was cached and what is then are the same memory: nothing is copied.
    outs = [{"out": np.empty_like(query), "new keys": k, "new values": v} for k, v in inputs.layers]
    types = {name: a.dtype for name, a in outs[0].items()}
    operator = "GroupQueryAttention"
    run = session(operator, names, layers[0], types, threads, opset=20, domain=FUSED, **settings)
    return in_turn([Bound(run, layer, out) for layer, out in zip(layers, outs, strict=True)])


def run_folded(case: Case, inputs: Inputs, threads: int) -> list[Call]:
    """What their users can do by hand where one query attends to all keys."""
    if case.dtype == "int8" or case.heads == case.kv_heads:
        return []
    query = folded(case, inputs.query)
    calls = [torch_calls(query, inputs, threads)]
    if case.dtype != "bfloat16":
        calls.append(plain_graph("Attention", query, inputs, threads, opset=23))
    return calls


CONTESTANTS: dict[str, Callable[[Case, Inputs, int], list[Call]]] = {
    "pyattn": run_pyattn,
    "numpy": run_numpy,
    "torch": run_torch,
    "onnxruntime": run_onnxruntime,
    "folded": run_folded,
}
