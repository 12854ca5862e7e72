"""The parts of a vision transformer, as the nodes that PyTorch exports of them.

A part is looked at from its result: a function takes the name of a value, finds that it was made by
the nodes of that part and no others, and returns the value that went in. Anything else is refused,
for it would be another model. Each part has few nodes, so that a broken file cannot go round.
"""

from __future__ import annotations

from itertools import permutations
from math import isclose, isfinite, sqrt
from typing import Any, NoReturn

import numpy as np

from pyattn.models import _check_onnx
from pyattn.models._onnx import KINDS, Graph, OnnxEntry, attribute, operand

MOST_IN_A_ROW = 8  # of nodes that change nothing, or multiply with a number
TOLERANCE = 1e-3  # of numbers in a graph, which may have half precision
GELU = {None: "gelu", b"none": "gelu", b"tanh": "gelu_tanh"}
LAYER_NORM_EPS = 1e-5  # of the operator, if it has none

SPLIT = [0, 2, 1, 3]  # to (batch, heads, tokens, numbers), and back
SPLIT_KEYS = [0, 2, 3, 1]
ANY_END = 2**31 - 1  # of a slice


def _is_number(a: np.ndarray) -> bool:
    return a.size == 1 and a.dtype.kind in "fiu"


class Nodes:
    """`matrices` are the entries of the matrices of linear maps that were met, by name; `place`
    in errors the part that is looked for."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.matrices: dict[str, OnnxEntry] = {}
        self.place = ""

    def refuse(self, why: str) -> NoReturn:
        _check_onnx.not_a_vision_transformer(self.graph.path, f"{self.place}: {why}")

    def plain(self, value: str) -> str:
        """Before nodes that change no numbers."""
        for _ in range(MOST_IN_A_ROW):
            node = self.graph.made_by(value, "Cast", "Identity")
            if node is None or (
                node.op_type == "Cast" and attribute(node, "to") not in list(KINDS)
            ):
                break
            value = operand(node, 0)
        return value

    def node(self, value: str, *operators: str) -> Any:
        value = self.plain(value)
        node = self.graph.made_by(value, *operators)
        if node is None:
            made = self.graph.maker.get(value)
            found = made.op_type if made else repr(value)
            self.refuse(f"{found} instead of {' or '.join(operators)}")
        return node

    def two(self, value: str, operator: str) -> tuple[str, str]:
        """The operands of a node."""
        node = self.node(value, operator)
        if len(node.input) != 2:
            self.refuse(f"{operator} of {len(node.input)} values")
        return self.plain(node.input[0]), self.plain(node.input[1])

    def other(self, value: str, operator: str, name: str) -> str:
        """The operand of a node whose other one is `name`."""
        pair = self.two(value, operator)
        if name not in pair:
            self.refuse(f"{operator} without {name}")
        return pair[pair[0] == name]

    def number(self, value: str, deep: int = MOST_IN_A_ROW) -> float | None:
        """A constant that is one finite number, or None."""
        value = self.plain(value)
        found = self.graph.value(value)
        if found is None:
            number = self._computed(value, deep) if deep else None
        else:
            number = float(found.ravel()[0]) if _is_number(found) else None
        return number if number is not None and isfinite(number) else None

    def scaled(self, value: str) -> tuple[str, float]:
        """A value before it was multiplied with numbers or divided by them, and their product."""
        value, factor = self.plain(value), 1.0
        for _ in range(MOST_IN_A_ROW):
            node = self.graph.made_by(value, "Mul", "Div")
            if node is None or len(node.input) != 2:
                break
            first, second = map(self.number, node.input)
            if second and first is None:
                factor *= second if node.op_type == "Mul" else 1 / second
                value = self.plain(node.input[0])
            elif first is not None and second is None and node.op_type == "Mul":
                factor *= first
                value = self.plain(node.input[1])
            else:
                break
        return value, factor

    def transposed(self, value: str, axes: list[int]) -> str:
        """Before nodes that put its axes in this order together."""
        value, found = self.plain(value), list(range(len(axes)))
        for _ in range(MOST_IN_A_ROW):
            node = self.graph.made_by(value, "Transpose")
            if node is None:
                break
            order = attribute(node, "perm")
            if not isinstance(order, list) or sorted(order) != sorted(axes):
                self.refuse(f"Transpose by {order}")
            found = [order[axis] for axis in found]
            value = self.plain(operand(node, 0))
        if found != axes:
            self.refuse(f"axes in the order {found} instead of {axes}")
        return value

    def reshaped(self, value: str) -> tuple[str, int | None]:
        """Before it got a new shape, and the last extent of that, if it is a constant."""
        node = self.node(value, "Reshape")
        shape = operand(node, 1)
        joined = self.graph.made_by(shape, "Concat")
        last = self.graph.value(shape if joined is None else operand(joined, -1))
        known = last is not None and last.size and last.dtype.kind == "i"
        return self.plain(operand(node, 0)), int(last.ravel()[-1]) if known else None

    def linear(self, value: str, module: str) -> str:
        """``value = x @ matrix + bias``."""
        self.place = module
        x, matrix = self.two(self.other(value, "Add", f"{module}.bias"), "MatMul")
        transposed = matrix in self.graph.constants
        if not transposed:
            matrix = self.transposed(matrix, [1, 0])
        if matrix not in self.graph.constants:
            self.refuse("MatMul without a matrix")
        self.matrices[f"{module}.weight"] = self.graph.entry(matrix, transposed)
        return x

    def sum(self, value: str, module: str, scale: str | None) -> tuple[str, str]:
        """``value = x + y * scale``, where y is the result of a linear map: x, and y."""
        self.place = module
        for x, y in permutations(self.two(value, "Add")):
            if scale is not None:
                node = self.graph.made_by(y, "Mul")
                if node is None or scale not in map(self.plain, node.input):
                    continue
                y = self.other(y, "Mul", scale)
            node = self.graph.made_by(y, "Add")
            if node is not None and f"{module}.bias" in map(self.plain, node.input):
                return x, y
        self.refuse(f"Add without {module}.bias" + (f" and {scale}" if scale else ""))

    def norm(self, value: str, module: str) -> tuple[str, float | None]:
        """``value = layer_norm(x)``, in one node or in pieces: x, and epsilon if it is known."""
        self.place = module
        node = self.node(value, "LayerNormalization", "Add")
        weight, bias = f"{module}.weight", f"{module}.bias"
        if node.op_type == "LayerNormalization":
            given = [self.plain(name) for name in node.input]
            if given[1:] != [weight, bias] or attribute(node, "axis") not in (None, -1, 2):
                self.refuse("LayerNormalization of another form")
            eps = attribute(node, "epsilon")
            return given[0], LAYER_NORM_EPS if eps is None else eps if isinstance(
                eps, float
            ) else None
        centred, root = self.two(self.other(self.other(value, "Add", bias), "Mul", weight), "Div")
        x, mean = self.two(centred, "Sub")
        variance, eps = self.two(operand(self.node(root, "Sqrt"), 0), "Add")
        base, power = self.two(self._mean(variance), "Pow")
        if self._mean(mean) != x or base != centred or self.number(power) != 2:
            self.refuse("a norm of another form")
        return x, self.number(eps)

    def gelu(self, value: str) -> tuple[str, str | None]:
        """``value = y * (1 + erf(y / sqrt(2))) / 2``, or in one node: y, and the activation."""
        if (node := self.graph.made_by(self.plain(value), "Gelu")) is not None:
            kind = attribute(node, "approximate")
            known = kind is None or isinstance(kind, bytes)
            return self.plain(operand(node, 0)), GELU.get(kind) if known else None
        product, factor = self.scaled(value)
        for first, second in permutations(self.two(product, "Mul")):
            (y, half), (sum_, more) = self.scaled(first), self.scaled(second)
            if y == self._erf(sum_) and isclose(factor * half * more, 0.5, rel_tol=TOLERANCE):
                return y, "gelu"
        self.refuse("the activation is not known")

    def attention(self, value: str) -> tuple[str, str, str, set[int | None]]:
        """``value = softmax(queries @ keys / sqrt(size of a head)) @ values`` with the heads side
        by side: queries, keys, values before they are cut into heads, and the sizes of these."""
        value = self.transposed(self.reshaped(value)[0], SPLIT)
        if self.graph.made_by(value, "Reshape") is not None:  # to the shape that it has
            value = self.reshaped(value)[0]
        weights, values = self.two(value, "MatMul")
        softmax = self.node(weights, "Softmax")
        usual = None if self.graph.opset >= 13 else -1  # before, it was another axis
        if attribute(softmax, "axis") not in (usual, -1, 3):
            self.refuse(f"Softmax along the axis {attribute(softmax, 'axis')}")
        scores, factor = self.scaled(operand(softmax, 0))
        (queries, more), (keys, most) = map(self.scaled, self.two(scores, "MatMul"))
        cut = [(queries, SPLIT), (keys, SPLIT_KEYS), (values, SPLIT)]
        (queries, n), (keys, m), (values, k) = (self.reshaped(self.transposed(*c)) for c in cut)
        factor *= more * most
        if n is None or n < 1 or not isclose(factor, 1 / sqrt(n), rel_tol=TOLERANCE):
            self.refuse(f"heads of {n or 'unknown size'} with scores times {factor:.4g}")
        return queries, keys, values, {n, m, k}

    def _computed(self, value: str, deep: int) -> float | None:
        """What is left to compute of the size of a head: its root, or 1 divided by that."""
        node = self.graph.made_by(value, "Sqrt", "Div", "Slice")
        if node is None or len(node.input) > 4:
            return None
        if node.op_type == "Slice":
            return self._last_extent(node)
        numbers = [self.number(name, deep - 1) for name in node.input]
        if len(numbers) != (1 if node.op_type == "Sqrt" else 2) or not all(numbers):
            return None
        if node.op_type == "Div":
            return numbers[0] / numbers[1]
        return sqrt(numbers[0]) if numbers[0] > 0 else None

    def _last_extent(self, node: Any) -> int | None:
        """Of values with heads, as a slice of their shape."""
        shape = self.graph.made_by(operand(node, 0), "Shape")
        starts, ends = (self.number(operand(node, at)) for at in (1, 2))
        if shape is None or starts != -1 or ends is None or ends < ANY_END:
            return None
        split = self.graph.made_by(operand(shape, 0), "Transpose")
        if split is None or attribute(split, "perm") != SPLIT:
            return None
        return self.reshaped(operand(split, 0))[1]

    def _mean(self, value: str) -> str:
        """What is averaged along the last axis."""
        node = self.node(value, "ReduceMean")
        axes = attribute(node, "axes")
        if axes is None:  # an input, since opset 18
            found = self.graph.value(operand(node, 1))
            axes = None if found is None else found.tolist()
        if axes not in ([-1], [2]) or attribute(node, "keepdims") not in (None, 1):
            self.refuse(f"ReduceMean along the axes {axes}")
        return self.plain(operand(node, 0))

    def _erf(self, value: str) -> str | None:
        """``value = 1 + erf(y / sqrt(2))``: y, or None."""
        node = self.graph.made_by(value, "Add")
        for one, rest in permutations(node.input) if node and len(node.input) == 2 else ():
            erf = self.graph.made_by(self.plain(rest), "Erf")
            if erf is not None and self.number(one) == 1:
                y, factor = self.scaled(operand(erf, 0))
                return y if isclose(factor, sqrt(0.5), rel_tol=TOLERANCE) else None
        return None
