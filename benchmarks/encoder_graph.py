"""BERT as onnxruntime likes it best: its fused operators, float32.

The graph is the one that onnxruntime's transformer optimizer makes of a model exported from PyTorch
- embeddings with their norm, attention with its projections, sums with their norm and bias, GELU
with its bias are one operator each - but written down, so that it does not depend on what an
exporter writes and an optimizer recognises.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.encoder_inputs import Model

ATTENTIONS = ("Attention", "MultiHeadAttention")
FUSED = "com.microsoft"


def fused_graph(model: Model, attention: str) -> bytes:
    """Of ids and mask, int32 (B, L), it makes the states of the last layer, (B, L, hidden)."""
    from onnx import TensorProto, helper, numpy_helper

    weights, nodes, constants = model.weights, [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(name: str) -> str:
        """Of a linear layer, as the right factor of a product."""
        return constant(f"{name}.weight", weights[f"{name}.weight"].T)

    def vectors(name: str) -> list[str]:
        return [
            constant(f"{name}.{kind}", weights[f"{name}.{kind}"]) for kind in ("weight", "bias")
        ]

    def bias(name: str) -> str:
        return constant(f"{name}.bias", weights[f"{name}.bias"])

    def node(operator: str, inputs: list[str], *outputs: str, **options: object) -> str:
        domain = "" if operator == "MatMul" else FUSED
        nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **options))
        return outputs[0]

    def sum_and_norm(y: str, name: str, x: str, out: str) -> str:
        """The linear layer `name` of y, plus x, normalised."""
        start = name.removesuffix(".dense")
        y = node("MatMul", [y, weight(name)], f"{out}.product")
        inputs = [y, x, *vectors(f"{start}.LayerNorm"), bias(name)]
        return node("SkipLayerNormalization", inputs, out, epsilon=model.eps)

    def attended(x: str, layer: str, n: int) -> str:
        joined = model.joined(n, "weight").T
        bias = constant(f"{layer}.qkv.bias", model.joined(n, "bias"))
        if attention == "Attention":
            inputs = [x, constant(f"{layer}.qkv.weight", joined), bias, "lengths"]
        else:
            parts = zip("qkv", np.split(joined, 3, axis=1), strict=True)
            factors = [[x, constant(f"{layer}.{part}.weight", w)] for part, w in parts]
            products = [node("MatMul", f, f"{f[1]}.product") for f in factors]
            inputs = [*products, bias, "lengths"]
        return node(attention, inputs, f"{layer}.attended", num_heads=model.heads)

    start = "embeddings."
    words = constant(f"{start}words", weights[f"{start}word_embeddings.weight"])
    # All tokens are of the first type.
    positions = weights[f"{start}position_embeddings.weight"].copy()
    positions += weights[f"{start}token_type_embeddings.weight"][0]
    positions = constant(f"{start}positions", positions)
    inputs = ["ids", "", words, positions, "", *vectors(f"{start}LayerNorm"), "mask"]
    x = node("EmbedLayerNormalization", inputs, "embedded", "lengths", epsilon=model.eps)
    for n in range(model.layers):
        layer = f"encoder.layer.{n}"
        y = attended(x, layer, n)
        x = sum_and_norm(y, f"{layer}.attention.output.dense", x, f"{layer}.middle")
        inner = f"{layer}.intermediate.dense"
        y = node("MatMul", [x, weight(inner)], f"{inner}.product")
        y = node("BiasGelu", [y, bias(inner)], f"{inner}.gelu")
        x = sum_and_norm(y, f"{layer}.output.dense", x, f"{layer}.out")
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info(n, TensorProto.INT32, ["B", "L"]) for n in ("ids", "mask")],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["B", "L", model.hidden])],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def states(
    model: Model, attention: str, threads: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(
        fused_graph(model, attention), options, providers=["CPUExecutionProvider"]
    )

    def call(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        mask = np.arange(ids.shape[1]) < lengths[:, None]
        inputs = {"ids": ids.astype(np.int32), "mask": mask.astype(np.int32)}
        return session.run(None, inputs)[0]

    return call


def operators(model: Model, attention: str) -> dict[str, int]:
    """How many of each run, after all that onnxruntime itself makes of the graph."""
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as name:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(name) / "optimized.onnx")
        options.log_severity_level = 3
        ort.InferenceSession(
            fused_graph(model, attention), options, providers=["CPUExecutionProvider"]
        )
        return dict(
            Counter(n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node)
        )
