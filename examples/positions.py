"""Pictures of the positional encodings: what each of them tells attention about two positions.

Everything drawn is computed by `pyattn.positional` and `pyattn.biases`. Where a trained model would
bring its weights, random or made-up ones stand in, and the title says so.

    pip install -e . && pip install matplotlib
    python examples/positions.py --out positions-pictures
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from pathlib import Path

import numpy as np
from style import BLUE, DIAGRAMS, GREEN, GREY, ORANGE, PURPLE, YELLOW

from pyattn import biases, positional
from pyattn.positional import RopeFrequencies

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure  # without pyplot: needs no screen
    from matplotlib.image import AxesImage
    from matplotlib.patches import Patch
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install matplotlib")

L = 64  # positions in the pictures of pairs
GRID = (8, 8)  # as many pixels


def heat_map(axes: Axes, values: np.ndarray, title: str) -> AxesImage:
    """Of numbers from -1 to 1."""
    axes.set_title(title)
    return axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")


def sinusoids() -> Figure:
    orders = {
        "interleaved": "sin, cos, sin, cos, ... (the paper)",
        "concat": "all sines, then all cosines",
        "concat_cos_first": "all cosines, then all sines",
    }
    figure = Figure((12, 4.6), layout="constrained")
    figure.suptitle("sinusoidal(64, 64): the same numbers in three orders")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (order, words) in zip(panels, orders.items(), strict=True):
        table = positional.sinusoidal(L, 64, order=order)
        image = heat_map(axes, table, f'order="{order}"\n{words}')
        axes.set_xlabel("channel")
    panels[0].set_ylabel("position")
    figure.colorbar(image, ax=panels, shrink=0.85)
    return figure


def cosines(rows: np.ndarray) -> np.ndarray:
    """Of all pairs of rows, without what all rows share, which tells no position from another."""
    rows = rows - rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def pairs_figure(title: str, maps: dict[str, np.ndarray], columns: int, label: str) -> Figure:
    """A small heat map for each encoding, with the same axes and colours."""
    rows = math.ceil(len(maps) / columns)
    figure = Figure((2.9 * columns + 1.4, 3.3 * rows + 0.7), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True)
    for axes, (name, values) in zip(panels.flat, maps.items(), strict=True):
        image = heat_map(axes, values, name)
        axes.set_xticks([0, 16, 32, 48, 63])
        axes.set_yticks([0, 16, 32, 48, 63])
    for axes in panels[-1]:
        axes.set_xlabel("position q (key)")
    for axes in panels[:, 0]:
        axes.set_ylabel("position p (query)")
    figure.colorbar(image, ax=panels, shrink=0.6, label=label)
    return figure


def added_to_the_input() -> Figure:
    rng = np.random.default_rng(0)
    learned = rng.standard_normal((16, 64))
    # A flow and a rotation that neither settle nor run away, like trained ones.
    skew = rng.standard_normal((16, 16)) / 16
    skew -= skew.T
    turn = np.linalg.solve(np.eye(16) - skew, np.eye(16) + skew)
    start = rng.standard_normal(16)
    maps = {
        "sinusoidal": positional.sinusoidal(L, 64),
        "resample_1d: 16 to 64 rows\nof a random table": positional.resample_1d(learned, L),
        "floater\nrandom network": positional.floater(
            L, start, [(np.eye(16), None), (skew, None)], step=0.5
        ),
        "rnn_positions\nrandom tanh cell": positional.rnn_positions(
            L, None, 1.05 * turn, start=start
        ),
        "sinusoidal_2d, MAE\n8 x 8 pixels": positional.sinusoidal_2d(GRID, 64, convention="mae"),
        "sinusoidal_2d, DETR\n8 x 8 pixels": positional.sinusoidal_2d(GRID, 64, convention="detr"),
    }
    return pairs_figure(
        "Added to the input: how alike are the encodings of positions p and q?",
        {name: cosines(table) for name, table in maps.items()},
        3,
        "cosine, the mean of all positions taken off",
    )


def turned_scores(
    query: RopeFrequencies, key: RopeFrequencies, positions: np.ndarray | None = None
) -> np.ndarray:
    """Scores of rows of ones with themselves, all at other positions; 1 at the same position.

    A pair of ones contributes the cosine of its angle, which is also what random vectors that are
    alike contribute on average.
    """
    ones = np.ones((L if positions is None else positions.shape[-1], 2 * len(query)))
    q, k = (positional.rope(ones, positions, f, interleaved=False) for f in (query, key))
    return q @ k.T / ones.shape[1]


def inside_attention() -> Figure:
    rng = np.random.default_rng(1)
    rope = positional.rope_frequencies(64)
    xpos = [positional.xpos_frequencies(64, keys=keys, scale_base=64.0) for keys in (False, True)]
    axial = positional.rope_axial(64, 100.0)
    buckets = rng.standard_normal((32, 1))
    fire = [(rng.standard_normal((32, 1)), None), (-np.abs(rng.standard_normal((1, 32))), None)]
    swin = rng.standard_normal((64, 2)), rng.standard_normal(64), rng.standard_normal((1, 64)) / 8
    maps = {
        "rope": turned_scores(rope, rope),
        "rope, xpos_frequencies\ncausal, scale_base=64": np.tril(turned_scores(*xpos)),
        "biases.alibi": biases.alibi([0.25], L),
        'kerple_bias, kind="log"': positional.kerple_bias([1.0], [1.0], L),
        "t5_bias\nrandom weights": positional.t5_bias(buckets, L),
        "fire_bias, threshold=16\nrandom network": positional.fire_bias(
            fire, L, c=1.0, threshold=16.0
        ),
        "rope, rope_axial\n8 x 8 pixels": turned_scores(
            axial, axial, positional.grid_positions(GRID)
        ),
        # Softmax does not see the 8 that is half of the range.
        "swin_v2_bias - 8\n8 x 8 pixels, random network": np.asarray(
            positional.swin_v2_bias(*swin, GRID)
        )
        - 8,
    }
    maps = {name: np.asarray(values).reshape(L, L) for name, values in maps.items()}
    return pairs_figure(
        "Inside attention: what the score of query p and key q gets from their positions",
        {name: values / np.abs(values).max() for name, values in maps.items()},
        4,
        "score or bias, as a part of the largest",
    )


TRAINED, LONGER, FACTOR = 4096, 32768, 8.0


def scalings() -> dict[str, RopeFrequencies]:
    """Of heads of 128 numbers; the slowest pair of each, but "default", is 8 times slower."""
    entries = {
        "default": {},
        "linear": {"factor": FACTOR},
        "dynamic": {"factor": 1.0},  # times how much longer the sequence is
        "yarn": {"factor": FACTOR},
        "llama3": {"factor": FACTOR, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "longrope": {  # made-up factors: a search found those of the models
            "factor": FACTOR,
            "long_factor": list(1 + (FACTOR - 1) * np.linspace(0, 1, 64) ** 2),
        },
    }
    return {
        kind: positional.rope_frequencies(
            128,
            scaling={"rope_type": kind, **own},
            max_position_embeddings=TRAINED,
            length=LONGER,
        )
        for kind, own in entries.items()
    }


def scores_by_distance(distances: np.ndarray, frequencies: RopeFrequencies) -> np.ndarray:
    """As `turned_scores`; the last axis of distances is averaged."""
    q, k = np.ones((distances.size, 128)), np.ones((1, 128))
    q = positional.rope(q, distances.ravel(), frequencies, interleaved=False)
    k = positional.rope(k, 0, frequencies, interleaved=False)
    return (q @ k[0]).reshape(distances.shape).mean(axis=-1) / 128


def longer_contexts() -> Figure:
    found = scalings()
    colours = dict(zip(found, ("black", BLUE, GREEN, ORANGE, PURPLE, YELLOW), strict=True))
    figure = Figure((14, 6), layout="constrained")
    figure.suptitle("RoPE trained on 4096 positions, stretched by 8 to 32768")
    left, right = figure.subfigures(1, 2, width_ratios=[0.9, 1])
    slower(left.subplots(), found, colours)

    # Around each distance the mean of many: single ones oscillate.
    edges = np.geomspace(1, LONGER, 61)
    distances = np.linspace(edges[:-1], edges[1:], 100, axis=-1)
    centres = np.sqrt(edges[:-1] * edges[1:])
    plain = scores_by_distance(distances, found["default"])
    limit = np.interp(TRAINED, centres, plain)
    panels = right.subplots(2, 3, sharex=True, sharey=True)
    for axes, (kind, frequencies) in zip(panels.flat, found.items(), strict=True):
        axes.axvspan(TRAINED, LONGER, color="#eeeeee", linewidth=0)
        axes.axhline(limit, color=GREY, linestyle=":")
        axes.plot(centres, plain, color="#bbbbbb")
        axes.plot(centres, scores_by_distance(distances, frequencies), color=colours[kind])
        axes.set_title("longrope, made-up factors" if kind == "longrope" else kind)
        axes.set_xscale("log")
    for axes in panels[-1]:
        axes.set_xlabel("distance")
    for axes in panels[:, 0]:
        axes.set_ylabel("mean score of equal vectors")
    panels[0, 0].text(1, limit + 0.01, "default at 4096", va="bottom", color="#555555")
    panels[0, 0].text(TRAINED * 0.8, 1.15, "beyond\nthe training", ha="right", color="#555555")
    return figure


def slower(axes: Axes, found: dict[str, RopeFrequencies], colours: dict[str, str]) -> None:
    plain = found["default"].inv_freq
    for kind, frequencies in found.items():
        axes.plot(frequencies.inv_freq / plain, color=colours[kind], label=kind)
    once = np.count_nonzero(plain > 2 * math.pi / TRAINED) - 0.5
    axes.axvline(once, color=GREY, linestyle=":")
    axes.text(once + 0.6, 0.93, "less than one turn\nin 4096 positions", va="top", color="#555555")
    axes.set_title("how much slower each pair turns")
    axes.set_yscale("log", base=2)
    axes.set_yticks([1, 1 / 2, 1 / 4, 1 / 8], ["1", "1/2", "1/4", "1/8"])
    axes.set_xlabel("pair, from fast to slow")
    axes.set_ylabel("inverse frequency, as a part of the default")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.06))


def exact_sine_cosine(angle: Decimal) -> tuple[float, float]:
    """By the power series, with the digits of the context."""
    two_pi = Decimal("6.2831853071795864769252867665590057683943387987502")
    angle -= (angle / two_pi).to_integral_value() * two_pi
    sums, term, n = [Decimal(0), Decimal(0)], Decimal(1), 0
    while abs(term) > Decimal("1e-30"):
        sums[n % 2] += -term if n % 4 > 1 else term
        n += 1
        term *= angle / n
    return float(sums[1]), float(sums[0])


def large_positions() -> Figure:
    pairs, theta = 32, 10000.0
    octaves = 2 ** np.arange(25)
    positions = (octaves[:, None] * [1.0, 1.23, 1.41, 1.69, 1.87]).astype(int)
    with localcontext(Context(prec=50)):
        inverse = [Decimal(theta) ** (Decimal(-i) / pairs) for i in range(pairs)]
        exact = [exact_sine_cosine(int(p) * f) for p in positions.flat for f in inverse]
    exact = np.array(exact).reshape(*positions.shape, pairs, 2)

    def error(sines_and_cosines: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The largest of all pairs in each octave."""
        return np.abs(np.stack(sines_and_cosines, -1) - exact).max(axis=(1, 2, 3))

    def angles(dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """As most models do it."""
        inv_freq = 1 / dtype(theta) ** (np.arange(0, 2 * pairs, 2).astype(dtype) / (2 * pairs))
        product = positions[..., None].astype(dtype) * inv_freq
        return np.sin(product), np.cos(product)

    def turned(dtype: type) -> tuple[np.ndarray, np.ndarray]:
        """The pair (1, 0) becomes (cosine, sine)."""
        unit = np.tile(np.array([1, 0], dtype), (positions.size, pairs))
        frequencies = positional.rope_frequencies(2 * pairs, theta)
        out = positional.rope(unit, positions.ravel(), frequencies, interleaved=True)
        out = out.reshape(*positions.shape, pairs, 2)
        return out[..., 1], out[..., 0]

    figure = Figure((9, 5.8), layout="constrained")
    axes = figure.subplots()
    figure.suptitle("RoPE at large positions: the largest error of a sine or cosine")
    lines = {
        "float32 angles": (angles(np.float32), ORANGE, "-"),
        "pyattn, float32": (turned(np.float32), BLUE, "-"),
        "float64 angles": (angles(np.float64), ORANGE, "--"),
        "pyattn, float64": (turned(np.float64), BLUE, "--"),
    }
    for label, (result, colour, style) in lines.items():
        values = error(result)
        axes.plot(octaves, values, color=colour, linestyle=style)
        axes.annotate(
            label, (octaves[-1], values[-1]), (6, 0), textcoords="offset points", va="center"
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(octaves[::4])
    axes.set_xlabel("position")
    axes.set_ylabel("error")
    axes.grid(color="#eeeeee")
    return figure


def grids() -> Figure:
    extent, pixel = 24, (9, 6)
    numbered = np.arange(extent * extent)
    by_row = positional.rope_frequencies(64, 100.0)
    axial = positional.rope_axial(64, 100.0)
    places = positional.grid_positions((extent, extent))
    relative = positional.grid_positions((extent, extent), convention="dinov3")
    maps = {
        "rope, pixels numbered row by row\nleft and right are near, up and down far": (
            by_row,
            numbered,
        ),
        'rope_axial, convention="pixel"\nnear in both directions': (axial, places),
        'rope_axial, convention="dinov3"\nfrom edge to edge, whatever the size': (axial, relative),
    }
    figure = Figure((12, 7), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.75, 1])
    above.suptitle("Positions on a grid: the score of one pixel (x) with all pixels of 24 x 24")
    panels = above.subplots(1, 3, sharey=True)
    for axes, (title, (frequencies, positions)) in zip(panels, maps.items(), strict=True):
        scores = turned_scores(frequencies, frequencies, positions)
        image = scores[pixel[0] * extent + pixel[1]].reshape(extent, extent)
        image = heat_map(axes, image, title)
        axes.plot(pixel[1], pixel[0], "x", color="white")
        axes.set_xlabel("column")
    panels[0].set_ylabel("row")
    above.colorbar(image, ax=panels, label="mean score of equal vectors")
    sections(below)
    return figure


def sections(figure: SubFigure) -> None:
    """Which axis turns which pair: M-RoPE."""
    colours = {"time": GREY, "height": BLUE, "width": ORANGE}
    plain = positional.rope_frequencies(128)
    assigned = {
        "[16, 24, 24]\nQwen2-VL": positional.rope_sections(plain, [16, 24, 24]),
        "[24, 20, 20]\ninterleaved=True\nQwen3-VL": positional.rope_sections(
            plain, [24, 20, 20], interleaved=True
        ),
    }
    axes = figure.subplots()
    axes.set_title("rope_sections: which of three positions of a token turns which pair")
    for row, frequencies in enumerate(assigned.values()):
        own = [list(colours.values())[axis] for axis in frequencies.axes]
        axes.bar(range(64), 0.8, bottom=row - 0.4, width=0.9, color=own)
    axes.set_yticks(range(len(assigned)), assigned)
    axes.invert_yaxis()
    axes.set_xlim(-1, 64)
    axes.set_xlabel("pair, from fast to slow")
    axes.legend(
        handles=[Patch(color=colour, label=name) for name, colour in colours.items()],
        loc="center left",
        bbox_to_anchor=(1, 0.5),
    )


PICTURES: dict[str, tuple[Callable[[], Figure], str]] = {
    "1-sinusoids": (
        sinusoids,
        "fast channels first; in the wrong order a table looks as good and means nothing",
    ),
    "2-added": (
        added_to_the_input,
        "near positions are alike; on grids so are pixels above each other",
    ),
    "3-inside-attention": (
        inside_attention,
        "all but FIRE depend on q - p only; on grids, on that down and across",
    ),
    "4-longer-contexts": (
        longer_contexts,
        "scalings slow the slow pairs; linear the fast ones too, which blurs what is near",
    ),
    "5-large-positions": (
        large_positions,
        "errors of float32 angles grow with the position; pyattn's do not",
    ),
    "6-grids": (
        grids,
        "numbering pixels loses the direction down; axial RoPE knows both; M-RoPE shares pairs out",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("positions-pictures"),
        metavar="FOLDER",
        help="default: %(default)s",
    )
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(DIAGRAMS):
        for name, (draw, words) in PICTURES.items():
            path = folder / f"{name}.png"
            draw().savefig(path)
            print(f"{path}: {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
