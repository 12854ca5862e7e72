"""Who takes part in the attention and mask suites. Each takes a case and its inputs and returns
calls that do the same work; of several, the fastest one runs. None: it cannot do this case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import pyattn
from benchmarks.attention_cases import Case, Inputs, mask_of
from benchmarks.measuring import Call
from benchmarks.operator_graph import FUSED, session


def run_pyattn(case: Case, x: Inputs, threads: int) -> list[Call]:
    if case.packed:
        packed, offsets = x.packed(), x.offsets()
        return [lambda: pyattn.attention_varlen(*packed, offsets)]
    options = x.options | {"causal": case.causal, "key_lengths": x.lengths}
    return [lambda: pyattn.attention(x.q, x.k, x.v, **options)]


def run_plain(case: Case, x: Inputs, threads: int) -> list[Call]:
    """pyattn without any option, on the same shapes up to a length where its rate is the same."""
    q, k, v = (a[:, :, :2048] for a in (x.q, x.k, x.v))
    return [lambda: pyattn.attention(q, k, v)]


def plain_flops(case: Case) -> float:
    return 4.0 * case.batch * case.heads * case.size * min(case.queries, 2048) ** 2


def run_numpy(case: Case, x: Inputs, threads: int) -> list[Call]:
    """Batched matmul by BLAS, softmax in place, one batch element after the other."""
    if case.option == "sinks" or case.keys > 2048:
        return []
    group = case.heads // case.kv_heads
    mask = mask_of(case, x)
    out = np.empty_like(x.q)
    hidden = None
    if case.causal:
        hidden = np.triu(np.ones((case.queries, case.keys), bool), 1 + case.keys - case.queries)

    def call() -> np.ndarray:
        for b in range(case.batch):
            q = x.q[b].reshape(case.kv_heads, group * case.queries, case.size)
            s = (q * np.float32(case.size**-0.5)) @ x.k[b].swapaxes(-1, -2)
            rows = s.reshape(case.kv_heads, group, case.queries, case.keys)
            if x.softcap:
                np.tanh(rows / np.float32(x.softcap), out=rows)
                rows *= np.float32(x.softcap)
            if x.bias is not None:
                rows += x.bias[min(b, len(x.bias) - 1)].reshape(rows.shape)
            if hidden is not None:
                np.putmask(rows, np.broadcast_to(hidden, rows.shape), -np.inf)
            if mask is not None:
                own = ~mask[min(b, len(mask) - 1)][None]
                np.putmask(rows, np.broadcast_to(own, rows.shape).reshape(rows.shape), -np.inf)
            s -= s.max(axis=-1, keepdims=True)
            np.exp(s, out=s)
            s /= s.sum(axis=-1, keepdims=True)
            np.matmul(s, x.v[b], out=out[b].reshape(q.shape))
        return out

    return [call]


def run_torch(case: Case, x: Inputs, threads: int) -> list[Call]:
    import torch

    if x.softcap or case.option == "sinks":
        return []
    sdpa = torch.nn.functional.scaled_dot_product_attention
    q, k, v = (torch.from_numpy(a) for a in (x.q, x.k, x.v))
    mask = mask_of(case, x)
    mask = x.bias if mask is None else mask
    mask = None if mask is None else torch.from_numpy(mask)

    def with_threads(n: int) -> Call:
        def call() -> np.ndarray:
            if torch.get_num_threads() != n:
                torch.set_num_threads(n)
            with torch.inference_mode():
                return sdpa(
                    q,
                    k,
                    v,
                    attn_mask=mask,
                    is_causal=case.causal,
                    enable_gqa=case.heads != case.kv_heads,
                ).numpy()

        return call

    # Its threads cost more than they bring on the smallest case: let it choose.
    return [with_threads(n) for n in {threads, 1 if case.flops < 2e7 else threads}]


def run_onnxruntime(case: Case, x: Inputs, threads: int) -> list[Call]:
    if case.option == "sinks" or (case.option and case.keys > 2048):  # it copies masks per head
        return []
    import onnx
    import onnxruntime as ort

    def bound(operator: str, names: list[str], inputs: dict, **settings: Any) -> Callable:
        made = session(operator, names, inputs, {"out": x.q.dtype}, threads, **settings)
        binding = made.io_binding()
        for name, a in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(a))
        binding.bind_output("out")

        def call() -> ort.IOBinding:
            made.run_with_iobinding(binding)
            return binding

        return call

    calls = []
    mask = mask_of(case, x)
    key_mask = mask is None or mask.shape == (case.batch, 1, 1, case.keys)
    if case.heads == case.kv_heads and key_mask and not x.softcap:
        # com.microsoft MultiHeadAttention, (B, L, H * D)

        def packed(a: np.ndarray) -> np.ndarray:
            swapped = a.swapaxes(1, 2)
            return np.ascontiguousarray(swapped).reshape(*swapped.shape[:2], -1)

        inputs = {"q": packed(x.q), "k": packed(x.k), "v": packed(x.v)}
        names = ["q", "k", "v"]
        if mask is not None:
            inputs["padding"] = mask[:, 0, 0].astype(np.int32)
            names += ["", "padding"]
        if x.bias is not None:
            inputs["bias"] = x.bias
            names += ["", "", "bias"]
        run = bound(
            "MultiHeadAttention",
            names,
            inputs,
            opset=20,
            domain=FUSED,
            num_heads=case.heads,
            unidirectional=int(case.causal),
        )
        unpacked = (case.batch, case.queries, case.heads, case.size)
        calls.append(OrtCall(run, lambda a: a.reshape(unpacked).swapaxes(1, 2)))
    if onnx.defs.onnx_opset_version() >= 23:  # the standard's Attention, (B, H, L, D)
        inputs = {"q": x.q, "k": x.k, "v": x.v}
        if mask is not None:
            shape = (*mask.shape[:2], case.queries, case.keys)
            inputs["mask"] = np.ascontiguousarray(np.broadcast_to(mask, shape))
        if x.bias is not None:
            inputs["mask"] = x.bias
        settings = {"softcap": x.softcap} if x.softcap else {}
        settings |= {"is_causal": int(case.causal)}
        run = bound("Attention", list(inputs), inputs, opset=23, **settings)
        calls.append(OrtCall(run, lambda a: a))
    return calls


@dataclass
class OrtCall:
    """The result stays in onnxruntime's memory while it is timed; `result` fetches it."""

    run: Callable
    order: Callable[[np.ndarray], np.ndarray]

    def __call__(self) -> np.ndarray:
        return self.run()

    def result(self) -> np.ndarray:
        return self.order(self.run().get_outputs()[0].numpy())


def run_openvino(case: Case, x: Inputs, threads: int) -> list[Call]:
    import openvino as ov
    from openvino import opset13

    if case.heads != case.kv_heads or x.softcap or case.option == "sinks" or case.keys > 4096:
        return []
    arrays = [x.q, x.k, x.v]
    mask = mask_of(case, x)
    if x.bias is not None:
        arrays.append(x.bias)
    elif mask is not None:
        arrays.append(np.where(mask, np.float32(0), np.float32(-np.inf)))
    nodes = [opset13.parameter(a.shape, a.dtype) for a in arrays]
    node = opset13.scaled_dot_product_attention(*nodes, causal=case.causal)
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = ov.Core().compile_model(ov.Model([node], nodes), "CPU", settings)
    request = model.create_infer_request()
    for i, a in enumerate(arrays):
        request.set_input_tensor(i, ov.Tensor(a, shared_memory=True))

    def call() -> np.ndarray:
        request.infer()
        return request.get_output_tensor(0).data

    return [call]


def run_jax(case: Case, x: Inputs, threads: int) -> list[Call]:
    import jax

    if x.softcap or case.option == "sinks":
        return []
    jax.config.update("jax_platforms", "cpu")
    q, k, v = (jax.device_put(a.swapaxes(1, 2)) for a in (x.q, x.k, x.v))
    lengths = None if x.lengths is None else jax.numpy.asarray(x.lengths, jax.numpy.int32)
    bias = None if x.bias is None else jax.device_put(x.bias)
    mask = None if x.mask is None else jax.device_put(x.mask)

    @jax.jit
    def attend(q, k, v):
        return jax.nn.dot_product_attention(
            q, k, v, bias, mask, is_causal=case.causal, key_value_seq_lengths=lengths
        )

    return [lambda: np.asarray(attend(q, k, v).block_until_ready()).swapaxes(1, 2)]


CONTESTANTS = {
    "pyattn": run_pyattn,
    "plain": run_plain,
    "numpy": run_numpy,
    "torch": run_torch,
    "onnxruntime": run_onnxruntime,
    "openvino": run_openvino,
    "jax": run_jax,
}
