"""Weights of attention under the names of each family, in checkpoints that were made up here."""

import difflib
from collections.abc import Mapping

import numpy as np
import pytest
from support import assert_same_bits

from pyattn import positional
from pyattn.multihead import MultiHeadAttention

F = np.float32
E, HEADS = 12, 3


def weights(rng, kv_heads=HEADS, bias=True, **more):
    rows = {"q": E, "k": kv_heads * E // HEADS, "v": kv_heads * E // HEADS, "out": E}
    found = {f"{n}_weight": rng.normal(size=(count, E)) for n, count in rows.items()}
    if bias:
        found |= {f"{n}_bias": rng.normal(size=count) for n, count in rows.items()}
    return {name: a.astype(F) for name, a in (found | more).items()}


def modules(w, q, k, v, out):
    """Weights and biases of four modules of these names."""
    names = {"q": q, "k": k, "v": v, "out": out}
    return {
        f"{name}.{kind}": w[f"{n}_{kind}"]
        for n, name in names.items()
        for kind in ("weight", "bias")
        if f"{n}_{kind}" in w
    }


def fused(w, qkv, out, transposed=False):
    """The same, of two modules."""
    parts = {
        f"{qkv}.{kind}": np.concatenate([w[f"{n}_{kind}"] for n in "qkv"])
        for kind in ("weight", "bias")
        if f"q_{kind}" in w
    }
    parts |= {f"{out}.{kind}": w[f"out_{kind}"] for kind in ("weight", "bias") if f"q_{kind}" in w}
    return {name: a.T for name, a in parts.items()} if transposed else parts


def torch_names(w):
    parts = [np.concatenate([w[f"{n}_{kind}"] for n in "qkv"]) for kind in ("weight", "bias")]
    return {
        "in_proj_weight": parts[0],
        "in_proj_bias": parts[1],
        "out_proj.weight": w["out_weight"],
        "out_proj.bias": w["out_bias"],
    }


def torch_separate(w):
    names = torch_names(w)
    del names["in_proj_weight"]
    return names | {f"{n}_proj_weight": w[f"{n}_weight"] for n in "qkv"}


NORM = np.linspace(0.5, 1.5, E // HEADS).astype(F)
SINKS = np.arange(HEADS, dtype=F)
BERT = ("self.query", "self.key", "self.value", "output.dense")

# format, what weights there are, what names they get, and where these stand in a layer.
FAMILIES = {
    "bert": ("bert", {}, lambda w: modules(w, *BERT), "attention."),
    "deberta": (
        "deberta",
        {},
        lambda w: modules(w, "self.query_proj", "self.key_proj", "self.value_proj", BERT[3]),
        "attention.",
    ),
    "mpnet": ("mpnet", {}, lambda w: modules(w, *"qkvo"), "attention.attn."),
    "distilbert": (
        "distilbert",
        {},
        lambda w: modules(w, "q_lin", "k_lin", "v_lin", "out_lin"),
        "attention.",
    ),
    "modernbert": ("modernbert", {"bias": False}, lambda w: fused(w, "Wqkv", "Wo"), "attn."),
    "gpt2": ("gpt2", {}, lambda w: fused(w, "c_attn", "c_proj", transposed=True), "attn."),
    "llama": (
        "llama",
        {"kv_heads": 1, "bias": False},
        lambda w: modules(w, "q_proj", "k_proj", "v_proj", "o_proj"),
        "self_attn.",
    ),
    "qwen3": (
        "llama",
        {"kv_heads": 1, "bias": False, "q_norm": NORM, "k_norm": NORM[::-1]},
        lambda w: modules(w, "q_proj", "k_proj", "v_proj", "o_proj")
        | {"q_norm.weight": w["q_norm"], "k_norm.weight": w["k_norm"]},
        "self_attn.",
    ),
    "gpt-oss": (
        "llama",
        {"kv_heads": 1, "sinks": SINKS},
        lambda w: modules(w, "q_proj", "k_proj", "v_proj", "o_proj") | {"sinks": w["sinks"]},
        "self_attn.",
    ),
    "clip": (
        "clip",
        {},
        lambda w: modules(w, "q_proj", "k_proj", "v_proj", "out_proj"),
        "self_attn.",
    ),
    "wav2vec2": (
        "clip",
        {},
        lambda w: modules(w, "q_proj", "k_proj", "v_proj", "out_proj"),
        "attention.",
    ),
    "vit": (
        "vit",
        {},
        lambda w: modules(w, "attention.query", "attention.key", "attention.value", BERT[3]),
        "attention.",
    ),
    "timm": ("timm", {}, lambda w: fused(w, "qkv", "proj"), "attn."),
    "t5": ("t5", {"bias": False}, lambda w: modules(w, *"qkvo"), "SelfAttention."),
    "t5 cross": ("t5", {"bias": False}, lambda w: modules(w, *"qkvo"), "EncDecAttention."),
    "gguf": (
        "gguf",
        {"kv_heads": 1, "q_norm": NORM, "k_norm": NORM},
        lambda w: modules(w, "attn_q", "attn_k", "attn_v", "attn_output")
        | {"attn_q_norm.weight": w["q_norm"], "attn_k_norm.weight": w["k_norm"]},
        "",
    ),
    "torch": ("torch", {}, torch_names, "self_attn."),
    "torch, separate": ("torch", {}, torch_separate, "self_attn."),
    "torch, bias_k": (
        "torch",
        {"bias_k": np.ones((1, 1, E), F), "bias_v": np.zeros((1, 1, E), F)},
        lambda w: torch_names(w) | {"bias_k": w["bias_k"], "bias_v": w["bias_v"]},
        "attn.",
    ),
}  # fmt: skip


class Recorded(Mapping):
    """A lazy mapping that remembers what was read."""

    def __init__(self, tensors):
        self.tensors, self.read = tensors, []

    def __getitem__(self, name):
        self.read.append(name)
        return self.tensors[name]

    def __contains__(self, name):
        return name in self.tensors

    def __iter__(self):
        return iter(self.tensors)

    def __len__(self):
        return len(self.tensors)


# What else is in a layer; much of it begins like the attention.
NEIGHBOURS = (
    "self_attn_layer_norm.weight", "attn_norm.weight", "attn_norm.bias", "output.dense.weight",
    "intermediate.dense.weight", "layer_norm.weight", "ffn_up.weight", "mlp.up_proj.weight",
)  # fmt: skip
BEHIND = {
    "bert": "attention.output.LayerNorm.weight",
    "deberta": "attention.output.LayerNorm.weight",
    "mpnet": "attention.LayerNorm.weight",
    "t5": "SelfAttention.relative_attention_bias.weight",
    "gpt2": "attn.masked_bias",
}


def layer_of(names, inside, family, prefix="model.layers.7."):
    """A checkpoint with such a layer, one before and one after it, and other tensors; and what of
    it is needed."""
    needed = {f"{prefix}{inside}{name}": a for name, a in names.items()}
    others = [f"{prefix}{name}" for name in (*NEIGHBOURS, BEHIND.get(family, "norm1.weight"))]
    for other in ("model.layers.6.", "model.layers.70."):
        others += [f"{other}{inside}{name}" for name in names]
    return Recorded(dict.fromkeys(others, "never read") | needed), list(needed)


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, rng):
    format, kinds, rename, inside = FAMILIES[family]
    w = weights(rng, **kinds)
    expected = MultiHeadAttention.from_weights(w, HEADS, scale=1.0 if format == "t5" else None)
    x = rng.standard_normal((2, 5, E)).astype(F)
    for prefix in ("model.layers.7", "model.layers.7.", f"model.layers.7.{inside}"):
        for name in ("auto", format):
            tensors, needed = layer_of(rename(w), inside, family)
            layer = MultiHeadAttention.from_tensors(tensors, prefix, format=name, num_heads=HEADS)
            assert sorted(tensors.read) == sorted(needed)
            for role, a in layer.weights.items():
                assert_same_bits(a, expected.weights[role])
            assert repr(layer) == repr(expected)
            assert_same_bits(layer(x), expected(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_prefix(family, rng):
    """The tensors of one attention alone."""
    _, kinds, rename, _ = FAMILIES[family]
    w = weights(rng, **kinds)
    layer = MultiHeadAttention.from_tensors(rename(w), num_heads=HEADS)
    assert_same_bits(layer.k_weight, w["k_weight"])


def test_whisper_has_no_bias_of_keys(rng):
    w = weights(rng)
    del w["k_bias"]
    rename = FAMILIES["clip"][2]
    tensors, _ = layer_of(rename(w), "encoder_attn.", "whisper")
    tensors.tensors |= {
        f"model.layers.7.self_attn.{name}": a for name, a in rename(weights(rng)).items()
    }
    layer = MultiHeadAttention.from_tensors(tensors, "model.layers.7.encoder_attn", num_heads=HEADS)
    assert_same_bits(layer.q_weight, w["q_weight"])
    assert not layer.k_bias.any()
    layer = MultiHeadAttention.from_tensors(tensors, "model.layers.7", num_heads=HEADS)
    assert layer.k_bias.any()


def test_scale_of_t5_can_be_another(rng):
    tensors = FAMILIES["t5"][2](weights(rng, bias=False))
    assert MultiHeadAttention.from_tensors(tensors, num_heads=HEADS).scale == 1
    assert MultiHeadAttention.from_tensors(tensors, num_heads=HEADS, scale=0.5).scale == 0.5


def test_groups_in_one_tensor(rng):
    """How many rows are whose depends on the heads."""
    w = weights(rng, kv_heads=1)
    layer = MultiHeadAttention.from_tensors(fused(w, "Wqkv", "Wo"), num_heads=3, kv_heads=1)
    for name, a in w.items():
        assert_same_bits(layer.weights[name], a)


def test_heads_are_told_by_norms_and_sinks(rng):
    for family in ("qwen3", "gpt-oss", "gguf"):
        _, kinds, rename, _ = FAMILIES[family]
        layer = MultiHeadAttention.from_tensors(rename(weights(rng, **kinds)))
        assert (layer.num_heads, layer.kv_heads) == (3, 1)
    tensors = FAMILIES["llama"][2](weights(rng))
    assert MultiHeadAttention.from_tensors(tensors, head_dim=4).num_heads == 3


def test_gguf_rows_are_permuted(rng):
    """What llama.cpp's converter does to the rows of queries and keys makes pairs neighbours: with
    `interleaved` the result is that of the original with half-split pairs."""
    size, rope = 8, positional.rope_frequencies(8)
    w = {n: rng.normal(size=(4 * size, 10)).astype(F) for n in ("q_weight", "v_weight")}
    w["v_weight"] = w["v_weight"][: 2 * size]
    w["k_weight"] = rng.normal(size=(2 * size, 10)).astype(F)
    w["out_weight"] = rng.normal(size=(10, 4 * size)).astype(F)

    def permuted(a, heads):  # convert_hf_to_gguf.py, LlamaModel.permute
        return a.reshape(heads, 2, size // 2, -1).swapaxes(1, 2).reshape(a.shape)

    original = MultiHeadAttention.from_tensors(
        FAMILIES["llama"][2](w), num_heads=4, rope=rope, interleaved=False
    )
    stored = w | {"q_weight": permuted(w["q_weight"], 4), "k_weight": permuted(w["k_weight"], 2)}
    tensors = modules(stored, "blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output")
    x = rng.standard_normal((2, 9, 10)).astype(F) / 4
    right, wrong = (
        MultiHeadAttention.from_tensors(
            tensors, "blk.0", num_heads=4, rope=rope, interleaved=interleaved
        )(x, causal=True)
        for interleaved in (True, False)
    )
    np.testing.assert_allclose(right, original(x, causal=True), atol=2e-5)
    assert abs(wrong - right).max() > 1e-2


def test_memory_maps(tmp_path, rng):
    """Tensors are views of a file, in any float type; transposed and fused ones too."""
    w = {name: a.astype(np.float16) for name, a in weights(rng).items()}
    arrays = FAMILIES["gpt2"][2](w)
    np.savez(tmp_path / "layer.npz", **arrays)
    with np.load(tmp_path / "layer.npz") as tensors:
        layer = MultiHeadAttention.from_tensors(tensors, num_heads=HEADS)
    mapped = {}
    for name, a in arrays.items():
        np.save(tmp_path / f"{name}.npy", a)
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    other = MultiHeadAttention.from_tensors(mapped, num_heads=HEADS)
    for name, a in w.items():
        assert_same_bits(layer.weights[name], a.astype(F))
        assert_same_bits(other.weights[name], a.astype(F))


def test_bfloat16(rng):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    w = {name: a.astype(bfloat16) for name, a in weights(rng).items()}
    layer = MultiHeadAttention.from_tensors(FAMILIES["bert"][2](w), num_heads=HEADS)
    for name, a in w.items():
        assert_same_bits(layer.weights[name], a.astype(F))


# --- what is refused


LLAMA = FAMILIES["llama"][2](weights(np.random.default_rng(0), bias=False))
BERT_TENSORS = FAMILIES["bert"][2](weights(np.random.default_rng(0)))
MPNET_TENSORS = FAMILIES["mpnet"][2](weights(np.random.default_rng(0)))


def without(tensors, *names):
    return {name: a for name, a in tensors.items() if name not in names}


def at(prefix, tensors):
    return {f"{prefix}{name}": a for name, a in tensors.items()}


def wqkv(rows):
    return {"Wqkv.weight": np.zeros((rows, 12), F), "Wo.weight": np.zeros((12, 12), F)}


LOOKED = (
    "self.query.weight (bert), self.query_proj.weight (deberta), q.weight (mpnet), q_lin.weight "
    "(distilbert), Wqkv.weight (modernbert), c_attn.weight (gpt2), q_proj.weight (llama), "
    "q_proj.weight (clip), attention.query.weight (vit), qkv.weight (timm), q.weight (t5), "
    "attn_q.weight (gguf), in_proj_weight (torch), q_proj_weight (torch)"
)
UNKNOWN = " and may change the result: leave out of the mapping what does not"

# What is said, of from_tensors(tensors, **options), after "MultiHeadAttention.from_tensors: ".
CASES = [
    (
        [LLAMA.values()],
        {},
        TypeError,
        "tensors must be a mapping from names to arrays, got dict_values: use "
        "safetensors.numpy.load_file, numpy.load, a state_dict()",
    ),
    ([LLAMA, 7], {}, TypeError, "prefix must be a string, got int"),
    (
        [LLAMA],
        {"format": "lama"},
        ValueError,
        "format must be 'auto', 'bert', 'deberta', 'mpnet', 'distilbert', 'modernbert', 'gpt2', "
        "'llama', 'clip', 'vit', 'timm', 't5', 'gguf' or 'torch', got 'lama'",
    ),
    # names
    (
        [at("h.0.", LLAMA), "h.1"],
        {},
        ValueError,
        f"no attention under 'h.1.': looked for {LOOKED}; most like it: 'h.0.v_proj.weight', "
        "'h.0.q_proj.weight', 'h.0.o_proj.weight', 'h.0.k_proj.weight'",
    ),
    (
        [{f"h.1.{n}": 0 for n in "abcdef"}, "h.1"],
        {"format": "timm"},
        ValueError,
        "no attention under 'h.1.': looked for qkv.weight (timm); there: 'h.1.a', 'h.1.b', "
        "'h.1.c', 'h.1.d' and 2 more",
    ),
    (
        [{}],
        {"format": "t5"},
        ValueError,
        "no attention under '': looked for q.weight (t5); most like it: none",
    ),
    (
        [at("h.0.self_attn.", without(LLAMA, "k_proj.weight")), "h.0"],
        {},
        ValueError,
        "'h.0.self_attn.k_proj.weight' is missing of format 'llama'; most like "
        "'h.0.self_attn.k_proj.weight': 'h.0.self_attn.v_proj.weight', "
        "'h.0.self_attn.q_proj.weight', 'h.0.self_attn.o_proj.weight'",
    ),
    (
        [without(BERT_TENSORS, "self.key.bias", "output.dense.bias")],
        {"format": "bert"},
        ValueError,
        "'self.key.bias', 'output.dense.bias' are missing of format 'bert'; most like "
        "'self.key.bias': 'self.query.bias', 'self.value.bias', 'self.key.weight', "
        "'self.query.weight'",
    ),
    (
        [MPNET_TENSORS],
        {"format": "t5"},
        ValueError,
        "'q.bias', 'k.bias', 'v.bias', 'o.bias' are there, which format 't5' never has: give "
        "another format=",
    ),
    (
        [at("self_attn.", LLAMA) | {"attn.qkv.weight": 0, "attn.proj.weight": 0}],
        {},
        ValueError,
        "several formats have all their tensors under '': 'llama' at 'self_attn.' and 'timm' at "
        "'attn.': give format= or a longer prefix",
    ),
    (
        [LLAMA | {"q_proj.weight_scale": 0}],
        {},
        ValueError,
        "'q_proj.weight_scale' is unknown in format 'llama'," + UNKNOWN,
    ),
    (
        [at("attention.", BERT_TENSORS | {"self.distance_embedding.weight": 0, "self.x": 0})],
        {},
        ValueError,
        "'attention.self.distance_embedding.weight', 'attention.self.x' are unknown in format "
        "'bert'," + UNKNOWN,
    ),
    # tensors
    (
        [LLAMA | {"v_proj.weight": np.zeros((4, 12), np.int8)}],
        {},
        TypeError,
        "'v_proj.weight' must be float16, bfloat16, float32 or float64, got int8",
    ),
    (
        [LLAMA | {"v_proj.weight": np.ma.zeros((4, 12))}],
        {},
        TypeError,
        "'v_proj.weight' must not be a masked array",
    ),
    (
        [LLAMA | {"v_proj.weight": np.zeros(12, F)}],
        {"num_heads": 3},
        ValueError,
        "'v_proj.weight' must be (outputs, inputs), got (12,)",
    ),
    (
        [LLAMA],
        {},
        ValueError,
        "num_heads= is needed: 'q_proj.weight' (12, 12) does not tell how many heads it has",
    ),
    (
        [LLAMA],
        {"num_heads": 5},
        ValueError,
        "'q_proj.weight' (12, 12) cannot be divided into 5 query heads",
    ),
    (
        [LLAMA],
        {"head_dim": 5},
        ValueError,
        "'q_proj.weight' (12, 12) cannot be divided into heads of 5 rows",
    ),
    (
        [LLAMA],
        {"num_heads": 3, "head_dim": 3},
        ValueError,
        "'q_proj.weight' (12, 12) has 3 heads of 4 rows, not of head_dim = 3",
    ),
    (
        [LLAMA],
        {"num_heads": 3, "kv_heads": 1},
        ValueError,
        "'k_proj.weight' (12, 12) has 3 heads of 4 rows, not kv_heads = 1",
    ),
    ([LLAMA], {"num_heads": 0}, ValueError, "num_heads must be at least 1, got 0"),
    ([LLAMA], {"num_heads": 2.0}, TypeError, "num_heads must be an integer, got float"),
    (
        [LLAMA | {"k_proj.weight": np.zeros((6, 12), F)}],
        {"num_heads": 3},
        ValueError,
        "'k_proj.weight' (6, 12) must have whole heads of 4 rows, as 'q_proj.weight' (12, 12) has",
    ),
    (
        [LLAMA | {"k_proj.weight": np.zeros((8, 12), F)}],
        {"num_heads": 3},
        ValueError,
        "3 query heads cannot be grouped over 2 key/value heads (need num_heads % kv_heads == 0)",
    ),
    (
        [LLAMA | {"v_proj.weight": np.zeros((10, 12), F)}],
        {"num_heads": 3},
        ValueError,
        "'v_proj.weight' (10, 12) cannot be divided into 3 value heads",
    ),
    (
        [LLAMA | {"o_proj.weight": np.zeros((12, 10), F)}],
        {"num_heads": 3},
        ValueError,
        "'o_proj.weight' (12, 10) must have 12 columns for 3 heads, as 'v_proj.weight' (12, 12) "
        "has 4 rows in each",
    ),
    (
        [LLAMA | {"q_norm.weight": np.zeros(12, F)}],
        {"num_heads": 3},
        ValueError,
        "'q_norm.weight' must have shape (4,), got (12,)",
    ),
    (
        [LLAMA | {"o_proj.bias": np.zeros(13, F)}],
        {"num_heads": 3},
        ValueError,
        "'o_proj.bias' must have shape (12,), got (13,)",
    ),
    # of all three
    (
        [wqkv(35)],
        {"num_heads": 3},
        ValueError,
        "'Wqkv.weight' (35, 12) cannot be divided into three equal parts of rows",
    ),
    (
        [wqkv(36)],
        {"num_heads": 3, "kv_heads": 1},
        ValueError,
        "'Wqkv.weight' (36, 12) cannot be divided into 3 + 2 * 1 heads of rows",
    ),
    (
        [wqkv(36)],
        {"kv_heads": 1},
        ValueError,
        "kv_heads= needs num_heads= too, to divide 'Wqkv.weight' (36, 12)",
    ),
    (
        [wqkv(36) | {"Wqkv.bias": np.zeros(35, F)}],
        {"num_heads": 3},
        ValueError,
        "'Wqkv.bias' (35,) must have shape (36,)",
    ),
    (
        [wqkv(30)],
        {"num_heads": 3},
        ValueError,
        "q of 'Wqkv.weight' (10, 12) cannot be divided into 3 query heads",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case[3][:60] for case in CASES])
def test_refused(case):
    arguments, options, error, message = case
    with pytest.raises(error) as e:
        MultiHeadAttention.from_tensors(*arguments, **options)
    assert type(e.value) is error
    assert str(e.value) == f"MultiHeadAttention.from_tensors: {message}"


@pytest.mark.parametrize("family", ["bert", "deberta", "vit"])
def test_adapters_of_the_output_are_not_passed_over(family, rng):
    format, kinds, rename, inside = FAMILIES[family]
    tensors = {f"layer.{inside}{n}": a for n, a in rename(weights(rng, **kinds)).items()}
    adapter = f"layer.{inside}output.dense.lora_A.weight"
    with pytest.raises(ValueError, match=f"'{adapter}' is unknown in format '{format}'"):
        MultiHeadAttention.from_tensors(tensors | {adapter: 0}, "layer", num_heads=HEADS)


def test_many_names(monkeypatch):
    """No more than a thousand are compared with what is missing, those that begin like it."""
    compared = []

    def counted(name, names, **options):
        compared.extend(names)
        return names[:1]

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    experts = (f"layers.{n}.mlp.experts.{m}.up_proj.weight" for n in range(50) for m in range(100))
    with pytest.raises(ValueError, match=r"most like it: 'layers\.4"):
        MultiHeadAttention.from_tensors(dict.fromkeys(experts, 0), "layers.4x")
    assert len(compared) == 1000
    assert all(name.startswith("layers.4") for name in compared)
