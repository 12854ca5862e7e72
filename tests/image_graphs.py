"""Vision transformers as PyTorch exports them to ONNX: small ones, which onnxruntime can run.

What the exporter transposes or cuts has no name any more; norms are in pieces before opset 17.
"""

import math

import image_encoders
import numpy as np
from image_encoders import HEADS, HIDDEN, LAYERS, MODULES, PATCH, PATCHES, SIDE


def graph(kind, tensors, *, side=SIDE, prefix="backbone.", pieces=False, gelu=None, sdpa=None):
    """A ModelProto of one image of `side` x `side`: norms in pieces or not, the operator Gelu of
    some kind or pieces, attention as PyTorch's scaled_dot_product_attention is exported or not,
    with the root of its scale as a "constant" or "computed"."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, numbers = [], [], iter(range(10_000))
    scaled = f"{prefix}encoder.layer.0.layer_scale1.lambda1"
    tensors = {prefix + name: array for name, array in tensors.items()}

    def constant(value, name=None):
        name = name or f"onnx::{next(numbers)}"
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def named(name):
        return constant(tensors[prefix + name], prefix + name)

    def node(operator, *inputs, **attributes):
        out = f"/{operator}_{next(numbers)}"
        nodes.append(helper.make_node(operator, inputs, [out], **attributes))
        return out

    def number(value):
        made = numpy_helper.from_array(np.array(value, np.float32))
        return node("Constant", value=made)

    def shaped(x, *shape):
        return node("Reshape", x, constant(np.array(shape)))

    def split(x):
        sizes = [np.array([n]) for n in (1, -1, HEADS, HIDDEN // HEADS)]
        if not sdpa:
            return shaped(x, *np.concatenate(sizes))
        return node("Reshape", x, node("Concat", *map(constant, sizes), axis=0))

    def linear(x, name):
        matrix = constant(tensors[f"{prefix}{name}.weight"].T)
        return node("Add", named(f"{name}.bias"), node("MatMul", x, matrix))

    def norm(x, name):
        weight, bias = named(f"{name}.weight"), named(f"{name}.bias")
        if not pieces:
            return node("LayerNormalization", x, weight, bias, epsilon=1e-6, axis=-1)
        x = node("Sub", x, node("ReduceMean", x, axes=[-1]))
        variance = node("ReduceMean", node("Pow", x, number(2)), axes=[-1])
        root = node("Sqrt", node("Add", variance, number(1e-6)))
        return node("Add", node("Mul", node("Div", x, root), weight), bias)

    def positions(grid):
        table = tensors[f"{prefix}embeddings.position_embeddings"]
        if "dinov2" not in kind:
            return named("embeddings.position_embeddings")
        old = math.isqrt(PATCHES)
        x = node("Transpose", shaped(constant(table[:, 1:]), 1, old, old, -1), perm=[0, 3, 1, 2])
        sizes = constant(np.array([1, HIDDEN, grid, grid]))
        options = {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"}
        options |= {"cubic_coeff_a": -0.75}
        x = node("Resize", x, "", "", sizes, **options)
        x = shaped(node("Transpose", x, perm=[0, 2, 3, 1]), 1, -1, HIDDEN)
        return node("Concat", constant(table[:, :1]), x, axis=1)

    def embedded(x):
        weight, bias = (
            named(f"embeddings.patch_embeddings.projection.{k}") for k in ("weight", "bias")
        )
        x = node(
            "Conv", x, weight, bias, strides=[PATCH] * 2, kernel_shape=[PATCH] * 2, pads=[0] * 4
        )
        x = node("Transpose", shaped(x, 0, HIDDEN, -1), perm=[0, 2, 1])
        tokens = [n for n in tensors if n.endswith("_token")]
        expanded = [
            node("Expand", named(n.removeprefix(prefix)), constant(np.array([1, 1, 1])))
            for n in tokens
        ]
        return node("Add", node("Concat", *expanded, x, axis=1), positions(side // PATCH))

    def layer(x, n):
        start = f"encoder.layer.{n}."
        before, *projections, out, after, expand, contract = (
            start + module for module in MODULES[kind].split()
        )

        def scale(y, k):
            return (
                node("Mul", y, named(f"{start}layer_scale{k}.lambda1")) if scaled in tensors else y
            )

        y = norm(x, before)
        heads = [split(linear(y, p)) for p in projections]
        q, k, v = (
            node("Transpose", a, perm=perm)
            for a, perm in zip(heads, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        )
        if sdpa:
            if sdpa == "constant":
                root = number((HEADS / HIDDEN) ** 0.25)
            else:
                end = constant(np.array([2**63 - 1]))
                size = node("Slice", node("Shape", q), constant(np.array([-1])), end)
                root = node("Sqrt", node("Cast", size, to=1))
                root = node("Sqrt", node("Cast", node("Div", number(1), root), to=1))
            scores = node("MatMul", node("Mul", q, root), node("Mul", root, k))
        else:
            scores = node("Div", node("MatMul", q, k), number(math.sqrt(HIDDEN / HEADS)))
        y = node("MatMul", node("Cast", node("Softmax", scores, axis=-1), to=1), v)
        if sdpa:
            y = shaped(y, 1, HEADS, -1, HIDDEN // HEADS)
        y = shaped(node("Transpose", y, perm=[0, 2, 1, 3]), 1, -1, HIDDEN)
        x = node("Add", scale(linear(y, out), 1), x)
        y = linear(norm(x, after), expand)
        if gelu is not None:
            y = node("Gelu", y, approximate=gelu)
        else:
            z = node("Erf", node("Div", y, number(math.sqrt(2))))
            y = node("Mul", node("Mul", y, node("Add", z, number(1))), number(0.5))
        return node("Add", scale(linear(y, contract), 2), x)

    x = embedded("image")
    for n in range(LAYERS):
        x = layer(x, n)
    states = norm(x, "layernorm")
    node("Relu", states)  # what follows does not matter
    made = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(states, TensorProto.FLOAT, None)],
        constants,
    )
    opset = helper.make_opsetid("", 14 if pieces else 20)
    return helper.make_model(made, opset_imports=[opset], ir_version=8)


def save(path, kind="dinov2", **options):
    """The file of a random model."""
    made = graph(kind, image_encoders.weights(kind), **options)
    path.write_bytes(made.SerializeToString())
    return path
