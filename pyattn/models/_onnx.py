"""Reads a vision transformer out of an ONNX file.

Of a model of Hugging Face that PyTorch exported; whatever follows its last norm is left alone. The
exporter keeps the names of parameters, but not of those that it transposes or cuts:
the matrices of linear maps, and the positions. A matrix is named by the bias that is added to its
product; positions are what is added to the tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyattn.models import _check_files, _check_image_encoder, _check_models
from pyattn.models._safetensors import Tensors

KINDS = {1: "F32", 10: "F16", 11: "F64"}  # of TensorProto.DataType


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
        array = _check_image_encoder.onnx_tensor(entry.path, name, lambda: read(entry.proto))
        return array.T if entry.transposed else array.reshape(entry.shape)


class Graph:
    """The nodes of a file, and who makes and who takes each value."""

    def __init__(self, path: Path) -> None:
        onnx = _check_models.extra("onnx", "onnx")
        _check_files.is_file(path, "the model")
        model = _check_image_encoder.onnx_model(
            path, lambda: onnx.load(path, load_external_data=False)
        )
        self.path, self.inputs = path, model.graph.input
        self.nodes = [node for node in model.graph.node if node.output]
        self.constants = {proto.name: proto for proto in model.graph.initializer}
        self.maker: dict[str, Any] = {}
        self.takers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.takers[name].append(node)
            for name in node.output:
                self.maker[name] = node
            if node.op_type == "Constant":
                for given in node.attribute:
                    if given.name == "value":
                        self.constants[node.output[0]] = given.t

    def tensors(self) -> OnnxTensors:
        """All that have names of parameters, or have got one here."""
        entries = {name: self.entry(name) for name in self.constants}
        for matrix, bias in self._biased_products():
            name = f"{bias.removesuffix('bias')}weight"
            if bias.endswith(".bias") and name not in entries:
                entries[name] = self.entry(matrix, transposed=True)
        return OnnxTensors(entries, [self.path])

    def entry(self, name: str, transposed: bool = False) -> OnnxEntry:
        return self.entry_of(self.constants[name], transposed)

    def entry_of(self, proto: Any, transposed: bool = False) -> OnnxEntry:
        if proto.data_location == proto.EXTERNAL:
            _check_image_encoder.external(self.path, proto.name)
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

    def takes(self, name: str, operator: str) -> list[Any]:
        """The nodes of one kind that take a value."""
        return [node for node in self.takers[name] if node.op_type == operator]

    def source(self, name: str, *operators: str) -> str:
        """What a value was before nodes of these kinds, along their first inputs."""
        for _ in self.nodes:  # no more, for a broken file may go round
            node = self.made_by(name, *operators)
            if node is None:
                break
            name = operand(node, 0)
        return name

    def count(self, operator: str) -> int:
        return sum(node.op_type == operator for node in self.nodes)

    def _biased_products(self) -> Iterator[tuple[str, str]]:
        """Matrix and bias of every linear map."""
        for node in self.nodes:
            if node.op_type != "Add":
                continue
            for bias, product in permutations(node.input, 2):
                made = self.made_by(product, "MatMul")
                matrix = "" if made is None else operand(made, 1)
                if bias in self.constants and matrix in self.constants:
                    yield matrix, bias


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
