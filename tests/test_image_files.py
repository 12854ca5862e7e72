"""Files of image encoders: what is read of them, and what is said of those that are broken."""

import json

import numpy as np
import pytest
from support import assert_same_bits

pytest.importorskip("tokenizers")  # of encoders.py

import encoders
import image_encoders

from pyattn.models import (
    BrokenFileError,
    ImageEncoder,
    MissingFileError,
    ModelError,
    TensorError,
    UnsupportedModelError,
)

LOAD = ImageEncoder.from_pretrained


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
        others = {n: a for n, a in tensors.items() if n != name}
        directory = image_encoders.save(tmp_path, kind, tensors=others)
        if timm and any(part in name for part in ("0.ls1", "dist", "0.attn.qkv.bias")):
            with pytest.raises(ModelError):  # without it, it is another model: others are too many
                LOAD(directory)
            continue
        if kind == "timm-registers" and name == "reg_token":
            assert LOAD(directory).prefix_tokens == 1  # that model is in order
            continue
        refused(directory, TensorError, "pos_embed" if name == "reg_token" else name)
        told = ("pos_embed", "reg_token", "embed.proj.weight", "0.mlp.fc2.weight")
        if not (timm and name.endswith(told)):
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
    "kind, name",
    [
        ("dinov2", "embeddings.register_tokens"),
        ("vit", "embeddings.distillation_token"),
        ("timm", "patch_embed.norm.weight"),
        ("timm", "fc_norm.weight"),
        ("timm", "attn_pool.latent"),
        ("timm", "blocks.0.attn.q_norm.weight"),
    ],
)
def test_tensors_of_another_model(tmp_path, kind, name):
    tensors = image_encoders.weights(kind) | {name: np.zeros((1, 2, 3), np.float32)}
    directory = image_encoders.save(tmp_path, kind, tensors=tensors)
    refused(directory, UnsupportedModelError, "(1) that such a model does not have", name)


@pytest.mark.parametrize("name", ["encoder.layer.1.output.dense.weight", "embeddings.cls_token"])
def test_numbers_that_are_too_large(tmp_path, name):
    tensors = image_encoders.weights("vit")
    tensors[name] = tensors[name].astype(np.float64)
    tensors[name].ravel()[3] = -1e39
    directory = image_encoders.save(tmp_path, "vit", tensors=tensors, dtype="F64")
    refused(directory, TensorError, "model.safetensors", name, "too large for float32")


def test_products_that_are_too_large(tmp_path):
    tensors = image_encoders.weights("dinov2")
    scale = "encoder.layer.1.layer_scale2.lambda1"
    tensors[scale][0] = tensors["encoder.layer.1.mlp.fc2.weight"][0] = 1e30
    directory = image_encoders.save(tmp_path, "dinov2", tensors=tensors)
    refused(directory, TensorError, "mlp.fc2.weight * ", scale, "too large for float32")


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
        ({"num_channels": 1}, TensorError, "(24, 3, 4, 4), expected (24, 1, 4, 4)"),
        ({"num_channels": 10**12}, TensorError, "(24, 1000000000000, 4, 4)"),
        ({"hidden_size": 10**400, "num_attention_heads": 1}, BrokenFileError, "hidden_size must"),
        ({"mlp_ratio": 1e300}, BrokenFileError, "mlp_ratio must be a number that makes 1 to"),
        ({"mlp_ratio": 1e-9}, BrokenFileError, "mlp_ratio must be a number that makes 1 to"),
        ({"mlp_ratio": None}, TensorError, "expected (96, 24)"),
        ({"mlp_ratio": 2.2, "use_swiglu_ffn": True}, TensorError, "with the shape (80, 24)"),
        ({"mlp_ratio": 3}, TensorError, "expected (72, 24)"),
        ({"use_swiglu_ffn": True}, TensorError, "weights_in"),
        ({"use_swiglu_ffn": "yes"}, BrokenFileError, "true or false"),
        ({"num_hidden_layers": 3}, TensorError, "encoder.layer.2"),
        ({"num_hidden_layers": 1}, UnsupportedModelError, "encoder.layer.1"),
        ({"qkv_bias": False}, UnsupportedModelError, "query.bias"),
        ({"layer_norm_eps": -1}, BrokenFileError, "above 0"),
        ({"layer_norm_eps": 1e300}, BrokenFileError, "layer_norm_eps must be a float32"),
    ],
)
def test_settings(directory, settings, kind, words):
    edit(directory / "config.json", **settings)
    refused(directory, kind, words)


@pytest.mark.parametrize(
    "kind, name, value",
    [
        ("vit", "layer_norm_eps", 1e-12),
        ("dinov2", "layer_norm_eps", 1e-6),
        ("vit", "hidden_act", "gelu"),
        ("vit", "qkv_bias", True),
        ("vit", "num_channels", 3),
        ("dinov2", "use_swiglu_ffn", False),
    ],
)
def test_settings_that_are_not_there(tmp_path, kind, name, value):
    images = image_encoders.images(1)
    directory = image_encoders.save(tmp_path, kind, settings={name: value})
    expected = LOAD(directory).features(images)
    edit(directory / "config.json", **{name: None})
    assert_same_bits(LOAD(directory).features(images), expected)


def test_registers_are_four_if_nothing_is_said(tmp_path):
    kind = "dinov2_with_registers"
    directory = image_encoders.save(tmp_path, kind, settings={"num_register_tokens": None})
    refused(directory, TensorError, "register_tokens", "expected (1, 4, 24)")


@pytest.mark.parametrize(
    "colours, words",
    [
        ({"image_std": [1e-45] * 3}, "too large for float32"),
        ({"image_mean": [1e300] * 3}, "too large for float32"),
        ({"rescale_factor": 1e300}, "too large for float32"),
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


def test_colours_in_another_order(directory):
    (directory / "preprocessor_config.json").write_text('{"do_flip_channel_order": true}')
    refused(directory, UnsupportedModelError, "do_flip_channel_order")


def test_colours_of_other_channels(tmp_path):
    """Nobody knows them, but the caller."""
    tensors = image_encoders.weights("vit")
    name = "embeddings.patch_embeddings.projection.weight"
    tensors[name] = tensors[name][:, :1]
    directory = image_encoders.save(tmp_path, "vit", tensors=tensors, settings={"num_channels": 1})
    refused(directory, BrokenFileError, "image_mean is missing", "from_pretrained(path, mean=")
    encoder = LOAD(directory, mean=[0.5], std=[0.25])
    assert (encoder.mean, encoder.std, encoder.channels) == ((0.5,), (0.25,), 1)
    with pytest.raises(ValueError, match=r"for shades of grey use image\[..., None\]"):
        encoder.encode([np.zeros((12, 12))])


@pytest.mark.parametrize(
    "settings, kind, words",
    [
        ({"architecture": "resnet50"}, UnsupportedModelError, "architecture 'resnet50' is not"),
        ({"architecture": 3}, BrokenFileError, "architecture must be a string"),
        ({"global_pool": "map"}, UnsupportedModelError, "token, avg"),
        ({"pretrained_cfg": {"mean": [1] * 3, "std": [0] * 3}}, BrokenFileError, "above 0"),
        ({"pretrained_cfg": {"std": [1] * 3}}, BrokenFileError, "mean is missing"),
        ({"pretrained_cfg": {"mean": [1] * 3}}, BrokenFileError, "std is missing"),
        ({"pretrained_cfg": "deit"}, BrokenFileError, "pretrained_cfg must be an object"),
        ({"model_args": [3]}, BrokenFileError, "model_args must be an object"),
        ({"model_args": {"num_heads": 6}}, UnsupportedModelError, "num_heads 6 is not supported"),
        ({"model_args": {"act_layer": "quick_gelu"}}, UnsupportedModelError, "supported: gelu"),
        ({"model_args": {"norm_layer": "rmsnorm"}}, UnsupportedModelError, "'norm_layer'"),
        ({"model_args": {"global_pool": "map"}, "global_pool": None}, UnsupportedModelError, "map"),
    ],
)
def test_settings_of_timm(tmp_path, settings, kind, words):
    image_encoders.save(tmp_path, "timm", settings=settings)
    refused(tmp_path, kind, words)


def test_what_a_model_of_timm_was_made_with(tmp_path):
    images = image_encoders.images(2)
    expected = LOAD(image_encoders.save(tmp_path, "timm")).encode(images)
    args = {"img_size": 12, "num_heads": 3, "act_layer": "gelu", "init_values": None}
    args |= {"depth": 2, "drop_path_rate": 0.1, "norm_layer": None, "global_pool": "token"}
    image_encoders.save(tmp_path, "timm", settings={"model_args": args})
    assert_same_bits(LOAD(tmp_path).encode(images), expected)


def test_old_files_of_timm(tmp_path):
    """What is in pretrained_cfg today stood at the top."""
    image_encoders.save(tmp_path, "timm")
    expected = LOAD(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings |= settings.pop("pretrained_cfg")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    encoder = LOAD(tmp_path)
    assert encoder.mean == expected.mean == (0.5, 0.4, 0.3)
    assert encoder.std == expected.std == (0.2,) * 3
    assert encoder.image_size == (12, 12)


@pytest.mark.parametrize("where", ["pretrained_cfg", "model_args"])
def test_images_of_timm_that_are_not_square(tmp_path, where):
    """Their patches are as many as those of a square."""
    tensors = image_encoders.weights("timm")
    table = np.random.default_rng(2).standard_normal((1, 1 + 16, 192)).astype(np.float32)
    settings = {"pretrained_cfg": {"input_size": [3, 32, 8], "mean": [0] * 3, "std": [1] * 3}}
    if where == "model_args":
        settings["pretrained_cfg"]["input_size"] = [3, 16, 16]
        settings["model_args"] = {"img_size": [32, 8]}
    image_encoders.save(tmp_path, "timm", tensors=tensors | {"pos_embed": table}, settings=settings)
    encoder = LOAD(tmp_path)
    assert encoder.grid == (8, 2) and encoder.image_size == (32, 8)
    assert encoder._network.embeddings.grid == (8, 2)


def test_sizes_that_timm_does_not_have(tmp_path):
    tensors = {n: np.repeat(a, 2, axis=-1) for n, a in image_encoders.weights("timm").items()}
    tensors["patch_embed.proj.weight"] = np.zeros((384 + 64, 3, 4, 4))
    directory = image_encoders.save(tmp_path, "timm", tensors=tensors)
    refused(directory, UnsupportedModelError, "with 448 numbers per token", "tiny (192)")
    tensors = image_encoders.weights("timm")
    tensors["pos_embed"] = tensors["pos_embed"][:, 1:-1]
    directory = image_encoders.save(tmp_path, "timm", tensors=tensors)
    refused(directory, TensorError, "pos_embed has 8 rows", "no square")
