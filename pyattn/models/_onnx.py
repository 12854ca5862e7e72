"""Reads a vision transformer out of an ONNX file.

Of a model of Hugging Face that PyTorch exported. The exporter keeps the names of parameters, but
not of those that it transposes or cuts: the matrices of linear maps, and the positions. Those are
found by what is done with them: see _onnx_config.py.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyattn.models import _check_files, _check_models, _check_onnx
from pyattn.models._safetensors import Tensors

KINDS = {1: "F32", 10: "F16", 11: "F64"}  # of TensorProto.DataType
STANDARD = ("", "ai.onnx")  # domains of operators; others may mean anything by the same name


class OnnxEntry(NamedTuple):
    """A tensor of the file, whose `shape` is that of what it is here."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    proto: Any
    transposed: bool


class OnnxTensors(Tensors):
    """The tensors of a file by name."""

    known = tuple(KINDS.values())

    def stored(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        read = _check_models.extra("onnx.numpy_helper", "onnx").to_array
        array = _check_onnx.tensor(entry.path, name, lambda: read(entry.proto))
        return array.T if entry.transposed else array.reshape(entry.shape)


class Graph:
    """The nodes of a file, and who makes and who takes each value."""

    def __init__(self, path: Path) -> None:
        onnx = _check_models.extra("onnx", "onnx")
        _check_files.is_file(path, "the model")
        model = _check_onnx.parsed(path, lambda: onnx.load(path, load_external_data=False))
        self.path, self.inputs = path, model.graph.input
        versions = (o.version for o in model.opset_import if o.domain in STANDARD)
        self.opset = max(versions, default=0)
        self.constants = {proto.name: proto for proto in model.graph.initializer}
        self.maker: dict[str, Any] = {}
        self.takers: dict[str, list[Any]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.takers[name].append(node)
            if not node.output or node.domain not in STANDARD:
                continue
            self.maker[node.output[0]] = node  # what else a node makes is of no interest here
            if node.op_type == "Constant":
                for given in node.attribute:
                    if given.name == "value":
                        self.constants[node.output[0]] = given.t

    def tensors(self) -> OnnxTensors:
        """All constants, by name."""
        return OnnxTensors({name: self.entry(name) for name in self.constants}, [self.path])

    def entry(self, name: str, transposed: bool = False) -> OnnxEntry:
        return self.entry_of(self.constants[name], transposed)

    def entry_of(self, proto: Any, transposed: bool = False) -> OnnxEntry:
        if proto.data_location == proto.EXTERNAL:
            _check_onnx.external(self.path, proto.name)
        _check_onnx.extents(self.path, proto.name, proto.dims)
        kind = KINDS.get(proto.data_type, f"of the type {proto.data_type}")
        shape = tuple(proto.dims)
        return OnnxEntry(self.path, kind, shape[::-1] if transposed else shape, proto, transposed)

    def value(self, name: str) -> np.ndarray | None:
        """Of a constant, or None."""
        if name not in self.constants:
            return None
        return OnnxTensors({name: self.entry(name)}, [self.path]).stored(name)

    def made_by(self, name: str, *operators: str) -> Any | None:
        """The node that makes a value, if it is one of these."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type in operators else None


def operand(node: Any, at: int) -> str:
    """The name of an input of a node, or nothing in a broken file."""
    return node.input[at] if -len(node.input) <= at < len(node.input) else ""


def attribute(node: Any, name: str) -> float | int | bytes | list[int] | None:
    """A value that a node has beside its inputs; None if it is not there, or of another kind."""
    for given in node.attribute:
        if given.name == name:
            kinds = {given.FLOAT: given.f, given.INT: given.i, given.STRING: given.s}
            return list(given.ints) if given.type == given.INTS else kinds.get(given.type)
    return None
