"""The one benchmark: pyattn against NumPy and whatever else is installed, checked and interleaved.

    python bench.py [masks] [--quick] [--threads N] [--isa NAME] [--only TEXT] [--peers A,B]
                    [--json FILE] [--plot FILE.png]

Every result is first compared with the float64 reference. Then the contestants take turns: in every
round each one rests, warms up with one call, and is timed; a figure is the median over the rounds
of its ratio to pyattn in the same round, so that a machine that slows down slows down everybody.
The peak (multiply-adds in registers) is measured in the same rounds. PyTorch, onnxruntime
(with onnx, to write its graph), OpenVINO and JAX take part if they can be imported.

`python bench.py masks` is the same for masks, biases and packed sequences. There a column more says
what the option costs: pyattn's time per visible product, against its own without any option.
Who has no such option gets it as a dense mask or bias, made before the clock starts; who cannot do
it at all is "n/a".
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

# Before NumPy is imported: a forced core type would hobble the BLAS behind the baseline.
os.environ.pop("OPENBLAS_CORETYPE", None)

import numpy as np

import pyattn
from pyattn import _core

Call = Callable[[], np.ndarray]  # computes, returns (B, H, L, D)

REST = 0.02  # seconds before each turn: the threads of the one before spin for a while, then sleep
TURN = 0.03  # seconds of timed calls per turn, at least one call
TOLERANCE = 2e-5  # relative to the largest value of the reference; float32 everywhere


@dataclass(frozen=True)
class Case:
    name: str
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    size: int
    causal: bool = False
    lengths: tuple[int, ...] = ()
    option: str = ""  # of OPTIONS
    seen: float = 1.0  # the part of the keys that the option shows and pyattn computes

    @property
    def flops(self) -> float:
        """Of the visible part: 4 * size for every query that sees a key."""
        if self.packed:
            return 4.0 * self.heads * self.size * float(np.square(self.lengths, dtype=float).sum())
        lengths = self.lengths or (self.keys,) * self.batch
        seen = 0.0
        for n in lengths:
            if self.causal:
                rows = np.arange(self.queries) + self.keys - self.queries + 1
                seen += float(np.clip(rows, 0, n).sum())
            else:
                seen += float(self.queries) * n
        return 4.0 * self.heads * self.size * seen * self.seen

    @property
    def packed(self) -> bool:
        return self.option == "varlen"

    def __str__(self) -> str:
        heads = f"{self.heads}" if self.heads == self.kv_heads else f"{self.heads}/{self.kv_heads}"
        length = f"{self.queries}" if self.queries == self.keys else f"{self.queries}x{self.keys}"
        notes = " causal" * self.causal + " padded" * bool(self.lengths)
        return f"{self.name} {self.batch},{heads},{length},{self.size}{notes}"


def lengths_of_texts(batch: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(int(n) for n in np.random.default_rng(0).integers(low, high + 1, batch))


CASES = [
    Case("encoder", 8, 12, 12, 512, 512, 64),
    Case("short", 32, 12, 12, 128, 128, 64),
    Case("MiniLM", 32, 12, 12, 128, 128, 32),
    Case("long", 1, 16, 16, 4096, 4096, 64),
    Case("long D=128", 1, 8, 8, 4096, 4096, 128),
    Case("causal", 1, 16, 16, 2048, 2048, 64, causal=True),
    Case("causal", 1, 16, 16, 2048, 2048, 128, causal=True),
    Case("dense", 1, 16, 16, 2048, 2048, 64),
    Case("GQA prefill", 1, 32, 8, 1024, 1024, 128, causal=True),
    Case("tiny", 1, 12, 12, 32, 32, 64),
    Case("cross", 8, 12, 12, 64, 1024, 64),
    Case("padded", 32, 12, 12, 512, 512, 64, lengths=lengths_of_texts(32, 16, 512)),
    Case("D=80", 4, 16, 16, 1024, 1024, 80),
    Case("D=256", 2, 8, 8, 1024, 1024, 256),
]
QUICK = {"encoder", "MiniLM", "causal", "tiny", "padded"}
WINDOW = 256


def window_part(length: int, left: int, right: int) -> float:
    i = np.arange(length)
    return float((np.minimum(i + right, length - 1) - np.maximum(i - left, 0) + 1).mean() / length)


MASK_CASES = [
    Case("no option", 1, 16, 16, 2048, 2048, 64),
    Case("mask (B,1,1,S)", 8, 12, 12, 512, 512, 64, option="mask S"),
    Case("mask (1,1,L,S)", 1, 16, 16, 2048, 2048, 64, option="mask LS"),
    Case("mask (B,H,L,S)", 2, 8, 8, 1024, 1024, 64, option="mask BHLS"),
    Case("bias (1,H,L,S)", 2, 12, 12, 1024, 1024, 64, option="bias HLS"),
    Case("bias (1,H,L,S)", 8, 12, 12, 256, 256, 64, option="bias HLS"),
    Case("ALiBi", 1, 16, 16, 2048, 2048, 64, option="alibi"),
    Case("relative table", 1, 16, 16, 2048, 2048, 64, option="relative"),
    Case("relative grid", 1, 16, 16, 2048, 2048, 64, option="relative grid"),
    Case("softcap", 1, 16, 16, 2048, 2048, 64, option="softcap"),
    Case("sinks", 1, 16, 16, 2048, 2048, 64, option="sinks"),
    Case(
        "window (256,256)", 1, 2, 2, 16384, 16384, 64, option="window",
        seen=window_part(16384, WINDOW, WINDOW),
    ),
    Case(
        "window (256,0)", 1, 2, 2, 16384, 16384, 64, option="causal window",
        seen=window_part(16384, WINDOW, 0),
    ),
    Case("2 documents", 1, 4, 4, 8192, 8192, 64, option="documents", seen=0.5),
    Case(
        "varlen", 32, 12, 12, 512, 512, 64, lengths=lengths_of_texts(32, 16, 512), option="varlen"
    ),
]  # fmt: skip


@dataclass
class Inputs:
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    lengths: np.ndarray | None
    options: dict = field(default_factory=dict)  # as pyattn takes them
    mask: np.ndarray | None = None  # dense, 4 axes, as others take it; where it is small
    bias: np.ndarray | None = None
    softcap: float | None = None

    def offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def packed(self) -> list[np.ndarray]:
        """Query, key and value of packed sequences, (T, H, D)."""
        return [
            np.concatenate([a[b, :, :n].swapaxes(0, 1) for b, n in enumerate(self.lengths)])
            for a in (self.q, self.k, self.v)
        ]


def add_option(case: Case, x: Inputs) -> None:
    """Fills in what the case's option means for pyattn and for the others."""
    rng = np.random.default_rng(1)
    batch, heads, length = case.batch, case.heads, case.queries
    causal_window = np.tri(length, dtype=bool) if case.option == "causal window" else None
    if case.option.startswith("mask"):
        axes = case.option.split()[1]
        shape = tuple(
            n if name in axes else 1
            for name, n in zip("BHLS", (batch, heads, length, length), strict=True)
        )
        shape = (batch, *shape[1:]) if axes == "S" else shape
        x.mask = rng.random(shape) < 0.8
        x.options["mask"] = x.mask
    elif case.option == "bias HLS":
        x.bias = rng.standard_normal((1, heads, length, length), dtype=np.float32)
        x.options["bias"] = x.bias
    elif case.option in ("alibi", "relative", "relative grid"):
        if case.option == "alibi":
            bias = pyattn.biases.alibi(pyattn.biases.alibi_slopes(heads), length, length)
        elif case.option == "relative":
            table = rng.standard_normal((heads, 2 * length - 1), dtype=np.float32)
            bias = pyattn.biases.relative(table, length)
        else:
            table = rng.standard_normal((heads, 63, 2 * length // 32 - 1), dtype=np.float32)
            bias = pyattn.biases.relative_grid(table, (32, length // 32))
        x.options["bias"] = bias
        x.bias = np.asarray(bias)[None].astype(np.float32)
    elif case.option == "softcap":
        x.softcap = x.options["softcap"] = 20.0
    elif case.option == "sinks":
        x.options["sinks"] = np.linspace(-2, 2, heads)
    elif case.option in ("window", "causal window"):
        x.options["window"] = (WINDOW, WINDOW if causal_window is None else 0)
        band = np.tri(length, k=WINDOW, dtype=bool) & np.tri(length, k=WINDOW, dtype=bool).T
        x.mask = (band if causal_window is None else band & causal_window)[None, None]
    elif case.option == "documents":
        x.options["mask"] = pyattn.masks.documents([0, length // 2, length])
        x.mask = np.asarray(x.options["mask"])[None, None]


def make_inputs(case: Case) -> Inputs:
    rng = np.random.default_rng(0)

    def draw(heads: int, length: int) -> np.ndarray:
        return rng.standard_normal((case.batch, heads, length, case.size), dtype=np.float32)

    lengths = np.array(case.lengths) if case.lengths else None
    x = Inputs(
        draw(case.heads, case.queries),
        draw(case.kv_heads, case.keys),
        draw(case.kv_heads, case.keys),
        lengths,
    )
    add_option(case, x)
    return x


def mask_of(case: Case, x: Inputs) -> np.ndarray | None:
    """True = may attend, as the peers want it: four axes."""
    if x.lengths is None:
        return x.mask
    return (np.arange(case.keys) < x.lengths[:, None])[:, None, None, :]


# --- The contestants. Each takes a case and its inputs and returns calls that do the same work;
# --- of several, the fastest one runs. None: it cannot do this case.


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
    from onnx import TensorProto, helper

    def session(node, inputs: dict, opsets: list) -> Call:
        types = {
            np.dtype(np.float32): TensorProto.FLOAT,
            np.dtype(np.int32): TensorProto.INT32,
            np.dtype(bool): TensorProto.BOOL,
        }
        graph = helper.make_graph(
            [node],
            "attention",
            [helper.make_tensor_value_info(n, types[a.dtype], a.shape) for n, a in inputs.items()],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        )
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        made = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        binding = made.io_binding()
        for name, a in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(a))
        binding.bind_output("out")

        def call() -> np.ndarray:
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
        node = helper.make_node(
            "MultiHeadAttention",
            names,
            ["out"],
            domain="com.microsoft",
            num_heads=case.heads,
            unidirectional=int(case.causal),
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        run = session(node, inputs, opsets)
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
        node = helper.make_node(
            "Attention", list(inputs), ["out"], is_causal=int(case.causal), **settings
        )
        run = session(node, inputs, [helper.make_opsetid("", 23)])
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
NEEDS = {"onnxruntime": ("onnxruntime", "onnx"), "plain": ()}


def importable(name: str) -> bool:
    try:
        for module in NEEDS.get(name, (name,)):
            __import__(module)
    except Exception:
        return False
    return True


# --- Measuring


def check(call: Call, case: Case, x: Inputs) -> float:
    """Largest error over some rows of the first and last batch element and head."""
    got = call.result() if isinstance(call, OrtCall) else call()
    rows = np.unique(np.linspace(0, case.queries - 1, 17).astype(int))
    worst = 0.0
    group = case.heads // case.kv_heads

    def own(a: np.ndarray | None, b: int, h: int, i: int) -> np.ndarray | None:
        """The row of a mask or bias."""
        if a is None:
            return None
        b, h, i = (min(n, extent - 1) for n, extent in zip((b, h, i), a.shape[:3], strict=True))
        return a[b, h, i : i + 1]

    for b, h in {(0, 0), (case.batch - 1, case.heads - 1)}:
        for i in rows:  # one row at a time: its place on the key axis is its own
            if case.packed and i >= x.lengths[b]:
                continue
            sinks = x.options.get("sinks")
            want = pyattn.reference.attention(
                x.q[b, h, i : i + 1],
                x.k[b, h // group],
                x.v[b, h // group],
                mask=own(x.mask, b, h, i),
                bias=own(x.bias, b, h, i),
                softcap=x.softcap,
                sinks=None if sinks is None else sinks[h : h + 1],
                causal=case.causal,
                query_start=int(i) + case.keys - case.queries,
                key_lengths=None if x.lengths is None else x.lengths[b],
            )
            # Packed: (T, H, D)
            row = got[x.offsets()[b] + i, h] if got.ndim == 3 else got[b, h, i]
            worst = max(worst, float(np.abs(row - want[0]).max() / np.abs(want).max()))
    return worst


def timed(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def take_turn(call: Call, calls: int) -> float:
    time.sleep(REST)
    call()
    return timed(call, calls)


def fastest(calls: list[Call]) -> Call:
    return (
        min(calls, key=lambda c: min(take_turn(c, 1) for _ in range(2))) if calls[1:] else calls[0]
    )


def fma_peak() -> float:
    """FLOP/s of register-only multiply-adds on pyattn's threads."""
    rounds = 60_000
    _core.probe_fma(False, rounds)
    start = time.perf_counter()
    operations = _core.probe_fma(False, rounds)
    return operations / (time.perf_counter() - start)


def read_bandwidth() -> float:
    """Bytes/s of reading a buffer larger than the caches, best of five."""
    data = np.ones(256 << 20, np.uint8)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        _core.probe_read(data)
        best = max(best, data.size / (time.perf_counter() - start))
    return best


@dataclass
class Row:
    case: Case
    flops: float
    seconds: dict[str, float] = field(default_factory=dict)  # medians
    speedup: dict[str, float] = field(default_factory=dict)  # medians of ratios
    error: dict[str, float] = field(default_factory=dict)
    note: dict[str, str] = field(default_factory=dict)  # why there is no figure
    peak: float = 0.0  # FLOP/s
    of_peak: float = 0.0  # median of ratios
    rounds: int = 0
    cost: float = 0.0  # time per visible product, against pyattn without the option


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Row:
    x = make_inputs(case)
    row = Row(case, case.flops)
    calls: dict[str, Call] = {}
    for name in names:
        try:
            made = CONTESTANTS[name](case, x, threads)
            errors = [check(call, case, x) for call in made if name != "plain"]
        except Exception as problem:  # a peer's, of any kind: it loses the row, not the run
            if name == "pyattn":
                raise
            row.note[name] = type(problem).__name__[:11]
            continue
        row.error[name] = max(errors, default=0.0)
        if not row.error[name] <= TOLERANCE:
            row.note[name] = f"wrong {row.error[name]:.0e}"
        elif made:
            calls[name] = fastest(made)
    if "pyattn" not in calls:
        raise SystemExit(f"{case}: pyattn is {row.note['pyattn']}")
    estimate = {name: take_turn(call, 1) for name, call in calls.items()}
    repeats = {name: max(1, int(TURN / t)) for name, t in estimate.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    peaks: list[float] = []
    deadline = time.perf_counter() + seconds
    while row.rounds < rounds and (row.rounds < 3 or time.perf_counter() < deadline):
        for name, call in calls.items():
            # Whoever is slower by far is known well enough after one round.
            if row.rounds < 1 or estimate[name] < 5 * estimate["pyattn"]:
                times[name].append(take_turn(call, repeats[name]))
            if name == "pyattn":
                peaks.append(fma_peak())  # of the same moment
        row.rounds += 1
    own = times["pyattn"]
    for name, t in times.items():
        row.seconds[name] = statistics.median(t)
        row.speedup[name] = statistics.median(a / b for a, b in zip(t, own, strict=False))
    if "plain" in times:
        ratio = case.flops / plain_flops(case)
        row.cost = statistics.median(a / b for a, b in zip(own, times["plain"], strict=True))
        row.cost /= ratio
    row.peak = statistics.median(peaks)
    row.of_peak = statistics.median(row.flops / t / p for t, p in zip(own, peaks, strict=True))
    return row


def peak_memory(call: Call) -> int | None:
    """Bytes by which a call raises the resident set at most; None where /proc cannot tell."""

    def status(field: str) -> int:
        text = Path("/proc/self/status").read_text()
        return 1024 * int(text.split(field + ":")[1].split()[0])

    try:
        ctypes.CDLL(None).malloc_trim(0)  # what earlier calls freed must be taken anew
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = status("VmRSS")
        call()
        return max(0, status("VmHWM") - before)
    except (OSError, IndexError, ValueError, AttributeError):
        return None


# --- Reporting


def say(*parts: object) -> None:
    print(*parts, flush=True)


def versions(names: list[str]) -> dict[str, str]:
    return {
        name: importlib.metadata.version(name)
        for name in names
        if name not in ("pyattn", "plain") and importlib.util.find_spec(name)
    }


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def print_rows(names: list[str], rows_of: Callable) -> list[Row]:
    others = [n for n in names if n not in ("pyattn", "plain")]
    say(f"{'case (B, heads, L, D)':38}{'ms':>9}{'GFLOP/s':>9}{'% peak':>8}   speed-up over")
    cost = f"{'cost':>8}" if "plain" in names else ""
    say(" " * 64 + cost + "".join(f"{n:>12}" for n in others))
    rows = []
    for row in rows_of():
        own = row.seconds["pyattn"]
        line = (
            f"{row.case!s:38}{own * 1e3:9.3f}{row.flops / own / 1e9:9.1f}{100 * row.of_peak:8.1f}"
        )
        line += f"{row.cost:8.2f}" if "plain" in names else ""
        cells = (
            f"{row.speedup[n]:11.2f}x" if n in row.speedup else f"{row.note.get(n, 'n/a'):>12}"
            for n in others
        )
        say(line + "".join(cells))
        rows.append(row)
    for name in others:
        ratios = [r.speedup[name] for r in rows if name in r.speedup]
        if ratios:
            say(f"{'geometric mean over ' + name:34}{statistics.geometric_mean(ratios):9.2f}x")
    peers = [n for n in others if n != "numpy"]
    if len(peers) > 1:
        ratios = [[r.speedup[n] for n in peers if n in r.speedup] for r in rows]
        best = [min(found) for found in ratios if found]
        say(f"{'geometric mean over the best peer':34}{statistics.geometric_mean(best):9.2f}x")
    return rows


def thread_scaling(threads: int) -> list[dict]:
    say("\nthreads       ms   GFLOP/s   efficiency    (encoder 8,12,512,64)")
    case = CASES[0]
    x = make_inputs(case)
    call = run_pyattn(case, x, threads)[0]
    counts = sorted({1, *(2**i for i in range(1, 20) if 2**i < threads), threads})
    times: dict[int, list[float]] = {n: [] for n in counts}
    for _ in range(5):
        for n in counts:
            pyattn.set_num_threads(n)
            times[n].append(take_turn(call, 1))
    pyattn.set_num_threads(threads)
    table = []
    for n in counts:
        seconds = statistics.median(times[n])
        efficiency = statistics.median(a / b for a, b in zip(times[1], times[n], strict=True)) / n
        table.append({"threads": n, "seconds": seconds, "efficiency": efficiency})
        say(
            f"{n:7}{seconds * 1e3:9.2f}{case.flops / seconds / 1e9:10.1f}{100 * efficiency:11.1f} %"
        )
    return table


def length_scaling(quick: bool) -> list[dict]:
    say("\n length       ms   GFLOP/s   peak extra memory    (1,8,L,64, output preallocated)")
    table = []
    for length in (128, 512, 2048) if quick else (128, 512, 2048, 4096, 8192, 16384):
        case = Case("length", 1, 8, 8, length, length, 64)
        x = make_inputs(case)
        out = np.zeros_like(x.q)
        call = functools.partial(pyattn.attention, x.q, x.k, x.v, out=out)
        call()
        memory = peak_memory(call)
        seconds = min(take_turn(call, 1) for _ in range(2))
        table.append({"length": length, "seconds": seconds, "memory": memory})
        shown = "n/a" if memory is None else f"{memory / 2**20:.2f} MiB"
        say(f"{length:7}{seconds * 1e3:9.2f}{case.flops / seconds / 1e9:10.1f}{shown:>20}")
    return table


def plot(path: str, rows: list[Row], names: list[str], title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 0.55 * len(rows) * 1.2 + 1.5), layout="constrained")
    height = 0.8 / len(names)
    places = np.arange(len(rows))
    for i, name in enumerate(names):
        rates = [r.flops / r.seconds[name] / 1e9 if name in r.seconds else 0 for r in rows]
        axes.barh(places + i * height, rates, height, label=name)
    peaks = [r.peak / 1e9 for r in rows]
    axes.plot(peaks, places + 0.4 - height / 2, "k|", markersize=14, label="FMA peak")
    axes.set_yticks(places + 0.4 - height / 2, [str(r.case) for r in rows])
    axes.invert_yaxis()
    axes.set_xlabel("GFLOP/s of visible work (more is better)")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description="pyattn's benchmark; see the top of bench.py")
    parser.add_argument("suite", nargs="?", default="attention", choices=["attention", "masks"])
    parser.add_argument(
        "--quick", action="store_true", help="fewer cases and rounds: under a minute"
    )
    parser.add_argument(
        "--threads",
        type=int,
        help="threads for all but NumPy's BLAS and JAX, which take what they find",
    )
    parser.add_argument("--isa", help="instruction set for pyattn, such as avx2")
    parser.add_argument("--only", help="only cases whose line contains this text")
    parser.add_argument("--peers", help="comma-separated contestants beside pyattn (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the table (needs matplotlib)")
    options = parser.parse_args()
    if options.isa:
        pyattn.set_isa(options.isa)
    if options.threads:
        pyattn.set_num_threads(options.threads)
    threads = pyattn.get_num_threads()

    wanted = options.peers.split(",") if options.peers is not None else list(CONTESTANTS)
    own = ["pyattn", "plain"] if options.suite == "masks" else ["pyattn"]
    wanted = own + [n for n in wanted if n not in ("pyattn", "plain")]
    names = [n for n in CONTESTANTS if n in wanted and (n in own or importable(n))]
    found = versions(names)
    bandwidth, peak = read_bandwidth(), max(fma_peak() for _ in range(5))
    title = (
        f"pyattn {pyattn.__version__} ({pyattn.get_isa()}, {threads} threads) on {cpu_name()}, "
        f"Python {platform.python_version()}"
    )
    say(title)
    say("with " + ", ".join(f"{n} {v}" for n, v in found.items()))
    missing = [n for n in CONTESTANTS if n not in names and n != "plain"]
    if missing:
        say("not here: " + ", ".join(missing))
    say(f"FMA peak {peak / 1e9:.0f} GFLOP/s, read bandwidth {bandwidth / 1e9:.1f} GB/s\n")

    cases = MASK_CASES if options.suite == "masks" else CASES
    if options.suite != "masks" and options.quick:
        cases = [c for c in cases if c.name in QUICK]
    cases = [c for c in cases if not options.only or options.only in str(c)]
    if not cases:
        parser.error(f"no case contains {options.only!r}")
    seconds, rounds = (1.5, 7) if options.quick else (2.5, 11)
    start = time.perf_counter()
    rows = print_rows(names, lambda: (measure(c, names, threads, seconds, rounds) for c in cases))
    scaling, lengths = [], []
    if not options.only and options.suite != "masks":
        scaling, lengths = thread_scaling(threads), length_scaling(options.quick)
    say(f"\n{time.perf_counter() - start:.0f} s")
    if options.json:
        record = {
            "title": title,
            "date": time.strftime("%Y-%m-%d"),
            "isa": pyattn.get_isa(),
            "threads": threads,
            "versions": found,
            "peak": peak,
            "bandwidth": bandwidth,
            "rows": [asdict(r) for r in rows],
            "threads_scaling": scaling,
            "length_scaling": lengths,
        }
        Path(options.json).write_text(json.dumps(record, indent=1))
    if options.plot:
        plot(options.plot, rows, names, title)


if __name__ == "__main__":
    sys.exit(main())
