"""Directories of models: what is read of them, and what is said of those that are broken."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_same_bits

pytest.importorskip("tokenizers")

import encoders

from pyattn.models import (
    BrokenFileError,
    MissingFileError,
    ModelError,
    TensorError,
    TextEncoder,
    UnsupportedModelError,
)
from pyattn.models._check_files import LARGEST_JSON
from pyattn.models._directory import model_files
from pyattn.models._safetensors import Tensors, read_header

TEXTS = ["the cat sat on the mat", "", "fish, fish!"]
WORDS = "embeddings.word_embeddings.weight"
LOAD = TextEncoder.from_pretrained


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A directory in order, to be copied."""
    return encoders.save(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def directory(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(directory, kind, *words):
    """The error, which has all the words in its message."""
    with pytest.raises(kind) as caught:
        LOAD(directory)
    assert type(caught.value) is kind and isinstance(caught.value, ModelError)
    for word in words:
        assert str(word) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_family():
    for kind in (BrokenFileError, MissingFileError, TensorError, UnsupportedModelError):
        assert issubclass(kind, ModelError) and kind.__doc__
        assert pickle.loads(pickle.dumps(kind("what"))).args == ("what",)
    assert issubclass(ModelError, ValueError)


# What is read


@pytest.mark.parametrize("prefix", ["bert.", "roberta.", "model.encoder."])
def test_prefix(whole, tmp_path, prefix):
    directory = encoders.save(tmp_path, prefix=prefix)
    assert_same_bits(LOAD(directory).encode(TEXTS), LOAD(whole).encode(TEXTS))


def test_other_tensors_are_left_alone(whole, tmp_path):
    tensors = {f"bert.{name}": array for name, array in encoders.weights("bert").items()}
    tensors["cls.predictions.bias"] = np.zeros(7)
    tensors["bert.pooler.dense.weight"] = np.zeros((3, 3))
    directory = encoders.save(tmp_path, tensors=tensors)
    assert_same_bits(LOAD(directory).encode(TEXTS), LOAD(whole).encode(TEXTS))


def test_old_names_of_norms(whole, tmp_path):
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): a
        for name, a in encoders.weights("bert").items()
    }
    assert "embeddings.LayerNorm.gamma" in tensors
    directory = encoders.save(tmp_path, tensors=tensors)
    assert_same_bits(LOAD(directory).encode(TEXTS), LOAD(whole).encode(TEXTS))


def in_shards(directory):
    tensors = encoders.weights("bert")
    (directory / "model.safetensors").unlink()
    parts = {f"model-{n}.safetensors": list(tensors)[n::2] for n in range(2)}
    for file, names in parts.items():
        encoders.save_tensors(directory / file, {name: tensors[name] for name in names})
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards(whole, directory):
    in_shards(directory)
    assert_same_bits(LOAD(directory).encode(TEXTS), LOAD(whole).encode(TEXTS))
    (directory / "model-1.safetensors").unlink()
    refused(directory, MissingFileError, "model-1.safetensors", "index.json")


def test_a_tensor_in_two_shards(whole, directory):
    """The one that the index names counts, whatever the order of the files."""
    in_shards(directory)
    index = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"]
    for file in ("model-0.safetensors", "model-1.safetensors"):
        tensors = encoders.weights("bert")
        for name, named in index.items():
            if named != file:
                tensors[name] = np.full_like(tensors[name], 7)
        encoders.save_tensors(directory / file, tensors)
    assert_same_bits(LOAD(directory).encode(TEXTS), LOAD(whole).encode(TEXTS))


def test_files_that_are_read(directory):
    """All of them, and no other."""
    encoders.add_modules(directory, {"pooling_mode": "mean"})
    (directory / "README.json").write_text("{}")
    (directory / "1_Pooling" / "model.safetensors").write_text("")
    found = {str(path.relative_to(directory)) for path in model_files(directory)}
    settings = {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json"}
    needed = {"config.json", "tokenizer.json"}
    assert found == settings | needed | {"model.safetensors"}
    in_shards(directory)
    for path in (directory / name for name in settings):
        path.unlink()
    (directory / "tokenizer_config.json").write_text("{}")
    found = {str(path.relative_to(directory)) for path in model_files(directory)}
    shards = {"model-0.safetensors", "model-1.safetensors", "model.safetensors.index.json"}
    assert found == needed | shards | {"tokenizer_config.json"}


def test_a_name_that_is_not_utf8(directory):
    expected = LOAD(directory).encode(TEXTS)
    renamed = directory.rename(directory.with_name(os.fsdecode(b"m\xff")))
    assert_same_bits(LOAD(renamed).encode(TEXTS), expected)


def test_home(directory, monkeypatch):
    monkeypatch.setenv("HOME", str(directory.parent))
    assert LOAD("~/model").dim == encoders.HIDDEN


def test_files_of_the_package(whole, tmp_path):
    """What the package named safetensors writes."""
    numpy_files = pytest.importorskip("safetensors.numpy")
    tensors = encoders.weights("bert")
    path = tmp_path / "model.safetensors"
    numpy_files.save_file(
        tensors | {"ids": np.arange(6)[None], "none": np.zeros((0, 3))}, path, {"format": "pt"}
    )
    got = Tensors.of_files([path])
    assert set(got) == {*tensors, "ids", "none"}
    for name, array in tensors.items():
        assert_same_bits(got[name], array)
    assert got["none"].shape == (0, 3)


def test_pooling_before_and_now(directory):
    expected = {mode: LOAD(directory).encode(TEXTS, pooling=mode) for mode in ("cls", "max")}
    for config in (
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode": "cls"},
        {"pooling_mode": ["cls"]},
    ):
        encoders.add_modules(directory, config)
        encoder = LOAD(directory)
        assert encoder.pooling == ("cls",) and not encoder.normalize
        assert_same_bits(encoder.encode(TEXTS), expected["cls"])
    for config in (
        {"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode": ["cls", "max"]},
    ):
        encoders.add_modules(directory, config)
        encoder = LOAD(directory)
        assert encoder.dim == 2 * encoders.HIDDEN
        assert_same_bits(encoder.encode(TEXTS), np.hstack([expected["cls"], expected["max"]]))
    for config in ({}, {"pooling_mode_mean_tokens": False}):
        encoders.add_modules(directory, config)
        assert LOAD(directory).pooling == ("mean",)


def test_normalize(directory):
    encoders.add_modules(directory, {"pooling_mode": "mean"}, normalize=True)
    encoder = LOAD(directory)
    assert encoder.normalize
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(TEXTS), axis=1), 1, atol=1e-6)
    raw = encoder.encode(TEXTS, normalize=False)
    (directory / "modules.json").unlink()
    assert_same_bits(LOAD(directory).encode(TEXTS), raw)


def test_longest_text(directory):
    assert LOAD(directory).max_tokens == encoders.POSITIONS
    (directory / "tokenizer_config.json").write_text('{"model_max_length": 20}')
    assert LOAD(directory).max_tokens == 20
    (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": int(1e30)}))
    assert LOAD(directory).max_tokens == encoders.POSITIONS
    for given_length, expected in ((10, 10), (3, 3), (1000, encoders.POSITIONS)):
        encoders.add_modules(directory, {}, longest=given_length)
        encoder = LOAD(directory)
        assert encoder.max_tokens == expected
        assert max(map(len, encoder.tokenize(["cat " * 100]))) == expected
    (directory / "sentence_bert_config.json").rename(directory / "sentence_roberta_config.json")
    edit(directory / "sentence_roberta_config.json", max_seq_length=7)
    assert LOAD(directory).max_tokens == 7


def test_model_in_a_folder_of_its_own(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "0_Transformer")
    encoders.add_modules(tmp_path, {"pooling_mode": "cls"})
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    expected = LOAD(whole).encode(TEXTS, pooling="cls")
    assert_same_bits(LOAD(str(tmp_path)).encode(TEXTS), expected)


@pytest.mark.parametrize(
    "given_name", ["gelu_new", "gelu_pytorch_tanh", "relu", "silu", "quick_gelu"]
)
def test_activations(directory, given_name):
    before = LOAD(directory).encode(TEXTS)
    edit(directory / "config.json", hidden_act=given_name)
    after = LOAD(directory).encode(TEXTS)
    close = np.abs(after - before).max() < 2e-2
    assert not np.array_equal(before, after) and close == given_name.startswith("gelu")


def test_nan_is_a_number_too(directory):
    tensors = encoders.weights("bert")
    tensors[WORDS][6] = np.nan
    encoders.save_tensors(directory / "model.safetensors", tensors)
    encoder = LOAD(directory)
    got = encoder.encode_tokens([[5], [6], [7]], normalize=True)
    assert np.isnan(got[1]).all() and np.isfinite(got[[0, 2]]).all()


# What is refused: files


def test_no_directory(tmp_path):
    refused(tmp_path / "none", MissingFileError, tmp_path / "none", "no such directory", "download")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", MissingFileError, "is a file")
    refused(tmp_path, MissingFileError, "config.json", "missing")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_is_missing(directory, name):
    (directory / name).unlink()
    refused(directory, MissingFileError, directory, name)


def test_pickles_only(directory):
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    refused(directory, MissingFileError, "pytorch_model.bin", "never read", "save_pretrained")


@pytest.mark.parametrize("start", [b"PK\x03\x04" + bytes(60), b"\x80\x02}q\x00" + bytes(60)])
def test_a_pickle_by_another_name(directory, start):
    (directory / "model.safetensors").write_bytes(start)
    refused(directory, BrokenFileError, "model.safetensors", "pickle, which is never read")
    (directory / "config.json").write_bytes(start)
    refused(directory, BrokenFileError, "config.json", "not JSON", "pickle")


def test_a_pointer_of_git_lfs(directory):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n"
    for name in ("tokenizer.json", "model.safetensors"):  # the latter is looked at first
        (directory / name).write_bytes(pointer)
        refused(directory, BrokenFileError, name, "git lfs pull")


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ("3", "must be an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"model_type": "bert", "hidden_size": %s}' % ("9" * 5000), "not JSON"),
        ("{}", "model_type is missing"),
        ('{"model_type": 3}', "model_type must be a string"),
        ('{"model_type": "bert"}', "hidden_size is missing"),
    ],
)
def test_config_is_broken(directory, text, words):
    (directory / "config.json").write_text(text)
    refused(directory, BrokenFileError, "config.json", words)


def test_config_is_too_large(directory):
    (directory / "config.json").write_bytes(b" " * (LARGEST_JSON + 1))
    refused(directory, BrokenFileError, "config.json", LARGEST_JSON)


@pytest.mark.parametrize(
    "name, value",
    [
        ("hidden_size", "24"),
        ("hidden_size", 24.0),
        ("hidden_size", True),
        ("hidden_size", None),
        ("num_hidden_layers", 0),
        ("num_attention_heads", -3),
        ("num_attention_heads", 5),
        ("vocab_size", []),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", "1e-5"),
        ("layer_norm_eps", 10**400),
        ("type_vocab_size", -1),
        ("is_decoder", "no"),
    ],
)
def test_settings_that_make_no_sense(directory, name, value):
    edit(directory / "config.json", **{name: value})
    words = "heads do not divide" if value == 5 else name
    refused(directory, BrokenFileError, "config.json", words)


@pytest.mark.parametrize(
    "name, value",
    [
        ("model_type", "llama"),
        ("model_type", "modernbert"),
        ("hidden_act", "mish"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
    ],
)
def test_other_models(directory, name, value):
    edit(directory / "config.json", **{name: value})
    refused(directory, UnsupportedModelError, "config.json", value, "supported: ")


def test_modules_that_are_not_known(directory):
    encoders.add_modules(directory, {})
    modules = json.loads((directory / "modules.json").read_text())
    dense = {"idx": 2, "type": "sentence_transformers.models.Dense", "path": "2_Dense"}
    for bad in ([*modules, dense], modules[::-1], modules[1:], []):
        (directory / "modules.json").write_text(json.dumps(bad))
        refused(directory, UnsupportedModelError, "modules.json", "Transformer, Pooling, Normalize")
    for bad in ({}, "x"):
        (directory / "modules.json").write_text(json.dumps(bad))
        refused(directory, BrokenFileError, "modules.json", "must be a list")
    for bad in ([3], [{"path": ""}], [{"type": None}]):
        (directory / "modules.json").write_text(json.dumps(bad))
        refused(directory, BrokenFileError, "modules.json", "type is missing")


def test_modules_elsewhere(directory):
    encoders.add_modules(directory, {"pooling_mode": "mean"})
    modules = json.loads((directory / "modules.json").read_text())
    for number in (0, 1):
        for place in ("..", "../model/1_Pooling", "1_Pooling/../..", str(directory)):
            changed = [*modules]
            changed[number] = modules[number] | {"path": place}
            (directory / "modules.json").write_text(json.dumps(changed))
            refused(directory, BrokenFileError, "modules.json", place, "leads out")


@pytest.mark.parametrize("number", [0, 1])
def test_names_too_long(directory, number):
    encoders.add_modules(directory, {"pooling_mode": "mean"})
    modules = json.loads((directory / "modules.json").read_text())
    modules[number]["path"] = "x" * 300
    (directory / "modules.json").write_text(json.dumps(modules))
    refused(directory, MissingFileError, "x" * 300, "too long")
    refused(directory.with_name("y" * 300), MissingFileError, "y" * 300, "too long")


@pytest.mark.parametrize(
    "shards, kind, words",
    [
        ({}, BrokenFileError, "an object that names files, got {}"),
        ([], BrokenFileError, "an object that names files"),
        ({"a": "x" * 300}, MissingFileError, "too long"),
        ({"a": "../model.safetensors"}, BrokenFileError, "names no file"),
        ({"a": ".."}, BrokenFileError, "names no file"),
        ({"a": ""}, BrokenFileError, "names no file"),
    ],
)
def test_an_index_that_is_broken(directory, shards, kind, words):
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    refused(directory, kind, words)


@pytest.mark.parametrize(
    "name", ["modules.json", "sentence_bert_config.json", "tokenizer_config.json"]
)
def test_no_file_by_that_name(directory, name):
    """It may be left out, but what is there must be one: else a part of the model is lost."""
    (directory / name).symlink_to("nowhere")
    refused(directory, MissingFileError, name, "this link leads to")
    (directory / name).unlink()
    (directory / name).mkdir()
    refused(directory, MissingFileError, name, "is not a file")


def test_pooling_that_is_not_known(directory):
    for modes in (["mean", "mean"], ["cls"] * 100_000):
        encoders.add_modules(directory, {"pooling_mode": modes})
        refused(directory, BrokenFileError, "1_Pooling", "pooling_mode must be different modes")
    for mode in ("median", [], ["mean", 3], [["mean"]], {}):
        encoders.add_modules(directory, {"pooling_mode": mode})
        refused(directory, UnsupportedModelError, "1_Pooling", "pooling_mode", "weightedmean")
    encoders.add_modules(directory, {"pooling_mode_cls_token": 1})
    refused(directory, BrokenFileError, "1_Pooling", "pooling_mode_cls_token", "true or false")
    shutil.rmtree(directory / "1_Pooling")
    refused(directory, MissingFileError, "1_Pooling")


def test_no_room_for_text(directory):
    encoders.add_modules(directory, {}, longest=2)
    refused(directory, UnsupportedModelError, "at most 2 tokens")
    encoders.add_modules(directory, {}, longest=-1)
    refused(directory, BrokenFileError, "max_seq_length")


# What is refused: tensors


def test_a_tensor_is_missing(tmp_path):
    for number, name in enumerate(encoders.weights("bert")):
        tensors = encoders.weights("bert")
        shape = tensors.pop(name).shape
        directory = encoders.save(tmp_path / str(number), tensors=tensors, prefix="bert.")
        message = refused(directory, TensorError, "model.safetensors", name, "missing")
        assert str(shape) in message or name == WORDS


@pytest.mark.parametrize("kind", encoders.KINDS)
def test_a_tensor_has_another_shape(tmp_path, kind):
    for number, name in enumerate(encoders.weights(kind)):
        tensors = encoders.weights(kind)
        expected = tensors[name].shape
        tensors[name] = np.zeros((expected[0] + 1, *expected[1:]), np.float32)
        directory = encoders.save(tmp_path / str(number), kind, tensors=tensors)
        found = tensors[name].shape
        refused(directory, TensorError, "model.safetensors", name, found, expected, "config.json")


def test_a_tensor_is_of_integers(directory):
    path = directory / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["embeddings.LayerNorm.bias"]["dtype"] = "I32"
    encoders.save_raw(path, header, raw[8 + length :])
    refused(directory, TensorError, "embeddings.LayerNorm.bias is I32", "F32", "BF16")


def test_two_encoders(tmp_path):
    tensors = {
        f"{side}.{name}": array
        for side in ("query", "passage")
        for name, array in encoders.weights("bert").items()
    }
    directory = encoders.save(tmp_path, tensors=tensors)
    refused(directory, UnsupportedModelError, "2 encoders", "'passage.', 'query.'")


def test_no_encoder_at_all(tmp_path):
    directory = encoders.save(tmp_path, tensors={"model.layers.0.weight": np.zeros(3)})
    refused(directory, TensorError, WORDS, "model.layers.0.weight")
    encoders.save_tensors(directory / "model.safetensors", {})
    refused(directory, TensorError, WORDS, "none")


def test_a_tensor_is_missing_in_shards(directory):
    in_shards(directory)
    encoders.save_tensors(directory / "model-1.safetensors", {"x": np.zeros(1)})
    refused(directory, TensorError, f"{directory}: ", "missing")


# What is refused: the form of safetensors


@pytest.mark.parametrize(
    "header, length, words",
    [
        ("{}", 2**60, "cut off"),
        ("{}", 2**63 + 5, "cut off"),
        ("{}", 3, "the header is not JSON"),
        ("{", None, "the header is not JSON"),
        ("[]", None, "the header must be an object"),
        ("\x00" * 8, None, "the header is not JSON"),
        ('{"a": 3}', None, "a: has no dtype"),
        ('{"\\n": 3}', None, r"'\n': has no dtype"),
        (json.dumps({"a" * 5000: 3}), None, "...: has no dtype"),
        ('{"a": {"dtype": 3}}', None, "a: has no dtype"),
        ('{"a": {"dtype": "F32"}}', None, "a: its shape"),
        ('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', None, "a: its shape"),
        ('{"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}}', None, "a: its shape"),
        (
            json.dumps({"a": {"dtype": "F32", "shape": [10**4000] * 2, "data_offsets": [0, 0]}}),
            None,
            "a: its shape",
        ),
        (
            json.dumps({"a": {"dtype": "F4", "shape": [1], "data_offsets": [10**4000] * 2}}),
            None,
            "a: its data_offsets",
        ),
        ('{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}', None, "a: its shape"),
        (
            json.dumps({"a": {"dtype": "F32", "shape": [1] * 99, "data_offsets": [0, 4]}}),
            None,
            "a: its shape",
        ),
        ('{"a": {"dtype": "F32", "shape": [1]}}', None, "a: its data_offsets"),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4]}}', None, "a: its data_offs"),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', None, "a: its data_offs"),
        ('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', None, "a: F32 of the"),
        (
            '{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}',
            None,
            "a: F32 of the shape",
        ),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', None, "a leaves a gap"),
        (
            '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
            ' "b": {"dtype": "F16", "shape": [3], "data_offsets": [2, 8]}}',
            None,
            "b overlaps",
        ),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', None, "more than its"),
        ('{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', None, "is cut off"),
    ],
)
def test_headers(directory, header, length, words):
    path = directory / "model.safetensors"
    encoders.save_raw(path, header, bytes(16), length)
    message = refused(directory, BrokenFileError, "model.safetensors", words)
    assert len(message) < 600


def test_a_huge_header(directory):
    path = directory / "model.safetensors"
    encoders.save_raw(path, " " * (LARGEST_JSON + 1))
    refused(directory, BrokenFileError, "model.safetensors", "a header of", LARGEST_JSON)


def test_cut_anywhere(directory):
    path = directory / "model.safetensors"
    raw = path.read_bytes()
    for size in [*range(20), 1000, 5000, len(raw) // 2, len(raw) - 1]:
        path.write_bytes(raw[:size])
        refused(directory, BrokenFileError, "model.safetensors")
    path.write_bytes(raw + b"\0")
    refused(directory, BrokenFileError, "model.safetensors", "more than its tensors")


def test_cut_while_it_is_read(directory):
    """After its header was found in order."""
    path = directory / "model.safetensors"
    tensors = Tensors.of_files([path])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BrokenFileError, match="cut off"):
        list(tensors.values())


@settings(max_examples=300)
@given(data=st.data())
def test_anything_else_in_a_header(tmp_path_factory, data):
    """Whatever is changed: read without complaint, or refused in words."""
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    encoders.save_tensors(path, {"a": np.ones((2, 3)), "b": np.ones(4)})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        entries = read_header(path)
    except ModelError as error:
        assert "any.safetensors" in str(error)
    else:
        assert all(len(entry.shape) <= 2 for entry in entries.values())


# What is refused: the tokenizer


def test_tokenizer_is_broken(directory):
    path = directory / "tokenizer.json"
    text = path.read_text()
    for bad in ("", "{}", "[]", text[: len(text) // 2], text.replace("WordPiece", "Nothing")):
        path.write_text(bad)
        refused(directory, BrokenFileError, "tokenizer.json", "is no tokenizer")


def test_tokenizer_that_panics(directory, capfd):
    """Its library ends in a panic, which is not even an Exception."""
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["post_processor"]["special_tokens"].popitem()
    path.write_text(json.dumps(tokenizer))
    refused(directory, BrokenFileError, "tokenizer.json", "is no tokenizer")


def test_more_tokens_than_rows(directory):
    tokenizer = encoders.tokenizer("bert")
    tokenizer.add_tokens(["one", "two"])
    tokenizer.save(str(directory / "tokenizer.json"))
    rows = len(encoders.WORDS) + 4
    refused(directory, TensorError, "tokenizer.json", f"has {rows + 2} tokens", f"{rows} rows")


# Memory


ABSURD = """
import json, resource, sys
from pathlib import Path
from pyattn.models import ModelError, TextEncoder
directory = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
for change in json.loads(sys.argv[2]):
    before = (directory / "config.json").read_text()
    (directory / "config.json").write_text(json.dumps(json.loads(before) | change))
    try:
        TextEncoder.from_pretrained(directory)
    except ModelError:
        print("refused")
    (directory / "config.json").write_text(before)
"""


def test_absurd_sizes_take_no_memory(directory):
    """2 GB of addresses are enough to refuse them."""
    names = ["hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size"]
    changes = [{name: 10**12} for name in [*names, "max_position_embeddings", "type_vocab_size"]]
    run = [sys.executable, "-c", ABSURD, str(directory), json.dumps(changes)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["refused"] * len(changes), done.stderr
