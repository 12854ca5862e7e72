"""What a TextGenerator is made of: GGUF files as the package gguf reads them, and files that are
broken, of which none may do more than raise a ModelError."""

import json
import random

import numpy as np
import pytest

pytest.importorskip("tokenizers")

import encoders
import generators

from pyattn.models import (
    BrokenFileError,
    MissingFileError,
    ModelError,
    TensorError,
    TextGenerator,
    UnsupportedModelError,
)

IDS = np.random.default_rng(0).integers(3, generators.VOCABULARY - 2, 20)


def close(got, expected, tolerance=2e-6):
    return np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


def saved(path, text):
    path.write_text(text if isinstance(text, str) else json.dumps(text))


# GGUF


@pytest.fixture
def gguf():
    return pytest.importorskip("gguf")


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "Q8_0", "Q4_1", "Q4_0", "Q5_1"])
def test_gguf(gguf, tmp_path, dtype):
    """Against the package's own reader."""
    path = generators.save_gguf(tmp_path / "tiny.gguf", dtype=dtype)
    plain = generators.Plain(generators.config("llama"), generators.gguf_weights(path))
    expected = plain.logits(IDS)
    whole = TextGenerator.from_pretrained(path, storage=None)
    assert close(whole.logits(IDS), expected)
    auto = TextGenerator.from_pretrained(path)
    assert close(auto.logits(IDS), expected, 2e-3 if dtype.startswith("Q") else 2e-6)
    assert (auto.nbytes < 0.7 * whole.nbytes) == (dtype != "F32")
    assert auto.model_type == "llama" and auto.context == generators.CONTEXT


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_gguf_of_other_families(gguf, tmp_path, kind):
    """Rows of queries and keys are in their own order; biases, norms and a last layer are there."""
    path = generators.save_gguf(tmp_path / "tiny.gguf", kind)
    config = generators.config(kind) | {"model_type": "llama"}  # without its windows
    plain = generators.Plain(config, generators.weights(kind))
    assert close(TextGenerator.from_pretrained(path).logits(IDS), plain.logits(IDS))


def test_gguf_with_a_window(gguf, tmp_path):
    path = generators.save_gguf(
        tmp_path / "tiny.gguf", **{"attention.sliding_window": generators.WINDOW}
    )
    config = generators.config("mistral")
    plain = generators.Plain(config, generators.weights("llama"))
    assert close(TextGenerator.from_pretrained(path).logits(IDS), plain.logits(IDS))


def test_gguf_with_factors_of_positions(gguf, tmp_path):
    """A factor of 4 for all pairs says the same as linear scaling."""
    scaled = generators.save(
        tmp_path, settings={"rope_scaling": {"rope_type": "linear", "factor": 4.0}}
    )
    expected = TextGenerator.from_pretrained(scaled).logits(IDS)
    factors = np.full(generators.HEAD // 2, 4, np.float32)
    tensors = generators.weights("llama") | {"rope_freqs.weight": factors}
    path = generators.save_gguf(tmp_path / "tiny.gguf", tensors=tensors)
    assert close(TextGenerator.from_pretrained(path).logits(IDS), expected)
    for settings, scales in [
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4}, True),
        ({"rope.scaling.factor": 4}, True),
        ({"rope.scale_linear": 4}, True),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4}, False),
    ]:
        path = generators.save_gguf(tmp_path / "tiny.gguf", **settings)
        assert close(TextGenerator.from_pretrained(path).logits(IDS), expected) == scales
    factors[3] = 0
    path = generators.save_gguf(tmp_path / "tiny.gguf", tensors=tensors)
    with pytest.raises(BrokenFileError, match=r"rope_freqs.weight: has factors that are not pos"):
        TextGenerator.from_pretrained(path)
    tensors["rope_freqs.weight"] = np.ones((1, 8), np.float32)
    path = generators.save_gguf(tmp_path / "tiny.gguf", tensors=tensors)
    raw, axes = path.read_bytes(), b"rope_freqs.weight" + (2).to_bytes(4, "little")
    for shape in ((1, 8), (1 << 63, 0)):  # the second one is none that an array could have
        ends = [n.to_bytes(8, "little") for n in (8, 1, *shape[::-1])]
        path.write_bytes(raw.replace(axes + ends[0] + ends[1], axes + ends[2] + ends[3]))
        with pytest.raises(TensorError, match=rf"rope_freqs.weight has the shape \({shape[0]}, "):
            TextGenerator.from_pretrained(path)


def test_the_same_tokens_and_chats(gguf, tmp_path):
    one = TextGenerator.from_pretrained(generators.save(tmp_path))
    other = TextGenerator.from_pretrained(generators.save_gguf(tmp_path / "tiny.gguf"))
    for text in ("the cat sat on 123 in\n\n  it\u00e9", "<|im_end|>the<|endoftext|>", ""):
        assert one.tokenize(text) == other.tokenize(text)
    message = [{"role": "user", "content": "the cat"}]
    assert one.chat_prompt(message) == other.chat_prompt(message)
    assert one.generate(["the cat"], max_tokens=30) == other.generate(["the cat"], max_tokens=30)


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2"])
def test_other_ways_to_cut(gguf, tmp_path, pre):
    """Which tokens they give has been compared with llama.cpp on large vocabularies."""
    made = TextGenerator.from_pretrained(generators.save_gguf(tmp_path / "tiny.gguf", pre=pre))
    for text in ("the cat's  123\r\n", "it\u00e9 \u4e2d"):
        assert made.detokenize(made.tokenize(text)) == text


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pre": "unheard-of"}, "tokenizer.ggml.pre 'unheard-of' is not supported; .* smollm"),
        ({"kind": "gemma"}, "general.architecture 'gemma' is not supported; .* llama, qwen2"),
        ({"expert_count": 8}, "llama.expert_count"),
        ({"rope.scaling.type": "yarn"}, "llama.rope.scaling.type 'yarn' is not supported"),
        ({"block_count": None}, "llama.block_count is missing"),
        ({"block_count": 10**6}, "llama.block_count must be at most 1000"),
        ({"block_count": 3}, r"has tensors \(9\) that such a model does not have: blk.3.attn_k"),
        ({"block_count": 5}, "blk.4.attn_q.weight is missing"),
        ({"attention.head_count": 5}, "5 heads cannot share 2 heads of keys"),
        ({"attention.key_length": 1 << 30}, "attention.key_length must be at most 4096"),
        ({"rope.dimension_count": 17}, "rope.dimension_count must be at most 16"),
        ({"rope.dimension_count": 15}, "its positions: .* must come in pairs"),
        ({"context_length": "long"}, "context_length must be a whole number"),
        ({"feed_forward_length": 65}, r"blk.0.ffn_gate.weight has the shape \(64, 32\), expected"),
    ],
)
def test_gguf_that_is_not_computed(gguf, tmp_path, options, message):
    path = generators.save_gguf(tmp_path / "tiny.gguf", **options)
    with pytest.raises(ModelError, match=message) as caught:
        TextGenerator.from_pretrained(path)
    assert str(caught.value).startswith(str(path))


def test_gguf_that_is_none(tmp_path):
    pytest.importorskip("gguf")
    path = tmp_path / "tiny.gguf"
    for data, message in [
        (b"", "is not a GGUF file"),
        (b"version https://git-lfs.github.com", "but a pointer to Git LFS"),
        (b"GGUF" + (1).to_bytes(4, "little"), "version 1 of GGUF is not supported"),
        (b"GGUF" + (3).to_bytes(4, "big") + bytes(16), "nor are big-endian files"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 16, "is cut off"),
        (b"GGUF" + (3).to_bytes(4, "little") + bytes(16), "general.architecture is missing"),
    ]:
        path.write_bytes(data)
        with pytest.raises(ModelError, match=message):
            TextGenerator.from_pretrained(path)
    path.unlink()
    with pytest.raises(MissingFileError, match="the model is missing"):
        TextGenerator.from_pretrained(path)
    path.mkdir()
    with pytest.raises(MissingFileError, match="is not a file"):
        TextGenerator.from_pretrained(path)


def damaged(raw, rng, start):
    """A file that is cut off, or in which bytes have changed, most of them at the beginning."""
    changed = bytearray(raw)
    if rng.random() < 0.2:
        return changed[: rng.randrange(len(raw))]
    at = rng.randrange(start if rng.random() < 0.9 else len(raw) - 8)
    if rng.random() < 0.4:
        changed[at : at + 8] = rng.choice([b"\xff" * 8, bytes(8), rng.randbytes(8)])
    else:
        changed[at] ^= 1 << rng.randrange(8)
    return changed


@pytest.mark.parametrize("dtype", ["F32", "Q4_1"])
def test_damaged_gguf(gguf, tmp_path, dtype):
    path = generators.save_gguf(tmp_path / "tiny.gguf", dtype=dtype)
    raw, rng, failed = path.read_bytes(), random.Random(0), 0
    start = raw.index(b"output_norm.weight") + 200
    for _ in range(100):
        path.write_bytes(damaged(raw, rng, start))
        try:
            TextGenerator.from_pretrained(path).generate(["the"], max_tokens=1)
        except ModelError as error:
            failed += 1
            assert str(path) in str(error)
    assert failed > 30


def test_without_the_package(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(ImportError, match=r"pip install 'pyattn\[gguf\]'"):
        TextGenerator.from_pretrained(path)
    directory = generators.save(tmp_path / "directory")
    TextGenerator.from_pretrained(directory)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"needs the package jinja2: .*pyattn\[models\]"):
        TextGenerator.from_pretrained(directory).chat_prompt([{"role": "user", "content": ""}])


# Directories


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"model_type": "gemma3"}, "model_type 'gemma3' is not supported; supported: llama, mis"),
        ({"model_type": None}, "model_type is missing"),
        ({"hidden_act": "swiglu"}, "hidden_act 'swiglu' is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_attention_heads": 6}, "6 heads cannot share|self_attn.q_proj.weight has the shape"),
        ({"num_key_value_heads": 3}, "4 heads cannot share 3 heads of keys evenly"),
        ({"head_dim": 10**12}, "head_dim must be at most 4096"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be at most 1000"),
        ({"num_hidden_layers": 3}, r"has tensors \(9\) that such a .*: model.layers.3"),
        ({"num_hidden_layers": 5}, "model.layers.4.self_attn.q_proj.weight is missing"),
        ({"tie_word_embeddings": False}, r"lm_head.weight is missing; .* \(272, 32\)"),
        ({"attention_bias": True}, "self_attn.q_proj.bias is missing"),
        ({"rms_norm_eps": 0}, "rms_norm_eps must be a number above 0"),
        ({"vocab_size": 100}, r"embed_tokens.weight has the shape .* expected \(100, 32\)"),
        ({"rope_scaling": {"rope_type": "unheard-of"}}, "its positions: .*unheard-of"),
        ({"rope_scaling": 3}, "its positions"),
        ({"rope_theta": -1}, "its positions: .*theta"),
        ({"rope_theta": "big"}, "its positions"),
        ({"eos_token_id": "end"}, r"eos_token_id must be a token"),
        ({"eos_token_id": [2, -1]}, r"eos_token_id must be a token"),
        ({"max_position_embeddings": None}, "max_position_embeddings is missing"),
        ({"model_type": "mistral", "sliding_window": "wide"}, "sliding_window must be a whole"),
        ({"model_type": "mistral", "sliding_window": 1 << 70}, "sliding_window must be at most"),
        ({"model_type": "mistral", "layer_types": ["a"]}, "layer_types must be a list of 4 ent"),
        ({"model_type": "mistral", "layer_types": ["a"] * 4}, "layer_types 'a' is not supported"),
        ({"model_type": "smollm3", "use_sliding_window": True}, "use_sliding_window True is not"),
        ({"model_type": "smollm3", "no_rope_layers": 1}, "no_rope_layers must be a list of 4 en"),
    ],
)
def test_configurations(tmp_path, settings, message):
    directory = generators.save(tmp_path, settings=settings)
    with pytest.raises(ModelError, match=message) as caught:
        TextGenerator.from_pretrained(directory)
    assert str(tmp_path) in str(caught.value)


def test_layers_that_differ(tmp_path):
    """By lists, which count before the rules."""
    plain = generators.Plain(generators.config("smollm3"), generators.weights("smollm3"))
    listed = generators.save(
        tmp_path / "a",
        "smollm3",
        settings={"no_rope_layers": [1, 1, 1, 0], "no_rope_layer_interval": 2},
    )
    assert close(TextGenerator.from_pretrained(listed).logits(IDS), plain.logits(IDS))
    plain = generators.Plain(generators.config("qwen2"), generators.weights("qwen2"))
    kinds = ["full_attention"] * 2 + ["sliding_attention"] * 2
    listed = generators.save(
        tmp_path / "b", "qwen2", settings={"max_window_layers": 0, "layer_types": kinds}
    )
    assert close(TextGenerator.from_pretrained(listed).logits(IDS), plain.logits(IDS))
    unused = generators.save(tmp_path / "c", "qwen2", settings={"use_sliding_window": False})
    without = generators.save(tmp_path / "d", "qwen2", settings={"sliding_window": None})
    assert close(
        TextGenerator.from_pretrained(unused).logits(IDS),
        TextGenerator.from_pretrained(without).logits(IDS),
    )


def test_weights_that_do_not_fit(tmp_path):
    tensors = generators.weights("llama")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = 1e6
    directory = generators.save(tmp_path, tensors=tensors)
    with pytest.raises(TensorError, match=r"1.mlp.up_proj.weight: .*1e\+06 does not fit"):
        TextGenerator.from_pretrained(directory, storage="float16")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    directory = generators.save(tmp_path, tensors=tensors)
    with pytest.raises(ModelError, match="logits are not finite"):
        TextGenerator.from_pretrained(directory).generate(["the"], max_tokens=1)


def test_other_tensors(tmp_path):
    """Of a norm, of an adapter: they would count. Frequencies of old files do not."""
    tensors = generators.weights("llama")
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}
    TextGenerator.from_pretrained(generators.save(tmp_path, tensors=tensors | old))
    more = {"model.layers.0.self_attn.q_norm.weight": np.ones(16, np.float32)}
    directory = generators.save(tmp_path, tensors=tensors | more)
    with pytest.raises(UnsupportedModelError, match=r"has tensors \(1\) .*0.self_attn.q_norm.w"):
        TextGenerator.from_pretrained(directory)


def test_files_that_are_missing(tmp_path):
    for name, message in [
        ("config.json", "the configuration of the model is missing"),
        ("tokenizer.json", "the tokenizer is missing"),
        ("model.safetensors", "has no weights, neither model.safetensors nor"),
    ]:
        directory = generators.save(tmp_path)
        (directory / name).unlink()
        with pytest.raises(MissingFileError, match=message):
            TextGenerator.from_pretrained(directory)
    directory = generators.save(tmp_path)
    (directory / "tokenizer_config.json").unlink()
    bare = TextGenerator.from_pretrained(directory)
    assert isinstance(bare.generate(["the"], max_tokens=2)[0], str)
    with pytest.raises(UnsupportedModelError, match="has no chat template"):
        bare.chat_prompt([{"role": "user", "content": "the"}])


def test_an_encoder(tmp_path):
    with pytest.raises(UnsupportedModelError, match="model_type 'bert' is not supported"):
        TextGenerator.from_pretrained(encoders.save(tmp_path))


def test_more_tokens_than_rows(tmp_path):
    tensors = generators.weights("llama")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:100]
    directory = generators.save(tmp_path, tensors=tensors, settings={"vocab_size": 100})
    with pytest.raises(TensorError, match=r"has 270 tokens, .* 100 rows"):
        TextGenerator.from_pretrained(directory)


@pytest.mark.parametrize(
    "template, message",
    [
        ("{% for", "its chat template cannot be used"),
        ("{{ messages[0].content.x.y }}", "cannot be used: .*has no attribute 'x'"),
        ("{{ ''.__class__.__mro__ }}", "cannot be used: .*__class__.*unsafe"),
        ("{{ 1 / 0 }}", "cannot be used: division by zero"),
        ("{% include 'x' %}", "cannot be used"),
        ("{{ range(10**9) | list }}", "cannot be used: Range too big"),
        ("{{ cycler() }}", "cannot be used: at least one item"),
    ],
)
def test_templates_that_are_broken(tmp_path, template, message):
    directory = generators.save(tmp_path)
    (directory / "chat_template.jinja").write_text(template)
    with pytest.raises(BrokenFileError, match=message):
        TextGenerator.from_pretrained(directory).chat_prompt([{"role": "user", "content": "the"}])


def test_a_template_that_refuses(tmp_path):
    directory = generators.save(tmp_path)
    saved(directory / "chat_template.jinja", "{{ raise_exception('take turns') }}")
    with pytest.raises(
        ValueError, match=r"chat_prompt: .*chat_template.jinja says: take turns$"
    ) as c:
        TextGenerator.from_pretrained(directory).chat_prompt([{"role": "user", "content": "the"}])
    assert not isinstance(c.value, ModelError)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("tokenizer_config.json", {"chat_template": 3}, "chat_template must be a string, got 3"),
        ("tokenizer_config.json", "{", "is not JSON"),
        ("generation_config.json", {"eos_token_id": 1.5}, "eos_token_id must be a token"),
        ("tokenizer.json", "{}", "is no tokenizer"),
    ],
)
def test_files_that_are_broken(tmp_path, name, text, message):
    directory = generators.save(tmp_path)
    saved(directory / name, text)
    with pytest.raises(BrokenFileError, match=message):
        TextGenerator.from_pretrained(directory)
    (directory / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(BrokenFileError):
        TextGenerator.from_pretrained(directory)


# Arguments


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return TextGenerator.from_pretrained(generators.save(tmp_path_factory.mktemp("one")))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"max_tokens": -1}, ValueError, "max_tokens must be at least 0"),
        ({"max_tokens": 1.5}, TypeError, "max_tokens must be an integer"),
        ({"max_tokens": 96}, ValueError, "1 tokens and max_tokens is 96, .*96: .*max_tokens=95"),
        ({"temperature": -0.1}, ValueError, "temperature must be finite and at least 0"),
        ({"temperature": np.nan}, ValueError, "temperature must be finite"),
        ({"temperature": "hot"}, TypeError, "temperature"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1"),
        ({"top_p": 0.0}, ValueError, r"top_p must be within \(0, 1\]"),
        ({"top_p": 1.1}, ValueError, r"top_p must be within \(0, 1\]"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
        ({"stop": ["a", ""]}, ValueError, "stop must not have an empty string"),
        ({"stop": [1]}, TypeError, "stop must be a string or a list"),
    ],
)
def test_options(llama, options, error, message):
    with pytest.raises(error, match=f"generate: .*{message}"):
        llama.generate(["the"], **options)
    with pytest.raises(error, match=f"stream: .*{message}"):
        llama.stream("the", **options)  # at once


def test_prompts(llama):
    with pytest.raises(TypeError, match=r"generate: prompts .* got one str: use \[prompt\]"):
        llama.generate("the")
    with pytest.raises(TypeError, match=r"generate: prompts\[1\] must be a string, got int"):
        llama.generate(["the", 3])
    with pytest.raises(TypeError, match="stream: prompt must be a string, got list"):
        llama.stream(["the"])
    with pytest.raises(ValueError, match=r"prompts\[1\] has no tokens, and this model has none"):
        llama.generate(["the", ""], max_tokens=1)
    with pytest.raises(ValueError, match=r"prompts\[0\] has 200 tokens.* context has 96: shorten"):
        llama.generate(["the cat" * 100], max_tokens=None)
    with pytest.raises(TypeError, match=r"use TextGenerator.from_pretrained"):
        TextGenerator()


def test_tokens(llama):
    rows = generators.VOCABULARY
    for function in (llama.logits, llama.detokenize):
        with pytest.raises(ValueError, match=rf"ids has the token {rows} at 1, outside the voc"):
            function([3, rows])
        with pytest.raises(TypeError, match="ids must be integers, got float64"):
            function([1.5])
    with pytest.raises(ValueError, match=r"logits: ids has 97 tokens, the model has pos.* for 96"):
        llama.logits([3] * 97)


@pytest.mark.parametrize(
    "messages, error",
    [
        ("Hi", TypeError),
        ({"role": "user", "content": "Hi"}, TypeError),
        (["Hi"], TypeError),
        ([{"role": "user"}], TypeError),
        ([{"role": "user", "content": None}], TypeError),
        ([], ValueError),
    ],
)
def test_messages(llama, messages, error):
    with pytest.raises(error, match="chat_prompt: messages"):
        llama.chat_prompt(messages)


def test_ways_to_keep(tmp_path):
    directory = generators.save(tmp_path)
    with pytest.raises(ValueError, match="storage must be one of 'auto', None, 'float16', 'bf"):
        TextGenerator.from_pretrained(directory, storage="int4")
    with pytest.raises(TypeError, match="cache_dtype: dtype must be 'float32', 'float16'"):
        TextGenerator.from_pretrained(directory, cache_dtype="int4")
