"""What the graph of a vision transformer says of its sizes and choices.

The graph is followed from the last norm back to the image, and must be that of a model of Hugging
Face node by node (_onnx_nodes.py), so that another model is refused and not computed wrongly. Left
alone are shapes, which follow from the sizes, and whatever comes after the last norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from pyattn.models import _check_image_encoder, _check_models, _check_onnx
from pyattn.models._encoder_tensors import common_prefix
from pyattn.models._image_config import ImageConfig
from pyattn.models._image_families import FAMILIES, VIT, ImageFamily
from pyattn.models._image_sizes import layer_numbers, told_by_tensors
from pyattn.models._onnx import Graph, OnnxEntry, OnnxTensors, attribute, operand
from pyattn.models._onnx_nodes import Nodes

RESIZED = {  # attributes of Resize: what they are without a value, and here
    "mode": (b"nearest", b"cubic"),
    "coordinate_transformation_mode": (b"half_pixel", b"half_pixel"),
    "cubic_coeff_a": (-0.75, -0.75),
    "antialias": (0, 0),
    "exclude_outside": (0, 0),
}
LAST_AXIS_LAST, LAST_AXIS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]  # of (1, height, width, E)


def onnx_config(path: Path) -> tuple[ImageConfig, OnnxTensors, tuple[int, int] | None]:
    """The encoder in a file, its tensors, and the height and width of its images if it says so."""
    graph = Graph(path)
    tensors = graph.tensors()
    prefix = common_prefix(tensors, f"{VIT.patches}.weight")
    model_type = _model_type(tensors, prefix)
    family = FAMILIES[model_type]
    walk = _Walk(graph, tensors, prefix, family)
    tensors = OnnxTensors(tensors.entries | walk.found(), tensors.files)
    config = told_by_tensors(
        tensors,
        prefix,
        family,
        path=path,
        model_type=model_type,
        head_dim=_check_onnx.one_value(path, "the size of a head", walk.head_dims),
        activation=_check_onnx.one_value(path, "the activation", walk.activations),
        eps=_check_onnx.one_value(path, "the epsilon of norms", walk.all_eps),
    )
    _check_image_encoder.epsilon(path, "the epsilon of norms", config.eps)
    walk.check_patches(config.patch)
    axes = walk.image.type.tensor_type.shape.dim
    size = tuple(axis.dim_value for axis in axes[2:])  # 0: any
    return config, tensors, size if len(size) == 2 and min(size) > 0 else None


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
        _check_onnx.not_a_vision_transformer(
            tensors.files[0], f"its tensors are those of none of {', '.join(FAMILIES)}"
        )
    return there[-1]


class _Walk(Nodes):
    """From the last norm to the image. What neither names nor shapes tell is collected of every
    layer; `table` are the positions, `patches` is the convolution, `image` the graph's input."""

    def __init__(
        self, graph: Graph, tensors: OnnxTensors, prefix: str, family: ImageFamily
    ) -> None:
        super().__init__(graph)
        self.prefix, self.family = prefix, family
        self.head_dims: set[int | None] = set()
        self.activations: set[str | None] = set()
        self.all_eps: set[float | None] = set()
        value = self._norm(self._last(), prefix + family.norm)
        for number in sorted(layer_numbers(tensors, prefix, family), reverse=True):
            value = self._layer(value, prefix + family.layer.format(number))
        tokens, positions = self._tokens(value)
        self.table = self._positions(positions)
        self.patches = self._patches(tokens)
        self.image = self._image(operand(self.patches, 0))

    def found(self) -> dict[str, OnnxEntry]:
        """Entries for what has no name in the file."""
        name = self.prefix + self.family.positions
        proto = _check_models.extra("onnx.numpy_helper", "onnx").from_array(self.table, name)
        return self.matrices | {name: self.graph.entry_of(proto)}

    def check_patches(self, patch: int) -> None:
        """That they lie side by side and cover the image."""
        self.place = "the patches"
        for name, usual, expected in (
            ("strides", [1, 1], [patch, patch]),
            ("pads", [0] * 4, [0] * 4),
            ("dilations", [1, 1], [1, 1]),
            ("group", 1, 1),
            ("auto_pad", b"NOTSET", b"NOTSET"),
        ):
            self._check(self.patches, name, usual, expected)

    def _last(self) -> str:
        """The result of the last norm."""
        self.place = f"{self.prefix}{self.family.norm}"
        takers = self.graph.takers[f"{self.place}.bias"]
        if len(takers) != 1 or not takers[0].output:
            self.refuse(f"{len(takers)} nodes take its bias")
        return takers[0].output[0]

    def _norm(self, value: str, module: str) -> str:
        x, eps = self.norm(value, module)
        self.all_eps.add(eps)
        return x

    def _layer(self, value: str, start: str) -> str:
        """What goes into a layer."""
        family = self.family
        scales = [start + name for name in family.scales or ()] or [None, None]
        middle, y = self.sum(value, start + family.contract, scales[1])
        y, activation = self.gelu(self.linear(y, start + family.contract))
        self.activations.add(activation)
        self._same(
            middle, self._norm(self.linear(y, start + family.expand), start + family.mlp_norm)
        )
        x, y = self.sum(middle, start + family.output, scales[0])
        *projected, head_dims = self.attention(self.linear(y, start + family.output))
        self.head_dims |= head_dims
        modules = [start + name for name in family.projections]
        normed, *others = map(self.linear, projected, modules)
        self._same(normed, *others)
        self._same(x, self._norm(normed, start + family.attention_norm))
        return x

    def _tokens(self, value: str) -> tuple[list[str], str]:
        """What is joined to all tokens, and the positions that are added."""
        self.place = "the tokens"
        for joined, positions in permutations(self.two(value, "Add")):
            node = self.graph.made_by(joined, "Concat")
            parts = [] if node is None else [self._expanded(part) for part in node.input]
            if parts[:-1] == [self.prefix + token for token in self.family.tokens]:
                self._check(node, "axis", None, 1)
                return parts, positions
        self.refuse("they do not begin with " + ", ".join(self.family.tokens))

    def _expanded(self, value: str) -> str:
        """Before it was repeated for every image."""
        node = self.graph.made_by(self.plain(value), "Expand")
        return self.plain(value if node is None else operand(node, 0))

    def _positions(self, value: str) -> np.ndarray:
        """The table. Where it is resampled, the exporter has cut off the rows of the tokens before
        the patches."""
        self.place = "the positions"
        parts = [value]
        if value not in self.graph.constants:
            node = self.node(value, "Concat")
            self._check(node, "axis", None, 1)
            first, *rest = map(self.plain, node.input) if node.input else ("",)
            parts = [first, *map(self._before_resampling, rest[:1])]
            if len(rest) != 1:
                self.refuse(f"{len(node.input)} parts")
        arrays = [self.graph.value(part) for part in parts]
        for a in arrays:
            kind = "" if a is None or a.ndim != 3 or 0 in a.shape else a.dtype.kind
            if kind != "f" or a.shape[::2] != arrays[0].shape[::2]:
                self.refuse("there is no table of them")
        return np.concatenate(arrays, axis=1)

    def _before_resampling(self, value: str) -> str:
        value, _ = self.reshaped(value)
        resize = self.graph.made_by(self.transposed(value, LAST_AXIS_LAST), "Resize")
        if resize is None:
            self.refuse("they are not resampled")
        for name, (usual, expected) in RESIZED.items():
            self._check(resize, name, usual, expected)
        scales = operand(resize, 2)
        given = self.graph.value(scales)
        if (scales and (given is None or given.size)) or not operand(resize, 3):
            self.refuse("they are resampled by a factor, which moves them")
        grid = self.transposed(operand(resize, 0), LAST_AXIS_FIRST)
        shape = self.graph.value(operand(self.node(grid, "Reshape"), 1))
        if shape is not None and (shape.size != 4 or shape.ravel()[1] != shape.ravel()[2]):
            self.refuse(f"they are of a grid {shape.tolist()}, which is no square")
        return self.reshaped(grid)[0]

    def _patches(self, tokens: list[str]) -> Any:
        self.place = "the patches"
        node = self.node(self.reshaped(self.transposed(tokens[-1], [0, 2, 1]))[0], "Conv")
        module = self.prefix + self.family.patches
        if list(map(self.plain, node.input[1:])) != [f"{module}.weight", f"{module}.bias"]:
            self.refuse("Conv without its weight and bias")
        return node

    def _image(self, value: str) -> Any:
        self.place = "the image"
        value = self.plain(value)
        for given in self.graph.inputs:
            if given.name == value and value not in self.graph.constants:
                return given
        made = self.graph.maker.get(value)
        self.refuse(f"{made.op_type if made else repr(value)} before the patches")

    def _same(self, value: str, *others: str) -> None:
        if set(others) != {value}:
            self.refuse(f"{value!r} goes in as well as {others[0]!r}")

    def _check(self, node: Any, name: str, usual: Any, expected: Any) -> None:
        """An attribute, which without a value is as usual."""
        found = attribute(node, name)
        found = usual if found is None else found
        if found != expected:
            self.refuse(f"{name} of {node.op_type} is {found}, not {expected}")
