"""The windows of a Swin transformer, the whole layer and its attention alone: a part of the suite
`images`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

import pyattn
from benchmarks.contest import Result, hold, relative_error, runner
from benchmarks.measuring import Call, fma_peak
from pyattn import biases, images, masks, reference

TOLERANCE = 2e-5  # relative to the largest value of the reference
CHECKED = 48  # pixels of the first and the last image
SIDE, WINDOW, HEADS, SIZE = 56, 7, 3, 32  # Swin-T, stage 1
DIM, PIXELS = HEADS * SIZE, SIDE * SIDE


@dataclass(frozen=True)
class Case:
    batch: int
    shift: int
    layer: bool  # with projections

    @property
    def work(self) -> float:
        """FLOPs, of attention those of the pairs that are seen."""
        extents = np.bincount(window_of(self.shift))
        pairs = float(np.square(extents).sum()) ** 2
        projections = 8.0 * DIM * DIM * PIXELS if self.layer else 0.0
        return self.batch * (projections + 4.0 * DIM * pairs)

    def __str__(self) -> str:
        name = "Swin-T layer" if self.layer else "Swin-T attention"
        return f"{name} {self.batch},{SIDE}x{SIDE},{DIM} shift {self.shift}"


CASES = [Case(*options) for options in product((1, 16), (0, 3), (True, False))]
QUICK = [case for case in CASES if case.batch == 1 and case.shift == 3]


def window_of(shift: int) -> np.ndarray:
    """The window that each place of an axis is in."""
    return (np.arange(SIDE) + (WINDOW - shift) % WINDOW) // WINDOW


@dataclass(frozen=True)
class Inputs:
    x: np.ndarray  # (batch, SIDE, SIDE, DIM)
    qkv: np.ndarray  # of the attention alone, (3, batch, HEADS, PIXELS, SIZE)
    tensors: dict[str, np.ndarray]  # as checkpoints name them

    @classmethod
    def of(cls, case: Case) -> Inputs:
        rng = np.random.default_rng(0)

        def draw(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape, dtype=np.float32)

        root = np.float32(DIM**-0.5)
        tensors = {
            "attn.qkv.weight": draw(3 * DIM, DIM) * root,
            "attn.qkv.bias": draw(3 * DIM),
            "attn.proj.weight": draw(DIM, DIM) * root,
            "attn.proj.bias": draw(DIM),
            "attn.relative_position_bias_table": draw((2 * WINDOW - 1) ** 2, HEADS),
        }
        x = draw(case.batch, SIDE, SIDE, DIM)
        return cls(x, draw(3, case.batch, HEADS, PIXELS, SIZE), tensors)

    @property
    def table(self) -> np.ndarray:
        """(HEADS, 13, 13), by the distance down and across, query minus key."""
        rows = self.tensors["attn.relative_position_bias_table"]
        return rows.T.reshape(HEADS, 2 * WINDOW - 1, 2 * WINDOW - 1)


# --- The contestants


def run_pyattn(case: Case, x: Inputs, threads: int) -> list[Call]:
    if case.layer:
        layer = images.WindowAttention.from_tensors(x.tensors, shift=case.shift)
        return [lambda: layer(x.x)]
    distances = np.zeros((HEADS, 2 * SIDE - 1, 2 * SIDE - 1), np.float32)
    near = slice(SIDE - WINDOW, SIDE + WINDOW - 1)
    distances[:, near, near] = x.table
    mask = masks.grid_windows((SIDE, SIDE), WINDOW, case.shift)
    bias = biases.relative_grid(distances, (SIDE, SIDE))
    return [lambda: pyattn.attention(*x.qkv, mask=mask, bias=bias)]


def run_torch(case: Case, x: Inputs, threads: int) -> list[Call]:
    """As the authors do it: roll, cut into windows, attend under bias and mask, put together, roll
    back; by SDPA, and by products. The attention alone gets windows that are cut already."""
    import torch

    torch.set_num_threads(threads)
    per_side, pixels = SIDE // WINDOW, WINDOW * WINDOW
    count = case.batch * per_side * per_side
    place = np.arange(WINDOW)
    distance = place[:, None] - place + WINDOW - 1
    bias = x.table[:, distance[:, None, :, None], distance[None, :, None, :]]
    added = torch.from_numpy(bias.reshape(1, HEADS, pixels, pixels))
    if case.shift:
        # Pixels that the roll brought together were in these windows.
        window = np.roll(window_of(case.shift), -case.shift)
        window = torch.from_numpy(window[:, None] * SIDE + window)[None, :, :, None]
        window = cut(window)[..., 0]  # (windows, pixels)
        apart = window[:, :, None] != window[:, None, :]
        added = added + torch.zeros(apart.shape).masked_fill(apart, -torch.inf)[:, None]
        added = added.repeat(case.batch, 1, 1, 1)
    w = {name: torch.from_numpy(a) for name, a in x.tensors.items()}

    def products(q: Any, k: Any, v: Any) -> Any:
        scores = (q * SIZE**-0.5) @ k.transpose(-1, -2) + added
        return scores.softmax(dim=-1) @ v

    def sdpa(q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=added)

    def layer(attend: Callable[[Any, Any, Any], Any]) -> Call:
        image = torch.from_numpy(x.x)
        linear = torch.nn.functional.linear

        def call() -> np.ndarray:
            with torch.inference_mode():
                y = image.roll((-case.shift, -case.shift), (1, 2)) if case.shift else image
                y = linear(cut(y), w["attn.qkv.weight"], w["attn.qkv.bias"])
                q, k, v = y.view(count, pixels, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4)
                y = attend(q, k, v).transpose(1, 2).reshape(count, pixels, DIM)
                y = put_together(linear(y, w["attn.proj.weight"], w["attn.proj.bias"]))
                y = y.roll((case.shift, case.shift), (1, 2)) if case.shift else y
                return y.numpy()

        return call

    def alone(attend: Callable[[Any, Any, Any], Any]) -> Call:
        qkv = torch.from_numpy(x.qkv).view(3, case.batch, HEADS, SIDE, SIDE, SIZE)
        qkv = qkv.movedim(2, -2).flatten(-2).roll((-case.shift, -case.shift), (2, 3))
        q, k, v = (
            cut(a).view(count, pixels, HEADS, SIZE).transpose(1, 2).contiguous() for a in qkv
        )

        def call() -> Any:
            with torch.inference_mode():
                return attend(q, k, v)

        return InWindows(call, case.shift)

    return [(layer if case.layer else alone)(attend) for attend in (sdpa, products)]


@dataclass(frozen=True)
class InWindows:
    """Heads stay in windows while the call is timed; `result` is in the image's order."""

    run: Callable[[], Any]
    shift: int

    def __call__(self) -> Any:
        return self.run()

    def result(self) -> np.ndarray:
        """(batch, HEADS, PIXELS, SIZE)."""
        heads = put_together(self.run().transpose(1, 2).flatten(2))
        heads = heads.roll((self.shift, self.shift), (1, 2))
        return heads.view(-1, PIXELS, HEADS, SIZE).transpose(1, 2).numpy()


def cut(x: Any) -> Any:
    """(batch, SIDE, SIDE, c) to (windows, pixels of a window, c)."""
    n = SIDE // WINDOW
    x = x.view(-1, n, WINDOW, n, WINDOW, x.shape[-1]).transpose(2, 3)
    return x.reshape(-1, WINDOW * WINDOW, x.shape[-1])


def put_together(x: Any) -> Any:
    n = SIDE // WINDOW
    x = x.view(-1, n, n, WINDOW, WINDOW, x.shape[-1]).transpose(2, 3)
    return x.reshape(-1, SIDE, SIDE, x.shape[-1])


CONTESTANTS: dict[str, Callable[[Case, Inputs, int], list[Call]]] = {
    "pyattn": run_pyattn,
    "torch": run_torch,
}


# --- Measuring


def exact(case: Case, x: Inputs, image: int, pixels: np.ndarray) -> np.ndarray:
    """(HEADS, pixels, SIZE), or (pixels, DIM) of the layer."""
    if case.layer:
        rows = x.x[image].reshape(PIXELS, DIM)
        rows = reference.linear(rows, x.tensors["attn.qkv.weight"], x.tensors["attn.qkv.bias"])
        q, k, v = rows.reshape(PIXELS, 3, HEADS, SIZE).transpose(1, 2, 0, 3)
    else:
        q, k, v = x.qkv[:, image]
    y, x_ = np.divmod(np.arange(PIXELS), SIDE)
    window = window_of(case.shift)
    found = []
    for pixel in pixels:
        own = (window[y] == window[y[pixel]]) & (window[x_] == window[x_[pixel]])
        down, across = (a[pixel] - a[own] + WINDOW - 1 for a in (y, x_))
        bias = x.table[:, down, across][:, None]
        found.append(reference.attention(q[:, [pixel]], k[:, own], v[:, own], bias=bias))
    heads = np.concatenate(found, axis=1)
    if not case.layer:
        return heads
    rows = heads.transpose(1, 0, 2).reshape(-1, DIM)
    return reference.linear(rows, x.tensors["attn.proj.weight"], x.tensors["attn.proj.bias"])


def measure(case: Case, names: list[str], threads: int, seconds: float, rounds: int) -> Result:
    x = Inputs.of(case)
    pixels = np.unique(np.linspace(0, PIXELS - 1, CHECKED).astype(int))
    want = {image: exact(case, x, image, pixels) for image in (0, case.batch - 1)}

    def error(call: Call) -> float:
        got = call.result() if isinstance(call, InWindows) else call()
        if case.layer:
            got = got.reshape(case.batch, PIXELS, DIM)
        return max(relative_error(got[n][..., pixels, :], w) for n, w in want.items())

    return hold(
        case,
        {name: partial(CONTESTANTS[name], case, x, threads) for name in names},
        error,
        TOLERANCE,
        fma_peak,
        seconds,
        rounds,
    )


run = runner("windows (B, grid, channels)", CONTESTANTS, measure)
