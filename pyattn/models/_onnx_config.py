"""What the graph of a vision transformer says of its sizes and choices.

Choices that neither names nor shapes tell are looked up where they stand, in every layer, so that
another model is refused and not computed wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pyattn.models import _check_image_encoder, _check_models
from pyattn.models._encoder_tensors import common_prefix
from pyattn.models._image_config import ImageConfig
from pyattn.models._image_families import FAMILIES, VIT, ImageFamily
from pyattn.models._image_processing import ImageProcessing
from pyattn.models._image_sizes import layer_numbers, told_by_tensors
from pyattn.models._onnx import Graph, OnnxTensors, attribute, operand

MOVES = ("Cast", "Expand", "Reshape", "Transpose")
RESIZED = {"mode": b"cubic", "coordinate_transformation_mode": b"half_pixel"}
GELU = {None: "gelu", b"none": "gelu", b"tanh": "gelu_tanh"}


def onnx_config(path: Path) -> tuple[ImageConfig, OnnxTensors, ImageProcessing]:
    """The encoder in a file, and its tensors; colours are those that its family usually has."""
    graph = Graph(path)
    tensors = graph.tensors()
    prefix = common_prefix(tensors, f"{VIT.patches}.weight")
    model_type = _model_type(tensors, prefix)
    family = FAMILIES[model_type]
    walk = _Walk(graph, tensors, prefix, family)
    tensors = OnnxTensors(tensors.entries | walk.positions(), tensors.files)
    config = told_by_tensors(
        tensors,
        prefix,
        family,
        path=path,
        model_type=model_type,
        head_dim=walk.head_dim(),
        activation=walk.activation(),
        eps=walk.eps(),
    )
    walk.check(config)
    axes = [axis for given in graph.inputs[:1] for axis in given.type.tensor_type.shape.dim]
    size = tuple(axis.dim_value for axis in axes[2:])  # 0: any
    fixed = len(size) == 2 and min(size) > 0
    return config, tensors, ImageProcessing(family.mean, family.std, size=size if fixed else None)


def _model_type(tensors: OnnxTensors, prefix: str) -> str:
    """The last that has all its tensors there: those before it have some of them."""

    def own(family: ImageFamily) -> Iterator[str]:
        yield f"{family.layer.format(0)}{family.attention_norm}.weight"
        yield from family.tokens
        if family.registers:
            yield family.registers

    there = [
        name
        for name, family in FAMILIES.items()
        if all(prefix + tensor in tensors for tensor in own(family))
    ]
    if not there:
        _check_image_encoder.not_a_vision_transformer(
            tensors.files[0], f"its tensors are those of none of {', '.join(FAMILIES)}"
        )
    return there[-1]


class _Walk:
    """Goes from the tensors of a family to the nodes that take them."""

    def __init__(
        self, graph: Graph, tensors: OnnxTensors, prefix: str, family: ImageFamily
    ) -> None:
        self.graph, self.tensors, self.prefix, self.family = graph, tensors, prefix, family
        numbers = layer_numbers(tensors, prefix, family)
        self.layers = [prefix + family.layer.format(number) for number in numbers]

    def positions(self) -> dict[str, Any]:
        """An entry for the table that is added to the tokens. Where it is resampled, the exporter
        has cut off the rows of the tokens before the patches."""
        name = self.prefix + self.family.positions
        added = self._added_to_tokens()
        if added in self.graph.constants:
            return {name: self.graph.entry(added)}
        parts = []
        joined = self.graph.made_by(added, "Concat")
        for part in joined.input if joined is not None else ():
            source = self.graph.source(part, *MOVES)
            resize = self.graph.made_by(source, "Resize")
            if resize is not None:
                self._check_resize(resize)
                source = self.graph.source(operand(resize, 0), *MOVES)
            parts.append(self.graph.value(source))
        if not parts or not all(p is not None and p.ndim == 3 for p in parts):
            self._refuse("there is no table of positions")
        table = np.concatenate(parts, axis=1)
        proto = _check_models.extra("onnx.numpy_helper", "onnx").from_array(table, name)
        return {name: self.graph.entry_of(proto)}

    def head_dim(self) -> int:
        """Linear maps of queries, keys and values are followed by a new shape, of heads."""
        found: set[int | None] = set()
        for layer in self.layers:
            for projection in self.family.projections:
                reshapes = list(self._after(f"{layer}{projection}", "Reshape"))
                found |= set(map(self._last, reshapes)) if reshapes else {None}
        return _check_image_encoder.one_value(self.graph.path, "the size of a head", found)

    def activation(self) -> str:
        found = set()
        for layer in self.layers:
            linear = f"{layer}{self.family.expand}"
            gelu, divided = (list(self._after(linear, name)) for name in ("Gelu", "Div"))
            if gelu:
                found.add(GELU.get(attribute(gelu[0], "approximate")))
            else:  # in pieces
                erf = any(self.graph.takes(node.output[0], "Erf") for node in divided)
                found.add("gelu" if erf else None)
        return _check_image_encoder.one_value(self.graph.path, "the activation", found)

    def eps(self) -> float:
        norms = (self.family.attention_norm, self.family.mlp_norm)
        names = [f"{layer}{norm}" for layer in self.layers for norm in norms]
        names.append(self.prefix + self.family.norm)
        all_eps = [self._eps(f"{name}.weight") for name in names]
        found = {eps if eps is not None and eps > 0 else None for eps in all_eps}
        return _check_image_encoder.one_value(self.graph.path, "the epsilon of norms", found)

    def check(self, config: ImageConfig) -> None:
        """What would be another model though all tensors are there."""
        patches = f"{self.prefix}{self.family.patches}.weight"
        sides = [config.patch] * 2
        for node in self.graph.takers[patches]:
            if node.op_type != "Conv" or attribute(node, "strides") != sides:
                self._refuse(f"its patches are no Conv with strides of {config.patch}")
            if attribute(node, "pads") not in (None, [0] * 4):
                self._refuse("its patches overlap the border")
        softmaxes = self.graph.count("Softmax")
        if softmaxes != config.layers:
            self._refuse(f"it has {config.layers} layers and {softmaxes} softmaxes")

    def _added_to_tokens(self) -> str:
        """The value that is added to the class token and what it is joined with."""
        value = self.prefix + self.family.tokens[0]
        for _ in self.graph.nodes:  # no more, for a broken file may go round
            for node in self.graph.takers[value]:
                if node.op_type == "Add":
                    return next((name for name in node.input if name != value), value)
            moved = [n for n in self.graph.takers[value] if n.op_type in (*MOVES, "Concat")]
            if not moved:
                break
            value = moved[0].output[0]
        self._refuse("nothing is added to the class token")

    def _after(self, linear: str, operator: str) -> Iterator[Any]:
        """The nodes that take the result of a linear map."""
        for add in self.graph.takers[f"{linear}.bias"]:
            yield from self.graph.takes(add.output[0], operator)

    def _last(self, reshape: Any) -> int | None:
        """The last number of a new shape."""
        shape = operand(reshape, 1)
        joined = self.graph.made_by(shape, "Concat")
        last = self.graph.value(shape if joined is None else operand(joined, -1))
        return None if last is None or not last.size else int(last.ravel()[-1])

    def _eps(self, weight: str) -> float | None:
        for node in self.graph.takers[weight]:
            if node.op_type == "LayerNormalization":
                found = attribute(node, "epsilon")
                return 1e-5 if found is None else found if isinstance(found, float) else None
            for name in node.input:  # weight * ((x - mean) / sqrt(variance + eps))
                value = name
                for operator, at in (("Div", 1), ("Sqrt", 0)):
                    made = self.graph.made_by(value, operator)
                    value = "" if made is None else operand(made, at)
                add = self.graph.made_by(value, "Add")
                for found in map(self.graph.value, add.input if add is not None else ()):
                    if found is not None and found.size == 1:
                        return float(found.ravel()[0])
        return None

    def _check_resize(self, node: Any) -> None:
        for name, expected in RESIZED.items():
            found = attribute(node, name)
            if found != expected:
                self._refuse(f"{name} of Resize is {found}, not {expected}")
        if (attribute(node, "antialias") or 0) != self.family.antialias:
            self._refuse("its positions are resampled in another way")

    def _refuse(self, why: str) -> NoReturn:
        _check_image_encoder.not_a_vision_transformer(self.graph.path, why)
