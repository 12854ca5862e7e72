"""A convolution is a self-attention that is told where to look: one page of pictures.

    pip install -e . && pip install matplotlib scikit-learn pillow
    python examples/cnn_and_attention.py --out cnn_and_attention.png

Above: the edges of a photograph, by SciPy's convolution and by the self-attention of
`pyattn.images.attention_as_conv`, which agree up to rounding. In the middle: which pixels the
middle one can feel, through one to five layers of a CNN and through one layer of self-attention;
measured, by changing each pixel. Below: a head that compares colours. No kernel tells it where to
look: each pixel finds the object that it belongs to, and its second blossom at the border.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from style import BLUE, GREEN, MAPS, ORANGE

import pyattn
from pyattn import images

try:
    import matplotlib
    import PIL  # noqa: F401 (scikit-learn reads its pictures with it)
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure  # without pyplot: needs no screen
    from scipy import ndimage  # comes with scikit-learn
    from sklearn.datasets import load_sample_image
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install matplotlib scikit-learn pillow")

LUMA = np.array([0.299, 0.587, 0.114])  # how bright the three colours look, ITU-R BT.601
SOBEL = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
SIDE = 21  # pixels of the grid on which fields are measured
DEPTHS = 5
STRICTNESS = 20.0  # of the head that compares colours
PLACES = {"a petal": (170, 360), "the heart": (250, 310), "a leaf": (180, 90)}  # of flower.jpg
COLOURS = (BLUE, ORANGE, GREEN)


def photo(name: str, step: int = 1) -> np.ndarray:
    """(height, width, 3), from 0 to 1, every pixel the mean of step x step."""
    picture = load_sample_image(name) / 255
    height, width = (n // step for n in picture.shape[:2])
    picture = picture[: height * step, : width * step]
    patches = images.to_vectors(picture, step).reshape(height, width, step * step, 3)
    return patches.mean(axis=2).astype(np.float32)


# The edges of a photograph, twice.


def edge_kernel() -> np.ndarray:
    """(3, 3, 3, 2): how brightness changes across and down, from three colours."""
    both = np.stack([SOBEL, SOBEL.T], axis=-1)
    return (both[:, :, None] * LUMA[:, None]).astype(np.float32)


def by_scipy(kernel: np.ndarray, picture: np.ndarray) -> np.ndarray:
    planes = [
        sum(
            ndimage.correlate(picture[..., c].astype(float), kernel[:, :, c, o], mode="constant")
            for c in range(3)
        )
        for o in range(kernel.shape[-1])
    ]
    return np.stack(planes, axis=-1)


def edges_figure(figure: SubFigure) -> None:
    picture, kernel = photo("china.jpg"), edge_kernel()
    expected = by_scipy(kernel, picture)
    layer = images.attention_as_conv(kernel)
    layer(picture)  # the mask and the bias of its size are made once
    start = time.perf_counter()
    got = layer(picture)
    took = time.perf_counter() - start
    error = np.abs(got - expected).max()
    height, width = picture.shape[:2]
    print(
        f"{height} x {width} pixels, 3 x 3 kernel, 3 -> 2 channels: attention in {took:.2f} s, "
        f"largest difference to the convolution {error:.1e}"
    )
    figure.suptitle(
        "A convolution is a self-attention with one head for each position of the kernel"
    )
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 0.667))
    shown = {
        "a photograph": picture,
        "its edges: scipy.ndimage.correlate": np.hypot(*np.moveaxis(expected, -1, 0)),
        f"its edges: self-attention, largest difference {error:.0e}": np.hypot(
            *np.moveaxis(got, -1, 0)
        ),
    }
    for axes, (title, values) in zip(panels, shown.items(), strict=False):
        picture_in(axes, values, title, cmap="magma", vmin=0, vmax=0.25)
    heads = layer.attention_weights(np.zeros((5, 5, 3), np.float32))[:, 12].reshape(9, 5, 5)
    tiles(panels[-1], heads)


def picture_in(axes: Axes, values: np.ndarray, title: str, **options) -> None:
    axes.imshow(values, **({} if values.ndim == 3 else options))
    axes.set(title=title, xticks=[], yticks=[])


def tiles(axes: Axes, heads: np.ndarray) -> None:
    """The weights of the 9 heads, where their kernel positions are, with gaps between."""
    extent = heads.shape[-1] + 1
    page = np.full((3 * extent - 1,) * 2, np.nan)
    for n, head in enumerate(heads):
        row, column = n // 3 * extent, n % 3 * extent
        page[row : row + extent - 1, column : column + extent - 1] = head
        axes.plot(column + 2, row + 2, "x", color=COLOURS[1], markersize=5)
    axes.imshow(page, cmap="Greys", vmin=0, vmax=1.3)
    axes.set(title="where its 9 heads look from x", xticks=[], yticks=[])
    axes.set_facecolor("#dddddd")


# Which pixels can be felt.


def influence(network, channels: int) -> np.ndarray:
    """How far the middle pixel moves when another one does, for each: (SIDE, SIDE)."""
    rng = np.random.default_rng(0)
    picture = rng.standard_normal((SIDE, SIDE, channels), dtype=np.float32)
    middle = SIDE // 2
    before = network(picture)[middle, middle]
    moved = np.repeat(picture[None], SIDE * SIDE, axis=0)
    y, x = np.divmod(np.arange(SIDE * SIDE), SIDE)
    moved[np.arange(SIDE * SIDE), y, x] += rng.standard_normal(channels, dtype=np.float32)
    after = network(moved)[:, middle, middle]
    return np.linalg.norm(after - before, axis=-1).reshape(SIDE, SIDE)


def cnn(depth: int, channels: int):
    """Layers of random 3 x 3 convolutions, each run as the attention that it is, and tanh."""
    rng = np.random.default_rng(1)
    shape, scale = (3, 3, channels, channels), np.sqrt(1 / (9 * channels))
    layers = [
        images.attention_as_conv((scale * rng.standard_normal(shape)).astype(np.float32))
        for _ in range(depth)
    ]

    def network(x: np.ndarray) -> np.ndarray:
        for layer in layers:
            x = np.tanh(layer(x))
        return x

    return network


def self_attention(channels: int):
    layer = pyattn.MultiHeadAttention(channels, 2, rng=2)

    def network(x: np.ndarray) -> np.ndarray:
        return images.from_vectors(layer(images.to_vectors(x)), (SIDE, SIDE))

    return network


def fields_figure(figure: SubFigure) -> None:
    channels = 4
    figure.suptitle(
        "Which pixels the middle one can feel: a CNN has to stack layers, "
        "self-attention reaches all in one (colour: how far it moves, over three powers of ten)"
    )
    panels = figure.subplots(1, DEPTHS + 1)
    networks = {
        f"{n} layer{'s' * (n > 1)} of 3 x 3: ": cnn(n, channels) for n in range(1, DEPTHS + 1)
    }
    networks["1 layer of attention: "] = self_attention(channels)
    for axes, (title, network) in zip(panels, networks.items(), strict=True):
        found = influence(network, channels)
        felt = np.count_nonzero(found)
        print(f"{title}{felt} of {SIDE * SIDE} pixels")
        with np.errstate(divide="ignore"):
            values = np.log10(found / found.max())
        picture_in(axes, values, f"{title}{felt}", cmap="viridis", vmin=-3, vmax=0)
        axes.set_facecolor("#eeeeee")
        axes.plot(SIDE // 2, SIDE // 2, "x", color="white", markersize=4)


# A head that looks for its own colour.


def colour_head(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """How much the pixels at these places attend to all others, (places, height, width).

    The score is -STRICTNESS * |a - b|**2 of two colours. Without what all keys of a query share,
    this is the product of a linear layer of each: (2 a, -1) and (b, b . b).
    """
    vectors = images.to_vectors(picture)
    own = picture[places[:, 0], places[:, 1]]
    query = np.concatenate([2 * own, -np.ones_like(own[:, :1])], axis=1)
    key = np.concatenate([vectors, (vectors**2).sum(axis=1, keepdims=True)], axis=1)
    weights = pyattn.attention_weights(query, key, scale=STRICTNESS)
    return weights.reshape(len(places), *picture.shape[:2])


def content_figure(figure: SubFigure) -> None:
    step = 2
    picture = photo("flower.jpg", step)
    places = np.array(list(PLACES.values())) // step
    figure.suptitle(
        "A head that chooses its field by content: the attention of three pixels, "
        "by the likeness of colours"
    )
    panels = figure.subplots(1, len(PLACES) + 1)
    picture_in(panels[0], picture, "a photograph")
    for (y, x), colour in zip(places, COLOURS, strict=True):
        panels[0].plot(x, y, "o", color=colour, markeredgecolor="white", markersize=8)
    found = zip(PLACES, places, colour_head(picture, places), COLOURS, panels[1:], strict=True)
    for name, (y, x), weights, colour, axes in found:
        order = np.sort(weights.ravel())[::-1]
        half = np.searchsorted(np.cumsum(order), 0.5) / weights.size
        print(f"from {name}: half of the attention goes to {half:.1%} of the pixels")
        title = f"from {name}: half of it on {half:.0%} of the pixels"
        picture_in(axes, weights / weights.max(), title, cmap="magma", vmin=0, vmax=1)
        axes.plot(x, y, "o", color=colour, markeredgecolor="white", markersize=8)
        axes.spines[:].set(color=colour, linewidth=2.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path("cnn_and_attention.png"), help="default: %(default)s"
    )
    options = parser.parse_args()
    with matplotlib.rc_context(MAPS):
        figure = Figure((16, 10.6), layout="constrained", dpi=110)
        edges, fields, content = figure.subfigures(3, 1, height_ratios=(3.5, 3.1, 3.2), hspace=0.04)
        edges_figure(edges)
        fields_figure(fields)
        content_figure(content)
        figure.savefig(options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
