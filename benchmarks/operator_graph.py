"""A graph of one operator, for onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FUSED = "com.microsoft"


def element_type(dtype: np.dtype) -> int:
    """The number by which ONNX knows a dtype."""
    from onnx import TensorProto

    numbers = {
        "float32": TensorProto.FLOAT,
        "float16": TensorProto.FLOAT16,
        "int8": TensorProto.INT8,
        "int32": TensorProto.INT32,
        "bool": TensorProto.BOOL,
    }
    return numbers[dtype.name]


def session(
    operator: str,
    names: list[str],
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.dtype],
    threads: int,
    *,
    opset: int,
    domain: str = "",
    **attributes: Any,
) -> InferenceSession:
    """`names` are the inputs in the operator's order, "" for those left out."""
    import onnxruntime as ort
    from onnx import helper

    graph = helper.make_graph(
        [helper.make_node(operator, names, list(outputs), domain=domain, **attributes)],
        "attention",
        [
            helper.make_tensor_value_info(name, element_type(a.dtype), a.shape)
            for name, a in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, element_type(dtype), None)
            for name, dtype in outputs.items()
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@dataclass
class Bound:
    """A call that reads and writes arrays where they lie; it holds them, the session does not."""

    run: InferenceSession
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        self.binding = self.run.io_binding()
        for name, a in self.inputs.items():
            put(self.binding.bind_input, name, a)
        for name, a in self.outputs.items():
            put(self.binding.bind_output, name, a)

    def __call__(self) -> np.ndarray:
        self.run.run_with_iobinding(self.binding)
        return self.outputs["out"]


def put(bind: Callable[..., None], name: str, a: np.ndarray) -> None:
    bind(name, "cpu", 0, element_type(a.dtype), a.shape, a.ctypes.data)
